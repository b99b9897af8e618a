"""The routes that answer with server-sent events, and what the OpenAPI document says of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from backend.gateway import sse
from backend.gateway.context import Gateway
from backend.gateway.openapi import RouteDoc
from backend.gateway.routes import Endpoint, guarded, read_values
from backend.gateway.sse_many import bulk_stream, pipeline_stream
from backend.gateway.sse_team import team_frames
from backend.orchestration.actions import ACTIONS
from backend.schema.params import Chat, TeamChat

Begin = Callable[[Gateway, Any], Awaitable[AsyncGenerator[bytes]]]
"""Starts an action by its params and returns its frames."""
EVENTS = "text/event-stream"


def _doc(name: str, action: str, summary: str, extra: dict[str, dict[str, Any]] | None = None) -> RouteDoc:
    known = ACTIONS[action]
    return RouteDoc(f"{name} stream", "chat", summary, known.params, known.aliases, extra or {}, media=EVENTS)


METADATA = {"include_metadata": {"type": "boolean", "default": True}}
CHAT = _doc("chat", "chat", "Ask one specialist and stream the answer as server-sent events.", METADATA)
TEAM = _doc("team", "team_chat", "Ask the team and stream all answers, interleaved, as server-sent events.")
BULK = _doc("bulk", "bulk", "Run many requests side by side and stream each result as it is there.")
PIPELINE = _doc("pipeline", "pipeline", "Run a pipeline and stream its stages and its output.")


def stream_routes(gateway: Gateway) -> list[Route]:
    """Return every route of this module; each path both under `/api/v1` and where older clients look."""

    def route(path: str, doc: RouteDoc, endpoint: Endpoint, *methods: str) -> Route:
        return Route(path, guarded(gateway, doc, endpoint, transport="sse"), methods=methods)

    chat, team = _chat(gateway), _team(gateway)
    bulk, pipeline = _begun(gateway, "bulk", bulk_stream), _begun(gateway, "pipeline", pipeline_stream)
    return [
        route("/api/chat/team/stream", TEAM, team, "POST", "GET"),
        route("/api/v1/chat/team/stream", TEAM, team, "POST", "GET"),
        route("/api/chat/{id}/stream", CHAT, chat, "POST", "GET"),
        route("/api/v1/chat/{id}/stream", CHAT, chat, "POST", "GET"),
        route("/api/v1/bulk/stream", BULK, bulk, "POST"),
        route("/api/v1/pipelines/stream", PIPELINE, pipeline, "POST"),
    ]


def _chat(gateway: Gateway) -> Endpoint:
    async def chat(request: Request) -> Response:
        values = await read_values(request)
        metadata = sse.wants_metadata(request, values)
        if (point := sse.resume_point(request)) is not None:
            name, after = point
            turn = gateway.platform.turns.find(name)
            if turn is None or after is None:
                return _nothing_more()
            return sse.stream_response(gateway, sse.resumed_frames(gateway, turn, after, metadata))
        params = ACTIONS["chat"].read_params(values, lax=True)
        assert isinstance(params, Chat)
        return sse.stream_response(
            gateway, sse.chat_frames(gateway, params, metadata, sse.wants_ids(request))
        )

    return chat


def _nothing_more() -> Response:
    """Answer a reader that reconnects after the end: at 204 it stops reconnecting."""
    return Response(status_code=204)


def _team(gateway: Gateway) -> Endpoint:
    async def team(request: Request) -> Response:
        if sse.resume_point(request) is not None:
            return _nothing_more()  # members that were asked were cancelled when the reader left
        params = ACTIONS["team_chat"].read_params(await read_values(request), lax=True)
        assert isinstance(params, TeamChat)
        return sse.stream_response(gateway, team_frames(gateway, params, sse.wants_ids(request)))

    return team


def _begun(gateway: Gateway, name: str, begin: Begin) -> Endpoint:
    """Return the endpoint of an action whose refusals come before its first frame, as a status."""

    async def stream(request: Request) -> Response:
        params = ACTIONS[name].read_params(await read_values(request), lax=True)
        sse.check_streams(gateway)
        return sse.stream_response(gateway, await begin(gateway, params))

    return stream
