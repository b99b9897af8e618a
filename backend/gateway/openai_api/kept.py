"""Conversations that go on from a response: kept with the questions of the owner `api`, found by the ids of answers.

A chain is a path: two responses may go on from one. What goes with its session cannot be gone on from.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from backend.memory import MessageStore
from backend.schema.branches import KEPT
from backend.schema.content import ChatMessage, OpaquePart, Part
from backend.schema.errors import InvalidRequest, TektonError
from backend.schema.records import StoredMessage

PREFIX = "resp_"
BODY = "body"
"""Key of what is kept for a response that is read again: the values of its request without the input."""
LONGEST_CHAIN = 1_000


class Kept(Struct):
    """A response as it is stored: the request's values without its input, and the answer."""

    name: str
    values: dict[str, Any]
    created: float
    answer: StoredMessage


async def earlier_messages(store: MessageStore, response_id: str | None) -> list[ChatMessage]:
    """Return the conversation up to and with a response, oldest first; none for no response.

    Raises:
        TektonError: `not_found`: nothing is kept of it.
    """
    chain: list[list[ChatMessage]] = []
    following = response_id
    while following:
        # each link is a look-up of its own, and no model takes so long a conversation
        if len(chain) >= LONGEST_CHAIN:
            raise _unknown(response_id)
        found, following = await _one(store, following)
        chain.append(found)
    return [message for messages in reversed(chain) for message in messages]


async def kept_response(store: MessageStore, response_id: str) -> Kept:
    """Return a response that was answered before.

    Raises:
        TektonError: `not_found`: nothing is kept of it.
    """
    question, answer, kept = await _stored(store, response_id)
    if question is None or answer is None or kept is None or BODY not in kept:
        raise TektonError(
            f"there is no response {response_id!r:.80}: it was not stored, or is deleted",
            code="not_found",
            detail={"param": "response_id"},
        )
    return Kept(response_id.removeprefix(PREFIX), kept[BODY], question.created_at, answer)


async def forget_response(store: MessageStore, response_id: str) -> None:
    """Delete a response with its question, for good.

    Raises:
        TektonError: `not_found`: nothing is kept of it.
    """
    await store.forget((await kept_response(store, response_id)).name)


async def _stored(
    store: MessageStore, response_id: str
) -> tuple[StoredMessage | None, StoredMessage | None, dict[str, Any] | None]:
    """Return the question and the answer of a response, and what is kept with the question."""
    if not response_id.startswith(PREFIX):
        return None, None, None
    stored = await store.of_request(response_id.removeprefix(PREFIX))
    question = next((message for message in stored if message.role == "user"), None)
    answer = next((m for m in reversed(stored) if m.role == "assistant" and m.error_code is None), None)
    return question, answer, _kept(question) if question is not None else None


async def _one(store: MessageStore, response_id: str) -> tuple[list[ChatMessage], str | None]:
    """Return the messages a response added, and the id of the one before it."""
    question, answer, kept = await _stored(store, response_id)
    if question is not None and kept is not None and answer is None:
        raise _unknown(response_id, "it is still being answered, or had no answer: wait for it, or")
    if question is None or answer is None or kept is None:
        raise _unknown(response_id)
    parts: list[Part] = [part for part in question.parts if not isinstance(part, OpaquePart)]
    asked = ChatMessage("user", question.content, parts)
    messages = msgspec.convert(kept.get("messages", []), list[ChatMessage])
    return [*messages, asked, ChatMessage("assistant", answer.content, answer.parts)], kept.get("previous")


def _kept(question: StoredMessage) -> dict[str, Any] | None:
    found = (part for part in question.parts if isinstance(part, OpaquePart) and part.origin == KEPT)
    return next((part.value for part in found), None)


def _unknown(response_id: str | None, why: str = "") -> TektonError:
    return InvalidRequest(
        f"previous_response_id: nothing is kept of {response_id!r:.80}: {f'{why} ' if why else ''}send all messages",
        detail={"param": "previous_response_id", "error_code": "previous_response_not_found"},
    )
