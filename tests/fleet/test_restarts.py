"""A backend is restarted in the middle of every kind of call; a hundred times in `bench/restarts.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.fleet.restarts import RestartRounds


@pytest.mark.e2e
async def test_whatever_restarts_one_prompt_is_one_call_upstream(whole: Callable[..., Any]) -> None:
    rounds = RestartRounds(await whole(), seed=7)
    await rounds.run(2)
    assert rounds.failed and sum(rounds.asked().values()) == sum(rounds.expected.values())
