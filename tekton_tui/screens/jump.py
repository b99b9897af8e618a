"""Letters over everything that can be gone to on the screen; typing one goes there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, ClassVar, Final, NamedTuple, Protocol, runtime_checkable

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Button, Static

from tekton_tui.runtime.layout_once import Modal

# the keys under the fingers come first
LETTERS: Final = "asdfghjklqwertyuiopzxcvbnmASDFGHJKLQWERTYUIOPZXCVBNM"


@runtime_checkable
class HasSpots(Protocol):
    """A widget with parts that can be gone to one by one."""

    def spots(self) -> Iterable[tuple[int, int, Callable[[], object]]]:
        """Yield column and row of each inside the widget, and what goes there."""
        ...


class Spot(NamedTuple):
    """A place on the screen, in cells, and what goes there."""

    x: int
    y: int
    go: Callable[[], object]


def spots_of(screen: Screen[Any]) -> list[Spot]:
    """Return what can be gone to on a screen, top down: rows of lists, panes, fields, buttons."""
    found: list[Spot] = []
    for widget in screen.query("*"):
        region = widget.region
        if not region or not widget.is_on_screen or not widget.visible:
            continue
        if isinstance(widget, HasSpots):
            for x, y, go in widget.spots():
                found.append(Spot(region.x + x, region.y + y, partial(_go, widget, go)))
        elif isinstance(widget, Button) and not widget.disabled:
            found.append(Spot(region.x, region.y, widget.press))
        elif widget.focusable:
            found.append(Spot(region.x, region.y, widget.focus))
    return sorted(found, key=lambda spot: (spot.y, spot.x))[: len(LETTERS)]


def _go(widget: Any, go: Callable[[], object]) -> None:
    if widget.focusable:
        widget.focus()
    go()


class JumpScreen(Modal[int | None]):
    """Dismissed with the number of the spot whose letter was typed, or with none by any other key."""

    DEFAULT_CSS = """
    JumpScreen .spot {
        position: absolute; width: 3; height: 1; text-align: center;
        background: $primary; color: $background; text-style: bold;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Close", id="jump.close")]

    def __init__(self, spots: list[Spot]) -> None:
        super().__init__()
        self._spots = spots

    def compose(self) -> ComposeResult:
        for letter, spot in zip(LETTERS, self._spots, strict=False):
            label = Static(letter, classes="spot", markup=False)
            label.styles.offset = (spot.x, spot.y)
            yield label

    def on_key(self, event: events.Key) -> None:
        if event.key == "escape":
            return
        event.stop()
        at = LETTERS.find(event.character or "\0")
        self.dismiss(at if 0 <= at < len(self._spots) else None)
