"""Branches of a conversation: which questions go on from which, and what of it is on one way through. Pure.

A question goes on from the one before it, unless it says behind which it stands: one that was written anew, or asked
again, stands behind the same question as the one it takes the place of. The way to the newest question is the
conversation; what lies beside it stays readable, and is sent to no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from backend.schema.content import OpaquePart
from backend.schema.records import StoredMessage

START: Final = "start"
"""Behind which a question stands that begins the conversation anew."""
KEPT: Final = "kept"
"""Origin of the part of a question that holds what is kept with it."""


def after_of(question: StoredMessage) -> str:
    """Return behind which question one says it stands, by request id; `START`, or empty for the one before it."""
    for part in question.parts:
        if isinstance(part, OpaquePart) and part.origin == KEPT:
            after = part.value.get("after", "")
            return after if isinstance(after, str) else ""
    return ""


class Branches:
    """The questions of some messages, oldest first, and how they go on from each other.

    Where the messages begin in the middle of a conversation, a question that stands behind an older one begins a way.
    """

    def __init__(self, messages: Sequence[StoredMessage]) -> None:
        self._before: dict[str, str] = {}
        """By request id of each question: the one it stands behind, empty at the beginning."""
        self._tips: dict[int, str] = {}
        """By message id: the newest question when the message was stored, for those that name none."""
        self.newest = ""
        for message in messages:
            if message.role == "user" and message.request_id and not message.lane:
                after = after_of(message)
                self._before[message.request_id] = "" if after == START else after or self.newest
                self.newest = message.request_id
            elif not message.request_id:
                self._tips[message.id] = self.newest

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._before

    def before(self, request_id: str) -> str:
        """Return the question that one stands behind; empty at the beginning."""
        return self._before.get(request_id, "")

    def way(self, tip: str) -> set[str]:
        """Return the questions on the way to one, itself too."""
        found: set[str] = set()
        while tip in self._before and tip not in found:
            found.add(tip)
            tip = self._before[tip]
        return found

    def beside(self, request_id: str) -> list[str]:
        """Return the questions that stand behind the same one, itself too, in the order in which they were asked."""
        before = self._before.get(request_id)
        return [other for other, its in self._before.items() if its == before]

    def tip_of(self, request_id: str) -> str:
        """Return the newest question of those that go on from one."""
        return next(other for other in reversed(self._before) if request_id in self.way(other))

    def on_way(self, messages: Sequence[StoredMessage], tip: str) -> list[StoredMessage]:
        """Return the messages that are on the way to a question, answers with their questions."""
        way = self.way(tip)
        return [message for message in messages if self._holds(way, message)]

    def _holds(self, way: set[str], message: StoredMessage) -> bool:
        if message.request_id in self._before:
            return message.request_id in way
        at = self._tips.get(message.id, "")
        return not at or at in way
