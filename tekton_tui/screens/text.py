"""A text to read and to leave, such as a description."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from tekton_tui.runtime.frame_scheduler import app_of
from tekton_tui.safe_text import literal
from tekton_tui.verbs import bindings


class TextScreen(ModalScreen[None]):
    """`esc` closes, `y` copies."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("text")

    def __init__(self, title: str, content: Content) -> None:
        super().__init__()
        self._title, self._content = title, content

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="overlay text") as box:
            box.border_title = literal(self._title)
            box.border_subtitle = "esc closes · y copies"
            yield Static(self._content)

    def action_copy(self) -> None:
        app_of(self).copy_to_clipboard(self._content.plain)
        self.notify("copied", markup=False)
