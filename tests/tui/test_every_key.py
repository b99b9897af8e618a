"""Every key of the table does something at each of its places, to what it is meant for; so does every word behind `:`."""

from __future__ import annotations

import json
import string
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from msgspec.structs import replace
from textual import events
from textual.binding import ActiveBinding
from textual.content import Content
from textual.dom import DOMNode
from textual.keys import _character_to_key, key_to_character
from textual.message import Message
from textual.pilot import Pilot
from textual.widget import Widget

from backend.schema.attention import AttentionItem
from backend.schema.events import AskOpened, AttentionChanged, ErrorEntry
from backend.schema.frames import StreamChunk
from backend.schema.params import GetLogs, GetSpecialist, ListErrors, ListSessions
from backend.schema.records import ErrorRecord
from backend.schema.results import ErrorList, LogText, SessionList
from tekton_tui.app import TektonApp
from tekton_tui.commands.navigator import Answer
from tekton_tui.runtime.drivers import InputReader
from tekton_tui.verbs import EVERYWHERE, KEY_SIGNS, VERBS, SaysWhyNot, verb_of
from tests.tui.conftest import WRITING, settle
from tests.tui.fake_client import NOW, FakeClient, answer, detail, live, session, snapshot, team, ten_minutes
from tests.tui.pty_asks import asks, item
from tests.tui.test_console import screen_text
from tests.tui.test_pictures import MODEL_SERVER, STATES, busy_fleet, chat_tools
from tests.tui.test_verbs import Refusing

Maker = Callable[..., tuple[TektonApp, FakeClient]]
pytestmark = pytest.mark.usefixtures("still")


async def logs(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    client.answers[GetLogs] = lambda params: LogText(
        params.id,
        "",
        [f"03:32:{at:02} {('INFO', 'ERROR')[at in (3, 9, 40)]} one {'long ' * 40}line" for at in range(60)],
    )
    app.commands.navigator.open_logs("apollo-ai")


async def description(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    client.answers[GetSpecialist] = detail(live("apollo"))
    app.commands.fleet.describe("apollo-ai")


async def command(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    """The line behind `:`, with a line that was carried out before."""
    for keys in (":fleet", ":ki"):
        await pilot.press(*keys)
        await settle(pilot)
        if keys == ":fleet":
            await pilot.press("enter")
            await settle(pilot)


async def kept(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    sessions = [session(f"s{at}", title=f"talk {at}", messages=2) for at in range(3)]
    client.answers[ListSessions] = SessionList(3, sessions)
    app.navigator.show("sessions")


async def long_ask(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    """A call that is longer than its card."""
    first = asks()[0]
    text = json.dumps({"path": "/srv/x", "text": "\n".join(f"line {at}" for at in range(80))})
    client.send(AskOpened(replace(first, arguments=text)), AttentionChanged([item(first)], []))
    await settle(pilot)
    await pilot.press("4")


async def card(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    """The keys are those of a card in a conversation."""
    await chat_tools(app, client, pilot)
    ask = replace(next(iter(app.stores.asks.asks.values())), always="shell:run command=pytest")
    client.send(AskOpened(ask), *(StreamChunk("tui-1", f"{at}\n\n", 2 + at) for at in range(60)))
    await settle(pilot)
    await pilot.press("tab")


async def fresh_error(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    record = ErrorRecord(1, "apollo-ai", "killed", "killed by SIGKILL", NOW, NOW)
    client.answers[ListErrors] = ErrorList([record], 1)
    client.send(ErrorEntry(record, 1))
    await settle(pilot)
    app.commands.navigator.open_errors()


async def long_answers(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    """Two answers beside one another that are longer than the screen."""
    texts = (
        "\n\n".join(f"{word} risk number {at} of the queue." for at in range(60))
        for word in ("One", "Another")
    )
    app.navigator.compare(
        *(Answer(name, text) for name, text in zip(("apollo", "athena"), texts, strict=True))
    )


async def hits(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    """A conversation in which what is sought is found more than once."""
    await STATES["chat"][1](app, client, pilot)
    await settle(pilot, 10)
    app.query_one("#chat-apollo-ai .chat-transcript").focus()
    await pilot.press("/", "t", "h", "e")


async def long_lanes(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    """Cards that hold more than is seen of them."""
    app.navigator.show("team")
    await settle(pilot)
    client.send(team("t1", "Name the risks.", "apollo", "athena"))
    for name in ("apollo", "athena"):
        text = "\n\n".join(f"Risk {at} of the queue." for at in range(60))
        client.send(*answer(f"t1/{name}-ai", f"{name}-ai", "s-team", "", text, group="t1"))
    await settle(pilot)
    app.query_one("#team-view").focus()


async def models_tab(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    app.navigator.show("models")


async def down(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    """Somebody who is down, under the cursor."""
    client.send(
        AttentionChanged([AttentionItem("down:ergon-ai", "down", "ergon-ai", NOW, "exited 3", "gone")], [])
    )
    await settle(pilot)
    await pilot.press("4")


async def waits(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    """What waits of somebody who has no log: it is no specialist."""
    record = ErrorRecord(1, "gateway", "budget", "a key is over its budget", NOW, NOW)
    client.send(
        AttentionChanged(
            [AttentionItem("error:gateway", "error", "gateway", NOW, "budget", "over its budget")], []
        ),
        ErrorEntry(record, 1),
    )
    await settle(pilot)
    await pilot.press("4")


async def nothing(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    return


Drive = Callable[[TektonApp, FakeClient, Pilot[Any]], Awaitable[None]]
MORE: dict[str, tuple[bool, Drive]] = {
    "logs": (True, logs), "description": (True, description), "command": (True, command), "kept": (True, kept), "long_ask": (True, long_ask),
    "fresh_error": (True, fresh_error), "models_tab": (True, models_tab), "waits": (True, waits), "card": (True, card), "down": (True, down), "long_answers": (True, long_answers),
    "at rest": (True, nothing), "hits": (True, hits), "long_lanes": (True, long_lanes),
}  # fmt: skip
GROUPS: dict[str, tuple[tuple[str, ...], frozenset[str]]] = {
    "fleet": (
        ("fleet", "fleet_log", "fleet_wall", "fleet_empty", "command"),
        frozenset({"fleet", "grid", "fleet-detail", "first", "command"}),
    ),
    "chat": (
        ("chat", "chat_tools", "chat_branch", "hits", "chat_waits", "chat_files", "card"),
        frozenset({"chat", "chat-tabs", "transcript", "composer", "search", "ask"}),
    ),
    "team": (
        ("team", "team_18", "team_joint", "team_zoom", "team_empty", "long_answers", "long_lanes"),
        frozenset({"team", "team-view", "lanes", "compare"}),
    ),
    "pipes": (("pipes", "pipes_failed", "pipes_saved"), frozenset({"pipes", "saved"})),
    "needs": (("needs", "needs_ask", "fresh_error", "long_ask", "down"), frozenset({"needs", "errors"})),
    "timeline": (("timeline",), frozenset({"timeline", "gantt"})),
    "system": (("gateway", "models", "models_tab"), frozenset({"system", "gateway", "models"})),
    "overlays": (
        ("kept", "logs", "description", "switcher"),
        frozenset({"sessions", "log", "lines", "text", "switcher"}),
    ),
    "new": (("new_specialist",), frozenset({"new"})),
    "everywhere": (("at rest", "needs"), frozenset({EVERYWHERE})),
}
"""States of the pictures that together show each place with what its verbs act on."""
OTHER_WAY = {
    "up": "down", "right": "left", "first": "down", "previous-tab": "right_square_bracket", "page-up": "pagedown", "later": "left_curly_bracket",
    "earlier": "right_curly_bracket", "read-back": "ctrl+d", "previous-hit": "n", "next-hit": "g", "above": "down", "left": "right", "follow": "up", "last": "up",
}  # fmt: skip
"""What is pressed before a verb that had no effect because there was no further that way."""
LEAVES = frozenset({"quit"})
"""Ends the console when nothing runs: pressed elsewhere."""


def wanted(places: frozenset[str]) -> set[tuple[str, str]]:
    """Return binding id and key of all that the table gives these places."""
    return {
        (f"{at.place}.{verb.name}", key)
        for verb in VERBS
        for at in verb.places
        if at.place in places and verb.name not in LEAVES
        for key in verb.keys.split(",")
        if key and not (at.place in WRITING and len(key) == 1)
    }


def test_each_place_of_the_table_is_looked_at() -> None:
    places = {at.place for verb in VERBS for at in verb.places if verb.keys}
    assert places == frozenset().union(*(group for _, group in GROUPS.values()))


def seen(app: TektonApp, client: FakeClient) -> tuple[Any, ...]:
    """Return what an operator could notice of a key."""
    return (
        screen_text(app), [id(screen) for screen in app.screen_stack], id(app.focused), len(client.calls),
        len(app._notifications), app.clipboard, [str(widget.selection) for widget in app.query("Editor, Input")],
    )  # fmt: skip


async def opened(state: str, pilot: Pilot[Any], client: FakeClient) -> None:
    app = pilot.app
    assert isinstance(app, TektonApp)
    await settle(pilot, 4)
    await (MORE | STATES)[state][1](app, client, pilot)
    await settle(pilot, 8)


LOOKS, LOOK_S = 8, 0.01
"""How often the console is looked at behind a key before that counts as without effect, and the pause between two looks."""


async def comes(pilot: Pilot[Any], there: Callable[[], bool]) -> bool:
    """Return whether something happens within the looks, in each of which the console has done all that was asked of it."""
    for _ in range(LOOKS):
        await pilot.pause(LOOK_S)
        if there():
            return True
    return False


async def tap(app: TektonApp, pilot: Pilot[Any], key: str) -> None:
    """Press a key as a driver would, and let the console act on it."""
    app.post_message(events.Key(key, key_to_character(key)))
    await pilot.pause(LOOK_S)


def focusable(app: TektonApp) -> list[Widget]:
    """Return one widget of each kind that can have the keyboard."""
    kinds: dict[tuple[type[Widget], str], Widget] = {}
    for widget in app.screen.query("*"):
        if _there(widget) and widget.focusable and widget.region:
            kinds.setdefault((type(widget), widget.id or ""), widget)
    return list(kinds.values())


def _there(widget: Widget | None) -> bool:
    return widget is None or (widget.is_attached and all(node.display for node in widget.ancestors_with_self))


class Search:
    """Presses the keys that are sought wherever in a state they are in force; what shows an effect is no longer missing."""

    def __init__(self, state: str, missing: set[tuple[str, str]]) -> None:
        self.state, self.missing = state, missing
        self.pressed: set[tuple[str, str, str, int]] = set()
        self.at = 0
        """Which of the widgets that can have the keyboard has it."""

    async def run(self) -> None:
        """Press all that can be; a state that a key has left is made anew."""
        more = True
        while more and self.missing:
            rows = busy_fleet() if (MORE | STATES)[self.state][0] else []
            client = FakeClient(
                snapshot(*rows, services=[MODEL_SERVER], history=ten_minutes()) if rows else snapshot()
            )
            client.answers = Refusing(client.answers)
            app = TektonApp(client.connect)
            async with app.run_test(size=(120, 40)) as pilot:
                await opened(self.state, pilot, client)
                more = await self._here(app, client, pilot)

    async def _here(self, app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> bool:
        """Go on in one console; return whether another is needed because what keys are pressed on is gone."""
        targets, stack = [app.focused, *focusable(app)], len(app.screen_stack)
        while self.at < len(targets):
            target = targets[self.at]
            # a card that was left has the keys no more, though what held them is still there
            lost = target is not None and app.focused is not target and not target.focusable
            if len(app.screen_stack) < stack or not _there(target) or lost:
                return True
            if target is not None and app.focused is not target and target.focusable:
                target.focus()
                await pilot.pause(LOOK_S)
            if not await self._press_next(app, client, pilot):
                self.at += 1
        return False

    async def _press_next(self, app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> bool:
        """Press the next key that is sought and in force here; return false if there is none."""
        for (name, key), node in _in_force(app, self.missing):
            for before in ("", OTHER_WAY.get(name.partition(".")[2], "down")):
                if (name, key, before, self.at) in self.pressed:
                    continue
                self.pressed.add((name, key, before, self.at))
                await self._press(app, client, pilot, name, key, before, node)
                return True
        return False

    async def _press(
        self, app: TektonApp, client: FakeClient, pilot: Pilot[Any], name: str, key: str, before: str, node: DOMNode
    ) -> None:  # fmt: skip
        stack = len(app.screen_stack)
        if before:  # it may stand at an end
            await tap(app, pilot, before)
            await comes(pilot, lambda: app.input_queue.idle)
        then, ran = seen(app, client), []
        app.run_action = _recording(app, ran)  # type: ignore[method-assign]
        await tap(app, pilot, key)
        if await comes(pilot, lambda: seen(app, client) != then and (node in ran or key == "enter")):
            self.missing.discard((name, key))
        await settle(pilot, 1)
        while len(app.screen_stack) > stack:
            app.pop_screen()
            await pilot.pause()


def _in_force(app: TektonApp, missing: set[tuple[str, str]]) -> Iterator[tuple[tuple[str, str], DOMNode]]:
    """Yield what is sought and reached from the focus, with the widget that has it."""
    for node, bindings in list(app.screen._modal_binding_chain):
        for key, binding in bindings:
            text = app.focused is not None and app.focused.check_consume_key(key, key_to_character(key))
            if (binding.id or "", key) in missing and not text:
                yield (binding.id or "", key), node


def _recording(app: TektonApp, ran: list[Any]) -> Callable[..., Awaitable[bool]]:
    """Return what carries actions out and notes on which widget one did something."""

    async def run(action: Any, default_namespace: Any = None, namespaces: Any = None) -> bool:
        done = await TektonApp.run_action(app, action, default_namespace, namespaces)
        if done:
            ran.append(default_namespace)
        return done

    return run


LARGE = frozenset({"fleet", "chat", "team", "needs", "system", "overlays"})
"""Groups that take longest: pressed by `make fuzz`."""


@pytest.mark.parametrize(
    "group", [pytest.param(group, marks=[pytest.mark.keys] if group in LARGE else []) for group in GROUPS]
)
async def test_no_key_of_the_table_is_dead(group: str) -> None:
    states, places = GROUPS[group]
    missing = wanted(places)
    for state in states:
        await Search(state, missing).run()
    assert sorted(missing) == []


MODIFIED = {"alt+up": b"\x1b[1;3A", "alt+down": b"\x1b[1;3B", "shift+enter": b"\x1b[13;2u"}
"""Keys that are sent with a number for the modifier, which no table of Textual's lists."""
LONG_S = 3600.0


def spelled(key: str) -> Iterator[bytes]:
    """Yield what terminals send for a key."""
    from textual._ansi_sequences import ANSI_SEQUENCES_KEYS

    yield from (character.encode() for character in string.printable if _character_to_key(character) == key)
    for sequence, keys in ANSI_SEQUENCES_KEYS.items():
        if isinstance(keys, tuple) and [each.value for each in keys] == [key]:
            yield sequence.encode()
    if key in MODIFIED:
        yield MODIFIED[key]
    if key == "escape":
        yield b"\x1b"


@pytest.mark.parametrize("key", sorted({key for verb in VERBS for key in verb.keys.split(",") if key}))
def test_every_key_of_the_table_is_one_that_terminals_send(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found: set[str] = set()
    real = time.monotonic
    for data in spelled(key):
        told: list[Message] = []
        reader = InputReader(told.append)
        reader.feed(data)
        # nothing comes behind it: a lone ESC was the key once its time is over
        monkeypatch.setattr(time, "monotonic", lambda: real() + LONG_S)
        monkeypatch.setattr("textual._parser.get_time", lambda: real() + LONG_S)
        reader.tick()
        monkeypatch.undo()
        found |= {
            name for event in told if isinstance(event, events.Key) for name in (event.key, *event.aliases)
        }
    assert key in found


FRAMED = sorted(
    {*STATES, "logs", "description", "kept", "waits", "down", "fresh_error", "long_ask"}
    - {"fleet_empty", "lost", "chat_empty", "errors_empty", "pipes_empty", "team_empty"}
)
NAMED = {sign: key for key, sign in KEY_SIGNS.items()} | {"esc": "escape", "enter": "enter", "space": "space"}


def keys_named(words: str) -> list[str]:
    """Return the keys that a frame's border names, of `KEY what it does · KEY what it does`."""
    found: list[str] = []
    for part in words.split(" · "):
        key, _, what = part.strip().partition(" ")
        if not what or not (
            len(key) == 1 or key in NAMED or key.startswith("ctrl+") or set(key) <= set("↑↓←→")
        ):
            continue
        found += [NAMED.get(each, each) for each in ([*key] if set(key) <= set("↑↓←→") else [key])]
    return [key for key in found if not key.isdigit()]


def without_use(active: ActiveBinding) -> str:
    """Return why a key has no use now; empty if it has one."""
    verb = verb_of(active.binding.id)
    return active.node.why_not(verb.name) if verb and isinstance(active.node, SaysWhyNot) else ""


@pytest.mark.parametrize("state", FRAMED)
async def test_a_frame_names_only_keys_that_hold_there(state: str) -> None:
    client = FakeClient(snapshot(*busy_fleet(), services=[MODEL_SERVER], history=ten_minutes()))
    client.answers = Refusing(client.answers)
    app = TektonApp(client.connect)
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(state, pilot, client)
        wrong: list[str] = []
        for widget in app.screen.query("*"):
            if not (
                widget.border_subtitle
                and widget.region
                and all(node.display for node in widget.ancestors_with_self)
            ):
                continue
            near = [node for node in (widget, *widget.query("*")) if node.focusable and node.region]
            if near and app.focused not in near and not app.screen.is_modal:
                near[0].focus()
                await settle(pilot, 2)
            here = {
                name
                for key in app.screen.active_bindings
                for name in (key, _character_to_key(key) if len(key) == 1 else key)
            } - {key for key, active in app.screen.active_bindings.items() if without_use(active)}
            wrong += [
                f"{key!r} of {widget.border_subtitle!r}"
                for key in keys_named(Content.from_markup(widget.border_subtitle).plain)
                if key not in here
            ]
        assert wrong == []
