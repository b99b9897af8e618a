"""What a pane shows when it has no content: one line and the key to press."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static

from tekton_tui.safe_text import literal


class EmptyState(Vertical):
    """Two centred lines; `show_text` sets them, before or after mounting."""

    DEFAULT_CSS = """
    EmptyState { align: center middle; height: 1fr; width: 1fr; }
    EmptyState Static { width: 100%; padding: 0 1; text-align: center; }
    EmptyState .empty-line { color: $text; text-style: bold; }
    EmptyState .empty-more { color: $text-muted; margin-top: 1; }
    """

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        # made here, for `show_text` may be called before anything is mounted
        self._line, self._more = Static("", classes="empty-line"), Static("", classes="empty-more")

    def compose(self) -> ComposeResult:
        yield self._line
        yield self._more

    def show_text(self, line: str, more: str = "") -> None:
        """Show one line, and under it what helps."""
        self._line.update(literal(line))
        self._more.update(literal(more))
        self._more.display = bool(more)
