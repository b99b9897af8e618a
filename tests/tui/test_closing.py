"""The console goes while the platform still speaks: whatever comes in between finds nobody and breaks nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import pytest

from tekton_tui.app import TektonApp
from tekton_tui.screens.registry import SCREENS
from tests.randomness import FUZZ
from tests.tui.conftest import settle
from tests.tui.fake_client import FakeClient, answer, live, team
from tests.tui.test_verbs import Refusing

Maker = Callable[..., tuple[TektonApp, FakeClient]]
PANES = ("fleet", "team", "pipes", "timeline", "errors")


async def test_events_that_come_while_the_console_closes_break_nothing(console: Maker) -> None:
    app, client = console(live("apollo"), live("athena"))

    async def speak() -> None:
        number = 0
        while True:
            number += 1
            client.changed(live("apollo", queue=number % 7))
            client.send(team(f"t{number}", "Name a risk.", "apollo", "athena"))
            client.send(*answer(f"r{number}", "apollo-ai", "s", "hello", "One risk."))
            await asyncio.sleep(0)

    async with app.run_test(size=(120, 40)) as pilot:
        for pane in PANES:
            app.navigator.show(pane)
            await settle(pilot, 2)
        app.commands.navigator.open_chat("apollo-ai")
        await settle(pilot)
        speaking = asyncio.create_task(speak())
        await asyncio.sleep(0)
    assert speaking.cancel(), "it spoke to the end"


OPENINGS: dict[str, Callable[[TektonApp], object]] = {
    **{name: partial(lambda name, app: app.navigator.show(name), name) for name in SCREENS},
    "a conversation": lambda app: app.navigator.open_chat("apollo-ai"),
    "the switcher": lambda app: app.navigator.open_switcher(),
    "the help": lambda app: app.navigator.open_help(),
    "the settings": lambda app: app.navigator.open_settings(),
    "a log": lambda app: app.navigator.open_logs("apollo-ai"),
    "the models": lambda app: app.navigator.choose_model(["apollo-ai"]),
    "the form of a specialist": lambda app: app.navigator.open_new_specialist("critic", lambda made: None),
    "a question": lambda app: app.navigator.confirm("Stop", "This stops:", ["apollo"], "Stop", lambda: None),
}


@pytest.mark.parametrize("opening", OPENINGS)
async def test_a_console_that_is_ended_while_something_opens_ends_well(console: Maker, opening: str) -> None:
    for steps in range(20) if FUZZ else (0, 1, 3, 8):
        app, client = console(live("apollo"), live("athena"))
        client.answers = Refusing(client.answers)
        async with app.run_test(size=(120, 40)) as pilot:
            await settle(pilot, 2)
            OPENINGS[opening](app)
            for _ in range(steps):
                await asyncio.sleep(0)
            app.exit()
        assert app.return_code == 0
