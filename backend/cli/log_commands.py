"""`tekton logs`: what a process wrote, from its file here, or through the gateway from wherever it runs."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from typing import Any

from backend.cli import terminal
from backend.cli.calling import attached, call, elsewhere
from backend.cli.exit_codes import OK
from backend.schema.errors import TektonError

FOLLOW_EVERY_S = 0.3
PLATFORM_LOGS = ("backend", "embedded", "control-audit")
"""Logs that belong to no specialist; they are read here, where the command line runs."""
TAIL_BYTES = 1 << 20
"""Of a followed log, how much of its end is looked at for the newest lines."""


async def logs(options: argparse.Namespace) -> int:
    """Print what a process wrote; with `-f` go on as it writes."""
    from backend.home import Home

    home = Home.from_environment()
    wanted = (home, options.name, options.tail, options.previous)
    if options.name in PLATFORM_LOGS and not elsewhere():
        lines, path = await asyncio.to_thread(_read_log, *wanted)
    else:
        try:
            answer = await call(
                "specialist_logs", id=options.name, tail=options.tail, previous=options.previous
            )
            if options.follow and (answer["remote"] or elsewhere()):
                return await _follow_there(answer, options.tail)
            lines, path = answer["lines"], answer["path"]
        except TektonError as error:
            if error.code != "backend_lost" or elsewhere():
                raise
            lines, path = await asyncio.to_thread(_read_log, *wanted)
    if options.follow:
        await _follow(path, options.tail)
    for line in lines:
        print(terminal.shown(line))
    return OK


def _read_log(home: Any, name: str, tail: int, previous: bool) -> tuple[list[str], str]:
    """Read a log file directly, for when no backend runs."""
    names = (name, f"{name}-ai")
    suffix = ".previous.log" if previous else ".log"
    for candidate in names:
        path = home.logs / f"{candidate}{suffix}"
        if path.exists():
            return path.read_text(encoding="utf-8", errors="replace").splitlines()[-tail:], str(path)
    raise TektonError(f"there is no log of {name!r} in {home.logs}", code="not_found")


async def _follow(path: str, tail: int) -> None:
    """Print a file's newest lines and what is appended, until interrupted; a new file is read from its start."""
    with open(path, encoding="utf-8", errors="replace") as first:  # noqa: ASYNC230
        first.seek(max(0, os.fstat(first.fileno()).st_size - TAIL_BYTES))
        there = first.read().splitlines(keepends=True)
        _write("".join(there[-tail:] if tail > 0 else []))
        file, inode = first, os.fstat(first.fileno()).st_ino
        while True:
            if text := file.read():
                _write(text)
                continue
            await asyncio.sleep(FOLLOW_EVERY_S)
            try:
                now = os.stat(path).st_ino
            except FileNotFoundError:
                continue
            if now != inode:
                file, inode = open(path, encoding="utf-8", errors="replace"), now  # noqa: ASYNC230, SIM115


def _write(text: str) -> None:
    sys.stdout.write(terminal.shown(text))
    sys.stdout.flush()


async def _follow_there(answer: dict[str, Any], tail: int) -> int:
    """Print the newest lines of a log the gateway brings from another host, and what comes; until interrupted."""
    from backend.client import ConnectionChanged
    from backend.schema.events import LogLines

    source = answer["source"]
    async with attached(start=False) as client:
        _write("".join(f"{line}\n" for line in answer["lines"] if tail > 0))
        await client.subscribe(["logs"])
        async for batch in client.events():
            for _, event in batch:
                if isinstance(event, LogLines) and event.source == source:
                    _write("".join(f"{line}\n" for line in event.lines))
                elif isinstance(event, ConnectionChanged) and event.state == "lost":
                    raise TektonError(
                        f"the log is not followed any more: {event.reason}", code="backend_lost"
                    )
    return OK
