"""What of a conversation fits a model: pinned messages, a summary of what was pruned, the newest turns; and how many
tokens a text takes, estimated.

Pure. Knows no store, no provider, no tokenizer; models by name only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate

import msgspec
from msgspec import Struct

from backend.memory.records import Conversation
from backend.memory.summary import summarise_pruned
from backend.schema.content import (
    ChatMessage,
    FilePart,
    ImagePart,
    Part,
    TextPart,
    ToolCall,
    ToolResult,
    joined,
    shortened,
    texts_of,
)
from backend.schema.records import StoredMessage

Count = Callable[[str], int]

SUMMARY_SHARE = 0.12
"""Part of the room for history that a summary of pruned messages may take."""
PINNED_SHARE = 0.35
"""Part of the room for history that pinned messages may take; what is beyond is left out, and noted."""
LEAST_SUMMARY_TOKENS = 24
LEAST_FILL = 0.6
"""The cut may leave so much of what would fit unused, in exchange for staying where it is for many turns."""
ASCII_CHARS_PER_TOKEN = 4.0
OTHER_TOKENS_PER_CHAR = 0.7
ATTACHMENT_TOKENS = 1_500
"""What an image or a file is taken to cost: vendors count them by their size on a canvas we do not know."""
MESSAGE_TOKENS = 5
"""What a chat template adds to each message."""
SAFETY = 1.08
"""Windows are chosen with estimates this much too high: a prompt that is cut too early still works."""
OLD_RESULT_BYTES = 4_096
"""Of a tool's result that is sent again with a later question; the turn it came in had all of it."""
LEAST_FACTOR, MOST_FACTOR = 0.4, 4.0
LEARNING_RATE = 0.2
LEAST_LEARNED_TOKENS = 40
"""A shorter prompt is mostly template: nothing is learned from it."""
_HASH_FACTOR = 0x9E3779B97F4A7C15
_HASH_BITS = 64


class Window(Struct):
    """What is sent of a conversation, oldest first. `summary` is of what is not sent; `notes` are for the operator.

    `pinned` and `newest` are what the messages were made of.
    """

    messages: list[ChatMessage]
    summary: str
    notes: list[str]
    pinned: list[StoredMessage] = []
    newest: list[StoredMessage] = []


def choose_window(conversation: Conversation, *, room: int, count: Count) -> Window:
    """Return what fits into `room` tokens of history.

    The newest messages come whole and without gaps, beginning with a question. Pinned ones come before them, however
    old. Messages that failed without any text are left out. When something is pruned, a summary of it takes a small
    share of the room. The cut stays at one message for many turns, so that caches of the prompt hold.
    """
    said = [
        message for message in conversation.messages if message.content.strip() or _lasting(message.parts)
    ]
    if conversation.earlier == 0 and _cost(said, count) + _cost(conversation.pinned, count) <= room:
        return Window(_as_chat([*conversation.pinned, *said]), "", [], conversation.pinned, said)
    notes: list[str] = []
    wanted = [*conversation.pinned, *(message for message in said if message.pinned)]
    reserved = min(_cost(wanted, count), int(room * PINNED_SHARE))
    summary_room = max(LEAST_SUMMARY_TOKENS, int((room - reserved) * SUMMARY_SHARE))
    start = _cut(said, room - reserved - summary_room, count)
    pruned, newest = said[:start], said[start:]
    candidates = [*conversation.pinned, *(message for message in pruned if message.pinned)]
    pinned = _fitting(candidates, int(room * PINNED_SHARE), count)
    if len(pinned) < len(candidates):
        notes.append(f"{len(candidates) - len(pinned)} pinned messages did not fit the model's context")
    kept = {message.id for message in pinned}
    gone = [message for message in pruned if message.id not in kept]
    if number := len(gone) + conversation.earlier:
        notes.append(f"{number} earlier messages were pruned to fit the model's context")
    summary = summarise_pruned(gone, summary_room, count)
    return Window(_as_chat([*pinned, *newest]), summary, notes, pinned, newest)


def _cut(messages: Sequence[StoredMessage], room: int, count: Count) -> int:
    """Return the index of the first message that is sent, `len(messages)` when none fits.

    Of the questions at which the tail fits and is not much shorter than it could be, the one whose id has the highest
    rank is taken. Rank depends on the id alone, so the choice outlives new messages and small changes of the room.
    """
    tails = [*accumulate(_tokens(message, count) for message in reversed(messages))][::-1]
    first = next((index for index, tail in enumerate(tails) if tail <= room), len(messages))
    if first == len(messages):
        return first
    least = tails[first] * LEAST_FILL
    starts = [
        index
        for index in range(first, len(messages))
        if messages[index].role == "user" and (tails[index] >= least or index == first)
    ]
    if not starts:
        # an answer without its question misleads
        return next((i for i in range(first, len(messages)) if messages[i].role == "user"), len(messages))
    return max(starts, key=lambda index: _rank(messages[index].id))


def _rank(message_id: int) -> int:
    return (message_id * _HASH_FACTOR) % (1 << _HASH_BITS)


def _fitting(messages: Sequence[StoredMessage], room: int, count: Count) -> list[StoredMessage]:
    """Return the newest messages that fit, each weighed by itself, oldest first."""
    kept: list[StoredMessage] = []
    for message in reversed(messages):
        cost = _tokens(message, count)
        if cost <= room:
            room -= cost
            kept.append(message)
    return kept[::-1]


def _cost(messages: Sequence[StoredMessage], count: Count) -> int:
    return sum(_tokens(message, count) for message in messages)


def _tokens(message: StoredMessage, count: Count) -> int:
    attached = sum(isinstance(part, ImagePart | FilePart) for part in message.parts)
    texts = texts_of(message.content, message.parts)
    return sum(map(count, texts)) + attached * ATTACHMENT_TOKENS


def _as_chat(messages: Sequence[StoredMessage]) -> list[ChatMessage]:
    """Return messages as a provider takes them: roles in turn, neighbours of one role joined."""
    chat: list[ChatMessage] = []
    for message in messages:
        role = "assistant" if message.role == "assistant" else "user"
        for said in _rounds(message) or [ChatMessage(role, message.content, _lasting(message.parts))]:
            if chat and chat[-1].role == said.role:
                chat[-1] = joined(chat[-1], said)
            else:
                chat.append(said)
    # Some providers refuse a conversation that an answer begins.
    if chat and chat[0].role == "assistant":
        chat.insert(0, ChatMessage("user", "(earlier messages are not shown)"))
    return chat


def _lasting(parts: Sequence[Part]) -> list[Part]:
    """Return the parts of an old message that are more than its text."""
    return [*parts] if any(part.__struct_config__.tag != "text" for part in parts) else []


def with_tools(message: StoredMessage, *, taken: bool) -> StoredMessage:
    """Return a message of a conversation as it is sent again: with the tool calls whose results are known.

    Old results are cut. Where tools are not `taken`, no call and no result is left: a model without them would refuse both.
    """
    parts = message.parts
    if not any(isinstance(part, ToolCall | ToolResult) for part in parts):
        return message
    called = {part.id for part in parts if isinstance(part, ToolCall)}
    answered = {part.call_id for part in parts if isinstance(part, ToolResult)}
    known = called & answered if taken and message.role == "assistant" else set[str]()
    kept: list[Part] = []
    for part in parts:
        if isinstance(part, ToolResult) and part.call_id in known:
            text = shortened(part.content, OLD_RESULT_BYTES)
            kept.append(ToolResult(part.call_id, text, part.name, part.is_error))
        elif not isinstance(part, ToolCall | ToolResult) or (isinstance(part, ToolCall) and part.id in known):
            kept.append(part)
    if all(isinstance(part, TextPart) for part in kept):
        kept = []
    return msgspec.structs.replace(message, parts=kept)


def _rounds(message: StoredMessage) -> list[ChatMessage]:
    """Return an answer with tool calls as it was said: each call before its result, which a user's message holds."""
    if not any(isinstance(part, ToolResult) for part in message.parts):
        return []
    rounds: list[ChatMessage] = []
    for part in message.parts:
        role = "user" if isinstance(part, ToolResult) else "assistant"
        if not rounds or rounds[-1].role != role:
            rounds.append(ChatMessage(role, "", []))
        rounds[-1].parts.append(part)
        if isinstance(part, TextPart):
            rounds[-1].content += part.text
    return rounds


def raw_tokens(text: str) -> float:
    """Return the uncalibrated estimate: four ASCII characters a token, other scripts nearer one a character."""
    length = len(text)
    if text.isascii():
        return length / ASCII_CHARS_PER_TOKEN
    # Encoding counts them in one call; a loop over a long text would take longer than the rest of windowing.
    ascii_length = len(text.encode("ascii", "ignore"))
    return ascii_length / ASCII_CHARS_PER_TOKEN + (length - ascii_length) * OTHER_TOKENS_PER_CHAR


class TokenEstimator:
    """Estimate tokens per model. `factors` maps a model to counted tokens per estimated token and may be stored."""

    def __init__(self, factors: Mapping[str, float] | None = None) -> None:
        self.factors = {
            model: min(max(factor, LEAST_FACTOR), MOST_FACTOR) for model, factor in (factors or {}).items()
        }

    def learn(self, model: str, texts: list[str], tokens: int) -> None:
        """Correct the model's factor: its provider counted `tokens` for a prompt made of these texts, persona included."""
        guessed = sum(map(raw_tokens, texts))
        counted = tokens - MESSAGE_TOKENS * len(texts)
        if guessed < LEAST_LEARNED_TOKENS or counted <= 0:
            return
        seen = min(max(counted / guessed, LEAST_FACTOR), MOST_FACTOR)
        known = self.factors.get(model)
        self.factors[model] = seen if known is None else known + LEARNING_RATE * (seen - known)

    def count(self, text: str, model: str = "") -> int:
        """Return the estimated tokens of a text as one message, rather too many than too few."""
        return MESSAGE_TOKENS + int(raw_tokens(text) * self.factors.get(model, 1.0) * SAFETY + 0.999)

    def counter(self, model: str) -> Callable[[str], int]:
        """Return `count` for one model."""
        return lambda text: self.count(text, model)
