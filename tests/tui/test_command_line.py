"""What is typed behind `:` does what it says, with an argument and without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from textual.pilot import Pilot
from textual.widgets import ContentSwitcher, Input

from backend.schema.params import GetSpecialist, Kill, Launch, Restart, TeamChat
from backend.schema.records import SpecialistStatus
from tekton_tui.app import TektonApp
from tekton_tui.commands.line import Known, NotUnderstood, candidates, read
from tekton_tui.screens.registry import SCREENS
from tekton_tui.verbs import BY_WORD
from tekton_tui.widgets.chat.chat_view import ChatView
from tekton_tui.widgets.fleet.grid import FleetGrid
from tests.tui.conftest import settle
from tests.tui.fake_client import FakeClient, detail, live, row
from tests.tui.test_console import screen_text

Maker = Callable[..., tuple[TektonApp, FakeClient]]


async def type_command(app: TektonApp, pilot: Pilot[Any], text: str) -> None:
    await settle(pilot)
    await pilot.press("colon")
    await settle(pilot)
    app.query_one("#command-line", Input).value = text
    await pilot.press("enter")
    await settle(pilot, 10)


async def test_chat_with_a_name_opens_that_conversation(console: Maker) -> None:
    app, _client = console(live("rhetor"), live("apollo"))
    async with app.run_test(size=(120, 40)) as pilot:
        await type_command(app, pilot, "chat apollo")
        assert [view.ai_id for view in app.query(ChatView) if view.display] == ["apollo-ai"]


async def test_team_with_a_text_asks_it(console: Maker) -> None:
    app, client = console(live("rhetor"), live("apollo"))
    async with app.run_test(size=(120, 40)) as pilot:
        await type_command(app, pilot, "team who are you?")
        assert [asked.content for asked in client.called(TeamChat)] == ["who are you?"]
        assert app.query_one("#panes", ContentSwitcher).current == "team"


@pytest.mark.parametrize("place", SCREENS)
async def test_a_place_alone_is_gone_to(console: Maker, place: str) -> None:
    app, _client = console(live("apollo"))
    async with app.run_test(size=(120, 40)) as pilot:
        await type_command(app, pilot, place)
        assert app.query_one("#panes", ContentSwitcher).current == place


@pytest.mark.parametrize("word", ["logs", "describe"])
async def test_a_verb_of_one_specialist_opens_its_screen(console: Maker, word: str) -> None:
    app, client = console(live("rhetor"), live("apollo"))
    client.answers[GetSpecialist] = detail(live("apollo"))
    async with app.run_test(size=(120, 40)) as pilot:
        await type_command(app, pilot, f"{word} apollo")
        assert app.screen.is_modal and "apollo" in screen_text(app)


@pytest.mark.parametrize(
    "text",
    [
        "bogus",
        "chat nobody",
        "chat apol",
        "kill is:stalled",
        "wrap",
        "wrap apollo",
        "fleet apollo",
        "theme nothing",
    ],
)
async def test_what_is_not_understood_does_nothing_and_says_so(console: Maker, text: str) -> None:
    app, client = console(live("apollo"))
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await type_command(app, pilot, text)
        assert any(notice.severity == "error" for notice in app._notifications)
        assert app.query_one("#panes", ContentSwitcher).current == "fleet"
        assert not [call for call in client.calls if isinstance(call, (Launch, Kill, Restart))]


def known(*rows: SpecialistStatus, here: tuple[str, ...] = (), marked: tuple[str, ...] = ()) -> Known:
    places = {"fleet": "fleet", "team": "team", "errors": "needs"}
    return Known({row.id: row for row in rows}, frozenset(marked), here, places, ("nord",))


FLEET = known(live("apollo"), live("athena", state="busy", phase="stalled"), row("numa"), marked=("numa-ai",))


@pytest.mark.parametrize(
    ("text", "verb", "ids"),
    [
        ("kill apollo", "kill", ("apollo-ai",)),
        ("kill Apollo athena-ai", "kill", ("apollo-ai", "athena-ai")),
        ("kill is:stalled", "kill", ("athena-ai",)),
        ("stop all", "stop", ("apollo-ai", "athena-ai")),
        ("mark marked", "mark", ("numa-ai",)),
        ("start numa starter", "start", ("numa-ai", "starter")),
    ],
)
def test_who_is_meant_is_read_exactly(text: str, verb: str, ids: tuple[str, ...]) -> None:
    line = read(text, FLEET)
    assert line.verb is not None and (line.verb.name, line.ids) == (verb, ids)


def test_a_text_behind_a_name_is_a_text_and_a_place_alone_is_a_place() -> None:
    asked = read("ask apollo kill athena", FLEET)
    assert (asked.ids, asked.text) == (("apollo-ai",), "kill athena")
    assert read("team", FLEET).place == "team" and read("errors", FLEET).place == "needs"
    assert read("team who are you", FLEET).text == "who are you"


def test_a_name_that_is_not_whole_is_refused_with_those_it_may_be() -> None:
    with pytest.raises(NotUnderstood, match="apollo, athena"):
        read("kill a", FLEET)


@given(st.text(max_size=40))
def test_any_line_is_read_or_refused_in_words_and_what_is_offered_is_understood(text: str) -> None:
    try:
        read(text, FLEET)
    except NotUnderstood as refusal:
        assert str(refusal)
    for offered in candidates(text, FLEET):
        assert offered.text.lower().startswith(text.lower())


@pytest.mark.parametrize("word", BY_WORD)
def test_every_offer_is_understood(word: str) -> None:
    for offered in candidates(f"{word} ", FLEET):
        read(offered.text, FLEET)


async def test_tab_completes_and_the_line_is_gone_when_the_focus_is(console: Maker) -> None:
    app, client = console(live("rhetor"), live("apollo"))
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press(*":kill apo")
        await settle(pilot)
        assert "Executive Coordinator" in screen_text(app)
        await pilot.press("tab")
        await settle(pilot)
        assert app.query_one("#command-line", Input).value == "kill apollo"
        await pilot.press("enter")
        await settle(pilot)
        assert "Kill apollo" in screen_text(app) and client.called(Kill) == []
        await pilot.press("escape")
        await settle(pilot)
        await pilot.press(":", "k", "i")
        await settle(pilot)
        app.query_one(FleetGrid).focus()
        await settle(pilot)
        assert not app.query_one("#command").display
        await pilot.press(":", "up")
        await settle(pilot)
        assert app.query_one("#command-line", Input).value == "kill apollo"


async def test_a_name_with_control_characters_is_offered_by_its_id_and_never_drawn_as_it_is(
    console: Maker,
) -> None:
    app, _client = console(replace(live("apollo"), name="apollo\x1b[2J\x9b31m"))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press(*"colon c h a t space a".split())
        await settle(pilot)
        assert "chat apollo-ai" in screen_text(app) and "\x9b" not in screen_text(app)
        await pilot.press("tab")
        field = app.query_one("#command-line", Input)
        assert field.value == "chat apollo-ai"
        field.value = "\x1b]0;x\x07"
        await settle(pilot)
        assert not set("\x1b\x07") & {*field.value, *screen_text(app)}
