"""Fields of many lines: what all of them do, and one for a form; the composer's is `widgets.composer.editor`."""

from __future__ import annotations

from textual import events
from textual.content import Content
from textual.widgets import TextArea

from tekton_tui.runtime.frame_scheduler import app_of
from tekton_tui.runtime.lazy_components import LazyComponents
from tekton_tui.safe_text import safe
from tekton_tui.widgets.common.field import SLASH


class SafeTextArea(LazyComponents, TextArea):
    """A `TextArea` whose text cannot steer the terminal, with a steady cursor: a blinking one would write at rest."""

    def __init__(self, placeholder: Content | str, *, id: str | None = None, compact: bool = False) -> None:
        super().__init__(
            id=id,
            placeholder=placeholder,
            show_line_numbers=False,
            highlight_cursor_line=False,
            compact=compact,
        )
        self.cursor_blink = False
        self.match_cursor_bracket = False

    def on_resize(self) -> None:
        # Drawn in its new size, it is wrapped for it only now; where that changes no size, nobody else draws it again.
        self.refresh()

    def check_consume_key(self, key: str, character: str | None = None) -> bool:
        return key == SLASH or super().check_consume_key(key, character)

    async def _on_key(self, event: events.Key) -> None:
        # a terminal may send a key whose character would steer it when it is drawn again
        if event.is_printable and event.character is not None and safe(event.character) != event.character:
            event.prevent_default()
            event.stop()
            return
        await super()._on_key(event)

    async def _on_paste(self, event: events.Paste) -> None:
        event.prevent_default()
        event.stop()
        self.take_paste(pasted(event.text))

    def action_paste(self) -> None:
        """Insert what the app copied last."""
        self.take_paste(pasted(app_of(self).clipboard))

    def take_paste(self, text: str) -> None:
        """Put `pasted` text in place of what is selected."""
        if text and not self.read_only:
            self.move_cursor(self.replace(text, *self.selection).end_location)


class TextField(SafeTextArea):
    """Text of many lines in a form; tab leaves it."""

    def __init__(self, placeholder: str, *, id: str | None = None) -> None:
        super().__init__(placeholder, id=id, compact=True)


def pasted(text: str) -> str:
    """Return pasted text with LF line ends and nothing in it that could steer the terminal."""
    return safe(text.replace("\r\n", "\n").replace("\r", "\n"))
