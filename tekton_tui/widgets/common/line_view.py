"""A log of foreign text: followed or held, wrapped or cut, filtered; dropped and hidden lines are counted."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from typing import ClassVar, Self

from rich.console import RenderableType
from rich.segment import Segment
from rich.text import Text
from textual import events
from textual.binding import BindingType
from textual.strip import Strip
from textual.theme import Theme
from textual.widgets import RichLog

from tekton_tui.runtime.frame_scheduler import app_of
from tekton_tui.safe_text import safe_inline
from tekton_tui.verbs import bindings

MAX_LINES = 20_000


class LineView(RichLog, can_focus=True):
    """Lines are given with `add`; `kept` holds them all, `hidden` counts those that the filter leaves out."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("lines")

    def __init__(self, *, clock_cells: int = 0, lead_cells: int = 0, id: str | None = None) -> None:
        """`clock_cells` of each line are its time, `lead_cells` with whose it is: they have colours of their own."""
        self._clock_cells, self._lead_cells = clock_cells, lead_cells
        super().__init__(
            id=id, markup=False, highlight=False, wrap=False, auto_scroll=True, max_lines=MAX_LINES
        )
        self.kept: deque[tuple[str, str]] = deque(maxlen=MAX_LINES)
        self.hidden = 0
        self.dropped = 0
        self.pattern = ""
        self.following = True

    def on_mount(self) -> None:
        app_of(self).theme_changed_signal.subscribe(self, self._colour_anew)

    def render_line(self, y: int) -> Strip:
        """Return a row; one that goes on beyond the right border says so."""
        strip = super().render_line(y)
        at, width = self.scroll_offset.y + y, strip.cell_length
        goes_on = at < len(self.lines) and self.lines[at].cell_length > self.scroll_offset.x + width
        if not goes_on or width < 2:
            return strip
        cut = strip.crop(0, width - 1)
        # the sign has the colour of what it stands behind
        style = next((segment.style for segment in reversed(list(cut)) if segment.text), None)
        return Strip([*cut, Segment("…", style)], width)

    def add(self, lines: Iterable[tuple[str, str]]) -> None:
        """Add `(text, style)` lines; style is a theme colour name or empty."""
        for text, tone in lines:
            # a full deque drops its oldest without a word
            if len(self.kept) == MAX_LINES:
                self.dropped += 1
            self.kept.append((text, tone))
            self._write_line(text, tone)

    def replace(self, lines: Iterable[tuple[str, str]]) -> None:
        self.kept.clear()
        self.clear()
        self.hidden = 0
        self.add(lines)

    def set_filter(self, pattern: str) -> None:
        """Show only lines that match a regular expression; `!` in front inverts it."""
        self.pattern = pattern
        self._rewrite()

    def action_follow(self) -> None:
        self.following = self.auto_scroll = not self.following
        if self.following:
            self.scroll_end(animate=False)

    def action_wrap(self) -> None:
        self.wrap = not self.wrap
        self._rewrite()
        self.notify(f"long lines are {'wrapped' if self.wrap else 'cut'}", markup=False)

    def action_end(self) -> None:
        self.following = self.auto_scroll = True
        self.scroll_end(animate=False)

    def action_hit(self, step: int) -> None:
        """Go a screen's line up or down to the next line that has an error in it."""
        words = ("error", "exception", "traceback", "killed", "failed")
        shown = [
            index for index, strip in enumerate(self.lines) if any(w in strip.text.lower() for w in words)
        ]
        top = round(self.scroll_offset.y)
        found = (
            next((i for i in shown if i > top), None)
            if step > 0
            else next((i for i in reversed(shown) if i < top), None)
        )
        if found is None:
            self.notify("no line of an error further " + ("down" if step > 0 else "up"), markup=False)
        else:
            self.following = self.auto_scroll = False
            self.scroll_to(y=found, animate=False)

    def action_scroll_home(self) -> None:
        self.scroll_home(animate=False)

    def action_copy(self) -> None:
        lines = [text for text, _ in self.kept if passes(text, self.pattern)]
        app_of(self).copy_to_clipboard("\n".join(lines))
        self.notify(f"copied {len(lines)} line{'s' * (len(lines) != 1)}", markup=False)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self.following = self.auto_scroll = False

    def _rewrite(self) -> None:
        self.clear()
        self.hidden = 0
        for text, tone in self.kept:
            self._write_line(text, tone)

    def _colour_anew(self, _theme: Theme) -> None:
        """Write all lines in the colours of another theme, and stay where they are read."""
        top, following = self.scroll_offset.y, self.following
        self._rewrite()
        if not following:
            self.call_after_refresh(self.scroll_to, y=top, animate=False)

    def _write_line(self, text: str, tone: str) -> None:
        if not passes(text, self.pattern):
            self.hidden += 1
            return
        self.write(self._styled(safe_inline(text), tone), scroll_end=self.following)

    def _styled(self, text: str, tone: str) -> Text:
        """Return a line in its colour, what stands in all lines at the left quieter."""
        colours = app_of(self).theme_variables
        styled = Text(text, style=colours.get(tone, "") if tone else "", no_wrap=not self.wrap)
        if self._clock_cells:
            styled.stylize(colours["text-muted"], 0, self._clock_cells)
            styled.stylize(colours["foreground"], self._clock_cells, self._lead_cells)
        return styled


def passes(text: str, pattern: str) -> bool:
    """Return whether a text fits a filter: words or a regular expression, `!` in front inverts; all fits an empty one."""
    wanted, inverse = pattern.removeprefix("!"), pattern.startswith("!")
    if not wanted:
        return True
    try:
        found = re.search(wanted, text, re.IGNORECASE) is not None
    except re.error:
        # a pattern that is still being typed, such as `(err`, is taken as words
        found = wanted.lower() in text.lower()
    return found != inverse


class NewestFirst(LineView):
    """The newest line on top. Who reads further down stays where he reads; at the top what is new comes into sight."""

    def __init__(self, *, clock_cells: int = 0, lead_cells: int = 0, id: str | None = None) -> None:
        super().__init__(clock_cells=clock_cells, lead_cells=lead_cells, id=id)
        self.max_lines = None  # of the base class: it would drop what stands first

    def write(
        self,
        content: RenderableType | object,
        width: int | None = None,
        expand: bool = False,
        shrink: bool = True,
        scroll_end: bool | None = None,
        animate: bool = False,
    ) -> Self:
        """Put a line on top."""
        before = len(self.lines)
        super().write(content, width, expand, shrink, scroll_end=False, animate=animate)
        came = len(self.lines) - before
        if came > 0:
            # RichLog writes below: what it wrote is moved to the top
            self.lines[:0] = self.lines[before:]
            del self.lines[before + came : before + 2 * came]
            del self.lines[MAX_LINES:]
            self._line_cache.clear()
            self.refresh()
            if not self.following:
                # all rows move down by what came, and the reader with them
                self.scroll_relative(y=came, animate=False, immediate=True)
        return self

    def action_follow(self) -> None:
        self.following = not self.following
        if self.following:
            self.scroll_home(animate=False)

    def action_scroll_home(self) -> None:
        self.following = True
        self.scroll_home(animate=False)

    def action_end(self) -> None:
        self.scroll_end(animate=False)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Follow again at the top, and hold anywhere else."""
        super().watch_scroll_y(old_value, new_value)
        if round(old_value) != round(new_value):
            self.following = not new_value

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Scrolling alone says whether it is followed."""
