"""Every fault of the ledger's list, through the real backend: asked once, told to the caller, kept in the ledger."""

from __future__ import annotations

import time
from typing import Any

import pytest
from faulty_upstream import Upstream

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]

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
        [record] = [e for e in await platform.errors(f"{name}-ai") if e["request_id"] == f"r-{fault}" and e["code"] == code]
        assert record["message"] == failure.message and record["last"] >= began and record.get("count", 1) == 1
        assert record["phase"] in ("prefill", "streaming", "stalled"), (fault, record)
    assert upstream.calls == {"hello": 1, **dict.fromkeys(FROM_UPSTREAM, 1)}
    await platform.fail(name, "401", "r-again")
    [record] = [e for e in await platform.errors(f"{name}-ai") if e["code"] == "provider_auth"]
    assert record["count"] == 2 and "told to fail: 401" in record["evidence"]
    await upstream.stop()
    failure = await platform.fail(name, "anybody there?", "r-refused")
    assert failure.code == "provider_unavailable" and "refused" in failure.message
    assert failure.message in [e["message"] for e in await platform.errors(f"{name}-ai")]
