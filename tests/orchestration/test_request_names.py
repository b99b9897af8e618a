"""A request id names one question of one kind: whatever asks under it again, the same is answered, or nothing is asked."""

from __future__ import annotations

import asyncio
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from backend.orchestration.platform import Platform
from backend.schema.errors import TektonError
from tests.orchestration.running import BOUND_S, SLOW, do, running, upstream_calls

pytestmark = pytest.mark.asyncio(loop_scope="module")
ASKING = ("chat", "team_chat", "discuss", "ask_member", "pipeline", "bulk")
KEPT = ("chat", "team_chat", "pipeline", "bulk")
"""Those whose ids are known to the next backend, which knows no team turns to discuss."""


async def asked(platform: Platform, action: str, name: str, content: str = "alpha", **values: Any) -> Any:
    """Ask in one of the ways there are, always the same words of the same two."""
    both = ["apollo", "athena"]
    if action in ("discuss", "ask_member") and "team_request_id" not in values:
        values["team_request_id"] = (await team(platform, content)).request_id
    own: dict[str, dict[str, Any]] = {
        "chat": {"ai_id": "apollo", "content": content},
        "team_chat": {"content": content, "target_ids": both},
        "discuss": {},
        "ask_member": {"ai_id": "apollo"},
        "pipeline": {"pipeline": "apollo", "input": content},
        "bulk": {"requests": [{"specialist_id": "apollo", "message": content}]},
    }
    if action != "bulk":
        values = {"wait": True, **values}
    return await do(platform, action, request_id=name, **{**own[action], **values})


async def team(platform: Platform, content: str) -> Any:
    return await do(platform, "team_chat", content=content, target_ids=["apollo", "athena"])


async def refused(platform: Platform, action: str, name: str, **values: Any) -> None:
    """Check that an id is refused before anybody is asked."""
    if action in ("discuss", "ask_member") and "team_request_id" not in values:
        values["team_request_id"] = (await team(platform, "alpha")).request_id
    calls = upstream_calls(platform)
    with pytest.raises(TektonError) as error:
        await asked(platform, action, name, **values)
    assert error.value.code == "conflict", error.value
    assert upstream_calls(platform) == calls


@pytest.mark.parametrize(("first", "second"), [*permutations(ASKING, 2)])
async def test_an_id_of_one_way_to_ask_is_refused_by_every_other(
    platform: Platform, first: str, second: str
) -> None:
    name = f"{first}-{second}"
    await asked(platform, first, name)
    await refused(platform, second, name)


@pytest.mark.parametrize(("first", "second"), [*permutations(("chat", "team_chat", "pipeline"), 2)])
async def test_an_id_is_refused_while_what_it_names_is_under_way(
    platform: Platform, first: str, second: str
) -> None:
    name = f"{first}-under-way-{second}"
    begun = upstream_calls(platform) + (2 if first == "team_chat" else 1)
    await asked(platform, first, name, SLOW, wait=False)
    async with asyncio.timeout(BOUND_S):
        while upstream_calls(platform) < begun:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    await refused(platform, second, name, content=SLOW)
    await refused(platform, "bulk", name, content=SLOW)
    await do(platform, "cancel", target=name)


async def test_a_bulk_is_refused_as_a_whole_when_its_id_names_another(platform: Platform) -> None:
    items = [{"specialist_id": "apollo", "message": text} for text in ("one", "two")]
    first = await do(platform, "bulk", requests=items, request_id="whole")
    calls = upstream_calls(platform)
    assert (await do(platform, "bulk", requests=items, request_id="whole")).results == first.results
    for other in (
        items[:1],
        [*items, items[0]],
        items[::-1],
        [{**items[0], "specialist_id": "athena"}, items[1]],
    ):
        with pytest.raises(TektonError) as error:
            await do(platform, "bulk", requests=other, request_id="whole")
        assert error.value.code == "conflict"
    assert upstream_calls(platform) == calls


async def test_a_call_of_a_member_and_a_round_are_of_one_team_turn(platform: Platform) -> None:
    here, there = (await team(platform, "alpha")).request_id, (await team(platform, "alpha")).request_id
    await asked(platform, "ask_member", "again", team_request_id=here)
    calls = upstream_calls(platform)
    same = await asked(platform, "ask_member", "again", team_request_id=here)
    assert same.content == "You said: alpha" and upstream_calls(platform) == calls
    await refused(platform, "ask_member", "again", team_request_id=here, ai_id="athena")
    await refused(platform, "ask_member", "again", team_request_id=there)
    await asked(platform, "discuss", "round", team_request_id=here)
    calls = upstream_calls(platform)
    await asked(platform, "discuss", "round", team_request_id=here)
    assert upstream_calls(platform) == calls
    await refused(platform, "discuss", "round", team_request_id=there)


async def test_ids_of_one_kind_are_refused_by_the_others_after_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path / "home", "apollo", "athena") as first:
        for action in KEPT:
            await asked(first, action, f"kept-{action}")
    async with running(tmp_path / "home", "apollo", "athena") as again:
        calls = upstream_calls(again)
        for one, other in permutations(KEPT, 2):
            with pytest.raises(TektonError) as error:
                await asked(again, other, f"kept-{one}")
            assert error.value.code == "conflict", (one, other)
        for action in KEPT:
            await asked(again, action, f"kept-{action}")
        with pytest.raises(TektonError) as error:
            await asked(again, "bulk", "kept-bulk", "beta")
        assert error.value.code == "conflict"
        assert upstream_calls(again) == calls
