"""The composer's text field: keys, pastes, history, marks; does not know who is addressed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Final, cast

from rich.text import Text
from textual import events
from textual.binding import BindingType
from textual.content import Content
from textual.message import Message
from textual.widgets.text_area import Selection

from tekton_tui.safe_text import safe
from tekton_tui.verbs import bindings
from tekton_tui.widgets.common.text_field import SafeTextArea
from tekton_tui.widgets.composer.text import Mark, Pastes, Query, marks_of, query_at

MAX_HISTORY: Final = 500
MAX_MARKED_CHARS: Final = 20_000
"""A longer text is shown without marks."""


class Editor(SafeTextArea):
    """A text field where enter sends."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "composer--pipe",
        "composer--brace",
        "composer--name",
        "composer--verb",
        "composer--chip",
        "composer--error",
    }
    DEFAULT_CSS = """
    Editor, Editor:focus {
        height: auto;
        max-height: 8;
        min-height: 1;
        border: none;
        padding: 0;
        background: transparent;
        background-tint: transparent;
        scrollbar-size-vertical: 1;
        & .text-area--cursor-line { background: transparent; }
        & .text-area--placeholder { color: $text-muted; }
        & .composer--pipe { color: $text-primary; text-style: bold; }
        & .composer--brace { color: $text-primary; text-style: bold; }
        & .composer--name { color: $text-secondary; text-style: bold; }
        & .composer--verb { color: $text-primary; text-style: bold; }
        & .composer--chip { color: $text-muted; text-style: italic; }
        & .composer--error { color: $text-error; text-style: bold underline; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = bindings("composer")

    class Sent(Message):
        """Posted on enter."""

    class Cancelled(Message):
        """Posted on escape."""

    class CompletionRequested(Message):
        """Posted when the word at the cursor that can be completed has changed."""

        def __init__(self, query: Query | None) -> None:
            super().__init__()
            self.query = query

    class CompletionMoved(Message):
        """Posted when the popup's choice moves (`step`) or is taken (0)."""

        def __init__(self, step: int) -> None:
            super().__init__()
            self.step = step

    class FileDropped(Message):
        """Posted on backspace at the beginning: the last of the files is not to go along."""

    class Named(Message):
        """Posted when what was pasted is the names of files."""

        def __init__(self, paths: list[Path]) -> None:
            super().__init__()
            self.paths = paths

    def __init__(self, placeholder: Content | str) -> None:
        super().__init__(placeholder)
        self.choosing = False
        """Whether the popup is open: the arrow keys, tab, enter and escape belong to it."""
        self.escape_word = ""
        """What escape does now, where it does not leave the field."""
        self.sent: list[str] = []
        """Texts sent before, oldest first."""
        self.pastes = Pastes()
        self.take_back: Callable[[], str] = str
        """Returns a text to take into the empty field on `up`, before the history is asked; empty for none."""
        self.files_in: Callable[[str], list[Path]] = lambda text: []
        """Returns the files that a pasted text names."""
        self.answers: Callable[[], bool] = bool
        """Shows what waits for the operator's word, and returns whether anything does."""
        self._recalled: int | None = None
        self._kept = ""
        self._query: Query | None = None
        self.mistake: tuple[int, int] | None = None
        """Row and column of a mistake in the text."""
        self._marks_text = ""
        self._marks: list[list[Mark]] = [[]]

    def key_words(self) -> dict[str, str]:
        """Return what escape does."""
        return {"cancel": self.escape_word} if self.escape_word else {}

    @property
    def expanded(self) -> str:
        """The text with folded pastes in full."""
        return self.pastes.expand(self.text)

    def put(self, text: str) -> None:
        """Replace the text; the cursor goes to its end."""
        self.load_text(safe(text))
        self.move_cursor(self.document.end)

    def remember(self, text: str) -> None:
        """Add a text to the history; one said twice in a row stands once."""
        if text and (not self.sent or self.sent[-1] != text):
            self.sent.append(text)
            del self.sent[:-MAX_HISTORY]
        self._recalled = None

    def get_line(self, line_index: int) -> Text:
        """Return a line with its marks in colour."""
        line = super().get_line(line_index)
        if len(self.text) > MAX_MARKED_CHARS:
            return line
        if self._marks_text != self.text:
            # kept for the text they were made of: a line is asked for whenever it is drawn
            self._marks_text = self.text
            self._marks = marks_of(self.text)
        for mark in self._marks[line_index] if line_index < len(self._marks) else ():
            line.stylize(
                self.get_component_rich_style(f"composer--{mark.kind}", partial=True), mark.start, mark.end
            )
        if self.mistake is not None and self.mistake[0] == line_index:
            column = self.mistake[1]
            style = self.get_component_rich_style("composer--error", partial=True)
            line.stylize(style, column, column + 1)
        return line

    def mark_mistake(self, place: tuple[int, int] | None) -> None:
        """Mark a character, or none."""
        if place != self.mistake:
            self.mistake = place
            # TextArea keeps lines as it drew them and does not know of our marks
            cast(Any, self)._line_cache.clear()
            self.refresh()

    def check_consume_key(self, key: str, character: str | None = None) -> bool:
        """Enter and tab are not text here; `/` is, whatever its owner binds it to."""
        return key not in ("enter", "tab") and super().check_consume_key(key, character)

    # Keys

    async def _on_key(self, event: events.Key) -> None:
        """Leave enter to its binding; everything else is the editor's."""
        if event.key in ("enter", "tab"):
            event.prevent_default()
            return
        await super()._on_key(event)

    async def _on_paste(self, event: events.Paste) -> None:
        """Insert pasted text; what is the names of files is handed to the owner."""
        if paths := self.files_in(event.text):
            event.prevent_default()
            event.stop()
            self.post_message(self.Named(paths))
            return
        await super()._on_paste(event)

    def take_paste(self, text: str) -> None:
        """Insert pasted text, long text as a chip."""
        super().take_paste(self.pastes.fold(text))

    def action_send(self) -> None:
        """Send, or take the popup's choice."""
        self.post_message(self.CompletionMoved(0) if self.choosing else self.Sent())

    def action_complete(self) -> None:
        """Take the popup's choice, or go on to the next widget."""
        if self.choosing:
            self.post_message(self.CompletionMoved(0))
        elif not self.answers():
            self.screen.focus_next()

    def action_newline(self) -> None:
        """Start another line."""
        self.replace("\n", *self.selection)

    def action_cancel(self) -> None:
        """Close the popup or cancel."""
        self.post_message(self.Cancelled())

    def action_cursor_up(self, select: bool = False) -> None:
        """Go up a line; from the first one to what was sent before."""
        if self.choosing and not select:
            self.post_message(self.CompletionMoved(-1))
        elif not select and not self.text and self._recalled is None and (text := self.take_back()):
            self.put(text)
        elif not select and self.cursor_at_first_line and self._recall(-1):
            return
        else:
            super().action_cursor_up(select)

    def action_cursor_down(self, select: bool = False) -> None:
        """Go down a line; from the last one back to what was sent later."""
        if self.choosing and not select:
            self.post_message(self.CompletionMoved(1))
        elif not select and self.cursor_at_last_line and self._recall(1):
            return
        else:
            super().action_cursor_down(select)

    def action_delete_left(self) -> None:
        """Delete the character before the cursor, a chip as a whole."""
        row, column = self.cursor_location
        if (row, column) == (0, 0) and self.selection.is_empty:
            self.post_message(self.FileDropped())
            return
        length = (
            self.pastes.chip_before(self.document.get_line(row), column) if self.selection.is_empty else 0
        )
        if length:
            self.delete((row, column - length), (row, column))
        else:
            super().action_delete_left()

    def _recall(self, step: int) -> bool:
        """Show an older or newer text of the history; return whether there was one."""
        if self._recalled is None:
            if step > 0 or not self.sent:
                return False
            self._kept = self.text
            place = len(self.sent) - 1
        else:
            place = self._recalled + step
        if place < 0:
            return True
        if place >= len(self.sent):
            self._recalled = None
            self.put(self._kept)
            return True
        self.put(self.sent[place])
        self._recalled = place
        return True

    # Completion

    def _watch_selection(self, previous_selection: Selection, selection: Selection) -> None:
        """Request completions of the word before the cursor."""
        super()._watch_selection(previous_selection, selection)
        if self.is_mounted:
            self.request_completion()

    def request_completion(self) -> None:
        """Post what is being completed, if it has changed."""
        row, column = self.cursor_location
        # a few lines are enough to see what is being completed; the whole text would cost more at every key
        before = self.get_text_range((max(0, row - 20), 0), (row, column))[-2_000:]
        query = query_at(before) if self.selection.is_empty and self._recalled is None else None
        if query != self._query:
            self._query = query
            self.post_message(self.CompletionRequested(query))

    def complete_with(self, value: str) -> None:
        """Replace what was typed by a completion."""
        if self._query is None:
            return
        row, column = self.cursor_location
        start = column - len(self._query.typed)
        line = self.document.get_line(row)
        follows = "" if line[column : column + 1] == " " or value.endswith("/") else " "
        result = self.replace(value + follows, (row, start), (row, column))
        self.move_cursor(result.end_location)

    def drop_query(self) -> None:
        """Remove what was typed to name a file, the sign before it too: the file stands above the field now."""
        if self._query is not None:
            row, column = self.cursor_location
            start = column - len(self._query.typed)
            line = self.document.get_line(row)
            start = 0 if line.startswith("/attach") else max(0, start - 1)
            self.delete((row, start), (row, column))
