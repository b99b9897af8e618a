"""A golden picture of each screen state, at the smallest and at the usual size. Looked at before it is accepted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from textual.pilot import Pilot

from backend.catalog import load
from backend.client import ConnectionChanged
from backend.config import Settings
from backend.schema.events import ErrorEntry, ServiceEvent, TeamEnd
from backend.schema.frames import StreamError, StreamPhase
from backend.schema.records import ErrorRecord, LaunchPlanItem, ServiceStatus
from tekton_tui.app import TektonApp
from tests.tui.conftest import at_rest, settle
from tests.tui.fake_client import NOW, FakeClient, answer, live, row, snapshot, team

pytestmark = pytest.mark.usefixtures("still")
SIZES = [(80, 24), (120, 40)]
MARKDOWN = (
    "The **queue** module: its lock is held across a network call.\n\n"
    "```python\ndef drain(self):\n    with self._lock:\n        self.send(self.items)\n```\n\n"
    "- take the items out under the lock\n- send them *outside*\n"
)
MODEL_SERVER = ServiceStatus(
    "embedded",
    "embedded model server",
    "ready",
    NOW - 840,
    21_800,
    40_001,
    "SmolLM2-135M, 20 slots of 2,048 tokens",
)


def busy_fleet() -> list[Any]:
    return [
        live("apollo", 21_877, state="busy", phase="streaming", phase_since=NOW - 3.2, tokens_per_second=48.0,
             first_token_ms=210.0, queue=1, turns=12, tokens_in=4210, tokens_out=9377, last_activity=NOW),
        live("athena", 21_880, first_token_ms=190.0, tokens_per_second=44.0, turns=3, tokens_out=512),
        live("numa", 21_881, state="busy", phase="prefill", phase_since=NOW - 4.1, queue=2),
        live("rhetor", 21_882, state="busy", phase="stalled", phase_since=NOW - 12, queue=1),
        row("sophia", state="starting", pid=21_890, since=NOW - 1.2),
        row("ergon", state="exited", exit_code=3, since=NOW - 75, cause="ModuleNotFoundError: No module named 'tools'"),
        row("telos", state="foreign-port", since=NOW - 20, cause="port 45008 is held by nginx (pid 812)"),
        row("metis", state="killed", signal=9, since=NOW - 130, cause="killed by SIGKILL from outside (out of memory?)"),
    ]  # fmt: skip


Drive = Callable[[TektonApp, FakeClient, Pilot[Any]], Awaitable[None]]


async def nothing(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    return


async def plan(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    items = [LaunchPlanItem(f"{n}-ai", n, True, p, provider="embedded", model="SmolLM2-135M") for n, p in
             (("numa", 45004), ("rhetor", 45003), ("apollo", 45012))]  # fmt: skip
    items.append(
        LaunchPlanItem(
            "athena-ai",
            "athena",
            False,
            45005,
            problem="port 45005 is held by nginx (pid 812)",
            code="foreign_port",
        )
    )
    client.answers["launch"] = {
        "plan": msgspec.to_builtins(
            {"items": items, "memory_estimate": 1 << 30, "memory_available": 20 << 30}
        )
    }
    for item in client.answers["launch"]["plan"]["items"]:
        item.setdefault("problem", "")
    await pilot.press("enter")


async def chat(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    app.commands.open_chat("apollo-ai")
    await settle(pilot, 10)
    client.send(*answer("r1", "apollo-ai", "s-apollo-ai", "Which module breaks first under load?", MARKDOWN))
    client.send(*answer("r2", "apollo-ai", "s-apollo-ai", "And then?", "The cache, because it")[:3])
    failed = StreamError(
        "r2", "apollo-ai", "provider_unavailable", "connection refused", "connection refused"
    )
    client.send(
        failed,
        *answer("r3", "apollo-ai", "s-apollo-ai", "Try again.")[:2],
        StreamPhase("r3", "apollo-ai", "prefill"),
    )


async def chat_empty(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    app.commands.open_chat("athena-ai")


async def team_race(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    app.show_pane("team")
    await settle(pilot, 10)
    names = ("apollo", "athena", "numa", "sophia", "ergon", "rhetor")
    client.send(team("t1", "Name the riskiest part of the plan.", *names))
    await settle(pilot)
    texts = {
        "athena": "The migration step, because two systems must agree.",
        "numa": "Memory: 2 of 19 near the cap.",
    }
    for name, text in texts.items():
        client.send(*answer(f"t1/{name}-ai", f"{name}-ai", "s-team", "", text, group="t1"))
    client.send(
        *answer("t1/apollo-ai", "apollo-ai", "s-team", "", "Two dependencies are un", group="t1")[:-1]
    )
    client.send(
        *answer("t1/sophia-ai", "sophia-ai", "s-team", "", group="t1")[:2],
        StreamPhase("t1/sophia-ai", "sophia-ai", "prefill"),
    )
    client.send(*answer("t1/ergon-ai", "ergon-ai", "s-team", "", group="t1")[:1],
                StreamError("t1/ergon-ai", "ergon-ai", "provider_unavailable", "connection refused", "connection refused"))  # fmt: skip
    await settle(pilot, 10)
    app.query_one("#team-lanes").focus()


async def team_done(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    await team_race(app, client, pilot)
    client.send(TeamEnd("t1", 4, 1, 1, 3.0))
    await pilot.press("p", "z")


async def team_empty(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    app.show_pane("team")


async def errors(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    kinds = [
        ("provider_auth", "Anthropic refused the key (401): check ANTHROPIC_API_KEY"),
        ("exited", "exited with code 3"),
        ("stalled", "no token for 15 s"),
    ]
    for number, (code, words) in enumerate(kinds, 1):
        record = ErrorRecord(number, "apollo-ai", code, words, NOW - 600, NOW - number * 60, number, "streaming",
                             "Traceback (most recent call last):\n  …\nModuleNotFoundError: No module named 'tools'")  # fmt: skip
        client.send(ErrorEntry(record, number))
    await settle(pilot)
    await pilot.press("e")


async def errors_empty(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    app.show_pane("errors")


async def lost(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    client.send(ConnectionChanged("lost", NOW - 14, "the gateway closed the connection"))
    await settle(pilot)
    app.stores.connection.since = NOW - 14
    app.query_one("#header").refresh()


async def quit_question(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    app.commands.quit()


async def kill_question(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    client.send(*answer("r1", "apollo-ai", "s", "q", "one ", "two ")[:-1])
    await settle(pilot)
    app.commands.kill(["apollo-ai", "athena-ai"])


async def help_keys(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    app.open_help()


async def pipes_empty(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    app.show_pane("pipes")


async def pipes(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    stages = [
        {
            "label": "apollo",
            "state": "done",
            "input": "our queue grows",
            "output": "Split the queue by tenant.",
            "first_token_ms": 210.0,
            "elapsed_s": 1.9,
        },
        {
            "label": 'athena "be brief"',
            "state": "failed",
            "input": "Split the queue by tenant.",
            "code": "provider_unavailable",
            "error": "connection refused",
        },
        {"label": "rhetor", "state": "not run"},
    ]
    run = {
        "request_id": "p1",
        "pipeline": 'apollo | athena "be brief" | rhetor',
        "stages": stages,
        "total_time": 2.4,
        "started_at": NOW,
    }
    client.answers["list_pipelines"] = {"runs": [run]}
    app.show_pane("pipes")
    await settle(pilot)
    app.query_one("#pipes-runs").focus()


async def timeline(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    client.send(*answer("r1", "apollo-ai", "s", "Which module breaks first?", "The queue."))
    client.changed(row("athena", state="killed", signal=9, since=NOW, cause="killed by SIGKILL from outside"))
    app.show_pane("timeline")


async def gateway(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    call = {
        "timestamp": NOW,
        "client": "127.0.0.1:50210",
        "transport": "http",
        "action": "chat",
        "status": 200,
        "elapsed_ms": 812.0,
    }
    refused = {
        **call,
        "action": "launch",
        "status": 403,
        "elapsed_ms": 0.1,
        "refusal": "the Origin http://evil.example is not allowed here",
    }
    client.answers["gateway_info"] = {
        "address": "http://127.0.0.1:8003", "streams": 1, "total_calls": 48, "refused_calls": 1, "events": {"seq": 1567},
        "clients": [{"client": "127.0.0.1:50200", "scope": "control", "since": NOW - 600, "topics": ["fleet", "chat"]}],
        "recent": [call] * 3, "refusals": [refused],
    }  # fmt: skip
    app.show_pane("gateway")


async def sessions(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    client.answers["list_sessions"] = {"sessions": [
        {"id": "s1", "owner": "apollo-ai", "title": "Which module breaks first under load?", "updated_at": NOW - 60, "messages": 12},
        {"id": "s2", "owner": "team", "title": "Name the riskiest part", "updated_at": NOW - 9000, "messages": 38},
    ]}  # fmt: skip
    client.answers["session_messages"] = {"messages": [
        {"id": 1, "author": "you", "role": "user", "content": "Which module breaks first under load?", "created_at": NOW - 90},
        {"id": 2, "author": "apollo-ai", "role": "assistant", "content": "The **queue**.", "created_at": NOW - 80, "usage": {"output_tokens": 3}},
    ]}  # fmt: skip
    app.show_pane("sessions")


async def team_of_18(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    """Eighteen lanes: most answered, some under way, two failed."""
    app.show_pane("team")
    await settle(pilot, 10)
    names = [component.name for component in load(Settings())][:18]
    client.send(team("t1", "Name the riskiest part of the plan.", *names))
    await settle(pilot)
    for number, name in enumerate(names):
        events = answer(
            f"t1/{name}-ai",
            f"{name}-ai",
            "s-team",
            "",
            f"Risk {number + 1}: ",
            "the plan has no owner.",
            group="t1",
        )
        if number in (4, 9):
            fault = StreamError(
                f"t1/{name}-ai",
                f"{name}-ai",
                "provider_unavailable",
                "connection refused",
                "connection refused",
            )
            events = [events[0], fault]
        client.send(*(events[:-1] if number in (12, 15) else events))
    await settle(pilot, 10)
    app.query_one("#team-lanes").focus()


async def team_list(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    await team_of_18(app, client, pilot)
    await pilot.press("L", "down")


async def team_diff(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    await team_race(app, client, pilot)
    await pilot.press("=")


async def team_judge(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    await team_done(app, client, pilot)
    await pilot.press("escape", "m")


async def chat_search(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    await chat(app, client, pilot)
    await settle(pilot, 10)
    app.query_one("#chat-apollo-ai .chat-transcript").focus()
    await pilot.press("/", *"queue")


async def models(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    client.answers["list_models"] = {"providers": [
        {"provider": "ollama", "ok": True, "detail": "", "models": [
            {"name": "llama3.3:70b", "display": "Llama3.3 70B", "size": 43 << 30, "context_window": 131072}]},
        {"provider": "anthropic", "ok": False, "detail": "no key for Anthropic: set ANTHROPIC_API_KEY", "models": []},
    ]}  # fmt: skip
    app.commands.choose_model(["apollo-ai"])
    await settle(pilot)
    await pilot.press("+", *"qwen3:8b", "enter")
    await settle(pilot)
    detail = "pulling 61 % of 5.2 GB"
    client.send(
        ServiceEvent(ServiceStatus("pull qwen3:8b", "fetching qwen3:8b", "busy", NOW, detail=detail), NOW)
    )


async def pull_that_lasts(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    """A fetch whose answer does not come yet."""
    client.hang.add("pull_model")
    await models(app, client, pilot)


async def settings(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    await pilot.press("f2")


async def sessions_hits(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    await sessions(app, client, pilot)
    await settle(pilot)
    await pilot.press("/", *"queue")


async def pipes_failed(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    await pipes(app, client, pilot)
    await pilot.press("right")


async def pipes_mistake(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    app.show_pane("pipes")
    await settle(pilot)
    await pilot.press(*"apollo || athena")


async def pipes_saved(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    await pipes(app, client, pilot)
    client.answers["saved_pipelines"] = {
        "saved": [
            {"name": "headline", "pipeline": '{apollo,athena} "one line" | rhetor "the best of them"'},
            {"name": "review", "pipeline": "apollo | athena | metis"},
        ]
    }
    await pilot.press("o")


async def command_line(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    await pilot.press(":", *"launch ap")


async def help_team(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    await team_race(app, client, pilot)
    await pilot.press("?")


STATES: dict[str, tuple[bool, Drive]] = {
    "fleet_empty": (False, nothing), "fleet": (True, nothing), "launch_plan": (False, plan), "chat": (True, chat),
    "chat_empty": (True, chat_empty), "team": (True, team_race), "team_zoom": (True, team_done), "team_empty": (True, team_empty),
    "errors": (True, errors), "errors_empty": (True, errors_empty), "lost": (True, lost), "quit": (True, quit_question),
    "kill": (True, kill_question), "help": (True, help_keys), "pipes": (True, pipes), "pipes_empty": (True, pipes_empty),
    "timeline": (True, timeline), "gateway": (True, gateway), "sessions": (True, sessions),
    "team_18": (True, team_of_18), "team_list": (True, team_list), "team_diff": (True, team_diff), "team_judge": (True, team_judge),
    "chat_search": (True, chat_search), "models": (True, pull_that_lasts), "settings": (True, settings),
    "sessions_hits": (True, sessions_hits), "pipes_failed": (True, pipes_failed), "pipes_saved": (True, pipes_saved), "pipes_mistake": (True, pipes_mistake),
    "command_line": (True, command_line), "help_team": (True, help_team),
}  # fmt: skip


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("state", STATES)
def test_picture(state: str, size: tuple[int, int], snap_compare: Any) -> None:
    running, drive = STATES[state]
    rows = busy_fleet() if running else []
    client = FakeClient(snapshot(*rows, services=[MODEL_SERVER] if running else []))
    app = TektonApp(client.connect)

    async def before(pilot: Pilot[Any]) -> None:
        await settle(pilot, 8)
        await drive(app, client, pilot)
        await settle(pilot, 16)
        await at_rest(pilot)

    assert snap_compare(app, terminal_size=size, run_before=before)
