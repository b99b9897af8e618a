"""The cluster launcher: one detached Ray actor for each specialist, placed by resources and labels.

Ray only starts, finds and ends actors; tokens come over our own socket straight from the node. Nothing is restarted
or tried again: an actor that died stays dead. Knows no rows and no turns.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from socket import socket
from typing import Any

import msgspec

import backend
from backend.config import Settings
from backend.home import Home
from backend.identity import Identity
from backend.schema.records import Node, RegistryEntry
from backend.specialists.launcher import LauncherEvent, LaunchFailed, OnStarted, Placement
from backend.specialists.logs import evidence, log_path
from backend.specialists.nodes import fitting, options, unmet
from backend.specialists.process import ExitStatus
from backend.specialists.ray.actor import ActorAddress, WorkerActor
from backend.specialists.ray.head import Head, HeadSilent, cause_of, first_line, future_of
from backend.specialists.ray.logs import RayLogs
from backend.tasks import Background
from backend.wire import encoder
from backend.worker.spec import Warm, WorkerSpec

log = logging.getLogger(__name__)

ADOPT_TIMEOUT_S = 5.0
"""How long an actor may take to say where it runs."""
RECHECK_S = 0.5
"""Time between two checks of an actor that cannot be reached and is not known to be dead."""


class RayLauncher:
    """Starts, adopts, watches and ends actors. Used from one event loop. `connect` comes first."""

    name = "ray"
    remote = True

    def __init__(self, home: Home, settings: Settings, environment: Mapping[str, str], token: str) -> None:
        self._home, self._settings, self._environment = home, settings, environment
        self._head = Head(settings.cluster.address, token)
        self._logs = RayLogs(self._head, home.logs)
        self._actors: dict[str, Any] = {}
        self._nodes: dict[str, str] = {}
        self._queue: asyncio.Queue[LauncherEvent] = asyncio.Queue()
        self._tasks = Background()

    async def connect(self) -> None:
        """Join the cluster. Raises `ClusterRefused`."""
        await asyncio.to_thread(self._head.join, self._environment)

    # before a launch

    def environment_names(self, spec: WorkerSpec) -> list[str]:
        """Return no names: an actor sees its node's environment, and none of ours."""
        return []

    def preflight(self, spec: WorkerSpec) -> tuple[str, str]:
        """Return which node would take a specialist, and what stands against it. Blocks for some milliseconds."""
        if spec.provider == "embedded":
            return "", "the embedded model serves this machine only; name another provider for it"
        resources, labels = self._required(spec)
        try:
            nodes = self._head.nodes()
        except HeadSilent as error:
            return "", error.message
        if problem := unmet(nodes, resources, labels):
            return "", problem
        hosts = sorted({node.host for node in fitting(nodes, resources, labels)})
        return " or ".join(hosts), ""

    async def nodes(self) -> list[Node]:
        """Return the nodes of the cluster with who runs where."""
        nodes = await asyncio.to_thread(self._head.nodes)
        for node in nodes:
            node.specialists = sorted(ai_id for ai_id, where in self._nodes.items() if where == node.id)
        return nodes

    # the launcher interface

    async def launch(self, spec: WorkerSpec, listener: socket | None, on_started: OnStarted) -> Placement:
        host, problem = await asyncio.to_thread(self.preflight, spec)
        if problem:
            raise LaunchFailed(f"{spec.ai_id} cannot be placed: {problem}")
        limit_s = self._settings.cluster.ready_timeout_s
        deadline = asyncio.get_running_loop().time() + limit_s
        actor = await self._create(spec)
        self._actors[spec.ai_id] = actor  # from now on `stop` finds it
        placement: Placement | None = None
        try:
            async with asyncio.timeout_at(deadline):
                place = msgspec.json.decode(await future_of(actor.place.remote()), type=ActorAddress)
            if place.version != backend.__version__:
                raise LaunchFailed(
                    f"{spec.ai_id}: {place.hostname} has tekton-tui {place.version}, this gateway {backend.__version__}; "
                    "install the same everywhere"
                )
            placement = self._placed(spec.ai_id, place)
            await on_started(placement)
            async with asyncio.timeout_at(deadline):
                await future_of(actor.serve.remote(encoder.encode(spec)))
        except BaseException as error:
            await asyncio.to_thread(self._head.end, actor)
            self._actors.pop(spec.ai_id, None)
            self._nodes.pop(spec.ai_id, None)
            if isinstance(error, TimeoutError):
                raise LaunchFailed(_too_late(spec.ai_id, limit_s, host, placement)) from error
            if isinstance(error, self._head.ray.exceptions.RayError):
                raise LaunchFailed(
                    f"{spec.ai_id} cannot be placed: {cause_of(error)}", evidence=str(error)
                ) from error
            raise
        await self._logs.begin(spec.ai_id, _log_header(place), place.node, place.log, new_run=True)
        self._watch(placement, actor)
        self._queue.put_nowait(LauncherEvent(spec.ai_id, "ready", placement))
        self._tasks.start(self._until_warm(placement, actor), f"warm {spec.ai_id}")
        return placement

    async def adopt(self, ai_id: str, entry: RegistryEntry) -> Placement | None:
        actor = await asyncio.to_thread(self._head.find, ai_id)
        if actor is None:
            return None
        try:
            async with asyncio.timeout(ADOPT_TIMEOUT_S):
                place = msgspec.json.decode(await future_of(actor.place.remote()), type=ActorAddress)
        except (TimeoutError, self._head.ray.exceptions.RayError):
            return None
        placement = self._placed(ai_id, place, adopted=True)
        await self._logs.begin(ai_id, _log_header(place), place.node, place.log, new_run=False)
        self._watch(placement, actor)
        return placement

    async def running_ids(self) -> list[str]:
        """Return the specialists that the cluster runs for this home, whatever the registry says."""
        return await asyncio.to_thread(self._head.running_ids)

    async def stop(self, ai_id: str, *, grace_s: float, force: bool = False) -> ExitStatus:
        actor = self._actors.pop(ai_id, None)
        if actor is None:
            return ExitStatus()
        by_us = "the cluster, at once"
        if not force:
            try:
                async with asyncio.timeout(grace_s):
                    await future_of(actor.stop.remote())
                by_us = "the cluster"
            except TimeoutError:
                by_us = "the cluster after the grace time"
            except self._head.ray.exceptions.RayError as error:
                by_us = f"the cluster ({cause_of(error)})"
        await asyncio.to_thread(self._head.end, actor)
        self._nodes.pop(ai_id, None)
        return ExitStatus(code=0, by_us=by_us)

    def logs(self, ai_id: str, *, previous: bool = False) -> Path:
        return log_path(self._home.logs, ai_id, previous=previous)

    async def fetch_logs(self, ai_id: str) -> None:
        """Fetch what a specialist wrote on its node into its log file here."""
        if (actor := self._actors.get(ai_id)) is not None:
            await self._logs.fetch(ai_id, actor)

    async def last_lines(self, ai_id: str) -> str:
        """Fetch the end of a dead actor's log from its node, within `LAST_LOG_TIMEOUT_S`; return its last lines.

        What an earlier fetch had brought is returned if its node does not answer, or if the launcher is closed.
        """
        fetching = self._tasks.start(self._logs.fetch_last(ai_id), f"last lines of {ai_id}")
        await asyncio.wait([fetching])
        return evidence(fetching.result() if not fetching.cancelled() else self.logs(ai_id))

    async def events(self) -> AsyncIterator[LauncherEvent]:
        while True:
            yield await self._queue.get()

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._actors.clear()
        self._head.leave()

    # private

    def _required(self, spec: WorkerSpec) -> tuple[dict[str, float], dict[str, str]]:
        own = self._settings.own_specialists.get(spec.component)
        return (dict(own.resources), dict(own.labels)) if own else ({}, {})

    async def _create(self, spec: WorkerSpec) -> Any:
        resources, labels = self._required(spec)
        kind = self._head.ray.remote(WorkerActor).options(
            name=spec.ai_id,
            namespace=self._head.namespace,
            lifetime="detached",
            max_restarts=0,
            max_task_retries=0,
            # `alive` waits inside the actor for its whole life, and `warmed` for long; each holds one of these.
            max_concurrency=16,
            **options(resources, labels),
        )
        try:
            return await asyncio.to_thread(self._head.ask, kind.remote)
        except ValueError as error:
            raise LaunchFailed(f"{spec.ai_id} cannot be placed: {first_line(error)}") from error

    def _placed(self, ai_id: str, place: ActorAddress, *, adopted: bool = False) -> Placement:
        self._nodes[ai_id] = place.node
        identity = Identity(place.pid, place.start)
        return Placement(ai_id, place.host, place.port, identity, self.name, adopted=adopted)

    def _watch(self, placement: Placement, actor: Any) -> None:
        self._actors[placement.ai_id] = actor
        self._tasks.start(self._follow(placement, actor), f"follow {placement.ai_id}")

    async def _until_warm(self, placement: Placement, actor: Any) -> None:
        try:
            warm = msgspec.json.decode(await future_of(actor.warmed.remote()), type=Warm)
        except self._head.ray.exceptions.RayError:
            return  # it died, which `_follow` reports
        self._queue.put_nowait(
            LauncherEvent(placement.ai_id, "warm", placement, problem=warm.problem, code=warm.code)
        )

    async def _follow(self, placement: Placement, actor: Any) -> None:
        """Wait for an actor's end and report how it came about; with a node its actors are gone."""
        faults = self._head.ray.exceptions
        while True:
            try:
                await future_of(actor.alive.remote())
                event = LauncherEvent(
                    placement.ai_id, "exited", placement, exit_status=ExitStatus(cause="ended by itself")
                )
                break
            except faults.ActorUnavailableError:
                # The network or the head may be away for a moment: an actor is lost only with its node.
                if await asyncio.to_thread(self._node_lives, placement.ai_id):
                    await asyncio.sleep(RECHECK_S)
                    continue
                event = LauncherEvent(
                    placement.ai_id, "lost", placement, problem=f"its node {placement.host} is gone"
                )
                break
            except faults.RayError as error:
                cause = cause_of(error)
                # Ray says it in the text of its error and nowhere else.
                gone = "its node has died" in cause
                event = LauncherEvent(
                    placement.ai_id,
                    "lost" if gone else "exited",
                    placement,
                    exit_status=ExitStatus(cause=cause),
                    problem=f"its node {placement.host} is gone" if gone else "",
                )
                break
        if self._actors.get(placement.ai_id) is actor:
            del self._actors[placement.ai_id]
            self._nodes.pop(placement.ai_id, None)
            self._queue.put_nowait(event)

    def _node_lives(self, ai_id: str) -> bool:
        """Return whether a specialist's node lives; true while the head does not answer."""
        node_id = self._nodes.get(ai_id)
        try:
            return any(node.id == node_id and node.alive for node in self._head.nodes())
        except HeadSilent:
            return True


def _too_late(ai_id: str, limit_s: float, hosts: str, placement: Placement | None) -> str:
    """Say how far a launch came that was not done in time: a full cluster is mended otherwise than a slow host."""
    if placement is not None:
        return (
            f"{ai_id} was placed on {placement.host} and did not serve within {limit_s:g} s: that host is "
            "slow; raise cluster.ready_timeout_s"
        )
    return (
        f"{ai_id} did not serve within {limit_s:g} s on {hosts}: its nodes are full or slow; see `ray status`, or raise "
        "cluster.ready_timeout_s"
    )


def _log_header(place: ActorAddress) -> str:
    return (
        f"{place.hostname} ({place.host}), pid {place.pid}; this is a copy of {place.log or 'nothing: no file'} there, "
        "fetched when it is read"
    )
