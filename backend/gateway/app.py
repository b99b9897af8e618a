"""The gateway's web application: routes put together, nothing decided here."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

import backend
from backend.gateway.auth import Guard
from backend.gateway.calls import CallBook, CallLog
from backend.gateway.context import Gateway
from backend.gateway.mcp.mount import mcp_route
from backend.gateway.mcp.rest import rest_routes
from backend.gateway.metrics import CONTENT_TYPE, exposition
from backend.gateway.openai_api import openai_routes
from backend.gateway.openapi import RouteDoc, document
from backend.gateway.replies import json_reply
from backend.gateway.routes import Endpoint, action_routes, guarded
from backend.gateway.stream_routes import stream_routes
from backend.gateway.tracing import Tracing, log_turn, wanted
from backend.gateway.websocket import serve_websocket
from backend.orchestration.platform import Platform
from backend.orchestration.sharing import Sharing
from backend.schema.errors import TektonError
from backend.wire import encoder

HEALTH = RouteDoc("health", None, "Say that the gateway lives.")
READY = RouteDoc("ready", None, "Say whether the gateway serves, and how many specialists live.")
METRICS = RouteDoc("metrics", "read", "Return figures for Prometheus.", media="text/plain")


def build_gateway(platform: Platform, host: str, address: str) -> Gateway:
    """Put gate and books around a platform; the platform learns its address."""
    gateway = Gateway(
        platform,
        Guard(platform.home, platform.settings, host),
        CallLog(platform.home, platform.events),
        CallBook(),
        address,
    )
    gateway.log.on_call.append(gateway.meters.call_ended)
    platform.turns.on_ended += [gateway.meters.turn_ended, log_turn]
    if wanted(platform.environment):
        gateway.tracing = Tracing()
        gateway.log.on_call.append(gateway.tracing.call_ended)
        platform.turns.on_ended.append(gateway.tracing.turn_ended)
    platform.gateway_address = address
    platform.gateway_report = lambda: report(gateway)
    if platform.sharing is not None:
        platform.sharing.twins.run_here = partial(_run_for_another, gateway, platform.sharing)
    return gateway


async def _run_for_another(
    gateway: Gateway, sharing: Sharing, request_id: str, name: str, params: dict[str, Any]
) -> Any:
    """Run a call another gateway handed over; one with a request id that runs here already is joined."""
    if not request_id or name == "cancel":
        return await sharing.run_here(name, params)
    return await gateway.book.run(request_id, name, lambda: sharing.run_here(name, params))


def build_app(gateway: Gateway) -> Starlette:
    """Return the application that serves a gateway."""
    routes: list[BaseRoute] = [
        Route("/health", guarded(gateway, "health", None, _health(gateway), HEALTH)),
        Route("/ready", guarded(gateway, "ready", None, _ready(gateway), READY)),
        Route("/metrics", guarded(gateway, "metrics", "read", _metrics(gateway), METRICS)),
        *stream_routes(gateway),
        *openai_routes(gateway),
        mcp_route(gateway),
        *rest_routes(gateway),
        *action_routes(gateway),
        WebSocketRoute("/ws", _websocket(gateway)),
    ]
    routes.append(_document_route(gateway, routes))
    nowhere = _nowhere(gateway)

    async def unknown_route(request: Request, error: Exception) -> Response:
        return await nowhere(request)

    return Starlette(routes=routes, exception_handlers={404: unknown_route, 405: unknown_route})


def _document_route(gateway: Gateway, routes: list[BaseRoute]) -> Route:
    """Return the route of the document; it is made at the first question, so that no start waits for it."""

    @functools.cache
    def page() -> bytes:
        return encoder.encode(document(routes))

    async def openapi(request: Request) -> Response:
        return Response(page(), media_type="application/json")

    doc = RouteDoc("openapi", "read", "Return this document.")
    return Route("/openapi.json", guarded(gateway, "openapi", "read", openapi, doc))


def report(gateway: Gateway) -> dict[str, object]:
    """Return what the Gateway screen shows."""
    return {
        "address": gateway.address,
        "clients": list(gateway.clients.values()),
        "streams": gateway.streams,
        "total_calls": gateway.log.total,
        "refused_calls": gateway.log.refused,
        "recent": list(gateway.log.recent)[::-1],
        "refusals": list(gateway.log.refusals)[::-1],
        "events": {
            "seq": gateway.platform.events.seq,
            "unwanted": gateway.platform.events.skipped,
            "resyncs": gateway.platform.events.lost_replays,
            "held_s": gateway.platform.pressure.held_s,
        },
    }


def _health(gateway: Gateway) -> Endpoint:
    async def health(request: Request) -> Response:
        uptime = time.time() - gateway.platform.started_at
        return json_reply(
            {"status": "healthy", "component": "rhetor", "version": backend.__version__, "uptime": uptime}
        )

    return health


def _ready(gateway: Gateway) -> Endpoint:
    async def ready(request: Request) -> Response:
        states = [status.state for status in gateway.platform.fleet.statuses()]
        live = sum(state in ("ready", "busy") for state in states)
        return json_reply({"ready": True, "specialists": len(states), "live": live})

    return ready


def _metrics(gateway: Gateway) -> Endpoint:
    async def metrics(request: Request) -> Response:
        return Response(await exposition(gateway), media_type=CONTENT_TYPE)

    return metrics


def _websocket(gateway: Gateway) -> Callable[[WebSocket], object]:
    async def websocket(socket: WebSocket) -> None:
        await serve_websocket(gateway, socket)

    return websocket


def _nowhere(gateway: Gateway) -> Endpoint:
    """Return the endpoint of every path nobody serves; it asks for the right place as all do."""

    async def nowhere(request: Request) -> Response:
        raise TektonError(f"there is no {request.method} {request.scope['path']} here", code="not_found")

    return guarded(gateway, "nowhere", None, nowhere)
