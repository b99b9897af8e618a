"""How an agent of others is shown: that it needs a login, its plan, and what it changed."""

from __future__ import annotations

from backend.schema.agents import AgentState, FileChange, PlanStep
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
