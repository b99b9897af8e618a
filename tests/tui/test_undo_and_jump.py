"""What was just done is taken back by `u`; `'` shows letters over what can be gone to, and goes there."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from backend.schema.events import AskClosed, AskOpened, AttentionChanged
from backend.schema.params import AnswerAsk, SnoozeAttention
from backend.schema.results import AttentionList
from tekton_tui.app import TektonApp
from tekton_tui.commands.undo import Undo
from tekton_tui.screens.jump import LETTERS, JumpScreen, spots_of
from tekton_tui.screens.registry import SCREENS
from tekton_tui.widgets.fleet.grid import FleetGrid
from tekton_tui.widgets.team.lane_grid import LaneGrid
from tests.tui.conftest import settle
from tests.tui.fake_client import FakeClient, answer, live, team
from tests.tui.pty_asks import asks, item
from tests.tui.test_asks import answered
from tests.tui.test_console import screen_text
from tests.tui.test_keymap import notices
from tests.tui.test_needs_screen import DOWN

Maker = Callable[..., tuple[TektonApp, FakeClient]]


@pytest.mark.parametrize("key", ["a", "x", "A"])
async def test_u_within_the_grace_sends_no_answer_and_the_call_waits_again(
    console: Maker, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setattr(Undo, "GRACE_S", 60.0)
    app, client = console(live("apollo"))
    client.answers[AnswerAsk] = answered
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        client.send(AskOpened(asks()[0]), AttentionChanged([item(asks()[0])], []))
        await settle(pilot)
        await pilot.press("4")
        await settle(pilot)
        await pilot.press(key)
        await settle(pilot)
        assert client.called(AnswerAsk) == [] and "u takes it back" in notices(app)
        assert item(asks()[0]).why not in screen_text(app).partition("Open")[2], "it is answered here"
        await pilot.press("e")
        await settle(pilot)
        assert len(app.screen_stack) == 1, "what was answered is not asked again"
        await pilot.press("u")
        await settle(pilot)
        assert client.called(AnswerAsk) == [] and "taken back" in notices(app)
        await pilot.press("u")
        await settle(pilot)
        assert "nothing to take back" in notices(app)
        await pilot.press(key)
        await settle(pilot)
    assert len(client.called(AnswerAsk)) == 1, "what is held is sent when the console ends"


@pytest.mark.parametrize(
    ("verdict", "by", "said"),
    [
        ("deny", "alice over HTTP", "apollo: denied by alice over HTTP"),
        ("allow", "bob", "apollo: allowed by bob"),
        ("deny", "nobody", "apollo: the call waits no more"),
    ],
)
async def test_an_answer_that_is_held_for_a_call_that_ended_is_not_sent_nor_taken_back(
    console: Maker, monkeypatch: pytest.MonkeyPatch, verdict: str, by: str, said: str
) -> None:
    monkeypatch.setattr(Undo, "GRACE_S", 60.0)
    app, client = console(live("apollo"))
    client.answers[AnswerAsk] = answered
    one, other = asks()[0], asks()[1]
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        client.send(AskOpened(one), AskOpened(other), AttentionChanged([item(one), item(other)], []))
        await settle(pilot)
        await pilot.press("4")
        await settle(pilot)
        await pilot.press("a")
        await settle(pilot)
        client.send(AskClosed(one.id, one.ai_id, verdict, by), AttentionChanged([], [f"asks:{one.id}"]))
        await settle(pilot)
        assert f"{said}; your answer was not sent" in notices(app)
        await pilot.press("u")
        await settle(pilot)
        assert "nothing to take back" in notices(app) and "taken back" not in notices(app)
        assert "1 wait" in screen_text(app), "the other one is still here"
    assert client.called(AnswerAsk) == []


async def test_what_is_put_away_and_what_is_picked_comes_back(console: Maker) -> None:
    app, client = console(live("apollo"), live("athena"))
    client.first.attention = [DOWN]
    client.answers[SnoozeAttention] = AttentionList([DOWN])
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("4")
        await settle(pilot)
        await pilot.press("Z", "enter", "u")
        await settle(pilot)
        assert [call.seconds for call in client.called(SnoozeAttention)] == [600.0, 0.0]
        app.navigator.show("team")
        client.send(team("t1", "Q", "apollo", "athena"))
        for name in ("apollo", "athena"):
            client.send(*answer(f"t1/{name}-ai", f"{name}-ai", "s", "", f"{name} says so.", group="t1"))
        await settle(pilot, 10)
        app.query_one("#team-view").focus()
        grid = app.query_one(LaneGrid)
        await pilot.press("p", "space")
        assert grid.picked is not None and grid.marked
        await pilot.press("u")
        assert grid.picked is not None and not grid.marked
        await pilot.press("u")
        assert grid.picked is None


@pytest.mark.parametrize("name", SCREENS)
async def test_every_letter_of_a_jump_goes_where_it_stands(console: Maker, name: str) -> None:
    app, client = console(live("apollo"), live("athena"))
    client.first.attention = [DOWN]
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        app.navigator.show(name)
        await settle(pilot, 15)
        spots = spots_of(app.screen)
        assert spots and all(0 <= spot.x < 80 and 0 <= spot.y < 24 for spot in spots)
        assert len({(spot.x, spot.y) for spot in spots}) == len(spots), "no letter covers another"
        if app.focused is not None and type(app.focused).__name__ == "Editor":
            return  # there the sign is text
        await pilot.press("apostrophe")
        await settle(pilot, 15)
        assert isinstance(app.screen, JumpScreen)
        rows = screen_text(app).splitlines()
        for letter, spot in zip(LETTERS, spots, strict=False):
            assert rows[spot.y][spot.x + 1] == letter
        await pilot.press("escape")
        await settle(pilot)
        assert not isinstance(app.screen, JumpScreen)


async def test_a_jump_puts_the_cursor_on_its_row(console: Maker) -> None:
    app, _client = console(live("apollo"), live("athena"))
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        rows = screen_text(app).splitlines()
        y = next(at for at, line in enumerate(rows) if "● athena" in line)
        at = next(at for at, spot in enumerate(spots_of(app.screen)) if spot.y == y and spot.x < 3)
        await pilot.press("apostrophe")
        await settle(pilot)
        await pilot.press(LETTERS[at])
        await settle(pilot)
        row = app.query_one(FleetGrid).cursor_row
        assert row is not None and row.name == "athena"
