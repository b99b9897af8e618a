"""The timeline of a fresh console: what ran before it, then what it saw."""

from __future__ import annotations

from collections.abc import Callable

from backend.schema.history import TurnPhase, TurnRecord
from backend.schema.params import ListTurns
from backend.schema.results import TurnList
from tekton_tui.app import TektonApp
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
        assert found == sorted(found)
