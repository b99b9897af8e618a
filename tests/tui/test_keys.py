"""Keys are found: in the line at the bottom, under `?`, in the palette; whatever has the focus."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from textual.widget import Widget
from textual.widgets import OptionList

from backend.schema.events import ErrorEntry
from backend.schema.params import ListPipelines, ListSessions
from backend.schema.records import ErrorRecord, RunRecord, StageRecord
from backend.schema.results import PipelineRuns, SessionList
from tekton_tui.app import TektonApp
from tekton_tui.commands.palette import entries_of, nodes_here, system_commands
from tekton_tui.screens.help import HelpScreen
from tekton_tui.screens.registry import SCREENS
from tekton_tui.widgets.common.key_line import KeyLine
from tests.tui.conftest import settle
from tests.tui.fake_client import NOW, FakeClient, answer, live, session, team
from tests.tui.test_console import screen_text

Maker = Callable[..., tuple[TektonApp, FakeClient]]


async def fill(app: TektonApp, client: FakeClient) -> None:
    """Give every screen something to show."""
    client.answers[ListPipelines] = PipelineRuns([RunRecord("p1", "apollo", [StageRecord("apollo")], NOW)])
    client.answers[ListSessions] = SessionList(1, [session("s1", title="Q", messages=2)])
    client.send(ErrorEntry(ErrorRecord(1, "apollo-ai", "killed", "killed", NOW, NOW), 1))
    client.send(*answer("r1", "apollo-ai", "s-apollo-ai", "Q", "A"))
    client.send(
        team("t1", "Q", "apollo"), *answer("t1/apollo-ai", "apollo-ai", "s-team", "", "A", group="t1")
    )


@pytest.mark.parametrize("name", SCREENS)
async def test_every_key_of_the_line_stands_under_help_and_in_the_palette_whatever_has_the_focus(
    console: Maker, name: str
) -> None:
    app, client = console(live("apollo"))
    async with app.run_test(size=(200, 40)) as pilot:
        await fill(app, client)
        app.commands.navigator.open_chat("apollo-ai")
        for screen in ("team", name):
            app.navigator.show(screen)
            await settle(pilot)
        focusable = [w for w in app.query_one(f"#panes > #{name}").query(Widget) if w.focusable and w.region]
        assert focusable
        for target in focusable:
            target.focus()
            await settle(pilot)
            assert app.focused is target
            shown = [key.label for key in app.query_one(KeyLine).shown]
            assert len(shown) >= 2
            palette = {title for title, _, _ in system_commands(app, app.commands)}
            app.navigator.open_help()
            await settle(pilot)
            assert isinstance(app.screen, HelpScreen)
            helped = [row.label for row in app.screen._shown if row is not None]
            await pilot.press("escape")
            await settle(pilot)
            for words in shown:
                assert words in palette, f"{words} is not in the palette"
                assert words in helped, f"{words} is not under ?"


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_help_shows_each_sentence_to_its_end(console: Maker, size: tuple[int, int]) -> None:
    app, client = console(live("apollo"))
    async with app.run_test(size=size) as pilot:
        await fill(app, client)
        app.commands.navigator.show("team")
        await settle(pilot)
        app.navigator.open_help()
        await settle(pilot)
        assert isinstance(app.screen, HelpScreen)
        listing = app.screen.query_one(OptionList)
        seen = ""
        for at in range(0, listing.max_scroll_y + 1, 5):
            listing.scroll_to(y=at, animate=False)
            await settle(pilot)
            seen += "\n".join(listing.render_line(y).text for y in range(listing.size.height))
        assert "go to another conversation" in seen and "…" not in seen.replace("1 … 6", ""), seen


@pytest.mark.parametrize("name", SCREENS)
async def test_every_binding_of_a_screen_is_in_the_palette_wherever_the_focus_is(
    console: Maker, name: str
) -> None:
    app, client = console(live("apollo"))
    async with app.run_test(size=(120, 40)) as pilot:
        await fill(app, client)
        app.commands.navigator.open_chat("apollo-ai")
        app.navigator.show(name)
        await settle(pilot)
        titles = {title for title, _, _ in system_commands(app, app.commands)}
        missing = [
            entry
            for node in nodes_here(app.screen)
            for entry in entries_of(node)
            if entry.label not in titles and entry.verb.name not in {"back", "close"}
        ]
        assert not missing


@pytest.mark.parametrize("width", [80, 100, 140])
async def test_the_line_of_keys_never_cuts_a_key_and_always_ends_with_help(
    console: Maker, width: int
) -> None:
    app, client = console(live("apollo"))
    async with app.run_test(size=(width, 24)) as pilot:
        await fill(app, client)
        for name in SCREENS:
            app.navigator.show(name)
            await settle(pilot)
            line = screen_text(app).splitlines()[-1]
            assert line.rstrip().endswith(("? keys", "F1 keys")) and len(line) == width
