"""Whatever is killed while answers come: what a client saw finished is in memory, the rest is a visible error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backend.home import Home
from backend.memory import SqliteStore
from tests.fleet.kept import KeptRounds
from tests.stores import say

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


async def test_no_answer_seen_finished_is_lost_whoever_is_killed(whole: Any) -> None:
    rounds = KeptRounds(await whole(), seed=7)
    await rounds.run(["backend", "worker", "lock holder", "backend"])
    assert len(rounds.announced) >= 4 and sum(rounds.counts.values()) == 4


async def test_an_answer_stored_in_the_last_moment_of_a_backend_is_no_lost_turn(
    whole: Any, tmp_path: Path
) -> None:
    store = SqliteStore(Home(tmp_path / "home").prepare().database)
    await store.open()
    session = await store.sessions.default("apollo-ai")
    for request_id in ("kept", "cut"):
        await say(store, session.id, "?", request_id=request_id)
        await store.turns.begin(request_id, "apollo-ai", session.id)
    await say(store, session.id, author="apollo-ai", role="assistant", content="whole", request_id="kept")
    await store.close()
    platform = await whole()
    history = (await platform.client.request("conversation_history", {"specialist_id": "apollo"}))["messages"]
    answers = {m["request_id"]: m.get("error_code") for m in history if m["role"] == "assistant"}
    assert answers == {"kept": None, "cut": "backend_lost"}
    assert [m["request_id"] for m in history].count("kept") == 2
    assert [error["request_id"] for error in await platform.errors("apollo-ai")] == ["cut"]
