"""Screens, and views of rows, that lay out and paint once what Textual does twice. A screen here closes itself alone, never
one in front of it. Knows no widgets of the console.

Textual gives each widget the size of its content behind a layout as if a style had changed: each that is another asks for
one more layout of the whole screen, and for one more drawing of what was drawn just now. Whether a scrollbar comes or goes,
which does change the layout, is asked apart from that. Written against Textual 8.2, which is pinned.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from textual.await_complete import AwaitComplete
from textual.geometry import Size
from textual.screen import ModalScreen, ScreenResultType
from textual.scroll_view import ScrollView
from textual.widget import Widget


@contextmanager
def laid_out_once() -> Generator[None]:
    """Have new sizes of contents ask for nothing. Nothing else runs meanwhile: a layout awaits nothing."""
    told: Any = Widget.__dict__["virtual_size"]
    told._layout = told._repaint = False
    try:
        yield
    finally:
        told._layout = told._repaint = True


class Modal(ModalScreen[ScreenResultType]):
    """A screen above another, which takes all keys.

    One that is dismissed while another stands in front goes once it is in front itself, with the first result it was given:
    Textual would close whatever is in front.
    """

    _leaves_with: tuple[ScreenResultType | None] | None = None
    """The result it was dismissed with behind another screen."""

    def dismiss(self, result: ScreenResultType | None = None) -> AwaitComplete:
        if self.is_active:
            return super().dismiss(result if self._leaves_with is None else self._leaves_with[0])
        self._leaves_with = self._leaves_with or (result,)
        return AwaitComplete()

    def on_screen_resume(self) -> None:
        """Go, where that was to be done before."""
        if self._leaves_with is not None:
            self.dismiss()

    def _refresh_layout(self, size: Size | None = None, scroll: bool = False) -> None:
        with laid_out_once():
            super()._refresh_layout(size, scroll)


class RowView(ScrollView):
    """Says how many rows it has with `set_rows`. Its height must come from its style or from what is around it.

    Textual lays the whole screen out whenever the size of what scrolls changes; here only when a scrollbar comes or goes.
    """

    def set_rows(self, rows: int) -> None:
        """Say how many rows there are, as wide as the view; where fewer are left the scroll position follows."""
        size = Size(self.scrollable_content_region.width, rows)
        if size != self.virtual_size:
            self.set_reactive(Widget.virtual_size, size)  # pyright: ignore[reportArgumentType]
            self._scroll_update(size)
