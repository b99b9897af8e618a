"""Many requests at once: a cap on how many run, a result for each, in request order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field

from msgspec import Struct

from backend.catalog import Catalog
from backend.orchestration.orders import ChatOrder
from backend.orchestration.turns import Turn, TurnManager, new_request_id
from backend.schema.errors import TektonError
from backend.schema.frames import TurnContext
from backend.schema.records import TurnOutcome

MAX_REQUESTS = 1_000


class BulkItem(Struct):
    """One request of a bulk."""

    specialist_id: str
    message: str
    session_id: str = ""
    context: TurnContext | None = None
    max_tokens: int | None = None


class BulkResult(Struct):
    """One result: `index` is the request's place; `outcome.code` is set when it failed."""

    index: int
    ok: bool
    outcome: TurnOutcome


class BulkReport(Struct):
    """All results in request order; `wall_time` and `sum_of_times` in seconds."""

    request_id: str
    results: list[BulkResult]
    ok: int
    failed: int
    wall_time: float
    sum_of_times: float


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
    """A bulk under way. `stopped`: cancelled, so that what was not asked yet is not asked any more."""

    request_id: str
    timeout_s: float | None
    places: asyncio.Semaphore
    asked: set[str] = field(default_factory=set[str])
    """Request ids of the items that are being answered."""
    stopped: bool = False


class BulkManager:
    """Run bulks. `active` maps request ids to those under way."""

    def __init__(self, turns: TurnManager, catalog: Catalog) -> None:
        self._turns, self._catalog = turns, catalog
        self.active: dict[str, BulkRun] = {}

    async def run(
        self, items: list[BulkItem], *, max_concurrency: int, timeout_s: float | None, request_id: str = ""
    ) -> AsyncGenerator[BulkResult]:
        """Run requests side by side and yield each result as it is there. Ending the iteration cancels the rest.

        Raises:
            TektonError: `invalid_request` when there are none or too many, `conflict` while a bulk of this id runs.
        """
        check_items(items)
        run = BulkRun(request_id or new_request_id(), timeout_s, asyncio.Semaphore(max_concurrency))
        self.check_free(run.request_id)
        self.active[run.request_id] = run
        tasks = [asyncio.create_task(self._item(run, index, item)) for index, item in enumerate(items)]
        try:
            for next_done in asyncio.as_completed(tasks):
                yield await next_done
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            del self.active[run.request_id]

    def check_free(self, request_id: str) -> None:
        """Raise `TektonError` (`conflict`) while a bulk of this id runs."""
        if request_id in self.active:
            raise TektonError(f"the bulk {request_id} runs already", code="conflict")

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
        return sum(len(turn.parts) for turn in ended if isinstance(turn, Turn))

    async def _item(self, run: BulkRun, index: int, item: BulkItem) -> BulkResult:
        async with run.places:
            outcome = await self._ask(run, f"{run.request_id}/{index}", item)
        return BulkResult(index, outcome.code is None, outcome)

    async def _ask(self, run: BulkRun, request_id: str, item: BulkItem) -> TurnOutcome:
        """Run one request; what keeps it from starting is its outcome, not the end of the others."""
        run.asked.add(request_id)
        try:
            if run.stopped:
                raise TektonError("cancelled before it was asked", code="cancelled")
            order = ChatOrder(
                ai_id=self._catalog.get(item.specialist_id).id,
                content=item.message,
                session_id=item.session_id,
                request_id=request_id,
                group=run.request_id,
                context=item.context,
                max_tokens=item.max_tokens,
                history=bool(item.session_id),
                timeout_s=run.timeout_s,
            )
            return await self._turns.ask(order)
        except TektonError as error:
            return TurnOutcome(
                request_id, item.specialist_id, "", code=error.code, error=error.message, detail=error.detail
            )
        finally:
            run.asked.discard(request_id)


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


__all__ = ["BulkItem", "BulkManager", "BulkReport", "BulkResult", "check_items", "report"]
