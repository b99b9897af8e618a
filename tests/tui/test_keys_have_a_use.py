"""What is shown has a use: keys of the team's answers and of what waits, the way to an answer, a wide gateway."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from textual.pilot import Pilot

from backend.schema.attention import AttentionItem
from backend.schema.events import GatewayCall, TeamEnd
from backend.schema.params import GetGateway, ListMessages
from backend.schema.results import EventFigures, GatewayReport, MessageList
from tekton_tui.app import TektonApp
from tekton_tui.screens.team import TeamPane
from tekton_tui.widgets.common.key_line import KeyLine
from tekton_tui.widgets.team.team_view import TeamView
from tests.tui.conftest import settle
from tests.tui.fake_client import NOW, FakeClient, answer, live, message, team
from tests.tui.test_console import screen_text

Maker = Callable[..., tuple[TektonApp, FakeClient]]
NAMES = ("apollo", "athena")


def useful(app: TektonApp) -> dict[str, bool]:
    """Return the keys in the line at the bottom by what they do, and whether they have a use."""
    return {key.label: key.useful for key in app.screen.query_one(KeyLine).shown}


async def asked(client: FakeClient, pilot: Pilot[Any], request_id: str, words: str) -> None:
    client.send(team(request_id, words, *NAMES))
    await settle(pilot)


async def answered(client: FakeClient, pilot: Pilot[Any], request_id: str) -> None:
    for name in NAMES:
        client.send(*answer(f"{request_id}/{name}-ai", f"{name}-ai", "s-team", "", "Yes.", group=request_id))
    client.send(TeamEnd(request_id, len(NAMES), 0, 0, 2.0))
    await settle(pilot, 10)


async def test_the_ways_to_other_questions_are_shown_where_there_are_others(console: Maker) -> None:
    app, client = console(*(live(name) for name in NAMES))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("3")
        await asked(client, pilot, "t1", "The first?")
        await answered(client, pilot, "t1")
        row = screen_text(app).splitlines()[2]
        assert "The first?" in row and "earlier" not in row and "later" not in row and "1 of 1" not in row
        await asked(client, pilot, "t2", "The second?")
        await answered(client, pilot, "t2")
        row = screen_text(app).splitlines()[2]
        assert "The second?" in row and "2 of 2" in row and "{ earlier" in row and "later" not in row
        app.query_one(TeamView).focus()
        await pilot.press("{")
        await settle(pilot)
        row = screen_text(app).splitlines()[2]
        assert "The first?" in row and "} later" in row and "earlier" not in row


async def test_a_key_of_the_team_is_dim_while_it_has_no_use_and_says_why(console: Maker) -> None:
    app, client = console(*(live(name) for name in NAMES))
    async with app.run_test(size=(140, 40)) as pilot:
        await settle(pilot)
        await pilot.press("3")
        await asked(client, pilot, "t1", "The first?")
        for name in NAMES:
            client.send(*answer(f"t1/{name}-ai", f"{name}-ai", "s-team", "", "Yes.", group="t1")[:2])
        await settle(pilot, 10)
        app.query_one(TeamView).focus()
        await settle(pilot)
        while_running = useful(app)
        assert (
            while_running["stop lane"] and not while_running["joint answer"] and not while_running["discuss"]
        )
        await answered(client, pilot, "t1")
        ended = useful(app)
        assert not ended["stop lane"] and ended["joint answer"] and ended["discuss"]
        before = len(client.calls)
        await pilot.press("x")
        await settle(pilot)
        assert len(client.calls) == before
        assert any("nothing to stop" in str(one.message) for one in app._notifications)  # pyright: ignore[reportPrivateUsage]


async def test_no_key_of_an_empty_desk_looks_as_if_it_did_something(console: Maker) -> None:
    app, client = console(live("apollo"))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("4")
        await settle(pilot)
        words = useful(app)
        assert not any(words[label] for label in ("open", "seen", "start", "stop", "log"))
        client.first.attention = []
        app.stores.attention.load(
            [AttentionItem("down:ergon-ai", "down", "ergon-ai", NOW, "exited 3", "No module")]
        )
        await settle(pilot)
        words = useful(app)
        assert words["open"] and words["start"] and words["log"] and not words["stop"]


@pytest.mark.parametrize("known", [True, False])
async def test_an_answer_of_the_team_opens_team_chat_at_that_answer(console: Maker, known: bool) -> None:
    app, client = console(*(live(name) for name in NAMES))
    lanes = [*(f"t1/{name}-ai" for name in NAMES), "t1/merge"]
    stored = [message(1, "you", "The first?", request_id="t1", session_id="s-team")]
    stored += [
        message(at, "apollo-ai" if "merge" in lane else lane.partition("/")[2], f"says {lane}", request_id=lane,
                session_id="s-team", lane="t1")
        for at, lane in enumerate(lanes, 2)
    ]  # fmt: skip
    client.answers[ListMessages] = lambda params: MessageList(stored if params.id == "s-team" else [])
    item = AttentionItem("done:t1/merge", "done", "team", NOW, "joint", "says", 1, "t1/merge", "s-team")
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        if known:
            await asked(client, pilot, "t1", "The first?")
            await answered(client, pilot, "t1")
            client.send(*answer("t1/merge", "apollo-ai", "s-team", "", "says t1/merge", group="t1"))
            await asked(client, pilot, "t2", "The second?")
            await answered(client, pilot, "t2")
        app.commands.attention.open(item)
        await settle(pilot, 12)
        view = app.query_one(TeamPane).view
        assert view.is_on_screen and view.team is not None and view.team.start.prompt == "The first?"
        current = view.lane_grid.current
        assert current is not None and current.is_judge and current.text == "says t1/merge"


async def test_a_wide_gateway_has_the_calls_beside_the_clients(console: Maker) -> None:
    app, client = console(live("apollo"))
    calls = [GatewayCall(NOW - n, "10.0.0.7", "http", f"call_{n}", 200, 1.5) for n in range(60)]
    calls.insert(0, GatewayCall(NOW, "127.0.0.1", "ws", GetGateway.action, 200, 0.2))
    client.answers[GetGateway] = GatewayReport(
        "http://a", [], 60, 0, 0, calls, [], EventFigures(0, 0, 0, 0.0)
    )
    for size, beside, least in (((200, 60), True, 30), ((120, 40), False, 14)):
        async with app.run_test(size=size) as pilot:
            await settle(pilot)
            await pilot.press("6")
            await settle(pilot, 10)
            rows = screen_text(app).splitlines()
            at = next(row.index("Recent calls") for row in rows if "Recent calls" in row)
            assert (at > size[0] // 2) == beside
            assert sum("call_" in row for row in rows) >= least
            assert "gateway_info" not in "\n".join(rows), "what the console itself looks at is no news"
            assert any("To copy" in row for row in rows) or not beside
        app, client2 = console(live("apollo"))
        client2.answers[GetGateway] = client.answers[GetGateway]
