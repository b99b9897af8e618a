"""The list of what waits for the operator, and the line above it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Final

import msgspec
from textual import events
from textual.binding import BindingType
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from backend.schema.attention import AttentionItem, AttentionKind, count_waiting
from tekton_tui.clock import gateway_time
from tekton_tui.formatting import age
from tekton_tui.runtime.layout_once import RowView
from tekton_tui.runtime.tokens import tokens_of
from tekton_tui.safe_text import one_line
from tekton_tui.stores import Stores
from tekton_tui.verbs import bindings
from tekton_tui.widgets.fleet.drawing import Part, fitted, strip, width_of

WIDE: Final = 100
NARROW: Final = 60
"""With fewer columns the sign alone tells the kind: the room is for why."""
WHO_CELLS, NARROW_WHO_CELLS = 14, 11
SIGNS: Final = {"asks": ("◆", "you"), "down": ("✖", "bad"), "stalled": ("◐", "warn"), "error": ("✖", "bad"),
                "budget": ("◐", "warn"), "done": ("●", "accent")}  # fmt: skip
Keys = tuple[tuple[str, str], ...]
"""Keys with what they do."""
KEYS: Final[dict[AttentionKind, Keys]] = {
    "asks": (("a", "allow"), ("x", "deny")), "down": (("s", "start"), ("l", "log")), "stalled": (("x", "stop"), ("⏎", "read")),
    "error": (("⏎", "read"), ("l", "log")), "budget": (("⏎", "fleet"),), "done": (("⏎", "read"),),
}  # fmt: skip
TABS: Final = ("Open", "Snoozed", "All errors")


class NeedsList(RowView, can_focus=True):
    """One line an item, with a cursor that stays on its item while others come and go."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("grid")

    class Moved(Message):
        """Posted when the cursor is on another item, or its item changed."""

    class Chosen(Message):
        """Posted when an item was clicked twice."""

    def __init__(self, keys_of: Callable[[AttentionItem], Keys], *, id: str | None = None) -> None:
        """`keys_of` returns the keys that have a use on an item."""
        super().__init__(id=id)
        self._keys_of = keys_of
        self._items: list[AttentionItem] = []
        self._cursor = 0
        self.came = ("", 0.0)
        """See `MovesByItself`."""
        self.dealt_with: set[str] = set()
        """Ids of the items that were dealt with here: what comes in their place is no surprise."""
        self.marked: set[str] = set()
        """Ids of the items that are answered together."""

    @property
    def items(self) -> list[AttentionItem]:
        return self._items

    @property
    def current(self) -> AttentionItem | None:
        return self._items[self._cursor] if self._cursor < len(self._items) else None

    def show(self, items: list[AttentionItem]) -> None:
        """Show these; the cursor keeps its item, or takes what stands in its place."""
        before = self.current
        self._items = items
        ids = [item.id for item in items]
        if before is not None and before.id in ids:
            self._cursor = ids.index(before.id)
        self._cursor = max(0, min(self._cursor, len(items) - 1))
        now = self.current
        if before is not None and before.id not in ids and now is not None:
            own = before.id in self.dealt_with
            self.came = (
                self.came if own else (f"{now.who.removesuffix('-ai')}: {now.short}", time.monotonic())
            )
        self.dealt_with.intersection_update(ids)
        self.marked.intersection_update(ids)
        self.set_rows(len(items) + 1)
        self.refresh()
        self.post_message(self.Moved())

    def go_to(self, item_id: str) -> None:
        """Put the cursor on an item, if it is here."""
        for at, item in enumerate(self._items):
            if item.id == item_id:
                self._move_to(at)

    def spots(self) -> list[tuple[int, int, Callable[[], object]]]:
        """Return the rows in sight, and what puts the cursor on each."""
        top = round(self.scroll_offset.y)
        last = min(len(self._items), top + self.size.height - 1)
        return [(0, at - top + 1, partial(self._move_to, at)) for at in range(top, last)]

    def action_move(self, step: int) -> None:
        if self._items:
            self._move_to(max(0, min(len(self._items) - 1, self._cursor + step)))

    def action_side(self, step: int) -> None:
        return

    def _move_to(self, at: int) -> None:
        self._cursor, self.came = at, ("", 0.0)
        top, page = round(self.scroll_offset.y), self.size.height - 1
        if at < top:
            self.scroll_to(y=at, animate=False, immediate=True)
        elif at >= top + page > top:
            self.scroll_to(y=at - page + 1, animate=False, immediate=True)
        self.refresh()
        self.post_message(self.Moved())

    def on_click(self, event: events.Click) -> None:
        at = event.y - 1 + round(self.scroll_offset.y)
        if event.y and at < len(self._items):
            self._move_to(at)
            if event.chain == 2:
                self.post_message(self.Chosen())

    def render_line(self, y: int) -> Strip:
        # a scrollbar takes a column of `size`, and would hide where a row was cut
        width, tokens = self.scrollable_content_region.width, tokens_of(self)
        if y == 0:
            what, who = ("", NARROW_WHO_CELLS) if width < NARROW else (f"{'WHAT':<11}", WHO_CELLS)
            head = f"    {what}{'WHO':<{who}} SINCE   WHY"
            return strip([Part(head, "muted")], width, tokens)
        at = y - 1 + round(self.scroll_offset.y)
        if at >= len(self._items):
            return strip([], width, tokens)
        here = at == self._cursor
        ground = tokens.ground if not here else tokens.cursor if self.has_focus else tokens.panel
        mark = "▌" if self._items[at].id in self.marked else " "
        parts = [Part("▎" if here else " ", "accent"), Part(mark, "you")]
        return strip([*parts, *_line(self._items[at], width - 2, self._keys_of)], width, tokens, ground)


def _line(item: AttentionItem, width: int, keys_of: Callable[[AttentionItem], Keys]) -> list[Part]:
    sign, tone = SIGNS[item.kind]
    count = f" ×{item.count}" if item.count > 1 else ""
    seconds = max(0.0, gateway_time() - item.since)
    since = "today" if not item.since else f"{seconds:.0f} s" if seconds < 60 else age(item.since)
    narrow, who = width < NARROW - 2, one_line(item.who.removesuffix("-ai"), 60)
    parts = [
        Part(f"{sign} ", tone),
        *([] if narrow else fitted([Part(item.kind, tone)], 11)),
        *fitted([Part(who, "text bold")], NARROW_WHO_CELLS if narrow else WHO_CELLS),
        Part(f"{since:>6}   ", "muted"),
    ]
    keys: list[Part] = []
    if width >= WIDE:
        for key, word in keys_of(item):
            keys += [Part(f"  {key}", "accent bold"), Part(f" {word}", "muted")]
        keys = fitted(keys, 22)
    room = max(0, width - width_of(parts) - width_of(keys))
    short = "" if item.short == item.kind else f"{item.short}{count} "
    words = item.why
    if item.kind == "asks":
        short, words = call_in_words(item.why)
    why = [Part(one_line(short, 60) + ("  " if short else ""), "muted"), Part(one_line(words, 400), "text")]
    return [*parts, *fitted(why, room), *keys]


def call_in_words(why: str) -> tuple[str, str]:
    """Return tool and values of a call that waits, of `TOOL {"name": "value"}`; what is written otherwise stays as it is."""
    tool, _, given = why.partition(" ")
    try:
        values = msgspec.json.decode(given, type=dict[str, Any])
    except msgspec.DecodeError:  # in words already, or cut
        return "", why
    texts = (
        value if isinstance(value, str) else msgspec.json.encode(value).decode() for value in values.values()
    )
    return f"{tool} ", " ".join(texts)


class NeedsHead(Widget):
    """Counts at the left, tabs at the right."""

    DEFAULT_CSS = "NeedsHead { height: 1; }"

    class TabChosen(Message):
        """Posted when a tab was clicked."""

        def __init__(self, tab: int) -> None:
            super().__init__()
            self.tab = tab

    def __init__(self, stores: Stores) -> None:
        super().__init__()
        self._stores = stores
        self._left: list[Part] = []
        self._right: list[Part] = []
        self._spans: list[tuple[int, int, int]] = []

    def show(self, items: list[AttentionItem], snoozed: int, errors: int, tab: int) -> None:
        counts = count_waiting(items, math.inf)
        tones = [tone for count, tone in zip(counts, ("you bold", "bad", "accent"), strict=False) if count]
        self._left = [Part(f" {words} ", tone) for words, tone in zip(counts.words, tones, strict=True)] or [
            Part(" nothing waits for you" if self._stores.unanswered is None else " ", "muted")
        ]
        self._right = []
        self._spans = []
        at = 0
        for number, (name, count) in enumerate(zip(TABS, (len(items), snoozed, errors), strict=True)):
            text = f"{name} {count}" if count else name
            self._spans.append((at, at + len(text), number))
            self._right += [Part(text, "text bold underline" if number == tab else "muted"), Part("  ")]
            at += len(text) + 2
        self.refresh()

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        room = max(0, width - width_of(self._right))
        # whole counts, or of the first the number and a word
        left = [part for at, part in enumerate(self._left) if width_of(self._left[: at + 1]) <= room]
        if not left:
            text, tone = self._left[0]
            left = [Part(f" {' '.join(text.split()[:2])} ", tone)]
        parts = [*fitted(left, room), *self._right]
        return strip(parts, width, tokens_of(self))

    def on_click(self, event: events.Click) -> None:
        x = event.x - (self.size.width - width_of(self._right))
        for start, end, number in self._spans:
            if start <= x < end:
                self.post_message(self.TabChosen(number))
