"""The local launcher: one operating system process a specialist, on this machine.

Binding was done before: the child gets the listening socket, its specification on stdin, and says over a pipe that
it serves. The specification is only written once the process is enrolled, so a child whose launcher dies in between
finds its stdin empty and ends: no process runs that nobody knows of.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from socket import socket

import msgspec

from backend.config import Settings
from backend.home import Home
from backend.registry.identity import Identity, recorded_identity
from backend.schema.records import RegistryEntry
from backend.specialists.environment import allowed
from backend.specialists.launcher import Enrol, Happening, LaunchFailed, Placement
from backend.specialists.logs import begin_log, evidence, log_path
from backend.specialists.nodes import Node, own_node
from backend.specialists.process import Ending, Process, start
from backend.specialists.spec import WORKER_MODULE, WorkerSpec
from backend.specialists.startpipe import StartPipe
from backend.wire import encoder


class LocalLauncher:
    """Starts, adopts, watches and ends worker processes. Used from one event loop."""

    name = "local"
    remote = False

    def __init__(self, home: Home, settings: Settings, environment: Mapping[str, str]) -> None:
        self._home, self._settings, self._environment = home, settings, environment
        self._processes: dict[str, Process] = {}
        self._happenings: asyncio.Queue[Happening] = asyncio.Queue()
        self._watchers: set[asyncio.Task[None]] = set()
        self._pipes: dict[str, StartPipe] = {}

    def outlook(self, spec: WorkerSpec) -> tuple[str, str]:
        return spec.host, ""

    async def nodes(self) -> list[Node]:
        return [own_node(sorted(self._processes))]

    async def living(self) -> list[str]:
        return []

    def plan(self, spec: WorkerSpec) -> list[str]:
        return list(self._environment_for(spec))

    async def launch(self, spec: WorkerSpec, listener: socket | None, enrol: Enrol) -> Placement:
        assert listener is not None, "on this machine the port is bound first"
        started = time.monotonic()
        process, pipe = await self._spawn(spec, listener)
        placement = Placement(spec.ai_id, spec.host, spec.port, process.identity, self.name)
        self._processes[spec.ai_id] = process
        self._pipes[spec.ai_id] = pipe
        try:
            await enrol(placement)
            await process.feed(encoder.encode(spec))
            await self._until_ready(spec, process, pipe, started)
        except BaseException:
            pipe.close()
            await process.stop(0, force=True)
            self._processes.pop(spec.ai_id, None)
            raise
        self._happenings.put_nowait(Happening(spec.ai_id, "ready", placement))
        self._follow(placement, process)
        pipe.on_warm(
            lambda warm: self._happenings.put_nowait(
                Happening(spec.ai_id, "warm", placement, problem=warm.problem, code=warm.code)
            )
        )
        return placement

    async def adopt(self, ai_id: str, entry: RegistryEntry) -> Placement | None:
        identity = recorded_identity(entry)
        process = self._watched(identity)
        if process is None:
            return None
        self._processes[ai_id] = process
        placement = Placement(ai_id, entry.host, entry.port, identity, self.name, adopted=True)
        self._follow(placement, process)
        return placement

    async def stop(self, ai_id: str, *, grace_s: float, force: bool = False) -> Ending:
        process = self._processes.get(ai_id)
        if process is None:
            return Ending()
        return await process.stop(grace_s, force=force)

    def logs(self, ai_id: str, *, previous: bool = False) -> Path:
        return log_path(self._home.logs, ai_id, previous=previous)

    async def fetch_logs(self, ai_id: str) -> None:
        """There is nothing to do: the process writes the file itself."""

    async def watch(self) -> AsyncIterator[Happening]:
        while True:
            yield await self._happenings.get()

    def close(self) -> None:
        for task in self._watchers:
            task.cancel()
        for pipe in self._pipes.values():
            pipe.close()
        for process in self._processes.values():
            process.detach()
        self._processes.clear()

    async def _spawn(self, spec: WorkerSpec, listener: socket) -> tuple[Process, StartPipe]:
        read_fd, write_fd = os.pipe()
        argv = [
            sys.executable, "-P", "-m", WORKER_MODULE, "--id", spec.ai_id, "--home", str(self._home.root),
            "--listen-fd", str(listener.fileno()), "--ready-fd", str(write_fd),
        ]  # fmt: skip
        try:
            log_fd = await asyncio.to_thread(begin_log, self._home.logs, spec.ai_id)
            try:
                process = await start(
                    argv,
                    environment=self._environment_for(spec),
                    log_fd=log_fd,
                    pass_fds=(listener.fileno(), write_fd),
                    cwd=self._home.root,
                )
            finally:
                os.close(log_fd)
        except BaseException as error:
            os.close(read_fd)
            if isinstance(error, OSError):
                raise LaunchFailed(f"{spec.ai_id} cannot be started: {error.strerror}: {argv[0]}") from error
            raise
        finally:
            os.close(write_fd)
            listener.close()
        return process, StartPipe(read_fd)

    async def _until_ready(self, spec: WorkerSpec, process: Process, pipe: StartPipe, started: float) -> None:
        limit_s = self._settings.fleet.ready_timeout_s
        waited = {pipe.ready, process.exited}
        await asyncio.wait(waited, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        if process.exited.done():
            ending = process.exited.result()
            after = f"{time.monotonic() - started:.1f} s after its start, before it was ready"
            asked = " as asked" if ending.by_us else ""
            raise LaunchFailed(
                f"{spec.ai_id} {ending.words()}{asked}, {after}; see its log",
                evidence=evidence(self.logs(spec.ai_id)),
                ending=ending,
            )
        if not pipe.ready.done():
            raise LaunchFailed(
                f"{spec.ai_id} was not ready within {limit_s:g} s and was stopped; see its log",
                evidence=evidence(self.logs(spec.ai_id)),
            )

    def _watched(self, identity: Identity) -> Process | None:
        """Watch a process first, then make sure that it is the one meant."""
        process = Process(identity)
        if identity.still_lives():
            return process
        process.detach()
        return None

    def _follow(self, placement: Placement, process: Process) -> None:
        async def follow() -> None:
            ending = await asyncio.shield(process.exited)
            if self._processes.get(placement.ai_id) is process:
                del self._processes[placement.ai_id]
            if (pipe := self._pipes.pop(placement.ai_id, None)) is not None:
                pipe.close()
            self._happenings.put_nowait(Happening(placement.ai_id, "exited", placement, ending=ending))

        task = asyncio.create_task(follow(), name=f"follow {placement.ai_id}")
        self._watchers.add(task)
        task.add_done_callback(self._watchers.discard)

    def _environment_for(self, spec: WorkerSpec) -> dict[str, str]:
        settings = msgspec.json.decode(spec.settings, type=Settings)
        return {
            **allowed(self._environment, spec.provider, settings),
            "TEKTON_HOME": str(self._home.root),
        }
