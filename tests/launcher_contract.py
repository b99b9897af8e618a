"""What every launcher promises, whatever it places specialists on: one suite, inherited by the tests of each."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from socket import socket
from typing import Any

import msgspec
import pytest

from backend.config import Settings
from backend.home import Home
from backend.identity import Identity
from backend.schema.frames import Pong, Request, StreamChunk, StreamEnd, StreamError
from backend.schema.records import RegistryEntry
from backend.specialists.launcher import Launcher, LauncherEvent, LaunchFailed, OnStarted, Placement
from backend.specialists.logs import tail
from backend.specialists.process import Process
from backend.specialists.worker_client import ChannelClosed, WorkerClient
from backend.worker.spec import WorkerSpec

BOUND_S = 60.0
TOKEN = "a token of the contract's own, long enough"


@dataclass
class Ground:
    """Where one kind of launcher is tried.

    `make` returns a launcher as a new backend would, `listen` what it is given to serve on; `hopeless` describes a
    specialist that can never serve, with the words that say why; `crash_words` are said of an `_exit(7)`.
    """

    home: Home
    settings: Settings
    make: Callable[..., Any]
    listen: Callable[[], socket | None]
    hopeless: str
    hopeless_words: str
    crash_words: str
    launchers: list[Launcher] = field(default_factory=list[Launcher])
    started: list[Placement] = field(default_factory=list[Placement])

    async def launcher(self, settings: Settings | None = None) -> Launcher:
        self.launchers.append(await self.make(settings or self.settings))
        return self.launchers[-1]

    def spec(self, component: str = "apollo", port: int = 0) -> WorkerSpec:
        return WorkerSpec(
            ai_id=f"{component}-ai",
            component=component,
            title=component.title(),
            persona="You are brief.",
            provider="scripted",
            model="scripted",
            home=str(self.home.root),
            port=port,
            token=TOKEN,
            settings=msgspec.Raw(msgspec.json.encode(self.settings)),
        )

    async def on_started(self, placement: Placement) -> None:
        self.started.append(placement)

    async def launch(
        self, launcher: Launcher, component: str = "apollo", on_started: OnStarted | None = None
    ) -> Placement:
        listener = self.listen()
        spec = self.spec(component, listener.getsockname()[1] if listener else 0)
        return await launcher.launch(spec, listener, on_started or self.on_started)

    async def end(self) -> None:
        """End whatever this test left, by its recorded identity."""
        for launcher in reversed(self.launchers):
            for placement in self.started:
                await launcher.stop(placement.ai_id, grace_s=0, force=True)
            launcher.close()
        for placement in self.started:
            await gone(placement.identity)


async def gone(identity: Identity) -> None:
    """Wait until a process of this machine has ended."""
    process = Process(identity)
    if identity.still_lives():
        await asyncio.wait_for(asyncio.shield(process.exited), BOUND_S)
    process.detach()
    assert not identity.still_lives()


async def seen(launcher: Launcher, *kinds: str) -> LauncherEvent:
    """Wait for the next event of one of these kinds."""
    async with asyncio.timeout(BOUND_S):
        async for event in launcher.events():
            if event.kind in kinds:
                return event
    raise AssertionError("the events ended")


async def connect(placement: Placement) -> WorkerClient:
    return await WorkerClient.open(
        placement.host, placement.port, token=TOKEN, ai_id=placement.ai_id, timeout_s=BOUND_S
    )


class Turn:
    """One turn's frames, as they come."""

    def __init__(self, client: WorkerClient, prompt: str) -> None:
        self.text, self.last = "", None
        self.begun, self.ended = asyncio.Event(), asyncio.Event()
        client.start_turn(Request(content=prompt, request_id="r1"), self._on_frames)

    def _on_frames(self, batch: Any) -> None:
        for frame in batch.frames:
            if isinstance(frame, StreamChunk):
                self.text += frame.content
                self.begun.set()
            if isinstance(frame, StreamEnd | StreamError):
                self.last = frame
                self.ended.set()

    async def end(self) -> Any:
        await asyncio.wait_for(self.ended.wait(), BOUND_S)
        return self.last


LONG = "[[repeat 100000]] [[rate 50]] words"


class LauncherContract:
    """Inherit, and give a fixture `ground`."""

    async def test_one_that_is_launched_serves_is_warm_is_listed_and_answers(self, ground: Ground) -> None:
        launcher = await ground.launcher()
        placement = await ground.launch(launcher)
        assert ground.started == [placement] and placement.identity.still_lives()
        kinds = [(await seen(launcher, "ready", "warm")).kind for _ in range(2)]
        assert kinds == ["ready", "warm"]
        assert ["apollo-ai"] in [node.specialists for node in await launcher.nodes()]
        client = await connect(placement)
        assert isinstance(await client.call(Request(type="ping"), timeout_s=BOUND_S), Pong)
        turn = Turn(client, "hello")
        assert isinstance(await turn.end(), StreamEnd) and turn.text
        client.close()

    async def test_a_turn_can_be_cancelled_in_its_middle(self, ground: Ground) -> None:
        client = await connect(await ground.launch(await ground.launcher()))
        turn = Turn(client, LONG)
        await asyncio.wait_for(turn.begun.wait(), BOUND_S)
        assert await client.cancel("r1", BOUND_S)
        assert (await turn.end()).metadata.finish_reason == "cancelled"
        client.close()

    async def test_a_stop_ends_open_turns_in_words_and_leaves_nothing(self, ground: Ground) -> None:
        launcher = await ground.launcher()
        placement = await ground.launch(launcher)
        client = await connect(placement)
        turn = Turn(client, LONG)
        await asyncio.wait_for(turn.begun.wait(), BOUND_S)
        status = await launcher.stop("apollo-ai", grace_s=BOUND_S)
        assert status.by_us
        last = await turn.end()
        assert isinstance(last, StreamError) and "was stopped while answering" in last.message
        await self._nothing_left(launcher, placement)

    async def test_a_kill_does_not_wait(self, ground: Ground) -> None:
        launcher = await ground.launcher()
        placement = await ground.launch(launcher)
        client = await connect(placement)
        turn = Turn(client, LONG)
        await asyncio.wait_for(turn.begun.wait(), BOUND_S)
        assert (await launcher.stop("apollo-ai", grace_s=BOUND_S, force=True)).by_us
        assert "lost while answering" in (await turn.end()).message
        await self._nothing_left(launcher, placement)

    async def test_a_crash_is_seen_with_its_cause_and_the_last_lines_of_the_log(self, ground: Ground) -> None:
        launcher = await ground.launcher()
        placement = await ground.launch(launcher)
        turn = Turn(await connect(placement), "[[crash 7]] one two three four five")
        assert isinstance(await turn.end(), StreamError)
        event = await seen(launcher, "exited", "lost")
        assert (event.kind, event.ai_id) == ("exited", "apollo-ai") and event.exit_status
        assert ground.crash_words in event.exit_status.describe()
        assert "serves on" in await launcher.last_lines("apollo-ai")
        assert "serves on" in "\n".join(tail(launcher.logs("apollo-ai"), 20))
        await self._nothing_left(launcher, placement)
        assert (await ground.launch(launcher)).identity != placement.identity, "it can be launched anew"

    async def test_one_killed_from_outside_is_seen(self, ground: Ground) -> None:
        launcher = await ground.launcher()
        placement = await ground.launch(launcher)
        os.kill(placement.identity.pid, signal.SIGKILL)
        event = await seen(launcher, "exited", "lost")
        assert event.kind == "exited" and event.exit_status and event.exit_status.describe()
        await self._nothing_left(launcher, placement)

    async def test_one_that_can_never_serve_fails_by_its_deadline_in_words(self, ground: Ground) -> None:
        settings = msgspec.structs.replace(
            ground.settings,
            fleet=msgspec.structs.replace(ground.settings.fleet, ready_timeout_s=0.001),
            cluster=msgspec.structs.replace(ground.settings.cluster, ready_timeout_s=3.0),
        )
        launcher = await ground.launcher(settings)

        async def hold(placement: Placement) -> None:
            await ground.on_started(placement)
            os.kill(placement.identity.pid, signal.SIGSTOP)  # however late its deadline is looked at

        with pytest.raises(LaunchFailed, match=ground.hopeless_words):
            await asyncio.wait_for(ground.launch(launcher, ground.hopeless, hold), BOUND_S)
        for placement in ground.started:
            await self._nothing_left(launcher, placement)
        assert f"{ground.hopeless}-ai" not in await launcher.running_ids()

    async def test_one_that_may_not_be_registered_never_serves(self, ground: Ground) -> None:
        launcher = await ground.launcher()

        async def refuse(placement: Placement) -> None:
            ground.started.append(placement)
            raise LaunchFailed("the registry is full")

        listener = ground.listen()
        spec = ground.spec(port=listener.getsockname()[1] if listener else 0)
        with pytest.raises(LaunchFailed, match="the registry is full"):
            await launcher.launch(spec, listener, refuse)
        await self._nothing_left(launcher, ground.started[0])

    async def test_the_next_backend_adopts_what_lives_and_sees_how_it_ends(self, ground: Ground) -> None:
        first = await ground.launcher()
        placement = await ground.launch(first)
        first.close()
        second = await ground.launcher()
        entry = entry_of(placement)
        adopted = await second.adopt("apollo-ai", entry)
        assert adopted and adopted.adopted and adopted.identity == placement.identity
        assert (adopted.host, adopted.port) == (placement.host, placement.port)
        client = await connect(adopted)
        assert isinstance(await Turn(client, "still there?").end(), StreamEnd)
        await second.fetch_logs("apollo-ai")
        assert "serves on" in "\n".join(tail(second.logs("apollo-ai"), 20))
        os.kill(placement.identity.pid, signal.SIGKILL)
        assert (await seen(second, "exited", "lost")).ai_id == "apollo-ai"
        await self._nothing_left(second, placement)
        assert await second.adopt("apollo-ai", entry) is None, "the dead are not adopted"

    async def test_many_are_launched_side_by_side_and_ended_together(self, ground: Ground) -> None:
        launcher = await ground.launcher()
        names = ["apollo", "athena", "numa", "rhetor"]
        placements = await asyncio.gather(*(ground.launch(launcher, name) for name in names))
        assert len({placement.port for placement in placements}) == len(names)
        listed = [ai_id for node in await launcher.nodes() for ai_id in node.specialists]
        assert sorted(listed) == [f"{name}-ai" for name in names]
        for placement in placements:
            client = await connect(placement)
            pong = await client.call(Request(type="ping"), timeout_s=BOUND_S)
            assert isinstance(pong, Pong) and pong.ai_id == placement.ai_id
            client.close()
        await asyncio.gather(*(launcher.stop(f"{name}-ai", grace_s=BOUND_S) for name in names))
        for placement in placements:
            await self._nothing_left(launcher, placement)

    async def test_what_it_writes_can_be_read_here_and_the_run_before_stays(self, ground: Ground) -> None:
        launcher = await ground.launcher()
        placement = await ground.launch(launcher)
        await launcher.fetch_logs("apollo-ai")
        lines = await asyncio.to_thread(tail, launcher.logs("apollo-ai"), 20)
        assert f"serves on {placement.host}:{placement.port}" in "\n".join(lines)
        await launcher.fetch_logs("apollo-ai")
        assert await asyncio.to_thread(tail, launcher.logs("apollo-ai"), 20) == lines, "nothing comes twice"
        await launcher.stop("apollo-ai", grace_s=BOUND_S)
        again = await ground.launch(launcher)
        await launcher.fetch_logs("apollo-ai")
        now = "\n".join(await asyncio.to_thread(tail, launcher.logs("apollo-ai"), 20))
        assert f":{again.port}" in now and f":{placement.port} " not in now
        before = await asyncio.to_thread(tail, launcher.logs("apollo-ai", previous=True), 20)
        assert f":{placement.port}" in "\n".join(before)

    async def _nothing_left(self, launcher: Launcher, placement: Placement) -> None:
        """Neither process nor port nor a place among those that run."""
        await gone(placement.identity)
        with pytest.raises(ChannelClosed):
            await connect(placement)
        assert placement.ai_id not in [ai for node in await launcher.nodes() for ai in node.specialists]
        assert placement.ai_id not in await launcher.running_ids()


def entry_of(placement: Placement) -> RegistryEntry:
    """Return what the registry keeps of a placement."""
    return RegistryEntry(
        port=placement.port,
        component=placement.ai_id.removesuffix("-ai"),
        host=placement.host,
        pid=placement.identity.pid,
        process_start=placement.identity.start,
        launcher=placement.launcher,
        metadata=placement.identity.metadata(),
    )
