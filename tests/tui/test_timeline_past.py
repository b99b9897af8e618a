"""The timeline of a fresh console: what ran before it, then what it saw."""

from __future__ import annotations

from collections.abc import Callable

from backend.schema.history import TurnPhase, TurnRecord
from backend.schema.params import ListTurns
from backend.schema.results import TurnList
from tekton_tui.app import TektonApp
from tekton_tui.runtime.themes import LIGHT_NAME
from tekton_tui.stores import Line
from tekton_tui.widgets.common.line_view import NewestFirst
from tests.tui.conftest import settle
from tests.tui.fake_client import NOW, FakeClient, answer, live
from tests.tui.test_console import screen_text


async def test_turns_of_the_backends_log_stand_before_what_this_console_saw(
    console: Callable[..., tuple[TektonApp, FakeClient]],
) -> None:
    app, client = console(live("apollo"))
    phases = [TurnPhase("queued", NOW - 90)]
    client.answers[ListTurns] = TurnList(
        [
            TurnRecord(
                "r0", "apollo-ai", "s", "What broke at night?", NOW - 90, NOW - 80, phases, tokens_out=41
            ),
            TurnRecord("r9", "athena-ai", "s", "And who saw it?", NOW - 70, NOW - 60, phases, code="timeout"),
        ],
        NOW - 900,
    )
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        client.send(*answer("r1", "apollo-ai", "s", "And now?", "Nothing."))
        await settle(pilot)
        await pilot.press("5")
        await settle(pilot)
        text = screen_text(app).partition("Events")[2]
        found = [
            text.index(words)
            for words in (
                "What broke at night?",
                "answered 41 tok in 10.0 s",
                "timeout after 10.0 s",
                "And now?",
            )
        ]
        assert found == sorted(found, reverse=True), "the newest stands first"


async def test_turns_that_ran_in_a_gap_of_the_connection_stand_where_their_time_belongs(
    console: Callable[..., tuple[TektonApp, FakeClient]],
) -> None:
    app, client = console(live("apollo"))
    seen = TurnRecord("r1", "apollo-ai", "s", "First?", NOW - 90, NOW - 80, [TurnPhase("queued", NOW - 90)])
    missed = TurnRecord(
        "r2", "athena-ai", "s", "Missed?", NOW - 60, NOW - 50, [TurnPhase("queued", NOW - 60)]
    )
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("5")
        app.stores.timeline.add(
            Line(NOW - 100, "lifecycle", "apollo", "ready"), Line(NOW - 10, "lifecycle", "apollo", "busy")
        )
        client.answers[ListTurns] = TurnList([seen], NOW - 900)
        client.send(client.first)
        await settle(pilot)
        client.answers[ListTurns] = TurnList([seen, missed], NOW - 900)
        client.send(client.first)
        await settle(pilot)
        text = screen_text(app).partition("Events")[2]
        found = [text.index(words) for words in ("busy", "Missed?", "First?", "ready")]
        assert found == sorted(found) and text.count("Missed?") == text.count("First?") == 1


async def test_the_newest_line_is_in_sight_and_who_reads_further_down_is_left_there(
    console: Callable[..., tuple[TektonApp, FakeClient]],
) -> None:
    app, client = console(live("apollo"))
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("5")

        async def happens(at: int) -> list[str]:
            client.send(*answer(f"r{at}", "apollo-ai", "s", f"Question {at}?", "Yes."))
            await settle(pilot)
            return screen_text(app).partition("Events")[2].splitlines()[1:]

        rows = [await happens(at) for at in range(20)][-1]
        assert "answered" in rows[0] and "Question 19?" in rows[1]
        view = app.query_one(NewestFirst)
        view.focus()
        await pilot.press("down", "down", "down")
        await settle(pilot)
        rows = screen_text(app).partition("Events")[2].splitlines()[1:]
        assert "Question 18?" in rows[0] and (await happens(20))[0] == rows[0], "it stays where it was read"
        app.commands.console.set_preference("theme", LIGHT_NAME)
        await settle(pilot)
        assert screen_text(app).partition("Events")[2].splitlines()[1] == rows[0], "in other colours too"
        await pilot.press("g")
        await settle(pilot)
        assert "Question 20?" in (await happens(21))[3] and "Question 21?" in screen_text(app)
        await pilot.press("G")
        await settle(pilot)
        assert "Question 0?" in screen_text(app)
