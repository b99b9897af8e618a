"""The endpoints of `/v1`. An answer that fails before its first piece is an HTTP error, later an error in the stream."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from backend.gateway.context import Gateway
from backend.gateway.openai_api import shapes
from backend.gateway.openai_api.asked import Asked, CompletionBody, read_asked
from backend.gateway.openai_api.pieces import Finish, Piece, Pieces, answer, find_model, is_pipeline
from backend.gateway.openai_api.stopping import stopped
from backend.gateway.openapi import RouteDoc
from backend.gateway.presence import while_present
from backend.gateway.replies import decode_object, error_body, json_reply
from backend.gateway.routes import guarded
from backend.gateway.sse import frame, stream_response
from backend.grammar import parse
from backend.orchestration.turns import new_request_id
from backend.schema.errors import TektonError

MODELS = RouteDoc("v1/models", "read", "List every specialist as a model; those that run come first.")
MODEL = RouteDoc("v1/models/id", "read", "Describe a model: a specialist, `team`, `auto` or a pipeline.")
CHAT = RouteDoc(
    "v1/chat/completions",
    "chat",
    "Answer a conversation in OpenAI's shape, plain or streamed.",
    CompletionBody,
)
DONE = b"data: [DONE]\n\n"


def openai_routes(gateway: Gateway) -> list[Route]:
    """Return the routes of the OpenAI-compatible surface."""
    surface = _Surface(gateway)
    models = guarded(gateway, "v1/models", "read", surface.models, MODELS, transport="openai")
    model = guarded(gateway, "v1/models/id", "read", surface.model, MODEL, transport="openai")
    chat = guarded(gateway, "v1/chat/completions", "chat", surface.chat, CHAT, transport="openai")
    return [
        Route("/v1/models", models, methods=["GET"]),
        Route("/v1/models/{id}", model, methods=["GET"]),
        Route("/v1/chat/completions", chat, methods=["POST"]),
    ]


class _Surface:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway, self._platform = gateway, gateway.platform

    async def models(self, request: Request) -> Response:
        created = self._platform.started_at
        rows = [shapes.specialist_entry(status, created) for status in self._platform.fleet.statuses()]
        rows.sort(key=lambda row: not row["active"])
        for name in (shapes.TEAM_MODEL, shapes.AUTO_MODEL):
            rows.append(shapes.model_entry(name, created))
        return json_reply({"object": "list", "data": rows})

    async def model(self, request: Request) -> Response:
        name, created = request.path_params["id"], self._platform.started_at
        if name in (shapes.TEAM_MODEL, shapes.AUTO_MODEL):
            return json_reply(shapes.model_entry(name, created))
        if is_pipeline(name):
            for stage in parse(name).stages:
                for target in getattr(stage, "targets", ()):
                    if target.name not in (shapes.TEAM_MODEL, f"@{shapes.AUTO_MODEL}"):
                        self._platform.catalog.expand([target.name])
            return json_reply(shapes.model_entry(name, created))
        status = self._platform.fleet.status(find_model(self._platform, name))
        return json_reply(shapes.specialist_entry(status, created))

    async def chat(self, request: Request) -> Response:
        asked = read_asked(decode_object(await request.body()))
        name = new_request_id()
        pieces = answer(self._gateway, asked, name)
        if asked.stops:
            pieces = stopped(pieces, asked.stops)
        if not asked.stream:
            response = json_reply(await while_present(request, _whole(asked, pieces, name)))
        else:
            first = await while_present(request, _next(pieces))
            try:
                response = stream_response(self._gateway, _frames(asked, first, pieces, name))
            except TektonError:
                await pieces.aclose()
                raise
        response.headers["x-request-id"] = name
        return response


async def _whole(asked: Asked, pieces: Pieces, name: str) -> dict[str, Any]:
    """Return an answer in one piece."""
    created, text, reasoning = time.time(), [""], [""]
    async with aclosing(pieces):
        async for piece in pieces:
            if isinstance(piece, Finish):
                return shapes.completion(
                    name, created, asked.model, "".join(text), "".join(reasoning),
                    piece.reason, piece.usage, piece.backing,
                )  # fmt: skip
            text.append(piece.text)
            reasoning.append(piece.reasoning)
    raise TektonError("the answer ended without a last word")


async def _next(pieces: Pieces) -> Piece | Finish:
    return await anext(pieces)


async def _frames(asked: Asked, first: Piece | Finish, pieces: Pieces, name: str) -> AsyncGenerator[bytes]:
    """Yield the chunks of a stream; its failure is an error chunk, and then there is no `[DONE]`."""
    created = time.time()

    def chunk(delta: dict[str, Any] | None, **more: Any) -> bytes:
        return frame(shapes.chunk(name, created, asked.model, delta, **more))

    piece: Piece | Finish = first
    try:
        yield chunk({"role": "assistant", "content": ""})
        while isinstance(piece, Piece):
            if piece.reasoning:
                yield chunk({"reasoning_content": piece.reasoning})
            if piece.text:
                yield chunk({"content": piece.text})
            piece = await anext(pieces)
        yield chunk({}, finish=piece.reason)
        if asked.include_usage:
            yield chunk(None, usage=piece.usage)
        yield DONE
    except TektonError as error:
        yield frame(error_body(error))
    finally:
        await pieces.aclose()
