"""What a pane says when there is nothing in it: one line and the key to press."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static

from tekton_tui.safe_text import literal


class EmptyState(Vertical):
    """Two centred lines. `say` sets them, before or after it is on the screen."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._line, self._more = Static("", classes="empty-line"), Static("", classes="empty-more")

    def compose(self) -> ComposeResult:
        yield self._line
        yield self._more

    def say(self, line: str, more: str = "") -> None:
        """Show one line, and under it what helps."""
        self._line.update(literal(line))
        self._more.update(literal(more))
        self._more.display = bool(more)
