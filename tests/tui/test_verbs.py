"""The table of verbs holds what it says: no key is dead, none means two things, no word hits anybody else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from textual.pilot import Pilot

from backend.schema.errors import TektonError
from backend.schema.params import (
    Chat,
    DeleteSession,
    Discuss,
    GetSpecialist,
    Kill,
    Launch,
    ListPipelines,
    ListSessions,
    Restart,
    RunPipeline,
    SetModel,
    TeamChat,
)
from backend.schema.records import FleetPlan, LaunchPlanItem, RunRecord, StageRecord
from backend.schema.results import LaunchReport, PipelineRuns, SessionList
from tekton_tui.app import TektonApp
from tekton_tui.runtime.input_queue import HARMLESS
from tekton_tui.runtime.keymap import actions
from tekton_tui.screens.registry import SCREENS
from tekton_tui.verbs import BY_WORD, VERBS, verb_of
from tekton_tui.widgets.chat.chat_view import ChatView
from tekton_tui.widgets.common.command_line import CommandLine
from tests.tui.conftest import WRITING, settle
from tests.tui.fake_client import NOW, FakeClient, answer, detail, live, session, team
from tests.tui.test_console import screen_text

Maker = Callable[..., tuple[TektonApp, FakeClient]]
HARMFUL = (Kill, Restart, Chat, TeamChat, Discuss, RunPipeline, DeleteSession, SetModel)


def harm(client: FakeClient) -> list[Any]:
    """Return what was done to the fleet so far."""
    return [
        call
        for call in client.calls
        if isinstance(call, HARMFUL) or (isinstance(call, Launch) and not call.dry_run)
    ]


def test_a_letter_means_one_thing() -> None:
    meanings: dict[str, set[str]] = {}
    for verb in VERBS:
        for key in filter(None, verb.keys.split(",")):
            if len(key) == 1 and verb.name not in HARMLESS:
                meanings.setdefault(key, set()).add(verb.name)
    double = {key: verbs for key, verbs in meanings.items() if len(verbs) > 1}
    assert double == {"q": {"close"}} or not double


@pytest.mark.parametrize("place", sorted({at.place for verb in VERBS for at in verb.places}))
def test_no_key_is_given_twice_at_a_place(place: str) -> None:
    keys = [key for verb in VERBS if verb.at(place) for key in verb.keys.split(",") if key]
    assert len(keys) == len(set(keys))


def test_every_verb_has_an_action_at_each_of_its_places() -> None:
    known = actions()
    for verb in VERBS:
        for at in verb.places:
            if verb.keys:
                widget, _ = known[f"{at.place}.{verb.name}"]
                assert hasattr(widget, f"action_{at.action.partition('(')[0]}"), f"{at.place}.{verb.name}"


class Refusing(dict[Any, Any]):
    """Answers of a backend that refuses what the test has no answer to."""

    def __contains__(self, kind: object) -> bool:
        return True

    def __missing__(self, kind: Any) -> TektonError:
        return TektonError("this backend only pretends", code="invalid_request")


async def fill(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    """Give every screen something its verbs could hit."""
    client.answers = Refusing(client.answers)
    client.answers[ListPipelines] = PipelineRuns([RunRecord("p1", "apollo", [StageRecord("apollo")], NOW)])
    client.answers[ListSessions] = SessionList(1, [session("s1", title="Q", messages=2)])
    client.answers[GetSpecialist] = lambda params: detail(live(params.id.removesuffix("-ai")))
    plan = FleetPlan([LaunchPlanItem("penia-ai", "penia", True)])
    client.answers[Launch] = lambda params: LaunchReport(plan if params.dry_run else None)
    await settle(pilot)
    client.send(*answer("r1", "rhetor-ai", "s-rhetor-ai", "Q", "A"))
    lanes = [
        event
        for name in ("rhetor", "apollo")
        for event in answer(f"t1/{name}-ai", f"{name}-ai", "s", "", "A", group="t1")
    ]
    client.send(team("t1", "Q", "rhetor", "apollo"), *lanes)
    await settle(pilot)


async def leave_overlays(app: TektonApp, pilot: Pilot[Any]) -> None:
    while len(app.screen_stack) > 1:
        app.pop_screen()
        await pilot.pause()


@pytest.mark.parametrize("screen", SCREENS)
async def test_no_key_of_the_table_does_harm_unasked_wherever_it_holds(console: Maker, screen: str) -> None:
    app, client = console(live("rhetor"), live("apollo"))
    async with app.run_test(size=(120, 40)) as pilot:
        await fill(app, client, pilot)
        app.navigator.show(screen)
        await settle(pilot)
        targets = [w for w in app.query_one(f"#{screen}").query("*") if w.focusable and w.region]
        pressed: set[tuple[str, str]] = set()
        for target in targets:
            app.navigator.show(screen)
            target.focus()
            await settle(pilot, 2)
            for key, active in list(app.screen.active_bindings.items()):
                verb = verb_of(active.binding.id)
                place = (active.binding.id or "").partition(".")[0]
                if (
                    verb is None
                    or place in WRITING
                    or verb.name in {*HARMLESS, "quit"}
                    or (key, place) in pressed
                ):
                    continue
                pressed.add((key, place))
                await pilot.press(key)
                await settle(pilot, 2)
                assert harm(client) == [], f"{key} at {place}"
                await leave_overlays(app, pilot)
                if app.focused is not target:
                    app.navigator.show(screen)
                    target.focus()
                    await settle(pilot, 2)
        assert pressed


async def test_no_word_does_harm_unasked_and_each_holds_somewhere_or_says_why(console: Maker) -> None:
    app, client = console(live("rhetor"), live("apollo"))
    async with app.run_test(size=(120, 40)) as pilot:
        await fill(app, client, pilot)
        for screen in ("fleet", "team"):
            for word in BY_WORD:
                app.navigator.show(screen)
                app.query_one(CommandLine)._run(word)
                await settle(pilot, 1)
                assert harm(client) == [], word
                await leave_overlays(app, pilot)


@pytest.mark.parametrize(
    "word", [word for word, verb in BY_WORD.items() if verb.takes in ("who", "names", "who text")]
)
async def test_a_word_with_a_name_hits_whom_it_names(console: Maker, word: str) -> None:
    app, client = console(live("rhetor"), live("apollo"))
    async with app.run_test(size=(120, 40)) as pilot:
        await fill(app, client, pilot)
        app.query_one(CommandLine)._run(f"{word} apollo")
        await settle(pilot)
        assert harm(client) == []
        match BY_WORD[word].name:
            case "open" | "write":
                assert [view.ai_id for view in app.query(ChatView) if view.display] == ["apollo-ai"]
            case "mark":
                assert app.stores.fleet.marked == {"apollo-ai"}
            case "start":
                assert [call.ids for call in client.called(Launch)] == [["apollo-ai"]]
            case "detail":
                assert [call.id for call in client.called(GetSpecialist)] == ["apollo-ai"]
            case _:
                shown = screen_text(app)
                assert app.screen.is_modal and any(
                    "apollo" in line and "╭" in line for line in shown.splitlines()
                )
