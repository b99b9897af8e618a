"""The console as its operator uses it, over a fake client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any  # noqa: F401

import pytest
from textual.widgets import Button

from backend.client import ConnectionChanged
from backend.schema.errors import TektonError
from backend.schema.events import ErrorEntry, TeamEnd
from backend.schema.frames import StreamChunk, StreamError, StreamPhase
from backend.schema.records import ErrorRecord
from tekton_tui.app import TektonApp
from tekton_tui.palette import bindings_of, system_commands
from tekton_tui.screens.dialogs import Dialog
from tekton_tui.screens.help import HelpScreen, key_name
from tekton_tui.widgets.chat_view import ChatView
from tekton_tui.widgets.composer import Composer
from tekton_tui.widgets.grid import FleetGrid
from tekton_tui.widgets.header import HeaderLine
from tekton_tui.widgets.lane import Lane
from tekton_tui.widgets.navigation import SCREENS
from tests.tui.conftest import settle
from tests.tui.fake_client import NOW, FakeClient, answer, live, row, team

Maker = Callable[..., tuple[TektonApp, FakeClient]]
HOSTILE = "before \x1b]52;c;aGk=\x07 \x1b[2J [@click=app.quit]x[/] [/] \u202eevil"
PLAN = {
    "plan": {
        "items": [
            {"id": f"{n}-ai", "name": n, "ok": True, "port": 1}
            for n in ("numa", "rhetor", "apollo", "athena")
        ]
    }
}


def screen_text(app: TektonApp) -> str:
    """Return all text on the screen."""
    return "\n".join(
        "".join(segment.text for segment in line) for line in app.screen._compositor.render_strips()
    )


async def test_enter_on_an_empty_fleet_shows_the_plan_and_enter_launches_the_starter_team(
    console: Maker,
) -> None:
    app, client = console()
    client.answers["launch"] = lambda p: PLAN if p.get("dry_run") else {"results": []}
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        assert "Nothing runs. Enter launches the starter team: numa, rhetor, apollo, athena." in screen_text(
            app
        )
        await pilot.press("enter")
        await settle(pilot)
        assert isinstance(app.screen, Dialog)
        await pilot.press("enter")
        await settle(pilot)
        assert client.called("launch") == [{"ids": ["starter"], "dry_run": True}, {"ids": ["starter"]}]


async def test_rows_follow_events_and_keep_the_cause_of_death(console: Maker) -> None:
    app, client = console(live("apollo"))
    async with app.run_test(size=(140, 40)) as pilot:
        await settle(pilot)
        client.changed(
            row("apollo", state="killed", signal=9, since=NOW, cause="killed by SIGKILL from outside")
        )
        await settle(pilot)
        text = screen_text(app)
        assert "killed · KILL" in text and "killed by SIGKILL from" in text


async def test_what_was_used_and_spent_is_shown_at_any_width_each_currency_by_itself(console: Maker) -> None:
    spent = live(
        "apollo", tokens_in=4210, tokens_out=9377, cost=0.25, currency="EUR", costs={"EUR": 0.25, "USD": 1.5}
    )
    for size in ((80, 24), (120, 40)):
        app, _ = console(spent)
        async with app.run_test(size=size) as pilot:
            await settle(pilot)
            app.query_one(FleetGrid).go_to("apollo-ai")
            await settle(pilot)
            text = screen_text(app)
            assert "4.2k in / 9.4k out" in text and "1.5000 USD, 0.2500 EUR today" in text
    app, _ = console(spent)
    async with app.run_test(size=(240, 40)) as pilot:
        await settle(pilot)
        assert "0.250 EUR+" in screen_text(app)


async def test_an_idle_specialist_stops_at_once_and_one_that_answers_is_asked_about(console: Maker) -> None:
    app, client = console(live("ergon"))
    client.answers["kill"] = {"results": []}
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("x")
        await settle(pilot)
        assert client.called("kill") == [{"ids": ["ergon-ai"], "force": False}]
        client.send(*answer("r1", "ergon-ai", "s", "q", "one ")[:-1])
        await settle(pilot)
        await pilot.press("x")
        await settle(pilot)
        assert isinstance(app.screen, Dialog)
        assert "loses an answer" in screen_text(app)
        assert app.screen.query_one("#answer-cancel", Button).has_focus
        await pilot.press("enter")
        await settle(pilot)
        assert len(client.called("kill")) == 1


async def test_kill_always_asks_with_cancel_in_focus(console: Maker) -> None:
    app, client = console(live("ergon"))
    client.answers["kill"] = {"results": [{"id": "ergon-ai", "ok": True}]}
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("X")
        await settle(pilot)
        assert app.screen.query_one("#answer-cancel", Button).has_focus
        await pilot.press("left", "enter")
        await settle(pilot)
        assert client.called("kill") == [{"ids": ["ergon-ai"], "force": True}]


async def test_a_question_streams_into_its_tab_and_keeps_its_footer(console: Maker) -> None:
    app, client = console(live("apollo"))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.commands.open_chat("apollo-ai")
        await settle(pilot)
        await pilot.press(*"Hi?", "enter")
        await settle(pilot)
        [asked] = client.called("chat")
        assert (asked["ai_id"], asked["content"], asked["wait"]) == ("apollo-ai", "Hi?", False)
        client.send(*answer(asked["request_id"], "apollo-ai", "s-apollo-ai", "Hi?", "Hello ", "**there**"))
        await settle(pilot, 15)
        text = screen_text(app)
        assert "Hello there" in text and "2 tok" in text


async def test_escape_cancels_what_streams_and_the_partial_text_stays(console: Maker) -> None:
    app, client = console(live("apollo"))
    client.answers["cancel"] = {"chunks": 1, "elapsed_ms": 12.0}
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.commands.open_chat("apollo-ai")
        await settle(pilot)
        client.send(*answer("r1", "apollo-ai", "s-apollo-ai", "Hi", "partial text")[:-1])
        await settle(pilot)
        await pilot.press("escape")
        await settle(pilot)
        assert client.called("cancel") == [{"request_id": "r1"}]
        client.send(StreamError("r1", "apollo-ai", "worker_lost", "the worker died", "the worker died"))
        await settle(pilot, 15)
        text = screen_text(app)
        assert "partial text" in text and "worker_lost" in text and "the worker died" in text


async def test_a_wait_shows_its_phase_and_clock_not_a_spinner(console: Maker) -> None:
    app, client = console(live("apollo"))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.commands.open_chat("apollo-ai")
        await settle(pilot)
        client.send(
            *answer("r1", "apollo-ai", "s-apollo-ai", "Hi")[:2], StreamPhase("r1", "apollo-ai", "queued", 2)
        )
        await settle(pilot, 12)
        assert "queued" in screen_text(app) and "2 in line" in screen_text(app)


async def test_team_lanes_stand_side_by_side_in_order_of_arrival(console: Maker) -> None:
    app, client = console(live("apollo"), live("athena"), live("numa"))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.show_pane("team")
        await settle(pilot)
        client.send(team("t1", "Name one risk.", "apollo", "athena", "numa"))
        await settle(pilot)
        for name in ("athena", "numa"):
            client.send(*answer(f"t1/{name}-ai", f"{name}-ai", "s-team", "", f"I am {name}", group="t1"))
            await settle(pilot)
        failed = StreamError("t1/apollo-ai", "apollo-ai", "provider_unavailable", "refused", "refused")
        client.send(
            *answer("t1/apollo-ai", "apollo-ai", "s-team", "", group="t1")[:1],
            failed,
            TeamEnd("t1", 2, 1, 0, 2.0),
        )
        await settle(pilot, 20)
        assert [lane.ai_id for lane in app.query(Lane)] == ["athena-ai", "numa-ai", "apollo-ai"]
        text = screen_text(app)
        assert "I am athena" in text and "I am numa" in text
        assert "2 answered" in text and "1 failed" in text and "✖ provider_unavailable" in text


async def test_a_picked_answer_is_what_the_pipe_takes(console: Maker) -> None:
    app, client = console(live("apollo"), live("athena"))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.show_pane("team")
        await settle(pilot)
        client.send(team("t1", "Q", "apollo", "athena"))
        await settle(pilot)
        for name in ("apollo", "athena"):
            client.send(*answer(f"t1/{name}-ai", f"{name}-ai", "s-team", "", f"exactly {name}", group="t1"))
        await settle(pilot, 12)
        app.query_one("#team-lanes").focus()
        await pilot.press("right", "p", "left", "vertical_line")
        await settle(pilot)
        await pilot.press(*"numa", "enter")
        await settle(pilot)
        [run] = client.called("pipeline")
        assert (run["pipeline"], run["input"]) == ("numa", "exactly athena")


async def test_errors_cannot_be_missed_and_are_acknowledged_by_hand(console: Maker) -> None:
    app, client = console(live("apollo"))
    record = ErrorRecord(
        7, "apollo-ai", "provider_auth", "the key was refused", NOW, NOW, 3, evidence="HTTP 401"
    )
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        client.send(ErrorEntry(record, 1))
        await settle(pilot)
        assert "1 error!" in screen_text(app)
        await pilot.press("e")
        await settle(pilot)
        text = screen_text(app)
        assert "the key was refused" in text and "HTTP 401" in text and "3×" in text
        await pilot.press("a")
        await settle(pilot)
        assert client.called("acknowledge_errors") == [{"ids": [7]}]


async def test_a_lost_backend_is_said_and_the_grid_is_greyed(console: Maker) -> None:
    app, client = console(live("apollo"))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        client.send(ConnectionChanged("lost", NOW, "the gateway closed the connection"))
        await settle(pilot)
        assert "backend lost" in screen_text(app) and "reconnecting" in screen_text(app)
        assert "the gateway closed the connection" in screen_text(app)
        assert app.query_one("#fleet").has_class("-stale")
        client.send(ConnectionChanged("lost", NOW, "the gateway refused the token (401)"))
        await settle(pilot)
        assert "the gateway refused the token (401)" in screen_text(app)


async def test_a_refusal_of_the_backend_is_a_notice_with_its_words(console: Maker) -> None:
    app, client = console(live("apollo"))
    client.answers["launch"] = TektonError("the AI lifecycle is off [/b] \x1b[2J", code="lifecycle_off")
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("S")
        await settle(pilot, 12)
        [notice] = app._notifications
        assert notice.message.startswith("the AI lifecycle is off [/b] ␛") and not notice.markup


async def test_quit_offers_to_leave_the_fleet_running(console: Maker) -> None:
    app, client = console(live("apollo"))
    client.answers["shutdown"] = {"results": []}
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("ctrl+q")
        await settle(pilot)
        assert "Leave running" in screen_text(app) and app.screen.query_one("#answer-cancel").has_focus
        await pilot.press("escape")
        await settle(pilot)
        assert not isinstance(app.screen, Dialog)
        app.commands.quit()
        await settle(pilot)
        await pilot.click("#answer-stop")
        await settle(pilot)
        assert client.called("shutdown") == [{"stop_fleet": True}]


async def test_drafts_survive_a_change_of_tabs_and_come_back_from_the_backend(console: Maker) -> None:
    app, client = console(live("apollo"), live("athena"))
    client.answers["get_preference"] = lambda p: {
        "value": "kept words" if p["key"] == "draft:athena-ai" else None
    }
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.commands.open_chat("apollo-ai")
        await settle(pilot)
        await pilot.press(*"half a thought")
        app.commands.open_chat("athena-ai")
        await settle(pilot)
        assert app.query_one("#chat-athena-ai", ChatView).query_one(Composer).draft == "kept words"
        app.commands.open_chat("apollo-ai")
        await settle(pilot)
        assert app.query_one("#chat-apollo-ai", ChatView).query_one(Composer).draft == "half a thought"


async def test_filter_hides_rows_and_says_how_many(console: Maker) -> None:
    app, _ = console(live("apollo"))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("slash", *"!stopped")
        await settle(pilot)
        assert app.query_one(FleetGrid).shown_ids == ["apollo-ai"]
        assert "18 hidden by filter" in screen_text(app)
        await pilot.press("escape")
        await settle(pilot)
        assert len(app.query_one(FleetGrid).shown_ids) == 19


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_every_screen_opens_within_three_keys_and_has_help_and_palette_for_its_footer(
    console: Maker, size: tuple[int, int]
) -> None:
    app, _ = console(live("apollo"))
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        for number, name in enumerate(SCREENS, 1):
            await pilot.press("escape", "escape", str(number))
            await settle(pilot)
            assert app.query_one("#panes").current == name  # type: ignore[attr-defined]
            footer = {
                b.binding.description: key_name(b.binding)
                for b in app.screen.active_bindings.values()
                if b.binding.show
            }
            palette = {command[0] for command in system_commands(app)}
            app.open_help()
            await settle(pilot)
            assert isinstance(app.screen, HelpScreen)
            helped = app.screen._content().plain
            await pilot.press("escape")
            await settle(pilot)
            for description in footer:
                if description not in ("Send",):
                    assert description in helped, f"{name}: {description} is not under ?"
                    assert description in palette, f"{name}: {description} is not in the palette"


async def test_a_hidden_conversation_only_buffers_and_is_whole_when_shown(console: Maker) -> None:
    app, client = console(live("apollo"))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.commands.open_chat("apollo-ai")
        await settle(pilot)
        app.show_pane("fleet")
        await settle(pilot)
        client.send(*answer("r1", "apollo-ai", "s-apollo-ai", "q", *[f"w{n} " for n in range(300)]))
        await settle(pilot)
        app.show_pane("chat")
        await settle(pilot, 15)
        assert "w299" in screen_text(app)


async def test_the_header_counts_and_the_link_of_chunks_is_quiet(console: Maker) -> None:
    app, client = console(
        live("apollo", state="busy", phase="streaming", phase_since=NOW, tokens_per_second=48.0)
    )
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        client.send(StreamChunk("unknown", "x", 0))
        await settle(pilot)
        assert "48 tok/s" in app.query_one(HeaderLine).render().plain  # type: ignore[union-attr]


def test_every_binding_has_an_id_so_that_it_can_be_remapped() -> None:
    from tekton_tui.screens import chat, errors, fleet, gateway, pipes, sessions, team, timeline

    for pane in (chat.ChatPane, errors.ErrorsPane, fleet.FleetPane, gateway.GatewayPane, pipes.PipesPane,
                 sessions.SessionsPane, team.TeamPane, timeline.TimelinePane):  # fmt: skip
        for binding in pane.BINDINGS:
            assert binding.id, f"{pane.__name__}: {binding}"  # type: ignore[union-attr]


def test_bindings_of_a_widget_are_its_own() -> None:
    assert bindings_of(TektonApp(lambda: None))  # type: ignore[arg-type, return-value]


async def test_left_and_right_go_through_a_dialogs_buttons_as_they_stand(console: Maker) -> None:
    app, _ = console(live("apollo"))
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("ctrl+q")
        await settle(pilot)
        assert app.focused is not None and app.focused.id == "answer-cancel"
        for key, button in (("left", "stop"), ("left", "leave"), ("right", "stop"), ("tab", "cancel")):
            await pilot.press(key)
            assert app.focused is not None and app.focused.id == f"answer-{button}"
