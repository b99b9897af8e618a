"""The transcript: one widget for a whole conversation; knows neither the backend nor the stores.

Here are its keys, its verbs and its search; what it holds is `streams.py`, how that is drawn is `surface.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from textual import events
from textual.binding import Binding, BindingType

from tekton_tui.safe_text import safe
from tekton_tui.transcript import messages, palette
from tekton_tui.transcript.cursor import Target
from tekton_tui.transcript.entry import Entry
from tekton_tui.transcript.flow import Place
from tekton_tui.transcript.message import Look
from tekton_tui.transcript.search import Search
from tekton_tui.transcript.streams import Streams

SCROLL_LINES: Final = 3
"""Rows the cursor keys scroll through a message that is taller than the window."""


class Transcript(Streams):
    """A conversation, drawn by rows.

    Args:
        look: Whether headers are shown and how far messages are apart.
        bar: Draw the speaker's bar left of each message.
    """

    DEFAULT_CSS = palette.DEFAULT_CSS

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "cursor(-1)", "Message", show=False, id="transcript.up"),
        Binding("down", "cursor(1)", "Message", show=False, id="transcript.down"),
        Binding("g,home", "top", "Top", show=False, id="transcript.top"),
        Binding("G,end", "tail", "End", show=False, id="transcript.tail"),
        Binding("y", "copy", "Copy", id="transcript.copy"),
        Binding("v", "raw", "Raw", id="transcript.raw"),
        Binding("enter", "fold", "Fold", id="transcript.fold"),
        Binding("R", "ask_again", "Ask again", id="transcript.ask-again"),
        Binding("i", "edit", "Edit", id="transcript.edit"),
        Binding("greater_than_sign", "quote", "Quote", key_display=">", id="transcript.quote"),
        Binding("vertical_line", "pipe", "Pipe", key_display="|", id="transcript.pipe"),
        Binding("n", "hit(1)", "Next hit", show=False, id="transcript.next-hit"),
        Binding("N", "hit(-1)", "Previous hit", show=False, id="transcript.previous-hit"),
    ]

    About = messages.About
    Copied = messages.Copied
    AskAgain = messages.AskAgain
    Pipe = messages.Pipe
    Quote = messages.Quote
    EditAndAsk = messages.EditAndAsk
    SearchChanged = messages.SearchChanged
    FollowChanged = messages.FollowChanged

    def __init__(
        self,
        *,
        look: Look | None = None,
        bar: bool = True,
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(look=look, bar=bar, name=name, id=id, classes=classes)
        self._search: Search | None = None

    # Content

    def load(self, entries: Sequence[Entry]) -> None:
        """Replace everything, stop searching and go to the tail."""
        super().load(entries)
        self.stop_search()

    def prepend(self, entries: Sequence[Entry]) -> None:
        """Put older messages before the first, and search them too."""
        super().prepend(entries)
        if self._search is not None:
            self._search = self._search.over(self._flow.entries, self._flow.first)

    def top_message(self) -> Entry | None:
        """Return the message at the top of the window."""
        if not self._flow.entries:
            return None
        return self._flow.entry(self._flow.first + self._flow.heights.find(self._viewport.top)[0])

    def current(self) -> Entry | None:
        """Return the message that keys act on: the one under the cursor, else the last."""
        return self._under_cursor()[0]

    def is_streaming(self, key: str) -> bool:
        """Return whether a message still grows."""
        return self._flow.streaming(key) is not None

    def set_pinned(self, key: str, pinned: bool) -> None:
        """Show a message as pinned, or no longer. Unknown keys are ignored."""
        number = self._flow.find_key(key)
        if number is not None:
            self._flow.set_pinned(number, pinned)
            self._catch_up()

    def show_message(self, key: str) -> bool:
        """Put a message at the top of the window and the cursor on it; false if there is none."""
        number = self._flow.find_key(key)
        if number is None:
            return False
        self._viewport.hold(Place(number, 0, 0))
        self._cursor.put(Target(number))
        self._catch_up()
        return True

    def scroll_to_tail(self) -> None:
        """Go to the newest text and follow it."""
        self._viewport.follow()
        self._catch_up()

    # Search

    def search(self, pattern: str) -> None:
        """Highlight a text everywhere and go to its nearest match upwards; empty stops searching.

        Looks a slice at a time; `SearchChanged` tells what was found.
        """
        self.stop_search()
        if not pattern:
            return
        self._search = Search(pattern, self._flow.entries, self._flow.first)
        self._pattern = self._search.pattern
        self._search_on()

    def _search_on(self) -> None:
        """Look at one more slice; the first match found is gone to."""
        search = self._search
        if search is None:
            return
        first = not search.count
        if search.scan() and first:
            self._go_to(search.numbers[-1])
        self._tell_search(search)
        self._ask()

    def _tell_search(self, search: Search) -> None:
        at = search.place_of(self._cursor.number)
        self.post_message(self.SearchChanged(self, search.count, search.done, at))

    def stop_search(self) -> None:
        """Remove the highlights."""
        if self._search is not None:
            self._search = self._pattern = None
            self._ask()

    def action_hit(self, step: int) -> None:
        """Go to the next or previous match."""
        if self._search is None:
            return
        here = self._cursor.number if self._cursor.number is not None else self._flow.end
        number = self._search.after(here) if step > 0 else self._search.before(here)
        if number is not None:
            self._go_to(number)
            self._tell_search(self._search)

    def _go_to(self, number: int) -> None:
        """Put the first match of a message in view and the cursor on the message."""
        self._cursor.put(Target(number))
        self._cursor.reveal(self._search.pattern if self._search is not None else None)
        self._catch_up()

    # The surface's hooks

    def before_frame(self) -> None:
        """Search on, a slice a frame."""
        if self._search is not None and not self._search.done:
            self._search_on()

    def follow_changed(self, following: bool) -> None:
        """Tell the owner."""
        self.post_message(self.FollowChanged(self, following))

    def on_click(self, event: events.Click) -> None:
        """Put the cursor on what was clicked; the badge goes to the tail, a fold line unfolds."""
        offset = event.get_content_offset(self)
        if offset is None or self.screen.selections.get(self) is not None:
            return
        if self._canvas.on_badge(offset.x, offset.y):
            self.scroll_to_tail()
            return
        target, fold_line = self._canvas.target_at(offset.y)
        if target is not None:
            self._cursor.put(target)
            if fold_line:
                self.action_fold()
            self._catch_up()

    # Actions

    def action_cursor(self, step: int) -> None:
        """Go to the next or previous message or code block, or scroll through a tall one."""
        self._cursor.move(step, SCROLL_LINES)
        self._catch_up()

    def action_top(self) -> None:
        """Go to the first message."""
        if self._flow.entries:
            self._viewport.hold(Place(self._flow.first, 0, 0))
            self._cursor.put(Target(self._flow.first))
            self._catch_up()

    def action_tail(self) -> None:
        """Go to the newest text and follow it."""
        self._cursor.clear()
        self.scroll_to_tail()

    def action_copy(self) -> None:
        """Copy the selection, the code block or the message under the cursor."""
        selected = self.screen.get_selected_text()
        entry, text = self._under_cursor()
        if selected:
            text = selected
        if text and entry is not None:
            self._any_app.copy_to_clipboard(text)
            self.post_message(self.Copied(self, entry, text))

    def action_raw(self) -> None:
        """Show the source of the message under the cursor, control characters visible, or its Markdown."""
        number = self._cursor.number if self._cursor.number is not None else self._flow.end - 1
        if number < self._flow.first:
            return
        self._cursor.put(Target(number))
        self._flow.set_raw(number, not self._flow.message(number).raw)
        self._catch_up()

    def action_fold(self) -> None:
        """Fold or unfold what the cursor is on."""
        self._cursor.toggle_fold()
        self._catch_up()

    def action_ask_again(self) -> None:
        """Ask for this answer again."""
        self._post_about(self.AskAgain)

    def action_pipe(self) -> None:
        """Pipe this message."""
        self._post_about(self.Pipe)

    def action_quote(self) -> None:
        """Quote this message."""
        self._post_about(self.Quote)

    def action_edit(self) -> None:
        """Edit this question and ask it."""
        self._post_about(self.EditAndAsk)

    def _post_about(self, kind: type[messages.About]) -> None:
        entry, text = self._under_cursor()
        if entry is not None:
            self.post_message(kind(self, entry, text))

    def _under_cursor(self) -> tuple[Entry | None, str]:
        """Return the message under the cursor, the last one without a cursor, and the text meant."""
        if not self._flow.entries:
            return None, ""
        number = self._cursor.number if self._cursor.number is not None else self._flow.end - 1
        entry = self._flow.entry(number)
        stream = self._flow.streaming(entry.key)
        if stream is not None:
            stream[1].settle_pending()
        return entry, self._cursor.copied() or safe(entry.text or entry.error)
