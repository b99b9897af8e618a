"""The form of an empty fleet: what it shows, what each key takes, and what Enter starts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace
from textual.events import Paste
from textual.pilot import Pilot

from backend.schema.params import Chat, Launch, PullModel, UseModel
from backend.schema.records import (
    FIRST_QUESTIONS,
    FleetPlan,
    JobGroup,
    LaunchPlanItem,
    LaunchResult,
    ModelCandidate,
    ProviderChoice,
)
from backend.schema.results import LaunchReport, PullResult
from tekton_tui.app import TektonApp
from tekton_tui.screens.choice import ChoiceScreen
from tekton_tui.screens.dialogs import Dialog
from tekton_tui.widgets.composer.composer import Composer
from tekton_tui.widgets.fleet.first_run import FirstRun
from tekton_tui.widgets.fleet.grid import FleetGrid
from tests.tui.conftest import settle
from tests.tui.fake_client import EMBEDDED, STARTER, FakeClient, answer, live, row
from tests.tui.test_console import screen_text
from tests.tui.test_keymap import notices

Maker = Callable[..., tuple[TektonApp, FakeClient]]
QWEN = ModelCandidate(
    "ollama", "qwen3:30b", "http://127.0.0.1:11434", "Qwen3 30B", 19_000_000_000,
    "Ollama answers at http://127.0.0.1:11434: pulled", usable=True, fits=True, abilities=["tools"],
)  # fmt: skip
LOCAL = ModelCandidate(
    "openai", "gemma3-12b", "http://127.0.0.1:8080/v1", "gemma3-12b", 0,
    "llama.cpp answers at http://127.0.0.1:8080/v1", usable=True,
)  # fmt: skip
CLAUDE = ModelCandidate("anthropic", "claude-x", "", "Claude X", 0, "a key for Anthropic is set", True, True)
STAND_IN = ModelCandidate(
    "embedded", EMBEDDED.model, "", "SmolLM2 135M", 93_000_000, "comes with tekton", True, stand_in=True
)
AWAY = ModelCandidate("ollama", "qwen3:8b", "", "Qwen3 8B", 0, "Ollama not found")
ADVICE = "stop that program or give the specialist another port"
JOB = JobGroup("review-change", "Review a change", "", ["telos", "synthesis"])


def offering(client: FakeClient, *candidates: ModelCandidate, broken: str = "") -> None:
    """Answer plans and launches: the starter team, and the job's."""

    def launch(params: Launch) -> LaunchReport:
        if not params.dry_run:
            return LaunchReport(results=[LaunchResult(ai_id, True) for ai_id in params.ids])
        names = JOB.members if params.ids == [JOB.name] else STARTER
        items = [
            LaunchPlanItem(f"{name}-ai", name, name != broken, short=row(name).short,
                           problem=f"port 45012 is held by nginx (pid 812); {ADVICE}" if name == broken else "")
            for name in names
        ]  # fmt: skip
        plan = FleetPlan(items, 1 << 30, 20 << 30, candidates=list(candidates), jobs=[JOB])
        return LaunchReport(plan)

    client.answers[Launch] = launch
    client.answers[UseModel] = lambda params: ProviderChoice(params.provider, params.model)


def launched(client: FakeClient) -> list[list[str]]:
    return [call.ids for call in client.called(Launch) if not call.dry_run]


async def press(pilot: Pilot[Any], *keys: str) -> None:
    await pilot.press(*keys)
    await settle(pilot)


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (40, 10), (200, 60)])
async def test_every_model_is_one_row_with_where_it_is_and_why_and_every_member_has_its_role(
    console: Maker, size: tuple[int, int]
) -> None:
    app, client = console()
    offering(client, QWEN, LOCAL, CLAUDE, STAND_IN, AWAY)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        rows = screen_text(app).splitlines()
        assert all(len(line) == size[0] for line in rows)
        if size[0] < 80:
            assert any("⏎" in line for line in rows), "what Enter does is always said"
            return
        for words in (
            ("○ Qwen3 30B", "Ollama :11434", "19 GB · fits in memory · tools"),
            ("○ gemma3-12b", "llama.cpp :8080"),
            ("○ Claude X", "a key is set", "paid by token"),
            ("◉ SmolLM2 135M", "comes with tekton", "stand-in: it talks, it knows nothing"),
            ("Qwen3 8B", "Ollama not found", "ollama pull qwen3:8b"),
            ("✓ apollo", "executive", "Coordinates specialists"),
            ("✓ athena", "knowledge"),
        ):
            assert sum(all(word in line for word in words) for line in rows) == 1, words


async def test_why_a_member_cannot_be_started_is_read_to_its_end(console: Maker) -> None:
    app, client = console()
    offering(client, STAND_IN, broken="apollo")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        text = " ".join(screen_text(app).split())
        assert f"✖ apollo port 45012 is held by nginx (pid 812); {ADVICE}" in text


async def test_of_many_models_some_are_shown_and_the_team_stays_in_sight(console: Maker) -> None:
    app, client = console()
    many = [replace(LOCAL, model=f"model-{at}", display=f"model-{at}") for at in range(5_000)]
    offering(client, *many, STAND_IN)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        text = screen_text(app)
        assert "model-5" in text and "model-6" not in text and "and 4,994 more: F4" in text
        assert "◉ SmolLM2 135M" in text and "✓ apollo" in text
        await press(pilot, "up", "enter")
        assert "start the four with model-5" in screen_text(app)


async def test_enter_starts_the_ticked_and_leaves_the_first_question_unsent_in_the_composer(
    console: Maker,
) -> None:
    app, client = console()
    offering(client, STAND_IN)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        who, words = FIRST_QUESTIONS[0]
        assert words in screen_text(app)
        await press(pilot, "down", "down", "space", "enter")  # the second member stays away
        assert launched(client) == [["numa-ai", "apollo-ai", "athena-ai"]]
        await settle(pilot, 20)
        composer = app.query_one(f"#chat-{who}-ai Composer", Composer)
        assert composer.draft == words and composer.has_focus_within
        assert not [call for call in client.calls if type(call).__name__ == "Chat"], "it is not sent"
        assert "UseModel" not in {type(call).__name__ for call in client.calls}, "it answers already"


async def test_enter_on_another_model_takes_it_first_and_walking_past_takes_none(console: Maker) -> None:
    app, client = console()
    offering(client, QWEN, STAND_IN)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "up")
        assert "take Qwen3 30B, then start" in screen_text(app)
        await press(pilot, "down", "down")
        assert "start the four with SmolLM2 135M" in screen_text(app)
        await press(pilot, "up", "up", "enter")
        assert launched(client) == [] and client.called(UseModel) == []
        assert "start the four with Qwen3 30B" in screen_text(app)
        await press(pilot, "enter")
        assert client.called(UseModel) == [UseModel(provider="ollama", model="qwen3:30b")]
        assert len(launched(client)) == 1


async def test_a_paid_model_is_asked_about_before_anything_starts(console: Maker) -> None:
    app, client = console()
    offering(client, CLAUDE, STAND_IN)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "up", "enter", "enter")
        assert isinstance(app.screen, Dialog) and "Each question costs money" in screen_text(app)
        await press(pilot, "escape")
        assert launched(client) == [] and client.called(UseModel) == []


async def test_what_cannot_start_says_why_and_is_not_started(console: Maker) -> None:
    app, client = console()
    offering(client, STAND_IN, broken="apollo")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        assert "✖ apollo" in screen_text(app) and "held by nginx (pid 812)" in screen_text(app)
        await press(pilot, "down", "down", "down", "space", "enter")
        assert launched(client) == [["numa-ai", "rhetor-ai", "athena-ai"]]


async def test_another_job_is_another_team_and_tab_another_question(console: Maker) -> None:
    app, client = console()
    offering(client, QWEN, STAND_IN)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        before = screen_text(app)
        await press(pilot, "tab")
        assert FIRST_QUESTIONS[1][1] in screen_text(app) and FIRST_QUESTIONS[1][1] not in before
        await press(pilot, "O")
        assert isinstance(app.screen, ChoiceScreen)
        await press(pilot, "down", "enter")
        shown = screen_text(app)
        assert "review a change" in shown and "✓ telos" in shown and "start the two with" in shown
        await press(pilot, "enter")
        assert launched(client) == [["telos-ai", "synthesis-ai"]]


async def test_nobody_ticked_starts_nothing_and_says_what_to_do(console: Maker) -> None:
    app, client = console()
    offering(client, STAND_IN)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, *("down", "space") * 4)
        assert "Tick somebody" in screen_text(app)
        await press(pilot, "enter")
        assert launched(client) == [] and "nobody is ticked" in notices(app)


async def test_esc_shows_the_grid_enter_there_the_form_and_who_starts_ends_it(console: Maker) -> None:
    app, client = console()
    offering(client, STAND_IN)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        assert isinstance(app.focused, FirstRun)
        await press(pilot, "escape")
        assert isinstance(app.focused, FleetGrid) and "Who should answer?" not in screen_text(app)
        await press(pilot, "enter")
        assert isinstance(app.focused, FirstRun)
        client.changed(live("apollo"))
        await settle(pilot)
        assert isinstance(app.focused, FleetGrid) and "● apollo" in screen_text(app)
        client.changed(row("apollo"))
        await settle(pilot)
        assert "Who should answer?" not in screen_text(app), "who has been started once is known"


async def test_text_and_keys_of_the_grid_do_not_reach_rows_nobody_sees(console: Maker) -> None:
    app, client = console()
    offering(client, STAND_IN)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "x", "X", "m", "l", "y", "p", "d")
        assert len(app.screen_stack) == 1 and app._notifications is not None and notices(app) == ""
        assert isinstance(app.focused, FirstRun)


async def test_the_mouse_takes_ticks_and_starts(console: Maker) -> None:
    app, client = console()
    offering(client, QWEN, STAND_IN)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)

        async def click(words: str) -> None:
            rows = screen_text(app).splitlines()
            y = next(at for at, line in enumerate(rows) if words in line)
            await pilot.click(offset=(rows[y].index(words) + 1, y))
            await settle(pilot)

        await click("○ Qwen3")
        await click("✓ rhetor")
        await click("start the three with Qwen3")
        assert client.called(UseModel) == [UseModel(provider="ollama", model="qwen3:30b")]
        assert launched(client) == [["numa-ai", "apollo-ai", "athena-ai"]]


async def test_missing_weights_are_fetched_before_the_team_starts(console: Maker) -> None:
    app, client = console()
    items = [LaunchPlanItem("numa-ai", "numa", True, model_problem="the weights are missing")]
    away = replace(STAND_IN, usable=False, why="the weights are missing")
    plan = FleetPlan(items, candidates=[away], missing_weights="SmolLM2")
    client.answers[Launch] = lambda params: LaunchReport(plan if params.dry_run else None)
    client.answers[PullModel] = lambda params: PullResult(params.model, params.provider, True)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        assert "fetch the model (93 MB), then start numa" in screen_text(app)
        await press(pilot, "enter")
        assert client.called(PullModel) == [PullModel("SmolLM2", "embedded")]
        assert launched(client) == [["numa-ai"]]


@pytest.mark.parametrize("pasted", ["Name one risk\nof [b]this[/b] plan", "x" * 5_000])
async def test_what_is_pasted_on_the_form_is_the_first_question_and_hides_nobody(
    console: Maker, pasted: str
) -> None:
    app, client = console()
    offering(client, STAND_IN)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        app.post_message(Paste(pasted))
        await settle(pilot)
        shown = screen_text(app)
        assert isinstance(app.focused, FirstRun) and "Who should answer?" in shown
        assert f"“{pasted[:12]}" in shown and "tab another" in shown, (
            "its beginning, and what else could be asked"
        )
        await press(pilot, "tab")
        assert FIRST_QUESTIONS[0][1] in screen_text(app)
        await press(pilot, *["tab"] * len(FIRST_QUESTIONS))
        assert f"“{pasted[:12]}" in screen_text(app), "it comes round again"
        await press(pilot, "enter")
        client.changed(live("numa"))
        await settle(pilot, 5)
        assert app.screen.query_one(Composer).draft == pasted and client.called(Chat) == [], "not sent"
        await press(pilot, "escape", "1")
        assert "hidden by filter" not in screen_text(app)


async def test_what_was_written_before_it_was_known_that_nobody_runs_says_what_makes_it_the_first_question(
    console: Maker,
) -> None:
    app, client = console()
    offering(client, STAND_IN)
    client.late = True
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        app.post_message(Paste("hello there"))
        await settle(pilot)
        client.send(client.first)
        await settle(pilot)
        shown = screen_text(app)
        assert (
            "Nobody fits “hello there”." in shown
            and "⏎ makes it your first question, esc clears it." in shown
        )
        await press(pilot, "enter")
        assert isinstance(app.focused, FirstRun) and "numa: “hello there”" in screen_text(app)


async def test_a_filter_set_before_the_form_is_seen_and_cleared_after_it(console: Maker) -> None:
    app, client = console()
    offering(client, STAND_IN)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "slash", *"zzz", "enter")
        shown = screen_text(app)
        assert "Nobody fits “zzz”." in shown and "esc clears the filter" in shown
        await press(pilot, "enter")
        assert isinstance(app.focused, FirstRun)
        client.changed(live("numa"))
        await settle(pilot)
        assert "Nobody fits “zzz”." in screen_text(app), "it still hides who has started"
        await press(pilot, "escape")
        assert "● numa" in screen_text(app) and "Nobody fits" not in screen_text(app)


async def test_after_the_first_answer_it_is_said_once_how_all_are_asked(console: Maker) -> None:
    app, client = console()
    offering(client, STAND_IN)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "enter")
        client.changed(live("numa"))
        client.changed(live("apollo"))
        await settle(pilot)
        client.send(*answer("t0", "apollo-ai", "s", "", "somebody else's"))
        await settle(pilot)
        assert "at once" not in notices(app)
        client.send(*answer("t1", "numa-ai", "s", "Who runs?", "Two run."))
        await settle(pilot)
        assert notices(app).count("3: ask all 2 at once") == 1
        client.send(*answer("t2", "numa-ai", "s", "Who runs?", "Two run."))
        await settle(pilot)
        assert notices(app).count("3: ask all 2 at once") == 1


async def test_enter_pressed_twice_starts_the_team_and_asks_nothing_about_others(console: Maker) -> None:
    app, client = console()
    offering(client, STAND_IN)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        plan = client.answers[Launch](Launch(["starter"], dry_run=True))
        client.answers[Launch] = lambda params: (
            plan if params.dry_run else LaunchReport()
        )  # nobody is ready yet
        await press(pilot, "enter")
        client.changed(row("numa", state="starting"))
        await settle(pilot)
        await press(pilot, "enter", "enter")
        assert len(app.screen_stack) == 1 and "numa is starting" in notices(app)
        assert launched(client) == [[f"{name}-ai" for name in STARTER]]
