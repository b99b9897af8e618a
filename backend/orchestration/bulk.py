"""Many requests at once: a cap on how many run, a result for each, in request order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator

from msgspec import Struct

from backend.catalog import Catalog
from backend.orchestration.orders import ChatOrder
from backend.orchestration.turns import TurnManager, new_request_id
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


async def run_bulk(
    turns: TurnManager,
    catalog: Catalog,
    items: list[BulkItem],
    *,
    max_concurrency: int,
    timeout_s: float | None,
    request_id: str = "",
) -> AsyncGenerator[BulkResult]:
    """Run requests side by side and yield each result as it is there. Ending the iteration cancels the rest.

    Raises:
        TektonError: `invalid_request` when there are none or too many.
    """
    check_items(items)
    group = request_id or new_request_id()
    places = asyncio.Semaphore(max_concurrency)

    async def run(index: int, item: BulkItem) -> BulkResult:
        async with places:
            outcome = await _ask(turns, catalog, item, f"{group}/{index}", group, timeout_s)
        return BulkResult(index, outcome.code is None, outcome)

    tasks = [asyncio.create_task(run(index, item)) for index, item in enumerate(items)]
    try:
        for next_done in asyncio.as_completed(tasks):
            yield await next_done
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


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


async def _ask(
    turns: TurnManager, catalog: Catalog, item: BulkItem, request_id: str, group: str, timeout_s: float | None
) -> TurnOutcome:
    """Run one request; what keeps it from starting is its outcome, not the end of the others."""
    try:
        order = ChatOrder(
            ai_id=catalog.get(item.specialist_id).id,
            content=item.message,
            session_id=item.session_id,
            request_id=request_id,
            group=group,
            context=item.context,
            max_tokens=item.max_tokens,
            history=bool(item.session_id),
            timeout_s=timeout_s,
        )
        return await turns.ask(order)
    except TektonError as error:
        return TurnOutcome(
            request_id, item.specialist_id, "", code=error.code, error=error.message, detail=error.detail
        )


__all__ = ["BulkItem", "BulkReport", "BulkResult", "check_items", "report", "run_bulk"]
