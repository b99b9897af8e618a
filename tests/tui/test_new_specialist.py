"""The form for a specialist of one's own: by keys and mouse, at every size, with the backend's own rules behind it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from textual import events
from textual.pilot import Pilot
from textual.widgets import Button, Input, Static, TextArea

from backend.home import Home
from backend.orchestration.actions import own_specialists
from backend.schema.errors import TektonError
from backend.schema.params import CreateSpecialist, PreviewSpecialist
from tekton_tui.app import TektonApp
from tekton_tui.screens.dialogs import Dialog
from tekton_tui.screens.new_specialist import NewSpecialistScreen
from tekton_tui.widgets.fleet.grid import FleetGrid
from tests.gateway.serving import start_backend
from tests.tui.conftest import settle
from tests.tui.fake_client import FakeClient, live, row
from tests.tui.terminal import Terminal
from tests.tui.test_console import screen_text
from tests.tui.test_remote import until

Maker = Callable[..., tuple[TektonApp, FakeClient]]
CRITIC = msgspec.structs.replace(
    row("apollo"), id="critic-ai", name="critic", title="Critic", component="critic"
)
PERSONA = "You are the critic."
FIELDS = ("name", "title", "capabilities", "persona", "provider", "model")


@pytest.fixture
def form(console: Maker, tmp_path: Path) -> Maker:
    """A console whose fake client checks and writes as the backend does, in a home of its own."""
    home = Home(tmp_path / "home").prepare()

    def make(*rows: Any) -> tuple[TektonApp, FakeClient]:
        app, client = console(*rows)
        client.answers[PreviewSpecialist] = lambda params: own_specialists._check(params, home, {}).draft  # pyright: ignore[reportPrivateUsage]
        client.answers[CreateSpecialist] = lambda params: own_specialists._create(params, home, {})  # pyright: ignore[reportPrivateUsage]
        return app, client

    return make


def notices(app: TektonApp) -> str:
    return "\n".join(notice.message for notice in app._notifications)


def shown(app: TektonApp, name: str) -> str:
    """Return what stands below a field."""
    label = app.screen.query_one(f"#new-{name}-problem", Static)
    return str(label.content) if label.display else ""


async def looked(pilot: Pilot[Any], client: FakeClient) -> None:
    """Wait until the backend was asked about what is written now, and its answer is shown."""
    screen = pilot.app.screen
    assert isinstance(screen, NewSpecialistScreen)
    fields = screen._fields()  # pyright: ignore[reportPrivateUsage]
    await until(
        pilot,
        lambda: (
            bool(client.called(PreviewSpecialist))
            and client.called(PreviewSpecialist)[-1] == PreviewSpecialist(**fields)
        ),
    )
    await settle(pilot)


async def opened(app: TektonApp, pilot: Pilot[Any]) -> None:
    await settle(pilot)
    await pilot.press("n")
    await settle(pilot)
    assert isinstance(app.screen, NewSpecialistScreen)


async def test_one_is_written_by_keys_its_prompt_is_seen_and_its_row_has_the_cursor(form: Maker) -> None:
    app, client = form(live("apollo"))
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot)
        await pilot.press(*"critic", "tab", *"Code critic", "tab", *"code review, , tests", "tab", *PERSONA)
        await looked(pilot, client)
        text = screen_text(app)
        assert "The model will see" in text and text.count(PERSONA) == 2 and "Its file" in text
        assert 'capabilities: ["code review", "tests"]' in text and not client.called(CreateSpecialist)
        await pilot.press("ctrl+s")
        await settle(pilot)
        [made] = client.called(CreateSpecialist)
        assert (made.name, made.title, made.capabilities) == (
            "critic",
            "Code critic",
            ["code review", "tests"],
        )
        assert not isinstance(app.screen, NewSpecialistScreen) and "critic is written: " in notices(app)
        assert "starts critic" not in notices(app), "its row is not there yet"
        client.changed(CRITIC)
        await settle(pilot)
        assert app.query_one(FleetGrid).cursor_ids == ["critic-ai"] and "⏎ starts critic" in notices(app)


async def create_critic(pilot: Pilot[None], client: FakeClient) -> None:
    """Fill the form that is open, create the specialist, and let its row come."""
    await pilot.press(*"critic", "tab", "tab", "tab", *PERSONA, "ctrl+s")
    await settle(pilot)
    client.changed(CRITIC)
    await settle(pilot)


async def test_a_filter_that_hides_the_new_row_is_taken_off(form: Maker) -> None:
    app, client = form(live("apollo"), live("athena"))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("/", *"athena", "enter")
        await opened(app, pilot)
        await create_critic(pilot, client)
        assert app.query_one(FleetGrid).cursor_ids == ["critic-ai"]


async def test_where_nobody_runs_yet_the_form_opens_too_and_the_grid_then_shows_the_row(form: Maker) -> None:
    app, client = form()
    async with app.run_test(size=(100, 30)) as pilot:
        await opened(app, pilot)
        await create_critic(pilot, client)
        assert app.query_one(FleetGrid).cursor_ids == ["critic-ai"]


async def test_who_went_elsewhere_meanwhile_is_not_taken_back(form: Maker) -> None:
    app, client = form(live("apollo"))
    async with app.run_test(size=(100, 30)) as pilot:
        await opened(app, pilot)
        await pilot.press(*"critic", "tab", "tab", "tab", *PERSONA, "ctrl+s")
        await settle(pilot)
        app.navigator.show("timeline")
        await settle(pilot)
        client.changed(CRITIC)
        await settle(pilot)
        assert app.query_one("#panes").current == "timeline"  # type: ignore[attr-defined]


@pytest.mark.parametrize("front", ["help", "question"])
async def test_what_stands_in_front_of_the_form_stays_when_the_specialist_is_written(
    form: Maker, front: str
) -> None:
    app, client = form(live("apollo"))
    client.hold.add(CreateSpecialist)
    async with app.run_test(size=(100, 30)) as pilot:
        await opened(app, pilot)
        await pilot.press(*"critic", "tab", "tab", "tab", *PERSONA, "ctrl+s")
        await settle(pilot)
        if front == "help":
            app.navigator.open_help()
        else:
            await pilot.press("escape")
        await settle(pilot)
        in_front = app.screen
        assert not isinstance(in_front, NewSpecialistScreen)
        client.held[0].released.set()
        await settle(pilot)
        assert app.screen is in_front, "it is closed by who looks at it"
        await pilot.press("escape")
        await settle(pilot)
        client.changed(CRITIC)
        await settle(pilot)
        assert len(app.screen_stack) == 1 and "critic is written: " in notices(app)
        assert app.query_one(FleetGrid).cursor_ids == ["critic-ai"]


async def test_the_word_behind_the_colon_opens_it_with_a_name_from_anywhere(form: Maker) -> None:
    app, client = form(live("apollo"))
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        app.navigator.show("timeline")
        await settle(pilot)
        await pilot.press(":", *"new critic", "enter")
        await settle(pilot)
        assert isinstance(app.screen, NewSpecialistScreen)
        assert app.screen.query_one("#new-name", Input).value == "critic"
        await looked(pilot, client)
        await pilot.press("escape")
        await settle(pilot)
        assert not isinstance(app.screen, (NewSpecialistScreen, Dialog)), "a name alone is no loss"


async def test_what_is_wrong_stands_beside_its_field_and_nothing_written_is_lost(form: Maker) -> None:
    app, client = form(live("apollo"))
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot)
        await looked(pilot, client)
        assert not any(shown(app, name) for name in FIELDS), "nothing is wrong before anything was written"
        await pilot.press(*"apollo", "tab", "tab", "tab", "tab", *"nobody")
        await looked(pilot, client)
        assert "ships with the platform" in shown(app, "name") and "expected one of" in shown(app, "provider")
        assert not shown(app, "persona")
        await pilot.press("ctrl+s")
        await looked(pilot, client)
        assert isinstance(app.screen, NewSpecialistScreen) and app.screen.query_one("#new-name").has_focus
        assert "write who it is" in shown(app, "persona"), "what is missing is said once it was to be created"
        assert app.screen.query_one("#new-provider", Input).value == "nobody"
        await pilot.press("ctrl+u", *"critic")
        await looked(pilot, client)
        assert not shown(app, "name") and shown(app, "provider")


async def test_escape_asks_before_it_throws_anything_away(form: Maker) -> None:
    app, _ = form(live("apollo"))
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot)
        await pilot.press("escape")
        await settle(pilot)
        assert not isinstance(app.screen, NewSpecialistScreen)
        await opened(app, pilot)
        await pilot.press("tab", "tab", "tab", *PERSONA, "escape")
        await settle(pilot)
        assert isinstance(app.screen, Dialog) and "19 characters of persona" in screen_text(app)
        await pilot.press("escape")
        await settle(pilot)
        assert isinstance(app.screen, NewSpecialistScreen)
        assert app.screen.query_one(TextArea).text == PERSONA and app.screen.query_one(TextArea).has_focus
        await pilot.press("escape")
        await settle(pilot)
        await pilot.press("left", "enter")
        await settle(pilot)
        assert not isinstance(app.screen, (NewSpecialistScreen, Dialog))


async def test_a_gateway_that_does_not_answer_costs_nothing_that_was_written(form: Maker) -> None:
    app, client = form(live("apollo"))
    lost = TektonError("the gateway closed the connection", code="backend_lost")
    client.answers |= {PreviewSpecialist: lost, CreateSpecialist: lost}
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot)
        await pilot.press(*"critic", "ctrl+s")
        await settle(pilot)
        assert "the gateway closed the connection" in screen_text(app)
        assert app.screen.query_one("#new-name", Input).value == "critic"
        await pilot.press("ctrl+s")
        await settle(pilot)
        assert len(client.called(CreateSpecialist)) == 2, "it can be tried again by hand"


async def test_it_is_created_once_however_often_it_is_asked_for(form: Maker) -> None:
    app, client = form(live("apollo"))
    client.hang.add(CreateSpecialist)
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot)
        await pilot.press(*"critic", "ctrl+s", "ctrl+s", "ctrl+s")
        await settle(pilot)
        assert len(client.called(CreateSpecialist)) == 1


async def test_the_mouse_goes_through_it(form: Maker) -> None:
    app, client = form(live("apollo"))
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot)
        await pilot.press(*"critic")
        await pilot.click("#new-persona")
        await pilot.press(*PERSONA)
        await pilot.click("#new-close")
        await settle(pilot)
        assert isinstance(app.screen, Dialog)
        await pilot.press("escape")
        await settle(pilot)
        await pilot.click("#new-create")
        await settle(pilot)
        assert client.called(CreateSpecialist)[0].persona == PERSONA


HOSTILE = "\x1b]52;c;eA==\x07 [bold]x[/] \u202e \x9b2J {0}"


async def test_a_paste_is_one_thing_and_hostile_text_steers_nothing(form: Maker) -> None:
    app, client = form(live("apollo"))
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot)
        for name in FIELDS:
            field = app.screen.query_one(f"#new-{name}")
            field.focus()
            await settle(pilot)
            app.post_message(events.Paste(f"{HOSTILE}n\nq\x1b" if name == "persona" else HOSTILE))
            await settle(pilot)
        screen = app.screen
        assert isinstance(screen, NewSpecialistScreen), "no letter of a paste was a key"
        await looked(pilot, client)
        text = screen_text(app)
        assert "[bold]x[/]" in text and not set("\x1b\x07\x9b\u202e") & set(text)
        held = screen._fields()  # pyright: ignore[reportPrivateUsage]
        assert not set("\x1b\x07\x9b\u202e") & set("".join([held["persona"], held["title"], held["model"]]))
        assert held["persona"].count("\n") == 1
        area = screen.query_one(TextArea)
        area.focus()
        await pilot.press("ctrl+z")
        assert area.text == "", "one paste is one step back"


@pytest.mark.parametrize("size", [(40, 10), (60, 18), (80, 24), (120, 40), (200, 60)])
async def test_every_field_and_button_is_reached_by_tab_and_seen_where_it_is(
    form: Maker, size: tuple[int, int]
) -> None:
    app, client = form(live("apollo"))
    async with app.run_test(size=size) as pilot:
        await opened(app, pilot)
        seen: list[str] = []
        for _ in range(9):
            await settle(pilot, 3)
            focused = app.screen.focused
            assert focused is not None and focused.id is not None
            seen.append(focused.id.removeprefix("new-"))
            if isinstance(focused, (Input, Button)):
                assert app.screen.find_widget(focused).visible_region == focused.region, f"{focused} is cut"
            await pilot.press("tab")
        assert seen == [*FIELDS[:4], "provider", "model", "preview", "create", "close"]
        if size[0] >= 80:
            app.screen.query_one(TextArea).text = PERSONA
            await looked(pilot, client)
            assert screen_text(app).count(PERSONA) == 2
        beside = app.screen.query_one("#new-preview").region.x > app.screen.query_one("#new-form").region.x
        assert beside == (size[0] >= 100)


async def test_a_long_prompt_is_read_by_keys_in_the_preview(form: Maker) -> None:
    app, client = form(live("apollo"))
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot)
        app.screen.query_one(TextArea).text = "\n".join(f"Rule {number}." for number in range(200))
        await looked(pilot, client)
        app.screen.query_one("#new-preview").focus()
        await pilot.press("end")
        await until(pilot, lambda: "Rule 199." in screen_text(app))


@pytest.mark.e2e
def test_on_a_terminal_with_a_real_backend_it_is_typed_created_and_stands_in_the_grid(tmp_path: Path) -> None:
    backend = start_backend(tmp_path / "home", launch=("apollo",))
    try:
        argv = [sys.executable, "-P", "-m", "tekton_tui"]
        with Terminal(
            argv, size=(100, 30), env={**backend.environment(), "PATH": os.environ["PATH"]}
        ) as terminal:
            terminal.wait_for("apollo")
            terminal.type("n")
            terminal.wait_for("New specialist")
            terminal.type("critic\t\t\t")
            terminal.type("\x1b[200~You are the critic.\nn q x\x1b[201~")
            terminal.wait_for("The model will see")
            terminal.wait_for("7 words")
            terminal.type("\x13")
            terminal.wait_for("starts critic")
            assert "critic" in terminal.text
        assert (
            (backend.home.specialists / "critic" / "SKILL.md")
            .read_text()
            .endswith("You are the critic.\nn q x\n")
        )
    finally:
        backend.stop()
