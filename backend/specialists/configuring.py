"""What a running worker is asked beside its turns: to answer with another model, to take options and keys, to make vectors.

Knows the workers' requests for that and the rows that show it; starts and stops nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import backend
from backend.schema.errors import TektonError
from backend.schema.frames import EmbedResponse, ErrorReply, InfoResponse, Request
from backend.schema.records import ProviderChoice, SpecialistStatus
from backend.schema.states import LIVE
from backend.specialists.context import SupervisorContext, choice_fields, named
from backend.specialists.environment import extra_keys
from backend.specialists.model_server import ModelServer
from backend.specialists.worker_client import Channel

EMBED_TIMEOUT_S = 120.0
CONFIGURE_TIMEOUT_S = 60.0
"""Long, because a worker may have to import another provider's library first; it gives that up before this has passed,
so that no worker takes a model after its row was said to have kept the one before."""


class Configuring:
    """Asks the workers of one fleet. `channel` returns that to a specialist, or raises `NotRunning`."""

    def __init__(
        self, context: SupervisorContext, model_server: ModelServer, channel: Callable[[str], Channel]
    ) -> None:
        self._context, self._model_server, self._channel = context, model_server, channel
        self._changing: dict[str, asyncio.Lock] = {}
        """Changes of a specialist's model come one after another: row and worker never end up with two."""
        self._keys_sent: set[tuple[int, str]] = set()
        """Pid of a worker and provider whose keys it got."""

    async def set_model(self, row: SpecialistStatus, provider: str | None, model: str | None) -> None:
        """Change provider and model of a specialist; see `Supervisor.set_model`."""
        context = self._context
        async with self._changing.setdefault(row.id, asyncio.Lock()):
            row = context.table.rows.get(row.id, row)  # as it is now: another change may have been waited for
            kind = provider or row.provider
            if kind == "auto":
                kind = context.choice.provider
            chosen = model or (row.model if kind == row.provider else context.default_model(kind))
            if not chosen:
                raise TektonError(f"no model is named for {kind}: give one", code="invalid_request")
            choice = named(kind, chosen, "set by hand")
            if kind == "embedded":
                self._model_server.ensure()
            if row.state in LIVE:
                # The worker first: if it refuses, the choice and the row stay what they were.
                await self._configure(row, choice)
            context.choices[row.id] = choice
            context.table.update(row.id, **choice_fields(choice))

    async def set_agent_option(self, row: SpecialistStatus, option: str, value: str | bool) -> None:
        """Set an option of an external agent; see `Supervisor.set_agent_option`."""
        if self._context.catalog.get(row.id).transport != "acp":
            raise TektonError(f"{row.name} is no external agent: it has no options", code="invalid_request")
        if row.state not in LIVE:
            raise TektonError(
                f"{row.name} does not run: launch it, or set it in config.toml for every start",
                code="not_running",
            )
        if option == "model":
            await self.set_model(row, None, str(value))
            return
        request = Request(type="configure", token=self._context.token, settings={option: value})
        reply = await self._channel(row.id).call(request, timeout_s=CONFIGURE_TIMEOUT_S)
        if isinstance(reply, ErrorReply):
            raise self._refused(row, reply)

    async def embed(self, row: SpecialistStatus, texts: list[str], model: str) -> EmbedResponse:
        """Return the vectors of texts; see `Supervisor.embed`."""
        asked = Request(type="embed", texts=texts, model=model or None, token=self._context.token)
        reply = await self._channel(row.id).call(asked, timeout_s=EMBED_TIMEOUT_S)
        if isinstance(reply, ErrorReply):
            raise self._refused(row, reply)
        if not isinstance(reply, EmbedResponse):
            raise TektonError(f"{row.id} answered `embed` with {type(reply).__name__}")
        return reply

    async def send_keys(self, row: SpecialistStatus, kind: str) -> None:
        """Send a worker the keys it lacks to use another provider than its own, once.

        An answer that is an error is ignored: the turn then fails with the provider's own words.
        """
        values = self._extra_keys(kind)
        if kind == "embedded":
            self._model_server.ensure()
        sent = (row.pid, kind) in self._keys_sent
        if kind == row.provider or not values or row.transport != "socket" or sent:
            return
        # Noted before the call, so that turns that begin meanwhile do not send them again.
        self._keys_sent.add((row.pid, kind))
        request = Request(type="configure", token=self._context.token, lent=values)
        await self._channel(row.id).call(request, timeout_s=CONFIGURE_TIMEOUT_S)

    async def _configure(self, row: SpecialistStatus, choice: ProviderChoice) -> None:
        request = Request(
            type="configure",
            provider=choice.provider,
            model=choice.model,
            token=self._context.token,
            lent=self._extra_keys(choice.provider),
        )
        reply = await self._channel(row.id).call(request, timeout_s=CONFIGURE_TIMEOUT_S)
        if isinstance(reply, ErrorReply):
            raise self._refused(row, reply)
        # Into the registry as well: another backend that adopts the worker shows the model it really has.
        if isinstance(reply, InfoResponse) and (placement := self._context.placements.get(row.id)):
            await self._context.registry.apply(
                lambda change: change.update(
                    row.id,
                    expect=(placement.identity.pid, placement.identity.start),
                    provider=choice.provider,
                    model=choice.model,
                )
            )

    def _refused(self, row: SpecialistStatus, reply: ErrorReply) -> TektonError:
        """Return why a worker refused a request; one of another version may not know what is asked."""
        if reply.code == "unknown_type" and row.version != backend.__version__:
            return TektonError(
                f"{row.name} runs version {row.version} and cannot do that, this gateway is {backend.__version__}: "
                f"`tekton restart {row.name}` when it suits",
                code="conflict",
                evidence=reply.message,
            )
        return TektonError(reply.message, code=reply.code, evidence=reply.evidence, detail=reply.detail)

    def _extra_keys(self, kind: str) -> dict[str, str]:
        """Return the keys that are sent to a worker over its socket: none to other hosts and agents, which have their own."""
        if self._context.launcher.remote or kind == "acp":
            return {}
        return extra_keys(self._context.environment, kind, self._context.settings)
