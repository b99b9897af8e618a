"""What a transcript is given: one message as the stores know it; knows nothing of drawing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["user", "answer", "error", "note"]

SPEAKER_COLOURS = ("you", "specialist", "tone-1", "tone-2", "tone-3", "tone-4", "error", "note")
"""Names a speaker's bar may have; the theme gives them their colour."""


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
        footer: Short facts under the message ("148 tok · 48 tok/s"), empty for none.
        reasoning: The model's reasoning, shown folded, empty for none.
        code: Error code of a failed message, empty for none; the text before it stays.
        error: What the failure said.
        message_id: Number in memory, 0 while only the stream has told of it.
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
    message_id: int = field(default=0, kw_only=True)
    pinned: bool = field(default=False, kw_only=True)
