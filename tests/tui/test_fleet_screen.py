"""The fleet screen: what stands first, what keys say they do now, what a stopped row shows."""

from __future__ import annotations

from collections.abc import Callable

from tekton_tui.app import TektonApp
from tekton_tui.widgets.grid import FleetGrid
from tests.tui.conftest import settle
from tests.tui.fake_client import NOW, FakeClient, live, row
from tests.tui.test_console import screen_text

Maker = Callable[..., tuple[TektonApp, FakeClient]]


async def test_who_broke_stands_first_then_who_lives_and_the_cursor_stays_on_its_row(console: Maker) -> None:
    app, client = console(live("apollo"), live("numa"))
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        grid = app.query_one(FleetGrid)
        assert set(grid.shown_ids[:2]) == {"apollo-ai", "numa-ai"}
        grid.go_to("numa-ai")
        client.changed(row("sophia", state="killed", signal=9, since=NOW, cause="killed by SIGKILL"))
        await settle(pilot)
        assert grid.shown_ids[0] == "sophia-ai"
        assert grid.cursor_row is not None and grid.cursor_row.id == "numa-ai"
        client.changed(row("sophia"))
        await settle(pilot)
        assert grid.shown_ids[0] != "sophia-ai"


async def test_the_cursors_row_stays_in_sight_when_the_order_changes(console: Maker) -> None:
    app, client = console()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        grid = app.query_one(FleetGrid)
        first = grid.cursor_row
        assert first is not None
        for ai_id in grid.shown_ids[1:]:
            client.changed(live(ai_id.removesuffix("-ai")))
        await settle(pilot)
        assert grid.shown_ids[-1] == first.id
        assert f" {first.name} " in screen_text(app).split("╭─ " + first.name)[0]


async def test_the_line_of_keys_says_what_enter_does_now(console: Maker) -> None:
    app, client = console()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        assert "Launch team" in screen_text(app).splitlines()[-1]
        client.changed(live("apollo"))
        await settle(pilot)
        grid = app.query_one(FleetGrid)
        grid.go_to("numa-ai")
        await settle(pilot)
        assert screen_text(app).splitlines()[-1].split()[:2] == ["⏎", "Launch"]
        grid.go_to("apollo-ai")
        await settle(pilot)
        assert screen_text(app).splitlines()[-1].split()[:2] == ["⏎", "Chat"]


async def test_a_stopped_row_shows_no_speed(console: Maker) -> None:
    app, client = console(live("apollo", tokens_per_second=32.0))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        assert " 32 " in _line(app, "apollo")
        client.changed(row("apollo", tokens_per_second=32.0))
        await settle(pilot)
        assert " 32 " not in _line(app, "apollo")


async def test_to_stop_who_does_not_run_says_who(console: Maker) -> None:
    app, client = console(live("apollo"))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.query_one(FleetGrid).go_to("numa-ai")
        await pilot.press("x")
        await settle(pilot)
        assert [notice.message for notice in app._notifications] == ["numa does not run: nothing to stop"]
        assert client.called("kill") == []


def _line(app: TektonApp, name: str) -> str:
    """Return the first line of the screen a specialist's name stands in, the border's title apart."""
    return next(line for line in screen_text(app).splitlines() if f" {name} " in line and "╭" not in line)
