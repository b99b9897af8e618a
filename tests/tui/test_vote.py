"""A vote of the team: who is asked what, how replies are read, and where the tally stands."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from backend.schema.events import TeamEnd
from backend.schema.frames import StreamEnd, StreamMetadata, Usage
from backend.schema.params import Chat
from tekton_tui.app import TektonApp
from tekton_tui.screens.dialogs import Dialog
from tekton_tui.widgets.team.lane_grid import LaneGrid
from tekton_tui.widgets.team.vote import voted_for
from tests.tui.conftest import settle
from tests.tui.fake_client import FakeClient, answer, live, team
from tests.tui.test_console import screen_text
from tests.tui.test_keymap import notices

Maker = Callable[..., tuple[TektonApp, FakeClient]]
NAMES = ("apollo", "athena", "numa")


@pytest.mark.parametrize(
    ("reply", "named"),
    [
        ("athena", "athena-ai"),
        ("**Athena.**", "athena-ai"),
        ("I think numa is right; athena is vague.", "numa-ai"),
        ("apollo", ""),
        ("apollo, and then numa", "numa-ai"),
        ("none of them", ""),
        ("", ""),
        ("athenaeum", ""),
    ],
)
def test_a_reply_is_a_vote_for_the_first_it_names_but_the_voter(reply: str, named: str) -> None:
    assert voted_for(reply, "apollo-ai", [f"{name}-ai" for name in NAMES]) == named


async def test_each_is_asked_for_the_best_but_its_own_after_a_yes_and_the_tally_stands_in_the_list(
    console: Maker,
) -> None:
    app, client = console(*(live(name) for name in NAMES))
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        app.navigator.show("team")
        await settle(pilot)
        client.send(team("t1", "What breaks first?", *NAMES))
        for name in NAMES:
            client.send(*answer(f"t1/{name}-ai", f"{name}-ai", "s", "", f"The {name} part.", group="t1"))
        client.send(TeamEnd("t1", 3, 0, 0, 3.0))
        await settle(pilot, 10)
        app.query_one("#team-view").focus()
        await pilot.press("V")
        await settle(pilot)
        assert isinstance(app.screen, Dialog) and client.called(Chat) == []
        await pilot.press("left", "enter")
        await settle(pilot)
        sent = client.called(Chat)
        assert {call.ai_id for call in sent} == {f"{name}-ai" for name in NAMES}
        for call in sent:
            assert call.group == "t1" and call.request_id.startswith("t1/vote/") and call.context is not None
            assert call.ai_id not in {one.specialist_id for one in call.context.previous}
        for voter, reply in (("apollo", "athena"), ("athena", "numa"), ("numa", "Athena!")):
            client.send(*answer(f"t1/vote/{voter}-ai", f"{voter}-ai", "s", "", reply, group="t1"))
        await settle(pilot, 10)
        rows = screen_text(app).splitlines()
        assert next(line for line in rows if "The athena part" in line).rstrip().endswith("2 votes ▪▪")
        assert next(line for line in rows if "The numa part" in line).rstrip().endswith("1 vote ▪")
        assert "vote athena 2 of 3" in rows[3] + rows[2]
        assert len(app.query_one(LaneGrid).lanes) == 3, "a vote is no answer"


async def test_a_vote_needs_two_answers(console: Maker) -> None:
    app, client = console(live("apollo"))
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        app.navigator.show("team")
        await settle(pilot)
        client.send(team("t1", "Q", "apollo"))
        client.send(*answer("t1/apollo-ai", "apollo-ai", "s", "", "A.", group="t1"))
        await settle(pilot, 10)
        app.query_one("#team-view").focus()
        await pilot.press("V")
        await settle(pilot)
        assert client.called(Chat) == [] and "two whole answers" in notices(app)


async def test_the_row_below_says_what_the_team_turn_cost_where_it_is_known(console: Maker) -> None:
    app, client = console(live("apollo"), live("athena"))
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        app.navigator.show("team")
        await settle(pilot)
        client.send(team("t1", "Q", "apollo", "athena"))
        for name, cost in (("apollo", 0.04), ("athena", None)):
            started = answer(f"t1/{name}-ai", f"{name}-ai", "s", "", "A.", group="t1")[:-1]
            facts = StreamMetadata(1, 1, 1.9, f"{name}-ai", "m", "stop", Usage(20, 300), 210.0, cost=cost)
            client.send(*started, StreamEnd(f"t1/{name}-ai", facts))
        await settle(pilot, 10)
        shown = next(line for line in screen_text(app).splitlines() if "2 answered" in line and "tok" in line)
        assert "600 tok" in shown and "$0.04" in shown


@pytest.mark.parametrize(
    ("replies", "words"),
    [
        (("athena", "numa", "athena"), "vote athena 2 of 3"),
        (("athena", "who?", ""), "vote athena 1 of 3, 2 named nobody"),
        (("who?", "who?", "who?"), "vote: nobody named an answer"),
    ],
)
async def test_who_named_nobody_is_counted_too(console: Maker, replies: tuple[str, ...], words: str) -> None:
    app, client = console(*(live(name) for name in NAMES))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.navigator.show("team")
        await settle(pilot)
        client.send(team("t1", "What breaks first?", *NAMES))
        for name in NAMES:
            client.send(*answer(f"t1/{name}-ai", f"{name}-ai", "s", "", "Mine.", group="t1"))
        client.send(TeamEnd("t1", 3, 0, 0, 3.0))
        for name, reply in zip(NAMES, replies, strict=True):
            client.send(*answer(f"t1/vote/{name}-ai", f"{name}-ai", "s", "", reply, group="t1"))
        await settle(pilot, 10)
        rounds = screen_text(app).splitlines()[3]
        assert rounds.rstrip().endswith(words), rounds
