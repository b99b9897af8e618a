"""The row of screens: number, name, and the count that matters there."""

from __future__ import annotations

from textual import events
from textual.app import RenderResult
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from tekton_tui.hearing import hear
from tekton_tui.stores import Stores

SCREENS = ("fleet", "chat", "team", "pipes", "timeline", "errors", "gateway", "sessions")
"""Names of the screens, in the order of their keys 1 to 8."""
TITLES = {name: name.title() for name in SCREENS}


class Navigation(Widget):
    """One row; a click on a name goes there."""

    current: reactive[str] = reactive("fleet")
    """The screen that is shown."""

    class Chosen(Message):
        """Posted when a screen was clicked."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def __init__(self, stores: Stores, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._stores = stores
        self._starts: list[tuple[int, int, str]] = []

    def on_mount(self) -> None:
        hear(self, self._stores.errors.changed, self._again)

    def _again(self) -> None:
        self.refresh()

    def render(self) -> RenderResult:
        parts: list[Content] = []
        at = 0
        self._starts.clear()
        for number, name in enumerate(SCREENS, 1):
            unseen = self._stores.errors.unacknowledged if name == "errors" else 0
            words = f" {number} {TITLES[name]}{f' {unseen}' if unseen else ''} "
            style = "bold $text-primary on $panel" if name == self.current else "$text-muted"
            if unseen and name != self.current:
                style = "bold $text-error"
            parts.append(Content.styled(words, style))
            self._starts.append((at, at + len(words), name))
            at += len(words)
        return Content.assemble(*parts)

    def on_click(self, event: events.Click) -> None:
        for start, end, name in self._starts:
            if start <= event.x < end:
                self.post_message(self.Chosen(name))
