"""Specialists behind remote OpenAI-compatible endpoints: joined, joined again by the next backend, released.

There is no process of ours to start or end: joining opens a channel, and the registry keeps who has joined. An
endpoint is asked for nothing but its health.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from backend.catalog import Component
from backend.registry import RegistryError
from backend.schema.errors import TektonError
from backend.schema.frames import HealthResponse, Request
from backend.schema.records import LaunchResult, RegistryEntry, SpecialistStatus
from backend.specialists.context import SupervisorContext
from backend.specialists.endpoint_client import EndpointClient
from backend.specialists.plan import worker_settings, worker_spec
from backend.tasks import Background

ENDPOINT_TIMEOUT_S = 8.0
LAUNCHER = "endpoint"
"""Stands in the registry where other entries name their launcher."""


class Endpoints:
    """The specialists of one fleet that are no processes of ours."""

    def __init__(self, context: SupervisorContext) -> None:
        self._context = context
        self._checks = Background()

    async def join(self, component: Component) -> str:
        """Open a channel to a healthy endpoint; return a message for the operator.

        Raises:
            TektonError: It does not answer or is not healthy; nothing of the attempt is left.
        """
        context, ai_id = self._context, component.id
        channel = self.channel(component)
        try:
            await _check(channel)
            await context.registry.apply(
                lambda change: change.register(ai_id, _entry(context.table.rows[ai_id], component), "joined")
            )
        except TektonError as error:
            channel.close("the endpoint could not be joined")
            raise TektonError(f"{ai_id}: {error.message}", code=error.code) from error
        self._show(component, channel, cause="")
        return f"answers at {component.base_url}"

    async def rejoin(self, entries: dict[str, RegistryEntry]) -> None:
        """Join what an earlier backend had joined; remove entries that are not configured any more.

        They can be asked at once; their health is checked meanwhile.
        """
        for ai_id, entry in entries.items():
            if entry.transport != "api":
                continue
            component = self._context.component(ai_id)
            if component is None or component.transport != "api":
                await self._deregister(ai_id, "no longer a configured endpoint")
                continue
            if (existing := self._context.channels.get(ai_id)) is not None and not existing.closed.done():
                continue  # opened while another gateway led the fleet
            channel = self.channel(component)
            self._show(component, channel, cause="", adopted=True)
            self._checks.start(self._check_health(component, channel), f"rejoin {ai_id}")

    async def _check_health(self, component: Component, channel: EndpointClient) -> None:
        try:
            await _check(channel)
        except TektonError as error:
            if channel.closed.done():
                return
            text = f"{component.id} does not answer ({component.base_url}): {error.message}"
            self._context.table.update(
                component.id, state="lost", phase=None, cause=text, detail=error.message
            )
            self._context.record_error(component.id, error.code, text, phase="adoption")

    async def release(self, ai_id: str) -> LaunchResult:
        """Close the channel to an endpoint; open turns end with error frames."""
        context = self._context
        context.channels.pop(ai_id).close("stopped by the operator")
        context.table.update(ai_id, state="stopping", phase=None)
        context.table.update(ai_id, state="stopped", detail="", cause="let go by the operator", adopted=False)
        await self._deregister(ai_id, "let go by the operator")
        return LaunchResult(ai_id, True, "stopped", message="let go; the endpoint is not ours to end")

    def channel(self, component: Component) -> EndpointClient:
        """Return a new channel to an endpoint; nothing is sent yet."""
        context = self._context

        def make(kind: str):
            from backend import providers

            return providers.create(
                kind, worker_settings(context.settings, component), context.home, context.environment
            )

        return EndpointClient(worker_spec(context, component, 0), make)

    def _show(self, component: Component, channel: EndpointClient, **changes: object) -> None:
        context, (host, port) = self._context, _address(component)
        if (earlier := context.channels.get(component.id)) is not None:
            earlier.close("joined anew")
        context.channels[component.id] = channel
        context.table.update(
            component.id, state="ready", warming=False, host=host, port=port, launcher=LAUNCHER, **changes
        )
        context.turns.idle(component.id, "")

    async def _deregister(self, ai_id: str, reason: str) -> None:
        try:
            await self._context.registry.apply(lambda change: change.deregister(ai_id, reason=reason))
        except RegistryError as error:
            self._context.record_error(ai_id, error.code, error.message, phase="ending")


async def _check(channel: EndpointClient) -> None:
    """Prepare the provider and ask for the endpoint's health.

    Raises:
        TektonError: It cannot be used as configured, does not answer or is not healthy.
    """
    if (problem := await channel.specialist.prepare()) is not None:
        raise problem
    reply = await channel.call(Request(type="health"), timeout_s=ENDPOINT_TIMEOUT_S)
    if isinstance(reply, HealthResponse) and reply.status == "degraded":
        raise TektonError(reply.detail or "the endpoint is not well", code="provider_unavailable")


def _address(component: Component) -> tuple[str, int]:
    """Return host and port of an endpoint; port 0 where its address names none or cannot be read."""
    try:
        parts = urlsplit(component.base_url or "")
        return parts.hostname or "", parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
    except ValueError:
        return component.base_url or "", 0


def _entry(row: SpecialistStatus, component: Component) -> RegistryEntry:
    host, port = _address(component)
    return RegistryEntry(
        port=port,
        component=component.name,
        host=host,
        model=row.model,
        provider=row.provider,
        state="ready",
        transport="api",
        capabilities=row.capabilities,
        launcher=LAUNCHER,
        metadata={"base_url": component.base_url},
    )
