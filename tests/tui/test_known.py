"""What the console says there is not, it knows: nothing is said of what the backend has not answered, or could not be read; and
what happened while nobody was attached is read once somebody is."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from backend.schema import params
from backend.schema.errors import TektonError
from backend.schema.events import LogLines
from backend.schema.history import TurnPhase, TurnRecord
from backend.schema.params import GetHistory, GetLogs, ListErrors, ListPipelines, ListSessions, ListTurns
from backend.schema.records import ErrorRecord, RunRecord, StageRecord
from backend.schema.results import ErrorList, History, LogText, PipelineRuns, SessionList, TurnList
from tekton_tui.app import TektonApp
from tekton_tui.widgets.common.line_view import LineView
from tekton_tui.widgets.fleet.detail import DetailPane
from tests.tui.conftest import settle, until
from tests.tui.fake_client import NOW, FakeClient, live, message, row, session
from tests.tui.test_console import screen_text

Maker = Callable[..., tuple[TektonApp, FakeClient]]
PLACES = (
    "fleet",
    "chat",
    "team",
    "needs",
    "errors",
    "timeline",
    "sessions",
    "pipes",
    "gateway",
    "models",
    "hosts",
)
CLAIM = re.compile(
    r"\b(?:[Nn]one|[Nn]othing|[Nn]obody|No) (?:is|has|waits|runs|errors|pipeline|conversation|specialist)\b.*"
)
READS = {
    kind
    for kind in vars(params).values()
    if isinstance(kind, type) and kind.__name__.startswith(("Get", "List"))
}


def claims(app: TektonApp) -> list[str]:
    return [found.group() for found in CLAIM.finditer(screen_text(app))]


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
async def test_before_the_backend_has_answered_nothing_is_said_of_what_it_has(
    console: Maker, size: tuple[int, int]
) -> None:
    app, client = console(live("apollo"))
    client.late = True
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        for place in PLACES:
            app.navigator.show(place)
            await settle(pilot)
            assert claims(app) == [], place
        for place in PLACES[1:8]:
            app.navigator.show(place)
            await settle(pilot)
            assert "Attaching to the backend…" in screen_text(app), place
        app.controller.stores.connection.set("failed", "the port is taken")
        for place in PLACES[1:8]:
            app.navigator.show(place)
            await settle(pilot)
            shown = screen_text(app)
            assert "No backend is attached. F5 tries again." in shown and "the port is taken" in shown, place


async def test_what_is_being_read_or_cannot_be_read_is_not_said_to_be_empty(console: Maker) -> None:
    app, client = console(live("apollo"))
    client.hold |= READS
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        for place in ("errors", "timeline", "sessions", "pipes"):
            app.navigator.show(place)
            await settle(pilot)
            assert not [words for words in claims(app) if "waits for you" not in words], place
        for kind in (ListErrors, ListTurns, ListSessions, ListPipelines):
            client.answers[kind] = TektonError("the disk does not answer", code="timeout")
        client.hold.clear()
        client.send(client.first)
        await settle(pilot)
        for place in ("errors", "timeline", "sessions", "pipes"):
            app.clear_notifications()
            app.navigator.show(place)
            await settle(pilot)
            assert [notice.message for notice in app._notifications] == ["the disk does not answer"], place
            assert not [words for words in claims(app) if "waits for you" not in words], place


MISSED = ErrorRecord(9, "apollo-ai", "stalled", "no token for 15 s", NOW - 60, NOW - 50)
GAPS: dict[str, tuple[type[Any], Any, str]] = {
    "timeline": (
        ListTurns,
        TurnList(
            [
                TurnRecord(
                    "r9", "athena-ai", "s", "Missed", NOW - 60, NOW - 50, [TurnPhase("queued", NOW - 60)]
                )
            ],
            NOW - 900,
        ),
        "Missed",
    ),
    "pipes": (
        ListPipelines,
        PipelineRuns([RunRecord("p9", "ergon | telos", [StageRecord("ergon"), StageRecord("telos")], NOW)]),
        "ergon",
    ),
    "team": (
        GetHistory,
        History(
            "team",
            "s-team",
            [
                message(1, "you", "Name a risk.", request_id="t9"),
                message(2, "athena-ai", "Missed.", request_id="t9/athena-ai", lane="t9", total_time=1.0),
            ],
        ),
        "Missed.",
    ),
    "errors": (ListErrors, ErrorList([MISSED], 1), "no token for 15 s"),
    "sessions": (
        ListSessions,
        SessionList(1, [session("s9", title="Missed talk", messages=2)]),
        "Missed talk",
    ),
}


@pytest.mark.parametrize("shown", [True, False])
@pytest.mark.parametrize("attached", [True, False])
@pytest.mark.parametrize("place", GAPS)
async def test_what_came_while_nobody_was_attached_is_there_once_somebody_is(
    console: Maker, place: str, attached: bool, shown: bool
) -> None:
    kind, answer, words = GAPS[place]
    app, client = console(live("apollo"))
    client.late = not attached
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.navigator.show(place)
        await settle(pilot)
        assert words not in screen_text(app)
        if not shown:
            app.navigator.show("fleet")
            await settle(pilot)
        client.answers[kind] = answer
        client.send(msgspec.structs.replace(client.first, unacknowledged=1))
        await settle(pilot)
        if not shown:
            app.navigator.show(place)
        await until(pilot, lambda: words in screen_text(app))


async def test_lines_written_in_a_gap_are_in_a_log_that_is_open(console: Maker) -> None:
    app, client = console(live("apollo"))
    client.answers[GetLogs] = LogText("apollo-ai", "", ["one"])
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.navigator.open_logs("apollo-ai")
        await settle(pilot)
        client.answers[GetLogs] = LogText("apollo-ai", "", ["one", "two", "three"])
        client.send(client.first)
        await settle(pilot)
        client.send(LogLines("apollo-ai", ["four"], NOW))
        await settle(pilot)
        assert [line for line, _ in app.screen.query_one(LineView).kept] == ["one", "two", "three", "four"]


async def test_the_panel_beside_a_conversation_has_the_last_words_of_a_specialist_that_ended(
    console: Maker,
) -> None:
    app, client = console(live("apollo"))
    client.answers[GetLogs] = LogText("apollo-ai", "", ["it serves"])
    async with app.run_test(size=(160, 40)) as pilot:
        await settle(pilot)
        app.navigator.open_chat("apollo-ai")
        await settle(pilot, 10)
        await pilot.press("f3")
        await until(pilot, lambda: "it serves" in screen_text(app))
        client.answers[GetLogs] = LogText("apollo-ai", "", ["it serves", "no module named x"])
        client.changed(row("apollo", state="exited", exit_code=3))
        await until(pilot, lambda: "no module named x" in screen_text(app))
        client.answers[GetLogs] = LogText("apollo-ai", "", ["another run"])
        client.send(client.first)
        await until(pilot, lambda: "another run" in screen_text(app))


@pytest.mark.parametrize("tab", range(4))
async def test_the_detail_has_the_last_words_of_a_specialist_that_ends_while_it_is_shown(
    console: Maker, tab: int
) -> None:
    app, client = console(live("apollo"))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        for _ in range(tab):
            app.query_one(DetailPane).step_tab(1)
        reads = (GetHistory, GetHistory, GetLogs, ListErrors)[tab]
        await until(pilot, lambda: bool(client.called(reads)))
        await settle(pilot)
        client.answers[GetLogs] = LogText("apollo-ai", "", ["no module named x"])
        client.answers[ListErrors] = ErrorList(
            [ErrorRecord(9, "apollo-ai", "exited", "exited with code 3", NOW, NOW)], 1
        )
        client.changed(row("apollo", state="exited", exit_code=3, cause="exited with code 3"))
        words = {0: "no module named x", 1: "", 2: "no module named x", 3: "what went wrong before"}[tab]
        await until(pilot, lambda: words in screen_text(app))
