"""The column chooser: which columns the grid shows at this size, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import OptionList

from tekton_tui.runtime.layout_once import Modal

FIXED = ("name", "state", "note")
"""Columns that are always there."""


class ColumnsScreen(Modal[list[str] | None]):
    """`columns` are `(name, title)` in the usual order; dismissed with the names chosen, or with none on `esc`."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Cancel", id="columns.close"),
        Binding("space", "show_or_hide", "Show or hide", id="columns.toggle"),
        Binding("shift+up,K", "shift(-1)", "Move up", id="columns.up"),
        Binding("shift+down,J", "shift(1)", "Move down", id="columns.down"),
        Binding("r", "reset", "As at first", id="columns.reset"),
    ]

    def __init__(self, columns: Sequence[tuple[str, str]], chosen: Sequence[str]) -> None:
        super().__init__()
        self._titles = dict(columns)
        self._chosen = [name for name in chosen if name in self._titles]
        self._order = [*self._chosen, *(name for name in self._titles if name not in self._chosen)]

    def compose(self) -> ComposeResult:
        with Vertical(id="choice-box") as box:
            box.border_title = "Columns at this size"
            box.border_subtitle = "space shows or hides · shift+↑↓ moves · r as at first · ⏎ done"
            yield OptionList(*map(self._line, self._order), id="choice-list")

    def on_mount(self) -> None:
        listing = self.query_one(OptionList)
        listing.highlighted = 0
        listing.focus()

    def _line(self, name: str) -> Content:
        shown = name in self._chosen
        tail = "  always" if name in FIXED else ""
        return Content.assemble(
            ("✓ " if shown else "  ", "$text-success"),
            (self._titles[name].lower(), "$text" if shown else "$text-muted"),
            (tail, "$text-disabled"),
        )

    def _write(self, at: int) -> None:
        listing = self.query_one(OptionList)
        listing.clear_options()
        listing.add_options(map(self._line, self._order))
        listing.highlighted = at

    def action_show_or_hide(self) -> None:
        at = self.query_one(OptionList).highlighted or 0
        name = self._order[at]
        if name in FIXED:
            return
        if name in self._chosen:
            self._chosen.remove(name)
        else:
            self._chosen.append(name)
        self._write(at)

    def action_shift(self, step: int) -> None:
        at = self.query_one(OptionList).highlighted or 0
        to = at + step
        if 0 <= to < len(self._order):
            self._order[at], self._order[to] = self._order[to], self._order[at]
            self._write(to)

    def action_reset(self) -> None:
        self.dismiss([])

    @on(OptionList.OptionSelected)
    def _done(self) -> None:
        self.dismiss([name for name in self._order if name in self._chosen])
