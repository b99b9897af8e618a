"""What the command line writes: tables that fit a terminal, plain columns when piped, foreign text neutralised.

Knows no backend. `NO_COLOR` is honoured.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

STATE_TONES = {
    "ready": "green", "busy": "cyan", "starting": "yellow", "stopping": "yellow", "exited": "red", "killed": "red",
    "lost": "red", "foreign-port": "red", "stopped": "dim", "done": "green", "running": "cyan", "failed": "red",
    "cancelled": "yellow", "not": "dim",
}  # fmt: skip
"""Style of a state, by its first word."""
_SGR = {"green": "32", "red": "31", "yellow": "33", "cyan": "36", "dim": "2"}
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
    """Return text in a style of `STATE_TONES`, on a terminal that wants colours."""
    if not tone or "NO_COLOR" in os.environ or not sys.stdout.isatty():
        return text
    return f"\x1b[{_SGR[tone]}m{text}\x1b[0m"


def table(
    titles: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    state_column: int | None = None,
    wrap: bool = False,
    drop_empty: bool = False,
) -> str:
    """Return columns: fitted to a terminal's width, else plain and whole.

    On a terminal what does not fit is cut with an ellipsis. With `wrap` nothing of the last column is cut: it is wrapped
    inside itself or, where it would get too narrow, told below the table under the name in the first column.
    `drop_empty` leaves out columns in which nothing stands but `-`.
    """
    cells = [[safe(" ".join(str(cell).split())) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        return _plain(titles, cells)
    from backend.cli.fitting import Grid

    kept = [
        index
        for index in range(len(titles))
        if not drop_empty or not cells or any(row[index] not in ("", "-") for row in cells)
    ]
    tones = [STATE_TONES.get(row[state_column or 0].partition(" ")[0], "") for row in cells]
    grid = Grid([titles[index] for index in kept], [[row[index] for index in kept] for row in cells])
    style_column = kept.index(state_column) if state_column in kept else None
    return grid.draw(
        terminal_width(),
        wrap=wrap and len(titles) - 1 in kept,
        tones=tones,
        tone_column=style_column,
        colours="NO_COLOR" not in os.environ,
    )


def terminal_width() -> int:
    return shutil.get_terminal_size().columns


def filled(text: str, indent: str = "", *, before: int = 0) -> str:
    """Wrap a line of prose for a terminal, lines after the first indented; a pipe gets it whole.

    `before` cells of the first line are taken already.
    """
    words = safe(" ".join(text.split()))
    if not sys.stdout.isatty():
        return words
    filler = textwrap.TextWrapper(
        terminal_width(), initial_indent=" " * before, subsequent_indent=indent, break_on_hyphens=False
    )
    return filler.fill(words)[before:]


def _plain(titles: Sequence[str], cells: list[list[str]]) -> str:
    widths = [max([len(title), *(len(row[index]) for row in cells)]) for index, title in enumerate(titles)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (titles, *cells)
    ]
    return "\n".join(lines)


def error(text: str) -> None:
    """Say what went wrong, on stderr, under the program's name."""
    words = safe(text) if sys.stderr.isatty() else text
    print(f"{_program()}: {words}", file=sys.stderr, flush=True)


def _program() -> str:
    return "aish" if Path(sys.argv[0]).stem == "aish" else "tekton"


def ago(moment: float) -> str:
    """Say how long ago, shortly."""
    seconds = time.time() - moment
    if not moment:
        return "-"
    for limit, unit, word in ((60, 1, "s"), (3600, 60, "m"), (86_400, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f}{word}"
    return f"{seconds / 86_400:.0f}d"
