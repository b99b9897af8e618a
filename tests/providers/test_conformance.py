"""What every provider does alike, each through its vendor's real library against that vendor's wire."""

from __future__ import annotations

import asyncio
import time

import pytest

from backend.providers.base import Completed, Loading, Queued, Reasoning, StreamItem, Text
from tests.providers.dialects import DIALECTS, Answer
from tests.providers.rigs import BOUND_S, Rig, ServerRig, Stream
from tests.providers.upstreams import Call

CANCEL_S = 2.0
"""From closing the iterator to the upstream's seeing its connection closed."""
HOSTILE = (
    '\x1b]52;c;aGk=\x07\x1b[2J [/x] [@click=app.quit]\u202e\x00\x7f "quoted\\" data: {\n\ndata: [DONE]\n'
)


async def take(stream: Stream) -> list[StreamItem]:
    async with asyncio.timeout(BOUND_S):
        return [item async for item in stream]


def said(items: list[StreamItem]) -> str:
    return "".join(item.content for item in items if isinstance(item, Text))


def thought(items: list[StreamItem]) -> str:
    return "".join(item.content for item in items if isinstance(item, Reasoning))


async def test_pieces_come_in_order_then_one_last_word_with_usage(rig: Rig) -> None:
    answer = Answer(pieces=["Hel ", "lo ", "there"], tokens=3)
    rig.play(answer)
    items = await take(rig.ask())
    assert said(items) == "Hel lo there"
    assert isinstance(items[-1], Completed) and sum(isinstance(item, Completed) for item in items) == 1
    assert items[-1].finish_reason == "stop"
    got, expected = items[-1].usage, rig.usage(answer)
    assert (got.output_tokens, got.estimated) == (expected.output_tokens, False)
    assert (got.input_tokens, got.cached_tokens) == (expected.input_tokens, expected.cached_tokens) or (
        rig.kind == "scripted" and got.input_tokens > 0
    )
    assert await rig.calls() == 1


async def test_what_came_from_the_upstreams_cache_is_counted_apart(served: ServerRig) -> None:
    answer = Answer(prompt=40, cached=30, tokens=5)
    served.play(answer)
    last = (await take(served.ask()))[-1]
    assert isinstance(last, Completed) and last.usage == served.usage(answer)


async def test_a_cut_for_length_says_so(rig: Rig) -> None:
    rig.play(Answer(finish="length"))
    last = (await take(rig.ask()))[-1]
    assert isinstance(last, Completed) and last.finish_reason == "length"


async def test_the_prompt_goes_up_once_with_persona_history_and_limits(served: ServerRig) -> None:
    served.play(Answer())
    await take(served.ask(text="How?", temperature=0.5, max_tokens=33))
    [call] = served.upstream.to(served.dialect.chat)
    sent = call.json
    texts = [message["content"] for message in sent["messages"]]
    assert texts[-3:] == ["one", "two", "How?"]
    assert "You are Apollo." in (sent.get("system"), texts[0])
    limits = (sent.get("max_tokens"), (sent.get("options") or {}).get("num_predict"))
    assert 33 in limits
    assert call.headers["authorization"].endswith("1234567890abcdef")
    wanted = sent.get("temperature", (sent.get("options") or {}).get("temperature"))
    assert wanted == (None if served.kind == "anthropic" else 0.5)


@pytest.mark.parametrize(
    "served", [d for d in DIALECTS if d.kind == "anthropic"], indirect=True, ids=lambda dialect: dialect.kind
)
async def test_a_temperature_that_is_not_sent_is_told_only_to_who_asked_for_it(served: ServerRig) -> None:
    for by_role in (False, True):
        last = (await take(served.ask(temperature=0.5, temperature_by_role=by_role)))[-1]
        assert isinstance(last, Completed) and bool(last.notes) is not by_role


async def test_characters_split_at_every_byte_arrive_whole(served: ServerRig) -> None:
    answer = Answer(pieces=["é", "日本", "🦉👩‍👩‍👧", " ok"], thinking=["ü🦉"])
    served.play(answer, singly=True)
    items = await take(served.ask())
    assert said(items) == "é日本🦉👩‍👩‍👧 ok"
    for item in items:
        if isinstance(item, Text):
            item.content.encode()


@pytest.mark.parametrize(
    "served", [d for d in DIALECTS if d.kind != "embedded"], indirect=True, ids=lambda dialect: dialect.kind
)
async def test_half_characters_in_two_pieces_are_joined_and_a_lost_half_is_marked(served: ServerRig) -> None:
    halves = {b'"A"': b'"x\\ud83e"', b'"B"': b'"\\udd89y"', b'"C"': b'"\\ud83e"'}
    parts = served.dialect.wire(Answer(pieces=["A", "B", "C"])).parts

    async def say(call: Call) -> None:
        await call.begin(served.dialect.media)
        for part in parts:
            for letter, half in halves.items():
                part = part.replace(letter, half)
            await call.send(part)
        await call.end()

    served.handler = say
    assert said(await take(served.ask())) == "x🦉y\ufffd"


async def test_an_empty_answer_is_an_end_without_text(rig: Rig) -> None:
    rig.play(Answer(pieces=[], tokens=0))
    items = await take(rig.ask())
    assert said(items) == "" and isinstance(items[-1], Completed)
    assert not any(isinstance(item, Text) for item in items)


async def test_hostile_text_passes_unchanged_and_ends_nothing(rig: Rig) -> None:
    rig.play(Answer(pieces=[HOSTILE, "after"]))
    assert said(await take(rig.ask())) == HOSTILE + "after"


async def test_a_hundred_thousand_tokens_arrive_complete(rig: Rig) -> None:
    piece = "".join(f"t{number} " for number in range(500))
    rig.play(Answer(pieces=[piece] * 200, tokens=100_000))
    items = await take(rig.ask())
    assert said(items) == piece * 200
    assert isinstance(items[-1], Completed) and items[-1].usage.output_tokens == 100_000


async def test_thinking_is_kept_apart_from_the_answer(rig: Rig) -> None:
    rig.play(Answer(pieces=["yes"], thinking=["first ", "weigh it"]))
    items = await take(rig.ask())
    assert said(items) == "yes" and thought(items) == "first weigh it"
    kinds = [type(item) for item in items if isinstance(item, Text | Reasoning)]
    assert kinds == sorted(kinds, key=lambda kind: kind is Text), "thinking comes first"


async def test_before_a_slow_first_token_nothing_is_claimed(rig: Rig) -> None:
    rig.play(Answer(pieces=["late"]), hold_after=0)
    seen: list[StreamItem] = []

    async def read() -> None:
        seen.extend([item async for item in rig.ask()])

    reading = asyncio.create_task(read())
    if isinstance(rig, ServerRig):
        await rig.called()
        assert not reading.done()
    rig.go.set()
    await asyncio.wait_for(reading, BOUND_S)
    waits = [item for item in seen if isinstance(item, Queued | Loading)]
    assert said(seen) == "late" and seen[: len(waits)] == waits and await rig.calls() == 1


async def test_what_came_before_a_stall_is_shown_at_once_and_the_rest_follows(rig: Rig) -> None:
    rig.play(Answer(pieces=["one ", "two ", "three ", "four"]), hold_after=2)
    stream, texts = rig.ask(), list[str]()
    async with asyncio.timeout(BOUND_S):
        while len(texts) < 2:
            item = await anext(stream)
            texts += [item.content] if isinstance(item, Text) else []
        rig.go.set()
        rest = [item async for item in stream]
    assert "".join(texts) == "one two " and said(rest) == "three four"


@pytest.mark.parametrize("begun", [True, False], ids=["in the middle", "before the first token"])
@pytest.mark.parametrize("way", ["close", "cancel"])
async def test_an_end_by_us_closes_the_upstream_at_once(served: ServerRig, begun: bool, way: str) -> None:
    served.play(Answer(pieces=["one ", "two ", "three "]), hold_after=2 if begun else 0)
    took = [await ended_by_us(served, begun, way) for _ in range(3)]
    assert min(took) < CANCEL_S, "the upstream goes on for nobody"
    assert await served.calls() == 3


async def ended_by_us(served: ServerRig, begun: bool, way: str) -> float:
    """Ask, end it, and return the seconds until the upstream saw its connection closed."""
    stream, texts = served.ask(), list[str]()
    shown = asyncio.Event()

    async def read() -> None:
        async for item in stream:
            texts.extend([item.content] if isinstance(item, Text) else [])
            if len(texts) == 2:
                shown.set()
                if way == "close":
                    return

    known = await served.calls()
    reading = asyncio.create_task(read())
    call = await served.called(after=known)
    if begun:
        await asyncio.wait_for(shown.wait(), BOUND_S)
    began = time.monotonic()
    if way == "cancel" or not begun:
        reading.cancel()
    await asyncio.wait({reading})
    await stream.aclose()
    await asyncio.wait_for(call.gone.wait(), BOUND_S)
    return time.monotonic() - began


async def test_a_model_the_upstream_lacks_is_told_from_an_upstream_that_is_away(served: ServerRig) -> None:
    lacking = await served.provider.health("nosuch")
    assert not lacking.ok and lacking.model_missing and "nosuch" in lacking.detail
    assert (await served.provider.health(served.model)).ok
    await served.upstream.stop()
    away = await served.provider.health("nosuch")
    assert not away.ok and not away.model_missing and away.detail


async def test_many_prompts_at_once_do_not_mix(rig: Rig) -> None:
    rig.play(Answer(pieces=["alpha ", "beta ", "gamma"]))
    answers = await asyncio.gather(*(take(rig.ask()) for _ in range(12)))
    assert {said(items) for items in answers} == {"alpha beta gamma"} and await rig.calls() == 12
