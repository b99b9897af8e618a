"""Two thousand random steps over one backend; `make fuzz` takes a hundred thousand others."""

from __future__ import annotations

import pytest

from tests.orchestration.interleavings import run_steps
from tests.randomness import first_seed

STEPS, HOMES = 2_000, 12


@pytest.mark.timeout(600)  # half a minute on a machine with nothing else to do
def test_whatever_comes_after_whatever_no_answer_is_lost_and_the_backend_starts() -> None:
    taken = run_steps(STEPS, lives=HOMES, first_seed=first_seed())
    print(dict(taken))
    assert taken["kill -9 backend"] and taken["chat"] > STEPS / 20
