"""Specialists behind remote OpenAI-compatible endpoints: joined, found again by the next backend, let go.

There is no process of ours and nothing to end: joining opens a way to ask, the registry keeps who was a member.
Nothing is asked of an endpoint but its health.
"""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from backend.catalog import Component
from backend.registry import RegistryError
from backend.schema.errors import TektonError
from backend.schema.frames import HealthResponse, Request
from backend.schema.records import LaunchResult, RegistryEntry, SpecialistStatus
from backend.specialists.apichannel import ApiChannel
from backend.specialists.fleet import Fleet
from backend.specialists.plan import worker_settings, worker_spec

ENDPOINT_TIMEOUT_S = 8.0
LAUNCHER = "endpoint"
"""Written to the registry in place of a launcher: nobody started it."""


class Endpoints:
    """The members of one fleet that are no processes of ours."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._looking: set[asyncio.Task[None]] = set()

    async def join(self, component: Component) -> str:
        """Open the way to an endpoint that answers well; return what to tell the operator.

        Raises:
            TektonError: It does not answer, or not well; nothing of the attempt is left.
        """
        fleet, ai_id = self._fleet, component.id
        channel = self.channel(component)
        try:
            await _check(channel)
            await fleet.registry.apply(
                lambda change: change.register(ai_id, _entry(fleet.board.rows[ai_id], component), "joined")
            )
        except TektonError as error:
            channel.close("the endpoint could not be joined")
            raise TektonError(f"{ai_id}: {error.message}", code=error.code) from error
        self._show(component, channel, cause="")
        return f"answers at {component.base_url}"

    async def rejoin(self, entries: dict[str, RegistryEntry]) -> None:
        """Take the members of an earlier backend over; those that are no longer configured are struck off.

        They can be asked at once; how they are is found out meanwhile.
        """
        for ai_id, entry in entries.items():
            if entry.transport != "api":
                continue
            component = self._fleet.component(ai_id)
            if component is None or component.transport != "api":
                await self._strike(ai_id, "no longer a configured endpoint")
                continue
            if (there := self._fleet.links.get(ai_id)) is not None and not there.closed.done():
                continue  # asked from here already, while another gateway led
            channel = self.channel(component)
            self._show(component, channel, cause="", adopted=True)
            task = asyncio.create_task(self._look(component, channel), name=f"rejoin {ai_id}")
            self._looking.add(task)
            task.add_done_callback(self._looking.discard)

    async def _look(self, component: Component, channel: ApiChannel) -> None:
        try:
            await _check(channel)
        except TektonError as error:
            if channel.closed.done():
                return
            text = f"{component.id} does not answer ({component.base_url}): {error.message}"
            self._fleet.board.change(component.id, state="lost", phase=None, cause=text, detail=error.message)
            self._fleet.record_error(component.id, error.code, text, phase="adoption")

    async def release(self, ai_id: str) -> LaunchResult:
        """Let an endpoint go; open turns end as errors."""
        fleet = self._fleet
        fleet.links.pop(ai_id).close("stopped by the operator")
        fleet.board.change(ai_id, state="stopping", phase=None)
        fleet.board.change(ai_id, state="stopped", detail="", cause="let go by the operator", adopted=False)
        await self._strike(ai_id, "let go by the operator")
        return LaunchResult(ai_id, True, "stopped", message="let go; the endpoint is not ours to end")

    def channel(self, component: Component) -> ApiChannel:
        """Return a new way to ask an endpoint; nothing is sent yet."""
        fleet = self._fleet

        def make(kind: str):
            from backend import providers

            return providers.create(
                kind, worker_settings(fleet.settings, component), fleet.home, fleet.environment
            )

        return ApiChannel(worker_spec(fleet, component, 0), make)

    def _show(self, component: Component, channel: ApiChannel, **changes: object) -> None:
        fleet, (host, port) = self._fleet, _address(component)
        if (earlier := fleet.links.get(component.id)) is not None:
            earlier.close("joined anew")
        fleet.links[component.id] = channel
        fleet.board.change(
            component.id, state="ready", warming=False, host=host, port=port, launcher=LAUNCHER, **changes
        )
        fleet.turns.idle(component.id, "")

    async def _strike(self, ai_id: str, reason: str) -> None:
        try:
            await self._fleet.registry.apply(lambda change: change.deregister(ai_id, reason=reason))
        except RegistryError as error:
            self._fleet.record_error(ai_id, error.code, error.message, phase="ending")


async def _check(channel: ApiChannel) -> None:
    """Prepare the provider and ask the endpoint how it is.

    Raises:
        TektonError: It cannot be used as configured, does not answer or is not well.
    """
    if (problem := await channel.specialist.warm()) is not None:
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
