"""Random victims of `kill -9` while chats run. A few rounds here, a hundred in `bench/attack.py`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from backend.specialists.killall import kill_all
from tests.specialists.rounds import Rounds


@pytest.mark.e2e
@pytest.mark.parametrize(
    "victims", [["worker"], ["backend"], ["lock holder"], ["worker", "backend", "lock holder"]]
)
async def test_after_each_kill_states_are_right_and_nothing_is_left_or_restarted(
    victims: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEKTON_SCRIPTED_COUNT", "")
    rounds = Rounds(tmp_path / "home", seed=20, victims=victims)
    try:
        await rounds.run(2)
        assert sum(rounds.counts.values()) == 2
    finally:
        await rounds.close()
        await asyncio.to_thread(kill_all, rounds.home, grace_s=0.2)
