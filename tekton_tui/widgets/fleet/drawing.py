"""Sparks, gauges, area plots and their scale. Pure: numbers in, pieces of text with the names of their colours out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rich.cells import cell_len
from rich.segment import Segment
from textual.strip import Strip

from tekton_tui.runtime.tokens import Tokens

BARS = " ▁▂▃▄▅▆▇█"
LEFT_DOTS, RIGHT_DOTS = (0x40, 0x04, 0x02, 0x01), (0x80, 0x20, 0x10, 0x08)
"""Bits of a braille cell's two columns, from the bottom up."""
BRAILLE = 0x2800
SCALE_HOLD_S = 60.0
"""How long a plot's scale stays after what it was needed for is gone."""


class Part(NamedTuple):
    """A piece of a row; `tone` names a colour of the tokens, with `bold` or `underline` behind it where wanted."""

    text: str
    tone: str = "text"


def spark(samples: Iterable[float], top: float, width: int) -> str:
    """Draw the newest samples on a fixed scale, right-aligned: a small steady rate looks small. 0 is a blank."""
    values = list(samples)[-width:]
    drawn = "".join(_bar(value, top) for value in values)
    return drawn.rjust(width)


def _bar(value: float, top: float) -> str:
    if value <= 0 or top <= 0:
        return " "
    return BARS[max(1, min(8, round(value / top * 8)))]


def gauge(share: float, width: int, tone: str) -> list[Part]:
    """Draw a share of 1 as a heavy line on a light one, in half cells."""
    halves = round(min(1.0, max(0.0, share)) * width * 2)
    full, half = divmod(halves, 2)
    empty = width - full - half
    parts = [Part("━" * full + "╸" * half, tone), Part("─" * empty, "line")]
    return [part for part in parts if part.text]


def share_tone(share: float) -> str:
    """Return the colour of a gauge: a share that runs out warns."""
    return "bad" if share > 0.95 else "warn" if share > 0.8 else "steel"


def area(samples: Sequence[float | None], width: int, height: int, top: float) -> list[str]:
    """Draw a filled area of braille dots, newest right: two samples a cell, four levels a row; top row first.

    `None` leaves a gap; any other value is at least one dot high.
    """
    shown = list(samples)[-2 * width :]
    shown = [None] * (2 * width - len(shown)) + shown
    levels = [
        0 if v is None else max(1, round(min(v, top) / top * height * 4)) if top > 0 else 1 for v in shown
    ]
    rows: list[str] = []
    for row in range(height):
        base = (height - 1 - row) * 4
        cells: list[str] = []
        for at in range(0, 2 * width, 2):
            bits = _bits(levels[at] - base, LEFT_DOTS) | _bits(levels[at + 1] - base, RIGHT_DOTS)
            cells.append(chr(BRAILLE + bits) if bits else " ")
        rows.append("".join(cells))
    return rows


def _bits(level: int, dots: tuple[int, ...]) -> int:
    return sum(dots[: max(0, min(4, level))])


def resample(
    samples: Iterable[tuple[float, float | None]], span_s: float, columns: int, step_s: float
) -> list[float | None]:
    """Return one value for each of `columns` slices of the newest `span_s` seconds, oldest first: the largest in each.

    Samples are `(unix time, value)`, in order, one about every `step_s`; where slices are shorter than that, a value holds
    until the next. Slices begin at multiples of their length, so that what is drawn does not tremble as time goes on.
    """
    known = list(samples)
    if not known or columns < 1:
        return [None] * max(0, columns)
    slice_s = span_s / columns
    last = int(known[-1][0] // slice_s)
    largest: dict[int, float | None] = {}
    for moment, value in known:
        place = columns - 1 - last + int(moment // slice_s)
        before = largest.get(place)
        largest[place] = value if before is None else before if value is None else max(before, value)
    # one and a half: a sample that comes a little late is no gap
    holds = max(1, round(1.5 * step_s / slice_s))
    values: list[float | None] = []
    seen = -holds
    for place in range(columns):
        if place in largest:
            seen = place
        values.append(largest.get(seen) if place - seen < holds else None)
    return values


def step_up(value: float) -> float:
    """Return the smallest of 1, 2, 5, 10, 20, … that is not below a value; 1 at least."""
    top = 1.0
    while True:
        for factor in (1, 2, 5):
            if top * factor >= value:
                return top * factor
        top *= 10


NEAR_CELLS = 8


class Scale:
    """The top of a plot: in steps of 1, 2, 5. It grows at once and shrinks after `SCALE_HOLD_S`, for both ways count."""

    def __init__(self, least: float = 1.0, fixed: float = 0.0) -> None:
        self._least, self._fixed = least, fixed
        self._top, self._needed_at = 0.0, 0.0

    def top(self, largest: float, now: float) -> float:
        """Return the top for values up to `largest` at a moment in seconds."""
        if self._fixed:
            return self._fixed
        wanted = step_up(max(largest, self._least))
        if wanted >= self._top or now - self._needed_at > SCALE_HOLD_S:
            self._top, self._needed_at = wanted, now
        return self._top


def cut(text: str, width: int) -> str:
    """Return trusted text cut to cells, with `…` where something is gone."""
    if width <= 0:
        return ""
    if cell_len(text) <= width:
        return text
    kept = ""
    for character in text:
        if cell_len(kept + character) > width - 1:
            break
        kept += character
    return kept + "…"


def width_of(parts: Iterable[Part]) -> int:
    """Return how many cells parts take."""
    return sum(cell_len(part.text) for part in parts)


def fitted(parts: Sequence[Part], width: int, *, right: bool = False) -> list[Part]:
    """Return parts cut or padded to exactly `width` cells; what is cut ends in `…`."""
    used = width_of(parts)
    if used <= width:
        pad = Part(" " * (width - used))
        return [*([pad] if right and pad.text else []), *parts, *([pad] if not right and pad.text else [])]
    kept: list[Part] = []
    for part in parts:
        room = width - width_of(kept)
        if cell_len(part.text) < room:
            kept.append(part)
            continue
        piece = cut(part.text if cell_len(part.text) > room else f"{part.text}  ", room)
        kept.append(Part(piece, part.tone))
        break
    used = width_of(kept)
    return [*kept, *([Part(" " * (width - used))] if used < width else [])]


def strip(parts: Iterable[Part], width: int, tokens: Tokens, ground: str = "") -> Strip:
    """Return parts in their colours, exactly as wide as said; on the theme's own ground unless another is given."""
    segments = [Segment(part.text, tokens.style(part.tone, ground)) for part in parts if part.text]
    return Strip(segments).adjust_cell_length(width, tokens.style("text", ground))


def changed_runs(before: Sequence[Part], after: Sequence[Part]) -> list[tuple[int, int]]:
    """Return where two rows differ, however their parts are cut: first cell and number of cells of each run.

    Runs with less than `NEAR_CELLS` between them are one: to write those cells costs less than to go past them.
    """
    one, other = _cells(before), _cells(after)
    if len(one) != len(other):
        return [(0, max(len(one), len(other)))]
    runs: list[tuple[int, int]] = []
    for at, (here, there) in enumerate(zip(one, other, strict=True)):
        if here == there:
            continue
        first, count = runs[-1] if runs else (at, 0)
        if runs and at < first + count + NEAR_CELLS:
            runs[-1] = (first, at + 1 - first)
        else:
            runs.append((at, 1))
    return runs


def _cells(parts: Sequence[Part]) -> list[tuple[str, str]]:
    """Return a sign and its tone for each cell; the second cell of a wide sign differs wherever the first does."""
    return [
        (character, part.tone)
        for part in parts
        for character in part.text
        for _ in range(cell_len(character))
    ]
