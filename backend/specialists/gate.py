"""A line of turns before a limited number of places, first come first served, with visible positions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

Moved = Callable[[int], None]


class Gate:
    """`places` turns at a time. Positions count from 1, the next one in."""

    def __init__(self, places: int) -> None:
        self.places = places
        self.inside = 0
        self._line: list[tuple[asyncio.Future[None], Moved]] = []

    @property
    def waiting(self) -> int:
        return len(self._line)

    @asynccontextmanager
    async def place(self, moved: Moved) -> AsyncGenerator[None]:
        """Hold a place; while there is none, tell `moved` the position and every change of it."""
        await self._enter(moved)
        try:
            yield
        finally:
            self.inside -= 1
            self._admit()

    async def _enter(self, moved: Moved) -> None:
        if self.inside < self.places and not self._line:
            self.inside += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = (turn, moved)
        self._line.append(place)
        moved(len(self._line))
        try:
            await turn
        except asyncio.CancelledError:
            if place in self._line:
                self._line.remove(place)
                self._tell()
            elif (
                not turn.cancelled()
            ):  # admitted and cancelled in the same moment: the place goes to the next
                self.inside -= 1
                self._admit()
            raise

    def _admit(self) -> None:
        line = len(self._line)
        while self.inside < self.places and self._line:
            turn, _ = self._line.pop(0)
            if not turn.done():
                turn.set_result(None)
                self.inside += 1
        if len(self._line) < line:
            self._tell()

    def _tell(self) -> None:
        for position, (_, moved) in enumerate(self._line, 1):
            moved(position)
