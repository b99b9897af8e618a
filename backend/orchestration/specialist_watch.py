"""The files that declare specialists, watched while the backend runs: what is good is taken, what is broken is named.

The last good state of a broken file serves on. Knows no worker: rows are the fleet's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress

import msgspec

from backend import catalog as catalog_module
from backend import config
from backend.catalog import Catalog
from backend.config import FileFault, FoundFiles, Settings
from backend.config.specialist_files import stamp, with_last_good
from backend.config.versions import keep
from backend.home import Home
from backend.matching.matcher import Matcher
from backend.orchestration.error_log import ErrorLog
from backend.orchestration.selection import Selector
from backend.orchestration.turns.budgets import Budgets
from backend.schema.errors import TektonError
from backend.specialists.supervisor import Supervisor
from backend.tasks import end_tasks

log = logging.getLogger(__name__)

Stamp = dict[str, tuple[int, int, int]]
EVERY_S = 0.2
"""Time between two looks. A change is read at the second look that finds the same: not in the middle of a write."""
WHERE = "specialists"
"""Under which name the error log has the faults of files."""
_LIVE = ("specialists", "groups", "files", "fleet", "budget", "prices", "tools")
"""What of the settings is taken while the backend runs; a running specialist keeps its tools until it is launched anew."""


class SpecialistWatch:
    """`take` is called with settings and catalogue whenever they changed for the better."""

    def __init__(
        self,
        home: Home,
        environment: Mapping[str, str],
        settings: Settings,
        *,
        fleet: Supervisor,
        selector: Selector,
        budgets: Budgets,
        error_log: ErrorLog,
        take: Callable[[Settings], None],
        read_at: Stamp,
    ) -> None:
        self._home, self._environment, self.settings = home, environment, settings
        self._fleet, self._selector, self._budgets = fleet, selector, budgets
        self._error_log, self._take = error_log, take
        self._read_at = read_at
        """What the files were like before the settings in force were read: a change since then is not missed."""
        self._reported: set[str] = set()
        self._at_start = settings
        self._waiting: list[str] = []
        """Tables whose changes take a restart of the backend, as they were last reported."""
        self._task: asyncio.Task[None] | None = None
        self._reading = asyncio.Lock()

    async def look(self) -> None:
        """Read the files now: for who names a specialist whose file was written a moment ago. Faults are reported as ever."""
        await self._reload()

    def start(self, catalog: Catalog) -> None:
        """Name what could not be taken at the start, and watch from now on."""
        self._report([*self.settings.files.faults, *catalog.faults], "")
        self._task = asyncio.create_task(self._run(), name="specialist files")

    async def close(self) -> None:
        """Stop watching."""
        await end_tasks(self._task)

    async def _run(self) -> None:
        await asyncio.to_thread(self._keep_versions, self.settings.files)
        taken = seen = self._read_at
        # As the files have it: the settings in force also hold what was found at the start, such as a model server.
        with suppress(TektonError):
            self._at_start = await asyncio.to_thread(config.load, self._home, self._environment)
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                now = await asyncio.to_thread(self._stamp)
                if now == seen and now != taken:
                    taken = now
                    await self._reload()
                seen = now
                self._fleet.drop_removed()
            except Exception as error:  # the watch goes on whatever a file holds
                log.exception("reading the files of specialists")
                self._error_log.record(WHERE, "internal", f"the files of specialists cannot be read: {error}")

    def _stamp(self) -> Stamp:
        return stamp_of(self._home)

    async def _reload(self) -> None:
        async with self._reading:
            await self._take_files()

    async def _take_files(self) -> None:
        try:
            now, catalog, matcher = await asyncio.to_thread(self._read)
        except TektonError as error:
            self._report([], error.message)
            return
        self._report([*now.files.faults, *catalog.faults], "")
        self._ask_for_restart(now)
        live = {name: getattr(now, name) for name in _LIVE}
        self.settings = msgspec.structs.replace(self.settings, **live)
        self._fleet.reconfigure(self.settings, catalog)
        self._selector.renew(matcher)
        self._budgets.reconfigure(self.settings)
        self._take(self.settings)
        await asyncio.to_thread(self._keep_versions, now.files)

    def _read(self) -> tuple[Settings, Catalog, Matcher]:
        """Return the settings as they stand in the files now, with the last good ones of broken files."""
        now = config.load(self._home, self._environment)
        before = self.settings.files
        own = with_last_good(before, now.files)
        files = FoundFiles(own, {**before.where, **now.files.where}, now.files.faults)
        now = msgspec.structs.replace(now, files=files)
        catalog = catalog_module.load(now)
        return now, catalog, Matcher(catalog)

    def _report(self, faults: list[FileFault], refused: str) -> None:
        """Record in the error log what is new since the last look; what is in order again may be reported anew."""
        texts = {f"{fault}. What was in force before stays." for fault in faults}
        if refused:
            texts.add(f"{refused} What was in force before stays.")
        for text in sorted(texts - self._reported):
            self._error_log.record(WHERE, "config_invalid", text)
        self._reported = texts

    def _ask_for_restart(self, now: Settings) -> None:
        """Report once which tables of the configuration differ from those in force and are read at a start only."""
        waiting = [
            name
            for name in Settings.__struct_fields__
            if name not in (*_LIVE, "console") and getattr(self._at_start, name) != getattr(now, name)
        ]
        if waiting and waiting != self._waiting:
            tables = ", ".join(f"[{name}]" for name in waiting)
            text = f"config.toml changed in {tables}: end the backend to take it (`tekton stop`); specialists run on"
            self._error_log.record("config.toml", "restart_needed", text)
        self._waiting = waiting

    def _keep_versions(self, files: FoundFiles) -> None:
        for name, where in files.where.items():
            if any(fault.name == name for fault in files.faults):
                continue
            with suppress(OSError):
                keep(self._home, name, where, (self._home.specialists / where).read_bytes())


def stamp_of(home: Home) -> Stamp:
    """Return what tells that the configuration or a file of a specialist changed."""
    found = stamp(home.specialists)
    with suppress(OSError):
        facts = home.config.stat()
        found[str(home.config)] = facts.st_mtime_ns, facts.st_size, facts.st_ino
    return found
