"""Two agents and one of our own: a login that is needed, files and terminals by rule, one folder for two, the team."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from backend.config import Settings
from backend.home import Home
from backend.orchestration.platform import Platform
from backend.schema.errors import TektonError
from backend.schema.events import AskOpened, SpecialistEvent
from backend.specialists.local import LocalLauncher
from tests.agents.test_agents import config
from tests.orchestration.running import BOUND_S, Watcher, do, running, start

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> AsyncGenerator[Platform]:
    rules = '[specialists.helper.rules]\nallow = ["agent:read_file", "agent:terminal command=echo *"]'
    text = (
        config(folder, "guest", "--login")
        + config(folder, "helper", more='offers = ["read", "terminal"]')
        + config(folder / "inner", "inner")
        + rules
    )
    async with running(
        tmp_path_factory.mktemp("more") / "home", "guest", "helper", "apollo", config=text
    ) as platform:
        yield platform


async def chat(platform: Platform, ai_id: str, text: str) -> Any:
    return await do(platform, "chat", ai_id=ai_id, content=text)


async def until_row(platform: Platform, ai_id: str, fits: Any) -> None:
    watcher = Watcher(platform, "fleet")
    try:
        while not fits(platform.fleet.status(ai_id)):
            watcher.seen.clear()
            await asyncio.wait_for(watcher.until(SpecialistEvent), BOUND_S)
    finally:
        watcher.close()


async def test_a_login_that_is_needed_is_said_with_how_and_ends_by_itself_once_done(
    shared: Platform, folder: Path
) -> None:
    with pytest.raises(TektonError, match=r"needs a login .* in a terminal") as failure:
        await chat(shared, "guest", "say hm")
    assert failure.value.code == "provider_auth"
    await until_row(shared, "guest-ai", lambda row: row.agent and row.agent.state == "login")
    row = shared.fleet.status("guest-ai")
    assert row.state == "ready" and row.detail == "needs login" and "--login-now" in row.agent.login[0]
    (folder / "LOGIN").write_text("")
    assert (await chat(shared, "guest", "say in")).content == "in "
    await until_row(shared, "guest-ai", lambda row: row.agent.state == "ready" and not row.detail)


async def test_files_and_terminals_are_served_below_its_folder_where_offered_and_allowed(
    shared: Platform, folder: Path, tmp_path: Path
) -> None:
    (folder / "note.txt").write_text("a note")
    (tmp_path / "secret").write_text("secret")
    (folder / "way-out").symlink_to(tmp_path / "secret")
    assert (await chat(shared, "helper", "read note.txt")).content == "a note"
    assert "only files below" in (await chat(shared, "helper", "read way-out")).content
    assert json.loads((await chat(shared, "helper", "terminal echo hi")).content) == ["hi\n", 0]
    assert "refused" in (await chat(shared, "guest", "read note.txt")).content


async def test_what_is_no_file_is_refused_and_holds_nobody_up(shared: Platform, folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    assert "is no file" in (await chat(shared, "helper", "read pipe")).content
    assert "is no file" in (await chat(shared, "helper", "read .")).content


async def test_the_variables_of_a_command_are_part_of_what_is_asked_for(
    shared: Platform, folder: Path
) -> None:
    watcher = Watcher(shared, "asks")
    try:
        asked = asyncio.create_task(chat(shared, "helper", f"elsewhere {folder}"))
        ask = (await watcher.until(AskOpened)).ask  # the rule allows `echo *`, which this is not
        assert json.loads(ask.arguments)["command"] == f"PATH={folder} echo 'hi there'"
        await do(shared, "answer_ask", id=ask.id, answer="deny")
        assert "not allowed" in (await asked).content
    finally:
        watcher.close()


async def test_an_agent_that_is_asked_anew_says_that_it_knows_what_lies_beside(shared: Platform) -> None:
    first = await chat(shared, "helper", "say one")
    assert not first.notes
    anew = await do(shared, "chat", ai_id="helper", content="say two", after="start")
    assert anew.content == "two " and any("still knows" in note for note in anew.notes)


async def test_two_in_one_folder_are_warned_of_before_they_are_launched(
    shared: Platform, folder: Path
) -> None:
    plan = await do(shared, "launch", ids=["guest", "helper"], dry_run=True)
    assert any(str(folder) in note and "guest and helper" in note for note in plan.plan.notes), plan
    (folder / "inner").mkdir()
    notes = (await do(shared, "launch", ids=["inner"], dry_run=True)).plan.notes
    assert any(f"{folder}/inner of inner lies within {folder} of guest and helper" in note for note in notes)


async def test_a_team_of_agents_and_our_own_answers_side_by_side(shared: Platform) -> None:
    found = await do(
        shared, "team_chat", content="say together", target_ids=["guest", "helper", "apollo"], wait=True
    )
    said = {answer.socket_id: answer.content for answer in found.responses}
    assert said["guest-ai"] == said["helper-ai"] == "together " and "say together" in said["apollo-ai"]


async def test_an_agent_is_refused_where_specialists_run_on_the_hosts_of_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def elsewhere(home: Home, settings: Settings, environment: Mapping[str, str]) -> LocalLauncher:
        launcher = LocalLauncher(home, settings, environment)
        launcher.remote = True
        return launcher

    monkeypatch.setattr("backend.orchestration.opening.choose_launcher", elsewhere)
    (tmp_path / "work").mkdir()
    platform = await start(tmp_path / "home", config=config(tmp_path / "work"))
    try:
        [planned] = (await do(platform, "launch", ids=["coder"], dry_run=True)).plan.items
        assert not planned.ok and "runs on this machine only" in planned.problem, planned
        [refused] = (await do(platform, "launch", ids=["coder"])).results
        assert not refused.ok and "launch it from a gateway without --cluster" in refused.message
        assert platform.fleet.status("coder-ai").state in ("stopped", "exited")
    finally:
        await platform.close(stop_fleet=True)
