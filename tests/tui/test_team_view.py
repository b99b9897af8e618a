"""The race of Team Chat: lanes beside each other, as a list, alone; and every verb on them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import OptionList

from backend.catalog import load
from backend.config import Settings
from backend.schema.events import TeamEnd, TurnText
from backend.schema.frames import StreamError
from backend.schema.params import AskMember, Cancel, Chat, Discuss, RunPipeline
from backend.schema.records import ActiveTurn
from backend.schema.results import CancelResult
from tekton_tui.app import TektonApp
from tekton_tui.screens.choice import ChoiceScreen
from tekton_tui.screens.compare import CompareScreen
from tekton_tui.widgets.composer.composer import Composer
from tekton_tui.widgets.team import lane_grid
from tekton_tui.widgets.team.agreement import JOINT_ASKED, agreements, stances
from tekton_tui.widgets.team.lane import Lane
from tekton_tui.widgets.team.lane_grid import LEAST_ROWS, LaneGrid, places_for, row_heights
from tekton_tui.widgets.team.lane_text import first_sentence
from tekton_tui.widgets.team.team_list import TeamList
from tekton_tui.widgets.team.team_view import TeamView
from tests.tui.conftest import settle, until
from tests.tui.fake_client import NOW, FakeClient, answer, live, snapshot, team
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
        app.navigator.show("team")
        await settle(pilot)
        client.send(team("t1", "Name a risk.", "apollo", "athena", "ergon", "numa"))
        await settle(pilot)
        for name, text in TEXTS.items():
            client.send(*reply(name, text))
        client.send(*failure("ergon"), TeamEnd("t1", 3, 1, 0, 2.0))
        await settle(pilot, 10)
        app.query_one(TeamView).focus()
        await settle(pilot)
        yield app, client, pilot


def order(app: TektonApp) -> list[str]:
    """Return the names of the cards as they stand on the screen."""
    return [
        lane.name_shown for lane in sorted(app.query(Lane), key=lambda lane: (lane.region.y, lane.region.x))
    ]


def order_top(app: TektonApp) -> int:
    """Return the first row of the members' cards."""
    return min(lane.region.y for lane in app.query_one(LaneGrid).members)


def listed(app: TektonApp) -> list[str]:
    """Return the list's rows, the head left out."""
    shown = app.query_one(TeamList)
    return [shown.render_line(y).text.rstrip() for y in range(1, shown.size.height)]


@pytest.mark.parametrize("count", [1, 2, 6, 12, 18, 19])
def test_all_lanes_are_in_view_at_the_usual_size(count: int) -> None:
    places = places_for(count, 120, 33)
    assert places.columns * (33 // places.rows) >= count and places.rows >= LEAST_ROWS


def test_at_the_smallest_size_two_whole_rows_of_lanes_are_in_view() -> None:
    places = places_for(18, 80, 17)
    assert places.columns == 2 and 17 // places.rows >= 2


async def test_cards_stand_in_the_order_in_which_they_ended_and_failures_last(console: Maker) -> None:
    async with race(console) as (app, _client, pilot):
        assert order(app) == ["numa", "apollo", "athena", "ergon"]
        assert "#1 · first" in screen_text(app)
        await pilot.press("o")
        await settle(pilot)
        assert order(app) == ["apollo", "athena", "ergon", "numa"]
        await pilot.press("o")
        await settle(pilot)
        assert order(app) == ["apollo", "numa", "athena", "ergon"]  # the longest answer first


async def test_answers_that_end_at_once_are_compared_once(
    console: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with race(console) as (app, client, pilot):
        names = [f"{name}-ai" for name in TEXTS]
        client.send(team("t2", "Again.", *TEXTS))
        await settle(pilot, 10)
        compared: list[list[str]] = []

        def watched(answers: Mapping[str, str], question: str) -> dict[str, set[str]]:
            compared.append(sorted(answers))
            return agreements(answers, question)

        monkeypatch.setattr(lane_grid, "agreements", watched)
        told = [answer(f"t2/{name}", name, "s-team", "", "The March date.", group="t2") for name in names]
        client.send(*(event for events in told for event in events))
        await settle(pilot, 10)
        assert compared == [sorted(names)]
        assert [lane.agree for lane in app.query_one(LaneGrid).members] == [2, 2, 2]


async def test_a_late_first_word_that_ends_first_is_first(console: Maker) -> None:
    app, client = console(live("apollo"), live("athena"))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.navigator.show("team")
        await settle(pilot)
        slow = reply("apollo", "Slow ", "but ", "steady.")
        client.send(team("t1", "Q", "apollo", "athena"), *slow[:3], *reply("athena", "Quick."), *slow[3:])
        await settle(pilot, 10)
        assert order(app) == ["athena", "apollo"]


async def test_a_finished_card_shows_its_beginning_while_a_running_one_shows_its_end(console: Maker) -> None:
    app, client = console(live("apollo"), live("athena"))
    long = "\n\n".join(f"paragraph {number}" for number in range(60))
    async with app.run_test(size=(120, 30)) as pilot:
        await settle(pilot)
        app.navigator.show("team")
        await settle(pilot)
        client.send(team("t1", "Q", "apollo", "athena"), *reply("apollo", long), *reply("athena", long)[:-1])
        await settle(pilot, 10)
        done, running = (
            next(lane for lane in app.query(Lane) if lane.name_shown == name) for name in ("apollo", "athena")
        )
        assert "paragraph 0" in done.transcript.render_line(0).text
        assert any(
            "paragraph 59" in running.transcript.render_line(y).text
            for y in range(running.transcript.size.height)
        )


async def test_text_that_comes_before_the_lanes_are_drawn_is_in_them(console: Maker) -> None:
    app, client = console(live("apollo"))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.navigator.show("team")
        await settle(pilot)
        client.send(team("t1", "Q", "apollo"), *reply("apollo", "At ", "once."))
        await settle(pilot, 10)
        assert "At once." in screen_text(app)


async def test_eighteen_first_sentences_are_read_at_the_smallest_size(console: Maker) -> None:
    app, client = console(live("apollo"))
    names = [component.name for component in load(Settings())][:18]
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        app.navigator.show("team")
        await settle(pilot)
        client.send(team("t1", "Name a risk.", *names))
        for number, name in enumerate(names[:15]):
            client.send(*reply(name, f"# Title\n\nSure! Risk {number} is ", "that nobody owns it.\n\nMore."))
        client.send(*reply(names[15], "I am ", "still writing")[:-1], *failure(names[16]))
        await settle(pilot, 10)
        app.query_one(TeamView).focus()
        await settle(pilot)
        rows = listed(app)
        assert rows[0].split()[:5] == ["1", names[0], "1.9", "s", "●"] or rows[0].split()[1] == "1"
        assert "Risk 0 is that nobody owns it." in rows[0] and "Sure" not in rows[0]
        text = "\n".join(rows)
        assert "more answered" in text and "still writing" in text
        assert "no connection to its model" in text and "R again" in text
        seen = set[str]()
        for _ in range(15):
            seen |= {row.partition("Risk")[2].split()[0] for row in listed(app) if "Risk" in row}
            await pilot.press("down")
            await settle(pilot, 2)
        assert seen == {str(number) for number in range(15)}
        await pilot.press("k", "enter")
        await settle(pilot)
        assert [lane.name_shown for lane in app.query(Lane) if lane.is_on_screen] and "More." in screen_text(
            app
        )


async def test_the_list_has_a_reader_below_it_that_follows_the_cursor(console: Maker) -> None:
    async with race(console) as (app, _client, pilot):
        await pilot.press("L")
        await settle(pilot)
        assert [lane.name_shown for lane in app.query(Lane) if lane.display] == ["numa"]
        assert "FIRST SENTENCE" in screen_text(app) and "p pick" in screen_text(app)
        assert ["●" in row for row in listed(app)[:3]] == [False, True, True]
        await pilot.press("down")
        await settle(pilot)
        assert [lane.name_shown for lane in app.query(Lane) if lane.display] == ["apollo"]
        assert ["●" in row for row in listed(app)[:3]] == [False, False, True]


def test_answers_agree_that_name_the_same_things_and_the_question_does_not_count() -> None:
    question = "What breaks first under load?"
    answers = {
        "a": "Under load the message broker saturates first.",
        "b": "The broker: messages pile up.",
        "c": "Under load, what breaks first is the budget.",
        "d": "消息队列会先崩溃。",
        "e": "先崩溃的是消息队列。",
        "f": "",
    }
    found = agreements(answers, question)
    assert found == {"a": {"b"}, "b": {"a"}, "c": set(), "d": {"e"}, "e": {"d"}, "f": set()}


@pytest.mark.parametrize(
    ("joint", "said"),
    [
        (
            "Agree to disagree.\n\n**Agree:** apollo, tekton_core.\n- Objects: Penia\nNo view: none",
            {"apollo": "agrees", "tekton_core": "agrees", "penia": "objects"},
        ),
        ("Agree: apollo, penia\nObject: penia, apollo\nNo view: apollo", {}),
        ("Object: apollonia. No view: penia", {"penia": "no view"}),
        ("Agree: everybody but penia", {}),
        ("Apollo and Penia agree: the broker.", {}),
        ("No view: all but\npenia", {}),
        ("Object: apollo (she contradicts penia on the price)", {"apollo": "objects"}),
        (
            "Object: apollo, because penia is wrong; tekton_core too",
            {"apollo": "objects", "tekton_core": "objects"},
        ),
        ("Agree: [apollo] and `penia`, in part", {"apollo": "agrees", "penia": "agrees"}),
        ("Agree: apollo penia\nObject: None", {"apollo": "agrees", "penia": "agrees"}),
        (
            "### Agree:\n\n- apollo\n* **Penia**: the price\n\nObject:\n1. tekton_core, unlike apollo",
            {"apollo": "agrees", "penia": "agrees", "tekton_core": "objects"},
        ),
        ("- Agree:\n  - apollo\n- No view:\n  - penia", {"apollo": "agrees", "penia": "no view"}),
        ("Agree:\n- nobody\n\nSee also:\n- penia", {}),
        (
            "✅ Agree：apollo、penia\n❌ Objections: tekton_core",
            {"apollo": "agrees", "penia": "agrees", "tekton_core": "objects"},
        ),
        ("I agree: apollo is right", {}),
        ("Agree: " + "apollo, " * 2_000, {"apollo": "agrees"}),
    ],
)
def test_how_members_stand_to_a_joint_answer_is_read_where_it_says_so_and_once(
    joint: str, said: dict[str, str]
) -> None:
    assert stances(joint, ["apollo", "penia", "tekton_core"]) == said


async def test_who_objects_to_a_joint_answer_is_told_from_who_agrees_in_the_row_and_by_name(
    console: Maker,
) -> None:
    async with race(console) as (app, client, pilot):
        await pilot.press("M", "enter")
        await settle(pilot)
        assert client.called(Chat)[-1].content.endswith(JOINT_ASKED)
        lines = "Agree: numa\nObject: apollo\nNo view: athena"
        client.send(*reply("rhetor", f"Both at once.\n\n{lines}", lane="merge"))
        await until(pilot, lambda: "agree numa  object apollo  no view athena" in screen_text(app))
        await pilot.press("L")
        await settle(pilot)
        for name, stance in (("numa", "✓ agrees"), ("apollo", "≠ objects"), ("athena", "– no view")):
            assert sum(f" {name} " in row and stance in row for row in listed(app)) == 1


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("Sure! The queue breaks at once, always. More.", "The queue breaks at once, always."),
        (
            "# Title\n\n```py\nx = 1\n```\n\n- **The** `broker` saturates at 12.5k.",
            "The broker saturates at 12.5k.",
        ),
        ("Broker. Its lock is held.", "Broker. Its lock is held."),
        ("# Only a title", "# Only a title"),
        (
            "消息队列会先崩溃，因为没有人看它，这很重要的事情。然后是池。",
            "消息队列会先崩溃，因为没有人看它，这很重要的事情。",
        ),
        ("", ""),
    ],
)
def test_the_first_sentence_is_prose(text: str, sentence: str) -> None:
    assert first_sentence(text) == sentence


@pytest.mark.parametrize("key", ["L", "o"])
async def test_the_chosen_lane_stays_in_view_when_there_are_more_than_fit(console: Maker, key: str) -> None:
    app, client = console(live("apollo"))
    names = [component.name for component in load(Settings())][:18]
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        app.navigator.show("team")
        await settle(pilot)
        client.send(team("t1", "Q", *names))
        await settle(pilot)
        grid = app.query_one(LaneGrid)
        app.query_one(TeamView).focus()
        await pilot.press(key, *["down"] * 17)
        await settle(pilot)
        assert grid.current is grid.members[-1]
        if grid.shown == "cards":
            assert grid.region.contains_region(grid.current.region)
        else:
            assert any(grid.current.name_shown in row for row in listed(app))


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
        assert "ergon ✖ no connection to its model" in screen_text(app) and "R asks again" in screen_text(app)
        assert not client.called(AskMember)
        await pilot.press("R")
        await settle(pilot)
        assert not client.called(AskMember)
        await pilot.press("left", "enter")
        await settle(pilot)
        [asked] = client.called(AskMember)
        assert (asked.ai_id, asked.team_request_id) == ("ergon-ai", "t1")
        client.send(*reply("ergon", "The tools may lie.", lane=f"ergon-ai/{asked.request_id}"))
        await settle(pilot, 10)
        text = screen_text(app)
        assert "4 answered" in text and "The tools may lie." in text and "R asks again" not in text


async def test_the_picked_answer_is_the_one_that_is_piped(console: Maker) -> None:
    async with race(console) as (app, client, pilot):
        await pilot.press("p", "right")
        await settle(pilot)
        assert "numa picked: | pipes it on" in screen_text(app)
        await pilot.press("|")
        await settle(pilot, 10)
        await pilot.press(*"athena", "enter")
        await settle(pilot)
        [run] = client.called(RunPipeline)
        assert (run.pipeline, run.input) == ("athena", TEXTS["numa"])


async def test_two_answers_are_compared_word_by_word(console: Maker) -> None:
    async with race(console) as (app, _client, pilot):
        await pilot.press("right", "space", "right", "=")
        await settle(pilot)
        assert isinstance(app.screen, CompareScreen)
        assert "apollo and athena share 3 words, of 6 and 5; what differs is marked" in screen_text(app)
        left, right = app.screen.query(".compare-side")
        assert left.region.y == right.region.y
        await pilot.resize_terminal(100, 30)
        await settle(pilot)
        assert left.region.x == right.region.x and left.region.bottom <= right.region.y
        await pilot.press("escape")
        await settle(pilot)
        assert not isinstance(app.screen, CompareScreen)


async def test_a_judge_of_ones_choice_merges_the_marked_answers(console: Maker) -> None:
    async with race(console) as (app, client, pilot):
        await pilot.press("space", "right", "space", "M")
        await settle(pilot)
        assert isinstance(app.screen, ChoiceScreen)
        assert "Who merges 2 answers?" in screen_text(app)
        assert app.screen.query_one(OptionList).highlighted == 0
        await pilot.press("enter")
        await settle(pilot)
        [asked] = client.called(Chat)
        assert asked.ai_id == "rhetor-ai" and asked.request_id == "t1/merge"
        assert asked.context is not None
        assert [part.specialist_id for part in asked.context.previous] == ["numa-ai", "apollo-ai"]
        client.send(*reply("rhetor", "Both at once.", lane="merge"))
        await until(pilot, lambda: "joint answer · rhetor ✓" in screen_text(app))
        assert "3 answered" in screen_text(app)
        joint = app.query_one(LaneGrid).judge
        assert joint is not None and joint.region.width == 120 and joint.region.y < order_top(app)
        await pilot.press("up", "up", "up", "enter")
        await settle(pilot)
        assert [lane for lane in app.query(Lane) if lane.is_on_screen] == [joint]
        await pilot.press("escape")
        await settle(pilot)
        await pilot.press("M", "enter")
        await settle(pilot)
        assert client.called(Chat)[-1].request_id == "t1/merge/2"


async def test_one_lane_or_all_are_cancelled(console: Maker) -> None:
    app, client = console(live("apollo"), live("athena"))
    client.answers[Cancel] = lambda params: CancelResult(params.target, True, 1, 3.0)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.navigator.show("team")
        await settle(pilot)
        client.send(
            team("t1", "Q", "apollo", "athena"), *reply("apollo", "Ha")[:-1], *reply("athena", "Hm")[:-1]
        )
        await settle(pilot)
        app.query_one(TeamView).focus()
        await pilot.press("right", "x", "X")
        await settle(pilot)
        assert client.called(Cancel) == [Cancel("t1/athena-ai")]
        await pilot.press("left", "enter")
        await settle(pilot)
        assert client.called(Cancel) == [Cancel("t1/athena-ai"), Cancel("t1")]


async def test_a_discussion_waits_for_the_end_and_names_its_race(console: Maker) -> None:
    async with race(console) as (_app, client, pilot):
        await pilot.press("t")
        await settle(pilot)
        assert not client.called(Discuss)
        await pilot.press("left", "enter")
        await settle(pilot)
        [asked] = client.called(Discuss)
        assert asked.team_request_id == "t1"


async def test_the_mouse_chooses_a_lane_and_twice_shows_it_alone(console: Maker) -> None:
    async with race(console) as (app, _client, pilot):
        lane = next(lane for lane in app.query(Lane) if lane.name_shown == "athena")
        await pilot.click(lane)
        await settle(pilot)
        assert app.query_one(LaneGrid).current is lane
        await pilot.click(lane, times=2)
        await settle(pilot)
        assert [each for each in app.query(Lane) if each.display] == [lane]


async def test_escape_takes_back_one_thing_at_a_time(console: Maker) -> None:
    async with race(console) as (app, _client, pilot):
        await pilot.press("space", "z")
        await settle(pilot)
        grid = app.query_one(LaneGrid)
        assert grid.shown == "zoom"
        await pilot.press("escape")
        await settle(pilot)
        assert grid.shown == "cards" and grid.marked
        await pilot.press("escape")
        await settle(pilot)
        assert not grid.marked
        await pilot.press("escape")
        await settle(pilot)
        assert app.query_one("#panes").current == "fleet"  # type: ignore[attr-defined]


async def test_an_answer_is_quoted_into_the_next_question(console: Maker) -> None:
    async with race(console) as (app, _client, pilot):
        await pilot.press(">")
        await settle(pilot)
        assert app.query_one("#team-composer", Composer).draft == f"> {TEXTS['numa']}\n\n"


@pytest.mark.parametrize(
    ("needs", "fair", "heights"),
    [
        ([3, 3], 15, [4, 4]),  # one-line answers
        ([15, 3], 15, [15, 4]),  # somebody writes in the first row
        ([40, 3], 15, [26, 4]),  # a long answer has what the short ones leave
        ([40, 40, 3], 10, [16, 10, 4]),
        ([9, 9], 15, [9, 9]),
    ],
)
def test_a_row_of_cards_has_the_height_of_its_answers(
    needs: list[int], fair: int, heights: list[int]
) -> None:
    assert row_heights(needs, fair) == heights


async def test_cards_of_one_line_answers_are_as_high_as_these(console: Maker) -> None:
    app, client = console(*(live(name) for name in ("apollo", "athena", "rhetor")))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("3")
        client.send(team("t1", "Ready?", "apollo", "athena", "rhetor"))
        texts = {"apollo": "Yes.", "athena": "\n\n".join(["One paragraph."] * 6), "rhetor": "No."}
        for name, text in texts.items():
            client.send(*answer(f"t1/{name}-ai", f"{name}-ai", "s-team", "", text, group="t1"))
        await settle(pilot, 20)
        heights = {lane.outer_size.height for lane in app.query(Lane)}
        assert heights == {2 + 11} and screen_text(app).count("One paragraph.") == 6


async def test_where_there_is_room_the_next_answers_stand_beside_the_one_that_is_read(console: Maker) -> None:
    """All of them if they fit, else from the one at the cursor on; below a joint answer those it was made from."""
    names = ["apollo", "athena", "rhetor", "numa", "telos", "metis", "penia", "hermes"]
    app, client = console(*(live(name) for name in names))
    async with app.run_test(size=(200, 60)) as pilot:
        await settle(pilot)
        await pilot.press("3")
        client.send(team("t1", "Ready?", *names))
        for name in names:
            client.send(*answer(f"t1/{name}-ai", f"{name}-ai", "s-team", "", f"{name} says yes.", group="t1"))
        await settle(pilot, 20)
        app.query_one("#team-view").focus()

        def shown() -> list[str]:
            return [lane.name_shown for lane in app.query(Lane) if lane.display]

        assert shown() == names and all(screen_text(app).count(f"{name} says yes.") == 2 for name in names)
        client.send(*answer("t1/merge", "rhetor-ai", "s-team", "", "Yes, all.", group="t1"))
        await settle(pilot, 20)
        await pilot.press("k")
        await settle(pilot)
        assert "Yes, all." in screen_text(app) and set(names) < set(shown())
        await pilot.resize_terminal(120, 40)
        await pilot.press("j", "j")
        await settle(pilot, 20)
        assert shown() == ["joint answer · rhetor", "athena"]
        assert all(lane.outer_size.width > 100 for lane in app.query(Lane) if lane.display)


async def test_a_long_answer_has_all_of_the_room_and_the_others_what_it_leaves(console: Maker) -> None:
    names = ["apollo", "athena", "rhetor", "numa", "telos", "metis", "penia"]
    app, client = console(*(live(name) for name in names))
    async with app.run_test(size=(200, 60)) as pilot:
        await settle(pilot)
        await pilot.press("3")
        client.send(team("t1", "Ready?", *names))
        for name in names:
            text = "\n\n".join(f"{name} {at}." for at in range(60 if name == "rhetor" else 2))
            client.send(*answer(f"t1/{name}-ai", f"{name}-ai", "s-team", "", text, group="t1"))
        await settle(pilot, 20)
        app.query_one("#team-view").focus()
        await pilot.press("j", "j")
        await settle(pilot, 20)
        lanes = {lane.name_shown: lane for lane in app.query(Lane) if lane.display}
        assert list(lanes) == ["rhetor", "numa"]
        assert lanes["rhetor"].outer_size.height == app.query_one(LaneGrid).size.height


async def test_running_lanes_show_what_a_snapshot_says_of_them_and_what_comes_behind_it(
    console: Maker,
) -> None:
    app, client = console(live("apollo"), live("athena"))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.navigator.show("team")
        await settle(pilot)
        start = team("t1", "Name a risk.", "apollo", "athena")
        client.send(start, *reply("apollo", "before ")[:-1])
        await until(pilot, lambda: "before" in screen_text(app))

        def active(name: str, content: str, left_out: int) -> ActiveTurn:
            return ActiveTurn(
                f"t1/{name}-ai", f"{name}-ai", "s-team", "", NOW, "streaming",
                content=content, chunks=9, group="t1", left_out=left_out,
            )  # fmt: skip

        missed = snapshot(
            live("apollo"),
            live("athena"),
            turns=[active("apollo", "behind", 14), active("athena", "begun", 0)],
        )
        missed.teams = [start]
        client.send(missed)
        await until(pilot, lambda: "behind" in screen_text(app) and "begun" in screen_text(app))
        assert "14 characters before this are on their way" in screen_text(app)
        await until(pilot, lambda: "catching up 1 answer" in screen_text(app))
        client.send(TurnText("t1/apollo-ai", "before amidst "))
        await until(pilot, lambda: "before amidst behind" in screen_text(app))
        await until(pilot, lambda: "catching up" not in screen_text(app))
