"""The cluster launcher: one detached Ray actor a specialist, placed by resources and labels. Ray is control plane only.

Tokens travel on our own socket, straight from the node. Nothing is restarted or tried again: an actor that died stays
dead, and its row says why. Knows no rows and no turns. Ray is imported here and nowhere else of the gateway.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Mapping
from importlib import import_module
from pathlib import Path
from socket import socket
from typing import Any

import msgspec

import backend
from backend.config import Settings
from backend.home import Home
from backend.registry.identity import Identity
from backend.schema.errors import TektonError
from backend.schema.records import RegistryEntry
from backend.specialists.launcher import Enrol, Happening, LaunchFailed, Placement
from backend.specialists.logs import begin_log, log_path
from backend.specialists.nodes import Node, fitting, node_of, options, unmet
from backend.specialists.process import Ending
from backend.specialists.ray_actor import Host, Place
from backend.specialists.spec import Warm, WorkerSpec
from backend.wire import encoder

ASK_S = 5.0
"""Seconds an actor that should be there gets to say where it is."""
LOOK_AGAIN_S = 0.5
"""Seconds between two looks at an actor that cannot be reached and is not known to be dead."""
CAUSE_CHARS = 300
GATEWAY_OUTLIVES_HEAD_S = 30 * 86_400
"""Ray would end the gateway's own process after a minute without its head node; it may stay away this long."""


class ClusterRefused(TektonError):
    """The cluster cannot be used; the message says what to do."""

    code = "config_invalid"


class RayLauncher:
    """Starts, adopts, watches and ends actors. Used from one event loop. `connect` comes first."""

    name = "ray"
    remote = True

    def __init__(self, home: Home, settings: Settings, environment: Mapping[str, str], token: str) -> None:
        self._home, self._settings, self._environment = home, settings, environment
        self.address = settings.cluster.address
        self.namespace = f"tekton-{hashlib.sha256(token.encode()).hexdigest()[:12]}"
        """Of this home alone: two homes on one cluster do not see each other's specialists."""
        self._ray: Any = None
        self._actors: dict[str, Any] = {}
        self._nodes: dict[str, str] = {}
        self._happenings: asyncio.Queue[Happening] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()

    async def connect(self) -> None:
        """Join the cluster.

        Raises:
            ClusterRefused: It has no authentication, cannot be reached, or Ray is not installed.
        """
        if self._environment.get("RAY_AUTH_MODE") != "token":
            raise ClusterRefused(
                "a cluster without authentication lets anybody run code on its nodes: start Ray and the gateway with "
                "RAY_AUTH_MODE=token (docs/cluster.md)"
            )
        for name, value in self._environment.items():
            if name.startswith("RAY_"):
                os.environ.setdefault(name, value)
        os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", str(GATEWAY_OUTLIVES_HEAD_S))
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            self._ray = import_module("ray")
        except ModuleNotFoundError as error:
            raise ClusterRefused("Ray is not installed: pip install 'tekton-tui[cluster]'") from error
        try:
            await asyncio.to_thread(
                self._ray.init,
                address=self.address,
                namespace=self.namespace,
                log_to_driver=False,
                logging_level="ERROR",
                configure_logging=False,
            )
        except Exception as error:  # whatever Ray raises, the operator reads one sentence
            raise ClusterRefused(
                f"the cluster at {self.address} cannot be joined: {_first_line(error)}. This host must run a node of it: "
                f"ray start --address={self.address}"
            ) from error

    # before a launch

    def plan(self, spec: WorkerSpec) -> list[str]:
        """Return no names: an actor sees its node's environment, and none of ours."""
        return []

    def outlook(self, spec: WorkerSpec) -> tuple[str, str]:
        """Return which node would take a specialist, and what stands against it. Blocks for some milliseconds."""
        if spec.provider == "embedded":
            return "", "the embedded model serves this machine only; name another provider for it"
        resources, labels = self._wanted(spec)
        nodes = self._all_nodes()
        if problem := unmet(nodes, resources, labels):
            return "", problem
        hosts = sorted({node.host for node in fitting(nodes, resources, labels)})
        return " or ".join(hosts), ""

    async def nodes(self) -> list[Node]:
        """Return the nodes of the cluster with who runs where."""
        nodes = await asyncio.to_thread(self._all_nodes)
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
        try:
            async with asyncio.timeout_at(deadline):
                place = msgspec.json.decode(await _of(actor.place.remote()), type=Place)
            if place.version != backend.__version__:
                raise LaunchFailed(
                    f"{spec.ai_id}: {place.hostname} has tekton-tui {place.version}, this gateway {backend.__version__}; "
                    "install the same everywhere"
                )
            placement = self._placed(spec.ai_id, place)
            await enrol(placement)
            async with asyncio.timeout_at(deadline):
                await _of(actor.serve.remote(encoder.encode(spec)))
        except BaseException as error:
            await asyncio.to_thread(self._ray.kill, actor)
            self._nodes.pop(spec.ai_id, None)
            if isinstance(error, TimeoutError):
                raise LaunchFailed(
                    f"{spec.ai_id} did not serve within {limit_s:g} s on {host}: its nodes are full or slow; see "
                    "`ray status`, or raise cluster.ready_timeout_s"
                ) from error
            if isinstance(error, self._ray.exceptions.RayError):
                raise LaunchFailed(
                    f"{spec.ai_id} cannot be placed: {_cause(error)}", evidence=str(error)
                ) from error
            raise
        self._begin(placement, actor)
        self._happenings.put_nowait(Happening(spec.ai_id, "ready", placement))
        self._run(self._until_warm(placement, actor), f"warm {spec.ai_id}")
        await asyncio.to_thread(self._note, spec.ai_id, place)
        return placement

    async def adopt(self, ai_id: str, entry: RegistryEntry) -> Placement | None:
        actor = await asyncio.to_thread(self._find, ai_id)
        if actor is None:
            return None
        try:
            async with asyncio.timeout(ASK_S):
                place = msgspec.json.decode(await _of(actor.place.remote()), type=Place)
        except (TimeoutError, self._ray.exceptions.RayError):
            return None
        placement = self._placed(ai_id, place, adopted=True)
        self._begin(placement, actor)
        return placement

    async def living(self) -> list[str]:
        """Return whom the cluster runs for this home, whatever the registry says."""
        rows = await asyncio.to_thread(self._ray.util.list_named_actors, all_namespaces=True)
        return [row["name"] for row in rows if row["namespace"] == self.namespace]

    async def stop(self, ai_id: str, *, grace_s: float, force: bool = False) -> Ending:
        actor = self._actors.pop(ai_id, None)
        if actor is None:
            return Ending()
        words = "the cluster, at once"
        if not force:
            try:
                async with asyncio.timeout(grace_s):
                    await _of(actor.stop.remote())
                words = "the cluster"
            except TimeoutError:
                words = "the cluster after the grace time"
            except self._ray.exceptions.RayError as error:
                words = f"the cluster ({_cause(error)})"
        await asyncio.to_thread(self._ray.kill, actor)
        self._nodes.pop(ai_id, None)
        return Ending(code=0, by_us=words)

    def logs(self, ai_id: str, *, previous: bool = False) -> Path:
        return log_path(self._home.logs, ai_id, previous=previous)

    async def watch(self) -> AsyncIterator[Happening]:
        while True:
            yield await self._happenings.get()

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._actors.clear()
        if self._ray is not None:
            self._ray.shutdown()

    # inside

    def _wanted(self, spec: WorkerSpec) -> tuple[dict[str, float], dict[str, str]]:
        own = self._settings.specialists.get(spec.component)
        return (dict(own.resources), dict(own.labels)) if own else ({}, {})

    def _all_nodes(self) -> list[Node]:
        return [node_of(row) for row in self._ray.nodes()]

    def _find(self, ai_id: str) -> Any:
        try:
            return self._ray.get_actor(ai_id, namespace=self.namespace)
        except ValueError:
            return None

    async def _create(self, spec: WorkerSpec) -> Any:
        resources, labels = self._wanted(spec)
        kind = self._ray.remote(Host).options(
            name=spec.ai_id,
            namespace=self.namespace,
            lifetime="detached",
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=16,
            **options(resources, labels),
        )
        try:
            return await asyncio.to_thread(kind.remote)
        except ValueError as error:
            raise LaunchFailed(f"{spec.ai_id} cannot be placed: {_first_line(error)}") from error

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
            warm = msgspec.json.decode(await _of(actor.warmed.remote()), type=Warm)
        except self._ray.exceptions.RayError:
            return  # it died: whoever follows it tells
        self._happenings.put_nowait(
            Happening(placement.ai_id, "warm", placement, problem=warm.problem, code=warm.code)
        )

    async def _follow(self, placement: Placement, actor: Any) -> None:
        """Wait for an actor's end and say how it came; a node that is gone takes its actors with it."""
        faults = self._ray.exceptions
        while True:
            try:
                await _of(actor.alive.remote())
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
                cause = _cause(error)
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
            self._happenings.put_nowait(happening)

    def _node_lives(self, ai_id: str) -> bool:
        wanted = self._nodes.get(ai_id)
        return any(node.id == wanted and node.alive for node in self._all_nodes())

    def _note(self, ai_id: str, place: Place) -> None:
        """Leave in the specialist's log here where its output lies."""
        descriptor = begin_log(self._home.logs, ai_id)
        with open(descriptor, "w", encoding="utf-8") as file:
            stamp = time.strftime("%Y-%m-%d %H:%M:%S")
            file.write(
                f"{stamp} placed on {place.hostname} ({place.host}), pid {place.pid}. What it writes lies on that node, in "
                f"Ray's session folder: ray logs actor --pid {place.pid} --node-id {place.node}\n"
            )


def _of(reference: Any) -> asyncio.Future[Any]:
    """Return a future of the running loop for one of Ray's references."""
    return asyncio.wrap_future(reference.future())


def _cause(error: BaseException) -> str:
    """Return the sentence of a Ray error that says why an actor is dead."""
    text = str(error)
    for line in text.splitlines():
        if " because " in line or "Worker exit detail" in line:
            return line.strip()[:CAUSE_CHARS]
    return _first_line(error)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:CAUSE_CHARS]
