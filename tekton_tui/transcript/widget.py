"""The transcript: one widget for a whole conversation; knows neither the backend nor the stores.

What it holds is `flow.py`, what of it is in view `viewport.py`, what keys act on `cursor.py`, how rows become strips
`canvas.py`. Here they meet Textual: frames, size, scrolling, mouse, selection and keys. Text that arrives is drawn
when the frame clock says so; while the widget is not on screen it gets no frames. Textual learns size and position
without a layout, for the box of this widget never changes with its text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from textual import events
from textual.binding import BindingType
from textual.geometry import Offset, Region, Size
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip
from textual.widget import Widget

from tekton_tui.runtime.frame_scheduler import FrameScheduler, app_of, frame_scheduler
from tekton_tui.runtime.lazy_components import LazyComponents
from tekton_tui.transcript import messages, palette
from tekton_tui.transcript.canvas import Canvas, Marks, on_terminal
from tekton_tui.transcript.cursor import Cursor, Target
from tekton_tui.transcript.entry import WHOLE_ANSWER, Ending, Entry, ToolRow
from tekton_tui.transcript.flow import Flow, Place
from tekton_tui.transcript.markdown import warm
from tekton_tui.transcript.message import Look
from tekton_tui.transcript.overlay import line_id, selected_text
from tekton_tui.transcript.search import Hit, Search
from tekton_tui.transcript.viewport import Viewport
from tekton_tui.verbs import bindings

SCROLL_LINES: Final = 3
"""Rows the cursor keys scroll through a message that is taller than the window."""
MEASURE: Final = 100
"""Cells of a row of text at most: longer lines are hard to read."""


class Transcript(LazyComponents, ScrollView, can_focus=True):
    """A conversation, drawn by rows: a row that did not change is the very same strip and is not sent again.

    Args:
        look: Whether headers are shown and how far messages are apart.
        bar: Draw the speaker's bar left of each message.
    """

    ALLOW_SELECT = True
    ALLOW_MAXIMIZE = False
    COMPONENT_CLASSES: ClassVar[set[str]] = set(palette.COMPONENT_CLASSES)
    DEFAULT_CSS = palette.DEFAULT_CSS

    BINDINGS: ClassVar[list[BindingType]] = bindings("transcript")

    Copied = messages.Copied
    AskAgain = messages.AskAgain
    Pipe = messages.Pipe
    Quote = messages.Quote
    EditAndAsk = messages.EditAndAsk
    WhatWasSent = messages.WhatWasSent
    SearchChanged = messages.SearchChanged
    FollowChanged = messages.FollowChanged
    CardChosen = messages.CardChosen

    def __init__(
        self,
        *,
        look: Look | None = None,
        bar: bool = True,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(id=id, classes=classes)
        self._flow = Flow(look or Look())
        self._viewport = Viewport(self._flow)
        self._cursor = Cursor(self._viewport)
        self._canvas = Canvas(self, self._viewport, bar=bar)
        self._search: Search | None = None
        self._hit: Hit | None = None
        self._tick: FrameScheduler | None = None
        self._stale = self._following = True
        self._hidden = False
        """Not on the terminal when last looked: what comes is drawn with the paint that shows it, no frame is asked for."""
        self._placing = self._painting = self._dragging = False

    # What it holds

    @property
    def entries(self) -> Sequence[Entry]:
        """All messages, oldest first; the texts of running streams lag by at most a frame."""
        return self._flow.entries

    @property
    def unread(self) -> int:
        """How many messages got text below what is being read."""
        return self._viewport.unread

    @property
    def following(self) -> bool:
        """Whether the tail is held in view."""
        return self._viewport.following

    def load(self, entries: Sequence[Entry], *, stay: bool = False) -> None:
        """Replace everything and stop searching; costs the same however many there are. Goes to the tail: see `Viewport.load`."""
        self._cursor.clear()
        self._viewport.load(entries, stay=stay)
        self._search = self._hit = None
        self._request_frame()

    def prepend(self, entries: Sequence[Entry]) -> None:
        """Put older messages before the first, and search them too; what is being read stays where it is."""
        self._flow.prepend(entries)
        if self._search is not None:
            self._search.extend(self._flow.first, len(entries))
        self._request_frame()

    def append_entry(self, entry: Entry) -> None:
        """Add a finished message at the end."""
        self._viewport.note_news(self._flow.append(entry))
        self._request_frame()

    def begin(self, entry: Entry) -> None:
        """Add a message that will stream: its key names it in the calls below."""
        # loads in a thread while the first token is waited for
        warm()
        self._viewport.note_news(self._flow.append(entry, streaming=True))
        self._request_frame()

    def append_text(self, key: str, text: str) -> None:
        """Add text to a streaming answer; drawn with the next frame. Unknown keys are ignored."""
        if stream := self._flow.streaming(key):
            stream.write(text)
            self._request_frame()

    def append_reasoning(self, key: str, text: str) -> None:
        """Add text to a streaming model's reasoning; drawn with the next frame. Unknown keys are ignored."""
        if stream := self._flow.streaming(key):
            stream.write_reasoning(text)
            self._request_frame()

    def set_tool(self, key: str, row: ToolRow) -> None:
        """Show a tool call in a streaming answer, or how it goes on; with the next frame. Unknown keys are ignored."""
        if (number := self._flow.set_tool(key, row)) is not None:
            self._viewport.note_news(number)
            self._request_frame()

    def show_card(self, key: str, call: int) -> bool:
        """Bring the card of a call into view; return false where there is none, or not all of it is seen at once."""
        self._request_frame()
        self._catch_up()
        number = self._flow.find_key(key)
        return number is not None and self._cursor.show_card(number, call)

    def set_phase(self, key: str, phase: str, *, colour: str = "") -> None:
        """Show what a turn waits for ("prefill 4.1 s") until it begins, move its clocks, and give its bar a `colour`."""
        if stream := self._flow.streaming(key):
            stream.set_phase(phase)
            if colour:
                stream.entry.colour = colour
            self._request_frame()

    def finish(self, key: str, ending: Ending = WHOLE_ANSWER) -> None:
        """End a stream; the text it had stays, whatever its ending. Unknown keys are ignored."""
        number = self._flow.end_stream(key, ending)
        if number is not None:
            self._viewport.note_news(number)
            self._request_frame(urgent=True)

    def is_streaming(self, key: str) -> bool:
        """Return whether a message still grows."""
        return self._flow.streaming(key) is not None

    def text_of(self, key: str) -> str | None:
        """Return the whole source text of a message, also what waits for its frame."""
        number = self._flow.find_key(key)
        return None if number is None else self._flow.whole_entry(number).text

    def set_pinned(self, key: str, pinned: bool) -> None:
        """Show a message as pinned, or no longer. Unknown keys are ignored."""
        if (number := self._flow.find_key(key)) is not None:
            self._flow.set_pinned(number, pinned)
            self._catch_up()

    def current(self) -> Entry | None:
        """Return the message that keys act on: the one under the cursor, else the last."""
        return self._cursor.entry()

    def search(self, pattern: str) -> None:
        """Highlight a text everywhere, a slice with each frame, and go to its nearest match upwards; empty stops."""
        self.stop_search()
        if pattern:
            self._search = Search(pattern, self._flow.entries, self._flow.first)
            self._scan(self._search)

    def stop_search(self) -> None:
        if self._search is not None:
            self._search = self._hit = None
            self._request_frame()

    def _scan(self, search: Search) -> None:
        """Search one more slice; go to the first match found."""
        first = not search.count
        if search.scan() and first and search.newest is not None:
            self._go_to_hit(search, search.newest)
        self._post_search(search)
        self._request_frame()

    def _go_to_hit(self, search: Search, hit: Hit) -> None:
        """Put a hit in view and the cursor on its message."""
        self._hit = hit
        self._cursor.reveal(search.pattern, hit)
        self._catch_up()

    def _post_search(self, search: Search) -> None:
        self.post_message(self.SearchChanged(self, search.count, search.done, search.place_of(self._hit)))

    # Frames

    def frame(self) -> None:
        """Draw what has come since the last frame; called by the frame clock."""
        if not on_terminal(self):
            self._stale = self._hidden = True
            return
        if self._search is not None and not self._search.done:
            self._scan(self._search)
        self._catch_up()

    def _request_frame(self, *, urgent: bool = False) -> None:
        if self._hidden:
            return
        if self._tick is None:
            if not self.is_attached:
                return
            self._tick = frame_scheduler(app_of(self))
        self._tick.request(self, urgent=urgent)

    def _catch_up(self) -> None:
        """Bring everything to the present: streams, heights, position, rows; repaint what differs."""
        self._stale = self._hidden = False
        for number in self._flow.settle_streams():
            self._viewport.note_news(number)
        self._settle()

    def _settle(self) -> None:
        """Bring position and rows to the present; repaint the lines that differ."""
        size = self.size
        if not size.width or not size.height:
            self._stale = True
            return
        beside = self._canvas.bar_cells + palette.SCROLL_CELLS + (size.width >= palette.ROOMY)
        self._viewport.resize(max(1, min(MEASURE, size.width - beside)), size.height)
        # A reader who scrolled up will scroll on: the screen above is drawn exactly, so that nothing jumps then.
        margin = 0 if self._viewport.following else size.height
        self._place(self._viewport.settle(margin=margin))
        for region in self._canvas.update(self._marks(), size.width):
            self.refresh(region)
        if self._viewport.following != self._following:
            self._following = self._viewport.following
            self.post_message(self.FollowChanged(self, self._following))

    def _place(self, top: int) -> None:
        """Set Textual's idea of size and position without a layout."""
        size = Size(self.size.width, self._viewport.total)
        self._placing = True
        try:
            if size != self.virtual_size:
                # `set_reactive` sets it without the watchers, which would ask for a layout of the whole screen.
                self.set_reactive(Widget.virtual_size, size)  # pyright: ignore[reportArgumentType]
            # the target as well: Textual scrolls on from there
            self.scroll_y = self.scroll_target_y = float(top)
        finally:
            self._placing = False

    def _marks(self) -> Marks:
        unread = self._viewport.unread
        return Marks(
            cursor=self._cursor.target if self.has_focus or self._search is not None else None,
            selection=self.screen.selections.get(self),
            pattern=self._search.pattern if self._search is not None else None,
            badge=f" {unread} new ↓ " if unread else "",
            hit=self._hit_row(),
        )

    def _hit_row(self) -> tuple[int, int, int] | None:
        """Return message, row within it and match in the row of the hit that is shown."""
        spot = self._cursor.hit
        if spot is None or self._search is None or not self._flow.first <= spot.number < self._flow.end:
            return None
        return (
            spot.number,
            self._flow.message(spot.number).top(spot.piece, self._flow.width) + spot.row,
            spot.nth,
        )

    # What Textual asks and says

    def on_mount(self) -> None:
        self._request_frame()

    def on_unmount(self) -> None:
        if self._tick is not None:
            self._tick.forget(self)

    def on_resize(self, event: events.Resize) -> None:
        """Wrap anew, at once: the row at the top stays."""
        self._catch_up()

    def on_show(self) -> None:
        """Draw what came while the widget was hidden."""
        self._hidden = False
        self._request_frame()

    def on_focus(self) -> None:
        self._request_frame()

    def on_blur(self) -> None:
        self._request_frame()

    def notify_style_update(self) -> None:
        """Forget strips drawn in other colours."""
        super().notify_style_update()
        self._canvas.forget()
        self._stale = True

    def render_lines(self, crop: Region) -> list[Strip]:
        """Return the rows on screen; the strips are kept, so the terminal codes in them are too."""
        if self._stale:
            self._catch_up()
        # Textual's way would build each line anew, for the border, tint and filters that are not there.
        if self._canvas.plain and len(self.get_line_filters()) == 1:  # Textual's own alone
            return self._canvas.lines(crop)
        self._painting = True
        try:
            return super().render_lines(crop)
        finally:
            self._painting = False

    def render_line(self, y: int) -> Strip:
        """Return one row; with the marks by which the mouse finds its text when it is not for drawing."""
        return self._canvas.line(y) if self._painting else self._canvas.marked_line(y)

    @property
    def allow_vertical_scroll(self) -> bool:
        """Whether there is more than the window shows; the scrollbar is our own."""
        return not self._check_disabled() and self._viewport.total > self._viewport.height

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Scroll where the reader did; our own moves change nothing here."""
        if not self._placing and self.is_mounted and round(old_value) != round(new_value):
            self._viewport.scrolled(round(new_value))
            self._settle()

    def _scroll_to(self, *args: object, **options: object) -> bool:
        """Scroll at once: an animation would aim at a row that a corrected height has moved."""
        options["animate"] = False
        return super()._scroll_to(*args, **options)  # type: ignore[arg-type]

    # Mouse and selection

    def on_mouse_down(self, event: events.MouseDown) -> None:
        offset = event.get_content_offset(self)
        if offset is not None and self._canvas.on_scrollbar(offset.x):
            self._dragging = True
            self.capture_mouse()
            self.screen.clear_selection()
            self._drag_to(offset.y)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        if self._dragging:
            self._drag_to(event.y)

    def on_mouse_up(self) -> None:
        if self._dragging:
            self._dragging = False
            self.release_mouse()

    def _drag_to(self, y: int) -> None:
        self.scroll_to(y=self._viewport.row_at_thumb(y), animate=False)

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
            if not self._choose_card(self._canvas.key_at(offset.x, offset.y)) and fold_line:
                self._cursor.toggle_fold()
            self._catch_up()

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """Return the selected text, decoration left out and wrapped lines joined."""
        return selected_text(self._viewport, selection), "\n"

    def selection_updated(self, selection: Selection | None) -> None:
        self._request_frame()

    def text_select_all(self) -> None:
        """Select the message under the pointer: a double click never means the whole history."""
        number = self._canvas.number_at(app_of(self).mouse_position.y - self.content_region.y)
        if number is not None:
            begin, end = Offset(0, line_id(number, 0)), Offset(0, line_id(number + 1, 0))
            self.screen.selections = {self: Selection(begin, end)}

    def scroll_to_beginning(self) -> None:
        """Go to the first message and stay there."""
        self._viewport.hold(Place(self._flow.first, 0, 0))
        self._request_frame()

    def scroll_to_tail(self) -> None:
        """Go to the newest text and follow it."""
        self._viewport.follow()
        self._catch_up()

    def action_cursor(self, step: int) -> None:
        """Go to the next or previous message or code block, or scroll through a tall one."""
        self._cursor.move(step, SCROLL_LINES)
        self._catch_up()

    def action_top(self) -> None:
        if self._flow.entries:
            self._viewport.hold(Place(self._flow.first, 0, 0))
            self._cursor.put(Target(self._flow.first))
            self._catch_up()

    def action_tail(self) -> None:
        self._cursor.clear()
        self.scroll_to_tail()

    def action_hit(self, step: int) -> None:
        if (search := self._search) is None:
            self.notify("nothing is sought here: / finds", markup=False)
            return
        end = self._cursor.number if self._cursor.number is not None else self._flow.end
        here = self._hit if self._hit is not None and self._hit.number == end else Hit(end, 0)
        if (hit := search.after(here) if step > 0 else search.before(here)) is not None:
            self._go_to_hit(search, hit)
            self._post_search(search)
        else:
            self.notify(f"no hit further {'down' if step > 0 else 'up'}", markup=False)

    def action_copy(self) -> None:
        """Copy the selection, the code block or the message under the cursor."""
        entry = self._here()
        text = self.screen.get_selected_text() or self._cursor.text()
        if text and entry is not None:
            app_of(self).copy_to_clipboard(text)
            self.notify(f"copied {len(text):,} characters", markup=False)
            self.post_message(self.Copied(self, entry, text))

    def action_raw(self) -> None:
        if self._here() is not None:
            self._cursor.toggle_raw()
        self._catch_up()

    def action_fold(self) -> None:
        if self._here() is not None and not self._choose_card() and not self._cursor.toggle_fold():
            self.notify("nothing folds here", markup=False)
        self._catch_up()

    def _choose_card(self, key: str = "") -> bool:
        """Say that the card under the cursor was chosen; return whether there is one."""
        if (card := self._cursor.card()) is not None and (entry := self._cursor.entry()) is not None:
            self.post_message(self.CardChosen(self, entry, card.row.number, key))
        return card is not None

    def action_ask_again(self) -> None:
        self._post_about(self.AskAgain)

    def action_pipe(self) -> None:
        self._post_about(self.Pipe)

    def action_quote(self) -> None:
        self._post_about(self.Quote)

    def action_edit(self) -> None:
        self._post_about(self.EditAndAsk)

    def action_sent(self) -> None:
        self._post_about(self.WhatWasSent)

    def _here(self) -> Entry | None:
        if (entry := self._cursor.entry()) is None:
            self.notify("there is no message here yet", markup=False)
        return entry

    def _post_about(self, kind: type[messages.About]) -> None:
        if (entry := self._here()) is not None:
            self.post_message(kind(self, entry, self._cursor.text()))
