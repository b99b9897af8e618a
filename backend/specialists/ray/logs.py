"""Copies of the log files that actors write on their nodes, in this home's log folder, where everything reads them.

Fetched only when somebody reads them, and once more when an actor has died. Knows files and actors, no rows.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from backend.specialists.logs import begin_log, log_path
from backend.specialists.ray.head import Head, HeadSilent, future_of

log = logging.getLogger(__name__)

MAX_PIECE_BYTES = 256 * 1024
"""Most that is fetched at once; the newest, if there is more."""
FETCH_TIMEOUT_S = 3.0
LAST_LOG_TIMEOUT_S = 10.0
"""How long fetching the log of a dead actor may take: Ray has to start a process on its node for it."""


class Piece(Struct):
    """Bytes of a log file from byte `start` on; `end` is where the next piece begins."""

    start: int
    end: int
    data: bytes


class _Copy(Struct):
    """How far the log of one actor, at `path` on `node`, was copied."""

    node: str
    path: str
    position: int = 0


def read_piece(path: str, after: int) -> bytes:
    """Return what a file holds after byte `after`, a `Piece` as JSON. Runs on the node that has the file."""
    try:
        with open(path, "rb") as file:
            end = file.seek(0, os.SEEK_END)
            start = max(min(after, end), end - MAX_PIECE_BYTES)
            file.seek(start)
            piece = Piece(start, end, file.read(end - start))
    except OSError:
        piece = Piece(after, after, b"")
    return msgspec.json.encode(piece)


class RayLogs:
    """The log files of one home's actors. Used from one event loop."""

    def __init__(self, head: Head, folder: Path) -> None:
        self._head, self._folder = head, folder
        self._copies: dict[str, _Copy] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        """One fetch of a specialist at a time: a second one would append the same bytes again."""
        self._file_lock = threading.Lock()
        """A run that begins renames the file of the run before, to which the last lines of that one may just be written."""

    async def begin(self, ai_id: str, header: str, node: str, path: str, *, new_run: bool) -> None:
        """Begin a specialist's file with a header line; for a `new_run` the file of the run before is kept beside it."""
        await asyncio.to_thread(self._begin, ai_id, _Copy(node, path), header, new_run)

    async def fetch(self, ai_id: str, actor: Any) -> None:
        """Append what a live actor wrote since the last time; nothing if it does not answer."""
        copy = self._copies.get(ai_id)
        if copy is None or not copy.path:
            return
        async with self._locks.setdefault(ai_id, asyncio.Lock()):
            try:
                async with asyncio.timeout(FETCH_TIMEOUT_S):
                    text = await future_of(actor.output.remote(copy.position))
            except (TimeoutError, self._head.ray.exceptions.RayError) as error:
                log.info("the log of %s could not be fetched: %s", ai_id, type(error).__name__)
                return
            await asyncio.to_thread(self._append, ai_id, copy, text)

    async def fetch_last(self, ai_id: str) -> Path:
        """Append what a dead actor had written, if its node answers; return the file that holds it."""
        copy = self._copies.get(ai_id)
        if copy is None or not copy.path:
            return log_path(self._folder, ai_id)
        async with self._locks.setdefault(ai_id, asyncio.Lock()):
            try:
                async with asyncio.timeout(LAST_LOG_TIMEOUT_S):
                    if (reading := await asyncio.to_thread(self._read_on_node, copy)) is None:
                        return self._file_of(ai_id, copy)
                    text = await future_of(reading)
            except (TimeoutError, HeadSilent, self._head.ray.exceptions.RayError) as error:
                log.warning("the last log lines of %s could not be fetched: %s", ai_id, type(error).__name__)
                return self._file_of(ai_id, copy)
            return await asyncio.to_thread(self._append, ai_id, copy, text)

    def _read_on_node(self, copy: _Copy) -> Any:
        """Start a task of Ray that reads the file on its node; return its reference, `None` if the node is gone."""
        if not any(node.id == copy.node and node.alive for node in self._head.nodes()):
            return None
        pinned = self._head.ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            copy.node, soft=False
        )
        task = self._head.ray.remote(read_piece).options(
            # No CPU: a node that is full must still give out its logs.
            num_cpus=0,
            max_retries=0,
            scheduling_strategy=pinned,
        )
        return self._head.ask(task.remote, copy.path, copy.position)

    def _begin(self, ai_id: str, copy: _Copy, header: str, new_run: bool) -> None:
        with self._file_lock:
            self._copies[ai_id] = copy
            if new_run:
                descriptor = begin_log(self._folder, ai_id)
            else:
                path = log_path(self._folder, ai_id)
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} placed on {header}\n")

    def _append(self, ai_id: str, copy: _Copy, text: bytes) -> Path:
        piece = msgspec.json.decode(text, type=Piece)
        left_out = piece.start - copy.position
        copy.position = piece.end
        with self._file_lock:
            path = self._file_of(ai_id, copy)
            if piece.data:
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
                with open(descriptor, "wb") as file:
                    if left_out > 0:
                        file.write(b"... %d bytes were left out ...\n" % left_out)
                    file.write(piece.data)
        return path

    def _file_of(self, ai_id: str, copy: _Copy) -> Path:
        """Return the file of a copy: the previous one if the specialist was launched again meanwhile."""
        return log_path(self._folder, ai_id, previous=self._copies.get(ai_id) is not copy)
