"""What of a conversation fits a model: the pinned, a summary of what was pruned, the newest turns.

Pure. Counts with the function it is given; knows no store and no provider.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from msgspec import Struct

from backend.memory.store import Conversation
from backend.schema.frames import ChatMessage
from backend.schema.records import StoredMessage

Count = Callable[[str], int]

SUMMARY_SHARE = 0.12
"""Part of the room for history that a summary of pruned messages may take."""
PINNED_SHARE = 0.35
"""Part of the room for history that pinned messages may take; what is beyond is left out, and noted."""
LEAST_SUMMARY_TOKENS = 24
LINE_CHARS = 160
_SENTENCE_END = re.compile(r"(?<=[.!?])\s")


class Window(Struct):
    """What is sent of a conversation, oldest first. `summary` tells of what is not; `notes` are for the operator."""

    messages: list[ChatMessage]
    summary: str
    notes: list[str]


def choose(conversation: Conversation, *, room: int, count: Count) -> Window:
    """Return what fits into `room` tokens of history.

    The newest messages come whole and without gaps; a message that does not fit ends the run. Messages that failed
    without any text are left out. When something is pruned, a summary of it takes a small share of the room.
    """
    told = [message for message in conversation.messages if message.content.strip()]
    if conversation.earlier == 0 and _cost(told, count) + _cost(conversation.pinned, count) <= room:
        return Window(_as_chat([*conversation.pinned, *told]), "", [])
    notes: list[str] = []
    pinned = _fitting(conversation.pinned, int(room * PINNED_SHARE), count)
    if len(pinned) < len(conversation.pinned):
        notes.append(
            f"{len(conversation.pinned) - len(pinned)} pinned messages did not fit the model's context"
        )
    left = room - _cost(pinned, count)
    summary_room = max(LEAST_SUMMARY_TOKENS, int(left * SUMMARY_SHARE))
    newest = _newest(told, left - summary_room, count)
    pruned = told[: len(told) - len(newest)]
    number = len(pruned) + conversation.earlier
    if number:
        notes.append(f"{number} earlier messages were pruned to fit the model's context")
    summary = summarise(pruned, summary_room, count)
    return Window(_as_chat([*pinned, *newest]), summary, notes)


def summarise(pruned: Sequence[StoredMessage], room: int, count: Count) -> str:
    """Return a line for each pruned exchange, newest kept first when not all fit; empty when none does.

    Made by code from the messages' own first sentences, so it is the same as long as the messages are.
    """
    kept: list[str] = []
    left = room
    for message in reversed(pruned):
        who = "you" if message.role == "user" else message.author.removesuffix("-ai")
        line = f"- {who}: {_gist(message.content)}"
        left -= count(line)
        if left < 0:
            break
        kept.append(line)
    if not kept:
        return ""
    return "\n".join(["Earlier in this conversation:", *reversed(kept)])


def _gist(text: str) -> str:
    """Return the first sentence of a text, on one line, cut at a word."""
    flat = " ".join(text.split())
    sentence = _SENTENCE_END.split(flat, maxsplit=1)[0]
    if len(sentence) <= LINE_CHARS:
        return sentence
    return sentence[:LINE_CHARS].rsplit(" ", 1)[0] + " …"


def _newest(messages: Sequence[StoredMessage], room: int, count: Count) -> list[StoredMessage]:
    left = room
    start = len(messages)
    while start and (cost := count(messages[start - 1].content)) <= left:
        left -= cost
        start -= 1
    if start and start < len(messages) and messages[start].role == "assistant":
        start += 1  # an answer without its question misleads
    return list(messages[start:])


def _fitting(messages: Sequence[StoredMessage], room: int, count: Count) -> list[StoredMessage]:
    kept: list[StoredMessage] = []
    for message in messages:
        room -= count(message.content)
        if room < 0:
            break
        kept.append(message)
    return kept


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
