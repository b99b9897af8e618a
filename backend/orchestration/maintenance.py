"""Memory's chores: old conversations deleted or compressed once a day, learned token counts kept, freed memory given back.

Knows when; what is old and how it is packed is memory's. A chore that fails enters the error log and is done again the
next day, not before.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import time
from collections.abc import Awaitable, Callable
from typing import cast

import msgspec

from backend.config import Memory as MemorySettings
from backend.memory import MemoryStore, Retention, RetentionReport, TokenEstimator
from backend.memory.records import DAY_S
from backend.orchestration.error_log import ErrorLog
from backend.schema.errors import TektonError
from backend.tasks import Background

log = logging.getLogger(__name__)

LEAP_S = 31 * DAY_S
"""A longer time since the last retention is a clock that was set, or a home that nobody used."""
LOOK_EVERY_S = 900.0
"""How often it is looked whether a day is over; a machine that sleeps loses no day."""
FIRST_LOOK_S = 20.0
"""After the start, so that chores do not delay it."""
RETAINED_AT = "housekeeping:retained_at"
REPORT = "housekeeping:report"
"""What the newest retention did, for whoever asks without this backend."""
TOKEN_FACTORS = "housekeeping:token_factors"


FREE_EVERY_S, FREE_BYTES = 5.0, 16 * 1024 * 1024
"""How often it is looked how much freed memory the C library holds, and by how much that must have grown to return it."""


_MALLINFO = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()


class Maintenance:
    """One task. `report` is what the newest retention did, `None` before the first of this life."""

    def __init__(
        self,
        memory: MemoryStore,
        error_log: ErrorLog,
        settings: MemorySettings,
        estimator: TokenEstimator,
        *,
        forget_runs: Callable[[float], Awaitable[None]] | None = None,
    ) -> None:
        """`forget_runs` forgets what is kept of pipelines that began before a moment."""
        self._memory, self._error_log, self._settings = memory, error_log, settings
        self._estimator, self._forget_runs = estimator, forget_runs
        self._stored: dict[str, float] = {}
        self._doubted = False
        self._tasks = Background()
        self.report: RetentionReport | None = None

    async def open(self) -> None:
        """Take up what was learned in earlier lives."""
        stored = await self._memory.settings.get(TOKEN_FACTORS)
        if isinstance(stored, dict):
            factors = cast(dict[object, object], stored).items()
            known = TokenEstimator({str(m): float(f) for m, f in factors if isinstance(f, int | float)})
            self._estimator.factors.update(known.factors)
        self._stored = dict(self._estimator.factors)

    def start(self) -> None:
        for work in (self._beat(), self._free()):
            self._tasks.start(work, "maintenance")

    async def close(self) -> None:
        """End the task and keep what was learned."""
        await self._tasks.end()
        await self._keep_factors()

    async def look(self, now: float | None = None) -> None:
        """Do what is due: the retention once a day, the learned counts whenever they changed."""
        await self._keep_factors()
        moment = time.time() if now is None else now
        last = await self._memory.settings.get(RETAINED_AT)
        if isinstance(last, int | float):
            if 0 <= moment - last < DAY_S:
                return
            if doubt := clock_doubt(last, moment, self._settings.clock_checked):
                if not self._doubted:
                    self._error_log.record("memory", "clock_leapt", doubt)
                self._doubted = True
                return
        self._doubted = False
        await self._memory.settings.put(RETAINED_AT, moment)
        try:
            ages = Retention(
                messages_days=self._settings.retention_days,
                compress_after_days=self._settings.compress_after_days,
                errors_days=self._settings.errors_days,
                unseen_errors_days=self._settings.unseen_errors_days,
                usage_days=self._settings.usage_days,
                tool_calls_days=self._settings.tool_calls_days,
            )
            self.report = await self._memory.retain(ages, moment)
            if self._forget_runs is not None and ages.messages_days:
                await self._forget_runs(moment - ages.messages_days * DAY_S)
            if self.report.errors_deleted:
                await self._error_log.recount()
            await self._memory.settings.put(REPORT, msgspec.to_builtins(self.report))
        except TektonError as error:
            self._error_log.record("memory", error.code, f"the daily retention failed: {error.message}")
            return
        done = ", ".join(
            f"{name} {number}" for name, number in msgspec.structs.asdict(self.report).items() if number
        )
        log.info("retention: %s", done or "nothing was old enough")

    async def _keep_factors(self) -> None:
        if self._estimator.factors != self._stored:
            self._stored = dict(self._estimator.factors)
            await self._memory.settings.put(TOKEN_FACTORS, self._stored)

    async def _free(self) -> None:
        """Return what long answers left free to the system: the C library keeps it, several times their size."""
        library = _c_library()
        after = 0
        while library is not None:
            await asyncio.sleep(FREE_EVERY_S)
            free = library.mallinfo2().fordblks
            if trimmed := free > after + FREE_BYTES:
                await asyncio.to_thread(library.malloc_trim, 0)
                free = library.mallinfo2().fordblks
            after = free if trimmed else min(after, free)

    async def _beat(self) -> None:
        await asyncio.sleep(FIRST_LOOK_S)
        while True:
            try:
                await self.look()
            except Exception:  # a chore may fail, its task never ends
                log.exception("maintenance")
            await asyncio.sleep(LOOK_EVERY_S)


def clock_doubt(last: float, now: float, checked: str) -> str:
    """Say why no age is believed; empty when the clock went on from the `last` retention as clocks do.

    One that is wrong by years would have everything deleted. A home that nobody used for long looks the same, so a person
    decides: `checked` is the day on which somebody saw that the clock is right, as `2028-11-28`.
    """
    today = _day(now)
    if now - last <= LEAP_S or _day(now - LEAP_S) <= checked <= today:
        return ""
    return (
        f"the clock says {today}, the last retention was on {_day(last)}: nothing is deleted by age until a person has seen which is "
        f"right. Set the clock; or, if it really is {today}, put this into config.toml and start the backend again: "
        f'[memory] clock_checked = "{today}"'
    )


def _day(moment: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(moment))


class _MallocInfo(ctypes.Structure):
    """`struct mallinfo2` of glibc; `fordblks` are the bytes that are free and held."""

    _fields_ = [(name, ctypes.c_size_t) for name in _MALLINFO]
    fordblks: int


def _c_library() -> ctypes.CDLL | None:
    """Return the C library if it can say what it holds and give it back (glibc from 2.33 on)."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallinfo2") or not hasattr(library, "malloc_trim"):
        return None
    library.mallinfo2.restype = _MallocInfo
    return library
