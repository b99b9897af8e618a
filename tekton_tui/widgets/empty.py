"""What a pane says when there is nothing in it: one line and the key to press, on hatched ground."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static

from tekton_tui.safe_text import literal


class EmptyState(Vertical):
    """Two centred lines. `say` sets them."""

    def compose(self) -> ComposeResult:
        yield Static("", classes="empty-line")
        yield Static("", classes="empty-more")

    def say(self, line: str, more: str = "") -> None:
        """Show one line, and under it what helps."""
        self.query_one(".empty-line", Static).update(literal(f" {line} "))
        below = self.query_one(".empty-more", Static)
        below.update(literal(f" {more} "))
        below.display = bool(more)
