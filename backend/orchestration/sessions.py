"""Sessions: which one a question belongs to, who may use it, and one question at a time in it.

Several consoles, shells and programs may ask in one session. A *holder* is one question with all that belongs to it: a
turn, a team turn with its members and rounds, a pipeline run. One holder works in a session; the others wait in the
order in which they came. Knows no turn and no transport.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from backend.memory import SessionStore
from backend.schema.errors import TektonError
from backend.schema.records import Session

Moved = Callable[[int], None]
"""Called with the new number of holders ahead while a place waits."""


@dataclass(eq=False)
class Place:
    """A place in a session's queue. `granted` resolves when its holder may work; it never raises."""

    session_id: str
    holder: str
    granted: asyncio.Future[None]
    on_moved: Moved | None = None

    @property
    def waits(self) -> bool:
        return not self.granted.done()


@dataclass(eq=False)
class _Holder:
    name: str
    places: list[Place] = field(default_factory=list[Place])


@dataclass(eq=False)
class _Queue:
    """`holders[0]` works; the others wait."""

    holders: list[_Holder] = field(default_factory=list[_Holder])
    closing: bool = False


class Sessions:
    """Resolves sessions and queues the questions asked in them."""

    def __init__(self, store: SessionStore) -> None:
        self._store = store
        self._queues: dict[str, _Queue] = {}
        self._replacing = asyncio.Lock()

    async def resolve(self, session_id: str, owners: Sequence[str]) -> Session:
        """Return a session by its id, or the default session of the first owner when the id is empty.

        Raises:
            TektonError: `unknown_session`, or `invalid_request` when the session belongs to none of `owners`: what was
                said to one specialist is not shown to another.
        """
        if not session_id:
            return await self._default(owners[0])
        session = await self._store.get(session_id)
        if session.owner not in owners:
            raise TektonError(
                f"the session {session_id!r} belongs to {_name(session.owner)}, not to {_name(owners[0])}: "
                f"choose one of its own, or leave session_id out",
                code="invalid_request",
            )
        return session

    async def _default(self, owner: str) -> Session:
        """Return an owner's default session; one that was archived is replaced by a new one."""
        session = await self._store.default(owner, counted=False)
        if not session.archived:
            return session
        # Looked at again under the lock: of two who ask at once the second finds the session that the first has
        # made.
        async with self._replacing:
            session = await self._store.default(owner)
            if session.archived:
                session = await self._store.create(owner)
                # Made first, chosen then: a crash in between leaves one session too many, never an owner
                # without a default one.
                session = await self._store.patch(session.id, is_default=True)
        return session

    async def get(self, session_id: str) -> Session:
        """Return one session. Raises `UnknownSession`."""
        return await self._store.get(session_id)

    def enter(self, session_id: str, holder: str, on_moved: Moved | None = None) -> Place:
        """Take a place in a session. What comes under the name of a holder that is there already joins it.

        Raises:
            TektonError: `conflict` while the session is being deleted.
        """
        self.check_open(session_id)
        queue = self._queues.setdefault(session_id, _Queue())
        found = next((one for one in queue.holders if one.name == holder), None)
        if found is None:
            found = _Holder(holder)
            queue.holders.append(found)
        place = Place(session_id, holder, asyncio.get_running_loop().create_future(), on_moved)
        found.places.append(place)
        if queue.holders[0] is found:
            place.granted.set_result(None)
        return place

    def check_open(self, session_id: str) -> None:
        """Refuse whoever asks in a session without a place in it, while it is being deleted.

        Raises:
            TektonError: `conflict`.
        """
        queue = self._queues.get(session_id)
        if queue is not None and queue.closing:
            raise TektonError(f"the session {session_id!r} is being deleted", code="conflict")

    def ahead(self, place: Place) -> int:
        """Return how many holders are asked before this one; 0 for the one that works."""
        queue = self._queues[place.session_id]
        return next(index for index, one in enumerate(queue.holders) if one.name == place.holder)

    def leave(self, place: Place) -> None:
        """Give a place up; the next holder works once the last place of this one is given up. Safe to call twice."""
        queue = self._queues.get(place.session_id)
        found = queue and next((one for one in queue.holders if place in one.places), None)
        if queue is None or found is None:
            return
        found.places.remove(place)
        # It refers to the turn, which refers to the place: a long answer would wait for the collector of cycles.
        place.on_moved = None
        if found.places:
            return
        queue.holders.remove(found)
        for ahead, waiting in enumerate(queue.holders):
            for other in waiting.places:
                if ahead and other.on_moved is not None and other.waits:
                    other.on_moved(ahead)
        _grant(queue)
        if not queue.holders and not queue.closing:
            del self._queues[place.session_id]

    def give_up(self, place: Place) -> None:
        """Give a place up that still waits, and let its owner go on."""
        if place.waits:
            self.leave(place)
            place.granted.set_result(None)

    @asynccontextmanager
    async def closing(self, session_id: str) -> AsyncGenerator[None]:
        """Let nobody enter a session meanwhile, and none of those who wait begin there.

        Raises:
            TektonError: `conflict` when somebody else is closing it already.
        """
        queue = self._queues.setdefault(session_id, _Queue())
        if queue.closing:
            raise TektonError(f"the session {session_id!r} is being deleted already", code="conflict")
        queue.closing = True
        try:
            yield
        finally:
            queue.closing = False
            # Those who wait begin only now: while it is being deleted a grant would let them write into a
            # session that goes.
            _grant(queue)  # it is not deleted after all
            if not queue.holders:
                self._queues.pop(session_id, None)


def _grant(queue: _Queue) -> None:
    """Let the first holder work; in a session that is being deleted nobody begins any more."""
    if queue.holders and not queue.closing:
        for place in queue.holders[0].places:
            if place.waits:
                place.granted.set_result(None)


def _name(owner: str) -> str:
    return owner.removesuffix("-ai")
