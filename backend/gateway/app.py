"""The gateway's web application: routes put together, nothing decided here."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from functools import cache, partial
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route, WebSocketRoute
from starlette.websockets import WebSocket

import backend
from backend.gateway.anthropic_api.routes import anthropic_routes
from backend.gateway.auth import Guard
from backend.gateway.call_log import CallLog, IdempotencyCache
from backend.gateway.context import Gateway
from backend.gateway.mcp.http import mcp_route
from backend.gateway.mcp.rest import rest_routes
from backend.gateway.metrics import CONTENT_TYPE, exposition
from backend.gateway.ollama_api.routes import ollama_routes
from backend.gateway.openai_api import openai_routes
from backend.gateway.openapi import RouteDoc, document
from backend.gateway.responses import STATUS, error_reply, json_reply
from backend.gateway.routes import Endpoint, action_routes, guarded
from backend.gateway.stream_routes import stream_routes
from backend.gateway.tracing import Tracing, log_turn, wanted
from backend.gateway.websocket import serve_websocket
from backend.orchestration.platform import Platform
from backend.orchestration.recent import RememberedBytes
from backend.schema.errors import InvalidRequest, TektonError
from backend.schema.frames import DirectTurn
from backend.schema.results import EventFigures, GatewayReport
from backend.schema.states import LIVE
from backend.suggest import nearest
from backend.wire import encoder

PATH_LIKENESS = 0.8
"""How alike two paths must be for one to be called the one that was meant."""
HEALTH = RouteDoc("health", None, "Say that the gateway lives.")
RunHere = Callable[[str, dict[str, Any]], Awaitable[Any]]
NOWHERE = RouteDoc("nowhere", None, "nowhere")
READY = RouteDoc("ready", None, "Say whether the gateway serves, and how many specialists live.")
METRICS = RouteDoc("metrics", "read", "Return figures for Prometheus.", media="text/plain")


def build_gateway(platform: Platform, host: str, address: str) -> Gateway:
    """Put authentication, call log and metrics around a platform, and set the platform's address."""
    gateway = Gateway(
        platform,
        Guard(platform.home, platform.settings, host),
        CallLog(platform.home, platform.events, platform.error_log.record),
        IdempotencyCache(RememberedBytes.of(platform.settings.memory.remembered_mib).results),
        address,
    )
    # meters are fed at the end of a call or a turn, never by a token: counting must not slow the relay
    gateway.log.on_call.append(gateway.meters.call_ended)
    platform.direct.on_ended.append(partial(_note_direct, gateway.log))
    platform.turns.on_ended += [gateway.meters.turn_ended, log_turn]
    if wanted(platform.environment):
        gateway.tracing = Tracing(model_of=partial(_model_of, platform))
        gateway.log.on_call.append(gateway.tracing.call_ended)
        platform.turns.on_ended.append(gateway.tracing.turn_ended)
    platform.gateway_address = address
    # layers point down: orchestration knows no gateway, so what it says of one is passed in
    platform.gateway_report = lambda: report(gateway)
    if platform.cluster is not None:
        platform.cluster.peers.run_here = partial(_run_for_another, gateway, platform.cluster.run_here)
    return gateway


def _model_of(platform: Platform, ai_id: str) -> str:
    """Return which model a specialist has, empty where it is gone."""
    row = next((row for row in platform.fleet.statuses() if row.id == ai_id), None)
    return f"{row.provider}:{row.model}" if row is not None and row.model else ""


def _note_direct(log: CallLog, turn: DirectTurn) -> None:
    """Write down a question that came to a specialist's own port."""
    refused = turn.code == "budget_exceeded"
    log.note(
        f"{turn.client} → {turn.ai_id}",
        "socket",
        "chat",
        STATUS.get(turn.code, 500) if turn.code else 200,
        began=time.monotonic() - turn.total_time,
        refusal=turn.error if refused else "",
        request_id=turn.request_id,
    )


async def _run_for_another(
    gateway: Gateway, run_here: RunHere, request_id: str, name: str, params: dict[str, Any]
) -> Any:
    """Run a call another gateway handed over; one with a request id that runs here already is joined."""
    if not request_id:
        return await run_here(name, params)
    return await gateway.calls.run(request_id, name, params, lambda: run_here(name, params))


def build_app(gateway: Gateway) -> Starlette:
    """Return the application that serves a gateway."""
    surface = _Surface(gateway)
    routes: list[BaseRoute] = [
        Route("/health", guarded(gateway, HEALTH, surface.health)),
        Route("/ready", guarded(gateway, READY, surface.ready)),
        Route("/metrics", guarded(gateway, METRICS, surface.metrics)),
        *stream_routes(gateway),
        *openai_routes(gateway),
        *anthropic_routes(gateway),
        *ollama_routes(gateway),
        mcp_route(gateway),
        *rest_routes(gateway),
        *action_routes(gateway),
        WebSocketRoute("/ws", partial(serve_websocket, gateway)),
        # last, as it fits every path: without it the server answers a wrong one with a bare 403
        WebSocketRoute("/{path:path}", surface.no_websocket),
    ]
    # it describes the routes that are mounted, itself as well: hence the list, which is read when it is asked for
    routes.append(_document_route(gateway, routes))
    nowhere = _nowhere(gateway, routes)

    async def unknown_route(request: Request, error: Exception) -> Response:
        return await nowhere(request)

    return Starlette(
        routes=routes,
        exception_handlers={404: unknown_route, 405: unknown_route},
        middleware=_cors(gateway.platform.settings.gateway.allowed_origins),
    )


def _cors(origins: Sequence[str]) -> list[Middleware]:
    """Let web pages of the allowed origins call: without these headers a browser keeps the answer from them."""
    if not origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=["authorization", "content-type", "last-event-id", "x-request-id", "traceparent"],
            expose_headers=["x-request-id", "retry-after", "x-should-retry"],
        )
    ]


def _document_route(gateway: Gateway, routes: list[BaseRoute]) -> Route:
    """Return the route of the document; it is made at the first question, so that no start waits for it."""

    @cache
    def page() -> bytes:
        return encoder.encode(document(routes))

    async def openapi(request: Request) -> Response:
        return Response(page(), media_type="application/json")

    doc = RouteDoc("openapi", "read", "Return this document.")
    return Route("/openapi.json", guarded(gateway, doc, openapi))


def report(gateway: Gateway) -> GatewayReport:
    """Return who is connected and what was asked lately."""
    events = gateway.platform.events
    return GatewayReport(
        address=gateway.address,
        clients=list(gateway.clients.values()),
        streams=gateway.streams,
        total_calls=gateway.log.total,
        refused_calls=gateway.log.refused,
        recent=list(gateway.log.recent)[::-1],
        refusals=list(gateway.log.refusals)[::-1],
        events=EventFigures(
            events.seq, events.skipped, events.lost_replays, gateway.platform.backpressure.held_s
        ),
    )


class _Surface:
    """The endpoints of the gateway itself."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway, self._platform = gateway, gateway.platform

    async def health(self, request: Request) -> Response:
        uptime = time.monotonic() - self._platform.started
        return json_reply(
            {"status": "healthy", "component": "rhetor", "version": backend.__version__, "uptime": uptime}
        )

    async def ready(self, request: Request) -> Response:
        states = [status.state for status in self._platform.fleet.statuses()]
        live = sum(state in LIVE for state in states)
        return json_reply({"ready": True, "specialists": len(states), "live": live})

    async def metrics(self, request: Request) -> Response:
        gateway = self._gateway
        page = await exposition(
            gateway.meters, gateway.platform, clients=len(gateway.clients), streams=gateway.streams
        )
        return Response(page, media_type=CONTENT_TYPE)

    async def no_websocket(self, socket: WebSocket) -> None:
        """Answer whoever wants a WebSocket where there is none, such as Responses over one."""
        try:
            self._gateway.guard.check_place(socket)
            raise InvalidRequest(
                f"{socket.scope['path']} is not served over a WebSocket: send it over HTTP; the platform's own WebSocket is /ws"
            )
        except TektonError as error:
            await socket.send_denial_response(error_reply(error))


def _nowhere(gateway: Gateway, routes: Sequence[BaseRoute]) -> Endpoint:
    """Return the endpoint of every path nobody serves in this way; it checks the caller's place as all do."""

    async def nowhere(request: Request) -> Response:
        path = request.scope["path"]
        there = [route for route in routes if route.matches(request.scope)[0] is Match.PARTIAL]
        methods = sorted(
            {method for route in there if isinstance(route, Route) for method in route.methods or ()}
        )
        if methods:
            allow = ", ".join(methods)
            text = f"{path} takes {allow}, not {request.method}"
            # a 405 has to name what is allowed (RFC 9110, 15.5.6)
            raise HTTPException(405, text, headers={"allow": allow})
        meant = _meant_path(path, request.method, routes)
        raise TektonError(f"there is no {request.method} {path} here{meant}", code="not_found")

    return guarded(gateway, NOWHERE, nowhere)


def _meant_path(path: str, method: str, routes: Sequence[BaseRoute]) -> str:
    """Return the hint behind a path nobody serves: the one that is nearly the same, with the same names in it."""
    given = path.split("/")
    served: set[str] = set()
    for route in routes:
        if isinstance(route, Route) and method in (route.methods or ()):
            words = route.path.split("/")
            # the names in a path may be anything: only its fixed words can be misspelt
            if len(words) == len(given):
                pairs = zip(words, given, strict=True)
                served.add("/".join(own if word.startswith("{") else word for word, own in pairs))
    near = nearest(path, served, likeness=PATH_LIKENESS)
    return f"; did you mean {near[0]}?" if near else ""
