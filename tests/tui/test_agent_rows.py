"""How an external agent is shown: its login, its plan, what it changed; its commands behind `/`, and its options."""

from __future__ import annotations

import msgspec
import pytest

from backend.schema.agents import AgentChoice, AgentOption, AgentState, FileChange, PlanStep
from backend.schema.events import SpecialistEvent
from backend.schema.params import Chat, SetAgentOption
from backend.schema.results import AgentOptionSet, Started
from tekton_tui.widgets.composer.composer import Composer
from tekton_tui.widgets.fleet.grid import FleetGrid
from tests.tui.conftest import settle
from tests.tui.fake_client import NOW, live
from tests.tui.test_console import screen_text
from tests.tui.test_fleet_screen import Maker

PLAN = [
    PlanStep("read the tests", "completed"),
    PlanStep("mend the checkout", "in_progress"),
    PlanStep("run"),
]
READY = AgentState(
    "ready", "opencode", "1.18", "/home/me/shop", mode="build", plan=PLAN,
    changes=[FileChange("/home/me/shop/cart.py", 12, 3)],
)  # fmt: skip
LOGIN = AgentState(
    "login", "opencode", "1.18", "/home/me/shop", ["opencode: run `opencode auth login` in a terminal"]
)


async def test_an_agent_at_work_shows_its_plan_and_what_it_changed(console: Maker) -> None:
    work = {"state": "busy", "phase": "tool", "phase_since": NOW, "detail": "Run make test", "queue": 1}
    app, _ = console(live("apollo", agent=READY, transport="acp", **work))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.query_one(FleetGrid).go_to("apollo-ai")
        await settle(pilot)
        text = screen_text(app)
        assert "plan 1/3 · " in text and "tool " in text
        assert "1/3  mend the checkout" in text and "cart.py +12 −3" in text
        assert "opencode 1.18 · mode build · /home/me/shop" in text


async def test_a_login_that_is_needed_is_the_state_and_says_how(console: Maker) -> None:
    app, _ = console(live("apollo", agent=LOGIN, transport="acp", detail="needs login"))
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        app.query_one(FleetGrid).go_to("apollo-ai")
        await settle(pilot)
        text = screen_text(app)
        assert "needs login" in text and "opencode auth login" in text


COMMANDS = msgspec.structs.replace(
    READY,
    commands=[
        AgentChoice("review", "review", "look at what changed"),
        AgentChoice("git:commit", "git:commit"),
        AgentChoice("effort", "effort", "its own effort"),
    ],
    modes=[AgentChoice("build", "Build"), AgentChoice("plan", "Plan")],
    options=[AgentOption("terse", "Terse", False)],
)


@pytest.mark.parametrize(
    ("typed", "sent"),
    [
        ("/review the cart", "/review the cart"),
        ("/git:commit", "/git:commit"),
        ("//effort max", "/effort max"),
        ("//unheard of", "/unheard of"),
        ("//review", "/review"),
    ],
)
async def test_a_command_of_the_agents_goes_to_it_as_text(console: Maker, typed: str, sent: str) -> None:
    app, client = console(live("apollo", agent=COMMANDS, transport="acp"))
    client.answers[Chat] = lambda params: Started("r1", ai_id=params.ai_id)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        app.navigator.open_chat("apollo-ai")
        await settle(pilot)
        app.query_one(Composer).draft = typed
        app.query_one(Composer).send()
        await settle(pilot)
        assert [call.content for call in client.called(Chat)] == [sent]


@pytest.mark.parametrize("typed", ["/effort high", "/unheard of", "/attach nowhere.txt"])
async def test_our_own_commands_win_and_an_unknown_one_is_not_sent(console: Maker, typed: str) -> None:
    app, client = console(live("apollo", agent=COMMANDS, transport="acp"))
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        app.navigator.open_chat("apollo-ai")
        await settle(pilot)
        composer = app.query_one(Composer)
        composer.draft = typed
        composer.send()
        await settle(pilot)
        assert client.called(Chat) == []
        if typed == "/effort high":
            assert "effort high" in screen_text(app)
        else:
            assert composer.draft == typed
        if typed == "/unheard of":
            said = [notice.message for notice in app._notifications]  # pyright: ignore[reportPrivateUsage]
            assert any("//unheard of sends it as it is" in one for one in said)


async def test_the_agents_commands_complete_behind_the_slash_beside_ours(console: Maker) -> None:
    app, client = console(live("apollo", agent=READY, transport="acp"))
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        app.navigator.open_chat("apollo-ai")
        await settle(pilot)
        client.send(SpecialistEvent(live("apollo", agent=COMMANDS, transport="acp"), NOW))
        await settle(pilot)
        await pilot.press("slash", "e", "f", "f")
        await settle(pilot)
        shown = screen_text(app)
        assert "/effort" in shown and "//effort" in shown, "ours, and how to reach the agent's"
        await pilot.press(*["backspace"] * 3, "r", "e", "v", "tab")
        await settle(pilot)
        assert app.query_one(Composer).draft == "/review "


async def test_its_options_are_chosen_from_what_it_has(console: Maker) -> None:
    app, client = console(live("apollo", agent=COMMANDS, transport="acp"))
    client.answers[SetAgentOption] = lambda params: AgentOptionSet(params.id, params.option, params.value)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        app.navigator.open_chat("apollo-ai")
        await settle(pilot)
        app.query_one(Composer).draft = "/options"
        app.query_one(Composer).send()
        await settle(pilot)
        assert "Mode" in screen_text(app) and "build" in screen_text(app) and "Terse" in screen_text(app)
        await pilot.press("enter")
        await settle(pilot)
        await pilot.press("down", "enter")
        await settle(pilot)
        [call] = client.called(SetAgentOption)
        assert (call.id, call.option, call.value) == ("apollo-ai", "mode", "plan")
