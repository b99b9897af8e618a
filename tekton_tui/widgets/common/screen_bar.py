"""The row of places: key, title, and the number that matters there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, NamedTuple, Protocol

from textual import events
from textual.app import RenderResult
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from tekton_tui.stores import Stores

HINT: Final = (("ctrl+p", "bold $text-accent"), (" anything ", "$text-muted"))
ROOMY: Final = 100
"""Cells from which titles are written in full."""


class Badge(NamedTuple):
    """A number beside a place's title, shown unless it is 0; it changes with what waits for the operator.

    `tone` is the theme variable of its colour, `sign` stands in front of it.
    """

    value: Callable[[Stores], int]
    tone: str = "text-secondary"
    sign: str = ""


class Entry(Protocol):
    """What the row shows of a place: a row of the registry."""

    @property
    def key(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def short(self) -> str: ...
    @property
    def badges(self) -> tuple[Badge, ...]: ...


class ScreenBar(Widget):
    """One row; a click on a title goes to its place."""

    current: reactive[str] = reactive("fleet")
    """Name of the place that is shown."""

    class Chosen(Message):
        """Posted when a place's title was clicked."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def __init__(self, places: Iterable[Entry], stores: Stores, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._entries, self._stores = tuple(places), stores
        self._spans: list[tuple[int, int, str]] = []

    def on_mount(self) -> None:
        self._stores.waiting_changed.subscribe_widget(self, self._badges_changed)

    def _badges_changed(self) -> None:
        self.refresh()

    def render(self) -> RenderResult:
        gap = "  " if self.size.width >= ROOMY else ""
        parts: list[Content] = []
        at = 0
        self._spans.clear()
        for entry in self._entries:
            words = self._words(entry)
            # half a title names nothing; the keys work all the same
            if at + words.cell_length > self.size.width:
                break
            parts += [words, Content(gap)]
            self._spans.append((at, at + words.cell_length, entry.name))
            at += words.cell_length + len(gap)
        hint = Content.assemble(*HINT)
        room = self.size.width - at - hint.cell_length
        return Content.assemble(*parts, " " * room, hint) if room > 0 else Content.assemble(*parts)

    def _words(self, entry: Entry) -> Content:
        here = entry.name == self.current
        counts = [(badge, badge.value(self._stores)) for badge in entry.badges]
        title = entry.title if self.size.width >= ROOMY else entry.short
        words = Content.assemble(
            Content.styled(f" {entry.key}", "bold $text-accent" if here else "$text-accent"),
            Content.styled(f" {title}", "bold $text" if here else "$text-muted"),
            *(
                Content.styled(f" {badge.sign}{count}", f"bold ${badge.tone}")
                for badge, count in counts
                if count
            ),
            " ",
        )
        return words.stylize("on $panel") if here else words

    def spots(self) -> list[tuple[int, int, Callable[[], object]]]:
        """Return where the titles stand, and what goes to each place."""
        return [(at, 0, partial(self.post_message, self.Chosen(name))) for at, _end, name in self._spans]

    def on_click(self, event: events.Click) -> None:
        for start, end, name in self._spans:
            if start <= event.x < end:
                self.post_message(self.Chosen(name))
