"""Repaints what changed and nothing beside it; knows regions and widgets, not what is drawn.

Textual draws a partial update from every widget that touches the box around all changes: with lanes changing in
three corners that is the whole screen, sixty times a second. Here each changed region that lies in one topmost
widget is asked of that widget alone; the others go Textual's way. Written against Textual 8.2, which is pinned.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from rich.console import Console
from textual._compositor import ChopsUpdate, Compositor, CompositorUpdate
from textual.geometry import Region
from textual.screen import Screen
from textual.strip import Strip
from textual.widget import Widget


class Seen(NamedTuple):
    """A widget and the part of the screen in which it shows, if nothing is in front of it."""

    x: int
    y: int
    right: int
    bottom: int
    widget: Widget
    region: Region


class PatchUpdate(CompositorUpdate):
    """Strips, each with the column and row where it begins; then what Textual drew itself, if anything."""

    def __init__(self, strips: list[tuple[int, int, Strip]], rest: ChopsUpdate | None) -> None:
        self.strips = strips
        self.rest = rest

    def render_segments(self, console: Console) -> str:
        """Return what is written to the terminal."""
        codes = [f"\x1b[{y + 1};{x + 1}H{strip.render(console)}" for x, y, strip in self.strips]
        if self.rest is not None:
            codes.append(self.rest.render_segments(console))
        return "".join(codes)


class PatchCompositor(Compositor):
    """A compositor that asks only the topmost widget for a region which lies wholly in it."""

    def __init__(self) -> None:
        super().__init__()
        self._placed: Mapping[Widget, tuple[Region, Region]] = {}
        self._seen: list[Seen] = []

    def render_partial_update(self) -> PatchUpdate | ChopsUpdate | None:  # type: ignore[override]
        """Return an update of the changed regions, `None` when nothing changed."""
        changed = self._dirty_regions
        if not changed:
            return None
        strips: list[tuple[int, int, Strip]] = []
        rest: set[Region] = set()
        for region in changed:
            seen = self._topmost(region)
            if seen is None:
                rest.add(region)
                continue
            lines = seen.widget.render_lines(region.translate(-seen.region.offset))
            strips += [(region.x, y, line) for y, line in zip(region.line_range, lines, strict=False)]
        self._dirty_regions = rest
        return PatchUpdate(strips, super().render_partial_update())

    def _topmost(self, region: Region) -> Seen | None:
        """Return the widget that covers a region and has nothing in front of it there."""
        x, y, width, height = region
        right, bottom = x + width, y + height
        for seen in self._front_to_back():
            if x < seen.right and right > seen.x and y < seen.bottom and bottom > seen.y:
                covers = x >= seen.x and right <= seen.right and y >= seen.y and bottom <= seen.bottom
                return seen if covers else None
        return None

    def _front_to_back(self) -> list[Seen]:
        """Return what shows on the screen; made anew after each layout."""
        placed = self.visible_widgets
        if placed is not self._placed:
            self._placed, self._seen = placed, []
            for widget, (region, clip) in placed.items():
                x, y, width, height = region.intersection(clip)
                if width and height:
                    self._seen.append(Seen(x, y, x + width, y + height, widget, region))
        return self._seen

    def clear(self) -> None:
        """Forget all widgets."""
        super().clear()
        self._placed, self._seen = {}, []


class PatchScreen(Screen[None]):
    """A screen whose partial updates cost what changed."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._compositor = PatchCompositor()
