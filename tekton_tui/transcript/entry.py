"""What a transcript is given: one message as the stores know it; knows nothing of drawing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

Kind = Literal["user", "answer", "error", "note"]

SPEAKER_COLOURS = ("you", "specialist", "stalled", "failed", "note")
"""Names a speaker's bar may have; the theme gives them their colour."""


ToolState = Literal["calling", "asking", "running", "done", "failed", "denied", "passed", "ended"]


class AskCard(NamedTuple):
    """A tool call that waits for a person, as its card shows it; foreign text is not neutralised yet.

    Attributes:
        title: Who asks to call what.
        arguments: Names and values, as they would run.
        diff: What it would change, as a unified diff.
        notes: What else is to be known, each behind a word: what waits behind it, what "always" would mean.
        answers: Answers of the asker's own, each behind its key.
        keys: Keys that answer, each with its word.
        until: Unix seconds at which nobody is waited for any longer.
        answering: Whether the keys are the card's now.
    """

    title: str
    arguments: tuple[tuple[str, str], ...]
    diff: str
    notes: tuple[tuple[str, str], ...]
    answers: tuple[tuple[str, str], ...]
    keys: tuple[tuple[str, str], ...]
    until: float
    answering: bool = False


class ToolRow(NamedTuple):
    """A tool call as its row shows it.

    Attributes:
        number: Which of the message's calls.
        at: How many characters of the message's text stand before it.
        name: `SERVER:TOOL`, or as the caller's program calls it.
        arguments: JSON as the model wrote it, so far.
        state: `calling` until it is allowed, `asking` while a person has to say so, `passed` when it was left to the
            caller's program, `ended` when its turn ended before it gave anything.
        since: Unix seconds at which the state began.
        detail: What it says of itself while it is open.
        result: What it gave, or why it failed or was denied.
        size: Bytes of the whole result, 0 when unknown.
        took_s: How long it ran, in seconds, 0 when unknown.
        card: What a person has to know to answer, while it waits for one.
    """

    number: int
    at: int
    name: str
    arguments: str
    state: ToolState
    since: float = 0.0
    detail: str = ""
    result: str = ""
    size: int = 0
    took_s: float = 0.0
    card: AskCard | None = None

    @property
    def counts(self) -> bool:
        """Whether its row counts seconds."""
        return self.state in ("calling", "asking", "running")


class Ending(NamedTuple):
    """How a message that streamed ended; the attributes are those of `Entry`."""

    footer: str = ""
    code: str = ""
    error: str = ""
    facts: tuple[str, ...] = ()
    cause: str = ""
    remedy: tuple[tuple[str, str], ...] = ()


WHOLE_ANSWER: Final = Ending()


@dataclass(slots=True)
class Entry:
    """One message of a conversation.

    Attributes:
        key: Unique in its transcript: a message id or a request id.
        speaker: Name shown above the message.
        kind: `user` is shown as typed, `answer` as Markdown, `error` and `note` as plain text.
        text: Source text, not neutralised: the transcript does that.
        timestamp: Unix seconds, 0 when unknown.
        colour: One of `SPEAKER_COLOURS`.
        role: What the speaker does, beside the name; empty for nothing.
        facts: Short facts at the right end of the title row, behind the time; the last are left out where it is narrow.
        footer: A line under the message ("stopped by you · 33 tok · 4.1 s"), empty for none.
        reasoning: The model's reasoning, shown folded, empty for none.
        code: Error code of a failed message, empty for none; the text before it stays.
        error: What the failure said.
        cause: The failure in a few plain words.
        remedy: Keys that help, with what each does.
        thought_since: When the model began to think, in unix seconds, 0 when unknown.
        thought_s: How long it thought before it answered, in seconds, 0 when unknown.
        message_id: Number in memory, 0 while only the stream has told of it.
        branch: Which of several ways the conversation goes here, in words; empty where there is one.
        files: What went along with it, a few words each ("plan.png 12K").
        tools: The tool calls in it, in order.
        pinned: Whether it stays in the context when the history is pruned.
    """

    key: str
    speaker: str
    kind: Kind
    text: str
    timestamp: float = 0.0
    colour: str = "specialist"
    footer: str = ""
    reasoning: str = ""
    code: str = ""
    error: str = field(default="", kw_only=True)
    role: str = field(default="", kw_only=True)
    facts: tuple[str, ...] = field(default=(), kw_only=True)
    cause: str = field(default="", kw_only=True)
    remedy: tuple[tuple[str, str], ...] = field(default=(), kw_only=True)
    thought_since: float = field(default=0.0, kw_only=True)
    thought_s: float = field(default=0.0, kw_only=True)

    def end(self, ending: Ending) -> None:
        """Take over how it ended; the bar of what failed is red."""
        self.footer, self.code, self.error, self.facts, self.cause, self.remedy = ending
        if self.failed:
            self.colour = "failed"
        elif self.colour == "stalled":
            self.colour = "specialist"

    @property
    def failed(self) -> bool:
        """Whether it ended as a failure."""
        return bool(self.code or self.error) and not self.stopped

    @property
    def stopped(self) -> bool:
        """Whether somebody stopped it: that is no failure."""
        return self.code == "cancelled"

    branch: str = field(default="", kw_only=True)
    files: tuple[str, ...] = field(default=(), kw_only=True)
    tools: list[ToolRow] = field(default_factory=list[ToolRow], kw_only=True)
    message_id: int = field(default=0, kw_only=True)
    pinned: bool = field(default=False, kw_only=True)
