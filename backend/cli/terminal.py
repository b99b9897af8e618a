"""The standard streams of a command: fit to write to, safe for a terminal, tables that fit its width.

`print` makes everything safe on a terminal; only `draw` writes the colours and moves of our own. A pipe or a file gets
text unchanged. Knows no backend. `NO_COLOR` is honoured. Rich, which knows how wide characters are, draws the tables.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO

from backend.cli.exit_codes import FAILED, PIPE_CLOSED

if TYPE_CHECKING:
    from argparse import Namespace

    from rich.table import Table
    from rich.text import Text

STATE_TONES = {
    "ready": "green", "busy": "cyan", "starting": "yellow", "stopping": "yellow", "exited": "red", "killed": "red",
    "lost": "red", "foreign-port": "red", "stopped": "dim", "done": "green", "running": "cyan", "failed": "red",
    "cancelled": "yellow", "not": "dim",
}  # fmt: skip
"""Style of a state, by its first word."""
_SGR = {"green": "32", "red": "31", "yellow": "33", "cyan": "36", "dim": "2"}


class _SafeWriter(io.TextIOWrapper):
    """Makes every text safe for the terminal it goes to."""

    _before = ""

    def write(self, text: str, /) -> int:
        from backend.text import CONTEXT, safe

        super().write(safe(text, self._before))
        # a sequence may be split over two writes: what came last is needed to judge how the next one begins
        self._before = (self._before + text)[-CONTEXT:]
        return len(text)

    def draw(self, text: str) -> None:
        """Write text of ours that steers the terminal."""
        super().write(text)


def program(work: Callable[[], int]) -> int:
    """Run a program on streams that are fit to write to; return its exit code.

    A reader that left and a disk that is full are reported as such, even where only the last flush meets them.
    """
    _open_streams()
    try:
        code = work()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else FAILED
    except OSError as error:
        return unwritten(error)
    try:
        sys.stdout.flush()
    except OSError as error:
        return unwritten(error)
    return code


def unwritten(failure: OSError) -> int:
    """Report what the system refused, once; return the exit code. What is still buffered for stdout is dropped."""
    output = failure.filename is None and failure.errno in (errno.EPIPE, errno.ENOSPC, errno.EBADF, errno.EIO)
    if output:
        _drop(sys.stdout)
    if failure.errno == errno.EPIPE:
        return PIPE_CLOSED
    words = failure.strerror or str(failure)
    error(f"cannot write the output: {words}" if output else f"{failure.filename or 'the system'}: {words}")
    return FAILED


def drop_unread() -> None:
    """Let go of output that nobody reads, so that who ends a command does not wait for a pipe that is full.

    May be called by a signal's handler while a write waits: the write then goes on into nothing.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            if not select.select([], [stream], [], 0)[1]:
                _drop(stream)


def _drop(stream: TextIO) -> None:
    """Send what is still buffered nowhere, so that the interpreter's last flush has no complaint."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _open_streams() -> None:
    """Replace streams that were closed, and make what is written fit the encoding and the terminal.

    Without a place for its output a command is not begun: what it costs would be lost.
    """
    with open(os.devnull, "r+b", buffering=0) as nowhere:
        # a closed descriptor would be the number of the first socket that is opened, and be written to
        for number in range(3):
            try:
                os.fstat(number)
            except OSError:
                os.dup2(nowhere.fileno(), number)
    if sys.stderr is None:  # pyright: ignore[reportUnnecessaryComparison]  (it was closed when the process began)
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison]
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        error("stdout is closed; redirect it to /dev/null if the output is not wanted")
        raise SystemExit(FAILED)
    # libraries ask the second pair for the size of the terminal
    sys.stdout = sys.__stdout__ = _fit(sys.stdout)
    sys.stderr = sys.__stderr__ = _fit(sys.stderr)


def _fit(stream: TextIO) -> TextIO:
    """Return a stream that can write any text: what its encoding lacks is written as an escape."""
    wrapper: Any = stream
    if type(wrapper) is not io.TextIOWrapper:  # ours already, or that of a test
        return stream
    if not stream.isatty():
        wrapper.reconfigure(errors="backslashreplace")
        return stream
    encoding = stream.encoding
    return _SafeWriter(wrapper.detach(), encoding=encoding, errors="backslashreplace", line_buffering=True)


def draw(text: str, stream: TextIO | None = None, *, end: str = "\n") -> None:
    """Print text whose colours and moves are ours; what is foreign in it was made safe before."""
    target = sys.stdout if stream is None else stream
    write = target.draw if isinstance(target, _SafeWriter) else target.write
    write(f"{text}{end}")
    target.flush()


def safe(text: str) -> str:
    """Return text that cannot steer a terminal."""
    from backend.text import safe as made_safe

    return made_safe(text)


def print_json(value: Any, *, indent: int = 2) -> None:
    """Print a value as JSON; on a terminal hostile characters are escaped, which leaves the JSON the same."""
    import msgspec

    from backend.text import escaped

    if sys.stdout.encoding.lower() != "utf-8":
        import json

        print(json.dumps(msgspec.to_builtins(value), indent=indent))
        return
    text = msgspec.json.format(msgspec.json.encode(value), indent=indent).decode()
    print(escaped(text) if sys.stdout.isatty() else text)


def print_if_json(options: Namespace, value: Any) -> bool:
    """Print a value as JSON where `--json` asks for it; return whether it does."""
    if options.json:
        print_json(value)
    return bool(options.json)


def colour(text: str, tone: str) -> str:
    """Return text, safe to `draw`, in a style of `STATE_TONES` where the terminal wants colours."""
    # only what is drawn on a terminal has to be safe for one
    if not sys.stdout.isatty():
        return text
    plain = not tone or "NO_COLOR" in os.environ
    return safe(text) if plain else f"\x1b[{_SGR[tone]}m{safe(text)}\x1b[0m"


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
    inside itself or, where it would get too narrow, listed below the table under the name in the first column.
    `drop_empty` leaves out columns in which nothing stands but `-`.
    """
    cells = [[safe(" ".join(str(cell).split())) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        return _plain(titles, cells)
    # a pipe gets every column (above): programs count them
    kept = [
        index
        for index in range(len(titles))
        if not drop_empty or not cells or any(row[index] not in ("", "-") for row in cells)
    ]
    tones = [STATE_TONES.get(row[state_column or 0].partition(" ")[0], "") for row in cells]
    return fitted(
        [titles[index] for index in kept],
        [[row[index] for index in kept] for row in cells],
        terminal_width(),
        wrap=wrap and len(titles) - 1 in kept,
        tones=tones,
        tone_column=kept.index(state_column) if state_column in kept else None,
        colours="NO_COLOR" not in os.environ,
    )


def print_table(
    titles: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    state_column: int | None = None,
    wrap: bool = False,
    drop_empty: bool = False,
) -> None:
    """Draw a `table` on stdout."""
    draw(table(titles, rows, state_column=state_column, wrap=wrap, drop_empty=drop_empty))


def terminal_width() -> int:
    import shutil

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
    """Print what went wrong to stderr, after the program's name and without secrets."""
    from backend.log import redact_keys

    try:
        print(f"{_program()}: {redact_keys(text)}", file=sys.stderr, flush=True)
    except OSError:  # there is nobody left to tell
        _drop(sys.stderr)


def _program() -> str:
    return "aish" if os.path.basename(sys.argv[0]).startswith("aish") else "tekton"


async def confirmed(question: str) -> bool:
    """Ask a person on the terminal whether something is meant."""
    import asyncio

    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sys.stdin, ready.set)  # no thread reads, which nothing could interrupt
    try:
        await ready.wait()
    finally:
        loop.remove_reader(sys.stdin)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


gateway_ahead_s = 0.0
"""By how many seconds the clock of the gateway that was asked last is ahead of this machine's."""


def gateway_time() -> float:
    """Return the unix time by the gateway's clock, which stamped what is shown."""
    return time.time() + gateway_ahead_s


def ago(moment: float) -> str:
    """Say how long ago, shortly."""
    seconds = max(0.0, gateway_time() - moment)  # a clock may be set back
    if not moment:
        return "-"
    for limit, unit, word in ((60, 1, "s"), (3600, 60, "m"), (86_400, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f}{word}"
    return f"{seconds / 86_400:.0f}d"


# about four words: below that a wrapped sentence is a column of syllables
LAST_LEAST = 24
"""Cells a wrapped last column gets at least."""
COLUMN_LEAST = 5
"""Cells below which no other column is cut."""
GAP = 2


def fitted(
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int,
    *,
    wrap: bool,
    tones: Sequence[str],
    tone_column: int | None,
    colours: bool,
) -> str:
    """Return the lines of a table that fits `width` cells. `tones` are styles, one a row, of the column `tone_column`."""
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    natural = [
        max([cell_len(title), *(cell_len(row[index]) for row in rows)]) for index, title in enumerate(titles)
    ]
    others = sum(natural[:-1]) + GAP * (len(natural) - 1)
    as_list_below = wrap and width - others < min(LAST_LEAST, natural[-1])
    columns = len(titles) - 1 if as_list_below else len(titles)
    widths = _shared(natural[:columns], width, wrap=wrap and not as_list_below)
    grid = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim")
    for index, column in enumerate(widths):
        wrapped = wrap and not as_list_below and index == columns - 1
        overflow = "fold" if wrapped else "ellipsis"
        grid.add_column(Text(titles[index]), width=column, no_wrap=not wrapped, overflow=overflow)
    for row, tone in zip(rows, tones, strict=True):
        cells = row[:columns]
        grid.add_row(*(Text(cell, tone if i == tone_column else "") for i, cell in enumerate(cells)))
    # what the last column says of each row, with the row's name
    said = [f"{row[0]}: {row[-1]}" for row in rows if as_list_below and row[-1] not in ("", "-")]
    below = [Text(textwrap.fill(text, width, subsequent_indent="  ")) for text in said]
    return _printed([grid, *below], width, colours=colours)


def _shared(natural: Sequence[int], width: int, *, wrap: bool) -> list[int]:
    """Share a terminal's width out: the last column gives first when it may wrap, then always the widest."""
    widths = list(natural)
    excess = sum(widths) + GAP * (len(widths) - 1) - width
    if excess > 0 and wrap:
        given = min(excess, max(0, widths[-1] - LAST_LEAST))
        widths[-1] -= given
        excess -= given
    while excess > 0 and max(widths) > COLUMN_LEAST:
        widths[widths.index(max(widths))] -= 1
        excess -= 1
    return widths


def _printed(parts: Sequence[Table | Text], width: int, *, colours: bool) -> str:
    from rich.console import Console

    out = io.StringIO()
    console = Console(
        file=out,
        width=width,
        force_terminal=colours,
        color_system="standard" if colours else None,
        highlight=False,
        legacy_windows=False,
    )
    for part in parts:
        console.print(part)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())
