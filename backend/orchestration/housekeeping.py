"""Memory's daily chores: old conversations deleted or compressed as the settings say, learned token counts kept.

Knows when; what is old and how it is packed is memory's. A chore that fails enters the ledger and is done again the
next day, not before.
"""

from __future__ import annotations

import asyncio
import logging
import time

from backend.config import Memory as MemorySettings
from backend.memory import MemoryStore, RetentionReport, TokenEstimator
from backend.orchestration.ledger import Ledger
from backend.schema.errors import TektonError

log = logging.getLogger(__name__)

DAY_S = 86_400.0
LOOK_EVERY_S = 900.0
"""How often it is looked whether a day is over; a machine that sleeps loses no day."""
FIRST_LOOK_S = 20.0
"""After the start, so that chores do not delay it."""
RETAINED_AT = "housekeeping:retained_at"
TOKEN_FACTORS = "housekeeping:token_factors"


class Housekeeping:
    """One task. `report` is what the newest retention did, `None` before the first of this life."""

    def __init__(
        self, memory: MemoryStore, ledger: Ledger, settings: MemorySettings, estimator: TokenEstimator
    ) -> None:
        self._memory, self._ledger, self._settings = memory, ledger, settings
        self._estimator = estimator
        self._stored: dict[str, float] = {}
        self._task: asyncio.Task[None] | None = None
        self.report: RetentionReport | None = None

    async def open(self) -> None:
        """Take up what was learned in earlier lives."""
        stored = await self._memory.get_setting(TOKEN_FACTORS)
        if isinstance(stored, dict):
            known = TokenEstimator(
                {str(m): float(f) for m, f in stored.items() if isinstance(f, int | float)}
            )  # pyright: ignore[reportUnknownVariableType]
            self._estimator.factors.update(known.factors)
        self._stored = dict(self._estimator.factors)

    def start(self) -> None:
        self._task = asyncio.create_task(self._beat(), name="housekeeping")

    async def close(self) -> None:
        """End the task and keep what was learned."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._keep_factors()

    async def look(self, now: float | None = None) -> None:
        """Do what is due: the retention once a day, the learned counts whenever they changed."""
        await self._keep_factors()
        moment = time.time() if now is None else now
        last = await self._memory.get_setting(RETAINED_AT)
        if isinstance(last, int | float) and 0 <= moment - last < DAY_S:
            return
        await self._memory.put_setting(RETAINED_AT, moment)
        try:
            self.report = await self._memory.retain(
                retention_days=self._settings.retention_days,
                compress_after_days=self._settings.compress_after_days,
                now=moment,
            )
        except TektonError as error:
            self._ledger.record("engram", error.code, f"the daily retention failed: {error.message}")
            return
        log.info(
            "retention: %d messages and %d sessions deleted, %d sessions compressed, %d bytes saved",
            self.report.messages_deleted,
            self.report.sessions_deleted,
            self.report.sessions_packed,
            self.report.bytes_saved,
        )

    async def _keep_factors(self) -> None:
        if self._estimator.factors != self._stored:
            self._stored = dict(self._estimator.factors)
            await self._memory.put_setting(TOKEN_FACTORS, self._stored)

    async def _beat(self) -> None:
        await asyncio.sleep(FIRST_LOOK_S)
        while True:
            try:
                await self.look()
            except Exception:  # a chore may fail, its task never ends
                log.exception("housekeeping")
            await asyncio.sleep(LOOK_EVERY_S)
