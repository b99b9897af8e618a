"""A tool call that waits is seen everywhere, answered by one key, and never by accident."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest

from backend.schema.attention import AttentionItem
from backend.schema.events import AskClosed, AskOpened, AttentionChanged
from backend.schema.params import AnswerAsk
from backend.schema.records import SpecialistStatus
from backend.schema.results import AskAnswered
from backend.schema.tools import QUESTION, Ask, AskOption
from tekton_tui.app import TektonApp
from tekton_tui.safe_text import safe_inline
from tekton_tui.screens.ask import AskDialog
from tekton_tui.screens.help import HelpScreen
from tests.tui.conftest import settle
from tests.tui.fake_client import NOW, FakeClient, live, snapshot
from tests.tui.test_console import screen_text

Maker = Callable[..., tuple[TektonApp, FakeClient]]
Press = Callable[..., Awaitable[None]]
"""Presses keys and waits until the console has acted on them."""
ASK = Ask(
    "t-1",
    "apollo-ai",
    "r1",
    "s1",
    "files:write",
    '{"path": "notes/today.md", "text": "one\\u001b]0;x\\u0007two"}',
    NOW,
    NOW + 600,
    always="files:write path=notes/today.md",
    why="Write the changelog line.",
    reason="no rule covers files:write: the default is ask",
)


def answered(params: AnswerAsk) -> AskAnswered:
    return AskAnswered(params.id, "apollo-ai", "files:write", params.answer, "owner over WebSocket")


@asynccontextmanager
async def asking(
    console: Maker,
    *keys: str,
    ask: Ask = ASK,
    rows: tuple[SpecialistStatus, ...] = (live("apollo"),),
    size: tuple[int, int] = (80, 24),
) -> AsyncGenerator[tuple[TektonApp, FakeClient, Press]]:
    """Run a console at which a call waits, by default with its card opened by `e`."""
    app, client = console(*rows)
    client.answers[AnswerAsk] = answered
    async with app.run_test(size=size) as pilot:

        async def press(*pressed: str) -> None:
            await pilot.press(*pressed)
            await settle(pilot)

        await settle(pilot)
        client.send(AskOpened(ask))
        await settle(pilot)
        await press(*(keys or ("e",)))
        yield app, client, press


@pytest.mark.parametrize(
    ("keys", "answer", "always", "words"),
    [
        ("a", "allow", "", ""),
        ("A", "allow", ASK.always, ""),
        ("x", "deny", "", ""),
        ("i n o enter", "deny", "", "no"),
    ],
)
async def test_one_key_goes_to_what_waits_and_one_answers_it(
    console: Maker, keys: str, answer: str, always: str, words: str
) -> None:
    rows = live("apollo", state="busy", phase="waiting", detail="files:write"), live("athena")
    async with asking(console, rows=rows) as (app, client, press):
        assert isinstance(app.screen, AskDialog)
        await press(*keys.split())
        [sent] = client.called(AnswerAsk)
        assert (sent.id, sent.answer, sent.always, sent.words) == ("t-1", answer, always, words)
        client.send(AskClosed("t-1", "apollo-ai", answer, "owner"))
        await press()
        assert not isinstance(app.screen, AskDialog) and app.stores.asks.asks == {}


@pytest.mark.parametrize("size", [(80, 24), (80, 14)])
async def test_a_long_call_is_read_to_its_end_and_its_answers_stay_in_sight(
    console: Maker, size: tuple[int, int]
) -> None:
    arguments = msgspec.json.encode({"path": "/srv/x", "text": "\n".join(f"line {n}" for n in range(60))})
    ask = msgspec.structs.replace(ASK, arguments=arguments.decode())
    async with asking(console, ask=ask, size=size) as (app, client, press):
        assert "line 0" in screen_text(app) and "always means" not in screen_text(app)
        for keys in ([], ["down"] * 30):
            await press(*keys)
            assert all(words in screen_text(app) for words in ("a once", "x no", "esc later"))
        assert "always means" in screen_text(app) and not client.called(AnswerAsk)


@pytest.mark.parametrize("keys", ["enter", "space", "escape", "y"])
async def test_nothing_but_its_keys_allows_a_call(console: Maker, keys: str) -> None:
    async with asking(console) as (app, client, press):
        await press(keys)
        assert client.called(AnswerAsk) == [] and list(app.stores.asks.asks) == ["t-1"]


async def test_keys_typed_before_it_could_be_read_do_not_answer_it(
    console: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AskDialog, "EARLY_S", 3600.0)
    async with asking(console, "e", "a", "A") as (_, client, _press):
        assert client.called(AnswerAsk) == []


async def test_letters_in_the_composer_never_answer_and_tab_goes_to_the_ask(console: Maker) -> None:
    app, client = console(live("apollo"))
    client.answers[AnswerAsk] = answered
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        app.navigator.open_chat("apollo-ai")
        await settle(pilot)
        client.send(AskOpened(ASK))
        await settle(pilot)
        await pilot.press("a", "x", "A")
        await settle(pilot)
        assert client.called(AnswerAsk) == []
        await pilot.press("tab")
        await settle(pilot)
        assert isinstance(app.screen, AskDialog)


async def test_another_operators_answer_closes_the_question(console: Maker) -> None:
    async with asking(console) as (app, client, press):
        client.send(AskClosed("t-1", "apollo-ai", "deny", "alice over HTTP"))
        await press()
        assert not isinstance(app.screen, AskDialog)
        assert any("alice over HTTP" in str(notice.message) for notice in app._notifications)  # pyright: ignore[reportPrivateUsage]


GOES: dict[str, Callable[[TektonApp, FakeClient], object]] = {
    "answered": lambda _, client: client.send(AskClosed("t-1", "apollo-ai", "deny", "alice over HTTP")),
    "gone with a new state": lambda _, client: client.send(snapshot(live("apollo"))),
}


@pytest.mark.parametrize("front", ["", "help"])
@pytest.mark.parametrize("how", GOES)
@pytest.mark.parametrize("opened", ["before", "with it"])
async def test_a_call_that_waits_no_more_is_not_asked_about(
    console: Maker, opened: str, how: str, front: str
) -> None:
    async with asking(console, "1") as (app, client, press):
        if opened == "before":
            app.commands.asks.show(ASK)
            await press()
            assert isinstance(app.screen, AskDialog)
        else:
            GOES[how](app, client)
            app.commands.asks.show(ASK)
        if front:
            app.navigator.open_help()
        if opened == "before":
            await press()
            GOES[how](app, client)
        await press()
        if front:
            assert isinstance(app.screen, HelpScreen)
            await press("escape")
        assert not isinstance(app.screen, AskDialog) and len(app.screen_stack) == 1
        said = "alice over HTTP" if how == "answered" else "the call waits no more"
        assert any(said in str(notice.message) for notice in app._notifications)  # pyright: ignore[reportPrivateUsage]
        assert client.called(AnswerAsk) == []


OFFERED = [
    AskOption("proceed_once", "Yes", "allow_once"),
    AskOption("proceed_always", "Yes, and don't ask again for `make`", "allow_always"),
    AskOption("proceed_user", "Yes, in every project", "allow_always"),
    AskOption("cancel", "No", "reject_once"),
    AskOption("never", "No, \x1b[2Jnever", "reject_always"),
]
AGENTS_ASK = msgspec.structs.replace(ASK, tool="agent:execute", options=OFFERED)
QUESTION_ASK = msgspec.structs.replace(
    ASK,
    tool=QUESTION,
    arguments='{"question": "Which drink?"}',
    options=[
        AskOption("0", "tea", "allow_once"),
        AskOption("1", "coffee", "allow_once"),
        AskOption("decline", "no answer", "reject_once"),
    ],
)


def dialog_text(app: TektonApp) -> str:
    """Return the text of the dialog alone: the place behind it shows the same call."""
    x, y, width, height = app.screen.query_one("#ask").region
    strips = app.screen._compositor.render_strips()[y : y + height]
    return "\n".join(strip.crop(x, x + width).text for strip in strips)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
@pytest.mark.parametrize("way", ["card", "queue"])
@pytest.mark.parametrize(
    ("key", "answer", "option"),
    [("1", "allow", "proceed_once"), ("3", "allow", "proceed_user"), ("4", "deny", "cancel"), ("5", "deny", "never")],
)  # fmt: skip
async def test_the_agents_own_answers_stand_on_the_card_in_its_order_and_a_key_gives_one(
    console: Maker, key: str, answer: str, option: str, way: str, size: tuple[int, int]
) -> None:
    async with asking(console, "escape", ask=AGENTS_ASK, size=size) as (app, client, press):
        client.send(
            AttentionChanged([AttentionItem("asks:t-1", "asks", "apollo-ai", NOW, "asks", "make")], [])
        )
        await press(*(["e"] if way == "card" else ["4", "c"]))
        assert isinstance(app.screen, AskDialog)
        shown = dialog_text(app)
        for _ in range(2):
            await press("down")
            shown += dialog_text(app)
        places = [shown.index(f"{at}  {safe_inline(one.name)}") for at, one in enumerate(OFFERED, 1)]
        assert places == sorted(places) and "\x1b" not in shown
        assert "allow always" in shown
        await press("7")  # there is no such answer
        assert client.called(AnswerAsk) == []
        await press(key)
        [sent] = client.called(AnswerAsk)
        assert (sent.id, sent.answer, sent.always, sent.option) == ("t-1", answer, "", option)


async def test_a_question_of_an_agents_is_answered_by_its_own_answers_alone(console: Maker) -> None:
    async with asking(console, ask=QUESTION_ASK) as (app, client, press):
        shown = screen_text(app)
        assert "asks you a question" in shown and "a once" not in shown and "always means" not in shown
        await press("a", "A")
        assert client.called(AnswerAsk) == []
        await press("2")
        [sent] = client.called(AnswerAsk)
        assert (sent.answer, sent.option) == ("allow", "1")
