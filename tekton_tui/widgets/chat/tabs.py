"""The row of chat tabs: state and name of each, what of it nobody has read; how many more there are; the session."""

from __future__ import annotations

from typing import NamedTuple

from rich.cells import cell_len
from textual import events
from textual.app import RenderResult
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from tekton_tui.formatting import SYMBOLS, tone_of_state
from tekton_tui.safe_text import literal, one_line
from tekton_tui.stores import Stores

GAP = 1
"""Cells between two tabs."""
TITLE_CELLS = 24
"""Of the session's title at most."""
SWITCH = "  ctrl+o switch "
BARE_SWITCH = "  ctrl+o "


class _Tab(NamedTuple):
    ai_id: str
    content: Content

    @property
    def cells(self) -> int:
        return cell_len(self.content.plain)


class ChatTabs(Widget):
    """One row; a click shows a tab. What does not fit is counted at the end, the shown one is always there."""

    ids: reactive[list[str]] = reactive(list)
    """Specialists with a tab, in order."""
    current: reactive[str] = reactive("")
    """The one shown."""
    session: reactive[str] = reactive("")
    """Title of the conversation that is shown; empty for the specialist's default one."""

    class Chosen(Message):
        """Posted when a tab was clicked."""

        def __init__(self, ai_id: str) -> None:
            super().__init__()
            self.ai_id = ai_id

    class SwitchRequested(Message):
        """Posted when the count of other tabs, or the session's name, was clicked."""

    def __init__(self, stores: Stores, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._stores = stores
        self._starts: list[tuple[int, int, str]] = []
        self._drawn = Content()
        self._hidden = False

    def on_hide(self) -> None:
        self._hidden = True

    def on_show(self) -> None:
        self._hidden = False
        self.refresh()

    def on_mount(self) -> None:
        self._stores.fleet.summary_changed.subscribe_widget(self, self._redraw)
        self._stores.fleet.changed.subscribe_widget(self, self._rows_changed)
        self._stores.attention.changed.subscribe_widget(self, self._redraw)

    def _redraw(self) -> None:
        """Draw the row anew if anything of it differs: figures of the fleet change at rest, and nothing is written then."""
        if not self._hidden and not self._made().is_same(self._drawn):
            self.refresh()

    def _rows_changed(self, ids: set[str]) -> None:
        if not ids.isdisjoint(self.ids):
            self._redraw()

    def render(self) -> RenderResult:
        self._drawn = self._made()
        return self._drawn

    def _made(self) -> Content:
        width = self.size.width
        right = self._session_part(width)
        tabs = [self._tab(ai_id) for ai_id in self.ids]
        shown, left_out = _fitting(tabs, self.current, width - cell_len(right.plain))
        self._starts.clear()
        parts: list[Content] = []
        at = 0
        for tab in shown:
            parts += [tab.content, Content(" " * GAP)]
            self._starts.append((at, at + tab.cells, tab.ai_id))
            at += tab.cells + GAP
        if left_out:
            more = f" {left_out} more ›"
            parts.append(Content.styled(more, "$text-muted"))
            at += len(more)
        gap = max(0, width - at - cell_len(right.plain))
        return Content.assemble(*parts, " " * gap, right)

    def on_click(self, event: events.Click) -> None:
        for start, end, ai_id in self._starts:
            if start <= event.x < end:
                self.post_message(self.Chosen(ai_id))
                return
        if self._starts and event.x >= self._starts[-1][1]:
            self.post_message(self.SwitchRequested())

    def _session_part(self, width: int) -> Content:
        title = one_line(self.session, min(TITLE_CELLS, width // 5)) if width >= 60 else ""
        words = SWITCH if width >= 70 else BARE_SWITCH
        key, _, rest = words.strip().partition(" ")
        return Content.assemble(
            literal(title),
            "  ",
            (key, "bold $text-primary"),
            (f" {rest} " if rest else " ", "$text-muted"),
        )

    def _tab(self, ai_id: str) -> _Tab:
        row = self._stores.fleet.rows.get(ai_id)
        shown = ai_id == self.current
        ground = " on $panel" if shown else ""
        name = one_line(row.name if row else ai_id, 16)
        unread = 0 if shown else self._stores.attention.unread_of(ai_id)
        waiting = row.queue - 1 if row and row.queue > 1 else 0
        style = ("bold $foreground" if shown else "bold $foreground" if unread else "$text-muted") + ground
        tone = tone_of_state(row) if row else "text-muted"
        parts = [
            Content.styled(f" {SYMBOLS[row.state] if row else ' '} ", f"${tone}{ground}"),
            literal(f"{name} ", style),
        ]
        if unread:
            parts.append(Content.styled(f"{unread} ", f"bold $text-primary{ground}"))
        if waiting:
            parts.append(Content.styled(f"+{waiting} ", f"$text-muted{ground}"))
        return _Tab(ai_id, Content.assemble(*parts))


def _fitting(tabs: list[_Tab], current: str, width: int) -> tuple[list[_Tab], int]:
    """Return the tabs that fit, the current one among them, and how many were left out."""
    whole = sum(tab.cells + GAP for tab in tabs)
    if whole <= width:
        return tabs, 0
    # the count of those left out needs its own place
    room = width - len(" 99 more ›")
    shown: list[_Tab] = []
    kept = next((tab for tab in tabs if tab.ai_id == current), None)
    used = kept.cells + GAP if kept else 0
    for tab in tabs:
        if tab is kept:
            shown.append(tab)
            kept = None
        elif used + tab.cells + GAP <= room:
            used += tab.cells + GAP
            shown.append(tab)
        elif kept is None:
            break
    if kept is not None:
        shown.append(kept)
    return shown, len(tabs) - len(shown)
