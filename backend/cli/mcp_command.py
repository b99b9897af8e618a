"""`tekton mcp`: MCP over stdin and stdout, for desktop clients that start their servers themselves.

The same tools as `/mcp`; this process only translates, all work is done in the backend of the home.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
import time
from typing import Any

from backend.cli.calling import attached
from backend.cli.exit_codes import OK

FINISH_S = 2.0
"""How long the end waits for the gateway to hear what was given up."""


async def mcp(options: argparse.Namespace) -> int:
    """Serve one client until it closes our stdin, or asks us to end."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="tekton mcp: %(message)s")
    async with attached(start=True) as client:
        from backend.cli.mcp_caller import RemoteCaller
        from backend.cli.mcp_pipes import stdio_pipes
        from backend.gateway.mcp.server import make_server

        caller = RemoteCaller(client)
        pumping = asyncio.create_task(caller.pump())
        server = make_server(caller, lambda _: options.scope, time.monotonic, _ignore)
        try:
            with _ended_by_signals():
                async with stdio_pipes() as (reading, writing):
                    await server.run(reading, writing, server.create_initialization_options())
        finally:
            await caller.finish(FINISH_S)
            pumping.cancel()
    return OK


@contextlib.contextmanager
def _ended_by_signals() -> Any:
    """Let TERM and INT end the serving as a closed stdin does, so that nothing asked runs on unheard."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    ended = False

    def end() -> None:
        nonlocal ended
        ended = True
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    try:
        yield
    except asyncio.CancelledError:
        if not ended:
            raise
        task.uncancel()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _ignore(*_: Any) -> None:
    """The gateway writes down what was called; here there is nothing to note."""
