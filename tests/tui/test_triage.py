"""Tool calls are answered in the place of what waits: by keys on a terminal, several at once, and with two operators."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable

import pytest

from backend.schema.events import AskClosed, AttentionChanged
from backend.schema.params import AnswerAsk
from tekton_tui.app import TektonApp
from tekton_tui.screens.ask import AskDialog
from tests.tui.conftest import settle
from tests.tui.fake_client import FakeClient, live
from tests.tui.pty_asks import asks, item
from tests.tui.terminal import Terminal
from tests.tui.test_asks import answered
from tests.tui.test_console import screen_text

Maker = Callable[..., tuple[TektonApp, FakeClient]]
READS_S = 0.7
"""How long the operator reads a card before a key: longer than a card that comes by itself takes no keys."""
CARD = "asks to call a tool"


class Triage(Terminal):
    """A console with eighteen calls that wait, and the answers given so far."""

    def __init__(self) -> None:
        self._answers, end = os.pipe()
        os.set_blocking(self._answers, False)
        super().__init__(
            [sys.executable, "-m", "tests.tui.pty_asks"],
            size=(80, 24),
            env={"CALLS_FD": str(end)},
            pass_fds=[end],
        )
        os.close(end)
        self.given: dict[str, str] = {}
        self.wait_for("apollo")

    def answers(self) -> dict[str, str]:
        """Return the answers so far by the id of the ask, each with the rule it makes."""
        try:
            lines = os.read(self._answers, 1_000_000).decode().splitlines()
        except BlockingIOError:
            lines = []
        for line in lines:
            name, answer, always = line.split(" ", 2)
            assert name not in self.given, f"{name} was answered twice"
            self.given[name] = f"{answer} {always}".strip()
        return self.given


def test_an_operator_answers_eighteen_mixed_calls_by_keys_with_one_look_at_each() -> None:
    """He reads the card: secrets are denied, notes are written, fetches are allowed for good, commands all at once."""
    with Triage() as console:
        console.type("4")
        console.wait_for(CARD)
        count = looks = 0
        while count < 15:  # an answer is sent a moment after it was given
            console.drain(READS_S)
            looks += 1
            card = console.text.partition(CARD)[2].partition("╰")[0]  # without the notice below
            key = (
                "n" if "shell:run" in card else "x" if ".ssh" in card else "A" if "web:fetch" in card else "a"
            )
            console.type(key)
            if key == "n":
                console.wait_for(
                    lambda text, card=card: text.partition(CARD)[2].partition("╰")[0] != card, "the next call"
                )
                continue
            count += 1
            console.wait_for(lambda text, left=18 - count: f"Open {left} " in text, "the next call")
        console.type("g")
        console.drain(0.05)
        for _ in range(3):  # what is left are commands, which are alike
            console.type(" ")
            console.drain(0.05)
        console.wait_for("3 calls of shell:run")
        console.type("a")
        console.wait_for(lambda _: len(console.answers()) == 18, "eighteen answers")
    wanted = {ask.id: ask for ask in asks()}
    for name, answer in console.given.items():
        tool, arguments = wanted[name].tool, wanted[name].arguments
        rule = f"allow {wanted[name].always}" if tool == "web:fetch" else "allow"
        assert answer == ("deny" if ".ssh" in arguments else rule), (name, arguments)
    assert looks <= 18, "a call came back that had been looked at"


async def test_the_card_shows_exact_arguments_a_diff_what_waits_behind_and_what_always_means(
    console: Maker,
) -> None:
    app, client = console(live("apollo", state="busy", phase="waiting", queue=3))
    waiting = [ask for ask in asks() if ask.ai_id == "apollo-ai"]
    write = next(ask for ask in waiting if ask.diff)
    write.why = "Bring it up to date."
    client.first.asks, client.first.attention = [write], [item(write)]
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("4")
        await settle(pilot)
        text = screen_text(app)
        for words in ("files:write", "/srv/notes.md", "1 - one", "1 + two", "behind it 2 questions", "in answer to",
                      "always means  allow files:write path=/srv", "for apollo"):  # fmt: skip
            assert words in text, (words, text)


@pytest.mark.parametrize(("key", "answer"), [("a", "allow"), ("x", "deny"), ("A", "allow")])
async def test_calls_that_are_alike_are_answered_together_and_others_cannot_be_marked(
    console: Maker, key: str, answer: str
) -> None:
    app, client = console(live("apollo"), live("athena"), live("rhetor"))
    client.answers[AnswerAsk] = answered
    waiting = asks()
    client.first.asks, client.first.attention = waiting, [item(ask) for ask in waiting]
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("4", "space", "space", "space")
        await settle(pilot)
        assert "2 calls of web:fetch, answered together" in screen_text(app)
        assert any("only calls of one tool" in str(one.message) for one in app._notifications)  # pyright: ignore[reportPrivateUsage]
        await pilot.press(key)
        await settle(pilot)
        sent = client.called(AnswerAsk)
        assert [(one.id, one.answer) for one in sent] == [("t-00", answer), ("t-01", answer)]
        assert [one.always for one in sent] == (
            [waiting[0].always, waiting[1].always] if key == "A" else ["", ""]
        )


async def test_who_is_second_sees_who_was_first_and_the_next_call_is_not_answered_in_its_place(
    console: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, client = console(live("apollo"), live("athena"))
    client.answers[AnswerAsk] = answered
    waiting = asks()[:2]
    client.first.asks, client.first.attention = waiting, [item(ask) for ask in waiting]
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("4")
        await settle(pilot)
        monkeypatch.setattr(AskDialog, "EARLY_S", 3600.0)
        client.send(AskClosed("t-00", "apollo-ai", "deny", "alice over HTTP"))
        client.send(AttentionChanged([], ["asks:t-00"]))
        await settle(pilot)
        await pilot.press("a")
        await settle(pilot)
        notices = " ".join(str(one.message) for one in app._notifications)  # pyright: ignore[reportPrivateUsage]
        assert "apollo: denied by alice over HTTP" in notices and "press again" in screen_text(app)
        assert client.called(AnswerAsk) == [] and "t-01" in app.stores.asks.asks


async def test_a_call_is_denied_with_a_word_for_the_model(console: Maker) -> None:
    app, client = console(live("apollo"))
    client.answers[AnswerAsk] = answered
    client.first.asks, client.first.attention = asks()[:1], [item(asks()[0])]
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("4", "i")
        await settle(pilot)
        await pilot.press(*"not now", "enter")
        await settle(pilot)
        [sent] = client.called(AnswerAsk)
        assert (sent.answer, re.sub(r"\s", "", sent.words)) == ("deny", "notnow")
