"""The transcript: one line-drawn widget for a whole conversation; knows neither the backend nor the stores.

Text that arrives is only kept until the app's frame clock gives this widget a frame; while it is not on screen
it gets none. Drawing goes by rows: what did not change is the very same strip as before and is not sent again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from textual import events
from textual.app import App
from textual.binding import Binding, BindingType
from textual.dom import NoScreen
from textual.errors import NoWidget
from textual.geometry import Offset, Region, Size
from textual.message import Message as TextualMessage
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip
from textual.widget import Widget

from tekton_tui.safe_text import safe
from tekton_tui.transcript import palette
from tekton_tui.transcript.canvas import Canvas, Marks
from tekton_tui.transcript.cursor import Cursor, Target
from tekton_tui.transcript.entry import Entry
from tekton_tui.transcript.flow import Flow, Place
from tekton_tui.transcript.message import Look
from tekton_tui.transcript.overlay import line_id
from tekton_tui.transcript.pieces import Piece
from tekton_tui.transcript.search import Search
from tekton_tui.transcript.selecting import selected_text
from tekton_tui.transcript.tick import FrameTick, frame_tick
from tekton_tui.transcript.viewport import Viewport
from tekton_tui.transcript.warm import warm

ROOMY: Final = 40
"""A transcript this wide keeps a cell free before its scrollbar."""
SCROLL_LINES: Final = 3
"""Rows the cursor keys scroll through a message that is taller than the window."""


class Transcript(ScrollView, can_focus=True):
    """A conversation, drawn by rows.

    Args:
        look: Whether headers are shown and how far messages are apart.
        bar: Draw the speaker's bar left of each message.
    """

    ALLOW_SELECT = True
    ALLOW_MAXIMIZE = False
    COMPONENT_CLASSES: ClassVar[set[str]] = set(palette.COMPONENT_CLASSES)
    DEFAULT_CSS = palette.DEFAULT_CSS

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "cursor(-1)", "Message", show=False, id="transcript.up"),
        Binding("down", "cursor(1)", "Message", show=False, id="transcript.down"),
        Binding("g,home", "top", "Top", show=False, id="transcript.top"),
        Binding("G,end", "tail", "End", show=False, id="transcript.tail"),
        Binding("y", "copy", "Copy", id="transcript.copy"),
        Binding("v", "raw", "Raw", id="transcript.raw"),
        Binding("enter", "fold", "Fold", show=False, id="transcript.fold"),
        Binding("n", "hit(1)", "Next hit", show=False, id="transcript.next-hit"),
        Binding("N", "hit(-1)", "Previous hit", show=False, id="transcript.previous-hit"),
        Binding("R", "ask_again", "Ask again", id="transcript.ask-again"),
        Binding("vertical_line", "pipe", "Pipe", key_display="|", id="transcript.pipe"),
        Binding("greater_than_sign", "quote", "Quote", key_display=">", show=False, id="transcript.quote"),
        Binding("i", "edit", "Edit and ask", show=False, id="transcript.edit"),
    ]

    class About(TextualMessage):
        """Base of what the reader asks for about one message."""

        def __init__(self, transcript: Transcript, entry: Entry, text: str) -> None:
            super().__init__()
            self.transcript = transcript
            self.entry = entry
            """The message under the cursor."""
            self.text = text
            """Its text, neutralised; of a code block when the cursor is on one."""

        @property
        def control(self) -> Transcript:
            """The transcript it came from."""
            return self.transcript

    class Copied(About):
        """Posted when text was put on the clipboard."""

    class AskAgain(About):
        """Posted on `R`: ask the question of this message again."""

    class Pipe(About):
        """Posted on `|`: take this message as input of a pipeline."""

    class Quote(About):
        """Posted on `>`: put this message, quoted, into the composer."""

    class EditAndAsk(About):
        """Posted on `i`: put this question into the composer to change and send it."""

    class SearchChanged(TextualMessage):
        """Posted when the search has found more, or has looked at everything."""

        def __init__(self, transcript: Transcript, count: int, done: bool) -> None:
            super().__init__()
            self.transcript = transcript
            self.count = count
            """Messages that match, so far."""
            self.done = done

        @property
        def control(self) -> Transcript:
            """The transcript it came from."""
            return self.transcript

    class FollowChanged(TextualMessage):
        """Posted when the reader left the tail or came back to it."""

        def __init__(self, transcript: Transcript, following: bool) -> None:
            super().__init__()
            self.transcript = transcript
            self.following = following

        @property
        def control(self) -> Transcript:
            """The transcript it came from."""
            return self.transcript

    def __init__(
        self,
        *,
        look: Look | None = None,
        bar: bool = True,
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(name=name, id=id, classes=classes)
        self._flow = Flow(look or Look())
        self._viewport = Viewport(self._flow)
        self._cursor = Cursor(self._viewport)
        self._canvas = Canvas(self, bar=bar)
        self._search: Search | None = None
        self._tick: FrameTick | None = None
        self._stale = True
        self._placing = False
        self._following = True
        self._painting = False
        self._grabbed = False

    # Content

    @property
    def entries(self) -> Sequence[Entry]:
        """All messages, oldest first; the texts of running streams lag by at most a frame."""
        return self._flow.entries

    @property
    def following(self) -> bool:
        """Whether the tail is held in view."""
        return self._viewport.following

    @property
    def unread(self) -> int:
        """How many messages got text below what is being read."""
        return self._viewport.unread

    def load(self, entries: Sequence[Entry]) -> None:
        """Replace everything and go to the tail; does not depend on how much there is."""
        self._cursor.clear()
        self._viewport.load(entries)
        self.stop_search()
        self._ask()

    def prepend(self, entries: Sequence[Entry]) -> None:
        """Put older messages before the first; what is being read stays where it is."""
        self._flow.prepend(entries)
        if self._search is not None:
            self._search = self._search.over(self._flow.entries, self._flow.first)
        self._ask()

    def clear(self) -> None:
        """Forget everything."""
        self.load([])

    def append_entry(self, entry: Entry) -> None:
        """Add a finished message at the end."""
        self._viewport.note_news(self._flow.append(entry))
        self._ask()

    def begin(self, entry: Entry) -> None:
        """Open a message that will stream: its key names it in the calls below."""
        warm()
        self._viewport.note_news(self._flow.append(entry, streaming=True))
        self._ask()

    def append_text(self, key: str, text: str) -> None:
        """Take more of a streaming answer; drawn with the next frame. Unknown keys are ignored."""
        stream = self._flow.streaming(key)
        if stream is not None:
            stream[1].write(text)
            self._ask()

    def append_reasoning(self, key: str, text: str) -> None:
        """Take more of a streaming model's reasoning; drawn with the next frame."""
        stream = self._flow.streaming(key)
        if stream is not None:
            stream[1].write_reasoning(text)
            self._ask()

    def set_phase(self, key: str, phase: str) -> None:
        """Say what a turn waits for ("prefill 4.1 s") until its first token."""
        stream = self._flow.streaming(key)
        if stream is not None:
            stream[1].set_phase(phase)
            self._ask()

    def finish(self, key: str, *, footer: str = "") -> None:
        """End a stream; `footer` holds short facts about it."""
        self._end(key, footer=footer)

    def fail(self, key: str, code: str, text: str, *, footer: str = "") -> None:
        """End a stream with an error shown under the text it had."""
        self._end(key, code=code, error=text, footer=footer)

    def text_of(self, key: str) -> str | None:
        """Return the whole source text of a message, also what waits for its frame."""
        stream = self._flow.streaming(key)
        if stream is not None:
            stream[1].settle_pending()
        number = self._flow.find_key(key)
        return None if number is None else self._flow.entry(number).text

    def message_pieces(self, number: int) -> Sequence[Piece]:
        """Return the parts of a message by its number."""
        return self._flow.message(number).pieces

    def message_rows(self, number: int) -> int:
        """Return the rows of a message by its number, without the gap after it."""
        return self._flow.message(number).height(self._flow.width) - self._flow.look.gap

    def top_message(self) -> Entry | None:
        """Return the message at the top of the window."""
        if not self._flow.entries:
            return None
        return self._flow.entry(self._flow.first + self._flow.heights.find(self._viewport.top)[0])

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
        self._search_on()

    def _search_on(self) -> None:
        """Look at one more slice; the first match found is gone to."""
        search = self._search
        if search is None:
            return
        first = not search.count
        if search.scan() and first:
            self._go_to(search.numbers[-1])
        self.post_message(self.SearchChanged(self, search.count, search.done))
        self._ask()

    def stop_search(self) -> None:
        """Remove the highlights."""
        if self._search is not None:
            self._search = None
            self._ask()

    def action_hit(self, step: int) -> None:
        """Go to the next or previous match."""
        if self._search is None:
            return
        here = self._cursor.number if self._cursor.number is not None else self._flow.end
        number = self._search.after(here) if step > 0 else self._search.before(here)
        if number is not None:
            self._go_to(number)

    # Frames

    def frame(self) -> None:
        """Draw what has come since the last frame; called by the frame clock."""
        if not self._in_view():
            self._stale = True
            return
        if self._search is not None and not self._search.done:
            self._search_on()
        self._catch_up()

    def _ask(self, *, urgent: bool = False) -> None:
        """Ask the clock for a frame."""
        if self._tick is None:
            if not self.is_attached:
                return
            self._tick = frame_tick(self._any_app)
        self._tick.request(self, urgent=urgent)

    @property
    def _any_app(self) -> App[object]:
        """The app, of whatever kind."""
        return self.app  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]

    def _in_view(self) -> bool:
        """Whether any of this widget is on the terminal: only then is it drawn."""
        try:
            screen = self.screen
            if not screen.is_current and screen not in self._any_app.screen_stack:
                return False
            if not self._any_app.screen.is_modal and not screen.is_current:
                return False
            return bool(screen.find_widget(self).visible_region)
        except (NoScreen, NoWidget):
            return False

    def _catch_up(self) -> None:
        """Bring everything to the present: streams, heights, position, rows; repaint what differs."""
        self._stale = False
        for number, message in self._flow.open_streams():
            if message.settle_pending():
                self._viewport.note_news(number)
            self._flow.measure(number)
        self._settle()

    def _settle(self) -> None:
        size = self.size
        if not size.width or not size.height:
            self._stale = True
            return
        beside = self._canvas.bar_cells + palette.SCROLL_CELLS + (size.width >= ROOMY)
        self._viewport.resize(max(1, size.width - beside), size.height)
        margin = 0 if self._viewport.following else size.height
        top = self._viewport.settle(margin=margin)
        self._place(top)
        for region in self._canvas.update(self._viewport, self._marks(), self.size.width):
            self.refresh(region)
        if self._viewport.following != self._following:
            self._following = self._viewport.following
            self.post_message(self.FollowChanged(self, self._following))

    def _place(self, top: int) -> None:
        """Tell Textual size and position without a layout: the box of this widget never changes with its text."""
        total = self._viewport.total
        size = Size(self.size.width, total)
        self._placing = True
        try:
            if size != self.virtual_size:
                self.set_reactive(Widget.virtual_size, size)  # pyright: ignore[reportArgumentType]
            self.scroll_y = float(top)
            self.scroll_target_y = float(top)
        finally:
            self._placing = False

    def _marks(self) -> Marks:
        selection = self.screen.selections.get(self)
        return Marks(
            cursor=self._cursor.target if self.has_focus else None,
            selection=selection,
            pattern=None if self._search is None else self._search.pattern,
            badge=f" {self._viewport.unread} new ↓ " if self._viewport.unread else "",
        )

    def _end(self, key: str, *, footer: str, code: str = "", error: str = "") -> None:
        stream = self._flow.streaming(key)
        if stream is None:
            return
        number, message = stream
        message.entry.footer, message.entry.code, message.entry.error = footer, code, error
        message.finish()
        self._flow.measure(number)
        self._flow.end_stream(key)
        self._viewport.note_news(number)
        self._ask(urgent=True)

    def _go_to(self, number: int) -> None:
        """Put the first match of a message in view and the cursor on the message."""
        self._cursor.put(Target(number))
        self._cursor.reveal(self._search.pattern if self._search is not None else None)
        self._catch_up()

    # Textual's side

    def on_mount(self) -> None:
        """Draw what was given before."""
        self._ask()

    def on_unmount(self) -> None:
        """Leave the clock."""
        if self._tick is not None:
            self._tick.forget(self)

    def on_resize(self, event: events.Resize) -> None:
        """Wrap anew, at once: the row at the top stays."""
        self._catch_up()

    def on_show(self) -> None:
        """Draw what gathered while nobody looked."""
        self._ask()

    def on_focus(self) -> None:
        """Show the cursor."""
        self._ask()

    def on_blur(self) -> None:
        """Hide the cursor."""
        self._ask()

    def notify_style_update(self) -> None:
        """Forget strips drawn in other colours."""
        super().notify_style_update()
        self._canvas.forget()
        self._stale = True

    @property
    def allow_vertical_scroll(self) -> bool:
        """Whether there is more than the window shows; the scrollbar is our own."""
        return not self._check_disabled() and self._viewport.total > self._viewport.height

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """Take hold of the scrollbar."""
        offset = event.get_content_offset(self)
        if offset is not None and self._canvas.on_scrollbar(offset.x):
            self._grabbed = True
            self.capture_mouse()
            self.screen.clear_selection()
            self._drag_to(offset.y)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Move the scrollbar."""
        if self._grabbed:
            self._drag_to(event.y)

    def on_mouse_up(self) -> None:
        """Let the scrollbar go."""
        if self._grabbed:
            self._grabbed = False
            self.release_mouse()

    def _drag_to(self, y: int) -> None:
        height = max(1, self.size.height - 1)
        part = min(1.0, max(0.0, y / height))
        self.scroll_to(y=round(part * (self._viewport.total - self._viewport.height)), animate=False)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Follow the reader; our own moves change nothing here."""
        if self._placing or not self.is_mounted:
            return
        if round(old_value) != round(new_value):
            self._viewport.scrolled(round(new_value))
            self._settle()

    def _scroll_to(self, *args: object, **options: object) -> bool:
        """Scroll at once: an animation would aim at a row that a corrected height has moved."""
        options["animate"] = False
        return super()._scroll_to(*args, **options)  # type: ignore[arg-type]

    def render_lines(self, crop: Region) -> list[Strip]:
        """Return the rows on screen; the strips are kept, so the terminal codes in them are too."""
        if self._stale:
            self._catch_up()
        if self._canvas.plain:
            return self._canvas.lines(crop)
        self._painting = True
        try:
            return super().render_lines(crop)
        finally:
            self._painting = False

    def render_line(self, y: int) -> Strip:
        """Return one row; with the marks by which the mouse finds its text when it is not for drawing."""
        return self._canvas.line(y) if self._painting else self._canvas.marked_line(y)

    # Selection

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """Return the selected text, decoration left out and wrapped lines joined."""
        return selected_text(self._viewport, selection), "\n"

    def selection_updated(self, selection: Selection | None) -> None:
        """Show the selection."""
        self._ask()

    def text_select_all(self) -> None:
        """Select the message under the pointer: a double click never means the whole history."""
        number = self._canvas.number_at(self._any_app.mouse_position.y - self.content_region.y)
        if number is not None:
            whole = Selection(Offset(0, line_id(number, 0)), Offset(0, line_id(number + 1, 0)))
            self.screen.selections = {self: whole}

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

    def _post_about(self, kind: type[About]) -> None:
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
