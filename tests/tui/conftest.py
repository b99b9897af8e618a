"""The console under test: a fake client, a frozen clock, pictures in the top folder `snapshots/`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_textual_snapshot import SVGImageExtension
from textual._compositor import CompositorUpdate
from textual.app import App
from textual.css.stylesheet import Stylesheet
from textual.message_pump import MessagePump
from textual.notifications import Notification
from textual.pilot import Pilot, WaitForScreenTimeout

from tekton_tui.app import TektonApp
from tekton_tui.commands.undo import Undo
from tekton_tui.runtime import input_queue
from tekton_tui.runtime.frame_scheduler import frame_scheduler
from tekton_tui.screens.ask import AskDialog
from tekton_tui.screens.dialogs import Question
from tekton_tui.widgets.chat.ask_cards import AskKeys
from tekton_tui.widgets.composer.composer import Composer
from tekton_tui.widgets.fleet.grid import FleetGrid
from tests.tui.fake_client import NOW, FakeClient, snapshot
from tests.tui.terminal import Emulator

SVGImageExtension.file_extension = "svg"
PICTURES = Path(__file__).parents[2] / "snapshots"
WRITING = frozenset({"composer", "field", "search", "command", "switcher"})
"""Places of the table of verbs where letters are text."""


def _in_pictures(cls: type[SVGImageExtension], *, test_location: Any) -> str:
    """Keep the pictures in one folder at the top, beside the code they show."""
    return str(PICTURES / test_location.basename)


SVGImageExtension.dirname = classmethod(_in_pictures)  # type: ignore[assignment, method-assign]


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the clock the screen shows, in a fixed time zone."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.setattr(time, "time", lambda: NOW)
    real = time.strftime
    monkeypatch.setattr(time, "strftime", lambda form, *given: real(form, *(given or (time.gmtime(NOW),))))


@pytest.fixture(autouse=True, scope="session")
def style_sheets_parsed_once() -> Iterator[None]:
    """Have consoles whose themes are the same share the rules that their style sheets are parsed into."""
    parsed: dict[frozenset[tuple[str, str]], Any] = {}
    own = Stylesheet.set_variables

    def set_variables(self: Any, variables: dict[str, str]) -> None:
        self._parse_cache = {}
        own(self, variables)
        self._parse_cache = parsed.setdefault(frozenset(variables.items()), {})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stylesheet, "set_variables", set_variables)
        yield


def waits_for_messages(pump: MessagePump) -> bool:
    """Whether a widget has handled all that came to it, to the end, and waits for more; so has one that does not run."""
    queue, begun = pump._message_queue, pump._task
    runs = pump.is_running or (begun is not None and not begun.done())
    return not runs or (queue.empty() and bool(queue.ready_event._waiters))  # type: ignore[attr-defined]


@pytest.fixture(autouse=True, scope="session")
def pilots_disturb_nobody() -> Iterator[None]:
    """Have pilots look whether each widget has handled all that came to it. Textual's own send every widget a message each
    time, after which it does what it does when idle: most of what a test costs, and what never happens to an operator."""

    async def wait_for_screen(self: Pilot[Any], timeout: float = 30.0) -> bool:
        app = self.app
        if not app.screen_stack:
            return False
        left: list[MessagePump] = [app, *app.screen.walk_children(with_self=True)]
        turns, began = 0, time.monotonic()
        while left := [pump for pump in left if not waits_for_messages(pump)]:
            if app._exception_event.is_set():
                return False
            if time.monotonic() - began > timeout:
                raise WaitForScreenTimeout(f"{left} did not handle what had come to them")
            await asyncio.sleep(0 if (turns := turns + 1) < TURNS else PAUSE_S / 10)
        return True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pilot, "_wait_for_screen", wait_for_screen)
        yield


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Emulator]:
    """Give a list: an emulator that is put into it gets what a terminal would get from then on."""
    emulators: list[Emulator] = []
    real = App[Any]._display  # pyright: ignore[reportPrivateUsage]

    def display(app: App[Any], screen: Any, update: Any) -> None:
        if isinstance(update, CompositorUpdate):
            for emulator in emulators:
                emulator.feed(update.render_segments(app.console).encode())
        real(app, screen, update)

    monkeypatch.setattr(App, "_display", display)
    return emulators


@pytest.fixture
def console() -> Iterator[Callable[..., tuple[TektonApp, FakeClient]]]:
    """Give a maker of a console over a fake client that begins with a snapshot; in none may anything have failed."""
    made: list[TektonApp] = []

    def make(*rows: Any, **options: Any) -> tuple[TektonApp, FakeClient]:
        client = FakeClient(snapshot(*rows, **options))
        made.append(TektonApp(client.connect))
        return made[-1], client

    yield make
    assert [app.internal_errors.seen for app in made if app.internal_errors.seen] == []


def at_work(app: App[Any]) -> bool:
    """Whether a message, a callback, a new size, a key or a part to be drawn still waits for its turn anywhere in the console.
    Text that is held for a conversation on its way may wait for as long as its specialist takes to start."""
    if not app.is_running or not app.screen_stack:
        return False
    if isinstance(app, TektonApp) and not app.input_queue.idle and app.input_queue._hold is None:
        return True
    screen = app.screen
    nodes = [app, *app.screen_stack, *screen.walk_children()]
    waiting = any(not node._message_queue.empty() or node._next_callbacks for node in nodes)
    drawn_later = frame_scheduler(app).running
    return bool(waiting or drawn_later or app._resize_event or screen._dirty_widgets or screen._callbacks)


def nothing_due(within_s: float) -> bool:
    """Whether nothing can happen in this loop for so long: no callback is ready, no timer ends, no socket or thread is open."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, asyncio.SelectorEventLoop)
    if loop._ready or loop._default_executor or len(loop._selector.get_map()) > 1:  # type: ignore[attr-defined]
        return False
    end = loop.time() + within_s
    return all(timer.cancelled() or timer.when() > end for timer in loop._scheduled)  # type: ignore[attr-defined]


async def at_rest(pilot: Pilot[Any]) -> None:
    """Wait until the screen stays as it is and every frame asked for is drawn, however busy the machine is."""
    tick = frame_scheduler(pilot.app)
    before: object = None
    same = 0
    for _ in range(300):
        await settle(pilot, 1)
        now = pilot.app.screen._compositor.render_strips()
        same = same + 1 if now == before and not tick.running else 0
        before = now
        if same >= STEADY or (same and nothing_due(STEADY * PAUSE_S)):
            return
    raise AssertionError("the screen did not come to rest")


PAUSE_S = 0.02
TURNS = 200
"""Turns of the loop in which what has come to a widget is looked at without a pause."""
LATE_S = 0.015
"""A pause that ends so much later than asked was no pause: the console drew, or the machine was busy elsewhere."""
RESTLESS_S = 20.0
STEADY = 8
"""So many pauses in which the screen stays as it is are rest."""
UNTIL_S = 60.0


async def settle(pilot: Pilot[Any], times: int = 6) -> None:
    """Let events, frames and refreshes through: so many pauses in which the console had the processor when it liked,
    and nothing left that waits for its turn. Pauses in which nothing can happen are not waited for.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    await pilot.pause(0)
    while True:
        busy = at_work(pilot.app)
        if not busy and (times <= 0 or nothing_due(times * PAUSE_S)):
            return
        if times <= 0 and loop.time() - began >= RESTLESS_S:
            return
        asked = loop.time()
        await asyncio.sleep(PAUSE_S)
        now = loop.time()
        times -= now - asked - PAUSE_S < LATE_S or now - began > RESTLESS_S
        await pilot.pause(0)


async def until(pilot: Pilot[Any], holds: Callable[[], bool]) -> None:
    """Let the console run until something holds; fails past `UNTIL_S`."""
    async with asyncio.timeout(UNTIL_S):
        while not holds():
            await pilot.pause(PAUSE_S)


def names_shown(app: TektonApp) -> list[str]:
    """Return the names of the grid's rows in sight, top down."""
    grid = app.query_one(FleetGrid)
    lines = [grid.render_line(y).text for y in range(1, grid.size.height)]
    return [line[4:].split()[0] for line in lines if line.strip() and not line.startswith(("  ▸", "▎ ▸"))]


@pytest.fixture(autouse=True)
def heard_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have questions hear keys from the first moment on, and answers sent at once; tests of either set the time back."""
    monkeypatch.setattr(Question, "EARLY_S", 0.0)
    monkeypatch.setattr(AskDialog, "EARLY_S", 0.0)
    monkeypatch.setattr(AskKeys, "EARLY_S", 0.0)
    monkeypatch.setattr(input_queue, "READ_S", 0.0)
    monkeypatch.setattr(Undo, "GRACE_S", 0.0)
    monkeypatch.setattr(Composer, "UNSEEN_S", 0.0)


@pytest.fixture(autouse=True)
def notices_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no notice go by itself: on a busy machine its seconds are over before a test has looked."""
    monkeypatch.setattr(Notification, "time_left", property(lambda _: 600.0))


@pytest.fixture(autouse=True)
def many_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the terminal be one of many colours, whatever the tests are run from."""
    monkeypatch.setenv("COLORTERM", "truecolor")
