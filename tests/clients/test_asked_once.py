"""Libraries of others at their defaults ask once, whatever fails: each repeat would be a prompt paid again."""

from __future__ import annotations

import httpx
import pytest

from tests.clients.running import Programs
from tests.gateway.test_edges import FAULTS

pytestmark = pytest.mark.clients
DIALECTS = ("chat", "responses", "anthropic")


def test_the_ai_sdk_at_its_defaults_asks_once_whatever_fails_whole_and_streamed(
    programs: Programs,
) -> None:
    before = turns_of(programs)
    said = programs.node("asked_once.mjs", FAULTS=" ".join(FAULTS))
    assert set(said) == {
        f"{name} {fault}{how}" for name in DIALECTS for fault in FAULTS for how in ("", " streamed")
    }
    for name, text in said.items():
        assert f"scripted failure: {name.split()[1]}" in text and "attempts" not in text, (name, text)
    assert turns_of(programs) == before + len(said)


def turns_of(programs: Programs) -> int:
    """Return how many turns were asked of anybody."""
    headers = {"Authorization": f"Bearer {programs.token}"}
    answer = httpx.get(f"{programs.url}/api/v1/specialists", headers=headers, trust_env=False, timeout=60)
    return sum(row["performance"]["total_requests"] for row in answer.json()["specialists"])
