"""Launching a specialist: checks, port, process, registry entry, connection. Concurrent callers share one launch.

Nothing is tried twice. A launch that fails leaves no process and no registry entry, and a row that says why.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from socket import socket

import msgspec

import backend
from backend.catalog import Component
from backend.providers.keys import check_key
from backend.registry import RegistryError
from backend.registry.ports import PortTaken, allocate, bind
from backend.schema.errors import TektonError
from backend.schema.records import LaunchResult
from backend.schema.states import RUNNING
from backend.specialists.adoption import adopt_unregistered
from backend.specialists.agents import prepare_agent
from backend.specialists.context import SupervisorContext, choice_fields, entry_of
from backend.specialists.endpoints import Endpoints
from backend.specialists.launcher import LaunchFailed, Placement
from backend.specialists.model_server import SERVICE, ModelServer
from backend.specialists.plan import LIFECYCLE_OFF, check_caps, worker_settings, worker_spec

log = logging.getLogger(__name__)


class Launching:
    """Launches of one fleet; `under_way` by specialist."""

    def __init__(self, context: SupervisorContext, model_server: ModelServer, endpoints: Endpoints) -> None:
        self._context, self._model_server, self._endpoints = context, model_server, endpoints
        self.under_way: dict[str, asyncio.Task[LaunchResult]] = {}

    async def launch(self, ai_id: str) -> LaunchResult:
        """Launch a specialist, or wait for its launch under way. Failures are results, not exceptions."""
        task = self.under_way.get(ai_id)
        if task is None:
            # A task of its own, not the first caller's: a console that disconnects must not take the launch
            # along.
            task = self.under_way[ai_id] = asyncio.create_task(self._launch(ai_id), name=f"launch {ai_id}")
            task.add_done_callback(lambda _: self.under_way.pop(ai_id, None))
        # One caller that gives up must not end the launch for the others.
        return await asyncio.shield(task)

    async def _launch(self, ai_id: str) -> LaunchResult:
        context, started = self._context, time.monotonic()
        row = context.table.rows[ai_id]
        if row.state in RUNNING:
            message = "runs already"
            if row.provider == SERVICE and self._model_server.ensure():
                message = "runs already; its model server is being started again"
            return self._result(ai_id, True, message, code="already_running")
        if row.state == "lost" and row.pid:
            # Two of one name would share a conversation, a port and a budget, so a second one is never started.
            text = f"pid {row.pid} lives and does not answer: kill it first"
            return self._result(ai_id, False, text, code="conflict")
        component = context.component(ai_id)
        try:
            if component is None:
                raise TektonError(f"{ai_id} is not in the catalogue any more", code="unknown_specialist")
            if not context.settings.fleet.lifecycle_on:
                raise TektonError(LIFECYCLE_OFF, code="lifecycle_off")
            check_caps(context, component)
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
        context, ai_id = self._context, component.id
        choice = context.choice_for(component)
        self._show_start(component)
        try:
            if component.transport == "acp":
                await prepare_agent(context, component)
            listener = None if context.launcher.remote else await self._listen(component)
            if listener is None and not context.launcher.remote:
                return "runs already; adopted"
            spec = worker_spec(context, component, listener.getsockname()[1] if listener else 0)
            # The port is bound by now, and is handed over open: nobody else can take it before the worker
            # serves.
            context.table.update(ai_id, port=spec.port)
            if choice.provider == "embedded":
                self._model_server.ensure()
            # The model server starts meanwhile; the worker serves at once and says `warming` until it is there.
            placement = await context.launcher.launch(spec, listener, self._on_started)
            client = await context.connect(ai_id, placement.host, placement.port)
        except TektonError as error:
            await self._undo(ai_id, error)
            raise
        except Exception as error:  # whatever it is, no process and no row may stay half launched
            log.exception("launching %s", ai_id)
            # A TektonError too: launches are results, and one that raises would take those beside it along.
            refused = TektonError(f"{ai_id} cannot be launched: {error}", code="launch_failed")
            await self._undo(ai_id, refused)
            raise refused from error
        context.channels[ai_id] = client
        # It may have ended, or been stopped, while we connected.
        if context.table.rows[ai_id].state == "starting":
            context.table.update(ai_id, state="ready")
            context.turns.refresh(ai_id)
        try:
            await context.registry.apply(
                lambda change: change.update(
                    ai_id, expect=(placement.identity.pid, placement.identity.start), state="ready"
                )
            )
        except RegistryError as error:
            # It serves and is registered: an entry that says "starting" is no reason to call the launch failed.
            context.record_error(ai_id, error.code, error.message, phase="starting")
        return "serves"

    async def _known_fault(self, component: Component) -> TektonError | None:
        """Return why a specialist that now serves cannot answer, as far as that is known without asking its provider."""
        row = self._context.table.rows[component.id]
        if row.last_error:
            return TektonError(row.last_error, code=row.last_error_code)
        if row.provider == SERVICE:
            return await self._model_server.missing()
        if component.transport in ("api", "acp") or self._context.launcher.remote:
            return None  # the endpoint checks its key itself; on other hosts the key is set there
        settings = worker_settings(self._context.settings, component)
        try:
            check_key(row.provider, settings, self._context.home, self._context.environment)
        except TektonError as error:
            return error
        return None

    def _show_start(self, component: Component) -> None:
        choice = self._context.choice_for(component)
        self._context.turns.idle(component.id, "warming")
        self._context.table.update(
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
            tools=[],
            last_error="",
            last_error_code=None,
            **choice_fields(choice),
        )

    async def _listen(self, component: Component) -> socket | None:
        """Return the specialist's listening socket; `None` if it ran already, unknown to us, and was adopted.

        Raises:
            PortTaken: Another program holds the port.
        """
        context, host = self._context, "127.0.0.1"
        if component.own and not component.ai_port:
            reserved = {other.ai_port for other in context.catalog if other.ai_port}
            return await asyncio.to_thread(
                allocate, context.registry.registry, host, reserved=reserved, seed=component.id
            )
        try:
            # Bound here, before the process: a port that is taken is told at once, with who holds it.
            return await asyncio.to_thread(bind, host, component.ai_port)
        except PortTaken as taken:
            # For the moment of the look: the row of one that starts is never adopted into.
            context.table.update(component.id, state="stopped")
            await adopt_unregistered(context)
            if context.table.rows[component.id].state == "ready":
                return None
            holder = taken.holder
            context.table.update(
                component.id,
                state="foreign-port",
                cause=taken.message,
                detail=f"port {holder.port} is held by {holder}",
                warming=False,
            )
            raise

    async def _on_started(self, placement: Placement) -> None:
        """Put a new process into row and registry, on disk, before it serves."""
        context, ai_id = self._context, placement.ai_id
        context.placements[ai_id] = placement
        row = context.table.update(
            ai_id,
            pid=placement.identity.pid,
            process_start=placement.identity.start,
            host=placement.host,
            port=placement.port,
            launcher=placement.launcher,
            version="" if context.launcher.remote else backend.__version__,
        )
        try:
            await context.registry.apply(
                lambda change: change.register(ai_id, entry_of(row, placement, "starting"), "launched")
            )
        except RegistryError:
            # The launcher ends the process when this raises; `_undo` must not do so a second time.
            del context.placements[ai_id]
            raise

    async def _undo(self, ai_id: str, error: TektonError) -> None:
        """End what a failed launch started, and show why it failed."""
        context = self._context
        placement = context.placements.pop(ai_id, None)
        if placement is not None:
            # No grace: it serves nobody yet, and whoever launches it anew would meet its port.
            await context.launcher.stop(ai_id, grace_s=0, force=True)
            expect = (placement.identity.pid, placement.identity.start)
            with suppress(RegistryError):  # an entry that stays is provably dead and goes with the next sweep
                await context.registry.apply(
                    lambda change: change.deregister(
                        ai_id, expect=expect, reason=f"launch failed: {error.message}"
                    )
                )
        self._failed(ai_id, error)

    def _failed(self, ai_id: str, error: TektonError) -> None:
        context, row = self._context, self._context.table.rows[ai_id]
        status = error.exit_status if isinstance(error, LaunchFailed) else None
        changes: dict[str, object] = {"pid": 0, "warming": False, "last_error": error.message}
        changes["last_error_code"] = error.code
        if row.state == "stopping":
            context.table.update(ai_id, state="stopped", cause="stopped while starting", **changes)
            return
        if row.state != "foreign-port":
            changes |= {"cause": error.message, "detail": "", "state": "stopped"}
            if status is not None and not status.by_us:
                changes["state"] = "killed" if status.signal is not None else "exited"
                changes |= {"exit_code": status.code, "signal": status.signal}
        context.table.update(ai_id, **changes)
        context.record_error(ai_id, error.code, error.message, phase="starting", evidence=error.evidence)

    async def _start_endpoint(self, component: Component) -> str:
        self._show_start(component)
        try:
            return await self._endpoints.join(component)
        except TektonError as error:
            self._failed(component.id, error)
            raise

    def _result(self, ai_id: str, ok: bool, message: str, **changes: object) -> LaunchResult:
        row = self._context.table.rows[ai_id]
        result = LaunchResult(ai_id, ok, row.state, row.pid, row.port, message)
        return msgspec.structs.replace(result, **changes)
