"""The launch plan's keys, and `:use`: another model for all, another group, and the plan made anew."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from textual.widgets import OptionList

from backend.schema.params import Launch, ListCandidates, UseModel
from backend.schema.records import (
    FleetPlan,
    JobGroup,
    LaunchPlanItem,
    ModelCandidate,
    ProviderChoice,
)
from backend.schema.results import CandidateList, LaunchReport
from tekton_tui.app import TektonApp
from tekton_tui.screens.choice import ChoiceScreen
from tekton_tui.screens.dialogs import PlanDialog
from tests.tui.conftest import settle
from tests.tui.fake_client import FakeClient, live
from tests.tui.test_command_line import type_command
from tests.tui.test_console import screen_text
from tests.tui.test_keymap import notices

Maker = Callable[..., tuple[TektonApp, FakeClient]]
NOW = ProviderChoice("embedded", "small", "comes along", "small", stand_in=True)
OLLAMA = ModelCandidate(
    "ollama", "qwen3:8b", "http://127.0.0.1:11434", "qwen3:8b", 5_000_000_000, "it is there", True
)
PAID = ModelCandidate("anthropic", "claude-x", "", "claude-x", 0, "a key is set", usable=True, paid=True)
AWAY = ModelCandidate("vllm", "away", "", "away", 0, "does not answer")
JOBS = [
    JobGroup("writing", "write texts", "", ["apollo"]),
    JobGroup("code", "write code", "", ["ergon", "athena"]),
]


def plan(*names: str, jobs: bool = True) -> LaunchReport:
    items = [LaunchPlanItem(f"{name}-ai", name, True, port=1) for name in names]
    return LaunchReport(
        FleetPlan(
            items, provider=NOW, candidates=[OLLAMA, PAID, AWAY] if jobs else [], jobs=JOBS if jobs else []
        )
    )


def offering(client: FakeClient, *, jobs: bool = True) -> None:
    def launch(params: Launch) -> LaunchReport:
        groups = {
            "starter": ["numa", "apollo"],
            "all": ["numa", "apollo"],
            **{job.name: job.members for job in JOBS},
        }
        return plan(*groups[params.ids[0]], jobs=jobs) if params.dry_run else LaunchReport()

    def use(params: UseModel) -> ProviderChoice:
        return ProviderChoice(params.provider, params.model, "", params.model or "auto")

    client.answers[Launch] = launch
    client.answers[ListCandidates] = CandidateList([OLLAMA, PAID, AWAY], NOW)
    client.answers[UseModel] = use


async def test_m_takes_another_model_and_shows_the_plan_anew(console: Maker) -> None:
    app, client = console()
    offering(client)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("S")
        await settle(pilot)
        assert isinstance(app.screen, PlanDialog) and "m Other model" in screen_text(app)
        await pilot.press("m")
        await settle(pilot)
        assert isinstance(app.screen, ChoiceScreen)
        shown = screen_text(app)
        assert "which model answers" in shown and "qwen3:8b" in shown and "paid" in shown
        assert app.screen.query_one(OptionList).option_count == 3, "what does not answer cannot be taken"
        await pilot.press("down", "enter")
        await settle(pilot)
        assert client.called(UseModel) == [UseModel(provider="ollama", model="qwen3:8b")]
        assert isinstance(app.screen, PlanDialog)
        assert client.called(Launch)[1:] == [Launch(["all"], dry_run=True)] * 2
        await pilot.press("enter")
        await settle(pilot)
        assert client.called(Launch)[3:] == [Launch(["all"])]


async def test_m_asks_before_a_model_that_costs_and_esc_takes_none(console: Maker) -> None:
    app, client = console()
    offering(client)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        for end in ("escape", "enter"):  # the first answer of the question is the one that costs nothing
            await pilot.press("S")
            await settle(pilot)
            await pilot.press("m")
            await settle(pilot)
            await pilot.press("down", "down", "enter")
            await settle(pilot)
            assert "Each question costs money" in screen_text(app)
            await pilot.press(end)
            await settle(pilot)
            assert client.called(UseModel) == [] and len(app.screen_stack) == 1
        assert all(asked.dry_run for asked in client.called(Launch))


async def test_g_plans_another_group_and_launches_that(console: Maker) -> None:
    app, client = console()
    offering(client)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("S")
        await settle(pilot)
        await pilot.press("g")
        await settle(pilot)
        assert isinstance(app.screen, ChoiceScreen)
        shown = screen_text(app)
        assert "for which job" in shown and "write code" in shown and "ergon, athena" in shown
        await pilot.press("down", "down", "enter")
        await settle(pilot)
        assert isinstance(app.screen, PlanDialog) and "ergon" in screen_text(app)
        await pilot.press("enter")
        await settle(pilot)
        asked = [("all", True), ("code", True), ("code", False)]
        assert [(call.ids[0], call.dry_run) for call in client.called(Launch)[1:]] == asked


async def test_where_there_is_no_other_group_g_launches_nothing(console: Maker) -> None:
    app, client = console()
    offering(client, jobs=False)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("S")
        await settle(pilot)
        assert "Other group" not in screen_text(app)
        await pilot.press("g")
        await settle(pilot)
        assert client.called(Launch)[1:] == [Launch(["all"], dry_run=True)]


async def test_of_two_servers_with_the_same_model_the_second_can_be_taken(console: Maker) -> None:
    places = ["http://127.0.0.1:1234/v1", "http://127.0.0.1:8080/v1"]
    both = [ModelCandidate("openai", "gemma", place, "Gemma", 0, place, usable=True) for place in places]
    app, client = console(live("apollo"))
    offering(client)
    client.answers[ListCandidates] = CandidateList(
        both, ProviderChoice("openai", "gemma", "found", "Gemma", places[0])
    )
    async with app.run_test(size=(120, 40)) as pilot:
        await type_command(app, pilot, "use")
        assert screen_text(app).count("answers now") == 1
        await pilot.press("down", "down", "enter")
        await settle(pilot)
        assert client.called(UseModel) == [UseModel("openai", "gemma", places[1])]


@pytest.mark.parametrize(
    ("keys", "taken"),
    [
        (("enter",), [UseModel(provider="auto")]),
        (("down", "enter"), [UseModel(provider="ollama", model="qwen3:8b")]),
        (("escape",), []),
    ],
    ids=["the best", "another", "none"],
)
async def test_use_takes_a_model_for_all(
    console: Maker, keys: tuple[str, ...], taken: list[UseModel]
) -> None:
    app, client = console(live("apollo"))
    offering(client)
    async with app.run_test(size=(120, 40)) as pilot:
        await type_command(app, pilot, "use")
        assert isinstance(app.screen, ChoiceScreen) and app.screen.query_one(OptionList).option_count == 3
        await pilot.press(*keys)
        await settle(pilot)
        assert client.called(UseModel) == taken
        assert ("from the next launch on" in notices(app)) == bool(taken)
        assert client.called(Launch) == []
