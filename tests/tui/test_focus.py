"""The keyboard is never with what is hidden: a pane shows another widget in the moment in which it gives the focus."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from textual.widget import Widget
from textual.widgets import DataTable

from backend.schema.attention import AttentionItem
from backend.schema.events import AttentionChanged
from backend.schema.params import ListModels
from backend.schema.results import ProviderList
from tekton_tui.app import TektonApp
from tekton_tui.runtime.input_queue import is_displayed
from tekton_tui.screens.errors import ErrorsPane
from tekton_tui.screens.fleet import FleetPane
from tekton_tui.screens.needs import NeedsPane
from tekton_tui.screens.sessions import SessionsPane
from tekton_tui.screens.timeline import TimelinePane
from tekton_tui.widgets.common.empty import EmptyState
from tekton_tui.widgets.common.needs_list import NeedsList
from tekton_tui.widgets.fleet.first_run import FirstRun
from tekton_tui.widgets.fleet.grid import FleetGrid
from tekton_tui.widgets.timeline.gantt import Gantt
from tests.tui.conftest import at_rest, settle
from tests.tui.fake_client import NOW, FakeClient, live
from tests.tui.test_first_run import QWEN, offering
from tests.tui.test_known import GAPS, PLACES

Maker = Callable[..., tuple[TektonApp, FakeClient]]
DOWN = AttentionItem("down:apollo-ai", "down", "apollo-ai", NOW, "exited 3", "gone")
PANES = {
    "fleet": FleetPane,
    "errors": ErrorsPane,
    "sessions": SessionsPane,
    "needs": NeedsPane,
    "timeline": TimelinePane,
}
TURNS = {"the form comes", "the list comes", "errors", "sessions", "timeline", "needs", "nothing needs"}


def turn(client: FakeClient, what: str) -> None:
    """Have the backend say what makes a pane show another widget."""
    if what == "the list comes":
        client.changed(live("apollo"))
    elif what == "needs":
        client.send(AttentionChanged([DOWN], []))
    elif what == "nothing needs":
        client.send(AttentionChanged([], [DOWN.id]))
    else:
        if what in GAPS:
            kind, answer, _words = GAPS[what]
            client.answers[kind] = answer
        client.send(client.first)


@pytest.mark.parametrize("given_first", [True, False], ids=["given, then hidden", "hidden, then given"])
@pytest.mark.parametrize("what", sorted(TURNS))
async def test_what_takes_the_place_of_the_widget_that_was_to_have_the_keyboard_has_it(
    console: Maker, monkeypatch: pytest.MonkeyPatch, what: str, given_first: bool
) -> None:
    app, client = console(*([] if what in ("the form comes", "the list comes") else [live("apollo")]))
    offering(client, QWEN)
    client.late = what == "the form comes"
    place = "fleet" if what.endswith("comes") else what.split()[-1]
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.navigator.show(place)
        if what == "nothing needs":
            turn(client, "needs")
        await at_rest(pilot)
        pane = app.query_one(PANES[place])
        app.screen.set_focus(None)
        await settle(pilot)
        asked: list[Widget] = []
        with monkeypatch.context() as patch:
            patch.setattr(Widget, "focus", lambda self, scroll_visible=True: asked.append(self) or self)
            pane.focus_content()
        before = asked[-1]
        assert before.display
        if given_first:
            app.screen.set_focus(before)
            before.has_focus = False  # it has not been told yet
        turn(client, what)
        await settle(pilot)
        if not given_first:
            app.screen.set_focus(before)
        await at_rest(pilot)
        assert not is_displayed(before), "nothing else was shown: the test is of no use"
        focused = app.focused
        assert focused is not None and pane in focused.ancestors
        assert isinstance(focused, FirstRun | FleetGrid | NeedsList | DataTable | EmptyState | Gantt)
        assert is_displayed(focused)


async def test_a_pane_that_was_left_takes_no_keyboard_from_the_one_that_is_shown(console: Maker) -> None:
    app, _client = console(live("apollo"))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        left: Any = app.query_one(FleetGrid)
        app.navigator.show("needs")
        await at_rest(pilot)
        app.screen.set_focus(left)
        await at_rest(pilot)
        assert isinstance(app.focused, EmptyState)


@pytest.mark.parametrize("late", [True, False], ids=["nothing known", "nothing there"])
async def test_a_place_with_nothing_to_show_gives_the_keyboard_to_nothing_hidden(
    console: Maker, late: bool
) -> None:
    app, client = console()
    offering(client, QWEN)
    client.answers[ListModels] = ProviderList([])
    client.late = late
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        for place in PLACES:
            app.navigator.show(place)
            await settle(pilot)
            assert app.focused is None or is_displayed(app.focused), place


async def test_a_pane_that_has_nothing_in_sight_is_asked_once(
    console: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, _client = console(live("apollo"))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        pane = app.query_one(FleetPane)
        asked: list[int] = []

        def focus_content() -> None:
            asked.append(1)
            pane.grid.focus()

        monkeypatch.setattr(pane, "focus_content", focus_content)
        pane.grid.display = False
        await at_rest(pilot)
        assert len(asked) == 1
