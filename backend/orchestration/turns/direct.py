"""Questions that programs ask of a worker's own port: within the budget, and booked like those through the gateway.

They leave no conversation. Knows no socket: workers report through the fleet's connections.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from backend.memory import TurnStore
from backend.orchestration.error_log import ErrorLog
from backend.orchestration.recent import Recent
from backend.orchestration.turns.budgets import BudgetExceeded, Budgets
from backend.orchestration.turns.completion import NOT_OURS
from backend.schema.frames import DirectAsk, DirectReply, DirectTurn, Request
from backend.schema.records import TurnOutcome, UsageRow
from backend.specialists.supervisor import Supervisor
from backend.specialists.worker_client import WorkerClient
from backend.tasks import end_tasks

log = logging.getLogger(__name__)

REMEMBERED = 10_000
"""Reports that are known to be in the budgets already when a worker sends them again, because they were not stored."""


class DirectTurns:
    """Answers the reports of all workers, in the order they come: who asks next is judged by what was used before."""

    def __init__(self, fleet: Supervisor, budgets: Budgets, store: TurnStore, error_log: ErrorLog) -> None:
        self._fleet, self._budgets, self._store, self._error_log = fleet, budgets, store, error_log
        self._reports: asyncio.Queue[tuple[WorkerClient, DirectReply]] = asyncio.Queue()
        self._counted: Recent[bool] = Recent(REMEMBERED, REMEMBERED)
        self._task = asyncio.create_task(self._run(), name="direct turns")
        self.on_ended: list[Callable[[DirectTurn], None]] = []
        """Called with every direct question that ended, failed and refused ones included."""
        fleet.on_direct = self._on_report

    async def close(self) -> None:
        """Stop. What is not booked yet stays with the workers, which report it to the next backend."""
        await end_tasks(self._task)

    def _on_report(self, client: WorkerClient, report: DirectReply) -> None:
        self._reports.put_nowait((client, report))

    async def _run(self) -> None:
        while True:
            client, report = await self._reports.get()
            try:
                if isinstance(report, DirectAsk):
                    await self._judge(client, report)
                else:
                    await self._book(client, report)
            except Exception:  # a store that is away: the worker reports again to the next backend
                log.exception("a direct question to %s", report.ai_id)

    async def _judge(self, client: WorkerClient, ask: DirectAsk) -> None:
        why = ""
        try:
            await self._budgets.check(ask.ai_id)
        except BudgetExceeded as error:
            why = error.message
        client.answer_direct(Request(type="verdict", request_id=ask.request_id, content=why))

    async def _book(self, client: WorkerClient, turn: DirectTurn) -> None:
        """Book a turn once, also when an earlier backend died between the store and its answer to the worker.

        What cannot be stored counts in this backend's budgets and stays with the worker, which reports it again.
        """
        outcome = TurnOutcome(turn.request_id, turn.ai_id, "", model=turn.model, usage=turn.usage)
        outcome.code, outcome.error, outcome.total_time = turn.code, turn.error, turn.total_time
        used = await self._budgets.priced(turn.ai_id, outcome)
        # By the store, not by what we remember: the worker repeats a report until it is confirmed, also to the
        # next backend.
        is_new = await self._store_once(turn, used)
        # `None`: the store failed. It counts here once, and is stored when the worker reports it again.
        if is_new is not False and self._counted.get(turn.request_id) is None:
            self._counted.put(turn.request_id, True, 1)
            if used is not None:
                self._budgets.count(used)
            self._account(turn, outcome)
        if is_new is not None:
            client.answer_direct(Request(type="counted", request_id=turn.request_id))

    async def _store_once(self, turn: DirectTurn, used: UsageRow | None) -> bool | None:
        """Return whether the turn was not booked before, `None` when the store failed."""
        try:
            return await self._store.book(turn.request_id, used)
        except Exception as error:
            text = f"what a direct question used could not be stored: {error}"
            self._error_log.record(turn.ai_id, "internal", text)
            return None

    def _account(self, turn: DirectTurn, outcome: TurnOutcome) -> None:
        if turn.code != "budget_exceeded":
            self._fleet.turn_ended(turn.ai_id, turn.request_id, outcome)
        if turn.code and turn.code not in NOT_OURS:
            self._error_log.record(
                turn.ai_id,
                turn.code,
                turn.error,
                phase="asked directly",
                evidence=turn.evidence,
                request_id=turn.request_id,
            )
        for observe in self.on_ended:
            observe(turn)
