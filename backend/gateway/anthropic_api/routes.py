"""The endpoints of `/v1/messages` in Anthropic's words, and its rows of models."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from backend.gateway.anthropic_api.request import CountBody, MessageBody, read_asked, read_count
from backend.gateway.anthropic_api.writer import MessageWriter, error_reply
from backend.gateway.completions.answer import find_model, of_many
from backend.gateway.completions.asked import refused
from backend.gateway.completions.serve import serve
from backend.gateway.context import Gateway
from backend.gateway.responses import decode_object, json_reply
from backend.gateway.routes import vendor_route
from backend.schema.records import SpecialistStatus
from backend.schema.states import LIVE


def anthropic_routes(gateway: Gateway) -> list[Route]:
    """Return the routes of the dialect; its models are listed under `/v1/models`."""

    async def messages(request: Request) -> Response:
        asked = read_asked(decode_object(await request.body()))
        return await serve(gateway, request, asked, MessageWriter)

    async def count_tokens(request: Request) -> Response:
        model, texts = read_count(decode_object(await request.body()))
        if of_many(model):
            who = f"the model {model!r} is several specialists"
            raise refused("model", f"model: {who}, whose tokens have no common measure; name one of them")
        ai_id = find_model(gateway.platform, model)
        texts.insert(0, gateway.platform.catalog.get(ai_id).persona)
        return json_reply({"input_tokens": await gateway.platform.turns.count_tokens(ai_id, texts)})

    route = partial(vendor_route, gateway, "POST", failed=error_reply)
    ask = "Answer a conversation in Anthropic's shape, plain or streamed."
    count = "Count the tokens of a conversation for a running specialist."
    return [
        route("/v1/messages", "chat", messages, ask, MessageBody),
        route("/v1/messages/count_tokens", "read", count_tokens, count, CountBody),
    ]


def model_rows(statuses: list[SpecialistStatus], created: float) -> dict[str, Any]:
    """Return specialists as Anthropic lists models, those that run first."""
    rows = [
        {
            "type": "model",
            "id": status.id,
            "display_name": status.title,
            "created_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(created)),
        }
        for status in sorted(statuses, key=lambda one: one.state not in LIVE)
    ]
    return {"data": rows, "has_more": False, "first_id": rows[0]["id"], "last_id": rows[-1]["id"]}
