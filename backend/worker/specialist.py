"""A specialist: what it answers to each request, whichever way the request came.

Knows no socket and no process. A worker serves one over TCP; the backend holds one for each endpoint specialist.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import time
from typing import TypeVar

import backend
from backend.deadlines import loop_timeout
from backend.providers.base import Unable
from backend.schema.content import Abilities
from backend.schema.errors import ErrorCode, TektonError
from backend.schema.frames import (
    CountTokensResponse,
    EmbedResponse,
    ErrorReply,
    HealthResponse,
    InfoResponse,
    Pong,
    Request,
    ToolsReport,
)
from backend.worker.generation import Generation
from backend.worker.provider_pool import WINDOW_TIMEOUT_S, ProviderFactory, ProviderPool
from backend.worker.spec import WorkerSpec
from backend.worker.tools.toolbox import Toolbox
from backend.worker.turn import Sink, WorkerTurn

log = logging.getLogger(__name__)

INFO_PROMPT_CHARS = 200
CONFIGURE_TIMEOUT_S = 45.0
"""How long another provider may take to be ready. Shorter than the time-out of the platform that asks for it: an answer
that nobody waits for would leave the worker with another model than its row shows."""

Answer = Pong | HealthResponse | InfoResponse | CountTokensResponse | EmbedResponse | ErrorReply
AnyAnswer = TypeVar("AnyAnswer", bound=Answer)
CHAT_TYPES = frozenset({"chat", "message"})
"""Request types that are answered by a generation; `message` is what older clients call it."""


class Specialist:
    """Answers for one row of the catalogue. `clients` is counted by whoever accepts connections."""

    def __init__(self, spec: WorkerSpec, make: ProviderFactory | None = None) -> None:
        self.spec = spec
        self.providers = ProviderPool(spec, make)
        self.platforms: list[Sink] = []
        """Connections of platforms, which get reports on the tool servers."""
        self.tools = Toolbox(spec.tools, os.environ, self._tools_changed)
        self.clients = 0

    @property
    def ai_id(self) -> str:
        """The specialist's id, such as `apollo-ai`."""
        return self.spec.ai_id

    @property
    def model(self) -> str:
        """The own provider and model as `provider:model`."""
        return f"{self.providers.provider}:{self.providers.model}"

    async def prepare(self) -> TektonError | None:
        """Prepare the own provider; return the error if that fails, `None` if not."""
        try:
            await self.providers.get(self.providers.provider)
        except TektonError as error:
            log.warning("%s: %s", error.code, error)
            return error
        return None

    async def prewarm(self) -> None:
        """Have the provider read the persona into its prompt cache, where it can do that before the first question."""
        prewarm = getattr(await self.providers.get(self.providers.provider), "prewarm", None)
        if prewarm is None:
            return
        try:
            await prewarm(self.spec.persona, self.spec.slot)
        except Exception as error:
            # Only speed is lost: the first generation meets the same failure and reports it.
            log.info("the persona could not be read ahead: %s", error)

    def generation(self, request: Request, request_id: str, sink: Sink) -> WorkerTurn:
        """Return a generation that does not run yet; of a platform's request one that may call tools."""
        generation = Generation(self.spec, self.providers, request, request_id, sink)
        if any(platform is sink for platform in self.platforms):
            generation.give_tools(self.tools)
        return generation

    async def until_ended(self) -> int:
        """Wait for the end of what answers, and return its exit status; what runs in this process has none."""
        return await asyncio.get_running_loop().create_future()

    async def close(self) -> None:
        """End what runs for it: tool servers, connections of providers."""
        await self.tools.close()
        await self.providers.aclose()

    def report_tools(self, platform: Sink) -> None:
        """Report the states of the tool servers to a platform, if there are any."""
        if state := self.tools.state:
            platform.send(ToolsReport(self.ai_id, state))

    def _tools_changed(self) -> None:
        for platform in self.platforms:
            self.report_tools(platform)

    def answer_now(self, request: Request) -> Pong | ErrorReply | None:
        """Return the answer to a request that can be answered without waiting, else `None`."""
        if request.type == "ping":
            return self._stamped(Pong(self.ai_id, time.time()), request)
        if (
            request.type in ("health", "info", "count_tokens", "embed", "configure")
            or request.type in CHAT_TYPES
        ):
            return None
        known = "chat, ping, health, info, cancel"
        return self.error(
            "unknown_type", f"there is no request of type {request.type!r}; known: {known}", request
        )

    async def answer(self, request: Request) -> Answer:
        """Return the answer to a request that is neither a chat nor a cancel."""
        match request.type:
            case "health":
                reply = await self._health()
            case "info":
                kind, model = self._meant(request)
                began = time.monotonic()
                reply = await self._info(kind, model)
                if request.phases:
                    # one limit for both: a provider that hangs must not make the worker look as if it did
                    left = began + WINDOW_TIMEOUT_S - time.monotonic()
                    reply.abilities = await self._abilities(kind, model, left)
                    reply.persona = self.spec.persona
                    reply.version = backend.__version__
            case "count_tokens":
                reply = await self._count(request)
            case "embed":
                reply = await self._embed(request)
            case "configure":
                reply = await self._configure(request)
            case _:
                return self.answer_now(request) or self.error(
                    "internal", "not a request to answer here", request
                )
        return self._stamped(reply, request)

    def error(self, code: ErrorCode, text: str, request: Request | None = None) -> ErrorReply:
        """Return an error reply, carrying the request's id if it has one."""
        return self._stamped(ErrorReply(self.ai_id, code, text, text), request)

    def is_token(self, token: str | None) -> bool:
        """Compare a secret in constant time."""
        return bool(self.spec.token) and hmac.compare_digest((token or "").encode(), self.spec.token.encode())

    async def _health(self) -> HealthResponse:
        found = await self.providers.health()
        return HealthResponse(
            ai_id=self.ai_id,
            status="healthy" if found.ok else "degraded",
            component=self.spec.component,
            model=self.model,
            clients=self.clients,
            detail=found.detail or None,
        )

    def _meant(self, request: Request) -> tuple[str, str]:
        """Return provider and model that a request is about: those it names, else the own ones."""
        kind = request.provider or self.providers.provider
        return kind, request.model or self.providers.default_model(kind)

    async def _info(self, kind: str, model: str) -> InfoResponse:
        spec = self.spec
        return InfoResponse(
            ai_id=self.ai_id,
            component=spec.component,
            description=spec.description,
            title=spec.title,
            model_provider=kind,
            model_name=model,
            model=f"{kind}:{model}",
            system_prompt=spec.persona[:INFO_PROMPT_CHARS],
            port=spec.port,
            capabilities=spec.capabilities,
            context_window=await self.providers.context_window(kind, model),
            max_tokens=self.providers.max_tokens(kind) or 0,
        )

    async def _abilities(self, kind: str, model: str, within_s: float) -> Abilities:
        """Return what a model takes beside text; nothing is known while its provider is not ready."""
        if not self.providers.is_prepared(kind):
            return Abilities()
        return await self.providers.abilities(kind, model, within_s)

    async def _count(self, request: Request) -> CountTokensResponse | ErrorReply:
        try:
            kind, model = self._meant(request)
            provider = await self.providers.get(kind)
            counts = await provider.count_tokens(request.texts or [], model)
        except TektonError as error:
            return self.error(error.code, error.message)
        return CountTokensResponse(self.ai_id, counts)

    async def _embed(self, request: Request) -> EmbedResponse | ErrorReply:
        """Make texts into vectors; needs the platform's worker token, since the platform books what it costs."""
        if not self.is_token(request.token):
            return self.error("unauthorized", "embed needs the platform's worker token")
        kind, model = self._meant(request)
        try:
            provider = await self.providers.get(kind)
            embed = getattr(provider, "embed", None)
            if embed is None:
                raise Unable(f"the provider {kind} makes no embeddings: ask a specialist of another one")
            vectors, usage = await embed(request.texts or [], model)
        except TektonError as error:
            return self.error(error.code, error.message)
        return EmbedResponse(self.ai_id, vectors, f"{kind}:{model}", usage)

    async def _configure(self, request: Request) -> InfoResponse | ErrorReply | Pong:
        """Change provider and model for later requests, or only add keys; needs the platform's worker token."""
        if not self.is_token(request.token):
            return self.error("unauthorized", "configure needs the platform's worker token")
        self.providers.add_keys(request.lent or {})
        if request.provider is None and request.model is None:
            return Pong(self.ai_id, time.time())
        kind = request.provider or self.providers.provider
        model = request.model or self.providers.default_model(kind)
        try:
            async with loop_timeout(CONFIGURE_TIMEOUT_S):
                await self.providers.get(kind)
            if why := await self.providers.missing_model(kind, model):
                return self.error("model_not_found", why)
        except TimeoutError:
            text = f"{kind} was not ready within {CONFIGURE_TIMEOUT_S:g} s; {self.model} answers as before: try again"
            return self.error("timeout", text)
        except TektonError as error:
            return self.error(error.code, error.message)
        self.providers.provider, self.providers.model = kind, model
        self.providers.problem = None
        log.info("now uses %s", self.model)
        return await self._info(kind, model)

    @staticmethod
    def _stamped(reply: AnyAnswer, request: Request | None) -> AnyAnswer:
        if request is not None and request.request_id is not None:
            reply.request_id = request.request_id
        return reply
