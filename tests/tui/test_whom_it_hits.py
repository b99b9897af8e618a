"""A key acts on what was drawn when it was pressed, also when rows come, go and change places meanwhile."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from textual.pilot import Pilot

from backend.schema.attention import AttentionItem
from backend.schema.events import AttentionChanged, SpecialistGone
from backend.schema.params import AcknowledgeAttention, Cancel, GetSpecialist, Kill, SnoozeAttention
from backend.schema.results import AttentionList, KillResult
from tekton_tui.app import TektonApp
from tekton_tui.runtime import input_queue
from tekton_tui.screens.dialogs import Dialog
from tekton_tui.screens.help import HelpScreen
from tekton_tui.screens.new_specialist import NewSpecialistScreen
from tekton_tui.widgets.fleet.grid import FleetGrid
from tekton_tui.widgets.team.team_view import TeamView
from tests.tui.conftest import settle, until
from tests.tui.fake_client import NOW, FakeClient, answer, detail, live, team
from tests.tui.test_verbs import Refusing

Maker = Callable[..., tuple[TektonApp, FakeClient]]


@pytest.fixture(autouse=True)
def to_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what came under the cursor by itself be read first, for ever: however slow the machine is, however long it runs."""
    monkeypatch.setattr(input_queue, "READ_S", math.inf)


def told(app: TektonApp) -> str:
    return " | ".join(str(notice.message) for notice in app._notifications)


async def test_a_key_is_not_for_the_row_that_took_the_place_of_one_that_is_gone(console: Maker) -> None:
    app, client = console(live("apollo"), live("athena"), live("numa"))
    client.answers = Refusing(client.answers)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("down")
        grid = app.query_one(FleetGrid)
        first = grid.cursor_ids
        client.send(SpecialistGone(first[0], NOW))
        await settle(pilot)
        [then] = grid.cursor_ids
        assert [then] != first
        for key in ("x", "enter", "i", "space", "m"):
            await pilot.press(key)
            await settle(pilot, 2)
            assert len(app.screen_stack) == 1 and app.query_one("#fleet").display, key
            assert f"{then.removesuffix('-ai')} came under the cursor just now" in told(app)
        assert app.stores.fleet.marked == set()
        await pilot.press("down", "up", "?")
        await settle(pilot, 2)
        assert isinstance(app.screen, HelpScreen), "what is not for a row is heard at once"


async def test_what_an_item_was_seen_to_be_is_what_is_acknowledged(console: Maker) -> None:
    app, client = console(live("athena"))
    down = AttentionItem("down:ergon-ai", "down", "ergon-ai", NOW, "exited 3", "No module")
    done = AttentionItem("done:r1", "done", "athena-ai", NOW, "answered", "March", 1, "r1", "s1")
    error = AttentionItem("error:4", "error", "gateway", NOW, "budget", "over it", 1)
    client.first.attention = [down, error, done]
    client.answers[AcknowledgeAttention] = AttentionList([done])
    client.answers[SnoozeAttention] = AttentionList([done])
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("4")
        await settle(pilot)
        client.send(AttentionChanged([], [down.id]))  # another console has seen to it
        await settle(pilot)
        for key in ("a", "Z"):
            await pilot.press(key)
            await settle(pilot, 2)
        assert not client.called(AcknowledgeAttention) and len(app.screen_stack) == 1
        assert "gateway: budget came under the cursor just now" in told(app)
        input_queue.READ_S = 0.0
        await pilot.press("a")
        await settle(pilot)
        assert [call.ids for call in client.called(AcknowledgeAttention)] == [[error.id]]
        await until(pilot, lambda: [one.id for one in app.stores.attention.open()] == [done.id])
        input_queue.READ_S = math.inf
        client.answers[AcknowledgeAttention] = AttentionList([])
        await pilot.press("down", "a")  # what came because one was dealt with here was expected
        await settle(pilot)
        assert [call.ids for call in client.called(AcknowledgeAttention)][-1:] == [[done.id]]


async def test_the_lane_that_the_order_put_first_is_not_stopped_by_a_key_for_another(console: Maker) -> None:
    app, client = console(live("apollo"), live("athena"), live("numa"))
    client.answers = Refusing(client.answers)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("3")
        client.send(team("t1", "Name a risk.", "apollo", "athena", "numa"))
        for name in ("apollo", "athena", "numa"):
            client.send(*answer(f"t1/{name}-ai", f"{name}-ai", "s-team", "", "One", group="t1")[:1])
        await settle(pilot)
        view = app.query_one(TeamView)
        view.focus()
        await settle(pilot)
        drawn = view.lane_grid.current
        other = next(lane for lane in view.lane_grid.lanes if lane is not drawn)
        client.send(*answer(f"t1/{other.ai_id}", other.ai_id, "s-team", "", "Done.", group="t1"))
        await settle(pilot)
        now = view.lane_grid.current
        assert now is other and now is not drawn
        await pilot.press("x")
        await settle(pilot)
        assert not client.called(Cancel)


async def menu_of(app: TektonApp, pilot: Pilot[Any], name: str) -> None:
    grid = app.query_one(FleetGrid)
    grid.post_message(FleetGrid.MenuAsked(f"{name}-ai"))
    await settle(pilot)


async def choose(app: TektonApp, pilot: Pilot[Any], name: str) -> None:
    """Take an answer of the list of choices on the screen."""
    app.screen.dismiss(name)
    await settle(pilot)


async def test_the_menu_of_a_row_acts_on_that_row_whoever_is_marked_and_wherever_the_cursor_is(
    console: Maker,
) -> None:
    app, client = console(live("apollo"), live("athena"), live("numa"))
    client.answers[Kill] = KillResult([])
    client.answers[GetSpecialist] = lambda params: detail(live(params.id.removesuffix("-ai")))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.stores.fleet.toggle_mark("apollo-ai")
        await menu_of(app, pilot, "numa")
        await choose(app, pilot, "kill")
        await settle(pilot)
        assert isinstance(app.screen, Dialog) and app.screen._title == "Kill numa"
        await pilot.press("left", "enter")
        await settle(pilot)
        assert [call.ids for call in client.called(Kill)] == [["numa-ai"]]
        assert app.stores.fleet.marked == {"apollo-ai"}
        await menu_of(app, pilot, "athena")
        client.send(SpecialistGone("athena-ai", NOW))
        await settle(pilot)
        await choose(app, pilot, "describe")
        assert not client.called(GetSpecialist) and "its row is gone" in told(app)


async def test_a_verb_of_the_help_or_the_menu_does_nothing_to_another_row_than_it_was_opened_over(
    console: Maker,
) -> None:
    app, client = console(live("apollo"), live("athena"))
    client.answers = Refusing(client.answers)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("?")
        await settle(pilot)
        client.send(SpecialistGone(app.query_one(FleetGrid).cursor_ids[0], NOW))
        await settle(pilot)
        await pilot.press(*"kill", "enter")
        await settle(pilot)
        assert len(app.screen_stack) == 1 and "nothing was done" in told(app)
        await pilot.press("?")
        await settle(pilot)
        await pilot.press(*"new spec", "enter")
        await settle(pilot)
        assert isinstance(app.screen, NewSpecialistScreen), "what is nobody's does not mind"
