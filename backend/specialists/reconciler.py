"""The reconciler: keeps the registry in line with what lives, and log files in size and published.

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

from backend.log import redact
from backend.registry import Transaction
from backend.registry.sync import sweep
from backend.schema.errors import TektonError
from backend.schema.events import LogLines, Topic
from backend.specialists.adoption import adopt_unregistered
from backend.specialists.context import SupervisorContext, entry_of
from backend.specialists.logs import log_path, rotate_if_large
from backend.specialists.status_table import Publish

log = logging.getLogger(__name__)

EVERY_S = 0.5
SYNC_EVERY = 20
"""Rounds between two comparisons of the registry with what lives: ten seconds."""
MAX_FOLLOW_BYTES = 64 * 1024
"""Most that is published of one file in one round; lines beyond it are counted as dropped."""

HasSubscribers = Callable[[Topic], bool]
"""Returns whether anybody subscribes to a topic."""


class Reconciler:
    """Publishes new lines of the log files of `sources` and corrects the registry."""

    def __init__(self, context: SupervisorContext, publish: Publish, has_subscribers: HasSubscribers) -> None:
        self._context, self._publish, self._has_subscribers = context, publish, has_subscribers
        self._positions: dict[str, tuple[int, int]] = {}
        """Inode of each log file, and up to which byte it was read."""
        self._task: asyncio.Task[None] | None = None
        self._registry_damaged = False
        self._publishing = False
        """Whether somebody subscribed to the topic in the last round."""

    def start(self) -> None:
        """Start; of log files that exist only what is written from now on is published."""
        for source in self.sources():
            self._positions[source] = self._end(source)
        self._task = asyncio.create_task(self._run(), name="reconciler")

    def stop(self) -> None:
        """Stop at once."""
        if self._task is not None:
            self._task.cancel()

    def sources(self) -> list[str]:
        """Return whose log files there may be: every specialist, every service, the gateway."""
        return [*self._context.table.rows, *self._context.table.services, "gateway"]

    def skip_to_end(self, source: str) -> None:
        """Publish only what is written from now on: a reader just fetched a remote log and has all before that.

        While somebody subscribes, those lines were published already.
        """
        if not self._publishing:
            self._positions[source] = self._end(source)

    def registry_damaged(self) -> None:
        """Search, in the next round, for live workers that the damaged registry may have lost."""
        self._registry_damaged = True

    async def _run(self) -> None:
        rounds = 0
        while True:
            await asyncio.sleep(EVERY_S)
            rounds += 1
            try:
                self._publishing = self._has_subscribers("logs")
                if self._context.launcher.remote and self._publishing:
                    await asyncio.gather(
                        *map(self._context.launcher.fetch_logs, list(self._context.placements))
                    )
                self._follow_logs()
                if rounds % SYNC_EVERY == 0 or self._registry_damaged:
                    await self.sync()
            except (TektonError, OSError) as error:
                log.warning("reconciler: %s", error)

    async def sync(self) -> None:
        """Remove registry entries of processes that are provably dead, and add entries that live workers lack."""
        context = self._context
        # Only what is provably dead goes: pid and start time name another process or none.
        for removed in await asyncio.to_thread(sweep, context.registry.registry):
            log.info("%s removed from the registry: %s", removed.ai_id, removed.reason)
        reported = self._registry_damaged  # the damage was entered into the error log when it was found
        if self._registry_damaged:
            self._registry_damaged = False
            await adopt_unregistered(context)
        entries = await context.registry.read()
        missing = [
            (row, placement)
            for ai_id, placement in list(context.placements.items())
            # A launch or an end that is under way writes the registry itself.
            if (row := context.table.rows[ai_id]).state not in ("starting", "stopping")
            and (ai_id not in entries or entries[ai_id].pid != placement.identity.pid)
        ]
        if not missing:
            return

        # All in one transaction: a reader sees the registry without them, or with all of them.
        def rebuild(change: Transaction) -> None:
            for row, placement in missing:
                change.register(row.id, entry_of(row, placement, "ready"), "rebuilt from a living worker")

        await context.registry.apply(rebuild)
        if not reported:
            names = ", ".join(sorted(row.id for row, _ in missing))
            # Told, though it is mended: somebody deleted or restored a file that a backend was using.
            text = f"the registry no longer named living workers and was rebuilt from them: {names}"
            context.record_error("registry", "registry_incomplete", text, phase="reconciliation")

    def _follow_logs(self) -> None:
        limits, folder = self._context.settings.logs, self._context.home.logs
        publishing = self._has_subscribers("logs")
        files = _log_files(folder)
        for source in self.sources():
            found = files.get(f"{source}.log")
            if found is None:
                self._positions[source] = (0, 0)
                continue
            inode, position = self._positions.get(source, (0, 0))
            if inode != found.st_ino or found.st_size < position:
                position = 0  # a new run, or the file was emptied by rotation
            size = found.st_size
            if size > position:
                path = log_path(folder, source)
                position = self._publish_lines(source, path, position, size) if publishing else size
            if found.st_size > limits.max_bytes:
                rotate_if_large(folder, source, max_bytes=limits.max_bytes, keep=limits.keep)
                position = 0
            self._positions[source] = (found.st_ino, position)

    def _end(self, source: str) -> tuple[int, int]:
        """Return inode and size of a log file as it is now."""
        try:
            found = log_path(self._context.home.logs, source).stat()
        except FileNotFoundError:
            return (0, 0)
        return (found.st_ino, found.st_size)

    def _publish_lines(self, source: str, path: Path, position: int, size: int) -> int:
        """Publish the complete lines between `position` and `size`; return the new position.

        A position in the middle of a line, left from when nobody subscribed, begins with the next line.
        """
        skipped = max(0, size - position - MAX_FOLLOW_BYTES)
        with path.open("rb") as file:
            file.seek(max(0, position - 1))
            mid_line = position > 0 and file.read(1) != b"\n"
            dropped = file.read(skipped).count(b"\n")
            data = file.read(size - position - skipped)
        whole, newline, rest = data.rpartition(b"\n")
        if not newline:
            return position
        if mid_line and not skipped:
            whole = whole.partition(b"\n")[2]
        if whole:
            lines = redact(whole.decode("utf-8", "replace")).split("\n")
            self._publish(LogLines(source, lines, time.time(), dropped), "logs")
        return size - len(rest)


def _log_files(folder: Path) -> dict[str, os.stat_result]:
    """Return the log files by name, with one scan of the folder however many specialists there are."""
    found: dict[str, os.stat_result] = {}
    with os.scandir(folder) as files:
        for file in files:
            if file.name.endswith(".log"):
                with contextlib.suppress(FileNotFoundError):  # renamed just now, because a new run begins
                    found[file.name] = file.stat()
    return found
