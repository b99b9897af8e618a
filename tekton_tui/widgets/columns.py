"""The grid's columns: what each shows, how wide it is, and which go first when the terminal is narrow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rich.cells import cell_len

from backend.schema.records import SpecialistStatus
from tekton_tui.safe_text import one_line
from tekton_tui.stores import FleetStore
from tekton_tui.wording import (
    LIVE_STATES,
    SYMBOLS,
    age,
    milliseconds,
    number,
    rate,
    size,
    spark,
    state_words,
    tone_of_state,
    why_ended,
)

Cell = Callable[[FleetStore, SpecialistStatus], str]


@dataclass(frozen=True)
class Column:
    """A column. `rank` 0 always shows; higher ranks give way first. `key` is the letter that sorts by it."""

    name: str
    title: str
    width: int
    rank: int
    cell: Cell
    right: bool = False
    tone: Callable[[SpecialistStatus], str] | None = None
    sort: Callable[[FleetStore, SpecialistStatus], object] | None = None


def _name(fleet: FleetStore, row: SpecialistStatus) -> str:
    mark = "▌" if row.id in fleet.marked else " "
    return f"{SYMBOLS[row.state]}{mark}{row.name}"


def _role(fleet: FleetStore, row: SpecialistStatus) -> str:
    return row.title.removeprefix("The ")


def _cpu(fleet: FleetStore, row: SpecialistStatus) -> str:
    figures = fleet.figures.get(row.id)
    return f"{figures.cpu:.0f} %" if figures else "–"


def _rss(fleet: FleetStore, row: SpecialistStatus) -> str:
    figures = fleet.figures.get(row.id)
    return size(figures.rss) if figures else "–"


def _speed(fleet: FleetStore, row: SpecialistStatus) -> str:
    if row.state not in LIVE_STATES:
        return f" {'–':>5}"
    samples = fleet.rates.get(row.id, ())
    return f" {rate(row.tokens_per_second):>5} {spark(samples)}".rstrip()


def _tokens(fleet: FleetStore, row: SpecialistStatus) -> str:
    return f"{number(row.tokens_in)}/{number(row.tokens_out)}" if row.tokens_out else "–"


def _cost(fleet: FleetStore, row: SpecialistStatus) -> str:
    """Return what was spent today, the newest turn's currency first; a `+` stands for what other currencies hold."""
    if not any(row.costs.values()):
        return "–"
    more = any(cost for currency, cost in row.costs.items() if currency != row.currency)
    return f"{row.cost or 0:.3f} {row.currency}{'+' if more else ''}"


def _up(fleet: FleetStore, row: SpecialistStatus) -> str:
    return age(row.started_at) if row.state in LIVE_STATES else "–"


def _error(fleet: FleetStore, row: SpecialistStatus) -> str:
    return f" {why_ended(row)}"


HOST = "host"
"""The column that is shown once a specialist runs on another host."""
COLUMNS: tuple[Column, ...] = (
    Column("name", "NAME", 14, 0, _name, tone=tone_of_state, sort=lambda f, r: r.name),
    Column("role", "ROLE", 24, 5, _role, sort=lambda f, r: r.title),
    Column("model", "MODEL", 13, 4, lambda f, r: r.model_display or "–", sort=lambda f, r: r.model_display),
    Column(HOST, "HOST", 15, 4, lambda f, r: r.host if r.pid else "–", sort=lambda f, r: r.host),
    Column("port", "PORT", 6, 6, lambda f, r: str(r.port or "–"), right=True, sort=lambda f, r: r.port),
    Column("pid", "PID", 7, 8, lambda f, r: str(r.pid or "–"), right=True, sort=lambda f, r: r.pid),
    Column("state", "STATE", 23, 0, lambda f, r: state_words(r), tone=tone_of_state, sort=lambda f, r: r.state),
    Column("up", "UP", 5, 7, _up, right=True, sort=lambda f, r: r.started_at),
    Column("cpu", "CPU", 5, 2, _cpu, right=True, sort=lambda f, r: -_figure(f, r, "cpu")),
    Column("rss", "RSS", 5, 2, _rss, right=True, sort=lambda f, r: -_figure(f, r, "rss")),
    Column("rate", " TOK/S", 15, 1, _speed, tone=lambda row: "text-primary", sort=lambda f, r: -(r.tokens_per_second or 0)),
    Column("first", "FIRST", 7, 3, lambda f, r: milliseconds(r.first_token_ms), right=True, sort=lambda f, r: r.first_token_ms or 1e9),
    Column("queue", "QUEUE", 5, 9, lambda f, r: str(r.queue) if r.state in LIVE_STATES else "–", right=True, sort=lambda f, r: -r.queue),
    Column("tokens", "IN/OUT", 11, 10, _tokens, right=True, sort=lambda f, r: -r.tokens_out),
    Column("cost", "COST", 12, 12, _cost, right=True, sort=lambda f, r: (r.currency, -(r.cost or 0))),
    Column("last", "LAST", 5, 11, lambda f, r: age(r.last_activity), right=True, sort=lambda f, r: -r.last_activity),
    Column("error", " LAST ERROR", 13, 0, _error, tone=lambda row: "text-error", sort=lambda f, r: why_ended(r) or "~"),
)  # fmt: skip
SORT_KEYS = {"N": "name", "A": "up", "O": "state", "C": "cpu", "M": "rss", "T": "rate", "F": "first"}
"""Letters that sort, and the column each sorts by. State is under O: S launches all."""


LAST_BEFORE_ERRORS = 5
ROOM_FOR_ERRORS = 16
"""Cells the last error gets before columns of a higher rank than `LAST_BEFORE_ERRORS` are shown."""


def fitting(width: int, *, far: bool = False) -> list[tuple[Column, int]]:
    """Return the columns that fit, in order, with their widths; the last takes what is left.

    With `far` specialists run on other hosts, and which they are is a column too.
    """
    known = [column for column in COLUMNS if far or column.name != HOST]
    shown = [column for column in known if column.rank == 0]
    room = width - sum(column.width + 1 for column in shown)
    for column in sorted((c for c in known if c.rank), key=lambda c: c.rank):
        spare = ROOM_FOR_ERRORS if column.rank > LAST_BEFORE_ERRORS else 0
        if column.width + 1 + spare > room:
            break
        shown.append(column)
        room -= column.width + 1
    ordered = [column for column in COLUMNS if column in shown]
    return [(column, column.width + (room if column is ordered[-1] else 0)) for column in ordered]


def cell_text(column: Column, width: int, fleet: FleetStore, row: SpecialistStatus) -> str:
    """Return a cell's text, neutralised, exactly `width` cells wide; spaces that lead it align it and stay."""
    full = column.cell(fleet, row)
    lead = len(full) - len(full.lstrip(" "))
    text = " " * lead + one_line(full[lead:], max(0, width - lead))
    padding = " " * max(0, width - cell_len(text))
    return padding + text if column.right else text + padding


def _figure(fleet: FleetStore, row: SpecialistStatus, name: str) -> float:
    return getattr(fleet.figures.get(row.id), name, 0)
