"""What the command line writes: tables on a terminal, plain columns when piped, foreign text neutralised.

Knows no backend. `NO_COLOR` is honoured.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Sequence

STATE_TONES = {
    "ready": "32", "busy": "36", "starting": "33", "stopping": "33", "exited": "31", "killed": "31", "lost": "31",
    "foreign-port": "31", "stopped": "2",
}  # fmt: skip
_VISIBLE = {
    **{code: 0x2400 + code for code in range(0x20) if code not in (0x09, 0x0A)},
    0x7F: 0x2421,
    **dict.fromkeys(range(0x80, 0xA0), 0xFFFD),
    **dict.fromkeys((0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x2028, 0x2029, 0xFEFF), 0xFFFD),
}  # fmt: skip
"""Characters that steer a terminal, to symbols that are seen; per character, so any cut of a stream is safe."""


def safe(text: str) -> str:
    """Return text that cannot steer a terminal."""
    return text.translate(_VISIBLE)


def shown(text: str, stream: object = None) -> str:
    """Return text for a stream: neutralised for a terminal, as it is for a pipe or a file."""
    target = sys.stdout if stream is None else stream
    return safe(text) if getattr(target, "isatty", bool)() else text


def colour(text: str, tone: str) -> str:
    """Return text in a colour, on a terminal that wants colours."""
    if not tone or "NO_COLOR" in os.environ or not sys.stdout.isatty():
        return text
    return f"\x1b[{tone}m{text}\x1b[0m"


def table(titles: Sequence[str], rows: Iterable[Sequence[str]], *, state_column: int | None = None) -> str:
    """Return aligned columns; the column of states is coloured on a terminal."""
    cells = [[safe(" ".join(str(cell).split())) for cell in row] for row in rows]
    widths = [max([len(title), *(len(row[index]) for row in cells)]) for index, title in enumerate(titles)]
    lines = [colour(_padded(titles, widths), "2")]
    for row in cells:
        padded = [text.ljust(width) for text, width in zip(row, widths, strict=True)]
        if state_column is not None:
            tone = STATE_TONES.get(row[state_column].split(" ")[0], "")
            padded[state_column] = colour(padded[state_column], tone)
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def error(text: str) -> None:
    """Say what went wrong, on stderr."""
    words = safe(text) if sys.stderr.isatty() else text
    print(f"tekton: {words}", file=sys.stderr, flush=True)


def ago(moment: float) -> str:
    """Say how long ago, shortly."""
    seconds = time.time() - moment
    if not moment:
        return "-"
    for limit, unit, word in ((60, 1, "s"), (3600, 60, "m"), (86_400, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f}{word}"
    return f"{seconds / 86_400:.0f}d"


def _padded(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
