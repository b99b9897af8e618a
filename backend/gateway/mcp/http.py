"""`/mcp`: the gateway's own authentication before the SDK's streamable HTTP, which is created with the first client.

A session of the handshake era belongs to the token that began it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from importlib import import_module
from typing import Any

import msgspec
from msgspec import Struct
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from backend import log as jsonlog
from backend.gateway.auth import Principal, Refused
from backend.gateway.context import Gateway
from backend.gateway.mcp.local import LocalCaller
from backend.gateway.mcp.tools import Tool
from backend.gateway.openapi import RouteDoc
from backend.gateway.responses import error_reply, status_of
from backend.gateway.routes import bounded, client_name
from backend.schema.errors import TektonError
from backend.tasks import end_tasks

log = logging.getLogger(__name__)

PRINCIPAL = "tekton.principal"
GONE = "tekton.gone"
"""Under which name a request holds the event that is set once nobody reads its answer any more."""
SESSION = b"mcp-session-id"


def mcp_route(gateway: Gateway) -> Route:
    """Return the route of the MCP endpoint."""
    endpoint = McpEndpoint(gateway)
    gateway.closers.append(endpoint.close)
    return Route("/mcp", endpoint, methods=["GET", "POST", "DELETE"])


class _Abilities(Struct):
    elicitation: dict[str, Any] | None = None


class _Declared(Struct):
    capabilities: _Abilities


class _Opening(Struct):
    """Of an `initialize` what the transport has to know."""

    params: _Declared


_answer_plainly: ContextVar[bool] = ContextVar("answer_plainly", default=False)


class _Plainly:
    """Tells the SDK, request by request, whether plain JSON will do for an answer.

    It asks by truth value wherever it could open an event stream. A call within a session that wants no progress has
    nothing to stream, and a plain answer lets its client keep the connection, which saves a third of the call.
    """

    def __bool__(self) -> bool:
        return _answer_plainly.get()


class McpEndpoint:
    """Serves MCP over HTTP. The SDK is imported, in a thread, at the first request that is authorized."""

    doc = RouteDoc("mcp", "read", "Speak MCP (streamable HTTP): every action is a tool.")

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._caller = LocalCaller(gateway)
        self._manager: Any = None
        self._users: dict[str, Any] = {}
        self._asked: dict[str, None] = {}
        """Sessions whose client can be asked while its call runs: their answers have to be streams."""
        self._serving: asyncio.Task[None] | None = None
        self._started: asyncio.Future[None] | None = None
        self._closing = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.monotonic()
        connection = HTTPConnection(scope)
        try:
            principal = self._gateway.guard.check(connection, "read")
        except Refused as refused:
            self._gateway.log.note(
                client_name(connection),
                "mcp",
                "connect",
                refused.status,
                began=began,
                refusal=refused.message,
                token=getattr(refused, "token", ""),
            )
            await error_reply(refused)(scope, receive, send)
            return
        if self._closing:
            await _ending(scope, receive, send)
            return
        try:
            await self._start()
        except ImportError as error:
            log.exception("the MCP library cannot be used")
            await error_reply(TektonError(f"MCP is not available: {error}"))(scope, receive, send)
            return
        scope[PRINCIPAL] = principal
        scope["user"] = self._user(principal)
        if scope["method"] != "POST":
            await self._handle(scope, receive, send)
            return
        try:
            request = bounded(Request(scope, receive), self._gateway.platform.settings.gateway.max_body_bytes)
            body = await request.body()
        except TektonError as error:
            await error_reply(error)(scope, receive, send)
            return
        except ClientDisconnect:
            return
        session = dict(scope["headers"]).get(SESSION, b"").decode("latin-1")
        if not session and _can_be_asked(body):
            send = self._noting(send)
        _answer_plainly.set(b'"progressToken"' not in body and bool(session) and session not in self._asked)
        gone = scope[GONE] = asyncio.Event()
        try:
            await self._handle(scope, _replaying(body, receive), _once(send))
        finally:
            gone.set()

    def _noting(self, send: Send) -> Send:
        """Return a `send` that takes note of the session that its answer opens."""

        async def note(message: Message) -> None:
            if message["type"] == "http.response.start":
                for name, value in message["headers"]:
                    if name.lower() == SESSION:
                        self._asked[value.decode("latin-1")] = None
                while len(self._asked) > self._gateway.platform.settings.gateway.max_connections:
                    del self._asked[next(iter(self._asked))]
            await send(message)

        return note

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        # the SDK knows no end of its own: without this it fails, with a traceback and without a reason
        handle = _ending if self._closing else self._manager.handle_request
        await handle(scope, receive, send)

    async def close(self) -> None:
        """End every session; later requests get the error that the backend is ending."""
        self._closing = True
        await end_tasks(self._serving)

    async def _start(self) -> None:
        if self._started is None:
            self._started = asyncio.get_running_loop().create_future()
            self._serving = asyncio.create_task(self._serve(self._started), name="mcp")
        # shielded: the future is shared, and the first client may go away while others wait for it
        await asyncio.shield(self._started)

    async def _serve(self, started: asyncio.Future[None]) -> None:
        """Hold the SDK's sessions open, in one task from beginning to end."""
        try:
            server_module = await asyncio.to_thread(import_module, "backend.gateway.mcp.server")
            manager_module = await asyncio.to_thread(import_module, "mcp.server.streamable_http_manager")
        except ImportError as error:
            started.set_exception(error)
            return
        logging.getLogger("mcp").setLevel(logging.WARNING)
        limits = self._gateway.platform.settings.gateway
        server = server_module.make_server(
            self._caller, partial(_who, server_module.Who), time.monotonic, self._ended
        )
        self._manager = manager_module.StreamableHTTPSessionManager(
            server,
            json_response=_Plainly(),
            max_request_body_size=limits.max_body_bytes,
            max_sessions=limits.max_connections,
        )
        # the SDK's task group must be left by the task that entered it: hence a task that only holds it open
        async with self._manager.run():
            started.set_result(None)
            await asyncio.get_running_loop().create_future()

    def _user(self, principal: Principal) -> Any:
        """Return whom the SDK binds sessions to: the token by its label, its secret left out."""
        if (known := self._users.get(principal.label)) is None:
            from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
            from mcp.server.auth.provider import AccessToken

            token = AccessToken(token="", client_id=principal.label, scopes=[principal.scope])
            known = self._users[principal.label] = AuthenticatedUser(token)
        return known

    def _ended(self, ctx: Any, tool: Tool, failure: TektonError | None, began: float) -> None:
        request: Request = ctx.request
        self._gateway.log.note(
            client_name(request),
            "mcp",
            tool.name,
            status_of(failure) if failure else 200,
            began=began,
            refusal=failure.message if failure and status_of(failure) in (400, 403, 413, 429) else "",
            request_id=jsonlog.request_id.get(),
            token=request.scope[PRINCIPAL].label,
            scope=tool.scope,
        )


def _once(send: Send) -> Send:
    """Return a `send` that lets nothing follow a whole answer.

    The SDK confirms a client's answer before it passes it on; into a session that has ended meanwhile it cannot, and sends
    a refusal behind the confirmation.
    """
    complete = False

    async def guarded(message: Message) -> None:
        nonlocal complete
        if not complete:
            await send(message)
            complete = message["type"] == "http.response.body" and not message.get("more_body", False)

    return guarded


def _replaying(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives a body that was read already, and then what comes."""
    pending = [body]

    async def replay() -> Message:
        if pending:
            return {"type": "http.request", "body": pending.pop(), "more_body": False}
        return await receive()

    return replay


def _who(make: Callable[..., Any], ctx: Any) -> Any:
    """Return who sent this very request: what its token may do, not that of the session's first."""
    principal: Principal = ctx.request.scope[PRINCIPAL]
    return make(principal.scope, principal.label, ctx.request.scope.get(GONE))


def _can_be_asked(body: bytes) -> bool:
    """Return whether a body opens a session whose client takes questions."""
    if b'"initialize"' not in body or b'"elicitation"' not in body:
        return False
    try:
        return msgspec.json.decode(body, type=_Opening).params.capabilities.elicitation is not None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False  # which the SDK refuses in its own words


async def _ending(scope: Scope, receive: Receive, send: Send) -> None:
    await error_reply(TektonError("the backend is ending", code="backend_lost"))(scope, receive, send)
