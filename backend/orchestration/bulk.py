"""Many requests at once: a cap on how many run, a result for each, in request order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from hashlib import blake2b

import msgspec

from backend.catalog import Catalog
from backend.memory import SessionStore
from backend.orchestration.request_names import BULK, RequestNames, taken
from backend.orchestration.stored import Stored
from backend.orchestration.turns.manager import Turn, TurnManager, new_request_id
from backend.orchestration.turns.request import ChatRequest
from backend.orchestration.turns.turn import Reservation
from backend.schema.errors import TektonError
from backend.schema.params import BulkItem
from backend.schema.records import TurnOutcome
from backend.schema.results import BulkReport, BulkResult

MAX_REQUESTS = 1_000
KEPT_BULKS = 500
"""Ended bulks of which it is known what their request ids name."""
INDEX_KEY = "bulks"
OWNER = "bulk"
"""Owner of the sessions in which bulks are recorded, apart from what was said to specialists directly."""


def check_items(items: list[BulkItem]) -> None:
    """Refuse a bulk of nothing or of too much.

    Raises:
        TektonError: `invalid_request`.
    """
    if not 0 < len(items) <= MAX_REQUESTS:
        raise TektonError(
            f"a bulk takes 1 to {MAX_REQUESTS} requests, not {len(items)}", code="invalid_request"
        )


@dataclass
class BulkRun:
    """A bulk under way, followed by everybody who asked for it."""

    request_id: str
    items: list[BulkItem]
    session_id: str
    timeout_s: float | None
    places: asyncio.Semaphore
    tasks: list[asyncio.Task[BulkResult]] = field(default_factory=list["asyncio.Task[BulkResult]"])
    asked: set[str] = field(default_factory=set[str])
    """Request ids of the items that are being answered."""
    stopped: bool = False
    """Cancelled: what was not asked yet is not asked any more."""
    followers: int = 0


class BulkManager:
    """Run bulks. `active` maps request ids to those under way."""

    def __init__(
        self,
        turns: TurnManager,
        catalog: Catalog,
        sessions: SessionStore,
        store: Stored,
        names: RequestNames,
    ) -> None:
        self._turns, self._catalog, self._sessions = turns, catalog, sessions
        self._store, self._names = store, names
        names.register(BULK, self._is_known)
        self.active: dict[str, BulkRun] = {}
        self._asked: dict[str, str] = {}
        """What bulks asked, as digests, by request id; the oldest first."""
        self._starting = asyncio.Lock()

    async def open(self) -> None:
        """Read what earlier bulks asked."""
        self._asked = await self._store.get(INDEX_KEY, dict[str, str]) or {}

    async def run(
        self, items: list[BulkItem], *, max_concurrency: int, timeout_s: float | None, request_id: str = ""
    ) -> AsyncGenerator[BulkResult]:
        """Run requests side by side and yield each result as it is there.

        Each item is the turn `<request id>/<index>`: an id used again gets the answers there are, and joins the run
        while it is under way. Ending the iteration cancels what nobody else follows. Items that name no session are
        recorded in a session of the bulk's own.

        Raises:
            TektonError: `invalid_request` when there are none or too many; `conflict` when the id names another bulk.
        """
        check_items(items)
        run = await self._started(items, request_id or new_request_id(), max_concurrency, timeout_s)
        run.followers += 1
        try:
            for next_done in asyncio.as_completed(run.tasks):
                yield await next_done
        finally:
            run.followers -= 1
            if not run.followers:
                for task in run.tasks:
                    task.cancel()
                await asyncio.gather(*run.tasks, return_exceptions=True)
                self.active.pop(run.request_id, None)

    def check(self, items: list[BulkItem], request_id: str) -> None:
        """Refuse what `run` would refuse at once: see there."""
        check_items(items)
        self._names.check(request_id, BULK)
        if self._asked.get(request_id, digest := _digest(items)) != digest:
            raise taken(request_id, "another bulk")

    def in_session(self, session_id: str) -> list[BulkRun]:
        """Return the bulks under way that are recorded in a session of their own."""
        return [run for run in self.active.values() if run.session_id == session_id]

    async def cancel(self, request_id: str) -> int:
        """Cancel every item of a bulk, confirmed by the workers; return how many pieces of text had come.

        Raises:
            TektonError: No bulk of this id runs.
        """
        if (run := self.active.get(request_id)) is None:
            raise TektonError(f"no bulk {request_id!r} runs", code="not_found")
        run.stopped = True
        items = list(run.asked)
        ended = await asyncio.gather(*map(self._turns.cancel, items), return_exceptions=True)
        return sum(turn.chunks for turn in ended if isinstance(turn, Turn))

    async def _started(
        self, items: list[BulkItem], request_id: str, max_concurrency: int, timeout_s: float | None
    ) -> BulkRun:
        """Return the run of a request id, started unless it is under way."""
        self.check(items, request_id)
        async with self._starting:
            self.check(items, request_id)
            if (run := self.active.get(request_id)) is not None:
                return run
            # the items of a bulk are stored under `id/0`, `id/1` …: what is stored under the bare id was a chat
            if request_id not in self._asked and await self._turns.is_stored(request_id):
                raise taken(request_id)
            session_id = ""
            if not all(item.session_id for item in items):
                earlier = await self._turns.recall(f"{request_id}/0")
                session_id = (
                    earlier.session_id
                    if earlier is not None
                    else (await self._sessions.create(OWNER, f"bulk {request_id}")).id
                )
            run = BulkRun(request_id, items, session_id, timeout_s, asyncio.Semaphore(max_concurrency))
            self._names.check(request_id, BULK)
            await self._remember(request_id, items)
            run.tasks = [self._begin(run, index, item) for index, item in enumerate(items)]
            self.active[request_id] = run
        return run

    def _is_known(self, request_id: str) -> bool:
        return request_id in self._asked

    async def _remember(self, request_id: str, items: list[BulkItem]) -> None:
        """Keep what an id names; it is known from the first step on, so that nothing else takes it meanwhile."""
        if request_id in self._asked:
            return
        self._asked[request_id] = _digest(items)
        while len(self._asked) > KEPT_BULKS:
            del self._asked[next(name for name in self._asked if name not in self.active)]
        try:
            await self._store.put(INDEX_KEY, self._asked)
        except BaseException:  # nothing of it was asked
            del self._asked[request_id]
            raise

    def _begin(self, run: BulkRun, index: int, item: BulkItem) -> asyncio.Task[BulkResult]:
        reservation = self._turns.reserve(f"{run.request_id}/{index}")

        async def ask() -> BulkResult:
            outcome = await self._ask(run, reservation, item)
            return BulkResult(index, outcome.code is None, outcome)

        task = asyncio.create_task(ask(), name=reservation.request_id)
        # a callback, not a `finally` in the task: one cancelled before its first step never enters its `try`
        task.add_done_callback(lambda _: self._turns.release(reservation.request_id))
        return task

    async def _ask(self, run: BulkRun, reservation: Reservation, item: BulkItem) -> TurnOutcome:
        """Run one request; what keeps it from starting is its outcome, not the end of the others."""
        request_id = reservation.request_id
        try:
            async with reservation.slot(run.places):
                return await self._answer(run, request_id, item)
        except TektonError as error:
            return TurnOutcome(
                request_id, item.specialist_id, "", code=error.code, error=error.message, detail=error.detail
            )

    async def _answer(self, run: BulkRun, request_id: str, item: BulkItem) -> TurnOutcome:
        run.asked.add(request_id)
        try:
            if run.stopped:
                raise TektonError("cancelled before it was asked", code="cancelled")
            ai_id = self._catalog.get(item.specialist_id).id
            request = ChatRequest(
                ai_id=ai_id,
                content=item.message,
                session_id=item.session_id or run.session_id,
                request_id=request_id,
                group=run.request_id,
                context=item.context,
                max_tokens=item.max_tokens,
                history=bool(item.session_id),
                timeout_s=run.timeout_s,
                owners=(ai_id, OWNER),
            )
            return await self._turns.ask(request)
        finally:
            run.asked.discard(request_id)


def _digest(items: list[BulkItem]) -> str:
    return blake2b(msgspec.json.encode(items), digest_size=16).hexdigest()


async def report(results: AsyncIterator[BulkResult], request_id: str) -> BulkReport:
    """Collect a bulk to its end."""
    began = time.monotonic()
    collected = sorted([result async for result in results], key=lambda result: result.index)
    good = sum(result.ok for result in collected)
    return BulkReport(
        request_id,
        collected,
        good,
        len(collected) - good,
        time.monotonic() - began,
        sum(result.outcome.total_time for result in collected),
    )
