"""The console goes while the platform still speaks: whatever comes in between finds nobody and breaks nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tekton_tui.app import TektonApp
from tests.tui.conftest import settle
from tests.tui.fake_client import FakeClient, answer, live, team

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
