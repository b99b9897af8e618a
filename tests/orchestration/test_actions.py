"""Every action is given the parts of the platform that it names, and nothing else."""

from __future__ import annotations

import typing

import pytest

from backend.orchestration.actions import ACTIONS
from backend.orchestration.platform import Platform

FIELDS = typing.get_type_hints(Platform)


@pytest.mark.parametrize("name", sorted(ACTIONS))
def test_what_an_action_needs_is_a_part_of_the_platform_of_that_name_and_type(name: str) -> None:
    hints = typing.get_type_hints(ACTIONS[name].handler)
    for need in ACTIONS[name].needs:
        assert hints[need] is not Platform
        if need in FIELDS:
            assert hints[need] == FIELDS[need], f"{name}: {need}"
        else:
            assert callable(getattr(Platform, need)), f"{name}: the platform has no {need}"
