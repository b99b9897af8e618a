"""The routes that answer with server-sent events, and what the OpenAPI document says of them."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from backend.gateway.context import Gateway
from backend.gateway.openapi import RouteDoc
from backend.gateway.routes import Endpoint, guarded, read_values
from backend.gateway.sse import chat_frames, check_streams, stream_response, team_frames, wants_metadata
from backend.gateway.sse_many import bulk_stream, pipeline_stream
from backend.orchestration.actions import ACTIONS
from backend.orchestration.actions.chat import BulkParams, ChatParams, TeamChatParams
from backend.orchestration.actions.pipelines import PipelineParams

EVENTS = "text/event-stream"
CHAT = RouteDoc(
    "chat stream",
    "chat",
    "Ask one specialist and stream the answer as server-sent events.",
    ChatParams,
    ACTIONS["chat"].aliases,
    {"include_metadata": {"type": "boolean", "default": True}},
    media=EVENTS,
)
TEAM = RouteDoc(
    "team stream",
    "chat",
    "Ask the team and stream all answers, interleaved, as server-sent events.",
    TeamChatParams,
    ACTIONS["team_chat"].aliases,
    media=EVENTS,
)
BULK = RouteDoc(
    "bulk stream",
    "chat",
    "Run many requests side by side and stream each result as it is there.",
    BulkParams,
    ACTIONS["bulk"].aliases,
    media=EVENTS,
)
PIPELINE = RouteDoc(
    "pipeline stream",
    "chat",
    "Run a pipeline and stream its stages and its output.",
    PipelineParams,
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
        params = ACTIONS["chat"].read_params(values, lax=True)
        assert isinstance(params, ChatParams)
        return stream_response(gateway, chat_frames(gateway, params, metadata))

    return chat


def _team(gateway: Gateway) -> Endpoint:
    async def team(request: Request) -> Response:
        params = ACTIONS["team_chat"].read_params(await read_values(request), lax=True)
        assert isinstance(params, TeamChatParams)
        return stream_response(gateway, team_frames(gateway, params))

    return team


def _bulk(gateway: Gateway) -> Endpoint:
    async def bulk(request: Request) -> Response:
        params = ACTIONS["bulk"].read_params(await read_values(request), lax=True)
        assert isinstance(params, BulkParams)
        check_streams(gateway)
        return stream_response(gateway, await bulk_stream(gateway, params))

    return bulk


def _pipeline(gateway: Gateway) -> Endpoint:
    async def pipeline(request: Request) -> Response:
        params = ACTIONS["pipeline"].read_params(await read_values(request), lax=True)
        assert isinstance(params, PipelineParams)
        check_streams(gateway)
        return stream_response(gateway, await pipeline_stream(gateway, params))

    return pipeline
