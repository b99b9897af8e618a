"""One queue for what is typed and pasted: keys wait for the pane, dialog or field that is opening, and go to it.

Textual hands keys on as they come. A key that opens something is often followed by text before the new thing has the
focus, and that text would run the verbs of what was there before. Here the next key is handed on when the last one has been
acted on and nothing is opening any more. What waits longer than `PATIENCE_S` is dropped, and that is said.

While a conversation is on its way that takes longer, because its specialist starts, the rest of the screen stays alive:
only what is written waits for it (`hold_text`), and keys that go elsewhere go there.

Letters that come faster than a person types, outside a field, are text: they are given to the screen as text and run no
verb. Keys for a question that has only just appeared are not heard.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, Protocol, runtime_checkable
from weakref import WeakSet

from textual import events
from textual.app import App
from textual.message_pump import MessagePump
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Input

from tekton_tui.verbs import OF_CURSOR, SaysWhyNot, verb_of

PATIENCE_S: Final = 2.0
"""How long keys wait for what is opening, as far as the console had the processor: see `_pass_time`."""
BURST_S, BURST_LETTERS = 0.03, 3
"""So many different letters within this time are text."""
LONG_PATIENCE_S: Final = 120.0
"""How long what is written waits for a conversation whose specialist starts."""
POLL_S: Final = 0.01
HELD_POLL_S: Final = 0.05
"""Between two looks, in the usual case and while text is held."""
LOOK_S: Final = 0.1
"""What passes between two looks at the most: beyond that the console itself stood still, or the machine was busy elsewhere."""
STUCK_S: Final = 1.0
"""After this long a key counts as acted on, whatever became of the widget it went to."""
HIDDEN_S: Final = 0.3
"""How long something hidden may have the focus before it is taken away."""
ROUNDS: Final = 2
MAX_HELD: Final = 10_000
ADDRESSING: Final = frozenset({"colon", "slash", "question_mark", "enter"})
"""Keys that open something the text behind them is meant for: they never wait to see whether they are text."""
MENDING: Final = frozenset(
    "enter backspace delete ctrl+j shift+enter ctrl+u ctrl+w ctrl+h ctrl+k left right home end".split()
)
"""Keys that belong to a text which they stand behind."""
HARMLESS: Final = frozenset(
    "up down above below left right first last page-up page-down next-hit previous-hit".split()
)
"""Verbs that only move: their letters need not wait."""

READ_S: Final = 0.3
"""How long what came under the cursor by itself is to be read before a key acts on it."""

Typed = events.Key | events.Paste


@runtime_checkable
class MovesByItself(Protocol):
    """What has a cursor whose row may go: another is under it then, without a key."""

    came: tuple[str, float]
    """What came under the cursor by itself last, and when (monotonic, seconds)."""


@runtime_checkable
class TakesText(Protocol):
    """A screen or pane that has use for text typed or pasted outside of its fields."""

    def take_text(self, text: str) -> bool:
        """Put a text where it may be wanted, without acting on it; return whether there is such a place."""
        ...


@runtime_checkable
class IgnoresEarlyKeys(Protocol):
    """A question: keys that were typed before it could be read are not answers to it."""

    def too_early(self, moment: float) -> bool:
        """Return whether a key of this moment (monotonic, seconds) was typed too early."""
        ...


def is_displayed(widget: Widget) -> bool:
    """Return whether a widget and all it lies in are shown, on the screen or above or below what is in sight."""
    return all(node.display for node in widget.ancestors_with_self)


def is_field(widget: Widget | None) -> bool:
    """Return whether a widget takes text. `TextArea` is not imported to ask: no widget is one before somebody did."""
    area = sys.modules.get("textual.widgets._text_area")
    return isinstance(widget, Input) or (area is not None and isinstance(widget, area.TextArea))


class InputQueue:
    """What was typed and has not been handed on yet.

    Args:
        app: The app whose screens and focus are looked at.
        hand_on: Has Textual act on a key or paste.
        tell: Shows the operator a sentence.
    """

    def __init__(
        self, app: App[Any], hand_on: Callable[[events.Event], Awaitable[None]], tell: Callable[[str], object]
    ) -> None:
        self._app, self._hand_on, self._tell = app, hand_on, tell
        self._waiting: deque[Typed] = deque()
        self._openings: list[tuple[str, Callable[[], bool]]] = []
        self._waited: dict[object, float] = {}
        """How long what is waited for has been, in seconds: openings, and the key that is acted on (`None`)."""
        self._looked = 0.0
        """When that was counted last."""
        self._hold: tuple[str, Callable[[], bool | None], float] | None = None
        """What text is held for, whether that is there, and since when."""
        self._held = 0
        """How many of the first that wait were held for it: what was typed since is for where the operator went."""
        self._seen: WeakSet[Screen[Any]] = WeakSet()
        """Screens that have been drawn since they came up."""
        self._asked: WeakSet[Screen[Any]] = WeakSet()
        self._acting = False
        """Whether the last key was handed on and has not been acted on."""
        self._hidden_since = 0.0
        self._polling = self._draining = False

    @property
    def idle(self) -> bool:
        """Whether all that was typed has been acted on."""
        return not self._waiting and not self._acting

    def opening(self, what: str, ready: Callable[[], bool]) -> None:
        """Have keys wait until `ready`; `what` names in the notice what did not open in time."""
        self._openings.append((what, ready))

    def hold_text(self, what: str, there: Callable[[], bool | None]) -> None:
        """Have what is written wait until `there`; once that returns `None`, `what` is not to come, and the text is dropped."""
        self._hold, self._held = (what, there, time.monotonic()), 0

    async def put(self, event: Typed) -> None:
        """Take a key or paste; it is handed on when its turn comes."""
        if len(self._waiting) >= MAX_HELD:
            self._drop("what is open")
        self._waiting.append(event)
        await self.drain()

    async def drain(self) -> None:
        """Hand on what can be, in order."""
        if self._draining:
            return
        self._draining = True
        try:
            while self._waiting and not self._blocked():
                if not await self._next():
                    break
        finally:
            self._draining = False
        if self._waiting:
            self._look_again()

    def _look_again(self) -> None:
        if not self._polling:
            self._polling = True
            self._app.set_timer(HELD_POLL_S if self._hold else POLL_S, self._poll)

    async def _poll(self) -> None:
        self._polling = False
        if self._app.screen_stack:  # the timer may come when the console has just ended
            await self.drain()

    # what is waited for

    def _blocked(self) -> bool:
        """Return whether the next key must wait; drop all that waits when it has waited too long."""
        passed = self._pass_time()
        if self._acting:
            if self._waits_on(None, passed) < STUCK_S:
                return True
            self._forget_acting()
        screen = self._app.screen
        if screen not in self._seen:
            self._await_screen(screen)
        for opening in list(self._openings):
            what, ready = opening
            here = ready()
            if here or self._waits_on(opening, passed) > PATIENCE_S:
                self._openings.remove(opening)
                self._waited.pop(opening, None)
                if not here:
                    self._drop(what)
        return bool(self._openings)

    def _pass_time(self) -> float:
        """Return the seconds since the last look. What we could not look at does not count: keys must not be dropped, nor
        handed to what is behind, because importing a place takes long on a busy machine."""
        now = time.monotonic()
        passed, self._looked = min(now - self._looked, LOOK_S), now
        return passed

    def _waits_on(self, what: object, passed: float) -> float:
        self._waited[what] = waited = self._waited.get(what, 0.0) + passed
        return waited

    def _await_screen(self, screen: Screen[Any]) -> None:
        """Wait until a screen that came up has been drawn once and has given its focus."""
        if screen in self._asked:
            return
        self._asked.add(screen)
        drawn = partial(self._seen.add, screen)
        # the first refresh lays it out, the second one has drawn it
        screen.call_after_refresh(screen.call_after_refresh, drawn)
        self.opening("what was opened", lambda: screen in self._seen or screen is not self._app.screen)

    def _drop(self, what: str, count: int | None = None) -> None:
        """Forget the first that wait, by default all, and say so."""
        count = len(self._waiting) if count is None else count
        for _ in range(count):
            self._waiting.popleft()
        if count:
            self._tell(f"{what} did not open in time: {count} key{'s' * (count != 1)} dropped")

    # the next one

    async def _next(self) -> bool:
        """Hand on the first that waits, or the text it begins; return false when more has to be known."""
        if self._focus_is_hidden():
            return False
        if at := self._behind_held():
            event = self._waiting[at] if at < len(self._waiting) else None
            if event is not None:
                del self._waiting[at]
                await self._act(event)
            return event is not None
        if not self._waiting:
            return False
        event = self._waiting[0]
        if self._in_field():
            await self._act(self._waiting.popleft())
            return True
        if isinstance(event, events.Paste):
            self._waiting.popleft()
            self._give_text(event.text)
            return True
        burst = self._burst()
        if burst is None:
            return False
        if burst:
            for _ in range(burst[1]):
                self._waiting.popleft()
            self._give_text(burst[0])
            return True
        self._waiting.popleft()
        if not self._unheard(event):
            await self._act(event)
        return True

    def _behind_held(self) -> int:
        """Return how many of the first that wait are text that is held; what is written into a field never is."""
        if self._hold is None:
            return 0
        what, there, since = self._hold
        state = there()
        if state is None or time.monotonic() - since > LONG_PATIENCE_S:
            self._hold = None
            if self._held:
                self._drop(what, self._held)
        elif state:
            self._hold = None
        if self._hold is None or self._in_field():
            return 0
        self._held = self._count_written()
        return self._held

    def _count_written(self) -> int:
        """Return how many of the first that wait are text, with the keys behind a letter that end or mend it."""
        count = 0
        for event in self._waiting:
            written = isinstance(event, events.Paste) or (
                (event.is_printable or event.key in MENDING) if count else _is_text(event)
            )
            if not written:
                break
            count += 1
        return count

    def _focus_is_hidden(self) -> bool:
        """Return whether something hidden has the focus still: another gets it at once, or else nobody has it."""
        focused = self._app.focused
        if focused is None or is_displayed(focused):
            self._hidden_since = 0.0
            return False
        now = time.monotonic()
        self._hidden_since = self._hidden_since or now
        if now - self._hidden_since > HIDDEN_S:
            self._app.screen.set_focus(None)
            return False
        return True

    def _in_field(self) -> bool:
        return is_field(self._app.focused)

    def _burst(self) -> tuple[str, int] | tuple[()] | None:
        """Return the text that begins here and how many keys it takes; empty if none does, `None` if not known yet."""
        first = self._waiting[0]
        if not _is_text(first):
            return ()
        run: list[events.Key] = []
        for event in self._waiting:
            if isinstance(event, events.Paste) or (run and event.time - run[-1].time > BURST_S):
                break
            run.append(event)
        letters = {key.character for key in run if key.time - first.time <= BURST_S and _is_letter(key)}
        if len(letters) >= BURST_LETTERS:
            return "".join(map(_character, run)), len(run)
        if time.monotonic() - first.time > BURST_S or (len(run) == 1 and self._only_moves(first)):
            return ()
        return None

    def _only_moves(self, key: Typed) -> bool:
        found = self._app.screen.active_bindings.get(key.key) if isinstance(key, events.Key) else None
        verb = verb_of(found.binding.id) if found else None
        return verb is not None and verb.name in HARMLESS

    def _unheard(self, event: Typed) -> bool:
        """Return whether a key is not to be acted on: too early for a question, or of no use now, which is said."""
        screen = self._app.screen
        if isinstance(screen, IgnoresEarlyKeys) and screen.too_early(event.time):
            return True
        if not isinstance(event, events.Key) or (found := screen.active_bindings.get(event.key)) is None:
            return False
        verb = verb_of(found.binding.id)
        if verb is None:
            return False
        reason = found.node.why_not(verb.name) if isinstance(found.node, SaysWhyNot) else ""
        reason = reason or self._came_just_now(verb.name, event.time)
        if reason:
            self._tell(reason)
        return bool(reason)

    def _came_just_now(self, verb: str, moment: float) -> str:
        """Return why a key of this moment is not for what the cursor is on: it was pressed before that could be read."""
        focused = self._app.focused
        if verb not in OF_CURSOR or not isinstance(focused, MovesByItself):
            return ""
        what, when = focused.came
        # nothing came: the clock may have begun just now, with the machine
        return (
            f"{what} came under the cursor just now: press again" if what and moment < when + READ_S else ""
        )

    def _give_text(self, text: str) -> None:
        """Have a text taken; the next key waits until the field that took it has the focus."""
        self._acting = True
        target = self._app.focused or self._app.screen
        self._take_text(text)
        self._follow(target, target, ROUNDS)

    def _take_text(self, text: str) -> None:
        """Give text that came outside of a field to what has use for it: the focus, what it lies in, or what is shown."""
        if not text.strip():
            return
        screen = self._app.screen
        nodes = list(self._app.focused.ancestors_with_self) if self._app.focused else [screen]
        nodes += [pane for pane in screen.query("#panes > *") if pane.display]
        for node in nodes:
            if isinstance(node, TakesText) and node.take_text(text):
                return
        self._tell(f"{len(text):,} characters came at once and are taken for text; nothing here takes text")

    # following a key to its end

    async def _act(self, event: Typed) -> None:
        self._acting = True
        target = self._app.focused or self._app.screen
        await self._hand_on(event)
        self._follow(target, target, ROUNDS)

    def _follow(self, node: MessagePump | None, target: MessagePump, rounds: int) -> None:
        """Go behind a key from widget to widget, as it bubbles up to the app; nobody says when a key has been acted on.

        The last round goes behind the messages that the key's action had posted at its widget.
        """
        while node is not None and node is not self._app:
            parent = node._parent  # pyright: ignore[reportPrivateUsage]
            if node.call_later(self._follow, parent, target, rounds):
                return
            node = parent
        if rounds > 1:
            self._app.call_later(self._follow, target, target, rounds - 1)
        else:
            # An action may have asked for the focus: that is in the app's queue by now, and so before this.
            self._app.call_later(self._app.call_later, self._acted)

    async def _acted(self) -> None:
        self._forget_acting()
        await self.drain()

    def _forget_acting(self) -> None:
        self._acting = False
        self._waited.pop(None, None)


def _is_letter(event: Typed) -> bool:
    return isinstance(event, events.Key) and bool(event.character) and str(event.character).isalpha()


def _is_text(event: Typed) -> bool:
    """Return whether a key may begin a text: something printable, but no digit, for those are places."""
    return (
        isinstance(event, events.Key)
        and event.is_printable
        and event.key not in ADDRESSING
        and not str(event.character).isdigit()
    )


def _character(key: events.Key) -> str:
    """Return what a key writes; line ends and tabs are spaces, other keys nothing."""
    if key.key in ("enter", "tab", "ctrl+j"):
        return " "
    return key.character or "" if key.is_printable else ""
