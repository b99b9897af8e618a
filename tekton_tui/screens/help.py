"""The help sheet: every verb that holds here, made from the table; typed letters filter it, Enter carries one out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from textwrap import wrap
from typing import Any, ClassVar, NamedTuple

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from tekton_tui.commands.palette import Entry, entries_here, runner
from tekton_tui.runtime.frame_scheduler import app_of
from tekton_tui.runtime.input_queue import HARMLESS
from tekton_tui.runtime.layout_once import Modal
from tekton_tui.safe_text import literal, one_line
from tekton_tui.screens.registry import SCREENS
from tekton_tui.verbs import EVERYWHERE, at_place, key_sign
from tekton_tui.widgets.common.field import Field
from tekton_tui.widgets.composer.slash_commands import VERBS as SLASH_COMMANDS

KEY_CELLS, LABEL_CELLS, WORD_CELLS = 10, 18, 18
NARROW = 90
"""Cells below which the words behind `:` are left out."""
MOST_CELLS, BORDERS, LEAST_CELLS = 112, 8, 20
"""Of the sheet; of its frame, air and scrollbar; and from which on a sentence goes on in the next row."""


class _Row(NamedTuple):
    """A line of the sheet; without `run` it only tells."""

    key: str
    label: str
    word: str
    words: str
    dim: bool = False
    run: Callable[[], object] | None = None


class HelpScreen(Modal[Callable[[], object]]):
    """Dismissed with what the operator wants done, or with nothing on `esc`."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,f1", "close", "Close", id="help.close"),
        Binding("up", "move(-1)", "Up", show=False, id="help.up"),
        Binding("down", "move(1)", "Down", show=False, id="help.down"),
        Binding("pageup", "move(-10)", "Page up", show=False, id="help.page-up"),
        Binding("pagedown", "move(10)", "Page down", show=False, id="help.page-down"),
    ]

    def __init__(self, behind: Screen[Any]) -> None:
        super().__init__()
        app = app_of(behind)
        here: list[_Row] = []
        moves: list[_Row] = []
        everywhere: list[_Row] = []
        for entry in entries_here(behind):
            common = entry.verb.at(EVERYWHERE) is not None and entry.node is app
            (everywhere if common else here).append(_of_entry(entry, runner(app, entry)))
            moves.extend([here.pop()] if not common and entry.verb.name in HARMLESS else [])
        places = "  ".join(f"{row.key} {row.title}" for row in SCREENS.values() if row.key)
        everywhere.insert(0, _Row("1 … 6", "places", "", places))
        self._groups = (("Here", here + moves), ("Everywhere", everywhere), ("While you write", _writing()))
        self._shown: list[_Row | None] = []

    def compose(self) -> ComposeResult:
        with Vertical(id="help") as box:
            box.border_title = "Keys"
            box.border_subtitle = "type to filter · ⏎ does it · esc closes"
            yield Field(placeholder="filter: a key, a word, what it does", id="help-filter", compact=True)
            yield OptionList(id="help-list", markup=False)

    def on_mount(self) -> None:
        # letters go on to the filter; the arrows reach the list by this screen's bindings
        self.query_one(OptionList).can_focus = False
        self._fill("")

    def on_resize(self) -> None:
        self._fill(self.query_one(Input).value)

    @on(Input.Changed)
    def _filter(self, event: Input.Changed) -> None:
        self._fill(event.value)

    def _fill(self, wanted: str) -> None:
        self._shown = []
        options: list[Option] = []
        wide = self.size.width >= NARROW
        cells = min(MOST_CELLS, self.size.width * 96 // 100) - BORDERS
        for title, rows in self._groups:
            fitting = [row for row in rows if _fits(row, wanted)]
            if fitting:
                options.append(Option(literal(title, "bold $text-primary"), disabled=True))
                options += [Option(_line(row, wide, cells), disabled=row.run is None) for row in fitting]
                self._shown += [None, *fitting]
        listing = self.query_one(OptionList)
        listing.clear_options()
        listing.add_options(options)
        listing.highlighted = next((n for n, row in enumerate(self._shown) if row and row.run), None)

    @on(Input.Submitted)
    def _entered(self) -> None:
        at = self.query_one(OptionList).highlighted
        row = self._shown[at] if at is not None else None
        if row is not None:
            self.dismiss(row.run)

    @on(OptionList.OptionSelected)
    def _clicked(self) -> None:
        self._entered()

    def action_move(self, step: int) -> None:
        listing = self.query_one(OptionList)
        for _ in range(abs(step)):
            listing.action_cursor_down() if step > 0 else listing.action_cursor_up()

    def action_close(self) -> None:
        self.dismiss(None)


def _of_entry(entry: Entry, run: Callable[[], object]) -> _Row:
    words = entry.verb.words
    word = f":{entry.label if entry.label in words else words[0]}" if words else ""
    return _Row(
        entry.key, entry.label, word, entry.why_not or entry.verb.help, dim=bool(entry.why_not), run=run
    )


def _writing() -> list[_Row]:
    rows = [
        _Row(key_sign(verb.keys), at.label or verb.label, "", verb.help) for verb, at in at_place("composer")
    ]
    rows.append(
        _Row("@", "address", "", "@name TEXT asks somebody else, @auto whoever suits, @all everybody")
    )
    rows.append(_Row("|", "pipeline", "", "apollo | athena runs one after the other"))
    return rows + [_Row(f"/{verb.name}", "", "", verb.help) for verb in SLASH_COMMANDS]


def _fits(row: _Row, wanted: str) -> bool:
    """Return whether each word that is sought stands in a row; a single character also finds the key it is."""
    text = f"{row.label} {row.word} {row.words}".lower()
    return wanted == row.key or all(word in text for word in wanted.lower().split())


def _line(row: _Row, wide: bool, cells: int) -> Content:
    """Return a row for a sheet so wide; a sentence that does not fit goes on below where it began."""
    muted = "$text-disabled" if row.dim else "$text-muted"
    before = 1 + KEY_CELLS + LABEL_CELLS + 1 + (WORD_CELLS + 1 if wide else 0)
    words = [one_line(row.words, 200)]
    if cells - before >= LEAST_CELLS:
        words = wrap(words[0], cells - before) or words
    parts: Iterable[Content] = (
        literal(f" {row.key:<{KEY_CELLS}}", "$text-disabled" if row.dim else "bold $text-accent"),
        literal(one_line(row.label, LABEL_CELLS).ljust(LABEL_CELLS + 1), muted if row.dim else ""),
        literal(one_line(row.word, WORD_CELLS).ljust(WORD_CELLS + 1) if wide else "", muted),
        literal(f"\n{' ' * before}".join(words), muted),
    )
    return Content.assemble(*parts)
