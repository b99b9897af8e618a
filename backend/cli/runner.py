"""How a command runs: its connection to the backend, what ends it early, and what an error becomes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncGenerator, Callable, Coroutine
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from backend.cli import terminal
from backend.cli.entry_points import raise_keyboard_interrupt
from backend.cli.exit_codes import CANCELLED, SIGNALLED, exit_code
from backend.schema.errors import InvalidRequest, TektonError
from backend.schema.variables import misspelt

if TYPE_CHECKING:
    from backend.client import Client
    from backend.schema.params import Params

R = TypeVar("R")


@contextlib.asynccontextmanager
async def attached(*, start: bool) -> AsyncGenerator[Client]:
    """Yield a client of the home's backend, started when `start` says so, or of the gateway on another machine.

    Raises:
        TektonError: None runs, or it could not be started.
    """
    # imported late, as in many commands: `--help` and a misspelt option must not wait for sockets and codecs
    from backend.client import CA_FILE, TOKEN_FILE, attach, connect_to
    from backend.home import Home

    if url := remote_gateway():
        client = await connect_to(url, os.environ.get(TOKEN_FILE), os.environ.get(CA_FILE))
    else:
        client = await attach(Home.from_environment(), start=start)
    terminal.gateway_ahead_s = client.ahead_s
    try:
        yield client
    finally:
        await client.close()


def remote_gateway() -> str:
    """Return the address of the gateway on another machine that commands go to; empty for this home's."""
    return os.environ.get("TEKTON_CONNECT", "")


def here_only(what: str) -> None:
    """Refuse what looks at this machine's own home, when commands go to another one: its answer would be of the wrong host.

    Raises:
        TektonError: `--connect` or TEKTON_CONNECT names a gateway (`invalid_request`).
    """
    if url := remote_gateway():
        raise InvalidRequest(
            f"{what} is about this machine's own home, not about the gateway at {url}: run it there, or leave --connect "
            "(TEKTON_CONNECT) out"
        )


async def call(params: Params[R], *, start: bool = False) -> R:
    """Call one action and return its result; `start` starts a backend when none runs."""
    async with attached(start=start) as client:
        return await client.call(params)


def run(work: Callable[[], Coroutine[Any, Any, int] | int]) -> int:
    """Run a command to its exit code; an error is one line on stderr that says what to do."""
    # from here on ctrl-c has something to tidy up: turns are cancelled at the backend
    raise_keyboard_interrupt()
    ended_by: list[int] = []
    try:
        if wrong := misspelt(os.environ):
            raise TektonError(wrong, code="config_invalid")
        code = work()
        return code if isinstance(code, int) else asyncio.run(_until_signal(code, ended_by))
    except TektonError as error:
        return report(error)
    except KeyboardInterrupt:
        terminal.drop_unread()
        return CANCELLED
    except asyncio.CancelledError:
        if not ended_by:
            raise
        return SIGNALLED + ended_by[0]
    except OSError as error:
        return terminal.unwritten(error)


async def _until_signal(work: Coroutine[Any, Any, int], ended_by: list[int]) -> int:
    """Run a command; TERM and HUP cancel it as ctrl-c does, so that the turns it waits for are cancelled, too.

    They do so also where the loop stands still because nobody reads what was written: a handler of the loop would not run
    then, and a write that is interrupted is tried again.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    interrupted: Any = signal.getsignal(signal.SIGINT)

    def end(number: int, frame: FrameType | None) -> None:
        ended_by.append(number)
        terminal.drop_unread()
        loop.call_soon_threadsafe(task.cancel)

    def interrupt(number: int, frame: FrameType | None) -> None:
        terminal.drop_unread()
        interrupted(number, frame)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, end)
    if not callable(interrupted):
        return await work
    signal.signal(signal.SIGINT, interrupt)
    try:
        return await work
    finally:
        signal.signal(signal.SIGINT, interrupted)


def report(error: TektonError) -> int:
    """Write an error to stderr and return its exit code."""
    terminal.error(error.message)
    if error.evidence:
        terminal.error(f"  it said: {' '.join(error.evidence.split())[:500]}")
    return exit_code(error.code)


def silent_backend(error: TektonError) -> int:
    """Return the pid of this home's backend when an error says that it runs and does not answer, else 0."""
    pid = error.detail.get("pid")
    return pid if error.code == "timeout" and isinstance(pid, int) else 0


def unreachable(error: TektonError) -> bool:
    """Return whether an error says that this home's backend cannot be asked: none runs, or it does not answer."""
    return not remote_gateway() and (error.code == "backend_lost" or silent_backend(error) > 0)
