"""Makes transcript entries from stored messages and from live turns."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence

from backend.schema.content import Attachment, ToolResult, attachments_of
from backend.schema.records import StoredMessage
from tekton_tui.formatting import ENDING_WORDS, number, size, span, stopped_words, token_words, turn_facts
from tekton_tui.stores import LiveTurn
from tekton_tui.stores.live_turn import speed_of
from tekton_tui.stores.tool_calls import LiveCall, calls_of
from tekton_tui.transcript import Ending, Entry, ToolRow, Transcript
from tekton_tui.widgets.chat.failures import failure_words


def paired(messages: Iterable[StoredMessage]) -> list[StoredMessage]:
    """Return messages with each answer right behind its question, whatever order they were stored in."""
    kept = list(messages)
    asked = {message.request_id for message in kept if message.role == "user" and message.request_id}
    answers: dict[str, list[StoredMessage]] = {}
    for message in kept:
        if message.role != "user" and message.request_id in asked:
            answers.setdefault(message.request_id, []).append(message)
    ordered: list[StoredMessage] = []
    for message in kept:
        if message.role == "user":
            ordered += [message, *answers.pop(message.request_id, [])]
        elif message.request_id not in asked:
            ordered.append(message)
    return ordered


def without_running(messages: Iterable[StoredMessage], running: Container[str]) -> list[StoredMessage]:
    """Return messages without answers of these requests: one that was stored between a request and its reply would stand
    twice, for its turn is still shown as live."""
    return [m for m in messages if m.role != "assistant" or m.request_id not in running]


def questions(messages: Iterable[StoredMessage], turns: Iterable[LiveTurn]) -> list[str]:
    """Return what was asked, the oldest first: as stored, then by turns whose questions are not among these."""
    stored = list(messages)
    asked = {message.request_id for message in stored}
    return [
        *(message.content for message in stored if message.author == "you"),
        *(turn.prompt for turn in turns if turn.prompt and turn.request_id not in asked),
    ]


def tool_row(call: LiveCall) -> ToolRow:
    """Return a tool call as the transcript takes it."""
    return ToolRow(
        call.index, call.at, call.name, call.arguments, call.state, call.since, call.detail, call.result,
        call.size, call.took_s,
    )  # fmt: skip


def file_words(files: Iterable[Attachment]) -> tuple[str, ...]:
    """Return files as a question's chips name them."""
    return tuple(f"{file.name} {size(file.size)}" for file in files)


def _stored_tools(message: StoredMessage) -> list[ToolRow]:
    return [tool_row(call) for call in calls_of(message.parts, message.finish_reason or "")]


def stored_entry(message: StoredMessage, role: str = "") -> Entry:
    """Return a stored message as the transcript takes it; `role` is what its author does."""
    if message.role == "user":
        return Entry(
            f"ask:{message.request_id or message.id}",
            "you",
            "user",
            message.content,
            message.created_at,
            "you",
            message_id=message.id,
            pinned=message.pinned,
            tools=_stored_tools(message),
            files=file_words(attachments_of(message.parts)),
        )
    entry = Entry(
        message.request_id or f"m{message.id}",
        message.author.removesuffix("-ai"),
        "answer",
        message.content,
        message.created_at,
        reasoning=message.reasoning,
        message_id=message.id,
        pinned=message.pinned,
        role=role,
        tools=_stored_tools(message),
    )
    tokens = message.usage.output_tokens if message.usage is not None else 0
    notes = [ENDING_WORDS[message.finish_reason]] if message.finish_reason in ENDING_WORDS else []
    total, first = message.total_time or 0.0, message.first_token_ms
    speed = None if first is None else speed_of(tokens, total - first / 1000)
    estimated = message.usage is not None and message.usage.estimated
    code = message.error_code or ("cancelled" if message.finish_reason == "cancelled" else "")
    entry.end(
        _ending(
            message.request_id,
            code,
            message.error,
            token_words(tokens, estimated=estimated),
            total,
            turn_facts(tokens, speed, first),
            notes,
        )
    )
    return entry


def live_entry(turn: LiveTurn, *, of_user: bool = False, role: str = "") -> Entry:
    """Return the entry of a turn's prompt, or of its answer, still empty."""
    if of_user:
        files = file_words(turn.attached)
        return Entry(
            f"ask:{turn.request_id}", "you", "user", turn.prompt, turn.started_at, "you", files=files
        )
    return Entry(
        turn.request_id,
        turn.ai_id.removesuffix("-ai"),
        "answer",
        "",
        turn.started_at,
        role=role,
        thought_since=turn.reasoned_at,
    )


def with_ended(
    entries: Sequence[Entry],
    turns: Iterable[LiveTurn],
    messages: Iterable[StoredMessage],
    role_of: Callable[[str], str],
) -> list[Entry]:
    """Return a conversation with the turns that `messages`, of which it was made, were read too early to hold.

    An answer goes behind its question, where that was stored already; what is left out of `entries` stays so.
    """
    stored = {(message.request_id, message.role) for message in messages}
    whole = list(entries)
    for turn in turns:
        if (turn.request_id, "assistant") in stored or withdrawn(turn):
            continue
        answer = live_entry(turn, role=role_of(turn.ai_id))
        answer.text, answer.reasoning = turn.content, "".join(turn.reasoning)
        answer.tools = [tool_row(call) for call in turn.calls.values()]
        answer.end(live_ending(turn))
        if (turn.request_id, "user") not in stored:
            whole += [live_entry(turn, of_user=True), answer] if turn.prompt else [answer]
            continue
        keys = [entry.key for entry in whole]
        if (asked := f"ask:{turn.request_id}") in keys:
            whole.insert(keys.index(asked) + 1, answer)
    return whole


def context_after(messages: Sequence[StoredMessage], ended: Sequence[LiveTurn]) -> int:
    """Return the tokens of context that the last answer took, of those stored and those that ended since; 0 if unknown."""
    # the usage of a turn with tools is the sum of its calls: it says nothing of what the context holds now
    counted = [
        message.usage.total
        for message in messages
        if message.usage is not None and not any(isinstance(part, ToolResult) for part in message.parts)
    ]
    counted += [turn.context for turn in ended if turn.context]
    return counted[-1] if counted else 0


def withdrawn(turn: LiveTurn) -> bool:
    """Return whether a turn was taken back before it began: memory never holds it."""
    return turn.code == "cancelled" and turn.phase == "queued" and not turn.pieces


def show_answer(
    transcript: Transcript, turn: LiveTurn, row_of: Callable[[LiveCall], ToolRow] = tool_row
) -> None:
    """Put what an answer has so far, text and calls in order, into the message that was begun for it."""
    text, shown = turn.content, 0
    if turn.left_out:
        transcript.append_text(
            turn.request_id, f"*{number(turn.left_out)} characters before this are on their way*\n\n"
        )
    for call in turn.calls.values():
        if text[shown : call.at]:
            transcript.append_text(turn.request_id, text[shown : call.at])
        shown = max(shown, call.at)
        transcript.set_tool(turn.request_id, row_of(call))
    if text[shown:]:
        transcript.append_text(turn.request_id, text[shown:])


def live_ending(turn: LiveTurn) -> Ending:
    """Return how a turn ended, in the words in which memory's copy of it will be shown."""
    notes = [ENDING_WORDS["length"]] if turn.finish_reason == "length" else []
    facts = turn_facts(turn.tokens, turn.rate(), turn.first_token_ms)
    tokens = token_words(turn.tokens or turn.pieces, estimated=bool(turn.tokens) and turn.estimated)
    notes += turn.notes  # every other ending has one
    return _ending(turn.request_id, turn.code, turn.error, tokens, turn.total_time, facts, notes)


def _ending(
    request_id: str,
    code: str,
    error: str,
    tokens: str,
    seconds: float,
    facts: tuple[str, ...],
    notes: list[str],
) -> Ending:
    if code == "cancelled":
        return Ending(" · ".join([stopped_words(request_id, tokens, seconds), *notes]), code)
    if code or error:
        words = failure_words(code)
        figures = " · ".join(filter(None, (tokens, span(seconds) if seconds else "")))
        return Ending(figures, code, error, (), words.cause, words.remedy)
    return Ending(" · ".join(notes), facts=facts)
