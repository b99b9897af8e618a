"""`tekton acp NAME`: a specialist, the team or a pipeline as an agent of an editor, over stdin and stdout.

The editor starts the process and speaks the Agent Client Protocol with it; the backend does the work. stdout carries
nothing but the protocol's lines, everything else goes to stderr. A closed stdin, TERM or INT end the turns and the process.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from asyncio.streams import FlowControlMixin
from typing import cast

from backend import grammar
from backend.acp.peer import Peer
from backend.cli.command import SPECIALISTS, argument, command
from backend.cli.editor.agent import EditorAgent
from backend.cli.editor.prompt import Target
from backend.cli.exit_codes import OK
from backend.cli.runner import attached
from backend.cli.stdio import Writer, ended_by_signals, flush, open_stdin, open_stdout
from backend.client import Client
from backend.schema.errors import TektonError
from backend.schema.params import GetSpecialist, ListSavedPipelines

READ_BYTES = 64 * 1024
FINISH_S = 2.0
"""Seconds the end waits for cancellations that are on their way, and for answers to what was accepted."""
MAX_UNREAD = 8 * 1024 * 1024
"""Bytes that an editor may leave unread before it is taken for dead."""
OF_MANY = "team"
OPERATORS = set("|{<>")
"""What a pipeline has and no name."""


@command(
    "acp",
    argument(
        "name",
        values=(SPECIALISTS,),
        help="a specialist, `team`, the name of a saved pipeline, or a pipeline such as 'apollo | athena'",
    ),
    examples=[
        ("tekton acp apollo", 'in Zed: "command": "tekton", "args": ["acp", "apollo"]'),
        ("tekton acp team", "everybody that runs"),
        ("tekton acp 'apollo | athena \"shorter\"'", "one after another"),
    ],
)
async def acp(options: argparse.Namespace) -> int:
    """Serve the Agent Client Protocol over stdin and stdout, for editors that start their agents themselves: Zed,
    JetBrains, Neovim, Toad. The editor's sessions are conversations of the platform.
    """
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="tekton acp: %(message)s")
    async with attached(start=True) as client:
        agent = EditorAgent(client, await find_target(client, options.name))
        await client.subscribe(["chat", "tools", "asks", "pipes"])
        pumping = asyncio.create_task(agent.pump())
        try:
            with ended_by_signals():
                await _serve(agent)
        finally:
            pumping.cancel()
    return OK


async def _serve(agent: EditorAgent) -> None:
    gone = _Gone()
    reader, writer = await open_stdin(READ_BYTES), await open_stdout(gone)
    unread = _Unread(writer, gone)
    agent.peer, agent.drain = Peer(unread.write, agent), writer.drain
    try:
        reading = asyncio.create_task(_read(reader, agent.peer))
        leaving = asyncio.create_task(gone.left.wait())
        try:
            await asyncio.wait([reading, leaving], return_when=asyncio.FIRST_COMPLETED)
        finally:
            reading.cancel()
            leaving.cancel()
    finally:
        await agent.finish(FINISH_S)
        agent.peer.close("the editor is gone")
        if unread.why:
            cast("asyncio.StreamWriter", writer).transport.abort()
        else:
            await flush(writer)
            writer.close()
    if unread.why:
        raise TektonError(unread.why, code="timeout")


async def _read(reader: asyncio.StreamReader, peer: Peer) -> None:
    while data := await reader.read(READ_BYTES):
        peer.feed(data)


class _Unread:
    """Writes lines to stdout while what waits there is bounded. `why` says that it was not: nothing is written any more."""

    def __init__(self, writer: Writer, gone: _Gone) -> None:
        self._writer, self._gone = writer, gone
        self.why = ""

    def write(self, line: bytes) -> None:
        writer = self._writer
        if self.why:
            return
        if isinstance(writer, asyncio.StreamWriter):
            waiting = writer.transport.get_write_buffer_size()
            if waiting > MAX_UNREAD:
                self.why = (
                    f"the editor does not read what it is sent: {waiting:,} bytes wait for it. "
                    "What it asked is cancelled; start the agent again in the editor"
                )
                self._gone.left.set()
                return
        writer.write(line)


class _Gone(FlowControlMixin):
    """The protocol of stdout, which says when nobody reads it any more."""

    def __init__(self) -> None:
        super().__init__()
        self.left = asyncio.Event()

    def connection_lost(self, exc: Exception | None) -> None:
        """Learn that the reader of stdout left."""
        super().connection_lost(exc)
        self.left.set()


async def find_target(client: Client, name: str) -> Target:
    """Return whom a name means.

    Raises:
        TektonError: It means nobody, or is no pipeline.
    """
    if name == OF_MANY:
        return Target("team", name, OF_MANY)
    if OPERATORS & set(name):
        grammar.parse(name)
        return Target("pipeline", name, "", name)
    try:
        found = (await client.call(GetSpecialist(id=name))).id
        return Target("specialist", found, found)
    except TektonError as error:
        if error.code != "unknown_specialist":
            raise
        saved = (await client.call(ListSavedPipelines())).saved
        for row in saved:
            if row.name == name:
                return Target("pipeline", name, "", row.pipeline)
        raise
