"""The endpoints of `/v1` in OpenAI's words. A shell: reads bodies, writes answers; what happens between is the core's."""

from __future__ import annotations

from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from backend.gateway.anthropic_api.routes import model_rows
from backend.gateway.completions.answer import (
    AUTO_MODEL,
    TEAM_MODEL,
    Answered,
    Finish,
    find_model,
    is_pipeline,
)
from backend.gateway.completions.asked import refused
from backend.gateway.completions.embeddings import embed
from backend.gateway.completions.serve import Head, serve
from backend.gateway.context import Gateway
from backend.gateway.openai_api.chat_request import CompletionBody, read_asked
from backend.gateway.openai_api.chat_writer import ChatWriter
from backend.gateway.openai_api.embeddings import EmbeddingBody, embedding_value, read_embedding
from backend.gateway.openai_api.kept import earlier_messages, forget_response, kept_response
from backend.gateway.openai_api.responses_request import (
    ResponseBody,
    asked_of,
    check_response,
    read_response,
)
from backend.gateway.openai_api.responses_writer import ResponseWriter
from backend.gateway.responses import decode_object, json_reply
from backend.gateway.routes import refusing, vendor_route
from backend.grammar import parse
from backend.schema.frames import Usage
from backend.schema.records import SpecialistStatus
from backend.schema.states import LIVE

OWNER = "tekton"
OF_MANY = (TEAM_MODEL, AUTO_MODEL)
REFUSED = {
    "/v1/responses/input_tokens": "tokens are counted by /v1/messages/count_tokens",
    "/v1/responses/{id}/cancel": "only answers in the background are cancelled so: close the connection of one that is streamed",
    "/v1/responses/{id}/input_items": "the input of a response is not given back: its caller has it",
    "/v1/completions": "this older form is not answered: use /v1/chat/completions",
}
"""What of OpenAI's API is not offered, and what to do instead."""


def openai_routes(gateway: Gateway) -> list[Route]:
    """Return the routes of the OpenAI-compatible surface."""
    surface, route = _Surface(gateway), partial(vendor_route, gateway)
    compact = "Refuse, by name: conversations are not compacted here."
    read, delete = (
        "Return a response that was stored.",
        "Delete a stored response and its question, for good.",
    )
    ask = "Answer in the shape of OpenAI's Responses, plain or streamed."
    chat = "Answer a conversation in OpenAI's shape, plain or streamed."
    embed = "Make texts into vectors, by the model behind a specialist."
    listing = "List every specialist as a model; those that run come first."
    model = "Describe a model: a specialist, `team`, `auto` or a pipeline."
    return [
        route("POST", "/v1/responses", "chat", surface.responses, ask, ResponseBody),
        route("POST", "/v1/responses/compact", "chat", surface.compact, compact),
        # before the path that takes any id: the first route that fits is taken
        *(refusing(gateway, path, why) for path, why in REFUSED.items()),
        route("GET", "/v1/responses/{id}", "read", surface.response, read),
        route("DELETE", "/v1/responses/{id}", "chat", surface.delete_response, delete),
        route("POST", "/v1/embeddings", "chat", surface.embeddings, embed, EmbeddingBody),
        route("GET", "/v1/models", "read", surface.models, listing),
        route("GET", "/v1/models/{id}", "read", surface.model, model),
        route("POST", "/v1/chat/completions", "chat", surface.chat, chat, CompletionBody),
    ]


class _Surface:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway, self._platform = gateway, gateway.platform

    async def models(self, request: Request) -> Response:
        created = self._platform.started_at
        # both vendors list their models under this path; Anthropic's SDK sends this header with every request
        if "anthropic-version" in request.headers:
            return json_reply(model_rows(list(self._platform.fleet.statuses()), created))
        rows = [_specialist_entry(status, created) for status in self._platform.fleet.statuses()]
        rows.sort(key=lambda row: not row["active"])
        rows += [_model_entry(name, created) for name in OF_MANY]
        return json_reply({"object": "list", "data": rows})

    async def model(self, request: Request) -> Response:
        name, created = request.path_params["id"], self._platform.started_at
        if name in OF_MANY:
            return json_reply(_model_entry(name, created))
        if is_pipeline(name):
            for stage in parse(name).stages:
                for target in getattr(stage, "targets", ()):
                    if target.name.removeprefix("@") not in OF_MANY:
                        self._platform.catalog.expand([target.name])
            return json_reply(_model_entry(name, created))
        status = self._platform.fleet.status(find_model(self._platform, name))
        return json_reply(_specialist_entry(status, created))

    async def chat(self, request: Request) -> Response:
        asked = read_asked(decode_object(await request.body()))
        return await serve(self._gateway, request, asked, ChatWriter)

    async def responses(self, request: Request) -> Response:
        values = decode_object(await request.body())
        unused = check_response(values)
        body = read_response(values)
        before = await earlier_messages(self._platform.memory.messages, body.previous_response_id)
        asked = asked_of(body, values, before, unused)

        if asked.target.lower() == TEAM_MODEL or is_pipeline(asked.target):
            asked.kept = None  # the team and pipelines store their answers elsewhere

        def write(head: Head) -> ResponseWriter:
            return ResponseWriter(head, body, values.get("metadata"))

        return await serve(self._gateway, request, asked, write)

    async def embeddings(self, request: Request) -> Response:
        body = read_embedding(decode_object(await request.body()))
        return json_reply(embedding_value(body, await embed(self._gateway, body.model.strip(), body.texts)))

    async def response(self, request: Request) -> Response:
        if request.query_params.get("stream", "false").lower() not in ("false", "0", ""):
            raise refused("stream", "stream: a stored response comes whole; leave it out")
        kept = await kept_response(self._platform.memory.messages, request.path_params["id"])
        values = {**kept.values, "input": "(not read again)"}
        body = read_response(values)
        asked = asked_of(body, values, [], [])
        answer = kept.answer
        answered = Answered(
            answer.content,
            answer.reasoning,
            answer.parts,
            Finish(answer.finish_reason or "stop", answer.usage or Usage(), answer.model),
        )
        writer = ResponseWriter(Head(kept.name, kept.created, asked), body, values.get("metadata"))
        return json_reply(writer.whole([answered]))

    async def compact(self, request: Request) -> Response:
        raise refused(
            "",
            "compact: conversations are not compacted here; what does not fit a model is summarised by itself",
        )

    async def delete_response(self, request: Request) -> Response:
        name = request.path_params["id"]
        await forget_response(self._platform.memory.messages, name)
        return json_reply({"id": name, "object": "response", "deleted": True})


def _model_entry(name: str, created: float, **facts: Any) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": int(created), "owned_by": OWNER, **facts}


def _specialist_entry(status: SpecialistStatus, created: float) -> dict[str, Any]:
    """Return a specialist as a model; beside OpenAI's fields who it is, whether it runs and what answers."""
    return _model_entry(
        status.id,
        created,
        title=status.title,
        state=status.state,
        active=status.state in LIVE,
        backing_model=status.model,
        capabilities=status.capabilities,
    )
