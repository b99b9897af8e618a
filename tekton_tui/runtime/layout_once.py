"""Screens that lay out and paint once what Textual does twice. Knows no widgets.

Textual gives each widget the size of its content behind a layout as if a style had changed: each that is another asks for
one more layout of the whole screen, and for one more drawing of what was drawn just now. Whether a scrollbar comes or goes,
which does change the layout, is asked apart from that. Written against Textual 8.2, which is pinned.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from textual.geometry import Size
from textual.screen import ModalScreen, ScreenResultType
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
    """A screen above another, which takes all keys."""

    def _refresh_layout(self, size: Size | None = None, scroll: bool = False) -> None:
        with laid_out_once():
            super()._refresh_layout(size, scroll)
