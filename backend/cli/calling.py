"""How a command comes to the backend: attach, call, and what an error becomes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

from backend import interrupt
from backend.cli import terminal
from backend.cli.exit_codes import CANCELLED, NOT_RUNNING, PIPE_CLOSED, exit_code
from backend.schema.errors import TektonError

if TYPE_CHECKING:
    from backend.client import Client

NO_BACKEND = "no backend runs for this home; `tekton serve` or the console starts one"


@contextlib.asynccontextmanager
async def attached(*, start: bool) -> AsyncGenerator[Client]:
    """Yield a client of the home's backend, started when `start` says so, or of the gateway named elsewhere.

    Raises:
        TektonError: None runs, or it could not be started.
    """
    from backend.client import CA_FILE, TOKEN_FILE, attach, connect_to
    from backend.home import Home

    if url := elsewhere():
        client = await connect_to(url, os.environ.get(TOKEN_FILE), os.environ.get(CA_FILE))
    else:
        client = await attach(Home.from_environment(), start=start)
    try:
        yield client
    finally:
        await client.close()


def elsewhere() -> str:
    """Return the address of the gateway on another machine that commands go to; empty for this home's."""
    return os.environ.get("TEKTON_CONNECT", "")


async def call(action: str, *, start: bool = False, **params: Any) -> Any:
    """Call one action and return its result."""
    async with attached(start=start) as client:
        return await client.call(action, **params)


def run(work: Callable[[], Awaitable[int | None]]) -> int:
    """Run a command to its exit code; errors go to stderr as one line that says what to do."""
    interrupt.heard_from_here()
    try:
        return asyncio.run(_as_coroutine(work)) or 0
    except TektonError as error:
        return say(error)
    except KeyboardInterrupt:
        return CANCELLED
    except BrokenPipeError:
        _leave_quietly()
        return PIPE_CLOSED


def _leave_quietly() -> None:
    """Give what is still buffered to nobody: whoever read our output left, and that is no error of ours."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def say(error: TektonError) -> int:
    """Write an error to stderr and return its exit code."""
    text = error.message
    if error.code == "backend_lost" and not elsewhere():
        text = NO_BACKEND if "no backend" in text else f"{text}; {NO_BACKEND}"
    terminal.error(text)
    if error.evidence:
        terminal.error(f"  it said: {' '.join(error.evidence.split())[:500]}")
    return NOT_RUNNING if error.code == "backend_lost" else exit_code(error.code)


async def _as_coroutine(work: Callable[[], Awaitable[int | None]]) -> int | None:
    return await work()
