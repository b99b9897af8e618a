"""The local launcher: one process of this machine for each specialist.

The child inherits the listening socket, reads its specification from stdin and writes to a pipe when it serves. The
specification is written only when the process is in the registry. A child whose launcher dies before that finds its
stdin empty and ends, so that no worker runs that the registry does not know.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path
from socket import socket

import msgspec

from backend.config import Settings
from backend.deadlines import loop_timeout
from backend.home import Home
from backend.identity import Identity, recorded_identity
from backend.schema.records import Node, RegistryEntry
from backend.specialists.environment import allowed, allowed_for_agent
from backend.specialists.launcher import LauncherEvent, LaunchFailed, OnStarted, Placement
from backend.specialists.logs import begin_log, evidence, log_path
from backend.specialists.nodes import own_node
from backend.specialists.process import ExitStatus, Process, start
from backend.specialists.ready_pipe import StartPipe
from backend.tasks import Background
from backend.wire import encoder
from backend.worker.spec import WORKER_MODULE, WorkerSpec


class LocalLauncher:
    """Starts, adopts, watches and ends worker processes. Used from one event loop."""

    name = "local"
    remote = False

    def __init__(self, home: Home, settings: Settings, environment: Mapping[str, str]) -> None:
        self._home, self._settings, self._environment = home, settings, environment
        self._processes: dict[str, Process] = {}
        self._queue: asyncio.Queue[LauncherEvent] = asyncio.Queue()
        self._watchers = Background()
        self._pipes: dict[str, StartPipe] = {}

    def preflight(self, spec: WorkerSpec) -> tuple[str, str]:
        return spec.host, ""

    async def nodes(self) -> list[Node]:
        return [own_node(sorted(self._processes))]

    async def running_ids(self) -> list[str]:
        return []

    def environment_names(self, spec: WorkerSpec) -> list[str]:
        return list(self._environment_for(spec))

    async def launch(self, spec: WorkerSpec, listener: socket | None, on_started: OnStarted) -> Placement:
        assert listener is not None, "on this machine the port is bound first"
        started = time.monotonic()
        process, pipe = await self._spawn(spec, listener)
        placement = Placement(spec.ai_id, spec.host, spec.port, process.identity, self.name)
        self._processes[spec.ai_id] = process
        self._pipes[spec.ai_id] = pipe
        try:
            # Into the registry before it is told what to be: a kill -9 of the backend here leaves a worker that
            # the next one finds.
            await on_started(placement)
            # By its standard input, not as arguments or variables: keys stand in it, and everybody may read
            # those in /proc.
            await process.feed(encoder.encode(spec))
            await self._until_ready(spec, process, pipe, started)
        # Cancellation too: no process may outlive a launch that nobody waits for.
        except BaseException:
            pipe.close()
            await process.stop(0, force=True)
            self._processes.pop(spec.ai_id, None)
            raise
        # Before its end is followed, so that `ready` can never come behind `exited`.
        self._queue.put_nowait(LauncherEvent(spec.ai_id, "ready", placement))
        self._follow(placement, process)
        pipe.on_warm(
            lambda warm: self._queue.put_nowait(
                LauncherEvent(spec.ai_id, "warm", placement, problem=warm.problem, code=warm.code)
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

    async def stop(self, ai_id: str, *, grace_s: float, force: bool = False) -> ExitStatus:
        process = self._processes.get(ai_id)
        if process is None:
            return ExitStatus()
        return await process.stop(grace_s, force=force)

    def logs(self, ai_id: str, *, previous: bool = False) -> Path:
        return log_path(self._home.logs, ai_id, previous=previous)

    async def fetch_logs(self, ai_id: str) -> None:
        """Return at once: the process itself writes the file."""

    async def last_lines(self, ai_id: str) -> str:
        return evidence(self.logs(ai_id))

    async def events(self) -> AsyncIterator[LauncherEvent]:
        while True:
            yield await self._queue.get()

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
            # -P: a folder `backend` in the working directory must not be imported instead of ours.
            sys.executable, "-P", "-m", WORKER_MODULE, "--id", spec.ai_id, "--home", str(self._home.root),
            "--listen-fd", str(listener.fileno()), "--ready-fd", str(write_fd),
        ]  # fmt: skip
        try:
            # In a thread: it renames the log of the run before, and the disk may be slow.
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
                what = error.filename or argv[0]
                raise LaunchFailed(f"{spec.ai_id} cannot be started: {error.strerror}: {what}") from error
            raise
        finally:
            # The child has its own copies. While ours were open, its end would not end the pipe.
            os.close(write_fd)
            listener.close()
        return process, StartPipe(read_fd)

    async def _until_ready(self, spec: WorkerSpec, process: Process, pipe: StartPipe, started: float) -> None:
        limit_s = self._settings.fleet.ready_timeout_s
        with suppress(TimeoutError):
            async with loop_timeout(limit_s):
                await asyncio.wait({pipe.ready, process.exited}, return_when=asyncio.FIRST_COMPLETED)
        # First, because both may be done: a worker that reported `ready` and then ended does not serve.
        if process.exited.done():
            status = process.exited.result()
            after = f"{time.monotonic() - started:.1f} s after its start, before it was ready"
            asked = " as asked" if status.by_us else ""
            raise LaunchFailed(
                f"{spec.ai_id} {status.describe()}{asked}, {after}; see its log",
                evidence=evidence(self.logs(spec.ai_id)),
                exit_status=status,
            )
        if not pipe.ready.done():
            raise LaunchFailed(
                f"{spec.ai_id} was not ready within {limit_s:g} s and was stopped; see its log",
                evidence=evidence(self.logs(spec.ai_id)),
            )

    def _watched(self, identity: Identity) -> Process | None:
        """Return a watched process, `None` if it does not live any more."""
        # Watched first, checked then: an end in between is not missed.
        process = Process(identity)
        if identity.still_lives():
            return process
        process.detach()
        return None

    def _follow(self, placement: Placement, process: Process) -> None:
        async def follow() -> None:
            # Whoever stops the process waits for the same future.
            status = await asyncio.shield(process.exited)
            # A new launch may have put another process in its place.
            if self._processes.get(placement.ai_id) is process:
                del self._processes[placement.ai_id]
            if (pipe := self._pipes.pop(placement.ai_id, None)) is not None:
                pipe.close()
            self._queue.put_nowait(LauncherEvent(placement.ai_id, "exited", placement, exit_status=status))

        self._watchers.start(follow(), f"follow {placement.ai_id}")

    def _environment_for(self, spec: WorkerSpec) -> dict[str, str]:
        if spec.agent is not None:
            own = allowed_for_agent(self._environment, spec.agent.env)
            return {**own, "TEKTON_HOME": str(self._home.root)}
        settings = msgspec.json.decode(spec.settings, type=Settings)
        return {
            **allowed(self._environment, spec.provider, settings),
            "TEKTON_HOME": str(self._home.root),
        }
