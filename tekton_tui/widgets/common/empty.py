"""What a pane shows when it has no content: one line and the key to press."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static

from tekton_tui.safe_text import literal
from tekton_tui.stores import Stores


class EmptyState(Vertical):
    """Two centred lines; `show_text` sets them, before or after mounting.

    With `stores` they wait for the backend: that there is nothing is only known once it has said what there is.
    """

    DEFAULT_CSS = """
    EmptyState { align: center middle; height: 1fr; width: 1fr; }
    EmptyState Static { width: 100%; padding: 0 1; text-align: center; }
    EmptyState .empty-line { color: $text; text-style: bold; }
    EmptyState .empty-more { color: $text-muted; margin-top: 1; }
    """

    def __init__(
        self, stores: Stores | None = None, *, id: str | None = None, classes: str | None = None
    ) -> None:
        super().__init__(id=id, classes=classes)
        self._stores, self._text = stores, ("", "")
        self._shown: tuple[str, str] | None = None
        # made here, for `show_text` may be called before anything is mounted
        self._line, self._more = Static("", classes="empty-line"), Static("", classes="empty-more")

    def compose(self) -> ComposeResult:
        yield self._line
        yield self._more

    def on_mount(self) -> None:
        if self._stores is not None:
            self._stores.connection.changed.subscribe_widget(self, self._write)
            self._stores.fleet.summary_changed.subscribe_widget(self, self._write)
            self._write()

    def show_text(self, line: str, more: str = "") -> None:
        """Show one line, and under it what helps."""
        self._text = (line, more)
        self._write()

    def _write(self) -> None:
        unanswered = self._stores.unanswered if self._stores is not None else None
        shown = unanswered or self._text
        if shown == self._shown:
            return
        self._shown = line, more = shown
        self._line.update(literal(line))
        self._more.update(literal(more))
        self._more.display = bool(more)
