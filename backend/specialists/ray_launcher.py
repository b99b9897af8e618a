"""The cluster launcher: one detached Ray actor a specialist, placed by resources and labels. Ray is control plane only.

Tokens travel on our own socket, straight from the node. Nothing is restarted or tried again: an actor that died stays
dead, and its row says why. Knows no rows and no turns.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Mapping
from pathlib import Path
from socket import socket
from typing import Any

import msgspec

import backend
from backend.config import Settings
from backend.home import Home
from backend.registry.identity import Identity
from backend.schema.records import RegistryEntry
from backend.specialists.launcher import Enrol, Happening, LaunchFailed, Placement
from backend.specialists.logs import log_path
from backend.specialists.nodes import Node, fitting, options, unmet
from backend.specialists.process import Ending
from backend.specialists.ray_actor import Host, Place
from backend.specialists.ray_head import Head, HeadSilent, cause_of, first_line, future_of
from backend.specialists.ray_logs import RayLogs
from backend.specialists.spec import Warm, WorkerSpec
from backend.wire import encoder

log = logging.getLogger(__name__)

ASK_S = 5.0
"""Seconds an actor that should be there gets to say where it is."""
LAST_WORDS_S = 0.7
"""Seconds the news of a death waits for the end of its log."""
LOOK_AGAIN_S = 0.5
"""Seconds between two looks at an actor that cannot be reached and is not known to be dead."""


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
        self._happenings: asyncio.Queue[Happening] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()

    async def connect(self) -> None:
        """Join the cluster. Raises `ClusterRefused`."""
        await asyncio.to_thread(self._head.join, self._environment)

    # before a launch

    def plan(self, spec: WorkerSpec) -> list[str]:
        """Return no names: an actor sees its node's environment, and none of ours."""
        return []

    def outlook(self, spec: WorkerSpec) -> tuple[str, str]:
        """Return which node would take a specialist, and what stands against it. Blocks for some milliseconds."""
        if spec.provider == "embedded":
            return "", "the embedded model serves this machine only; name another provider for it"
        resources, labels = self._wanted(spec)
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

    # the launcher's duties

    async def launch(self, spec: WorkerSpec, listener: socket | None, enrol: Enrol) -> Placement:
        host, problem = await asyncio.to_thread(self.outlook, spec)
        if problem:
            raise LaunchFailed(f"{spec.ai_id} cannot be placed: {problem}")
        limit_s = self._settings.cluster.ready_timeout_s
        deadline = asyncio.get_running_loop().time() + limit_s
        actor = await self._create(spec)
        self._actors[spec.ai_id] = actor  # from now on a stop finds it
        try:
            async with asyncio.timeout_at(deadline):
                place = msgspec.json.decode(await future_of(actor.place.remote()), type=Place)
            if place.version != backend.__version__:
                raise LaunchFailed(
                    f"{spec.ai_id}: {place.hostname} has tekton-tui {place.version}, this gateway {backend.__version__}; "
                    "install the same everywhere"
                )
            placement = self._placed(spec.ai_id, place)
            await enrol(placement)
            async with asyncio.timeout_at(deadline):
                await future_of(actor.serve.remote(encoder.encode(spec)))
        except BaseException as error:
            await asyncio.to_thread(self._head.end, actor)
            self._actors.pop(spec.ai_id, None)
            self._nodes.pop(spec.ai_id, None)
            if isinstance(error, TimeoutError):
                raise LaunchFailed(
                    f"{spec.ai_id} did not serve within {limit_s:g} s on {host}: its nodes are full or slow; see "
                    "`ray status`, or raise cluster.ready_timeout_s"
                ) from error
            if isinstance(error, self._head.ray.exceptions.RayError):
                raise LaunchFailed(
                    f"{spec.ai_id} cannot be placed: {cause_of(error)}", evidence=str(error)
                ) from error
            raise
        await self._logs.begin(spec.ai_id, _where(place), place.node, place.log, anew=True)
        self._begin(placement, actor)
        self._happenings.put_nowait(Happening(spec.ai_id, "ready", placement))
        self._run(self._until_warm(placement, actor), f"warm {spec.ai_id}")
        return placement

    async def adopt(self, ai_id: str, entry: RegistryEntry) -> Placement | None:
        actor = await asyncio.to_thread(self._head.find, ai_id)
        if actor is None:
            return None
        try:
            async with asyncio.timeout(ASK_S):
                place = msgspec.json.decode(await future_of(actor.place.remote()), type=Place)
        except (TimeoutError, self._head.ray.exceptions.RayError):
            return None
        placement = self._placed(ai_id, place, adopted=True)
        await self._logs.begin(ai_id, _where(place), place.node, place.log, anew=False)
        self._begin(placement, actor)
        return placement

    async def living(self) -> list[str]:
        """Return whom the cluster runs for this home, whatever the registry says."""
        return await asyncio.to_thread(self._head.living)

    async def stop(self, ai_id: str, *, grace_s: float, force: bool = False) -> Ending:
        actor = self._actors.pop(ai_id, None)
        if actor is None:
            return Ending()
        words = "the cluster, at once"
        if not force:
            try:
                async with asyncio.timeout(grace_s):
                    await future_of(actor.stop.remote())
                words = "the cluster"
            except TimeoutError:
                words = "the cluster after the grace time"
            except self._head.ray.exceptions.RayError as error:
                words = f"the cluster ({cause_of(error)})"
        await asyncio.to_thread(self._head.end, actor)
        self._nodes.pop(ai_id, None)
        return Ending(code=0, by_us=words)

    def logs(self, ai_id: str, *, previous: bool = False) -> Path:
        return log_path(self._home.logs, ai_id, previous=previous)

    async def fetch_logs(self, ai_id: str) -> None:
        """Bring what a specialist wrote on its node into its log file here."""
        if (actor := self._actors.get(ai_id)) is not None:
            await self._logs.fetch(ai_id, actor)

    async def watch(self) -> AsyncIterator[Happening]:
        while True:
            yield await self._happenings.get()

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._actors.clear()
        self._head.leave()

    # inside

    def _wanted(self, spec: WorkerSpec) -> tuple[dict[str, float], dict[str, str]]:
        own = self._settings.specialists.get(spec.component)
        return (dict(own.resources), dict(own.labels)) if own else ({}, {})

    async def _create(self, spec: WorkerSpec) -> Any:
        resources, labels = self._wanted(spec)
        kind = self._head.ray.remote(Host).options(
            name=spec.ai_id,
            namespace=self._head.namespace,
            lifetime="detached",
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=16,
            **options(resources, labels),
        )
        try:
            return await asyncio.to_thread(self._head.ask, kind.remote)
        except ValueError as error:
            raise LaunchFailed(f"{spec.ai_id} cannot be placed: {first_line(error)}") from error

    def _placed(self, ai_id: str, place: Place, *, adopted: bool = False) -> Placement:
        self._nodes[ai_id] = place.node
        identity = Identity(place.pid, place.start)
        return Placement(ai_id, place.host, place.port, identity, self.name, adopted=adopted)

    def _begin(self, placement: Placement, actor: Any) -> None:
        self._actors[placement.ai_id] = actor
        self._run(self._follow(placement, actor), f"follow {placement.ai_id}")

    def _run(self, work: Awaitable[None], name: str) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _until_warm(self, placement: Placement, actor: Any) -> None:
        try:
            warm = msgspec.json.decode(await future_of(actor.warmed.remote()), type=Warm)
        except self._head.ray.exceptions.RayError:
            return  # it died: whoever follows it tells
        self._happenings.put_nowait(
            Happening(placement.ai_id, "warm", placement, problem=warm.problem, code=warm.code)
        )

    async def _follow(self, placement: Placement, actor: Any) -> None:
        """Wait for an actor's end and say how it came; a node that is gone takes its actors with it."""
        faults = self._head.ray.exceptions
        while True:
            try:
                await future_of(actor.alive.remote())
                happening = Happening(
                    placement.ai_id, "exited", placement, ending=Ending(cause="ended by itself")
                )
                break
            except faults.ActorUnavailableError:
                if await asyncio.to_thread(self._node_lives, placement.ai_id):
                    await asyncio.sleep(LOOK_AGAIN_S)
                    continue
                happening = Happening(
                    placement.ai_id, "lost", placement, problem=f"its node {placement.host} is gone"
                )
                break
            except faults.RayError as error:
                cause = cause_of(error)
                gone = "its node has died" in cause
                happening = Happening(
                    placement.ai_id,
                    "lost" if gone else "exited",
                    placement,
                    ending=Ending(cause=cause),
                    problem=f"its node {placement.host} is gone" if gone else "",
                )
                break
        if self._actors.get(placement.ai_id) is actor:
            del self._actors[placement.ai_id]
            self._nodes.pop(placement.ai_id, None)
            if happening.kind == "exited":
                await self._last_words(placement.ai_id)
            self._happenings.put_nowait(happening)

    async def _last_words(self, ai_id: str) -> None:
        """Have the log's end here before its death is told of, if that is quickly done; else it comes later."""
        fetching = asyncio.ensure_future(self._logs.fetch_last(ai_id))
        self._tasks.add(fetching)
        fetching.add_done_callback(self._tasks.discard)
        await asyncio.wait([fetching], timeout=LAST_WORDS_S)

    def _node_lives(self, ai_id: str) -> bool:
        """Return whether a specialist's node lives; what cannot be asked is not taken for dead."""
        wanted = self._nodes.get(ai_id)
        try:
            return any(node.id == wanted and node.alive for node in self._head.nodes())
        except HeadSilent:
            return True


def _where(place: Place) -> str:
    return (
        f"{place.hostname} ({place.host}), pid {place.pid}; this is a copy of {place.log or 'nothing: no file'} there, "
        "brought when it is read"
    )
