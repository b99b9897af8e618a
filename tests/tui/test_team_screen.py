"""Team Chat as its operator uses it: who is asked, what is refused, what is found again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from textual.pilot import Pilot

from backend.schema.errors import TektonError
from backend.schema.events import MessageStored
from backend.schema.frames import StreamError
from backend.schema.params import GetHistory, ListMessages, TeamChat
from backend.schema.results import History, MessageList
from tekton_tui.app import TektonApp
from tekton_tui.widgets.composer.composer import Composer
from tekton_tui.widgets.team.lane import Lane
from tekton_tui.widgets.team.team_list import TeamList
from tests.tui.conftest import settle
from tests.tui.fake_client import NOW, FakeClient, answer, live, message, snapshot, team
from tests.tui.test_console import screen_text

Maker = Callable[..., tuple[TektonApp, FakeClient]]


async def write(app: TektonApp, pilot: Pilot[Any], text: str) -> None:
    """Go to Team Chat and send a line."""
    app.navigator.show("team")
    await settle(pilot)
    app.query_one("#team-composer", Composer).draft = text
    await pilot.press("enter")
    await settle(pilot)


@pytest.mark.parametrize(
    ("line", "text", "targets"),
    [
        ("Name a risk.", "Name a risk.", None),
        ("@apollo Name a risk.", "Name a risk.", ["apollo"]),
        ("@apollo, @athena Name a risk.", "Name a risk.", ["apollo", "athena"]),
        ("@team Name a risk.", "Name a risk.", None),
    ],
)
async def test_a_question_goes_to_those_it_names_or_to_all(
    console: Maker, line: str, text: str, targets: list[str] | None
) -> None:
    app, client = console(live("apollo"), live("athena"))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await write(app, pilot, line)
        [asked] = client.called(TeamChat)
        assert (asked.content, asked.target_ids) == (text, targets)


async def test_a_verb_nobody_knows_is_said_and_not_sent_to_the_team(console: Maker) -> None:
    app, client = console(live("apollo"))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await write(app, pilot, "/nonsense")
        assert not client.called(TeamChat)
        assert any("not understood" in notice.message for notice in app._notifications)
        assert app.query_one("#team-composer", Composer).draft == "/nonsense"


async def test_a_refused_question_is_back_in_the_composer(console: Maker) -> None:
    app, client = console()
    client.answers[TeamChat] = TektonError("nobody runs", code="not_running")
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await write(app, pilot, "Name a risk.")
        assert app.query_one("#team-composer", Composer).draft == "Name a risk."


async def test_a_member_that_could_not_be_asked_has_a_lane_that_says_why(console: Maker) -> None:
    app, client = console(live("apollo"))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.navigator.show("team")
        await settle(pilot)
        client.send(
            msgspec.structs.replace(team("t1", "Q", "apollo"), refused={"metis-ai": "metis does not run"})
        )
        await settle(pilot, 10)
        text = screen_text(app)
        assert "metis ✖ not asked" in text and "metis does not run" in text and "1 failed" in text


async def test_earlier_questions_are_read_from_memory_with_their_answers(console: Maker) -> None:
    app, client = console(live("apollo"), live("athena"))
    stored = [
        message(1, "you", "Old?", request_id="t1", created_at=NOW - 900),
        message(2, "athena-ai", "Old answer.", request_id="t1/athena-ai", lane="t1", total_time=1.0),
        message(3, "you", "Name a risk.", request_id="t2", created_at=NOW - 60),
        message(4, "athena-ai", "The cap.", request_id="t2/athena-ai", lane="t2", total_time=1.0),
        message(
            5, "apollo-ai", "", request_id="t2/apollo-ai", lane="t2", error_code="stalled", error="no token"
        ),
        message(6, "apollo-ai", "The date.", request_id="t2/apollo-ai/tui-1", lane="t2", total_time=2.0),
        message(7, "athena-ai", "Both.", request_id="t2/merge", lane="t2", total_time=1.0),
    ]
    client.answers[GetHistory] = History("team", "s-team", stored)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        app.navigator.show("team")
        await settle(pilot, 10)
        text = screen_text(app)
        assert "“Name a risk.”" in text and "joint answer" in text and "2 answered" in text
        rows = [app.query_one(TeamList).render_line(y).text for y in (1, 2)]
        assert (
            "athena" in rows[0]
            and "The cap." in rows[0]
            and "The date." in rows[1]
            and "●" not in "".join(rows)
        )
        app.query_one("#team-view").focus()
        await pilot.press("{")
        await settle(pilot, 10)
        assert "“Old?”" in screen_text(app) and "Old answer." in screen_text(app)


async def test_a_lane_that_ended_while_the_link_was_down_is_read_from_memory(console: Maker) -> None:
    app, client = console(live("apollo"))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.navigator.show("team")
        await settle(pilot)
        begun = answer("t1/apollo-ai", "apollo-ai", "s-team", "", "Half", group="t1")[:-1]
        client.send(team("t1", "Q", "apollo"), *begun)
        await settle(pilot)
        whole = message(2, "apollo-ai", "Half and whole.", request_id="t1/apollo-ai")
        client.answers[ListMessages] = MessageList([whole])
        client.send(snapshot(live("apollo")))
        await settle(pilot, 10)
        assert "Half and whole." in screen_text(app) and "1 answered" in screen_text(app)


async def test_a_lane_that_was_told_as_lost_and_is_stored_whole_after_all_is_read_from_memory(
    console: Maker,
) -> None:
    app, client = console(live("apollo"))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.navigator.show("team")
        await settle(pilot)
        begun = answer("t1/apollo-ai", "apollo-ai", "s-team", "", "Half", group="t1")[:-1]
        lost = StreamError("t1/apollo-ai", "apollo-ai", "backend_lost", "its gateway ended", "")
        client.send(team("t1", "Q", "apollo"), *begun, lost)
        await settle(pilot)
        whole = message(2, "apollo-ai", "Half and whole.", request_id="t1/apollo-ai", session_id="s-team")
        client.answers[ListMessages] = MessageList([whole])
        client.send(MessageStored(whole, corrects=True))
        await settle(pilot, 10)
        assert "Half and whole." in screen_text(app) and "its gateway ended" not in screen_text(app)


async def test_one_lane_can_be_read_alone_and_all_as_a_list(console: Maker) -> None:
    app, client = console(live("apollo"), live("athena"), live("numa"))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.navigator.show("team")
        await settle(pilot)
        client.send(team("t1", "Q", "apollo", "athena", "numa"))
        await settle(pilot)
        app.query_one("#team-view").focus()
        await pilot.press("right", "z")
        await settle(pilot)
        assert [lane.ai_id for lane in app.query(Lane) if lane.display] == ["athena-ai"]
        await pilot.press("z", "L")
        await settle(pilot)
        rows = [app.query_one(TeamList).render_line(y).text for y in range(1, 4)]
        assert ["apollo" in rows[0], "▎" in rows[1], "athena" in rows[1], "numa" in rows[2]] == [True] * 4
