"""`I` on a message: the page of what its model was sent."""

from __future__ import annotations

from collections.abc import Callable

from backend.schema.params import GetSent
from backend.schema.sent import SentChange, SentPart, SentReport, SentTurn
from tekton_tui.app import TektonApp
from tekton_tui.screens.text import TextScreen
from tekton_tui.transcript import Transcript
from tests.tui.conftest import settle
from tests.tui.fake_client import FakeClient, answer, live
from tests.tui.test_console import screen_text

Maker = Callable[..., tuple[TektonApp, FakeClient]]
PARTS = [
    SentPart("persona", "You are Apollo, who predicts.", 900, digest="p"),
    SentPart("history", "Which module breaks first?", 9, "user", "you", 1, "a"),
    SentPart("history", "The parser.", 6, "assistant", "apollo-ai", 2, "b"),
    SentPart("prompt", "And then \x1b[31m?", 8, "user", digest="c"),
]
TURN = SentTurn(
    "r2",
    "apollo-ai",
    "s",
    0.0,
    "ollama:qwen3",
    4096,
    950,
    {"effort": "low"},
    PARTS,
    ["12 earlier messages were pruned"],
)
REPORT = SentReport(TURN, TURN.tokens, "r1", [SentChange("prompt", 1, 1, -3, ["-before", "+after"])])


async def test_the_key_shows_parts_with_tokens_what_was_left_out_and_what_is_new(console: Maker) -> None:
    app, client = console(live("apollo"))
    client.answers[GetSent] = REPORT
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        app.commands.navigator.open_chat("apollo-ai")
        await settle(pilot, 10)
        client.send(*answer("r2", "apollo-ai", "s-apollo-ai", "Which module breaks first?", "The parser."))
        await settle(pilot, 10)
        app.query_one(Transcript).focus()
        await pilot.press("up", "I")
        await settle(pilot, 10)
        assert [call for call in client.calls if isinstance(call, GetSent)] == [GetSent(target="r2")]
        assert isinstance(app.screen, TextScreen)
        shown = screen_text(app)
        for words in (
            "Sent to apollo",
            "950 tokens by its provider's count",
            "effort low",
            "2 texts",
            "12 earlier messages",
        ):
            assert words in shown, words
        await pilot.press("end")
        await settle(pilot, 10)
        assert "-before" in screen_text(app) and "+after" in screen_text(app)
        await pilot.press("escape")
        await settle(pilot)
        assert not isinstance(app.screen, TextScreen)
