"""The fleet as its operator commands it: real command lines against a real backend."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import msgspec
import pytest

from backend.specialists.process_scan import find_workers
from tests.fleet.whole import tekton

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


async def test_all_launched_by_four_commands_at_once_are_nineteen_rows_ports_and_workers(whole: Any) -> None:
    """No backend runs before: whichever command is first starts it, the others join it."""
    done = await asyncio.gather(*(tekton("launch", "all") for _ in range(4)))
    platform = await whole()
    assert [code for code, _, _ in done] == [0, 0, 0, 0], done
    rows = (await platform.client.request("snapshot", {}))["specialists"]
    assert [row["state"] for row in rows] == ["ready"] * 19
    assert len({row["port"] for row in rows}) == len({row["pid"] for row in rows}) == 19
    workers = find_workers(platform.home)
    assert {worker.ai_id: worker.identity.pid for worker in workers} == {
        row["id"]: row["pid"] for row in rows
    }
    assert len(workers) == 19
    entries = msgspec.json.decode(platform.home.registry.read_bytes())
    assert {ai_id: entry["port"] for ai_id, entry in entries.items()} == {
        row["id"]: row["port"] for row in rows
    }
    audit = platform.home.audit.read_text()
    assert audit.count('"launched"') == 19, "a worker was launched twice"


async def test_the_lifecycle_switched_off_is_said_by_every_command(
    whole: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEKTON_REGISTER_AI", "false")
    platform = await whole()
    code, _, said = await tekton("launch", "apollo")
    assert code != 0 and "TEKTON_REGISTER_AI=false" in said
    code, planned, _ = await tekton("launch", "--dry-run", "apollo")
    assert code != 0 and "TEKTON_REGISTER_AI=false" in planned
    _, status, _ = await tekton("status")
    assert "the AI lifecycle is off (TEKTON_REGISTER_AI=false)" in status
    assert (await platform.client.request("snapshot", {}))["platform"]["lifecycle_on"] is False
    assert find_workers(platform.home) == [] and not platform.home.registry.exists()


@pytest.mark.parametrize(("name", "owner"), [("budget", "penia"), ("nous", "noesis")])
async def test_an_own_specialist_named_like_a_shipped_one_is_refused_before_anything_starts(
    name: str, owner: str, whole: Any
) -> None:
    with pytest.raises(Exception, match=f"'{name}' of '{owner}'"):
        await whole(f"[specialists.{name}]\n")
    code, _, said = await tekton("launch", "apollo")
    assert code != 0 and f"'{name}'" in said and f"[specialists.{owner}]" in said


async def test_the_profile_chorus_serves_its_four_on_their_fixed_ports(
    whole: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEKTON_PORT_PROFILE", "chorus")
    platform = await whole()
    plan = (await platform.client.request("launch", {"ids": ["greek-chorus"], "dry_run": True}))["plan"]
    wanted = {"athena": 9001, "apollo": 9002, "dionysus": 9003, "hephaestus": 9004}
    assert {item["name"]: item["port"] for item in plan["items"]} == wanted
    if any(not item["ok"] for item in plan["items"]):
        pytest.skip(f"somebody else holds a port: {[item.get('problem') for item in plan['items']]}")
    code, _, said = await tekton("launch", "greek-chorus")
    assert code == 0, said
    workers = {worker.ai_id.removesuffix("-ai"): worker.port for worker in find_workers(platform.home)}
    assert workers == wanted


async def test_a_log_is_followed_line_by_line_while_its_process_writes(whole: Any) -> None:
    platform = await whole()
    await platform.launch("apollo")
    follower = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "backend.cli.tekton",
        "logs",
        "apollo",
        "-f",
        stdout=asyncio.subprocess.PIPE,
    )
    assert follower.stdout is not None
    try:
        async with asyncio.timeout(60):
            while "apollo-ai serves on" not in (await follower.stdout.readline()).decode():
                pass
            await platform.ask("apollo", "write a line", request_id="followed-turn")
            while "followed-turn" not in (await follower.stdout.readline()).decode():
                pass
    finally:
        follower.kill()
        await follower.wait()
    await platform.client.request("restart", {"ids": ["apollo"]})
    _, now, _ = await tekton("logs", "apollo")
    _, before, _ = await tekton("logs", "apollo", "--previous")
    assert "followed-turn" not in now and "followed-turn" in before
