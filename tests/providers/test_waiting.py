"""How long a turn waits: for the connection, for the first token, between tokens; and for a place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from backend.config import Timeouts
from backend.home import Home
from backend.providers.base import Completed, Loading, Text
from backend.schema.frames import Request, StreamChunk, StreamEnd, StreamError, StreamPhase, StreamReasoning
from backend.worker.spec import WorkerSpec
from backend.worker.specialist import Specialist
from tests.providers.dialects import Answer, OllamaWords
from tests.providers.rigs import BOUND_S, ServerRig, settings_for


@dataclass
class Sink:
    """Takes the frames of a turn."""

    frames: list[Any] = field(default_factory=list)
    full: bool = False
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    def send(self, frame: Any) -> None:
        self.frames.append(frame)
        self.heard.set()

    async def until(self, what: Callable[[], object]) -> None:
        async with asyncio.timeout(BOUND_S):
            while not what():
                self.heard.clear()
                await self.heard.wait()

    async def drain(self) -> None:
        return

    def of(self, kind: type[Any]) -> list[Any]:
        return [frame for frame in self.frames if isinstance(frame, kind)]


def specialist(rig: ServerRig, **waits: Any) -> Specialist:
    """Return a specialist that asks the rig's server as a worker's would."""
    settings = settings_for(rig.kind, rig.upstream.url, Timeouts(**waits))
    spec = WorkerSpec(
        ai_id="apollo-ai", component="apollo", title="t", persona="You are Apollo.", provider=rig.kind,
        model=rig.model, home=str(rig.home.root), settings=msgspec.Raw(msgspec.json.encode(settings)),
    )  # fmt: skip
    return Specialist(spec, lambda kind: rig.provider)


async def turn(one: Specialist, sink: Sink, name: str = "r1") -> None:
    request = Request(content="Hello", stream=True, phases=True, request_id=name)
    await asyncio.wait_for(one.generation(request, name, sink).run(), BOUND_S)


async def test_no_first_token_in_time_ends_the_turn_and_the_upstream_call(served: ServerRig) -> None:
    served.play(Answer(), hold_after=0)
    sink = Sink()
    await turn(specialist(served, first_token=0.3), sink)
    last = sink.frames[-1]
    assert isinstance(last, StreamError) and last.code == "provider_unavailable"
    assert "no token" in last.error and "0.3 s" in last.error
    await asyncio.wait_for((await served.called()).gone.wait(), BOUND_S)
    assert await served.calls() == 1


async def test_a_stall_is_shown_and_where_asked_for_cut(served: ServerRig) -> None:
    served.play(Answer(pieces=["one ", "two ", "three"]), hold_after=2)
    sink = Sink()
    await turn(specialist(served, between_tokens=0.3, cut_stalled=True), sink)
    last = sink.frames[-1]
    assert isinstance(last, StreamError) and last.code == "stalled" and "0.3 s" in last.error
    assert [frame.content for frame in sink.of(StreamChunk)] == ["one ", "two "]
    await asyncio.wait_for((await served.called()).gone.wait(), BOUND_S)
    assert await served.calls() == 1


async def test_a_stall_that_is_not_cut_goes_on_when_tokens_come_again(served: ServerRig) -> None:
    served.play(Answer(pieces=["one ", "two ", "three"]), hold_after=2)
    sink = Sink()
    running = asyncio.create_task(turn(specialist(served, between_tokens=0.1), sink))
    await sink.until(lambda: any(frame.phase == "stalled" for frame in sink.of(StreamPhase)))
    served.go.set()
    await running
    assert isinstance(sink.frames[-1], StreamEnd)
    assert [frame.phase for frame in sink.of(StreamPhase)][-3:] == ["streaming", "stalled", "streaming"]
    assert "".join(frame.content for frame in sink.of(StreamChunk)) == "one two three"


async def test_thinking_reaches_the_console_apart_and_counts_as_life(served: ServerRig) -> None:
    served.play(Answer(pieces=["yes"], thinking=["hm ", "well"]))
    sink = Sink()
    await turn(specialist(served), sink)
    assert "".join(frame.content for frame in sink.of(StreamReasoning)) == "hm well"
    assert "".join(frame.content for frame in sink.of(StreamChunk)) == "yes"
    assert sink.frames[-1].metadata.first_token_ms is not None


async def test_over_the_cap_turns_wait_in_line_and_see_their_place(served: ServerRig) -> None:
    served.play(Answer(pieces=["one ", "two ", "three"]), hold_after=2)
    one = specialist(served)
    one.providers.queue(served.kind).limit = 1
    sinks = [Sink() for _ in range(3)]
    first = asyncio.create_task(turn(one, sinks[0]))
    await served.called()
    rest = [asyncio.create_task(turn(one, sink, f"r{n}")) for n, sink in enumerate(sinks[1:], 2)]
    await sinks[2].until(lambda: sinks[2].of(StreamPhase))
    assert [sink.of(StreamPhase)[0].position for sink in sinks[1:]] == [1, 2]
    assert await served.calls() == 1
    served.go.set()
    await asyncio.gather(first, *rest)
    assert [(p.phase, p.position) for p in sinks[2].of(StreamPhase)][:2] == [("queued", 2), ("queued", 1)]
    assert await served.calls() == 3 and all(isinstance(sink.frames[-1], StreamEnd) for sink in sinks)


async def test_a_model_that_is_being_loaded_says_so_and_a_loaded_one_is_not_asked_about(home: Home) -> None:
    dialect = OllamaWords()
    rig = ServerRig("ollama", home, dialect=dialect)
    await rig.start()
    try:
        rig.play(Answer(pieces=["ready"]))
        assert [type(item) async for item in rig.ask()] == [Text, Completed]
        assert rig.upstream.to("/api/ps") == []
        dialect.loaded = False
        rig.play(Answer(pieces=["ready"]), hold_after=0)
        stream = rig.ask()
        first = await asyncio.wait_for(anext(stream), BOUND_S)
        assert first == Loading("loading Test-model")
        rig.go.set()
        assert [type(item) async for item in stream] == [Text, Completed] and await rig.calls() == 2
    finally:
        await rig.stop()
