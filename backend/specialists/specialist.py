"""A specialist as such: what it answers to each request, wherever the request came from.

Knows no socket and no process. A worker serves one over TCP; the backend holds one for each endpoint specialist.
"""

from __future__ import annotations

import hmac
import logging
import time
from typing import TypeVar

from backend.schema.errors import ErrorCode, TektonError
from backend.schema.frames import (
    CountTokensResponse,
    ErrorReply,
    HealthResponse,
    InfoResponse,
    Pong,
    Request,
)
from backend.specialists.desk import Desk, MakeProvider
from backend.specialists.spec import WorkerSpec
from backend.specialists.turn import Sink, Turn

log = logging.getLogger(__name__)

INFO_PROMPT_CHARS = 200

Answer = Pong | HealthResponse | InfoResponse | CountTokensResponse | ErrorReply
AnyAnswer = TypeVar("AnyAnswer", bound=Answer)
CHAT_TYPES = frozenset({"chat", "message"})


class Specialist:
    """Answers for one row of the catalogue. `clients` is kept by whoever accepts connections."""

    def __init__(self, spec: WorkerSpec, make: MakeProvider | None = None) -> None:
        self.spec = spec
        self.desk = Desk(spec, make)
        self.clients = 0

    @property
    def ai_id(self) -> str:
        return self.spec.ai_id

    @property
    def model(self) -> str:
        return f"{self.desk.provider}:{self.desk.model}"

    async def warm(self) -> TektonError | None:
        """Prepare the own provider; return why it cannot be, if so."""
        try:
            await self.desk.get(self.desk.provider)
        except TektonError as error:
            log.warning("%s: %s", error.code, error)
            return error
        return None

    async def prewarm(self) -> None:
        """Let a provider that can read the persona ahead of the first question; a failure costs only time."""
        prewarm = getattr(await self.desk.get(self.desk.provider), "prewarm", None)
        if prewarm is None:
            return
        try:
            await prewarm(self.spec.persona, self.spec.slot)
        except Exception as error:  # whatever it is, the first turn will meet it and say so
            log.info("the persona could not be read ahead: %s", error)

    def turn(self, request: Request, request_id: str, sink: Sink) -> Turn:
        """Return a turn that is not yet running."""
        return Turn(self.spec, self.desk, request, request_id, sink)

    def at_once(self, request: Request) -> Pong | ErrorReply | None:
        """Return the answer to a request that needs no waiting, `None` when it does need some."""
        if request.type == "ping":
            return self._stamped(Pong(self.ai_id, time.time()), request)
        if request.type in ("health", "info", "count_tokens", "configure") or request.type in CHAT_TYPES:
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
                reply = await self._info()
            case "count_tokens":
                reply = await self._count(request)
            case "configure":
                reply = await self._configure(request)
            case _:
                return self.at_once(request) or self.error(
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
        found = await self.desk.health()
        return HealthResponse(
            ai_id=self.ai_id,
            status="healthy" if found.ok else "degraded",
            component=self.spec.component,
            model=self.model,
            clients=self.clients,
            detail=found.detail or None,
        )

    async def _info(self) -> InfoResponse:
        spec = self.spec
        return InfoResponse(
            ai_id=self.ai_id,
            component=spec.component,
            description=spec.description,
            title=spec.title,
            model_provider=self.desk.provider,
            model_name=self.desk.model,
            model=self.model,
            system_prompt=spec.persona[:INFO_PROMPT_CHARS],
            port=spec.port,
            capabilities=spec.capabilities,
            context_window=await self.desk.context_window(),
            max_tokens=self.desk.max_tokens(self.desk.provider) or 0,
        )

    async def _count(self, request: Request) -> CountTokensResponse | ErrorReply:
        try:
            provider = await self.desk.get(self.desk.provider)
            counts = await provider.count_tokens(request.texts or [], self.desk.model)
        except TektonError as error:
            return self.error(error.code, error.message)
        return CountTokensResponse(self.ai_id, counts)

    async def _configure(self, request: Request) -> InfoResponse | ErrorReply | Pong:
        """Change provider and model for the turns to come, or only take keys; only who holds the token may."""
        if not self.is_token(request.token):
            return self.error("unauthorized", "configure needs the platform's worker token")
        self.desk.lend(request.lent or {})
        if request.provider is None and request.model is None:
            return Pong(self.ai_id, time.time())
        kind = request.provider or self.desk.provider
        model = request.model or self.desk.default_model(kind)
        try:
            await self.desk.get(kind)
            if lacking := await self.desk.lacks(kind, model):
                return self.error("model_not_found", lacking)
        except TektonError as error:
            return self.error(error.code, error.message)
        self.desk.provider, self.desk.model = kind, model
        self.desk.problem = None
        log.info("now uses %s", self.model)
        return await self._info()

    @staticmethod
    def _stamped(reply: AnyAnswer, request: Request | None) -> AnyAnswer:
        if request is not None and request.request_id is not None:
            reply.request_id = request.request_id
        return reply
