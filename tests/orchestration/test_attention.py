"""What waits for the operator, as every console sees it: enters by what happens, leaves by itself or by a person."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from backend.orchestration.attention import _Kept
from backend.orchestration.platform import Platform
from backend.schema.attention import AttentionItem
from backend.schema.errors import TektonError
from backend.schema.events import AttentionChanged
from backend.schema.tools import Ask
from tests.orchestration.running import BOUND_S, Watcher, do, running, start

pytestmark = pytest.mark.asyncio(loop_scope="module")
BUDGET = "[specialists.athena.budget]\ntokens_per_day = 10\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    async with running(
        tmp_path_factory.mktemp("attention") / "home", "apollo", "athena", config=BUDGET
    ) as platform:
        yield platform


async def waiting(platform: Platform, kind: str) -> list[AttentionItem]:
    await platform.attention.look()
    return [item for item in (await do(platform, "list_attention")).items if item.kind == kind]


async def until_waiting(platform: Platform, kind: str) -> list[AttentionItem]:
    """Look again at everything that happens until something of a kind waits."""
    reader = platform.events.subscribe(["errors", "fleet", "chat"])
    try:
        async with asyncio.timeout(BOUND_S):
            while not (found := await waiting(platform, kind)):
                await reader.next()
        return found
    finally:
        reader.close()


async def test_who_dies_waits_until_it_is_started_or_somebody_has_seen_it(platform: Platform) -> None:
    watcher = Watcher(platform, "errors", "fleet")
    os.kill(platform.fleet.status("apollo-ai").pid, signal.SIGKILL)
    down = await until_waiting(platform, "down")
    assert (down[0].id, down[0].who, down[0].short) == ("down:apollo-ai", "apollo-ai", "killed")
    assert "killed" in down[0].why
    told = await watcher.until(AttentionChanged)
    assert [item.id for item in told.items] == ["down:apollo-ai"]
    await platform.error_log.flush()
    assert not [item for item in await waiting(platform, "error") if item.who == "apollo-ai"]  # told once
    await do(platform, "acknowledge_attention", ids=["down:apollo-ai"])
    assert await waiting(platform, "down") == []
    assert not [
        e for e in (await do(platform, "list_errors", unacknowledged=True)).errors if e.code == "killed"
    ]
    await do(platform, "launch", ids=["apollo"])
    os.kill(platform.fleet.status("apollo-ai").pid, signal.SIGKILL)
    assert await until_waiting(platform, "down")
    await do(platform, "launch", ids=["apollo"])
    assert await waiting(platform, "down") == []
    watcher.close()


async def test_equal_errors_are_one_item_and_leave_by_acknowledging_alone(platform: Platform) -> None:
    for _ in range(3):
        platform.error_log.record("gateway", "provider_rate_limited", "over its budget of $5.00")
    (item,) = [item for item in await waiting(platform, "error") if item.who == "gateway"]
    assert (item.count, item.short) == (3, "provider rate limited")
    await do(platform, "acknowledge_attention", ids=[item.id])
    assert not [item for item in await waiting(platform, "error") if item.who == "gateway"]
    with pytest.raises(TektonError, match="somebody dealt with it"):  # a second console came too late
        await do(platform, "acknowledge_attention", ids=[item.id])


async def test_an_answer_waits_only_when_nobody_waited_for_it_and_until_it_was_seen(
    platform: Platform,
) -> None:
    await do(platform, "chat", ai_id="apollo", content="hi", request_id="waited")
    await do(platform, "chat", ai_id="apollo", content="hi", request_id="left", wait=False)
    turn = platform.turns.find("left")
    assert turn is not None
    await asyncio.wait_for(asyncio.shield(turn.done), 60)
    done = await until_waiting(platform, "done")
    assert [(item.who, item.request_id) for item in done] == [("apollo-ai", "left")]
    await do(platform, "mark_seen", who=["athena-ai"])
    assert await waiting(platform, "done") == done
    await do(platform, "mark_seen", who=["apollo-ai"])
    assert await waiting(platform, "done") == []


async def test_a_budget_waits_from_four_fifths_on_and_once_a_day(platform: Platform) -> None:
    assert await waiting(platform, "budget") == []
    await do(platform, "chat", ai_id="athena", content="hi")
    (item,) = await waiting(platform, "budget")
    assert item.who == "athena-ai" and "of 10 tokens are used today" in item.why
    await do(platform, "acknowledge_attention", ids=[item.id])
    assert await waiting(platform, "budget") == []


async def test_a_snoozed_item_is_marked_and_can_be_taken_back(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.error_log.record("host", "memory_low", "little is left")
    (item,) = [item for item in await waiting(platform, "error") if item.who == "host"]
    found = (await do(platform, "snooze_attention", ids=[item.id], seconds=600)).items
    assert next(one for one in found if one.id == item.id).snoozed_until > 0
    assert platform.snapshot().attention == platform.attention.items
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 2 * 31_536_000)
    await platform.attention.look()
    monkeypatch.setattr(time, "time", real)
    await platform.attention.look()
    [again] = [one for one in platform.attention.items if one.id == item.id]
    assert again.snoozed_until == 0, "the clock was set back by years: it would stay away for as long"
    found = (await do(platform, "snooze_attention", ids=[item.id], seconds=0)).items
    assert next(one for one in found if one.id == item.id).snoozed_until == 0


async def test_what_was_done_and_not_seen_survives_the_backend(tmp_path: Path) -> None:
    platform = await start(tmp_path / "home")
    platform.error_log.record("host", "memory_low", "little is left")
    await platform.attention.look()
    (item,) = platform.attention.items
    await do(platform, "snooze_attention", ids=[item.id], seconds=600)
    platform.attention._add_done("r", "apollo-ai", "s", "answered", "The broker first.")
    await platform.close(stop_fleet=True)
    again = await start(tmp_path / "home")
    try:
        assert {one.id: one.snoozed_until > 0 for one in again.attention.items} == {
            item.id: True,
            "done:r": False,
        }
        assert isinstance(again.attention._kept, _Kept)
    finally:
        await again.close(stop_fleet=True)


async def test_what_a_specialist_asks_stands_first_and_is_answered_not_acknowledged(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = Ask("a1", "apollo-ai", "r", "s", "run", '{"command": "pytest -q"}', 1.0, 2.0)
    monkeypatch.setattr(type(platform.attention._approvals), "asks", property(lambda _self: [ask]))
    platform.error_log.record("host", "memory_low", "little is left")
    await platform.attention.look()
    assert next(item.id for item in platform.attention.items) == "asks:a1"
    with pytest.raises(TektonError, match="not acknowledged"):
        await do(platform, "acknowledge_attention", ids=["asks:a1"])
    monkeypatch.undo()
    assert await waiting(platform, "asks") == []
