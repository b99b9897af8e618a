"""A field of many lines for a form; the composer's, where enter sends, is `widgets.composer.editor`."""

from __future__ import annotations

from textual import events
from textual.widgets import TextArea

from tekton_tui.runtime.frame_scheduler import app_of
from tekton_tui.safe_text import safe
from tekton_tui.widgets.common.field import SLASH


class TextField(TextArea):
    """Text of many lines; tab leaves it, and nothing in it can steer the terminal."""

    def __init__(self, placeholder: str, *, id: str | None = None) -> None:
        super().__init__(
            id=id, placeholder=placeholder, show_line_numbers=False, highlight_cursor_line=False, compact=True
        )
        self.cursor_blink = False
        self.match_cursor_bracket = False

    def check_consume_key(self, key: str, character: str | None = None) -> bool:
        return key == SLASH or super().check_consume_key(key, character)

    async def _on_key(self, event: events.Key) -> None:
        if event.is_printable and event.character is not None and safe(event.character) != event.character:
            event.prevent_default()
            event.stop()
            return
        await super()._on_key(event)

    async def _on_paste(self, event: events.Paste) -> None:
        event.prevent_default()
        event.stop()
        self._put(event.text)

    def action_paste(self) -> None:
        """Insert what the app copied last."""
        self._put(app_of(self).clipboard)

    def _put(self, text: str) -> None:
        if text:
            text = safe(text.replace("\r\n", "\n").replace("\r", "\n"))
            self.move_cursor(self.replace(text, *self.selection).end_location)
