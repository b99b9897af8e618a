"""What is read for the screen, with answers that come late, out of order, or for something left meanwhile."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from itertools import permutations
from typing import Any

import pytest
from textual.pilot import Pilot

from backend.schema.attention import AttentionItem
from backend.schema.errors import TektonError
from backend.schema.events import AttentionChanged, ErrorEntry, LogLines, TurnStarted
from backend.schema.frames import StreamChunk, StreamEnd, StreamMetadata, StreamStart, Usage
from backend.schema.history import TurnPhase, TurnRecord
from backend.schema.params import (
    AcknowledgeAttention,
    GetHistory,
    GetLogs,
    GetSession,
    Launch,
    ListErrors,
    ListMessages,
    ListSessions,
    ListTurns,
)
from backend.schema.records import ActiveTurn, ErrorRecord, FleetPlan, LaunchPlanItem, StoredMessage
from backend.schema.results import (
    AttentionList,
    ErrorList,
    History,
    LaunchReport,
    LogText,
    MessageList,
    SessionList,
    TurnList,
)
from tekton_tui.app import TektonApp
from tekton_tui.screens.dialogs import Dialog
from tekton_tui.screens.team import TeamPane
from tekton_tui.transcript import Transcript
from tekton_tui.widgets.chat.chat_view import ChatView
from tekton_tui.widgets.common.line_view import LineView
from tekton_tui.widgets.fleet.detail import MESSAGES
from tekton_tui.widgets.timeline.gantt import Gantt
from tests.tui.conftest import settle
from tests.tui.fake_client import NOW, FakeClient, Held, answer, live, message, row, session, snapshot
from tests.tui.test_console import screen_text

Maker = Callable[..., tuple[TektonApp, FakeClient]]
AI = "apollo-ai"
DEFAULT = "s0"


class Memory:
    """What the backend has stored of conversations with apollo; it answers readings as it is when they are asked."""

    def __init__(self, client: FakeClient) -> None:
        self._client = client
        self._stored: dict[str, list[StoredMessage]] = defaultdict(list)
        self._number = 0
        self.gone: set[str] = set()
        client.answers[GetHistory] = lambda params: History(AI, DEFAULT, self._page(DEFAULT, 0, params.limit))
        client.answers[ListMessages] = self._messages
        client.answers[GetSession] = lambda params: session(params.id, title=params.id)

    def _messages(self, params: ListMessages) -> MessageList | TektonError:
        if params.id in self.gone:
            return TektonError("there is no such session", code="unknown_session")
        return MessageList(self._page(params.id, params.before_id or 0, params.limit))

    def _page(self, name: str, before: int, limit: int) -> list[StoredMessage]:
        return [stored for stored in self._stored[name] if not before or stored.id < before][-limit:]

    def texts(self, name: str) -> list[str]:
        return [stored.content for stored in self._stored[name]]

    def store(self, name: str, author: str, words: str, request_id: str) -> None:
        self._number += 1
        self._stored[name].append(
            message(self._number, author, words, request_id=request_id, session_id=name)
        )

    def exchange(self, name: str) -> None:
        """Store a question and its answer as of earlier."""
        request_id = f"{name}-{self._number}"
        self.store(name, "you", f"{name} q {request_id}", request_id)
        self.store(name, AI, f"{name} a {request_id}", request_id)

    def begin(self, name: str) -> str:
        """Store a question and say that its turn has begun, as the backend does; return its id."""
        request_id = f"{name}-{self._number}"
        words = f"{name} q {request_id}"
        self.store(name, "you", words, request_id)
        self._client.send(TurnStarted(request_id, AI, name, words, NOW), StreamStart(request_id, AI))
        return request_id

    def end(self, name: str, request_id: str) -> None:
        """Store an answer and say that its turn has ended."""
        words = f"{name} a {request_id}"
        self.store(name, AI, words, request_id)
        facts = StreamMetadata(1, 1, 1.9, AI, "m", "stop", Usage(20, 1), 210.0)
        self._client.send(StreamChunk(request_id, words, 0), StreamEnd(request_id, facts))

    def turn(self, name: str) -> None:
        self.end(name, self.begin(name))


def under_way(name: str, request_id: str) -> ActiveTurn:
    return ActiveTurn(request_id, AI, name, f"{name} q {request_id}", "queued", NOW)


def release(client: FakeClient, at: int) -> None:
    client.held.pop(at).released.set()


def readings(client: FakeClient) -> list[GetHistory | ListMessages]:
    """Return what was asked for a conversation, and not for the fleet's detail pane."""
    asked = [*client.called(GetHistory), *client.called(ListMessages)]
    return [params for params in asked if params.limit != MESSAGES]


def held_here(client: FakeClient) -> list[Held]:
    """Return the readings of the conversation that wait; those of the fleet's detail pane go on."""
    for held in list(client.held):
        if isinstance(held.params, GetHistory) and held.params.limit == MESSAGES:
            client.held.remove(held)
            held.released.set()
    return client.held


async def come(pilot: Pilot[Any]) -> None:
    """Let what was sent and released come through."""
    for _ in range(12):
        await pilot.pause(0)


def shown(app: TektonApp) -> list[str]:
    return [entry.text for entry in app.query_one(f"#chat-{AI} .chat-transcript", Transcript).entries]


def sessions_of(texts: list[str]) -> set[str]:
    return {text.partition(" ")[0] for text in texts if text}


@pytest.mark.parametrize("name", ["", "s1"])
async def test_a_conversation_is_read_once_when_it_is_opened(console: Maker, name: str) -> None:
    app, client = console(live("apollo"))
    memory = Memory(client)
    memory.exchange(DEFAULT)
    memory.exchange("s1")
    async with app.run_test() as pilot:
        await settle(pilot)
        app.commands.navigator.open_chat(AI, name)
        await settle(pilot)
        assert shown(app) == memory.texts(name or DEFAULT)
        assert len(readings(client)) == 1
        app.commands.navigator.open_chat(AI, "s2")
        await settle(pilot)
        assert len(readings(client)) == 2


@pytest.mark.parametrize("order", list(permutations(range(3))))
async def test_readings_answered_in_any_order_end_as_memory_is(
    console: Maker, order: tuple[int, ...]
) -> None:
    app, client = console(live("apollo"))
    memory = Memory(client)
    for name in (DEFAULT, "s1"):
        memory.exchange(name)
    client.hold = {GetHistory, ListMessages}
    async with app.run_test() as pilot:
        await settle(pilot)
        app.commands.navigator.open_chat(AI)
        await settle(pilot)
        memory.turn(DEFAULT)
        await come(pilot)
        view = app.query_one(ChatView)
        view.use_session("s1")
        memory.turn("s1")
        await come(pilot)
        view.use_session(DEFAULT)
        memory.turn(DEFAULT)
        await come(pilot)
        held = list(held_here(client))
        assert len(held) == len(order)
        for at in order:
            held[at].released.set()
            await come(pilot)
            assert len(sessions_of(shown(app))) <= 1
            if at == order[-1] or at == len(order) - 1:
                assert shown(app) == memory.texts(DEFAULT)
        assert shown(app) == memory.texts(DEFAULT)


@pytest.mark.parametrize("seed", range(2))
async def test_whatever_happens_between_question_and_answer_of_a_reading_is_on_the_screen(
    console: Maker, seed: int
) -> None:
    app, client = console(live("apollo"))
    memory, chance = Memory(client), random.Random(seed)
    names = (DEFAULT, "s1", "s2")
    for name in names:
        memory.exchange(name)
    client.hold = {GetHistory, ListMessages}
    running: list[tuple[str, str]] = []
    done: list[str] = []
    async with app.run_test() as pilot:
        await settle(pilot)
        app.commands.navigator.open_chat(AI)
        await settle(pilot)
        view = app.query_one(ChatView)
        for _ in range(100):
            what = chance.choice(("begin", "end", "end", "turn", "reload", "session", "release", "release"))
            done.append(what)
            match what:
                case "begin" if not running:
                    running.append(((name := chance.choice(names)), memory.begin(name)))
                case "end" if running:
                    memory.end(*running.pop())
                case "turn" if not running:
                    memory.turn(chance.choice(names))
                case "reload":
                    client.send(snapshot(live("apollo"), turns=[under_way(*one) for one in running]))
                case "session":
                    view.use_session(chance.choice(names))
                case "release" if held_here(client):
                    release(client, chance.randrange(len(client.held)))
                case _:
                    continue
            await come(pilot)
            assert len(sessions_of(shown(app))) <= 1, done
            if not held_here(client):
                texts = [text for text in shown(app) if text]  # an answer that has no text yet
                assert texts == memory.texts(view.session_id), done


async def test_a_session_that_cannot_be_read_leaves_the_one_that_is_shown(console: Maker) -> None:
    app, client = console(live("apollo"))
    memory = Memory(client)
    memory.exchange(DEFAULT)
    memory.gone.add("s9")
    async with app.run_test() as pilot:
        await settle(pilot)
        app.commands.navigator.open_chat(AI)
        await settle(pilot)
        view = app.query_one(ChatView)
        view.use_session("s9")
        await settle(pilot)
        assert view.session_id == DEFAULT and shown(app) == memory.texts(DEFAULT)


async def test_an_older_page_comes_only_above_the_messages_it_was_asked_for(console: Maker) -> None:
    app, client = console(live("apollo"))
    memory = Memory(client)
    for name in (DEFAULT, "s1"):
        for _ in range(100):
            memory.exchange(name)
    async with app.run_test() as pilot:
        await settle(pilot)
        app.commands.navigator.open_chat(AI)
        await settle(pilot)
        view = app.query_one(ChatView)
        client.hold = {ListMessages}
        view._fetch_older()
        await come(pilot)
        view.use_session("s1")
        await come(pilot)
        older, newest = client.held
        newest.released.set()
        await come(pilot)
        older.released.set()
        await come(pilot)
        assert sessions_of(shown(app)) == {"s1"}
        client.hold = set()
        view._fetch_older()
        await settle(pilot)
        count = len(shown(app))
        assert count > 60 and shown(app) == memory.texts("s1")[-count:]


async def test_a_search_goes_on_through_all_pages_after_the_conversation_was_read_anew(
    console: Maker,
) -> None:
    app, client = console(live("apollo"))
    memory = Memory(client)
    for _ in range(100):
        memory.exchange(DEFAULT)
    async with app.run_test() as pilot:
        await settle(pilot)
        app.commands.navigator.open_chat(AI)
        await settle(pilot)
        view = app.query_one(ChatView)
        view.search("a s0")
        await settle(pilot)
        assert shown(app) == memory.texts(DEFAULT)
        view.reload()
        await settle(pilot)
        assert shown(app) == memory.texts(DEFAULT)


@pytest.mark.parametrize("order", list(permutations(range(2))))
async def test_the_team_shows_the_conversation_that_was_asked_for_last(
    console: Maker, order: tuple[int, ...]
) -> None:
    app, client = console(live("apollo"), live("numa"))

    def stored(params: ListMessages) -> MessageList:
        name = params.id
        asked = message(1, "you", f"question of {name}", request_id=f"t-{name}", session_id=name)
        said = message(2, AI, "yes", request_id=f"t-{name}/{AI}", session_id=name, lane=f"t-{name}")
        return MessageList([asked, said])

    client.answers[ListMessages] = stored
    client.hold = {ListMessages}
    async with app.run_test() as pilot:
        await settle(pilot)
        await pilot.press("3")
        await settle(pilot)
        pane = app.query_one(TeamPane)
        pane.show_session("s1")
        pane.show_session("s2")
        await come(pilot)
        held = list(client.held)
        for at in order:
            held[at].released.set()
            await come(pilot)
        assert pane.view.team is not None and pane.view.team.start.prompt == "question of s2"


async def test_a_list_of_sessions_that_was_asked_for_earlier_does_not_come_back(console: Maker) -> None:
    app, client = console(live("apollo"))
    titles = iter(("before", "after"))
    client.answers[ListSessions] = lambda params: SessionList(
        1, [session("s1", title=next(titles), messages=2)]
    )
    client.hold = {ListSessions}
    async with app.run_test() as pilot:
        await settle(pilot)
        app.commands.navigator.show("sessions")
        await settle(pilot)
        pane = app.query_one("#sessions")
        while len(client.held) > 1:
            client.held.pop()
        first = client.held.pop()
        titles = iter(("after",))
        pane.focus_content()
        await come(pilot)
        client.held.pop().released.set()
        await come(pilot)
        first.released.set()
        await settle(pilot)
        assert "after" in screen_text(app)


async def test_an_answer_about_the_queue_does_not_undo_what_was_told_meanwhile(console: Maker) -> None:
    app, client = console(live("apollo"))
    first = AttentionItem("done:r1", "done", AI, NOW, "answered", "Yes.", 1, "r1")
    later = AttentionItem("error:2", "error", AI, NOW, "failed", "No.", 1)
    client.answers[AcknowledgeAttention] = AttentionList([])
    client.hold = {AcknowledgeAttention}
    async with app.run_test() as pilot:
        await settle(pilot)
        client.send(AttentionChanged([first], []))
        await come(pilot)
        app.commands.attention.acknowledge([first])
        await come(pilot)
        client.send(AttentionChanged([later], [first.id]))
        await come(pilot)
        release(client, 0)
        await come(pilot)
        assert list(app.stores.attention.items) == [later.id]


async def test_the_error_log_as_it_was_does_not_undo_what_was_told_meanwhile(console: Maker) -> None:
    app, client = console(live("apollo"))

    def record(number: int, acknowledged: float = 0.0) -> ErrorRecord:
        return ErrorRecord(number, AI, "timeout", "too late", NOW, NOW, acknowledged=acknowledged)

    client.answers[ListErrors] = ErrorList([record(1)], 1)
    client.hold = {ListErrors}
    async with app.run_test() as pilot:
        await settle(pilot)
        app.commands.errors.load()
        await come(pilot)
        client.send(ErrorEntry(record(1, acknowledged=NOW), 1), ErrorEntry(record(2), 2))
        await come(pilot)
        release(client, 0)
        await come(pilot)
        assert app.stores.errors.unacknowledged == 2
        assert app.stores.errors.records[1].acknowledged and set(app.stores.errors.records) == {1, 2}


@pytest.mark.parametrize("stored", [2, 3])
async def test_a_log_line_that_came_while_the_log_was_read_is_shown_once(console: Maker, stored: int) -> None:
    app, client = console(live("apollo"))
    client.answers[GetLogs] = lambda params: LogText(params.id, "", ["one", "two", "three"][:stored])
    client.hold = {GetLogs}
    async with app.run_test() as pilot:
        await settle(pilot)
        app.commands.navigator.open_logs(AI)
        await come(pilot)
        client.send(LogLines(AI, ["three"], NOW, 0))
        await come(pilot)
        client.held[-1].released.set()
        await come(pilot)
        assert [text for text, _ in app.screen.query_one(LineView).kept] == ["one", "two", "three"]


@pytest.mark.usefixtures("still")
async def test_the_timeline_reads_one_range_after_the_other_and_leaves_none_out(console: Maker) -> None:
    app, client = console(live("apollo"))

    def turn(number: int, began: float) -> TurnRecord:
        return TurnRecord(f"r{number}", AI, "s", "q", began, began + 5, [TurnPhase("queued", began)])

    everything = [turn(number, NOW - 60 * number) for number in range(1, 50)]

    def listed(params: ListTurns) -> TurnList:
        until = params.until or NOW + 1
        fitting = sorted(
            (one for one in everything if params.since <= one.started_at < until), key=lambda t: t.started_at
        )
        return TurnList(fitting[-5:], NOW - 86_400, len(fitting) > 5)

    client.answers[ListTurns] = listed
    client.hold = {ListTurns}
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        client.send(*answer("r0", AI, "s", "q", "a"))
        await settle(pilot)
        await pilot.press("5")
        await settle(pilot)
        gantt = app.query_one(Gantt)
        for _ in range(3):  # further out while the first reading is under way
            await pilot.press("minus")
            await settle(pilot, 2)
        assert len(client.held) == 1
        while client.held:
            release(client, 0)
            await settle(pilot, 2)
        since = gantt.earliest
        wanted = {one.request_id for one in everything if one.started_at >= since}
        assert wanted <= set(app.stores.turn_log.turns) and len(wanted) > 5
        assert all(call.until < 1e300 for call in client.called(ListTurns))


@pytest.mark.parametrize("leave", ["3", "colon", "question_mark", ""])
async def test_a_plan_comes_up_only_before_the_operator_who_waits_for_it(console: Maker, leave: str) -> None:
    app, client = console(live("apollo"), row("numa"))
    client.answers[Launch] = LaunchReport(FleetPlan([LaunchPlanItem("numa-ai", "numa", True)]))
    client.hold = {Launch}
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        app.commands.fleet.launch(["numa-ai"])
        await come(pilot)
        if leave:
            await pilot.press(leave)
            await settle(pilot)
        before = app.screen
        release(client, 0)
        await settle(pilot)
        assert isinstance(app.screen, Dialog) == (leave == "")
        assert leave == "" or app.screen is before
        told = [str(one.message) for one in app._notifications]  # pyright: ignore[reportPrivateUsage]
        assert ("the launch plan is not shown: you went elsewhere" in told) == (leave != "")
