"""Keys are found: in the line at the bottom, under `?`, in the palette; whatever has the focus."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from textual.widget import Widget

from tekton_tui.app import TektonApp
from tekton_tui.palette import bindings_of, nodes_here, system_commands
from tekton_tui.screens.help import HelpScreen
from tekton_tui.widgets.key_line import KeyLine
from tekton_tui.widgets.navigation import SCREENS
from tests.tui.conftest import settle
from tests.tui.fake_client import FakeClient, answer, live, team

Maker = Callable[..., tuple[TektonApp, FakeClient]]
PLACES = [
    ("fleet", "#fleet-grid"), ("chat", ".chat-transcript"), ("chat", "Composer Editor"), ("team", "#team-lanes"),
    ("team", "#team-composer Editor"), ("pipes", "#pipes-runs"), ("pipes", "#pipes-composer Editor"),
    ("timeline", "#timeline-lines"), ("errors", "#errors-table"), ("gateway", "#gateway-body"), ("sessions", "#sessions-table"),
]  # fmt: skip


async def fill(app: TektonApp, client: FakeClient) -> None:
    """Give every screen something to show."""
    client.answers["list_pipelines"] = {
        "runs": [{"request_id": "p1", "pipeline": "apollo", "stages": [{"label": "apollo"}]}]
    }
    client.send(*answer("r1", "apollo-ai", "s-apollo-ai", "Q", "A"))
    client.send(
        team("t1", "Q", "apollo"), *answer("t1/apollo-ai", "apollo-ai", "s-team", "", "A", group="t1")
    )


@pytest.mark.parametrize(("screen", "focus"), PLACES)
async def test_every_key_of_the_line_stands_under_help_and_in_the_palette(
    console: Maker, screen: str, focus: str
) -> None:
    app, client = console(live("apollo"))
    async with app.run_test(size=(200, 40)) as pilot:
        await fill(app, client)
        app.commands.open_chat("apollo-ai")
        for name in ("team", screen):
            app.show_pane(name)
            await settle(pilot)
        pane = app.query_one(f"#{screen}")
        target = pane.query(focus).first(Widget)
        target.focus()
        await settle(pilot)
        assert app.focused is target
        shown = [key.description for key in app.query_one(KeyLine).query("FooterKey")]  # type: ignore[attr-defined]
        assert len(shown) > 2
        palette = {title for title, _, _ in system_commands(app)}
        app.open_help()
        await settle(pilot)
        assert isinstance(app.screen, HelpScreen)
        helped = app.screen._content().plain
        for words in shown:
            assert words in palette or words == "palette", f"{words} is not in the palette"
            assert words in helped or words == "palette", f"{words} is not under ?"


@pytest.mark.parametrize("name", SCREENS)
async def test_every_binding_of_a_screen_is_in_the_palette_wherever_the_focus_is(
    console: Maker, name: str
) -> None:
    app, client = console(live("apollo"))
    async with app.run_test(size=(120, 40)) as pilot:
        await fill(app, client)
        app.commands.open_chat("apollo-ai")
        app.show_pane(name)
        await settle(pilot)
        titles = {title for title, _, _ in system_commands(app)}
        missing = [
            binding.description
            for node in nodes_here(app.screen)
            for binding in bindings_of(node)
            if binding.description not in titles
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
            app.show_pane(name)
            await settle(pilot)
            keys = list(app.query_one(KeyLine).query("FooterKey"))
            assert keys[-1].description == "Keys"  # type: ignore[attr-defined]
            assert keys[-1].region.right <= width and keys[-1].region.width > 4
