"""The console as its operator uses it, over a fake client."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any  # noqa: F401

import pytest
from textual.widgets import Button

from backend.client import ConnectionChanged
from backend.schema.attention import AttentionItem
from backend.schema.errors import TektonError
from backend.schema.events import AttentionChanged, ErrorEntry, ProviderChanged, TeamEnd
from backend.schema.frames import StreamChunk, StreamError, StreamPhase
from backend.schema.params import (
    AcknowledgeAttention,
    AcknowledgeErrors,
    Cancel,
    Chat,
    GetPreference,
    Kill,
    Launch,
    PullModel,
    RunPipeline,
    Shutdown,
)
from backend.schema.records import (
    ErrorRecord,
    FleetPlan,
    JobGroup,
    LaunchPlanItem,
    LaunchResult,
    ModelCandidate,
    ProviderChoice,
)
from backend.schema.results import (
    AttentionList,
    CancelResult,
    KillResult,
    LaunchReport,
    Preference,
    PullResult,
    ShutdownResult,
)
from tekton_tui.app import TektonApp
from tekton_tui.screens.dialogs import Dialog
from tekton_tui.screens.registry import SCREENS
from tekton_tui.widgets.chat.chat_view import ChatView
from tekton_tui.widgets.common.header import Header
from tekton_tui.widgets.composer.composer import Composer
from tekton_tui.widgets.fleet.grid import FleetGrid
from tekton_tui.widgets.team.lane import Lane
from tests.tui.conftest import names_shown, settle
from tests.tui.fake_client import NOW, FakeClient, answer, live, row, team

Maker = Callable[..., tuple[TektonApp, FakeClient]]
HOSTILE = "before \x1b]52;c;aGk=\x07 \x1b[2J [@click=app.quit]x[/] [/] \u202eevil"
PLAN = LaunchReport(
    FleetPlan([LaunchPlanItem(f"{n}-ai", n, True, port=1) for n in ("numa", "rhetor", "apollo", "athena")])
)


def screen_text(app: TektonApp) -> str:
    """Return all text on the screen."""
    return "\n".join(
        "".join(segment.text for segment in line) for line in app.screen._compositor.render_strips()
    )


async def test_one_enter_on_an_empty_fleet_starts_those_that_are_ticked(console: Maker) -> None:
    app, client = console()
    client.answers[Launch] = lambda params: PLAN if params.dry_run else LaunchReport()
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        shown = screen_text(app)
        assert "Who should answer?" in shown and all(name in shown for name in ("numa", "rhetor", "athena"))
        await pilot.press("enter")
        await settle(pilot)
        everybody = [item.id for item in PLAN.plan.items] if PLAN.plan is not None else []
        assert client.called(Launch) == [Launch(["starter"], dry_run=True), Launch(everybody)]


async def test_the_plan_says_who_would_start_and_answer_nothing(console: Maker) -> None:
    app, client = console()
    why = "embedded: the weights of the embedded model are missing: run `tekton models fetch`"
    items = [
        LaunchPlanItem("numa-ai", "numa", True, model_problem=why),
        LaunchPlanItem("apollo-ai", "apollo", True),
    ]
    plan = FleetPlan(items, notes=[why])
    client.answers[Launch] = lambda _params: LaunchReport(plan)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("S")
        await settle(pilot)
        text = screen_text(app)
        assert "◐ numa" in text and "● apollo" in text and "weights of the embedded" in text
        assert "2 of 2 can start, only 1 can answer yet" in text
        await pilot.press("escape")
        items[1].model_problem = why
        items.append(
            LaunchPlanItem("athena-ai", "athena", False, problem="runs already", code="already_running")
        )
        await pilot.press("S")
        await settle(pilot)
        assert "2 of 3 can start, none can answer yet" in screen_text(app)
        assert "✓ athena" in screen_text(app) and "✖ athena" not in screen_text(app)


@pytest.mark.parametrize("key", ["enter", "f"])
async def test_missing_weights_are_fetched_from_the_plan_before_the_team_starts(
    console: Maker, key: str
) -> None:
    app, client = console()
    why = "embedded: the weights of the embedded model are missing: run `tekton models fetch`"
    items = [LaunchPlanItem("numa-ai", "numa", True, model_problem=why)]
    other = ModelCandidate("ollama", "qwen3:8b", "", "qwen3:8b", 5, "pulled", usable=True)
    jobs = [JobGroup("review-change", "Review a change", "", ["telos"])]
    plan = FleetPlan(items, notes=[why], candidates=[other], jobs=jobs, missing_weights="SmolLM2")
    client.answers[Launch] = lambda params: LaunchReport(plan if params.dry_run else None)
    client.answers[PullModel] = lambda params: PullResult(params.model, params.provider, True)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("S")
        await settle(pilot)
        assert (
            "f Fetch, launch" in screen_text(app)
            and "Cancel" in screen_text(app)
            and "Launch 1" not in screen_text(app)
        )
        await pilot.press(key)
        await settle(pilot)
        assert client.called(PullModel) == [PullModel("SmolLM2", "embedded")]
        assert client.called(Launch)[1:] == [Launch(["all"], dry_run=True), Launch(["all"])]


@pytest.mark.parametrize("size", [(80, 24), (80, 12)])
async def test_a_plan_for_everybody_keeps_its_sum_and_its_buttons_in_sight(
    console: Maker, size: tuple[int, int]
) -> None:
    app, client = console()
    names = [f"helper{number}" for number in range(40)]
    plan = FleetPlan([LaunchPlanItem(f"{name}-ai", name, True, port=1) for name in names])
    client.answers[Launch] = lambda _params: LaunchReport(plan)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        await pilot.press("S")
        await settle(pilot)
        text = screen_text(app)
        assert "40 of 40 can start" in text and "Launch 40" in text and "Cancel" in text
        assert "helper39" not in text
        await pilot.press(*["down"] * 20)
        await settle(pilot)
        assert "helper39" in screen_text(app) and "Launch 40" in screen_text(app)


async def test_what_waits_for_the_operator_stays_in_the_header_over_a_slow_line_to_elsewhere(
    console: Maker,
) -> None:
    app, client = console(
        live("apollo"), live("athena", state="busy", phase="streaming"), row("ergon", state="exited"),
        row("metis", state="starting"),
    )  # fmt: skip
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        items = [
            AttentionItem(f"budget:{n}", "budget", "ergon-ai", NOW, "near its end", "9 of 10")
            for n in range(13)
        ]
        client.send(AttentionChanged(items, []))
        connection = app.stores.connection
        connection.place, connection.in_clear = "build.example.org", True
        connection.pace = lambda: (3.0, 64_000.0)
        await settle(pilot)
        header = app.query_one(Header)._line()
        assert header.cell_length <= 80 and header.plain.rstrip().endswith("◆ 13 need you")
        assert " no TLS " in header.plain and "slow" in header.plain and "build" in header.plain


async def test_a_model_that_came_up_since_stays_in_the_header_until_it_is_taken(console: Maker) -> None:
    app, client = console(live("apollo"))
    here = ProviderChoice("embedded", "SmolLM2", "Ollama not found", "SmolLM2 135M", stand_in=True)
    there = ModelCandidate("openai", "qwen3", "http://127.0.0.1:1234/v1", "Qwen3", 0, "answers", usable=True)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        client.send(ProviderChanged(here, NOW, there))
        await settle(pilot)
        header = app.query_one(Header)
        assert "SmolLM2 135M stand-in · Qwen3 is there :use" in header._line().plain
        client.send(ProviderChanged(ProviderChoice("openai", "qwen3", "chosen by you", "Qwen3"), NOW))
        await settle(pilot)
        assert "Qwen3 · openai" in header._line().plain


async def test_rows_follow_events_and_keep_the_cause_of_death(console: Maker) -> None:
    app, client = console(live("apollo"))
    async with app.run_test(size=(140, 40)) as pilot:
        await settle(pilot)
        client.changed(
            row("apollo", state="killed", signal=9, since=NOW, cause="killed by SIGKILL from outside")
        )
        await settle(pilot)
        text = screen_text(app)
        assert "killed ·" in text and "killed by SIGKILL from" in text


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
            assert "4.2k in  9.4k out" in text and "today $1.50, €0.250" in text
    app, _ = console(spent)
    async with app.run_test(size=(240, 40)) as pilot:
        await settle(pilot)
        assert "€0.250+" in screen_text(app)


async def test_a_stop_asks_and_says_what_would_be_lost(console: Maker) -> None:
    app, client = console(live("ergon"))
    client.answers[Kill] = KillResult([])
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("x")
        await settle(pilot)
        assert client.called(Kill) == [] and "ergon: loses nothing" in screen_text(app)
        await pilot.press("left", "enter")
        await settle(pilot)
        assert client.called(Kill) == [Kill(["ergon-ai"])]
        client.send(*answer("r1", "ergon-ai", "s", "q", "one ")[:-1])
        await settle(pilot)
        await pilot.press("x")
        await settle(pilot)
        assert isinstance(app.screen, Dialog)
        assert "loses an answer" in screen_text(app)
        assert app.screen.query_one("#answer-cancel", Button).has_focus
        await pilot.press("enter")
        await settle(pilot)
        assert len(client.called(Kill)) == 1


async def test_kill_always_asks_with_cancel_in_focus(console: Maker) -> None:
    app, client = console(live("ergon"))
    client.answers[Kill] = KillResult([LaunchResult("ergon-ai", True)])
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("X")
        await settle(pilot)
        assert app.screen.query_one("#answer-cancel", Button).has_focus
        await pilot.press("left", "enter")
        await settle(pilot)
        assert client.called(Kill) == [Kill(["ergon-ai"], force=True)]


async def test_a_question_streams_into_its_tab_and_keeps_its_footer(console: Maker) -> None:
    app, client = console(live("apollo"))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.commands.navigator.open_chat("apollo-ai")
        await settle(pilot)
        await pilot.press(*"Hi?", "enter")
        await settle(pilot)
        [asked] = client.called(Chat)
        assert (asked.ai_id, asked.content) == ("apollo-ai", "Hi?")
        client.send(*answer(asked.request_id, "apollo-ai", "s-apollo-ai", "Hi?", "Hello ", "**there**"))
        await settle(pilot, 15)
        text = screen_text(app)
        assert "Hello there" in text and "2 tok" in text


async def test_escape_cancels_what_streams_and_the_partial_text_stays(console: Maker) -> None:
    app, client = console(live("apollo"))
    client.answers[Cancel] = lambda params: CancelResult(params.target, True, 1, 12.0)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.commands.navigator.open_chat("apollo-ai")
        await settle(pilot)
        client.send(*answer("r1", "apollo-ai", "s-apollo-ai", "Hi", "partial text")[:-1])
        await settle(pilot)
        await pilot.press("escape")
        await settle(pilot)
        assert client.called(Cancel) == [Cancel("r1")]
        client.send(StreamError("r1", "apollo-ai", "worker_lost", "the worker died", "the worker died"))
        await settle(pilot, 15)
        text = screen_text(app)
        assert "partial text" in text and "its process ended" in text and "the worker died" in text


async def test_a_wait_shows_its_phase_and_clock_not_a_spinner(console: Maker) -> None:
    app, client = console(live("apollo"))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.commands.navigator.open_chat("apollo-ai")
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
        app.navigator.show("team")
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
        assert "2 answered" in text and "1 failed" in text and "✖ no connection to its model" in text


async def test_a_picked_answer_is_what_the_pipe_takes(console: Maker) -> None:
    app, client = console(live("apollo"), live("athena"))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.navigator.show("team")
        await settle(pilot)
        client.send(team("t1", "Q", "apollo", "athena"))
        await settle(pilot)
        for name in ("apollo", "athena"):
            client.send(*answer(f"t1/{name}-ai", f"{name}-ai", "s-team", "", f"exactly {name}", group="t1"))
        await settle(pilot, 12)
        app.query_one("#team-view").focus()
        await pilot.press("right", "p", "left", "vertical_line")
        await settle(pilot)
        await pilot.press(*"numa", "enter")
        await settle(pilot)
        [run] = client.called(RunPipeline)
        assert (run.pipeline, run.input) == ("numa", "exactly athena")


async def test_errors_cannot_be_missed_and_are_acknowledged_by_hand(console: Maker) -> None:
    app, client = console(live("apollo"))
    record = ErrorRecord(
        7, "apollo-ai", "provider_auth", "the key was refused", NOW, NOW, 3, evidence="HTTP 401"
    )
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        item = AttentionItem(
            "error:7", "error", "apollo-ai", NOW, "provider auth", "the key was refused", 3, errors=[7]
        )
        client.send(ErrorEntry(record, 1), AttentionChanged([item], []))
        await settle(pilot)
        assert "Needs you ✖1" in screen_text(app) and "needs you" not in screen_text(app).splitlines()[0]
        await pilot.press("e")
        await settle(pilot)
        text = screen_text(app)
        assert "the key was refused" in text and "HTTP 401" in text and "×3" in text
        client.answers[AcknowledgeAttention] = AttentionList([])
        await pilot.press("a")
        await settle(pilot)
        assert client.called(AcknowledgeAttention) == [AcknowledgeAttention(["error:7"])]


async def test_the_keys_of_the_error_list_work_from_the_first_failure_on_though_it_was_empty(
    console: Maker,
) -> None:
    app, client = console(live("apollo"))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.navigator.show("errors")
        await settle(pilot)
        assert "No errors" in screen_text(app) and app.focused is not None
        client.send(ErrorEntry(ErrorRecord(7, "apollo-ai", "provider_auth", "no", NOW, NOW, 1), 1))
        await settle(pilot)
        await pilot.press("a")
        await settle(pilot)
        assert client.called(AcknowledgeErrors) == [AcknowledgeErrors(ids=[7])]


async def test_a_lost_backend_is_said_and_the_grid_is_greyed(console: Maker) -> None:
    app, client = console(live("apollo"))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        client.send(ConnectionChanged("lost", NOW, "the gateway closed the connection"))
        await settle(pilot)
        assert "backend lost" in screen_text(app) and "F5 starts it here" in screen_text(app)
        assert "the gateway closed the connection" in screen_text(app)
        assert app.query_one("#fleet").has_class("-stale")
        client.send(ConnectionChanged("lost", NOW, "the gateway refused the token (401)"))
        await settle(pilot)
        assert "the gateway refused the token (401)" in screen_text(app)


async def test_a_refusal_of_the_backend_is_a_notice_with_its_words(console: Maker) -> None:
    app, client = console(live("apollo"))
    client.answers[Launch] = TektonError("the AI lifecycle is off [/b] \x1b[2J", code="lifecycle_off")
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("S")
        await settle(pilot, 12)
        [notice] = app._notifications
        assert notice.message.startswith("the AI lifecycle is off [/b] ␛") and not notice.markup


async def test_quit_offers_to_leave_the_fleet_running(console: Maker) -> None:
    app, client = console(live("apollo"))
    client.answers[Shutdown] = ShutdownResult(True, [])
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("ctrl+q")
        await settle(pilot)
        assert "Leave running" in screen_text(app) and app.screen.query_one("#answer-cancel").has_focus
        await pilot.press("escape")
        await settle(pilot)
        assert not isinstance(app.screen, Dialog)
        app.commands.console.quit()
        await settle(pilot)
        await pilot.click("#answer-stop")
        await settle(pilot)
        assert client.called(Shutdown) == [Shutdown(stop_fleet=True)]


async def test_drafts_survive_a_change_of_tabs_and_come_back_from_the_backend(console: Maker) -> None:
    app, client = console(live("apollo"), live("athena"))
    client.answers[GetPreference] = lambda params: Preference(
        params.key, "kept words" if params.key == "draft:athena-ai" else None
    )
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.commands.navigator.open_chat("apollo-ai")
        await settle(pilot)
        await pilot.press(*"half a thought")
        app.commands.navigator.open_chat("athena-ai")
        await settle(pilot)
        assert app.query_one("#chat-athena-ai", ChatView).query_one(Composer).draft == "kept words"
        app.commands.navigator.open_chat("apollo-ai")
        await settle(pilot)
        assert app.query_one("#chat-apollo-ai", ChatView).query_one(Composer).draft == "half a thought"


async def test_filter_hides_rows_and_says_how_many(console: Maker) -> None:
    app, _ = console(live("apollo"))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("slash", *"!stopped")
        await settle(pilot)
        assert names_shown(app) == ["apollo"]
        assert "18 hidden by filter" in screen_text(app)
        await pilot.press("escape")
        await settle(pilot)
        assert len(names_shown(app)) == 19


async def test_a_hidden_conversation_only_buffers_and_is_whole_when_shown(console: Maker) -> None:
    app, client = console(live("apollo"))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.commands.navigator.open_chat("apollo-ai")
        await settle(pilot)
        app.navigator.show("fleet")
        await settle(pilot)
        client.send(*answer("r1", "apollo-ai", "s-apollo-ai", "q", *[f"w{n} " for n in range(300)]))
        await settle(pilot)
        app.navigator.show("chat")
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
        assert "48 tok/s" in app.query_one(Header).render().plain  # type: ignore[union-attr]


def test_every_binding_has_an_id_so_that_it_can_be_remapped() -> None:
    for screen in SCREENS.values():
        pane = getattr(import_module(screen.module), screen.widget)
        for binding in pane.BINDINGS:
            assert binding.id, f"{pane.__name__}: {binding}"


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
