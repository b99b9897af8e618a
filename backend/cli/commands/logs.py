"""`tekton logs`: the log of a process, read from its file here or through the gateway from the host it runs on."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from typing import TYPE_CHECKING

from backend.cli.command import SPECIALISTS, argument, command, count
from backend.cli.exit_codes import OK
from backend.cli.runner import attached, call, remote_gateway, unreachable
from backend.schema.errors import TektonError
from backend.schema.params import GetLogs
from backend.schema.results import LogText
from backend.suggest import nearest

if TYPE_CHECKING:
    from backend.home import Home

FOLLOW_EVERY_S = 0.3
PLATFORM_LOGS = ("backend", "embedded", "control-audit")
"""Logs of no specialist; they are read here, where the command line runs."""
TAIL_BYTES = 1 << 20
"""How much of the end of a followed log is read for its newest lines."""


@command(
    "logs",
    argument("name", values=(SPECIALISTS,), help="a specialist, backend, embedded or control-audit"),
    argument("-f", "--follow", action="store_true", help="print new lines as they are written"),
    argument("--tail", type=count, default=200, help="lines (default 200)"),
    argument("--previous", action="store_true", help="of the run before this one"),
    examples=[("tekton logs apollo --tail 20", "the newest lines")],
)
async def logs(options: argparse.Namespace) -> int:
    """Print the newest lines of a process's log. `backend`, `embedded` and `control-audit` have logs, too."""
    from backend.home import Home

    home = Home.from_environment()
    wanted = (home, options.name, options.tail, options.previous)
    if options.name in PLATFORM_LOGS and not remote_gateway():
        lines, path = await asyncio.to_thread(_read_log, *wanted)
    else:
        try:
            log = await call(GetLogs(id=options.name, tail=options.tail, previous=options.previous))
            if options.follow and (log.remote or remote_gateway()):
                return await _follow_remote(log)
            lines, path = log.lines, log.path
        except TektonError as error:
            if error.code == "unknown_specialist" and (near := nearest(options.name, PLATFORM_LOGS)):
                raise TektonError(
                    f"there is no log of {options.name!r}; did you mean {near[0]!r}?", code="not_found"
                ) from error
            if not unreachable(error):
                raise
            lines, path = await asyncio.to_thread(_read_log, *wanted)
    if options.follow:
        await _follow(path, options.tail)
    for line in lines:
        print(line)
    return OK


def _read_log(home: Home, name: str, tail: int, previous: bool) -> tuple[list[str], str]:
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
    # a log holds what processes wrote, which need not be UTF-8
    with open(path, encoding="utf-8", errors="replace") as first:  # noqa: ASYNC230
        first.seek(max(0, os.fstat(first.fileno()).st_size - TAIL_BYTES))
        there = first.read().splitlines(keepends=True)
        _write("".join(there[-tail:]))
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
            # the log was turned: under its name stands another file now
            if now != inode:
                file, inode = open(path, encoding="utf-8", errors="replace"), now  # noqa: ASYNC230, SIM115


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


async def _follow_remote(log: LogText) -> int:
    """Print the newest lines of a log on another host, then those that the gateway sends; until interrupted."""
    from backend.client import ConnectionChanged
    from backend.schema.events import LogLines

    async with attached(start=False) as client:
        _write("".join(f"{line}\n" for line in log.lines))
        await client.subscribe(["logs"])
        async for batch in client.events():
            for _, event in batch:
                if isinstance(event, LogLines) and event.source == log.source:
                    _write("".join(f"{line}\n" for line in event.lines))
                elif isinstance(event, ConnectionChanged) and event.state == "lost":
                    raise TektonError(
                        f"the connection to the log was lost: {event.reason}", code="backend_lost"
                    )
    return OK
