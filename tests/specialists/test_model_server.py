"""The embedded model server as a process of the platform, with the real model."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from backend.home import Home
from backend.identity import identify
from backend.providers.base import ModelNotFound
from backend.providers.embedded import EmbeddedSettings
from backend.providers.embedded.weights import find
from backend.schema.frames import StreamEnd, StreamError
from backend.schema.records import ServiceStatus
from backend.specialists.killall import kill_all
from tests.specialists.fleets import Platform

pytestmark = [pytest.mark.e2e, pytest.mark.model]

EMBEDDED = """
[specialists.apollo]
provider = "embedded"
[specialists.athena]
provider = "embedded"
[providers.embedded]
slots = 2
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home").prepare()
    try:
        find(EmbeddedSettings(), home)
    except ModelNotFound as missing:
        pytest.skip(str(missing))
    home.config.write_text(EMBEDDED)
    return home


def server(fleet: Platform) -> ServiceStatus:
    [status] = fleet.supervisor.services()
    return status


async def until_served(fleet: Platform) -> ServiceStatus:
    await fleet.until(lambda: fleet.supervisor.services() and server(fleet).state in ("ready", "exited"), 40)
    assert server(fleet).state == "ready", server(fleet)
    return server(fleet)


async def test_the_server_is_started_once_adopted_and_stopped_with_its_last_user(
    platform: Any, home: Home
) -> None:
    first: Platform = await platform()
    await first.launch("apollo-ai", "athena-ai")
    status = await until_served(first)
    assert status.pid and status.port and "2 slots" in status.detail
    facts = json.loads(home.embedded_facts.read_text())
    assert facts["pid"] == status.pid and home.embedded_facts.stat().st_mode & 0o077 == 0
    end = await first.ask("apollo-ai", "Say hello in three words.").end()
    assert isinstance(end, StreamEnd) and end.metadata.usage.output_tokens > 0
    await first.supervisor.close(stop_fleet=False)

    if sys.platform == "linux":  # the clock was set by an hour meanwhile; elsewhere no ticks tell who it is
        home.embedded_facts.write_text(json.dumps({**facts, "process_start": facts["process_start"] - 3600}))
    second: Platform = await platform()
    assert server(second).pid == status.pid and server(second).state == "ready"
    await second.supervisor.kill(["apollo-ai"])
    assert server(second).state == "ready"
    await second.supervisor.kill(["athena-ai"])
    assert server(second).state == "stopped" and identify(status.pid) is None
    assert not home.embedded_facts.exists() and second.errors == []


async def test_a_server_killed_by_signal_9_is_seen_recorded_and_not_restarted(
    platform: Any, home: Home
) -> None:
    fleet: Platform = await platform()
    await fleet.launch("apollo-ai")
    pid = (await until_served(fleet)).pid
    assert isinstance(await fleet.ask("apollo-ai", "Say hello in three words.").end(), StreamEnd)
    os.kill(pid, signal.SIGSTOP)  # what it is asked from here on is certainly unanswered when it dies
    answer = fleet.ask("apollo-ai", "And once more.", "r2", phases=True)
    await asyncio.wait_for(answer.waiting.wait(), 60)
    os.kill(pid, signal.SIGKILL)
    await fleet.until(lambda: server(fleet).state == "killed")
    assert isinstance(await answer.end(), StreamError)
    assert [(error["where"], error["code"]) for error in fleet.errors] == [("embedded", "killed")]
    assert fleet.supervisor.status("apollo-ai").state == "ready" and server(fleet).pid == 0
    later = await asyncio.wait_for(fleet.ask("apollo-ai", "And again?", "r3").end(), 60)
    assert isinstance(later, StreamError) and later.code == "provider_unavailable"
    assert "the embedded model server" in later.message and "signal 9" in later.message, (
        "it names what died and how"
    )
    assert "start it again with `tekton launch" in later.message and "starting" not in later.message
    [result] = await fleet.supervisor.launch(["apollo-ai"])
    assert result.ok and "being started again" in result.message
    assert (await until_served(fleet)).pid != pid, "the next launch by hand starts it again"
    assert isinstance(await fleet.ask("apollo-ai", "Are you back?", "r4").end(), StreamEnd)
    results = await asyncio.to_thread(kill_all, home)
    assert {result.id for result in results} == {"apollo-ai", "embedded"}


async def test_a_server_that_cannot_start_is_a_row_with_the_way_to_mend_it(platform: Any, home: Home) -> None:
    home.config.write_text(EMBEDDED + 'gguf = "/nonexistent.gguf"\n')
    fleet: Platform = await platform()
    [item] = (await fleet.supervisor.plan(["apollo-ai"])).items
    assert item.ok and "/nonexistent.gguf is missing" in item.model_problem
    notes = (await fleet.supervisor.plan(["apollo-ai"])).notes
    assert "/nonexistent.gguf is missing" in notes[0]
    [result] = await fleet.supervisor.launch(["apollo-ai"])
    assert result.ok and result.code == "model_not_found"
    assert "serves, but cannot answer" in result.message and "/nonexistent.gguf is missing" in result.message
    await fleet.until(lambda: fleet.supervisor.services() and server(fleet).state == "exited", 30)
    assert "did not start" in server(fleet).cause
    served = [error for error in fleet.errors if error["where"] == "embedded"]
    assert "/nonexistent.gguf is missing" in served[0]["evidence"]
    await fleet.until(lambda: not fleet.supervisor.status("apollo-ai").warming)
    row = fleet.supervisor.status("apollo-ai")
    assert row.state == "ready" and "nonexistent" in row.last_error
