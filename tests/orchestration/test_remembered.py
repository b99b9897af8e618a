"""What the backend remembers beside its store is bounded by bytes, and what it forgot is still answered from the store."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from backend.orchestration.platform import Platform
from backend.orchestration.recent import MIB, RememberedBytes
from backend.orchestration.turns.request import ChatRequest
from backend.orchestration.turns.turn import Turn
from backend.schema.content import AnswerOptions, ChatMessage, ImagePart, TextPart, ToolSpec
from backend.schema.errors import TektonError
from tests.orchestration.running import do, running, upstream_calls

pytestmark = pytest.mark.asyncio(loop_scope="module")
LONG = "[[repeat 60000]] [[pieces 4000]]"
"""An answer of 600 kB."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    home: Path = tmp_path_factory.mktemp("remembered") / "home"
    async with running(home, "apollo", "athena", config="[memory]\nremembered_mib = 16\n") as platform:
        yield platform


def refer(platform: Platform, request_id: str) -> weakref.ref[Turn]:
    turn = platform.turns.find(request_id)
    assert turn is not None
    return weakref.ref(turn)


async def test_the_shares_of_what_is_remembered_make_up_half_of_it() -> None:
    for mib in (16, 256, 65_536):
        shares = RememberedBytes.of(mib)
        parts = (shares.events, shares.turns, shares.teams, shares.results, shares.unstored)
        assert all(parts) and sum(parts) == mib * MIB // 2


async def test_long_answers_are_forgotten_by_bytes_and_answered_from_the_store_without_asking(
    platform: Platform,
) -> None:
    shares = RememberedBytes.of(16)
    reader = platform.events.subscribe(["chat"])
    answers = [
        (await do(platform, "chat", ai_id="apollo", content=LONG, request_id=f"long{number}")).content
        for number in range(3)
    ]
    assert 0 < platform.events.held[1] <= shares.events
    reader.close()
    known = [number for number in range(3) if platform.turns.find(f"long{number}")]
    assert known == [2]  # 512 KiB are less than one, and the newest always stays
    team = await do(platform, "team_chat", content=LONG, request_id="team1")
    await do(platform, "team_chat", content=LONG, request_id="team2")
    assert platform.teams.find("team1") is None and platform.teams.find("team2") is not None
    calls = upstream_calls(platform)
    again = await do(platform, "chat", ai_id="apollo", content=LONG, request_id="long0")
    assert again.content == answers[0] and len(again.content) > 600_000
    repeated = await do(platform, "team_chat", content=LONG, request_id="team1")
    assert {row.content for row in repeated.responses} == {row.content for row in team.responses}
    assert upstream_calls(platform) == calls


async def test_a_forgotten_turn_is_freed_at_once_and_not_by_the_collector_of_cycles(
    platform: Platform,
) -> None:
    gc.collect()
    gc.disable()
    try:
        ids = [f"free{number}" for number in range(2)]
        waiting = [
            asyncio.create_task(do(platform, "chat", ai_id="apollo", content=f"{LONG} {one}", request_id=one))
            for one in ids
        ]
        while any(platform.turns.find(one) is None for one in ids):  # noqa: ASYNC110 - they are being begun
            await asyncio.sleep(0)
        turns = [refer(platform, one) for one in ids]
        await asyncio.gather(*waiting)
        del waiting
        await do(platform, "chat", ai_id="apollo", content=LONG, request_id="last")
        assert [turn() for turn in turns] == [None] * len(ids)
    finally:
        gc.enable()


@pytest.mark.parametrize("hints", [["x"] * 21, ["x" * 1_001]])
async def test_hints_are_bounded_in_number_and_length(platform: Platform, hints: list[str]) -> None:
    with pytest.raises(TektonError) as refused:
        await do(platform, "chat", ai_id="apollo", content="x", context={"memory_hints": hints})
    assert refused.value.code == "invalid_request"


BIG = "x" * 400_000
BROUGHT: dict[str, dict[str, Any]] = {
    "a conversation": {"messages": [ChatMessage("user", BIG), ChatMessage("assistant", "Yes.")]},
    "a picture": {"parts": [TextPart("hi"), ImagePart("image/png", data=BIG)]},
    "tools": {
        "options": AnswerOptions(
            tools=[ToolSpec(f"tool{n}", "", {"properties": {f"p{m}": {"type": "object"} for m in range(900)}}) for n in range(2)]
        )
    },
    "a system prompt": {"system": BIG},
    "an instruction": {"instruction": BIG},
}  # fmt: skip


@pytest.mark.parametrize("brought", list(BROUGHT.values()), ids=list(BROUGHT))
async def test_of_a_question_that_was_answered_nothing_is_held_that_came_beside_its_words(
    platform: Platform, brought: dict[str, Any]
) -> None:
    def asked(name: str) -> ChatRequest:
        copied = msgspec.json.decode(
            msgspec.json.encode(ChatRequest("apollo-ai", "[[repeat 1]]", **brought)), type=ChatRequest
        )
        return msgspec.structs.replace(copied, request_id=name, session_id=session.id, history=False)

    session = await do(platform, "create_session", owner="apollo")
    await platform.turns.ask(asked(f"{session.id}-warm"))
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(12):
            await platform.turns.ask(asked(f"{session.id}-{number}"))
        gc.collect()
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert held < 1_000_000
    calls = upstream_calls(platform)
    again = await platform.turns.start(asked(f"{session.id}-3"))
    assert again.done.done() and upstream_calls(platform) == calls
    other = msgspec.structs.replace(asked(f"{session.id}-3"), system="Something else.")
    with pytest.raises(TektonError, match="names another"):
        await platform.turns.start(other)
