"""A one-line field in which every printable key is text, whatever its owner binds it to."""

from __future__ import annotations

from textual.widgets import Input

SLASH = "slash"
"""The one printable key Textual cannot tell the character of."""


class Field(Input):
    """An `Input` that keeps `/` as well, and whose cursor stands still: an idle screen sends nothing."""

    def on_mount(self) -> None:
        self.cursor_blink = False

    def check_consume_key(self, key: str, character: str | None) -> bool:
        return key == SLASH or super().check_consume_key(key, character)
