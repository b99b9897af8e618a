"""Upkeep: log files kept in size and followed, the registry kept in line with what lives.

One slow task; it starts and kills nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from backend.registry import Transaction
from backend.registry.sync import sweep
from backend.schema.errors import TektonError
from backend.schema.events import LogLines, Topic
from backend.specialists.adoption import adopt_unregistered
from backend.specialists.board import Publish
from backend.specialists.fleet import Fleet, entry_of
from backend.specialists.logs import log_path, redact, rotate_if_large

log = logging.getLogger(__name__)

EVERY_S = 0.5
SYNC_EVERY = 20
"""Beats between two looks at the registry: ten seconds."""
MAX_FOLLOW_BYTES = 64 * 1024
"""Most of one file that is passed on in one beat; what is beyond is counted as dropped."""


Wanted = Callable[[Topic], bool]
"""Whether anybody reads a topic."""


class Upkeep:
    """Follows the log files of `sources` and keeps the registry honest."""

    def __init__(self, fleet: Fleet, publish: Publish, wanted: Wanted) -> None:
        self._fleet, self._publish, self._wanted = fleet, publish, wanted
        self._places: dict[str, tuple[int, int]] = {}
        self._task: asyncio.Task[None] | None = None
        self._census_due = False
        self._followed = False
        """Whether somebody read the topic at the last beat."""

    def start(self) -> None:
        for source in self.sources():
            self._places[source] = self._end(source)
        self._task = asyncio.create_task(self._beat(), name="upkeep")

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def sources(self) -> list[str]:
        """Return whose log files there may be: every specialist and service."""
        return [*self._fleet.board.rows, *self._fleet.board.services, "gateway"]

    def brought(self, source: str) -> None:
        """A reader had a log brought from another host and has it whole: only what comes now is passed on."""
        if not self._followed:
            self._places[source] = self._end(source)

    def registry_damaged(self) -> None:
        """Have the next look find living workers the registry lost."""
        self._census_due = True

    async def _beat(self) -> None:
        beats = 0
        while True:
            await asyncio.sleep(EVERY_S)
            beats += 1
            try:
                self._followed = self._wanted("logs")
                if self._fleet.launcher.remote and self._followed:
                    await asyncio.gather(*map(self._fleet.launcher.fetch_logs, list(self._fleet.placements)))
                self._follow_logs()
                if beats % SYNC_EVERY == 0 or self._census_due:
                    await self.sync()
            except (TektonError, OSError) as error:
                log.warning("upkeep: %s", error)

    async def sync(self) -> None:
        """Take the provably dead out of the registry and put the living back in."""
        fleet = self._fleet
        for removed in await asyncio.to_thread(sweep, fleet.registry.registry):
            log.info("%s taken out of the registry: %s", removed.ai_id, removed.reason)
        told = self._census_due
        if self._census_due:
            self._census_due = False
            await adopt_unregistered(fleet)
        entries = await fleet.registry.read()
        missing = [
            (row, placement)
            for ai_id, placement in list(fleet.placements.items())
            if (row := fleet.board.rows[ai_id]).state not in ("starting", "stopping")
            and (ai_id not in entries or entries[ai_id].pid != placement.identity.pid)
        ]
        if not missing:
            return

        def rebuild(change: Transaction) -> None:
            for row, placement in missing:
                change.register(row.id, entry_of(row, placement, "ready"), "rebuilt from a living worker")

        await fleet.registry.apply(rebuild)
        if not told:
            names = ", ".join(sorted(row.id for row, _ in missing))
            text = f"the registry no longer named living workers and was rebuilt from them: {names}"
            fleet.record_error("registry", "registry_incomplete", text, phase="upkeep")

    def _follow_logs(self) -> None:
        limits, folder, wanted = self._fleet.settings.logs, self._fleet.home.logs, self._wanted("logs")
        there = _log_files(folder)
        for source in self.sources():
            found = there.get(f"{source}.log")
            if found is None:
                self._places[source] = (0, 0)
                continue
            inode, place = self._places.get(source, (0, 0))
            if inode != found.st_ino or found.st_size < place:
                place = 0
            if found.st_size > place:
                path = log_path(folder, source)
                place = self._pass_on(source, path, place, found.st_size) if wanted else found.st_size
            if found.st_size > limits.max_bytes:
                rotate_if_large(folder, source, max_bytes=limits.max_bytes, keep=limits.keep)
                place = 0
            self._places[source] = (found.st_ino, place)

    def _end(self, source: str) -> tuple[int, int]:
        """Return a file as it lies now, so that only what comes is passed on."""
        try:
            found = log_path(self._fleet.home.logs, source).stat()
        except FileNotFoundError:
            return (0, 0)
        return (found.st_ino, found.st_size)

    def _pass_on(self, source: str, path: Path, place: int, size: int) -> int:
        """Publish the whole lines between two places of a file; return the new place.

        A place in the middle of a line, left from when nobody read, begins with the next one.
        """
        skipped = max(0, size - place - MAX_FOLLOW_BYTES)
        with path.open("rb") as file:
            file.seek(max(0, place - 1))
            begun = place > 0 and file.read(1) != b"\n"
            dropped = file.read(skipped).count(b"\n")
            data = file.read(size - place - skipped)
        whole, newline, rest = data.rpartition(b"\n")
        if not newline:
            return place
        if begun and not skipped:
            whole = whole.partition(b"\n")[2]
        if whole:
            lines = redact(whole.decode("utf-8", "replace")).split("\n")
            self._publish(LogLines(source, lines, time.time(), dropped), "logs")
        return size - len(rest)


def _log_files(folder: Path) -> dict[str, os.stat_result]:
    """Return what log files there are, by name; one look at the folder, however many specialists there are."""
    there: dict[str, os.stat_result] = {}
    with os.scandir(folder) as files:
        for file in files:
            if file.name.endswith(".log"):
                with contextlib.suppress(FileNotFoundError):  # it was renamed this moment: a new run begins
                    there[file.name] = file.stat()
    return there
