"""Cells of a table: foreign text on one line, never markup, never wrapped."""

from __future__ import annotations

from rich.text import Text
from textual.widget import Widget

from tekton_tui.runtime.frame_scheduler import app_of
from tekton_tui.safe_text import one_line


def cell(widget: Widget, text: str, width: int | None = None, tone: str = "") -> Text:
    """Return a cell; `tone` names a theme variable for its colour."""
    colour = app_of(widget).theme_variables.get(tone, "") if tone else ""
    return Text(one_line(text, width), style=colour, no_wrap=True, overflow="ellipsis")
