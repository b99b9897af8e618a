"""A one-line field in which every printable key is text, even one that its owner binds."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widgets import Input

from tekton_tui.safe_text import one_line, safe_inline

MAX_TEXT = 200
"""Characters that a field takes of a text meant for elsewhere."""
SLASH = "slash"
"""Textual gives this key no character, so `Input` would leave it to its owner's bindings."""


class Field(Input):
    """An `Input` that takes `/` as text, with a steady cursor: a blinking one would write to the terminal at rest."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "submit", "done", id="field.done")]

    def on_mount(self) -> None:
        self.cursor_blink = False

    def validate_value(self, value: str) -> str:
        """Keep hostile characters out, whoever set the value: `Input` draws them as they are."""
        return safe_inline(value)

    def validate__suggestion(self, suggestion: str) -> str:
        """The same for the ghost text behind the cursor."""
        return safe_inline(suggestion)

    def show_with(self, text: str) -> None:
        """Show the field with a text that was typed or pasted outside of it, and give it the focus; what is typed on follows it."""
        # shown before it has the focus: Textual gives none to what is hidden
        self.display = True
        # selected, as on every focus, it would give way to the next letter: the rest of the same sentence
        self.select_on_focus = False
        self.value = one_line(text, MAX_TEXT) + " " * text[:MAX_TEXT].endswith(" ")
        self.cursor_position = len(self.value)
        self.focus()

    def check_consume_key(self, key: str, character: str | None) -> bool:
        return key == SLASH or super().check_consume_key(key, character)
