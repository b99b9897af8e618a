"""Hostile text and names on every screen, without a terminal: nothing steers, nothing is markup, nothing raises."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from backend.schema.events import ErrorEntry, GatewayCall
from backend.schema.params import GetGateway, GetLogs, GetSpecialist, Kill, ListModels
from backend.schema.records import ErrorRecord, LaunchResult
from backend.schema.results import GatewayClient, KillResult, LogText, Model, ProviderList, ProviderModels
from tekton_tui.app import TektonApp
from tekton_tui.screens.registry import SCREENS
from tekton_tui.widgets.fleet.grid import FleetGrid
from tests.tui.conftest import settle
from tests.tui.fake_client import GATEWAY, NOW, FakeClient, answer, detail, live, team
from tests.tui.test_console import HOSTILE, screen_text

Maker = Callable[..., tuple[TektonApp, FakeClient]]


async def test_hostile_text_is_harmless_wherever_it_is_shown(console: Maker) -> None:
    app, client = console(
        live("apollo", last_error=HOSTILE, model_display=HOSTILE, title=HOSTILE, detail=HOSTILE)
    )
    client.answers[GetLogs] = LogText("apollo-ai", "", [HOSTILE])
    call = GatewayCall(NOW, HOSTILE, "http", HOSTILE, 403, refusal=HOSTILE)
    caller = GatewayClient(HOSTILE, HOSTILE, "chat", NOW, [HOSTILE])
    client.answers[GetGateway] = replace(GATEWAY, clients=[caller], recent=[call], refusals=[call])
    record = ErrorRecord(1, "apollo-ai", HOSTILE, HOSTILE, NOW, NOW, evidence=HOSTILE)
    async with app.run_test(size=(140, 40)) as pilot:
        await settle(pilot)
        client.send(ErrorEntry(record, 1), *answer("r1", "apollo-ai", "s-apollo-ai", HOSTILE, *HOSTILE))
        client.send(
            team("t1", HOSTILE, "apollo"),
            *answer("t1/apollo-ai", "apollo-ai", "s-team", "", *HOSTILE, group="t1"),
        )
        app.controller.notify(HOSTILE, failed=True)
        for name in SCREENS:
            app.navigator.show(name)
            if name == "chat":
                app.commands.navigator.open_chat("apollo-ai")
            await settle(pilot, 8)
            no_control(app)
        app.commands.navigator.open_logs("apollo-ai")
        await settle(pilot, 8)
        assert "[@click=app.quit]x[/]" in screen_text(app)
        assert app.is_running


async def test_a_hostile_name_of_a_specialist_is_harmless_on_every_screen_and_in_every_question(
    console: Maker,
) -> None:
    apollo = live("apollo", title=HOSTILE, capabilities=[HOSTILE], groups=[HOSTILE])
    app, client = console(replace(apollo, name=HOSTILE))
    client.answers[GetSpecialist] = detail(replace(apollo, name=HOSTILE), HOSTILE, [HOSTILE])
    client.answers[Kill] = KillResult([LaunchResult("apollo-ai", False, message=HOSTILE)])
    client.answers[ListModels] = ProviderList(
        [
            ProviderModels("ollama", True, HOSTILE, [Model(HOSTILE, HOSTILE, 1, 1, HOSTILE)]),
            ProviderModels("openai", False, HOSTILE, []),
        ]
    )
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        client.send(
            team("t1", HOSTILE, "apollo"), *answer("t1/apollo-ai", "apollo-ai", "s", "", "a", group="t1")
        )
        for name in SCREENS:
            app.navigator.show(name)
            if name == "chat":
                app.commands.navigator.open_chat("apollo-ai")
            await settle(pilot)
            no_control(app)
        app.navigator.show("chat")
        for keys in (["@"], ["escape", "ctrl+p"], ["escape", "1"]):
            await pilot.press(*keys)
            await settle(pilot)
            no_control(app)
        app.query_one(FleetGrid).go_to("apollo-ai")
        for key in ("X", "l", "?", "m"):
            await pilot.press(key)
            await settle(pilot)
            no_control(app)
            await pilot.press("escape")
            await settle(pilot)
        app.commands.fleet.describe("apollo-ai")
        await settle(pilot)
        assert "Persona" in screen_text(app)
        no_control(app)
        await pilot.press("escape")
        await settle(pilot)
        await pilot.press("X", "left", "enter")
        await settle(pilot)
        no_control(app)
        assert app.is_running


def no_control(app: TektonApp) -> None:
    shown = screen_text(app)
    forbidden = {chr(c) for c in (*range(0x09), *range(0x0B, 0x20), *range(0x7F, 0xA0), 0x202E)}
    assert not set(shown) & forbidden
