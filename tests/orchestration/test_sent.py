"""What was sent for a turn: by parts that together are the request, what was left out, what is new; over real workers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from backend.orchestration.platform import Platform
from backend.schema.errors import TektonError
from backend.schema.frames import StreamChunk
from backend.schema.sent import SentReport
from tests.orchestration.running import SLOW, Watcher, do, running

pytestmark = pytest.mark.asyncio(loop_scope="module")
KEY = "sk-ant-api03-" + "a1b2" * 10


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    async with running(tmp_path_factory.mktemp("sent") / "home", "apollo") as opened:
        yield opened


async def _begin(platform: Platform) -> str:
    return (await do(platform, "create_session", owner="apollo")).id


async def _ask(platform: Platform, session: str, text: str, **values: Any) -> Any:
    return await do(platform, "chat", ai_id="apollo", content=text, session_id=session, wait=True, **values)


async def _sent(platform: Platform, request_id: str) -> SentReport:
    return await do(platform, "get_sent", target=request_id)


def _texts(report: SentReport, kind: str) -> list[str]:
    return [part.text for part in report.turn.parts if part.kind == kind]


async def test_the_parts_are_what_the_model_was_sent_in_its_order(platform: Platform) -> None:
    session = await _begin(platform)
    first = await _ask(platform, session, "[[say Blue.]] which colour?")
    second = await _ask(platform, session, "[[messages]] and now?", temperature=0.5)
    report = await _sent(platform, second.request_id)
    said = [(message["role"], message["content"]) for message in json.loads(second.content)]
    parts = [part for part in report.turn.parts if part.kind in ("history", "prompt")]
    assert [(part.role, part.text) for part in parts] == said
    assert [part.kind for part in report.turn.parts] == ["persona", "history", "history", "prompt"]
    assert _texts(report, "persona") == [platform.catalog.get("apollo").persona]
    assert report.turn.options == {"temperature": 0.5}
    assert report.tokens == sum(part.tokens for part in report.turn.parts) > 0
    assert report.turn.window > 0 and report.turn.counted > 0
    assert report.before == first.request_id


async def test_the_difference_to_the_turn_before_names_what_came_and_what_changed(platform: Platform) -> None:
    session = await _begin(platform)
    first = await _ask(platform, session, "[[say Blue.]] which colour?")
    assert (await _sent(platform, first.request_id)).before == ""
    second = await _ask(platform, session, "[[say Red.]] and now?")
    changes = {change.kind: change for change in (await _sent(platform, second.request_id)).changes}
    assert set(changes) == {"history", "prompt"}
    assert (changes["history"].added, changes["history"].removed) == (2, 0) and changes["history"].tokens > 0
    assert changes["prompt"].lines == ["-[[say Blue.]] which colour?", "+[[say Red.]] and now?"]


async def test_what_was_left_out_is_said_with_its_reason(platform: Platform) -> None:
    session = await _begin(platform)
    long = "[[say ok]] " + "a long story of many words " * 400
    for number in range(3):
        await _ask(platform, session, f"{number} {long}", model="window-4000")
    last = await _ask(platform, session, "[[say ok]] and then?", model="window-4000")
    report = await _sent(platform, last.request_id)
    assert any("pruned to fit" in sentence for sentence in report.turn.left_out)
    assert len(_texts(report, "summary")) == 1
    assert report.turn.window == 4000


async def test_pinned_messages_memories_and_facts_are_parts_of_their_own(platform: Platform) -> None:
    session = await _begin(platform)
    await _ask(platform, session, "[[say ok]] the heron lands at dawn")
    pinned = (await do(platform, "session_messages", id=session)).messages[0]
    await do(platform, "pin_message", message_id=pinned.id)
    other = await _begin(platform)
    context = {
        "memory_hints": ["heron"],
        "previous": [{"specialist_id": "athena-ai", "content": "Ask twice."}],
    }
    asked = await _ask(platform, other, "[[say ok]] when?", context=context)
    report = await _sent(platform, asked.request_id)
    assert any("heron" in text for text in _texts(report, "memories"))
    assert _texts(report, "outputs") == ["Ask twice."]
    assert [part.source for part in report.turn.parts if part.kind == "outputs"] == ["athena-ai"]


async def test_keys_are_masked_in_parts_and_in_differences(platform: Platform) -> None:
    session = await _begin(platform)
    await _ask(platform, session, "[[say ok]] plain")
    asked = await _ask(platform, session, f"[[say ok]] my key is {KEY}")
    report = await _sent(platform, asked.request_id)
    assert "my key is" in report.turn.parts[-1].text
    assert KEY not in json.dumps([part.text for part in report.turn.parts])
    assert all(KEY not in line for change in report.changes for line in change.lines)


async def test_a_turn_under_way_can_be_looked_at_and_a_deleted_session_takes_all_with_it(
    platform: Platform,
) -> None:
    session = await _begin(platform)
    watcher = Watcher(platform, "chat")
    started = await do(platform, "chat", ai_id="apollo", content=SLOW, session_id=session, wait=False)
    await watcher.until(StreamChunk, request_id=started.request_id)
    assert _texts(await _sent(platform, started.request_id), "prompt") == [SLOW]
    assert platform.turns.sent(started.request_id)
    under_way = platform.turns.prompt_used(started.request_id)
    assert under_way.prompt > 10 and under_way.estimated
    await do(platform, "cancel", target=started.request_id)
    # from now on it is in the store alone
    assert platform.turns.sent(started.request_id) is None
    assert platform.turns.prompt_used(started.request_id).prompt == under_way.prompt
    assert _texts(await _sent(platform, started.request_id), "prompt") == [SLOW]
    await do(platform, "delete_session", id=session)
    with pytest.raises(TektonError) as refused:
        await _sent(platform, started.request_id)
    assert refused.value.code == "not_found"
    watcher.close()


async def test_the_newest_turn_of_a_specialist_is_found_by_its_name(platform: Platform) -> None:
    asked = await do(platform, "chat", ai_id="apollo", content="[[say ok]] hello", wait=True)
    report = await do(platform, "get_sent", specialist_id="apollo")
    assert report.turn.request_id == asked.request_id
    with pytest.raises(TektonError):
        await do(platform, "get_sent")
