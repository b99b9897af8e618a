"""Whatever is killed while answers come: what a client saw finished is in memory, the rest is a visible error."""

from __future__ import annotations

from typing import Any

import pytest
from kept import KeptRounds

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]


async def test_no_answer_seen_finished_is_lost_whoever_is_killed(whole: Any) -> None:
    rounds = KeptRounds(await whole(), seed=7)
    await rounds.run(["backend", "worker", "lock holder", "backend"])
    assert len(rounds.announced) >= 4 and sum(rounds.counts.values()) == 4
