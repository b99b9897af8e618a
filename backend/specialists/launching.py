"""Launching one specialist: checks, port, process, enrolment, link. Single-flight: callers share a launch.

Nothing is tried twice. A launch that fails leaves no process, no registry entry and a row that says why.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from socket import socket

import msgspec

from backend.catalog import Component
from backend.providers.keys import key_for
from backend.registry import RegistryError
from backend.registry.ports import PortTaken, allocate, bind
from backend.schema.errors import TektonError
from backend.schema.records import LaunchResult
from backend.specialists.adoption import adopt_unregistered
from backend.specialists.endpoints import Endpoints
from backend.specialists.fleet import Fleet, choice_fields, entry_of
from backend.specialists.launcher import LaunchFailed, Placement
from backend.specialists.plan import LIFECYCLE_OFF, check_caps, worker_settings, worker_spec
from backend.specialists.service import SERVICE, EmbeddedService
from backend.specialists.state import RUNNING


class Launching:
    """Launches of one fleet; `under_way` by specialist."""

    def __init__(self, fleet: Fleet, embedded: EmbeddedService, endpoints: Endpoints) -> None:
        self._fleet, self._embedded, self._endpoints = fleet, embedded, endpoints
        self.under_way: dict[str, asyncio.Task[LaunchResult]] = {}

    async def launch(self, ai_id: str) -> LaunchResult:
        """Launch a specialist, or join its launch; a failure is a result."""
        task = self.under_way.get(ai_id)
        if task is None:
            task = self.under_way[ai_id] = asyncio.create_task(self._launch(ai_id), name=f"launch {ai_id}")
            task.add_done_callback(lambda _: self.under_way.pop(ai_id, None))
        return await asyncio.shield(task)

    async def _launch(self, ai_id: str) -> LaunchResult:
        fleet, started = self._fleet, time.monotonic()
        row = fleet.board.rows[ai_id]
        if row.state in RUNNING:
            message = "runs already"
            if row.provider == SERVICE and self._embedded.ensure():  # the operator asks for what needs it
                message = "runs already; its model server is being started again"
            return self._result(ai_id, True, message, code="already_running")
        if row.state == "lost" and row.pid:
            text = f"pid {row.pid} lives and does not answer: kill it first"
            return self._result(ai_id, False, text, code="conflict")
        component = fleet.component(ai_id)
        try:
            if component is None:
                raise TektonError(f"{ai_id} is not in the catalogue any more", code="unknown_specialist")
            if not fleet.settings.fleet.lifecycle_on:
                raise TektonError(LIFECYCLE_OFF, code="lifecycle_off")
            check_caps(fleet, component)
            start = self._start_endpoint if component.transport == "api" else self._start_worker
            message = await start(component)
        except TektonError as error:
            result = self._result(ai_id, False, error.message, code=error.code)
        except OSError as error:
            result = self._result(ai_id, False, f"{ai_id} cannot be launched: {error}", code="launch_failed")
            self._failed(ai_id, TektonError(result.message, code="launch_failed"))
        else:
            result = self._result(ai_id, True, message)
            if fault := await self._known_fault(component):
                result.message, result.code = f"{message}, but cannot answer: {fault.message}", fault.code
        result.elapsed_s = round(time.monotonic() - started, 3)
        return result

    async def _start_worker(self, component: Component) -> str:
        fleet, ai_id = self._fleet, component.id
        choice = fleet.choice_for(component)
        self._show_start(component)
        try:
            listener = None if fleet.launcher.remote else await self._listen(component)
            if listener is None and not fleet.launcher.remote:
                return "runs already; adopted"
            spec = worker_spec(fleet, component, listener.getsockname()[1] if listener else 0)
            fleet.board.change(ai_id, port=spec.port)
            if choice.provider == "embedded":
                self._embedded.ensure()
            placement = await fleet.launcher.launch(spec, listener, self._enrol)
            link = await fleet.reach(ai_id, placement.host, placement.port)
        except TektonError as error:
            await self._undo(ai_id, error)
            raise
        fleet.links[ai_id] = link
        if fleet.board.rows[ai_id].state == "starting":
            fleet.board.change(ai_id, state="ready")
            fleet.turns.refresh(ai_id)
        await fleet.registry.apply(
            lambda change: change.update(
                ai_id, expect=(placement.identity.pid, placement.identity.start), state="ready"
            )
        )
        return "serves"

    async def _known_fault(self, component: Component) -> TektonError | None:
        """Return why a specialist that just came to serve cannot answer, as far as that is known without waiting."""
        row = self._fleet.board.rows[component.id]
        if row.last_error:
            return TektonError(row.last_error, code=row.last_error_code)
        if row.provider == SERVICE:
            return await self._embedded.missing()
        if component.transport == "api" or self._fleet.launcher.remote:
            return None  # the key lies with the endpoint, or on the node
        settings = worker_settings(self._fleet.settings, component)
        try:
            key_for(row.provider, settings, self._fleet.home, self._fleet.environment)
        except TektonError as error:
            return error
        return None

    def _show_start(self, component: Component) -> None:
        choice = self._fleet.choice_for(component)
        self._fleet.turns.idle(component.id, "warming")
        self._fleet.board.change(
            component.id,
            state="starting",
            started_at=time.time(),
            cause="",
            detail="",
            exit_code=None,
            signal=None,
            adopted=False,
            warming=True,
            pid=0,
            last_error="",
            last_error_code=None,
            **choice_fields(choice),
        )

    async def _listen(self, component: Component) -> socket | None:
        """Return the specialist's listening socket; `None` if it runs, unknown to us, and was adopted.

        Raises:
            PortTaken: A stranger holds the port.
        """
        fleet, host = self._fleet, "127.0.0.1"
        if component.own and not component.ai_port:
            reserved = {other.ai_port for other in fleet.catalog if other.ai_port}
            return await asyncio.to_thread(
                allocate, fleet.registry.registry, host, reserved=reserved, seed=component.id
            )
        try:
            return await asyncio.to_thread(bind, host, component.ai_port)
        except PortTaken as taken:
            fleet.board.change(component.id, state="stopped")
            await adopt_unregistered(fleet)
            if fleet.board.rows[component.id].state == "ready":
                return None
            holder = taken.holder
            fleet.board.change(
                component.id,
                state="foreign-port",
                cause=taken.message,
                detail=f"port {holder.port} is held by {holder}",
                warming=False,
            )
            raise

    async def _enrol(self, placement: Placement) -> None:
        """Make a process known, on disk as well, before it may serve."""
        fleet, ai_id = self._fleet, placement.ai_id
        fleet.placements[ai_id] = placement
        row = fleet.board.change(
            ai_id,
            pid=placement.identity.pid,
            process_start=placement.identity.start,
            host=placement.host,
            port=placement.port,
            launcher=placement.launcher,
        )
        try:
            await fleet.registry.apply(
                lambda change: change.register(ai_id, entry_of(row, placement, "starting"), "launched")
            )
        except RegistryError:
            del fleet.placements[ai_id]
            raise

    async def _undo(self, ai_id: str, error: TektonError) -> None:
        """Make a failed launch leave nothing behind but its reason."""
        fleet = self._fleet
        placement = fleet.placements.pop(ai_id, None)
        if placement is not None:
            await fleet.launcher.stop(ai_id, grace_s=0, force=True)
            expect = (placement.identity.pid, placement.identity.start)
            with suppress(RegistryError):  # what stays there is provably dead and will be swept out
                await fleet.registry.apply(
                    lambda change: change.deregister(
                        ai_id, expect=expect, reason=f"launch failed: {error.message}"
                    )
                )
        self._failed(ai_id, error)

    def _failed(self, ai_id: str, error: TektonError) -> None:
        fleet, row = self._fleet, self._fleet.board.rows[ai_id]
        ending = error.ending if isinstance(error, LaunchFailed) else None
        changes: dict[str, object] = {"pid": 0, "warming": False, "last_error": error.message}
        changes["last_error_code"] = error.code
        if row.state == "stopping":
            fleet.board.change(ai_id, state="stopped", cause="stopped while starting", **changes)
            return
        if row.state != "foreign-port":
            changes |= {"cause": error.message, "detail": "", "state": "stopped"}
            if ending is not None and not ending.by_us:
                changes["state"] = "killed" if ending.signal is not None else "exited"
                changes |= {"exit_code": ending.code, "signal": ending.signal}
        fleet.board.change(ai_id, **changes)
        fleet.record_error(ai_id, error.code, error.message, phase="starting", evidence=error.evidence)

    async def _start_endpoint(self, component: Component) -> str:
        self._show_start(component)
        try:
            return await self._endpoints.join(component)
        except TektonError as error:
            self._failed(component.id, error)
            raise

    def _result(self, ai_id: str, ok: bool, message: str, **changes: object) -> LaunchResult:
        row = self._fleet.board.rows[ai_id]
        result = LaunchResult(ai_id, ok, row.state, row.pid, row.port, message)
        return msgspec.structs.replace(result, **changes)
