"""A compositor that redraws changed regions alone. Knows regions and widgets, not what is drawn.

Textual renders a partial update from every widget that overlaps the bounding box of all changes: with lanes changing in
three corners that is the whole screen, sixty times a second. Here a changed region inside one topmost widget is rendered
by that widget alone; other regions go Textual's way. Written against Textual 8.2, which is pinned.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import NamedTuple

from rich.console import Console
from textual._compositor import ChopsUpdate, Compositor, CompositorUpdate, ReflowResult
from textual.geometry import Region, Size
from textual.screen import UPDATE_PERIOD, Screen
from textual.strip import Strip
from textual.widget import Widget

from tekton_tui.runtime.layout_once import laid_out_once
from tekton_tui.runtime.paint_timer import PaintTimer

RESET = "\x1b[0m"


class Visible(NamedTuple):
    """A widget and the part of the screen it covers, if nothing lies in front of it."""

    x: int
    y: int
    right: int
    bottom: int
    widget: Widget
    region: Region


class PartialUpdate(CompositorUpdate):
    """Strips, each with the column and row at which it begins; then Textual's own update of the other regions."""

    def __init__(self, strips: list[tuple[int, int, Strip]], rest: ChopsUpdate | None) -> None:
        self.strips = strips
        self.rest = rest

    def render_segments(self, console: Console) -> str:
        """Return what is written: of strips that look the same one alone says how, for that is most of a cell's bytes."""
        drawn = [(f"\x1b[{y + 1};{x + 1}H", strip.render(console)) for x, y, strip in self.strips]
        looks: dict[str, list[str]] = {}
        for move, code in drawn:
            look, body = _parted(code)
            looks.setdefault(look, []).append(move + body)
        codes = ["".join([look, *parts, RESET if look else ""]) for look, parts in looks.items()]
        if self.rest is not None:
            codes.append(self.rest.render_segments(console))
        return "".join(codes)


def _parted(code: str) -> tuple[str, str]:
    """Return the look of text that has one, and the text; of other codes no look and all."""
    look, end, text = code.partition("m")
    if (
        end
        and code.startswith("\x1b[")
        and text.endswith(RESET)
        and text.count("\x1b") == 1 == look.count("\x1b")
    ):
        return f"{look}m", text.removesuffix(RESET)
    return "", code


def _runs(rows: set[int]) -> Iterator[tuple[int, int]]:
    """Yield each run of rows that lie one below the other: its first, and how many."""
    for _, run in groupby(enumerate(sorted(rows)), lambda pair: pair[1] - pair[0]):
        one = [row for _, row in run]
        yield one[0], len(one)


class PartialCompositor(Compositor):
    """Renders a region that lies wholly in one topmost widget from that widget alone."""

    def __init__(self) -> None:
        super().__init__()
        self._layout: Mapping[Widget, tuple[Region, Region]] = {}
        self._visible: list[Visible] = []
        self._told: dict[Widget, Size] = {}
        """The widgets of the last layout, each with the size it was told."""

    def reflow(self, parent: Widget, size: Size) -> ReflowResult:
        """Lay out all widgets; return which are hidden, shown and resized since each was told last.

        Textual compares with the map it has. Whoever looks a place up between a scroll and a layout has that map made anew,
        and what was mounted meanwhile is in it: it would never learn its size.
        """
        before = self._dirty_regions.copy()
        result = super().reflow(parent, size)
        self._take_whole_rows(before)
        told, self._told = self._told, {widget: one.region.size for widget, one in self.full_map.items()}
        shown = {widget for widget in self._told if widget not in told}
        resized = {widget for widget, now in self._told.items() if told.get(widget, now) != now}
        return ReflowResult(result.hidden, result.shown | shown, result.resized | resized)

    def reflow_visible(self, parent: Widget, size: Size) -> set[Widget]:
        before = self._dirty_regions.copy()
        exposed = super().reflow_visible(parent, size)
        self._take_whole_rows(before)
        return exposed

    def _take_whole_rows(self, before: set[Region]) -> None:
        """Have the regions that a layout found changed, all but these, drawn from edge to edge.

        Where something stood or stands now ends in the middle of what is drawn there: half of a wide character would be
        drawn, and a terminal then shows neither half.
        """
        for region in self._dirty_regions - before:
            self._dirty_regions.discard(region)
            self._dirty_regions.add(self._whole_rows(region))

    def _whole_rows(self, region: Region) -> Region:
        return Region(0, region.y, self.size.width, region.height)

    def render_partial_update(self) -> PartialUpdate | ChopsUpdate | None:  # type: ignore[override]
        """Return an update of the changed regions, or `None` without changes."""
        changed = self._dirty_regions
        if not changed:
            return None
        strips: list[tuple[int, int, Strip]] = []
        rest: set[Region] = set()
        rows: dict[tuple[Visible, int, int], set[int]] = {}
        for region in changed:
            visible = self._topmost(region)
            if visible is None:
                rest.add(self._whole_rows(region))
            else:
                rows.setdefault((visible, region.x, region.width), set()).update(region.line_range)
        # what was scrolled several times asks for the same rows again and again
        for (visible, x, width), wanted in rows.items():
            for y, height in _runs(wanted):
                part = Region(x, y, width, height)
                lines = visible.widget.render_lines(part.translate(-visible.region.offset))
                strips += [(x, y, line) for y, line in zip(part.line_range, lines, strict=False)]
        # What was rendered here is done; Textual's own update takes the regions that are left.
        self._dirty_regions = rest
        return PartialUpdate(strips, super().render_partial_update())

    def _topmost(self, region: Region) -> Visible | None:
        """Return the widget that covers a region with nothing in front of it there."""
        x, y, width, height = region
        right, bottom = x + width, y + height
        for visible in self._front_to_back():
            if x < visible.right and right > visible.x and y < visible.bottom and bottom > visible.y:
                covers = (
                    x >= visible.x and right <= visible.right and y >= visible.y and bottom <= visible.bottom
                )
                # a region that reaches beyond the topmost widget has parts of others: Textual puts those together
                return visible if covers else None
        return None

    def _front_to_back(self) -> list[Visible]:
        """Return the visible widgets, topmost first; cached until the next layout."""
        layout = self.visible_widgets
        if layout is not self._layout:
            self._layout, self._visible = layout, []
            for widget, (region, clip) in layout.items():
                x, y, width, height = region.intersection(clip)
                if width and height:
                    self._visible.append(Visible(x, y, x + width, y + height, widget, region))
        return self._visible

    def clear(self) -> None:
        super().clear()
        self._layout, self._visible, self._told = {}, [], {}


class PartialUpdateScreen(Screen[None]):
    """A screen with a `PartialCompositor`, which paints what a key changes before all else."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._compositor = PartialCompositor()
        self._paint_timer: PaintTimer | None = None

    @property
    def _update_timer(self) -> PaintTimer:
        if self._paint_timer is None:
            paint = self._on_timer_update
            self._paint_timer = PaintTimer(
                self, UPDATE_PERIOD, name="screen_update", callback=paint, pause=True
            )
            self._paint_timer._start()  # pyright: ignore[reportPrivateUsage]
            self._timers.add(self._paint_timer)
        return self._paint_timer

    def _refresh_layout(self, size: Size | None = None, scroll: bool = False) -> None:
        with laid_out_once():
            super()._refresh_layout(size, scroll)

    def hurry(self) -> None:
        """Take note that a key is acted on now."""
        self._update_timer.hurry()
