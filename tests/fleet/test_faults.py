"""Every fault of the ledger's list, through the real backend: asked once, told to the caller, kept in the ledger."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import pytest

from backend.specialists.process_scan import find_workers
from tests.fleet.faulty_upstream import Upstream

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

ENDPOINT = """
[specialists.near]
provider = "openai"
model = "m1"
base_url = "{url}"
stall_after_s = 0.2
[specialists.far]
transport = "api"
provider = "openai"
model = "m1"
base_url = "{url}"
stall_after_s = 0.2
[providers.openai.timeouts]
cut_stalled = true
"""
FROM_UPSTREAM = {
    "401": "provider_auth",
    "429": "provider_rate_limited",
    "500": "provider_unavailable",
    "bad json": "internal",
    "cut": "internal",
    "stall": "stalled",
}
SCRIPTED = [
    "provider_unavailable", "provider_auth", "provider_rate_limited", "model_not_found", "context_overflow", "internal"
]  # fmt: skip


@pytest.mark.parametrize("name", ["near", "far"])
async def test_each_fault_of_an_upstream_is_one_call_a_visible_error_and_a_record(
    name: str, whole: Any, upstream: Upstream
) -> None:
    """`near` is a worker of ours that asks the endpoint, `far` the endpoint itself as a member of the fleet."""
    platform = await whole(ENDPOINT.format(url=upstream.url))
    await platform.launch(name)
    assert (await platform.ask(name, "hello"))["content"] == "All is well."
    for fault, code in FROM_UPSTREAM.items():
        began = time.time()
        failure = await platform.fail(name, fault, f"r-{fault}")
        assert failure.code == code, (fault, failure)
        assert upstream.calls[fault] == 1, f"{fault} was asked {upstream.calls[fault]} times"
        [record] = [
            e
            for e in await platform.errors(f"{name}-ai")
            if e["request_id"] == f"r-{fault}" and e["code"] == code
        ]
        assert (
            record["message"] == failure.message and record["last"] >= began and record.get("count", 1) == 1
        )
        assert record["phase"] in ("prefill", "streaming", "stalled"), (fault, record)
    assert upstream.calls == {"hello": 1, **dict.fromkeys(FROM_UPSTREAM, 1)}
    await platform.fail(name, "401", "r-again")
    [record] = [e for e in await platform.errors(f"{name}-ai") if e["code"] == "provider_auth"]
    assert record["count"] == 2 and "told to fail: 401" in record["evidence"]
    await upstream.stop()
    failure = await platform.fail(name, "anybody there?", "r-refused")
    assert failure.code == "provider_unavailable" and (
        "refused" in failure.message or "broke before" in failure.message
    )
    assert failure.message in [e["message"] for e in await platform.errors(f"{name}-ai")]


@pytest.mark.parametrize(
    ("word", "state", "words"),
    [("crash 7", "exited", "exited with code 7"), ("kill", "killed", "killed by signal 9 (SIGKILL)")],
)
async def test_a_worker_that_dies_while_answering_says_how_keeps_what_came_and_stays_dead(
    word: str, state: str, words: str, whole: Any
) -> None:
    platform = await whole("[fleet]\nunresponsive_after_s = 2\n")
    await platform.launch("apollo", "athena")
    failure = await platform.fail("apollo", f"[[{word}]] [[repeat 50]]", "r-last")
    assert failure.code == "worker_lost" and words in failure.message
    row = await platform.row("apollo")
    assert row["state"] == state and words in row["cause"] and not row.get("pid")
    [record] = await platform.errors("apollo-ai")
    assert (record["code"], record["phase"], record["request_id"]) == (state, "streaming", "r-last")
    assert "apollo-ai serves on" in record["evidence"]
    assert record["evidence"].endswith("it was answering r-last")
    history = (await platform.client.request("conversation_history", {"specialist_id": "apollo"}))["messages"]
    assert history[-1]["content"] == "token0 token1 token2 " and history[-1]["error_code"] == "worker_lost"
    await stays_dead(platform, "apollo-ai")
    assert platform.calls == 1
    assert (await platform.ask("athena", "and you?"))["content"] == "You said: and you?"
    listed = await run_tekton("errors")
    assert state in listed and words in listed and "worker_lost" not in listed


async def test_a_failed_prompt_of_every_kind_is_counted_once(whole: Any) -> None:
    platform = await whole()
    await platform.launch("apollo")
    codes = [f"{how} {code}" for how in ("fail", "cut") for code in SCRIPTED]
    for number, fault in enumerate(codes, 1):
        failure = await platform.fail("apollo", f"[[{fault}]] [[repeat 9]]", f"r{number}")
        assert failure.code == fault.split()[1] and platform.calls == number
    counted = {error["code"]: error.get("count", 1) for error in await platform.errors("apollo-ai")}
    assert counted == dict.fromkeys(SCRIPTED, 2)


async def stays_dead(platform: Any, ai_id: str) -> None:
    """See that nothing launches it: over three beats of the monitor and of the pulse, which was made fast.

    The minute of the promise itself is waited for in `bench/attack.py`.
    """
    launches = platform.home.audit.read_text().count('"launched"')
    await platform.client.subscribe(["metrics"])
    beats = 0
    async for batch in platform.client.events():
        beats += sum(type(event).__name__ == "Metrics" for _, event in batch)
        if beats >= 3:
            break
    assert platform.home.audit.read_text().count('"launched"') == launches
    assert ai_id not in {worker.ai_id for worker in find_workers(platform.home)}


async def run_tekton(*words: str) -> str:
    """Run the command line as its user does and return what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "backend.cli.tekton", *words, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await asyncio.wait_for(process.communicate(), 60)
    return printed.decode()
