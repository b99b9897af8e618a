"""The routes that answer with server-sent events, and what the OpenAPI document says of them."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from backend.gateway.context import Gateway
from backend.gateway.openapi import RouteDoc
from backend.gateway.routes import Endpoint, guarded, read_values
from backend.gateway.sse import (
    chat_frames,
    check_streams,
    resume_point,
    resumed_frames,
    stream_response,
    team_frames,
    wants_ids,
    wants_metadata,
)
from backend.gateway.sse_many import bulk_stream, pipeline_stream
from backend.orchestration.actions import ACTIONS
from backend.schema.params import Chat, RunBulk, RunPipeline, TeamChat

EVENTS = "text/event-stream"
CHAT = RouteDoc(
    "chat stream",
    "chat",
    "Ask one specialist and stream the answer as server-sent events.",
    Chat,
    ACTIONS["chat"].aliases,
    {"include_metadata": {"type": "boolean", "default": True}},
    media=EVENTS,
)
TEAM = RouteDoc(
    "team stream",
    "chat",
    "Ask the team and stream all answers, interleaved, as server-sent events.",
    TeamChat,
    ACTIONS["team_chat"].aliases,
    media=EVENTS,
)
BULK = RouteDoc(
    "bulk stream",
    "chat",
    "Run many requests side by side and stream each result as it is there.",
    RunBulk,
    ACTIONS["bulk"].aliases,
    media=EVENTS,
)
PIPELINE = RouteDoc(
    "pipeline stream",
    "chat",
    "Run a pipeline and stream its stages and its output.",
    RunPipeline,
    ACTIONS["pipeline"].aliases,
    media=EVENTS,
)


def stream_routes(gateway: Gateway) -> list[Route]:
    """Return every route of this module; each path both under `/api/v1` and where older clients look."""
    chat = _guarded(gateway, CHAT, _chat(gateway))
    team = _guarded(gateway, TEAM, _team(gateway))
    either = ["POST", "GET"]
    return [
        Route("/api/chat/team/stream", team, methods=either),
        Route("/api/v1/chat/team/stream", team, methods=either),
        Route("/api/chat/{id}/stream", chat, methods=either),
        Route("/api/v1/chat/{id}/stream", chat, methods=either),
        Route("/api/v1/bulk/stream", _guarded(gateway, BULK, _bulk(gateway)), methods=["POST"]),
        Route("/api/v1/pipelines/stream", _guarded(gateway, PIPELINE, _pipeline(gateway)), methods=["POST"]),
    ]


def _guarded(gateway: Gateway, doc: RouteDoc, endpoint: Endpoint) -> Endpoint:
    return guarded(gateway, doc.name, doc.scope, endpoint, doc, transport="sse")


def _chat(gateway: Gateway) -> Endpoint:
    async def chat(request: Request) -> Response:
        values = await read_values(request)
        metadata = wants_metadata(request, values)
        if (point := resume_point(request)) is not None:
            name, after = point
            turn = gateway.platform.turns.find(name)
            if turn is None or after is None:
                return _nothing_more()
            return stream_response(gateway, resumed_frames(gateway, turn, after, metadata))
        params = ACTIONS["chat"].read_params(values, lax=True)
        assert isinstance(params, Chat)
        return stream_response(gateway, chat_frames(gateway, params, metadata, wants_ids(request)))

    return chat


def _nothing_more() -> Response:
    """Answer a reader that reconnects after the end: at 204 it stops reconnecting."""
    return Response(status_code=204)


def _team(gateway: Gateway) -> Endpoint:
    async def team(request: Request) -> Response:
        if resume_point(request) is not None:
            return _nothing_more()  # members that were asked were cancelled when the reader left
        params = ACTIONS["team_chat"].read_params(await read_values(request), lax=True)
        assert isinstance(params, TeamChat)
        return stream_response(gateway, team_frames(gateway, params, wants_ids(request)))

    return team


def _bulk(gateway: Gateway) -> Endpoint:
    async def bulk(request: Request) -> Response:
        params = ACTIONS["bulk"].read_params(await read_values(request), lax=True)
        assert isinstance(params, RunBulk)
        check_streams(gateway)
        return stream_response(gateway, await bulk_stream(gateway, params))

    return bulk


def _pipeline(gateway: Gateway) -> Endpoint:
    async def pipeline(request: Request) -> Response:
        params = ACTIONS["pipeline"].read_params(await read_values(request), lax=True)
        assert isinstance(params, RunPipeline)
        check_streams(gateway)
        return stream_response(gateway, await pipeline_stream(gateway, params))

    return pipeline
