"""What of a conversation fits a model: the pinned, a summary of what was pruned, the newest turns.

Pure. Counts with the function it is given; knows no store and no provider.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

from msgspec import Struct

from backend.memory.store import Conversation
from backend.memory.summary import summarise_pruned
from backend.schema.frames import ChatMessage
from backend.schema.records import StoredMessage

Count = Callable[[str], int]

SUMMARY_SHARE = 0.12
"""Part of the room for history that a summary of pruned messages may take."""
PINNED_SHARE = 0.35
"""Part of the room for history that pinned messages may take; what is beyond is left out, and noted."""
LEAST_SUMMARY_TOKENS = 24
LEAST_FILL = 0.6
"""The cut may leave so much of what would fit unused, in exchange for staying where it is for many turns."""
_HASH_FACTOR = 0x9E3779B97F4A7C15
_HASH_BITS = 64


class Window(Struct):
    """What is sent of a conversation, oldest first. `summary` tells of what is not; `notes` are for the operator."""

    messages: list[ChatMessage]
    summary: str
    notes: list[str]


def choose(conversation: Conversation, *, room: int, count: Count) -> Window:
    """Return what fits into `room` tokens of history.

    The newest messages come whole and without gaps, beginning with a question. Pinned ones come before them, however
    old. Messages that failed without any text are left out. When something is pruned, a summary of it takes a small
    share of the room. The cut stays at one message for many turns, so that caches of the prompt hold.
    """
    told = [message for message in conversation.messages if message.content.strip()]
    if conversation.earlier == 0 and _cost(told, count) + _cost(conversation.pinned, count) <= room:
        return Window(_as_chat([*conversation.pinned, *told]), "", [])
    notes: list[str] = []
    wanted = [*conversation.pinned, *(message for message in told if message.pinned)]
    reserved = min(_cost(wanted, count), int(room * PINNED_SHARE))
    summary_room = max(LEAST_SUMMARY_TOKENS, int((room - reserved) * SUMMARY_SHARE))
    start = _cut(told, room - reserved - summary_room, count)
    pruned, newest = told[:start], told[start:]
    candidates = [*conversation.pinned, *(message for message in pruned if message.pinned)]
    pinned = _fitting(candidates, int(room * PINNED_SHARE), count)
    if len(pinned) < len(candidates):
        notes.append(f"{len(candidates) - len(pinned)} pinned messages did not fit the model's context")
    kept = {message.id for message in pinned}
    gone = [message for message in pruned if message.id not in kept]
    if number := len(gone) + conversation.earlier:
        notes.append(f"{number} earlier messages were pruned to fit the model's context")
    return Window(_as_chat([*pinned, *newest]), summarise_pruned(gone, summary_room, count), notes)


def _cut(messages: Sequence[StoredMessage], room: int, count: Count) -> int:
    """Return the index of the first message that is sent, `len(messages)` when none fits.

    Of the questions at which the tail fits and is not much shorter than it could be, the one whose id has the highest
    rank is taken. Rank depends on the id alone, so the choice outlives new messages and small changes of the room.
    """
    tails = [*accumulate(count(message.content) for message in reversed(messages))][::-1]
    first = next((index for index, tail in enumerate(tails) if tail <= room), len(messages))
    if first == len(messages):
        return first
    least = tails[first] * LEAST_FILL
    starts = [
        index
        for index in range(first, len(messages))
        if messages[index].role == "user" and (tails[index] >= least or index == first)
    ]
    if not starts:  # an answer without its question misleads
        return next((i for i in range(first, len(messages)) if messages[i].role == "user"), len(messages))
    return max(starts, key=lambda index: _rank(messages[index].id))


def _rank(message_id: int) -> int:
    return (message_id * _HASH_FACTOR) % (1 << _HASH_BITS)


def _fitting(messages: Sequence[StoredMessage], room: int, count: Count) -> list[StoredMessage]:
    """Return the newest messages that fit, each weighed by itself, oldest first."""
    kept: list[StoredMessage] = []
    for message in reversed(messages):
        cost = count(message.content)
        if cost <= room:
            room -= cost
            kept.append(message)
    return kept[::-1]


def _cost(messages: Sequence[StoredMessage], count: Count) -> int:
    return sum(count(message.content) for message in messages)


def _as_chat(messages: Sequence[StoredMessage]) -> list[ChatMessage]:
    """Return messages as a provider takes them: roles in turn, neighbours of one role joined."""
    chat: list[ChatMessage] = []
    for message in messages:
        role = "assistant" if message.role == "assistant" else "user"
        if chat and chat[-1].role == role:
            chat[-1] = ChatMessage(role, f"{chat[-1].content}\n\n{message.content}")
        else:
            chat.append(ChatMessage(role, message.content))
    if chat and chat[0].role == "assistant":
        chat.insert(0, ChatMessage("user", "(earlier messages are not shown)"))
    return chat
