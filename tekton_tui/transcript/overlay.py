"""What lies over the drawn rows: selection, search highlights, badges, and the marks by which the mouse finds text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from rich.segment import Segment
from rich.style import Style
from textual.selection import Selection
from textual.strip import Strip

from tekton_tui.transcript.rows import Row
from tekton_tui.transcript.viewport import Viewport

LINE_BITS: Final = 24
NUMBER_BASE: Final = 1 << 32

Range = tuple[int, int]


def line_id(number: int, row: int) -> int:
    """Return the vertical coordinate of a row for the selection.

    It names the message and the row in it, so it stays the same while heights above are corrected and history
    is prepended.
    """
    return (NUMBER_BASE + number) << LINE_BITS | row


def line_of(identity: int) -> tuple[int, int]:
    """Return message number and row of a `line_id`."""
    return (identity >> LINE_BITS) - NUMBER_BASE, identity & (1 << LINE_BITS) - 1


def restyle(segments: Sequence[Segment], ranges: Iterable[Range], style: Style) -> list[Segment]:
    """Return segments with a style over some character ranges, which must be in rising order."""
    result = list(segments)
    for start, end in ranges:
        pieces: list[Segment] = []
        offset = 0
        for segment in result:
            text, own, _control = segment
            stop = offset + len(text)
            if stop <= start or offset >= end:
                pieces.append(segment)
            else:
                cut, last = max(0, start - offset), min(len(text), end - offset)
                middle = (own or Style.null()) + style
                pieces += [
                    Segment(part, part_style)
                    for part, part_style in ((text[:cut], own), (text[cut:last], middle), (text[last:], own))
                    if part
                ]
            offset = stop
        result = pieces
    return result


def match_ranges(pattern: re.Pattern[str], row: Row) -> list[Range]:
    """Return the character ranges of a row that match."""
    return [match.span() for match in pattern.finditer(row.text) if match.end() > match.start()]


def with_offsets(strip: Strip, identity: int, bar_segments: int) -> Strip:
    """Return the strip with, in each segment's metadata, which characters it shows, for the mouse.

    Args:
        strip: A row, perhaps with the speaker's bar before it.
        identity: The row's `line_id`.
        bar_segments: Leading segments that belong to the bar.
    """
    segments: list[Segment] = []
    offset = 0
    for index, (text, style, _control) in enumerate(strip):
        if index < bar_segments:
            # Pointing at the bar means the start of the row, at each of its cells.
            mark = Style.from_meta({"offset": (0, identity)})
            segments += [Segment(character, (style or Style.null()) + mark) for character in text]
            continue
        mark = Style.from_meta({"offset": (offset, identity)})
        segments.append(Segment(text, (style or Style.null()) + mark))
        offset += len(text)
    return Strip(segments, strip.cell_length)


def put_badge(strip: Strip, text: str, style: Style, width: int) -> Strip:
    """Return the strip with a short text over its right end."""
    cells = len(text)
    if cells >= width:
        return strip
    head, tail = strip.crop(0, width - cells), strip.crop(width, strip.cell_length)
    return Strip([*head, Segment(text, style), *tail], strip.cell_length)


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
