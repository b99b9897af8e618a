"""Remote OpenAI-compatible endpoints as members of the fleet: real streams, real cancels, real deaths."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from backend.client import attach
from backend.home import Home
from tests.fleet.faulty_upstream import Upstream
from tests.fleet.whole import Whole

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

FAR = """
[fleet]
unresponsive_after_s = 0.4
[specialists.far]
transport = "api"
model = "m1"
base_url = "{url}"
"""


async def test_an_endpoint_is_a_member_like_any_other_and_is_found_again(
    whole: Any, upstream: Upstream
) -> None:
    platform = await whole(FAR.format(url=upstream.url))
    [result] = (await platform.client.request("launch", {"ids": ["far"]}))["results"]
    assert result["ok"] and result["message"] == f"answers at {upstream.url}"
    row = await platform.row("far")
    assert (row["state"], row["transport"], row["port"]) == ("ready", "api", upstream.port)
    assert row["provider"] == "openai" and not row.get("pid")
    [found] = [
        one
        for one in (await platform.client.request("list_specialists", {}))["specialists"]
        if one["name"] == "far"
    ]
    assert found["connection"]["transport"] == "api"
    outcome = await platform.ask("far", "hello")
    assert outcome["content"] == "All is well." and outcome["model"] == "openai:m1"
    os.kill(platform.backend_pid, signal.SIGKILL)
    await platform.client.close()
    again = await whole()
    row = await again.row("far")
    assert row["state"] == "ready" and row["adopted"]
    assert (await again.ask("far", "hello"))["content"] == "All is well."
    [released] = (await again.client.request("kill", {"ids": ["far"]}))["results"]
    assert released["ok"] and "not ours" in released["message"]
    assert "far-ai" not in again.home.registry.read_text()
    assert (await again.fail("far", "hello", "r9")).code == "not_running"
    assert upstream.calls == {"hello": 2}


async def test_a_cancel_reaches_the_endpoint(whole: Any, upstream: Upstream) -> None:
    platform = await whole(FAR.format(url=upstream.url))
    await platform.launch("far")
    await platform.client.subscribe(["chat"])
    await platform.client.request(
        "chat", {"ai_id": "far", "content": "hang", "request_id": "r1", "wait": False}
    )
    async with asyncio.timeout(60):
        async for batch in platform.client.events():
            if any(type(event).__name__ == "StreamChunk" for _, event in batch):
                break
    await platform.client.request("cancel", {"target": "r1"})
    await asyncio.wait_for(upstream.sent_away.wait(), 60)
    assert (await platform.row("far"))["state"] == "ready"
    assert upstream.calls == {"hang": 1}


async def test_the_death_of_an_endpoint_is_seen_recorded_and_ends_with_its_return(
    whole: Any, upstream: Upstream
) -> None:
    platform = await whole(FAR.format(url=upstream.url))
    await platform.launch("far")
    port = upstream.port
    await upstream.stop()
    row = await platform.until_row("far", lambda row: row["state"] == "lost")
    assert "refused" in row["cause"] and str(port) in row["cause"]
    [record] = await platform.errors("far-ai")
    assert record["code"] == "provider_unavailable" and "refused" in record["message"]
    assert (await platform.fail("far", "hello", "r1")).code == "not_running"
    await upstream.start(port)
    await platform.until_row("far", lambda row: row["state"] == "ready")
    assert (await platform.ask("far", "hello"))["content"] == "All is well."


async def test_an_endpoint_that_is_not_there_is_a_failed_launch_that_says_so(
    whole: Any, upstream: Upstream
) -> None:
    platform = await whole(FAR.format(url=upstream.url))
    await upstream.stop()
    [result] = (await platform.client.request("launch", {"ids": ["far"]}))["results"]
    assert not result["ok"] and result["code"] == "provider_unavailable" and "refused" in result["message"]
    row = await platform.row("far")
    assert row.get("state", "stopped") == "stopped" and "refused" in row["cause"]
    assert (await platform.errors("far-ai"))[0]["phase"] == "starting"
    await upstream.start(upstream.port)
    await platform.launch("far")


async def test_another_gateway_is_a_member_and_its_specialists_answer_here(
    whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = await whole()
    await there.launch("apollo")
    url = msgspec.json.decode(there.home.backend_facts.read_bytes())["url"]
    monkeypatch.setenv("THEIR_TOKEN", there.home.token.read_text().strip())
    home = Home(tmp_path / "here").prepare()
    home.config.write_text(
        f'[specialists.far]\ntransport = "api"\nmodel = "apollo-ai"\nbase_url = "{url}/v1"\n'
        'api_key_env = "THEIR_TOKEN"\n'
    )
    monkeypatch.setenv("TEKTON_HOME", str(home.root))
    here = Whole(home, await attach(home), there.calls_file)
    try:
        await here.launch("far")
        answer = (await here.ask("far", "from here"))["content"]
        assert answer.startswith("You said: ") and answer.endswith("from here")
        failure = await here.fail("far", "[[fail provider_rate_limited]]", "r1")
        assert failure.code == "provider_rate_limited"
        [record] = await there.errors("apollo-ai")
        assert record["code"] == "provider_rate_limited" and there.calls == 2
        os.kill(there.backend_pid, signal.SIGKILL)
        failure = await here.fail("far", "and now?", "r2")
        assert failure.code in ("provider_unavailable", "internal", "not_running"), failure
        assert any(words in failure.message for words in ("refused", "broke", "does not answer")), failure
    finally:
        await here.client.request("shutdown", {"stop_fleet": True})
        await here.client.close()
