"""The race of Team Chat: lanes beside each other, as a list, alone; and every verb on them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import OptionList

from backend.catalog import load
from backend.config import Settings
from backend.schema.events import TeamEnd
from backend.schema.frames import StreamError
from tekton_tui.app import TektonApp
from tekton_tui.screens.choice import ChoiceScreen
from tekton_tui.screens.compare import CompareScreen
from tekton_tui.widgets.composer import Composer
from tekton_tui.widgets.lane import Lane
from tekton_tui.widgets.lane_board import LEAST_ROWS, LaneBoard, places_for
from tests.tui.conftest import settle
from tests.tui.fake_client import FakeClient, answer, live, team
from tests.tui.test_console import screen_text

Maker = Callable[..., tuple[TektonApp, FakeClient]]
TEXTS = {
    "numa": "Memory is near the cap.",
    "apollo": "The March date has no owner.",
    "athena": "The March date is late.",
}


def reply(name: str, *pieces: str, lane: str = "") -> list[Any]:
    return answer(f"t1/{lane or f'{name}-ai'}", f"{name}-ai", "s-team", "", *pieces, group="t1")


def failure(name: str) -> list[Any]:
    error = StreamError(
        f"t1/{name}-ai", f"{name}-ai", "provider_unavailable", "connection refused", "connection refused"
    )
    return [reply(name)[0], error]


@asynccontextmanager
async def race(
    console: Maker, size: tuple[int, int] = (120, 40)
) -> AsyncGenerator[tuple[TektonApp, FakeClient, Pilot[Any]]]:
    """Run a race of four: three answered, numa first, and ergon failed."""
    app, client = console(*(live(name) for name in ("apollo", "athena", "numa", "ergon", "rhetor")))
    async with app.run_test(size=size, notifications=True) as pilot:
        await settle(pilot)
        app.show_pane("team")
        await settle(pilot)
        client.send(team("t1", "Name a risk.", "apollo", "athena", "ergon", "numa"))
        await settle(pilot)
        for name, text in TEXTS.items():
            client.send(*reply(name, text))
        client.send(*failure("ergon"), TeamEnd("t1", 3, 1, 0, 2.0))
        await settle(pilot, 10)
        app.query_one(LaneBoard).focus()
        await settle(pilot)
        yield app, client, pilot


def order(app: TektonApp) -> list[str]:
    """Return the names of the lanes as they stand on the screen."""
    return [
        lane.name_shown for lane in sorted(app.query(Lane), key=lambda lane: (lane.region.y, lane.region.x))
    ]


@pytest.mark.parametrize("count", [1, 2, 6, 12, 18, 19])
def test_all_lanes_are_in_view_at_the_usual_size(count: int) -> None:
    places = places_for(count, 120, 33)
    assert places.columns * (33 // places.rows) >= count and places.rows >= LEAST_ROWS


def test_at_the_smallest_size_two_whole_rows_of_lanes_are_in_view() -> None:
    places = places_for(18, 80, 17)
    assert places.columns == 2 and 17 // places.rows >= 2


async def test_lanes_stand_in_the_order_their_first_words_came(console: Maker) -> None:
    async with race(console) as (app, _client, pilot):
        assert order(app) == ["numa", "apollo", "athena", "ergon"]
        assert "#1 · first" in screen_text(app)
        await pilot.press("o")
        await settle(pilot)
        assert order(app) == ["apollo", "athena", "ergon", "numa"]


async def test_text_that_comes_before_the_lanes_are_drawn_is_in_them(console: Maker) -> None:
    app, client = console(live("apollo"))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.show_pane("team")
        await settle(pilot)
        client.send(team("t1", "Q", "apollo"), *reply("apollo", "At ", "once."))
        await settle(pilot, 10)
        assert "At once." in screen_text(app)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_the_list_gives_each_lane_a_row_and_the_chosen_one_its_text(
    console: Maker, size: tuple[int, int]
) -> None:
    async with race(console, size) as (app, _client, pilot):
        await pilot.press("L")
        await settle(pilot)
        heights = {lane.name_shown: lane.region.height for lane in app.query(Lane)}
        assert [name for name, height in heights.items() if height > 1] == ["numa"]
        text = screen_text(app)
        assert "TOK/S" in text and "ergon          ✖ provider_unavailable" in text
        await pilot.press("down")
        await settle(pilot)
        assert [lane.name_shown for lane in app.query(Lane) if lane.region.height > 1] == ["apollo"]


@pytest.mark.parametrize("key", ["L", "o"])
async def test_the_chosen_lane_stays_in_view_when_there_are_more_than_fit(console: Maker, key: str) -> None:
    app, client = console(live("apollo"))
    names = [component.name for component in load(Settings())][:18]
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        app.show_pane("team")
        await settle(pilot)
        client.send(team("t1", "Q", *names))
        await settle(pilot)
        board = app.query_one(LaneBoard)
        board.focus()
        await pilot.press(key, *["down"] * 17)
        await settle(pilot)
        assert board.at is not None and board.at.name_shown in names[-2:]
        assert board.region.contains_region(board.at.region)


async def test_a_lane_alone_takes_the_keys_of_a_conversation(console: Maker) -> None:
    async with race(console) as (app, _client, pilot):
        await pilot.press("z", "y")
        await settle(pilot)
        assert app.clipboard == TEXTS["numa"]
        await pilot.press("right")
        await settle(pilot)
        assert [lane.name_shown for lane in app.query(Lane) if lane.display] == ["apollo"]
        await pilot.press("escape")
        await settle(pilot)
        assert len([lane for lane in app.query(Lane) if lane.display]) == 4


async def test_failures_are_named_and_asked_again_by_hand_alone(console: Maker) -> None:
    async with race(console) as (app, client, pilot):
        assert "✖ ergon provider_unavailable  ·  R asks again" in screen_text(app)
        assert not client.called("ask_member")
        await pilot.press("R")
        await settle(pilot)
        [asked] = client.called("ask_member")
        assert (asked["ai_id"], asked["team_request_id"]) == ("ergon-ai", "t1")
        client.send(*reply("ergon", "The tools may lie.", lane=f"ergon-ai/{asked['request_id']}"))
        await settle(pilot, 10)
        text = screen_text(app)
        assert "4 answered" in text and "The tools may lie." in text and "R asks again" not in text


async def test_the_picked_answer_is_the_one_that_is_piped(console: Maker) -> None:
    async with race(console) as (app, client, pilot):
        await pilot.press("p", "right")
        await settle(pilot)
        assert "★ numa picked: | pipes it on" in screen_text(app)
        await pilot.press("|")
        await settle(pilot, 10)
        await pilot.press(*"athena", "enter")
        await settle(pilot)
        [run] = client.called("pipeline")
        assert (run["pipeline"], run["input"]) == ("athena", TEXTS["numa"])


async def test_two_answers_are_compared_word_by_word(console: Maker) -> None:
    async with race(console) as (app, _client, pilot):
        await pilot.press("right", "space", "right", "=")
        await settle(pilot)
        assert isinstance(app.screen, CompareScreen)
        assert "3 words in common, of 6 and 5" in screen_text(app)
        await pilot.press("escape")
        await settle(pilot)
        assert not isinstance(app.screen, CompareScreen)


async def test_a_judge_of_ones_choice_merges_the_marked_answers(console: Maker) -> None:
    async with race(console) as (app, client, pilot):
        await pilot.press("space", "right", "space", "m")
        await settle(pilot)
        assert isinstance(app.screen, ChoiceScreen)
        assert "Who merges 2 answers?" in screen_text(app)
        assert app.screen.query_one(OptionList).highlighted == 0
        await pilot.press("enter")
        await settle(pilot)
        [asked] = client.called("chat")
        assert asked["ai_id"] == "rhetor-ai" and asked["request_id"] == "t1/merge"
        assert [part["specialist_id"] for part in asked["context"]["previous"]] == ["numa-ai", "apollo-ai"]
        client.send(*reply("rhetor", "Both at once.", lane="merge"))
        await settle(pilot, 10)
        assert "merge · rhetor ✓" in screen_text(app) and "3 answered" in screen_text(app)
        await pilot.press("m", "enter")
        await settle(pilot)
        assert client.called("chat")[-1]["request_id"] == "t1/merge/2"


async def test_one_lane_or_all_are_cancelled(console: Maker) -> None:
    app, client = console(live("apollo"), live("athena"))
    client.answers["cancel"] = {"chunks": 1, "elapsed_ms": 3.0}
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.show_pane("team")
        await settle(pilot)
        client.send(
            team("t1", "Q", "apollo", "athena"), *reply("apollo", "Ha")[:-1], *reply("athena", "Hm")[:-1]
        )
        await settle(pilot)
        app.query_one(LaneBoard).focus()
        await pilot.press("right", "x", "X")
        await settle(pilot)
        assert client.called("cancel") == [{"request_id": "t1/athena-ai"}, {"request_id": "t1"}]


async def test_a_discussion_waits_for_the_end_and_names_its_race(console: Maker) -> None:
    async with race(console) as (_app, client, pilot):
        await pilot.press("t")
        await settle(pilot)
        [asked] = client.called("discuss")
        assert asked["team_request_id"] == "t1"


async def test_the_mouse_chooses_a_lane_and_twice_shows_it_alone(console: Maker) -> None:
    async with race(console) as (app, _client, pilot):
        lane = next(lane for lane in app.query(Lane) if lane.name_shown == "athena")
        await pilot.click(lane)
        await settle(pilot)
        assert app.query_one(LaneBoard).at is lane
        await pilot.click(lane, times=2)
        await settle(pilot)
        assert [each for each in app.query(Lane) if each.display] == [lane]


async def test_escape_takes_back_one_thing_at_a_time(console: Maker) -> None:
    async with race(console) as (app, _client, pilot):
        await pilot.press("space", "L", "z")
        await settle(pilot)
        board = app.query_one(LaneBoard)
        await pilot.press("escape")
        await settle(pilot)
        assert board.arrangement == "columns" and board.marked
        await pilot.press("escape")
        await settle(pilot)
        assert not board.marked
        await pilot.press("escape")
        await settle(pilot)
        assert app.query_one("#panes").current == "fleet"  # type: ignore[attr-defined]


async def test_an_answer_is_quoted_into_the_next_question(console: Maker) -> None:
    async with race(console) as (app, _client, pilot):
        await pilot.press(">")
        await settle(pilot)
        assert app.query_one("#team-composer", Composer).draft == f"> {TEXTS['numa']}\n\n"
