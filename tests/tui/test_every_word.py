"""A word behind `:` hits whom it names, at every place; alone it does what it says or says why not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from backend.schema.params import GetSpecialist, Launch, SetModel
from tekton_tui.app import TektonApp
from tekton_tui.runtime.input_queue import HARMLESS
from tekton_tui.screens.registry import SCREENS
from tekton_tui.verbs import BY_WORD
from tekton_tui.widgets.chat.chat_view import ChatView
from tekton_tui.widgets.common.command_line import CommandLine
from tekton_tui.widgets.fleet.grid import FleetGrid
from tests.randomness import FUZZ
from tests.tui.conftest import settle
from tests.tui.fake_client import FakeClient, live
from tests.tui.test_console import screen_text
from tests.tui.test_every_key import seen
from tests.tui.test_keymap import notices
from tests.tui.test_verbs import fill, harm, leave_overlays

Maker = Callable[..., tuple[TektonApp, FakeClient]]
pytestmark = pytest.mark.usefixtures("still")
THERE = {"chat": ("open", "write"), "team": ("write", "team", "source"), "pipes": ("write",)}
"""What is there already at a place, or looks the same for a plain text."""


WHO = [word for word, verb in BY_WORD.items() if verb.takes in ("who", "names", "who text")]


def whom(app: TektonApp, client: FakeClient, word: str) -> list[str]:
    """Return whom a word with a name has hit, by what it opened or asked."""
    match BY_WORD[word].name:
        case "open" | "write":
            return [view.ai_id for view in app.query(ChatView) if view.display and view.is_on_screen]
        case "mark":
            return sorted(app.stores.fleet.marked)
        case "start":
            return [name for call in client.called(Launch) for name in call.ids]
        case "detail":
            return [call.id for call in client.called(GetSpecialist)]
        case _:
            assert app.screen.is_modal, f"{word} opened nothing\n{screen_text(app)}"
            titles = " ".join(
                str(widget.border_title) for widget in app.screen.query("*") if widget.border_title
            )
            return [f"{name}-ai" for name in ("rhetor", "apollo", "athena", "numa") if name in titles]


@pytest.mark.parametrize("place", SCREENS)
async def test_a_word_with_a_name_hits_whom_it_names_at_every_place(console: Maker, place: str) -> None:
    app, client = console(live("rhetor"), live("apollo"), live("athena"), live("numa"))
    async with app.run_test(size=(120, 40)) as pilot:
        await fill(app, client, pilot)
        for word in WHO:
            app.navigator.show(place)
            app.stores.fleet.clear_marks()
            await settle(pilot, 3)
            del client.calls[:]
            app.query_one(CommandLine)._run(f"{word} athena")
            await settle(pilot, 4)
            assert harm(client) == [], word
            assert whom(app, client, word) == ["athena-ai"], f":{word} athena at {place}"
            await leave_overlays(app, pilot)


@pytest.mark.parametrize("place", SCREENS)
async def test_a_word_alone_does_what_it_says_or_says_why_not_at_every_place(
    console: Maker, place: str
) -> None:
    app, client = console(live("rhetor"), live("apollo"))
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await fill(app, client, pilot)
        silent: list[str] = []
        for number, (word, verb) in enumerate(BY_WORD.items()):
            if not FUZZ and number % len(SCREENS) != [*SCREENS].index(place):
                continue  # each at one place; `make fuzz` has each at every place
            app.navigator.show(place)
            await settle(pilot, 2)
            before = seen(app, client)
            app.query_one(CommandLine)._run(word)
            await settle(pilot, 3)
            there = verb.name in THERE.get(place, ())
            if seen(app, client) == before and verb.name not in HARMLESS and not there:
                silent.append(word)
            assert harm(client) == [], word
            await leave_overlays(app, pilot)
            app.clear_notifications()
        assert silent == [], silent


ROW_KEYS = {
    "enter": "open",
    "i": "write",
    "x": "stop",
    "X": "kill",
    "R": "again",
    "l": "log",
    "d": "detail",
    "m": "model",
    "y": "copy",
}


@pytest.mark.parametrize("key", [key for key in ROW_KEYS if key != "d"])
async def test_a_key_on_a_row_of_the_fleet_hits_that_row(console: Maker, key: str) -> None:
    app, client = console(live("rhetor"), live("apollo"), live("athena"), live("numa"))
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await fill(app, client, pilot)
        app.query_one(FleetGrid).go_to("athena-ai")
        await settle(pilot)
        await pilot.press(key)
        await settle(pilot, 8)
        assert harm(client) == [] and not client.called(SetModel)
        if key == "y":
            assert app.clipboard == "athena" and "athena" in notices(app)
        else:
            assert whom(app, client, ROW_KEYS[key]) == ["athena-ai"]
