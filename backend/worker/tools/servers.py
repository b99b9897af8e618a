"""MCP servers of one worker: started, asked for their tools, called, and ended with it.

A server runs in one task of its own, in which its connection is opened and closed. The library is imported with the
first server. Nothing is restarted: a server that ended says so at every call, until its specialist is launched again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from msgspec import Struct

from backend.schema.content import ImagePart, TextPart, ToolResult, wrong_with
from backend.schema.frames import Request
from backend.schema.tools import ServerSpec
from backend.text import safe_line
from backend.worker.tools.guard import guarded
from backend.worker.tools.questions import NOBODY, Question, answer_of, question_of
from backend.worker.tools.stdio import pipes

if TYPE_CHECKING:
    from mcp import Client

log = logging.getLogger(__name__)

CLOSE_S = 6.0
"""How long a server may take to end: the library's own steps (end of input, TERM, KILL) take up to 4 s."""
LONGEST_S = 86_400.0
"""Time-out of a call that is given to the library, in seconds: its clock goes on while a person is asked, ours stops."""
WATCH_EVERY_S, CONNECT_S = 1.0, 5.0
"""Between two looks whether a server over HTTP still listens, and how long one may take."""
MAX_DESCRIPTION = 2_000
MAX_TOOLS = 128
"""Tools taken of one server; others are left out, and said so."""
MAX_PAGES = 64
"""Of a list of tools: a server may give the same page for ever."""
SETTLE_S = 0.2
"""How long a list that changed is let settle before it is read again: a server may say so without end."""

LIST_CHANGED = "notifications/tools/list_changed"

Changed = Callable[[], None]
Progress = Callable[[str], None]
Put = Callable[[Question], Awaitable[Request]]
"""Puts a question of a running tool to a person."""


class OfferedTool(Struct):
    """A tool as its server describes it. `read_only` is the server's word, no promise; `None` where it says nothing."""

    name: str
    description: str
    schema: dict[str, Any]
    read_only: bool | None = None


class ToolFailure(Exception):
    """A tool could not be run or its server does not answer; the text is for the model and the operator."""


class _Call:
    """A call under way: how its server's questions reach a person, and its clock."""

    def __init__(self, put: Put, limit: asyncio.Timeout, timeout_s: float) -> None:
        self._put, self.limit, self._timeout_s = put, limit, timeout_s
        self._open: set[asyncio.Future[Request]] = set()
        self._over = False

    async def ask(self, question: Question) -> Request:
        """Put a question; the clock stands still while any waits, and begins anew behind the last."""
        asking = asyncio.ensure_future(self._put(question))
        self._open.add(asking)
        # A person may think for minutes: the tool is not slow meanwhile.
        self.limit.reschedule(None)
        try:
            await asyncio.wait([asking])
            return Request(type="tool_verdict", option=NOBODY) if asking.cancelled() else asking.result()
        finally:
            asking.cancel()
            self._open.discard(asking)
            if not self._open and not self._over:
                self.limit.reschedule(asyncio.get_running_loop().time() + self._timeout_s)

    def end(self) -> None:
        """Give up what it asked: the call is over."""
        self._over = True
        for asking in self._open:
            asking.cancel()


_call: ContextVar[_Call | None] = ContextVar("call", default=None)
"""The call in whose task a question comes: with servers of the newer protocol it does."""


class ToolServer:
    """One server. `problem` says why it has no tools; empty while it serves."""

    def __init__(self, name: str, spec: ServerSpec, environment: Mapping[str, str], changed: Changed) -> None:
        self.name, self.spec = name, spec
        self._environment, self._changed = environment, changed
        self.tools: dict[str, OfferedTool] = {}
        self.problem = "it is being started"
        self.failed = False
        self._client: Client | None = None
        self._calls: list[_Call] = []
        """Under way."""
        self._task: asyncio.Task[None] | None = None
        self._leave = asyncio.Event()
        self._stale = asyncio.Event()
        """Set when the server says that its tools have changed."""
        self._started = asyncio.Event()

    async def start(self) -> None:
        """Start it and read its tools; returns when that is done or has failed, which `problem` then says."""
        # One task opens and closes the library's client: its cancel scopes may not be left in another than they
        # were entered in.
        self._task = asyncio.create_task(self._run(), name=f"tool server {self.name}")
        try:
            await asyncio.wait_for(self._started.wait(), self.spec.start_timeout_s)
        except TimeoutError:
            self._fail(f"it did not say its tools within {self.spec.start_timeout_s:g} s")
            self._task.cancel()

    async def call(self, tool: str, arguments: dict[str, Any], tell: Progress, put: Put) -> ToolResult:
        """Call a tool; cancelling this cancels the call at the server.

        What the tool asks of a person meanwhile goes to `put`; the clock of the call stands still until that is answered.

        Raises:
            ToolFailure: The server is gone, or did not answer in time.
        """
        from mcp import MCPError

        if self._client is None:
            raise ToolFailure(f"the tool server {self.name} does not serve: {self.problem}")

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            tell(safe_line(message) if message else f"{progress:g}{f' of {total:g}' if total else ''}")

        under_way = _Call(put, asyncio.timeout(self.spec.call_timeout_s), self.spec.call_timeout_s)
        self._calls.append(under_way)
        mine = _call.set(under_way)
        try:
            async with under_way.limit:
                result = await self._client.call_tool(
                    tool, arguments, read_timeout_seconds=LONGEST_S, progress_callback=on_progress
                )
        except TimeoutError as late:
            text = f"{self.name}: {tool} did not answer within {self.spec.call_timeout_s:g} s"
            raise ToolFailure(text) from late
        except MCPError as error:
            if not self.failed and (
                self._task is None or self._task.done() or "closed" in error.message.lower()
            ):
                self._fail(f"it ended: {safe_line(error.message)}")
            raise ToolFailure(f"{self.name}: {safe_line(error.message)}") from error
        except Exception as error:  # whatever the library meets in a server's answer costs this call only
            log.warning("%s: %s failed", self.name, tool, exc_info=error)
            raise ToolFailure(f"{self.name}: {type(error).__name__}: {safe_line(str(error))}") from error
        finally:
            under_way.end()
            _call.reset(mine)
            self._calls.remove(under_way)
        return read_result(result)

    async def _elicited(self, context: Any, params: Any) -> Any:
        """Put what the server asks to a person; what cannot be put, or belongs to no one call, is not answered."""
        from mcp_types import ElicitResult

        under_way = _call.get() or (self._calls[0] if len(self._calls) == 1 else None)
        schema = getattr(params, "requested_schema", None)
        form = cast(dict[str, Any], schema) if isinstance(schema, dict) else None
        question = None if form is None else question_of(params.message, form)
        if under_way is None or question is None:
            why = (
                "nobody can tell whose call it is"
                if under_way is None
                else "its form cannot be put to a person"
            )
            log.warning("%s asks, and %s", self.name, why)
            return ElicitResult(action="cancel" if under_way is None else "decline")
        watch = asyncio.create_task(self._watch(), name=f"watch of {self.name}") if self.spec.url else None
        try:
            verdict = await under_way.ask(question)
        finally:
            if watch is not None:
                watch.cancel()
        action, values = answer_of(verdict)
        return ElicitResult(action=cast(Any, action), content=values)

    async def close(self) -> None:
        """End it, its process and that process's children."""
        self._leave.set()
        if self._task is not None and not self._task.done():
            await asyncio.wait([self._task], timeout=CLOSE_S)
            self._task.cancel()
            await asyncio.wait([self._task], timeout=CLOSE_S)

    async def _run(self) -> None:
        try:
            await self._serve()
        except asyncio.CancelledError:
            raise
        # The library raises exception groups, a missing command OSError, a bad answer its own errors.
        except BaseException as error:
            self._fail(_sentence(error))
        else:
            if not self._leave.is_set():
                self._fail("it ended")
        finally:
            self._client = None
            self._started.set()

    async def _serve(self) -> None:
        from mcp import Client

        with _log_file() as errors:
            async with Client(
                self._transport(errors),
                read_timeout_seconds=self.spec.call_timeout_s,
                cache=None,
                elicitation_callback=self._elicited,
                message_handler=self._on_message,
            ) as client:
                await self._read_tools(client)
                # Only with its tools read: a model is never offered a server that has not said them.
                self._client, self.problem = client, ""
                self._started.set()
                self._changed()
                following = [
                    asyncio.create_task(each, name=f"tools of {self.name}")
                    for each in (self._follow(client), self._listen(client))
                ]
                try:
                    await self._leave.wait()
                finally:
                    for task in following:
                        task.cancel()
                    await asyncio.wait(following)

    async def _on_message(self, message: Any) -> None:
        """Take what a server says unasked: by protocols before 2026-07-28, that its tools changed."""
        if getattr(message, "method", "") == LIST_CHANGED:
            self._stale.set()

    async def _listen(self, client: Client) -> None:
        """Have a server of the newer protocol say when its tools change; a stream that is lost is not opened again."""
        try:
            async with client.listen(tools_list_changed=True) as changes:
                async for _ in changes:
                    self._stale.set()
        except (
            Exception
        ) as error:  # of an older protocol, or a server that tells nobody: its first list stands
            log.info("%s does not say when its tools change: %s", self.name, safe_line(str(error)))

    async def _follow(self, client: Client) -> None:
        """Read the tools again whenever they changed; while that fails, those that were known stay."""
        while True:
            await self._stale.wait()
            # Servers announce each tool by itself; a moment later all of them are read at once.
            await asyncio.sleep(SETTLE_S)
            self._stale.clear()
            before = self.tools
            try:
                await self._read_tools(client)
            except Exception as error:  # whatever the library meets in a server's answer
                log.warning("%s: its changed tools could not be read: %s", self.name, safe_line(str(error)))
            if self.failed:
                self.tools = {}
            elif self.tools != before:
                self._changed()

    def _transport(self, errors: TextIO) -> Any:
        if self.spec.url:
            import httpx2
            from mcp.client.streamable_http import streamable_http_client

            headers = {name: _line_of(path) for name, path in self.spec.header_files.items()}
            return streamable_http_client(self.spec.url, http_client=httpx2.AsyncClient(headers=headers))
        from mcp.client.stdio import get_default_environment

        named = {name: self._environment[name] for name in self.spec.env if name in self._environment}
        environment = get_default_environment() | named
        return pipes(guarded(self.spec.command), environment, self.spec.cwd or None, errors, self._ended)

    async def _read_tools(self, client: Client) -> None:
        found: dict[str, OfferedTool] = {}
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            page = await client.list_tools(cursor=cursor)
            for tool in page.tools:
                hints = tool.annotations
                if tool.name in found:
                    log.warning("%s offers two tools named %r: the first is taken", self.name, tool.name[:80])
                    continue
                found[tool.name] = OfferedTool(
                    tool.name,
                    safe_line(tool.description or "")[:MAX_DESCRIPTION],
                    tool.input_schema,
                    hints.read_only_hint if hints else None,
                )
            cursor = page.next_cursor
            if not cursor or len(found) > MAX_TOOLS:
                break
        if len(found) > MAX_TOOLS:
            log.warning("%s offers more than %d tools: the others are left out", self.name, MAX_TOOLS)
        self.tools = dict(sorted(found.items())[:MAX_TOOLS])

    async def _watch(self) -> None:
        """Notice that a server over HTTP is gone while a person thinks: until the answer no connection need be open."""
        while True:
            if await _refuses(self.spec.url):
                self._ended()
                return
            await asyncio.sleep(WATCH_EVERY_S)

    def _ended(self) -> None:
        """Say that it ended while it served, and give up what its calls asked of a person."""
        if self._client is not None and not self._leave.is_set():
            self._fail("it ended")

    def _fail(self, problem: str) -> None:
        """Say once why it serves no more, and give up what its calls asked of a person."""
        if self.failed:
            return
        self.problem, self.failed, self._client, self.tools = problem, True, None, {}
        log.warning("the tool server %s: %s", self.name, problem)
        self._changed()
        for under_way in self._calls:
            under_way.end()


def read_result(result: Any) -> ToolResult:
    """Return a server's result: its text, pictures as parts, everything else named."""
    texts: list[str] = []
    parts: list[Any] = []
    for block in result.content:
        match block.type:
            case "text":
                texts.append(block.text)
            case "image":
                picture = ImagePart(media_type=block.mime_type, data=block.data)
                if wrong := wrong_with(picture):
                    texts.append(f"(a picture that cannot be shown: {wrong})")
                else:
                    parts.append(picture)
            case "resource" if hasattr(block.resource, "text"):
                texts.append(f"{block.resource.uri}:\n{block.resource.text}")
            case "resource_link":
                texts.append(f"{block.name}: {block.uri}")
            case kind:
                texts.append(f"({kind}, which cannot be shown)")
    if not texts and not parts and result.structured_content is not None:
        import json

        texts.append(json.dumps(result.structured_content, ensure_ascii=False))
    text = "\n".join(texts)
    return ToolResult(
        "", text, is_error=bool(result.is_error), parts=[TextPart(text), *parts] if parts else []
    )


async def _refuses(url: str) -> bool:
    """Return whether nobody listens at an address any more; false where a proxy stands before it, or it is not known."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    if parts.scheme in getproxies() and not proxy_bypass(host):
        return False
    loop, refused = asyncio.get_running_loop(), 0
    try:
        places = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for *_, place in places:
            try:
                async with asyncio.timeout(CONNECT_S):
                    _, writer = await asyncio.open_connection(str(place[0]), port)
                writer.close()
                return False
            except ConnectionRefusedError:
                refused += 1
    except (OSError, TimeoutError):
        return False
    return refused > 0


def _log_file() -> TextIO:
    """Return where a server's stderr goes: the worker's own, which is its log."""
    return cast(TextIO, os.fdopen(os.dup(2), "w", errors="replace"))


def _line_of(path: str) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError) as error:
        raise ToolFailure(f"its header file {path} cannot be read: {error}") from error


def _sentence(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return safe_line(str(error)).strip() or type(error).__name__
