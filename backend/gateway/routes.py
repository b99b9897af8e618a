"""HTTP routes made from the action registry: path, query and body become params, the result becomes JSON."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Awaitable, Callable
from secrets import token_hex
from typing import Any, Literal

from msgspec import Struct
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message

from backend import log as jsonlog
from backend.gateway.context import Gateway
from backend.gateway.openapi import RouteDoc, action_doc
from backend.gateway.protocols import UNREAD
from backend.gateway.responses import decode_object, error_reply, json_reply
from backend.orchestration.actions import ACTIONS, Action, Scope
from backend.orchestration.caller import caller
from backend.schema.errors import ErrorCode, InvalidRequest, TektonError

# it is written into logs and sent back in a header: nothing in it may end a line
_REQUEST_NAME = re.compile(r"[A-Za-z0-9._:/-]{1,128}")
log = logging.getLogger(__name__)

MAX_QUERY = 100
"""Parameters in the query of an address; no call takes half as many."""
CALLED = "tekton.called"
"""Where an endpoint that learns from the body what is called writes it: `(name, scope)`, for the log and the audit."""
Endpoint = Callable[[Request], Awaitable[Response]]
Failed = Callable[[TektonError], Response]


class HttpRefusal(TektonError):
    """A failure with an HTTP status of its own."""

    def __init__(self, status: int, message: str, code: ErrorCode | None = None) -> None:
        super().__init__(message, code=code or ("too_large" if status == 413 else "invalid_request"))
        self.status = status


def client_name(connection: HTTPConnection) -> str:
    """Return who is at the other end, as far as the socket knows."""
    return f"{connection.client.host}:{connection.client.port}" if connection.client else "unknown"


def request_name(request: Request) -> str:
    """Return the id a client gave its request in `X-Request-Id`, or a new one; logs of every hop carry it."""
    given = request.headers.get("x-request-id", "")
    return given if _REQUEST_NAME.fullmatch(given) else f"h-{token_hex(8)}"


def bounded(request: Request, limit: int) -> Request:
    """Return the request with a body that ends in an error past `limit` bytes, said or sent.

    Raises:
        TektonError: `too_large`, at once when the request says its length; `invalid_request` for an endless query.
    """
    too_large = TektonError(
        f"the body is larger than {limit} bytes (gateway.max_body_bytes)", code="too_large"
    )
    if request.scope["query_string"].count(b"&") >= MAX_QUERY:
        raise InvalidRequest(f"the query has more than {MAX_QUERY} parameters")
    # a compressed body is small on the wire and may be gigabytes in memory
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding not in ("", "identity"):
        raise HTTPException(415, f"the body is {encoding[:40]} encoded; send it as it is")
    said = request.headers.get("content-length", "")
    # by its digits first: Python refuses to read a number of more than 4,300 of them
    if said.isdecimal() and (len(said) > 15 or int(said) > limit):
        raise too_large
    total = 0

    async def receive() -> Message:
        nonlocal total
        message = await request.receive()
        total += len(message.get("body", b""))
        if total > limit:
            raise too_large
        return message

    return Request(request.scope, receive)


def _has_much_unread(request: Request) -> bool:
    """Return whether a request may still send much that nobody reads: then its connection is not kept."""
    unread = request.scope.get("extensions", {}).get(UNREAD)
    if unread is None or not unread():
        return False
    length = request.headers.get("content-length", "")
    return "transfer-encoding" in request.headers or (length.isdecimal() and len(length) > 5)


def guarded(
    gateway: Gateway,
    doc: RouteDoc,
    endpoint: Endpoint,
    *,
    transport: Literal["http", "sse", "mcp", "openai"] = "http",
    failed: Failed = error_reply,
) -> Endpoint:
    """Wrap an endpoint: authentication before it, its expected errors as JSON, an entry in the call log.

    `doc` says under which name it is logged, which scope it asks for, and what the OpenAPI document says of it. `failed` puts
    an error into the words of the endpoint's dialect.
    """
    name, scope = doc.name, doc.scope
    max_body = gateway.platform.settings.gateway.max_body_bytes

    async def serve(request: Request) -> Response:
        began = time.monotonic()
        refusal = token = ""
        name_of_request = request_name(request)
        jsonlog.request_id.set(name_of_request)
        try:
            if scope is None:
                gateway.guard.check_place(request)
            else:
                token = gateway.guard.check(request, scope).label
                if gateway.tracing is not None:
                    gateway.tracing.join(name_of_request, request.headers.get("traceparent", ""))
                caller.set(f"{token} over HTTP")
            response = await endpoint(bounded(request, max_body))
        except TektonError as error:
            token = token or getattr(error, "token", "")
            response = failed(error)
            refusal = error.message if response.status_code in (400, 401, 403, 413, 429) else ""
        except ClientDisconnect:
            # as nginx logs a client that went away; nobody receives it
            response = Response(status_code=499)
        except HTTPException as error:
            response = failed(HttpRefusal(error.status_code, str(error.detail)))
            response.headers.update(error.headers or {})
            refusal = str(error.detail)
        except Exception:  # the boundary of a call: it ends as an answer, with the traceback in the log
            log.exception("%s failed", name)
            text = f"{name} failed inside the backend; its log has the traceback"
            response = failed(HttpRefusal(500, text, code="internal"))
        called, needed = request.scope.get(CALLED, (name, scope))
        response.headers.setdefault("x-request-id", name_of_request)
        if _has_much_unread(request):
            # what is left of the body would be read as the next request of this connection
            response.headers["connection"] = "close"
        if scope is not None or refusal:
            gateway.log.note(
                client_name(request),
                transport,
                called,
                response.status_code,
                began=began,
                refusal=refusal,
                request_id=name_of_request,
                token=token,
                scope=needed if needed and request.method != "GET" else "read",
            )
        return response

    vars(serve)["doc"] = doc
    return serve


def action_routes(gateway: Gateway) -> list[Route]:
    """Return a route for each `(method, path)` of each action."""
    return [
        Route(
            path,
            guarded(gateway, action_doc(action), _endpoint(gateway, action)),
            methods=[method],
        )
        for action in ACTIONS.values()
        for method, path in action.routes
    ]


async def read_values(request: Request) -> dict[str, Any]:
    """Collect a request's values: body, then query, then path, the later winning."""
    values: dict[str, Any] = {}
    if request.method in ("POST", "PATCH", "DELETE"):
        values = decode_object(await request.body())
    for key, value in request.query_params.items():
        values[key] = value
    values.update(request.path_params)
    return values


def _endpoint(gateway: Gateway, action: Action) -> Endpoint:
    async def run(request: Request) -> Response:
        values = await read_values(request)
        params = action.read_params(values, lax=True)
        return json_reply(await action.run(gateway.platform, params))

    return run


def vendor_route(
    gateway: Gateway,
    method: str,
    path: str,
    scope: Scope,
    endpoint: Endpoint,
    summary: str,
    body: type[Struct] | None = None,
    *,
    failed: Failed = error_reply,
) -> Route:
    """Return a route of a vendor's API; log and document name it by its path."""
    doc = RouteDoc(path.removeprefix("/").replace("{id}", "id"), scope, summary, body)
    return Route(path, guarded(gateway, doc, endpoint, transport="openai", failed=failed), methods=[method])


def refusing(gateway: Gateway, path: str, why: str, *, failed: Failed = error_reply) -> Route:
    """Return a route of somebody else's API that is not offered: it refuses by name and says what to do instead."""

    async def answer(request: Request) -> Response:
        raise InvalidRequest(f"{path}: {why}")

    doc = RouteDoc(path.removeprefix("/"), "chat", "Refuse, by name, what is not offered here.")
    guard = guarded(gateway, doc, answer, transport="openai", failed=failed)
    return Route(path, guard, methods=["GET", "POST", "DELETE"])
