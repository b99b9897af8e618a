"""Reads the text under a mouse selection out of the drawn rows; knows no screens."""

from __future__ import annotations

from textual.selection import Selection

from tekton_tui.transcript.overlay import line_id, line_of
from tekton_tui.transcript.viewport import Viewport


def selected_text(viewport: Viewport, selection: Selection) -> str:
    """Return the text of a selection: rows that a wrap divided are one line, decoration is left out.

    A selection that comes in from another widget, without a start or an end here, ends where the window ends.
    """
    flow = viewport.flow
    if not flow.entries:
        return ""
    window = list(viewport.rows())
    shown = [(number, row) for number, row, _drawn, _piece in window if number < flow.end]
    first = line_of(selection.start.y) if selection.start is not None else shown[0]
    last = line_of(selection.end.y) if selection.end is not None else shown[-1]
    parts: list[str] = []
    joint = ""
    for number in range(max(first[0], flow.first), min(last[0], flow.end - 1) + 1):
        message = flow.message(number)
        for piece in range(len(message.pieces)):
            message.draw(piece, flow.width)
        flow.measure(number)
        begin = first[1] if number == first[0] else 0
        height = message.height(flow.width)
        end = min(last[1] + 1, height) if number == last[0] else height
        for row in range(begin, end):
            drawn, _piece = message.row(row, flow.width)
            span = selection.get_span(line_id(number, row))
            if span is None:
                continue
            text = drawn.text
            start, stop = max(span[0], drawn.decor), len(text) if span[1] < 0 else span[1]
            parts.append(joint)
            parts.append(text[start:stop])
            joint = drawn.joint
    return "".join(parts)
