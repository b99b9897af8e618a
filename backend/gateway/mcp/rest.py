"""The older REST dialect of the tools, `/api/mcp/v2`: one envelope for answers, named events for streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import backend
from backend.gateway.context import Gateway
from backend.gateway.disconnect import while_present
from backend.gateway.mcp.local import LocalCaller
from backend.gateway.mcp.progress import Notice, as_value
from backend.gateway.mcp.run_tool import run_tool
from backend.gateway.mcp.tools import Tool, allowed_tools, find_tool
from backend.gateway.openapi import JSON, RouteDoc
from backend.gateway.responses import decode_object, error_body, json_reply, status_of
from backend.gateway.routes import CALLED, guarded
from backend.gateway.sse import named_event, stream_response
from backend.orchestration.action import Scope
from backend.orchestration.turns.manager import new_request_id
from backend.schema.errors import InvalidRequest, TektonError
from backend.schema.params import explain

BASE = "/api/mcp/v2"
EVENTS = ("connected", "progress", "chunk", "message", "complete", "error", "disconnect")
TOLD_AHEAD = 256
"""Notices kept for a client that reads slowly; then the tool waits."""


class ToolCall(Struct):
    """Which tool is called, with what."""

    tool_name: str
    arguments: dict[str, Any] = {}


def rest_routes(gateway: Gateway) -> list[Route]:
    """Return the routes of the older dialect."""
    surface = _Surface(gateway)

    def route(path: str, endpoint: Any, summary: str, *, calls: bool = False, media: str = JSON) -> Route:
        doc = RouteDoc(f"mcp{path}", "read", summary, ToolCall if calls else None, media=media)
        wrapped = guarded(gateway, doc, endpoint, transport="mcp")
        return Route(f"{BASE}{path}", wrapped, methods=["POST" if calls else "GET"])

    follow = "Call a tool and follow it by named server-sent events."
    return [
        route("/tools", surface.tools, "List the tools this token may call."),
        route("/capabilities", surface.capabilities, "Say what this dialect can do."),
        route("/health", surface.health, "Say that the tools are served."),
        route("/process", surface.process, "Call a tool and wait for its result.", calls=True),
        route("/stream", surface.stream, follow, calls=True, media="text/event-stream"),
    ]


class _Surface:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._caller = LocalCaller(gateway)

    async def tools(self, request: Request) -> Response:
        rows = [
            {
                "name": tool.name,
                "description": tool.summary,
                "parameters": tool.schema,
                "scope": tool.scope,
                "streaming": tool.is_long,
            }
            for tool in allowed_tools(self._scope(request))
        ]
        return _success({"tools": rows, "count": len(rows)})

    async def capabilities(self, request: Request) -> Response:
        names = [tool.name for tool in allowed_tools(self._scope(request))]
        return _success(
            {
                "name": "tekton",
                "version": backend.__version__,
                "capabilities": ["tools", "process", "stream"],
                "tools": names,
                "stream_events": list(EVENTS),
                "endpoints": {word: f"{BASE}/{word}" for word in ("tools", "process", "stream", "health")},
            }
        )

    async def health(self, request: Request) -> Response:
        count = len(allowed_tools(self._scope(request)))
        return _success({"status": "healthy", "version": backend.__version__, "tools": count})

    async def process(self, request: Request) -> Response:
        try:
            call = read_call(decode_object(await request.body()))
            tool = self._found(request, call)
            work = run_tool(self._caller, tool, call.arguments, self._scope(request))
            return _success(await while_present(request, work))
        except TektonError as error:
            return json_reply({"status": "error", "result": None, **error_body(error)}, status_of(error))

    async def stream(self, request: Request) -> Response:
        call = read_call(decode_object(await request.body()))
        tool, scope = self._found(request, call), self._scope(request)
        tool.check(scope)
        tool.values(call.arguments)
        return stream_response(self._gateway, self._frames(tool, call, scope))

    async def _frames(self, tool: Tool, call: ToolCall, scope: Scope) -> AsyncGenerator[bytes]:
        """Yield `connected`, what happens, `complete` or `error`, and `disconnect`."""
        request_id = call.arguments.get("request_id") or new_request_id()
        arguments = {**call.arguments, "request_id": request_id} if tool.is_long else call.arguments
        facts = {"tool_name": tool.name, "request_id": request_id}
        yield named_event("connected", facts)
        async with aclosing(self._notices(tool, arguments, scope)) as notices:
            try:
                async for name, value in notices:
                    yield named_event(name, value)
            except TektonError as error:
                yield named_event("error", error_body(error))
        yield named_event("disconnect", facts)

    async def _notices(
        self, tool: Tool, arguments: dict[str, Any], scope: Scope
    ) -> AsyncGenerator[tuple[str, Any]]:
        """Yield each notice of a tool at work, then its result; closing this ends the tool."""
        queue: asyncio.Queue[tuple[str, Any]] = asyncio.Queue(TOLD_AHEAD)

        async def notify(notice: Notice) -> None:
            await queue.put((notice.kind, as_value(notice)))

        async def work() -> None:
            await queue.put(
                ("complete", {"result": await run_tool(self._caller, tool, arguments, scope, notify)})
            )

        working = asyncio.create_task(work())
        try:
            while not (working.done() and queue.empty()):
                # both are waited for: a tool that failed puts nothing into the queue any more
                getting = asyncio.ensure_future(queue.get())
                await asyncio.wait([getting, working], return_when=asyncio.FIRST_COMPLETED)
                if not getting.done():
                    getting.cancel()
                    continue
                yield getting.result()
            working.result()
        finally:
            working.cancel()
            await asyncio.wait([working])

    def _scope(self, request: Request) -> Scope:
        return self._gateway.guard.check(request, "read").scope

    def _found(self, request: Request, call: ToolCall) -> Tool:
        tool = find_tool(call.tool_name)
        request.scope[CALLED] = (tool.name, tool.scope)
        return tool


def read_call(values: dict[str, Any]) -> ToolCall:
    """Read the body of a call.

    Raises:
        InvalidRequest: A key is missing or of the wrong kind.
    """
    try:
        return msgspec.convert(values, ToolCall)
    except msgspec.ValidationError as error:
        raise InvalidRequest(explain("mcp", str(error), values, ToolCall)) from error


def _success(result: Any) -> Response:
    return json_reply({"status": "success", "result": result, "error": None})
