"""The drawing side of a transcript: frames, position, rows, mouse; knows no messages' verbs and no keys.

Nothing is drawn until the app's frame clock says so; while this is not on screen it gets no frames. Textual is
told size and position without a layout: the box of this widget never changes with its text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar, Final

from textual import events
from textual.app import App
from textual.dom import NoScreen
from textual.errors import NoWidget
from textual.geometry import Offset, Region, Size
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip
from textual.widget import Widget

from tekton_tui.tick import FrameTick, frame_tick
from tekton_tui.transcript import palette
from tekton_tui.transcript.canvas import Canvas, Marks
from tekton_tui.transcript.cursor import Cursor
from tekton_tui.transcript.flow import Flow
from tekton_tui.transcript.message import Look
from tekton_tui.transcript.overlay import line_id
from tekton_tui.transcript.pieces import Piece
from tekton_tui.transcript.selecting import selected_text
from tekton_tui.transcript.viewport import Viewport

ROOMY: Final = 40
"""A transcript this wide keeps a cell free before its scrollbar."""


class Surface(ScrollView, can_focus=True):
    """A column of messages, drawn by rows: what did not change is the very same strip and is not sent again."""

    ALLOW_SELECT = True
    ALLOW_MAXIMIZE = False
    COMPONENT_CLASSES: ClassVar[set[str]] = set(palette.COMPONENT_CLASSES)

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
        self._pattern: re.Pattern[str] | None = None
        self._tick: FrameTick | None = None
        self._stale = True
        self._placing = False
        self._following = True
        self._painting = False
        self._grabbed = False

    def frame(self) -> None:
        """Draw what has come since the last frame; called by the frame clock."""
        if not self._in_view():
            self._stale = True
            return
        self.before_frame()
        self._catch_up()

    def before_frame(self) -> None:
        """Do what is done once a frame while this is on screen."""

    def follow_changed(self, following: bool) -> None:
        """Take note that the reader left the tail or came back to it."""

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
            self.follow_changed(self._following)

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
            cursor=self._cursor.target if self.has_focus or self._pattern is not None else None,
            selection=selection,
            pattern=self._pattern,
            badge=f" {self._viewport.unread} new ↓ " if self._viewport.unread else "",
        )

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

    def message_pieces(self, number: int) -> Sequence[Piece]:
        """Return the parts of a message by its number."""
        return self._flow.message(number).pieces

    def message_rows(self, number: int) -> int:
        """Return the rows of a message by its number, without the gap after it."""
        return self._flow.message(number).height(self._flow.width) - self._flow.look.gap

    @property
    def following(self) -> bool:
        """Whether the tail is held in view."""
        return self._viewport.following
