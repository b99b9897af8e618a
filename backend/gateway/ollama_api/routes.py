"""The endpoints of Ollama's API that its clients need."""

from __future__ import annotations

import hashlib
import time
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import backend
from backend.gateway.completions.answer import find_model, of_many
from backend.gateway.completions.asked import read_body, refused
from backend.gateway.completions.embeddings import embed
from backend.gateway.completions.serve import name_unused, serve
from backend.gateway.context import Gateway
from backend.gateway.ollama_api.request import (
    EMBEDDED,
    LATEST,
    SHOWN,
    ChatBody,
    EmbedBody,
    GenerateBody,
    ShowBody,
    model_name,
    read_chat,
    read_generate,
)
from backend.gateway.ollama_api.writer import ChatWriter, GenerateWriter, error_reply
from backend.gateway.responses import decode_object, json_reply
from backend.gateway.routes import refusing, vendor_route
from backend.schema.content import Abilities
from backend.schema.errors import TektonError
from backend.schema.records import SpecialistStatus
from backend.schema.states import LIVE

DETAILS = {
    # fields that clients of Ollama read without looking whether they are there
    "parent_model": "", "format": "", "family": "tekton", "families": ["tekton"], "parameter_size": "",
    "quantization_level": "",
}  # fmt: skip
CAPABILITIES = {"tools": "tools", "images": "vision", "thinking": "thinking"}
"""Our names of what a model takes, and Ollama's."""


REFUSED = {
    "/api/pull": "models are fetched by `tekton models pull`",
    "/api/push": "models are not published from here",
    **dict.fromkeys(
        ("/api/create", "/api/copy", "/api/delete"),
        "specialists are made and removed by `tekton specialists`",
    ),
    "/api/embeddings": "this older form is not answered: use /api/embed",
}
"""What of the API is not offered, and what to do instead."""


def ollama_routes(gateway: Gateway) -> list[Route]:
    """Return the routes of the dialect."""
    surface, route = _Surface(gateway), partial(vendor_route, gateway, failed=error_reply)
    embed, show = (
        "Make texts into vectors, in Ollama's shape.",
        "Describe a specialist as Ollama does a model.",
    )
    chat, generate = "Answer a chat in Ollama's shape.", "Answer a prompt in Ollama's shape."
    tags = "List specialists as Ollama lists models."
    running = "List the specialists that run, in Ollama's shape."
    version = "Return the platform's version."
    return [
        *(refusing(gateway, path, why, failed=error_reply) for path, why in REFUSED.items()),
        route("POST", "/api/embed", "chat", surface.embed, embed, EmbedBody),
        route("POST", "/api/chat", "chat", surface.chat, chat, ChatBody),
        route("POST", "/api/generate", "chat", surface.generate, generate, GenerateBody),
        route("GET", "/api/tags", "read", surface.tags, tags),
        route("GET", "/api/ps", "read", surface.running, running),
        route("POST", "/api/show", "read", surface.show, show, ShowBody),
        route("GET", "/api/version", "read", surface.version, version),
    ]


class _Surface:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway, self._platform = gateway, gateway.platform

    async def chat(self, request: Request) -> Response:
        values = decode_object(await request.body())
        # clients ask so to have the model loaded; an empty question would cost a turn
        if not values.get("messages"):
            return self._loaded(values, {"message": {"role": "assistant", "content": ""}})
        return await serve(self._gateway, request, read_chat(values), ChatWriter)

    async def generate(self, request: Request) -> Response:
        values = decode_object(await request.body())
        if not values.get("prompt") and not values.get("images"):
            return self._loaded(values, {"response": ""})
        return await serve(self._gateway, request, read_generate(values), GenerateWriter)

    def _loaded(self, values: dict[str, Any], empty: dict[str, Any]) -> Response:
        """Answer a request without a question, by which clients have a model loaded, or with `keep_alive` 0 unloaded.

        Raises:
            TektonError: The specialist does not run; nothing is started or stopped by a question.
        """
        model = str(values.get("model") or "")
        found = find_model(self._platform, model_name(model))
        self._platform.fleet.channel(found)
        if values.get("keep_alive") in (0, "0", "0s"):
            raise refused("keep_alive", f"keep_alive: {model} is stopped by `tekton kill`, not by a question")
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        told = {"model": model, "created_at": moment, **empty, "done": True, "done_reason": "load"}
        return json_reply(told)

    async def tags(self, request: Request) -> Response:
        # who can answer stands first: some clients take the first of the list where nobody named a model
        statuses = sorted(self._platform.fleet.statuses(), key=lambda one: one.state not in LIVE)
        return json_reply({"models": [self._row(status) for status in statuses]})

    async def running(self, request: Request) -> Response:
        statuses = [status for status in self._platform.fleet.statuses() if status.state in LIVE]
        return json_reply({"models": [self._row(status) for status in statuses]})

    async def show(self, request: Request) -> Response:
        values = decode_object(await request.body())
        SHOWN.check(values)
        name = model_name(str(values.get("model") or values.get("name") or ""))
        abilities, window = Abilities(), 0
        if not of_many(name):
            status = self._platform.fleet.status(find_model(self._platform, name))
            abilities, window = await self._known(status)
        can = ["completion", *(word for own, word in CAPABILITIES.items() if getattr(abilities, own))]
        return json_reply(
            {
                "modelfile": "", "parameters": "", "template": "", "details": DETAILS,
                "modified_at": self._moment, "capabilities": can,
                "model_info": {"general.architecture": "tekton", "tekton.context_length": window},
            }
        )  # fmt: skip

    async def embed(self, request: Request) -> Response:
        values = decode_object(await request.body())
        unused = EMBEDDED.check(values)
        body = read_body(values, EmbedBody, EMBEDDED.name)
        texts = [body.input] if isinstance(body.input, str) else body.input
        made = await embed(self._gateway, model_name(body.model), texts)
        count = made.usage.input_tokens + made.usage.cached_tokens
        answer = {"model": body.model, "embeddings": made.vectors, "prompt_eval_count": count}
        return name_unused(json_reply(answer), unused)

    async def version(self, request: Request) -> Response:
        return json_reply({"version": backend.__version__})

    async def _known(self, status: SpecialistStatus) -> tuple[Abilities, int]:
        """Return what a specialist's model takes and its window; nothing is known of one that does not run."""
        try:
            return await self._platform.turns.abilities(status.id)
        except TektonError:
            return Abilities(), 0

    @property
    def _moment(self) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._platform.started_at))

    def _row(self, status: SpecialistStatus) -> dict[str, Any]:
        name = f"{status.name}{LATEST}"
        return {
            "name": name,
            "model": name,
            "modified_at": self._moment,
            "size": 0,
            # another model behind the specialist is another model to clients that remember by digest
            "digest": hashlib.sha256(f"{status.id} {status.model}".encode()).hexdigest(),
            "details": DETAILS,
        }
