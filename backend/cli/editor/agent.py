"""An agent for editors: sessions of the Agent Client Protocol are conversations of the platform, its prompts turns.

Knows no process: lines come and go through a `Peer`, the platform through a `Client`. One prompt is one turn; nothing is
asked twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
from msgspec import Struct

import backend
from backend.acp import messages as acp
from backend.acp import wire
from backend.acp.peer import Peer, PeerClosed, RpcFailure, read_params, unknown
from backend.acp.wire import BadLine
from backend.cli.editor.prompt import Prompt, Target
from backend.cli.editor.updates import SessionUpdate, failure, folder_of, read_blocks, replayed
from backend.cli.event_listener import reader_of
from backend.client import Client, ConnectionChanged
from backend.schema.errors import TektonError
from backend.schema.events import AskClosed
from backend.schema.params import CreateSession, GetSession, ListMessages, ListSessions
from backend.schema.records import StoredMessage
from backend.tasks import Background

log = logging.getLogger(__name__)

PAGE = 200
"""Messages that are read of a conversation at a time."""
LISTED = 200
"""Conversations that a list names, the newest."""


class EditorAgent:
    """Serves one editor. Run `pump` beside it, and give it its `peer` and `drain` before the first line comes."""

    def __init__(self, client: Client, target: Target) -> None:
        self.client, self._target = client, target
        self.peer: Peer
        self.drain: Callable[[], Awaitable[None]]
        """Waits until the editor has read most of what it was sent."""
        self._folders: dict[str, str] = {}
        """Working folders of the sessions, as the editor said them."""
        self._prompts: dict[str, Prompt] = {}
        self._tasks = Background()

    async def pump(self) -> None:
        """Give each event to the prompt it belongs to, until the connection to the backend is closed."""
        async for batch in self.client.events():
            for _, event in batch:
                if isinstance(event, ConnectionChanged) and event.state == "lost":
                    for prompt in self._prompts.values():
                        prompt.lost(event.reason)
                elif prompt := self._prompt_of(event):
                    prompt.take(event)

    async def finish(self, timeout_s: float) -> None:
        """Cancel what runs and wait until the platform and the editor know, at most so long."""
        for prompt in list(self._prompts.values()):
            prompt.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.peer.settled()
                await self._tasks.settled()

    # what the editor asks

    async def on_request(self, method: str, params: msgspec.Raw) -> Struct:
        """Answer a request of the editor."""
        try:
            match method:
                case acp.INITIALIZE:
                    return self._initialize()
                case acp.SESSION_NEW:
                    return await self._new(read_params(params, acp.NewSession))
                case acp.SESSION_LOAD | acp.SESSION_RESUME | acp.SESSION_LIST if (
                    self._target.kind == "pipeline"
                ):
                    raise unknown(method)
                case acp.SESSION_LOAD:
                    return await self._load(read_params(params, acp.LoadSession), replay=True)
                case acp.SESSION_RESUME:
                    return await self._load(read_params(params, acp.LoadSession), replay=False)
                case acp.SESSION_LIST:
                    return await self._list(read_params(params, acp.ListSessions))
                case acp.SESSION_CLOSE:
                    self._cancel_session(read_params(params, acp.SessionId).session_id)
                    return acp.Empty()
                case acp.SESSION_PROMPT:
                    return await self._prompt(read_params(params, acp.Prompt))
                case _:
                    raise unknown(method)
        except TektonError as error:
            raise failure(error) from error

    def on_notification(self, method: str, params: msgspec.Raw) -> None:
        """Take a notification of the editor; unknown ones are ignored."""
        if method == acp.SESSION_CANCEL:
            self._cancel_session(msgspec.json.decode(params, type=acp.SessionId).session_id)

    def on_bad_line(self, line: BadLine) -> None:
        """Log a line that could not be used."""
        log.warning("a line of the editor was left out: %s", line.why)

    def _initialize(self) -> acp.Initialized:
        remembers = self._target.kind != "pipeline"
        abilities = acp.AgentAbilities(
            load_session=remembers,
            prompt_capabilities=acp.PromptAbilities(
                image=self._target.kind == "specialist", embedded_context=True
            ),
            session_capabilities=acp.SessionAbilities(list={}, resume={}, close={})
            if remembers
            else acp.SessionAbilities(close={}),
        )
        named = acp.Named("tekton", backend.__version__, f"tekton: {self._target.name}")
        return acp.Initialized(acp.PROTOCOL_VERSION, abilities, [], named)

    async def _new(self, params: acp.NewSession) -> acp.SessionOpened:
        folder = folder_of(params.cwd)
        if self._target.kind == "pipeline":
            name = f"run-{uuid4().hex[:16]}"
        else:
            name = (await self.client.call(CreateSession(owner=self._target.owner))).id
        self._folders[name] = folder
        return acp.SessionOpened(name)

    async def _load(self, params: acp.LoadSession, *, replay: bool) -> acp.SessionOpened:
        folder = folder_of(params.cwd)
        session = await self.client.call(GetSession(id=params.session_id))
        if session.owner != self._target.owner:
            text = f"the conversation {session.id} belongs to {session.owner}, not to {self._target.name}"
            raise RpcFailure(acp.NOT_FOUND, text)
        if replay:
            for message in await self._messages(session.id):
                for update in replayed(message):
                    self.update(session.id, update)
                await self.drain()
        self._folders[session.id] = folder
        return acp.SessionOpened()

    async def _messages(self, session_id: str) -> list[StoredMessage]:
        found: list[StoredMessage] = []
        while True:
            before = found[0].id if found else None
            page = (
                await self.client.call(ListMessages(id=session_id, before_id=before, limit=PAGE))
            ).messages
            found = [*page, *found]
            if len(page) < PAGE:
                return found

    async def _list(self, params: acp.ListSessions) -> acp.Sessions:
        rows = (await self.client.call(ListSessions(owner=self._target.owner, limit=LISTED))).sessions
        here = params.cwd or str(Path.cwd())
        return acp.Sessions(
            [
                acp.ListedSession(
                    row.id,
                    self._folders.get(row.id, here),
                    row.title or None,
                    datetime.fromtimestamp(row.updated_at, UTC).isoformat(timespec="seconds"),
                )
                for row in rows
            ]
        )

    async def _prompt(self, params: acp.Prompt) -> acp.Prompted:
        if params.session_id not in self._folders:
            raise RpcFailure(acp.NOT_FOUND, f"the session {params.session_id!r} is not open here: load it")
        text, pictures = read_blocks(params.prompt)
        if pictures and self._target.kind != "specialist":
            raise RpcFailure(wire.INVALID_PARAMS, "pictures can be sent to one specialist only")
        prompt = Prompt(self, params.session_id, self._target)
        self._prompts[prompt.request_id] = prompt
        try:
            return await prompt.run(text, pictures)
        except asyncio.CancelledError:  # the editor took the request back, or is gone
            prompt.cancel()
            raise
        finally:
            del self._prompts[prompt.request_id]
            prompt.close()

    def _cancel_session(self, session_id: str) -> None:
        for prompt in self._prompts.values():
            if prompt.session_id == session_id:
                prompt.cancel()

    # for prompts

    def update(self, session_id: str, update: Struct) -> None:
        """Send the editor an update of a session."""
        self.peer.notify(acp.SESSION_UPDATE, SessionUpdate(session_id, update))

    def soon(self, work: Callable[[], Any]) -> asyncio.Task[None]:
        """Run something in the background; what the platform or the editor refuses is logged."""

        async def run() -> None:
            try:
                await work()
            except (TektonError, PeerClosed) as error:
                log.info("%s", error)
            except RpcFailure as error:
                log.warning("the editor refused: %s", error.message)

        return self._tasks.start(run(), "for the editor")

    def _prompt_of(self, event: Any) -> Prompt | None:
        """Find the prompt of an event."""
        if isinstance(event, AskClosed):
            return next((one for one in self._prompts.values() if event.id in one.asks), None)
        return reader_of(event, self._prompts)
