"""What actors write on their nodes, brought into this home's log files, where everything else reads it.

Asked for only when somebody reads, and once more when an actor has died. Knows files and actors, no rows and no links.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from backend.specialists.logs import begin_log, log_path
from backend.specialists.ray_head import Head, HeadSilent, future_of

log = logging.getLogger(__name__)

MAX_PIECE_BYTES = 256 * 1024
"""Most that is brought at once; of more, the newest."""
FETCH_S = 3.0
LAST_WORDS_S = 10.0
"""Seconds a node gets to hand out what a dead actor left; a process has to start for it there."""


class Piece(Struct):
    """Bytes of a log file from `start` on; `end` is where the next piece begins."""

    start: int
    end: int
    data: bytes


class Mirror(Struct):
    """How far the log of one actor was brought here."""

    node: str
    path: str
    place: int = 0


def read_piece(path: str, after: int) -> bytes:
    """Return a `Piece` as JSON: what a file holds beyond a place. Runs on the node that has the file."""
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
        self._mirrors: dict[str, Mirror] = {}
        self._busy: dict[str, asyncio.Lock] = {}

    async def begin(self, ai_id: str, where: str, node: str, path: str, *, anew: bool) -> None:
        """Begin a specialist's file with where it runs; with `anew` the file of an earlier run is kept beside it."""
        self._mirrors[ai_id] = Mirror(node, path)
        await asyncio.to_thread(self._begin, ai_id, where, anew)

    async def fetch(self, ai_id: str, actor: Any) -> None:
        """Bring what a living actor wrote since the last time; nothing comes of one that does not answer."""
        mirror = self._mirrors.get(ai_id)
        if mirror is None or not mirror.path:
            return
        async with self._busy.setdefault(ai_id, asyncio.Lock()):
            try:
                async with asyncio.timeout(FETCH_S):
                    text = await future_of(actor.output.remote(mirror.place))
            except (TimeoutError, self._head.ray.exceptions.RayError) as error:
                log.info("the log of %s was not to be had: %s", ai_id, type(error).__name__)
                return
            await asyncio.to_thread(self._add, ai_id, mirror, text)

    async def fetch_last(self, ai_id: str) -> None:
        """Bring what a dead actor had written, from its node, if that lives."""
        mirror = self._mirrors.get(ai_id)
        if mirror is None or not mirror.path:
            return
        async with self._busy.setdefault(ai_id, asyncio.Lock()):
            try:
                async with asyncio.timeout(LAST_WORDS_S):
                    text = await future_of(await asyncio.to_thread(self._ask_node, mirror))
            except (TimeoutError, HeadSilent, self._head.ray.exceptions.RayError) as error:
                log.info("the last log lines of %s were not to be had: %s", ai_id, type(error).__name__)
                return
            await asyncio.to_thread(self._add, ai_id, mirror, text)

    def _ask_node(self, mirror: Mirror) -> Any:
        pinned = self._head.ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            mirror.node, soft=False
        )
        task = self._head.ray.remote(read_piece).options(
            num_cpus=0, max_retries=0, scheduling_strategy=pinned
        )
        return self._head.ask(task.remote, mirror.path, mirror.place)

    def _begin(self, ai_id: str, where: str, anew: bool) -> None:
        if anew:
            descriptor = begin_log(self._folder, ai_id)
        else:
            path = log_path(self._folder, ai_id)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} placed on {where}\n")

    def _add(self, ai_id: str, mirror: Mirror, text: bytes) -> None:
        piece = msgspec.json.decode(text, type=Piece)
        left_out = piece.start - mirror.place
        mirror.place = piece.end
        if not piece.data:
            return
        descriptor = os.open(
            log_path(self._folder, ai_id), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        with open(descriptor, "wb") as file:
            if left_out > 0:
                file.write(b"... %d bytes were left out ...\n" % left_out)
            file.write(piece.data)
