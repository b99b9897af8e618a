"""Where there is room the detail of a specialist shows all of it at once; where there is little it asks for no more than it shows."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from backend.schema.errors import TektonError
from backend.schema.params import GetHistory, GetLogs, GetUsage, ListErrors
from backend.schema.records import Budget, ErrorRecord, Used
from backend.schema.results import ErrorList, History, LimitRow, LogText, UsageReport
from tekton_tui.app import TektonApp
from tekton_tui.stores import FleetStore
from tekton_tui.widgets.fleet import facts
from tekton_tui.widgets.fleet.detail import DetailPane
from tekton_tui.widgets.fleet.drawing import width_of
from tekton_tui.widgets.fleet.grid import FleetGrid
from tests.tui.conftest import settle, until
from tests.tui.fake_client import NOW, FakeClient, live, message, row
from tests.tui.test_console import screen_text

MESSAGES = [
    message(1, "you", "Why is it slow?"), message(2, "apollo-ai", "## Because\n**the lock** is held.\n\nThat is all."),
    message(3, "you", "And now? 漢字"), message(4, "apollo-ai", "It is quick."),
]  # fmt: skip
STOPPED = row(
    "apollo", since=NOW - 240, started_at=NOW - 1020, cause="stopped by SIGTERM", turns=12, failures=2, tokens_in=4210, tokens_out=9377,
    cost=0.118, costs={"USD": 0.118}, last_error="no token for 15 s", context_window=8192, context_used=5080,
)  # fmt: skip


def usage() -> UsageReport:
    limit = LimitRow("apollo-ai", "apollo", 42_000, 50_000, 0.0, 0.0, "USD", "", "")
    return UsageReport("", [], Used(), Budget(), {}, [limit], "")


ENDS = [ErrorRecord(4, "apollo-ai", "killed", "killed by SIGKILL", NOW - 90, NOW - 80)]


@pytest.mark.parametrize("height", [facts.PAGE_ROWS, 30, 60])
@pytest.mark.parametrize("width", [facts.PAGE_FROM, 198, 400])
@pytest.mark.parametrize("runs", [True, False])
def test_a_page_has_all_of_a_specialist_side_by_side(width: int, height: int, runs: bool) -> None:
    one = (
        live("apollo", 7, turns=2) if runs else row("apollo", state="exited", exit_code=3, cause="no module")
    )
    log = [f"line {at}" for at in range(300)]
    drawn = facts.page(facts.Known(one, FleetStore(), (), MESSAGES, log, ENDS, (), {}, NOW), width, height)
    text = "\n".join("".join(part.text for part in line) for line in drawn)
    assert len(drawn) <= height and {width_of(line[: line.index(bar)]) for line in drawn for bar in line if bar.text == "┊ "} == {
        min(facts.MOST_TEXT, width * 3 // 5)
    }  # fmt: skip
    for words in (
        "And now? 漢字",
        "It is quick.",
        "Why is it slow?",
        "Because the lock is held.",
        "killed by SIGKILL",
    ):
        assert words in text, words
    assert "line 299" in text
    assert ("no module" in text) != runs


@pytest.mark.parametrize(
    ("size", "asked"), [((200, 60), {GetHistory, GetLogs, ListErrors}), ((120, 40), {GetHistory})]
)
async def test_what_is_shown_is_read_once_the_cursor_rests(
    console: Callable[..., tuple[TektonApp, FakeClient]], size: tuple[int, int], asked: set[type]
) -> None:
    app, client = console(live("apollo"))
    client.answers[GetHistory] = History("apollo-ai", "s", MESSAGES)
    client.answers[GetLogs] = LogText("apollo-ai", "", ["a line of its log"])
    client.answers[ListErrors] = ErrorList(ENDS, 1)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        client.calls.clear()
        app.query_one(DetailPane).show_specialist(None)
        app.query_one(DetailPane).show_specialist("apollo-ai")
        while "quick" not in screen_text(app):
            await settle(pilot, 2)
        await settle(pilot)
        kinds = {GetHistory, GetLogs, ListErrors}
        assert {type(call) for call in client.calls if type(call) in kinds} == asked
        assert ("a line of its log" in screen_text(app)) == (size == (200, 60))


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
async def test_of_one_that_was_stopped_is_told_how_it_ended_what_it_did_and_what_starting_it_begins(
    console: Callable[..., tuple[TektonApp, FakeClient]], still: None, size: tuple[int, int]
) -> None:
    app, client = console(live("athena"), STOPPED)
    client.answers[GetHistory] = History("apollo-ai", "s", MESSAGES)
    client.answers[GetUsage] = usage()
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        app.query_one(FleetGrid).go_to("apollo-ai")
        await until(pilot, lambda: "42.0k of 50.0k tok" in screen_text(app))
        text = screen_text(app)
    for words in ("stopped on request 11:02 · ran 13 m", "It is quick.", "turns 12    failed 2", "4.2k in  9.4k out", "$0.118",
                  "no token for 15 s", "⏎ starts", "SmolLM2 135M · embedded", "context 8.2k"):  # fmt: skip
        assert words in text or (size == (80, 24) and words in ("It is quick.", "context 8.2k")), (
            words,
            text,
        )


async def test_of_one_that_never_ran_nothing_is_made_up(
    console: Callable[..., tuple[TektonApp, FakeClient]],
) -> None:
    app, client = console(live("athena"), row("apollo"))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.query_one(FleetGrid).go_to("apollo-ai")
        await until(pilot, lambda: client.called(GetUsage) != [])
        await settle(pilot)
        text = screen_text(app)
    assert "does not run" in text and "⏎ starts   SmolLM2 135M · embedded" in text
    assert not any(words in text for words in ("ran ", "turns", "budget", "failure", "took"))


NOTHING = {
    1: "nothing was asked yet",
    2: "nothing was written to its log",
    3: "no failure of it is in the error log",
}


@pytest.mark.parametrize("tab", NOTHING)
async def test_that_there_is_nothing_is_said_once_it_was_looked_for_and_not_where_that_failed(
    console: Callable[..., tuple[TektonApp, FakeClient]], tab: int
) -> None:
    app, client = console(live("athena"), row("apollo"), row("numa"))
    looks: dict[int, type[GetHistory] | type[GetLogs] | type[ListErrors]] = {
        1: GetHistory, 2: GetLogs, 3: ListErrors,
    }  # fmt: skip
    client.answers[GetHistory] = lambda params: History(params.specialist_id, "s", [])
    client.answers[GetLogs] = lambda params: LogText(params.id, "", [])
    client.answers[ListErrors] = ErrorList([], 0)
    client.hold.add(looks[tab])
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        grid, pane = app.query_one(FleetGrid), app.query_one(DetailPane)
        for _ in range(tab):
            pane.step_tab(1)
        grid.go_to("apollo-ai")
        await until(pilot, lambda: any("apollo-ai" in str(held.params) for held in client.held))
        await settle(pilot)
        assert NOTHING[tab] not in screen_text(app), "it is being read"
        for held in client.held:
            held.released.set()
        await until(pilot, lambda: NOTHING[tab] in screen_text(app))
        client.hold.clear()
        client.answers[looks[tab]] = TektonError("the disk does not answer", code="backend_lost")
        grid.go_to("numa-ai")
        await until(pilot, lambda: "could not be read" in screen_text(app))
        assert NOTHING[tab] not in screen_text(app)
