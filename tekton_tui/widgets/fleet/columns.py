"""The grid's columns: what each shows, how wide it is, and which are left out first when the terminal is narrow.

A cell with nothing to say is empty. What a dead, waiting or starting row has to say runs over the empty cells behind its
state.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from backend.schema.records import SpecialistStatus
from backend.schema.states import BROKEN, RUNNING
from tekton_tui.formatting import PHASES, age, milliseconds, money, number, rate, size, span, state_words
from tekton_tui.safe_text import one_line
from tekton_tui.stores import FleetStore
from tekton_tui.widgets.fleet.drawing import Part, cut, fitted, gauge, share_tone, spark

NARROW, WIDE = 100, 160
"""Widths at which columns get more room, and at which there are more of them."""
NOTE_CELLS: Final = 8
"""The last column takes what is left, and this at least: with less it says nothing, and is left out."""


@dataclass(frozen=True)
class Facts:
    """What cells are drawn from, beside the row itself."""

    fleet: FleetStore
    now: float
    wide: bool = True
    """Whether the terminal is not a narrow one."""
    unread: frozenset[str] = frozenset()
    top: float = 1.0
    """The fleet's largest rate in sight: all sparks have one scale."""


Cell = Callable[[Facts, SpecialistStatus], list[Part]]


@dataclass(frozen=True)
class Column:
    """A column. `rank` 0 always shows; higher ranks are left out first. `widths` are a narrow terminal's and another's."""

    name: str
    title: str
    widths: tuple[int, int]
    rank: int
    cell: Cell
    right: bool = False
    sort: Callable[[FleetStore, SpecialistStatus], object] | None = None

    def width(self, wide: bool) -> int:
        return self.widths[wide]


def tone_of(row: SpecialistStatus) -> str:
    """Return the colour of a row's state."""
    if row.state in BROKEN:
        return "bad"
    if row.state == "busy":
        return {"stalled": "warn", "waiting": "you"}.get(row.phase or "", "accent")
    if row.state == "ready" and needs_login(row):
        return "you"
    return {"ready": "good", "starting": "warn", "stopping": "warn"}.get(row.state, "faint")


def needs_login(row: SpecialistStatus) -> bool:
    """Return whether somebody has to log in before an external agent can be asked."""
    return row.agent is not None and row.agent.state == "login"


def cause_of(row: SpecialistStatus) -> Part | None:
    """Return what runs over the empty cells of a row that does not answer; `None` for one that does."""
    if row.state in BROKEN:
        return Part(one_line(row.cause or row.last_error or row.detail, 400), "bad")
    if row.state == "busy" and row.phase == "waiting":
        return Part(one_line(f"call {row.detail}? · e answers", 400), "you")
    if row.state == "starting":
        waits = f"waits for port {row.port}" if row.port else "waits for its port"
        return Part(one_line(row.detail or waits, 400), "muted")
    return None


def how_it_ended(fleet: FleetStore, row: SpecialistStatus) -> Part | None:
    """Return by whom, when and how a row was ended that is stopped because somebody asked for it; `None` for others."""
    if row.state != "stopped" or not row.cause or not row.since:
        return None
    who = "by you" if row.id in fleet.ended_here else "on request"
    words = f"{who} {time.strftime('%H:%M', time.localtime(row.since))}"
    # who ended it is said already; a cause with more to it is said as well
    plain = row.cause.startswith("stopped by ") and ";" not in row.cause
    return Part(one_line(words if plain else f"{words} · {row.cause}", 400), "faint")


def _name(facts: Facts, row: SpecialistStatus) -> list[Part]:
    weight = " bold" if row.id in facts.unread else ""
    return [Part(one_line(row.name, 60), ("faint" if row.state == "stopped" else "text") + weight)]


def _role(facts: Facts, row: SpecialistStatus) -> list[Part]:
    words = row.title.removeprefix("The ") if facts.wide or not row.short else row.short
    return [Part(one_line(words, 60), "faint" if row.state == "stopped" else "muted")]


def _state(facts: Facts, row: SpecialistStatus) -> list[Part]:
    words, tone = short_state(row, facts.now), tone_of(row)
    if row.state == "ready" and row.id in facts.unread:
        return [Part(f"{words} · unread", tone)]
    return [Part(words, "muted" if row.state == "ready" and tone != "you" else tone)]


def short_state(row: SpecialistStatus, now: float) -> str:
    """Return a row's state in the few cells of its column, with the clock of its phase."""
    if row.state == "starting":
        return f"starting {span(now - row.since)}"
    if row.state == "busy":
        clock = f" {span(now - row.phase_since)}" if row.phase_since else ""
        return f"{PHASES.get(row.phase or '', row.phase or 'busy')}{clock}"
    if row.state == "ready" and needs_login(row):
        return "needs login"
    if row.state == "ready" and row.warming:
        return "starting" if row.transport == "acp" else "ready · warming"
    if row.state == "ready":
        return "ready"
    if row.state == "killed":
        return f"killed · {age(row.since, now)}"
    if row.state == "stopped" and row.signal == signal.SIGKILL:
        return "killed"
    return state_words(row, now)


def _rate(facts: Facts, row: SpecialistStatus) -> list[Part]:
    if row.state not in RUNNING:
        return []
    streams = row.phase == "streaming" and row.tokens_per_second
    figure, bars = (4, 9) if facts.wide else (3, 6)
    drawn = spark(facts.fleet.rates.get(row.id, ()), facts.top, bars)
    if not streams and not drawn.strip():
        return []
    return [
        Part((rate(row.tokens_per_second) if streams else "").rjust(figure) + " ", "text bold"),
        Part(drawn, "accent"),
    ]


def _first(facts: Facts, row: SpecialistStatus) -> list[Part]:
    known = row.first_token_ms is not None and row.state in RUNNING
    return [Part(milliseconds(row.first_token_ms), "muted")] if known else []


def _context(facts: Facts, row: SpecialistStatus) -> list[Part]:
    if not (row.context_used and row.context_window) or row.state not in RUNNING:
        return []
    share = row.context_used / row.context_window
    tone = share_tone(share)
    percent = Part(f"{100 * share:.0f}%".rjust(4), "muted" if tone == "steel" else tone)
    return [percent, Part(" "), *gauge(share, 8, tone)] if facts.wide else [percent]


def _cost(facts: Facts, row: SpecialistStatus) -> list[Part]:
    """Return what was spent today, the newest turn's currency first; a `+` stands for what other currencies hold."""
    if not any(row.costs.values()):
        return []
    more = any(cost for currency, cost in row.costs.items() if currency != row.currency)
    return [Part(f"{money(row.cost or 0.0, row.currency)}{'+' if more else ''}", "muted")]


def _note(facts: Facts, row: SpecialistStatus) -> list[Part]:
    if row.state == "busy":
        words = [f"+{row.queue - 1} queued"] if row.queue > 1 else []
        detail = row.detail or ("no token" if row.phase == "stalled" else "")
        words = [detail, *words] if detail else words
        if row.agent is not None and row.agent.plan:
            words.insert(0, f"plan {row.agent.plan_done}/{len(row.agent.plan)}")
        return [Part(one_line(" · ".join(words), 400), "warn" if row.phase == "stalled" else "muted")]
    if row.state == "ready":
        if row.detail and not (row.warming and row.detail == "warming"):  # the state says that already
            return [Part(one_line(row.detail, 400), "warn")]
        if row.last_error and row.failures and not row.turns:
            return [Part(one_line(row.last_error, 400), "bad")]
        return (
            [Part(f"{age(row.last_activity, facts.now)} ago".replace("now ago", "now"), "muted")]
            if row.last_activity
            else []
        )
    return []


def _figure(fleet: FleetStore, row: SpecialistStatus, name: str) -> float:
    return getattr(fleet.figures.get(row.id), name, 0)


def _cpu(facts: Facts, row: SpecialistStatus) -> list[Part]:
    figures = facts.fleet.figures.get(row.id) if row.state in RUNNING else None
    return [Part(f"{figures.cpu:.0f} %", "muted")] if figures else []


def _rss(facts: Facts, row: SpecialistStatus) -> list[Part]:
    figures = facts.fleet.figures.get(row.id) if row.state in RUNNING else None
    return [Part(size(figures.rss), "muted")] if figures else []


def _while_running(words: Callable[[SpecialistStatus, float], str]) -> Cell:
    def cell(facts: Facts, row: SpecialistStatus) -> list[Part]:
        text = words(row, facts.now) if row.state in RUNNING else ""
        return [Part(one_line(text, 60), "muted")] if text else []

    return cell


def _queue(row: SpecialistStatus, now: float) -> str:
    return str(row.queue) if row.queue else ""


def _tokens(row: SpecialistStatus, now: float) -> str:
    return f"{number(row.tokens_in)}/{number(row.tokens_out)}" if row.tokens_out else ""


def _used(fleet: FleetStore, row: SpecialistStatus) -> float:
    return -row.context_used / row.context_window if row.context_window else 0.0


def _always(words: Callable[[SpecialistStatus], str]) -> Cell:
    return lambda facts, row: [Part(one_line(words(row), 60), "muted")]


COLUMNS: tuple[Column, ...] = (
    Column("name", "NAME", (12, 12), 0, _name, sort=lambda f, r: r.name),
    Column("role", "ROLE", (12, 22), 2, _role, sort=lambda f, r: r.short or r.title),
    Column("state", "STATE", (17, 17), 0, _state, sort=lambda f, r: r.state),
    Column("rate", "TOK/S", (10, 14), 1, _rate, sort=lambda f, r: -(r.tokens_per_second or 0)),
    Column("first", "FIRST", (7, 7), 5, _first, right=True, sort=lambda f, r: r.first_token_ms or 1e9),
    Column("context", "CONTEXT", (4, 13), 3, _context, sort=_used),
    Column("cost", "COST", (7, 7), 4, _cost, right=True, sort=lambda f, r: (r.currency, -(r.cost or 0))),
    Column("model", "MODEL", (14, 18), 6, _always(lambda row: row.model_display), sort=lambda f, r: r.model_display),
    Column("host", "HOST", (15, 15), 6, _always(lambda row: row.host), sort=lambda f, r: r.host),
    Column("queue", "QUEUE", (5, 5), 9, _while_running(_queue), right=True, sort=lambda f, r: -r.queue),
    Column("tokens", "IN/OUT", (11, 11), 8, _while_running(_tokens), right=True, sort=lambda f, r: -r.tokens_out),
    Column("cpu", "CPU", (5, 5), 7, _cpu, right=True, sort=lambda f, r: -_figure(f, r, "cpu")),
    Column("rss", "RSS", (5, 5), 7, _rss, right=True, sort=lambda f, r: -_figure(f, r, "rss")),
    Column("up", "UP", (5, 5), 9, _while_running(lambda row, now: age(row.started_at, now)), right=True, sort=lambda f, r: r.started_at),
    Column("pid", "PID", (7, 7), 10, _while_running(lambda row, now: str(row.pid or "")), right=True, sort=lambda f, r: r.pid),
    Column("port", "PORT", (5, 5), 10, _while_running(lambda row, now: str(row.port or "")), right=True, sort=lambda f, r: r.port),
    Column("note", "NOTE", (NOTE_CELLS, NOTE_CELLS), 0, _note, sort=lambda f, r: -r.last_activity),
)  # fmt: skip
BY_NAME: Final = {column.name: column for column in COLUMNS}

SIZE_CLASSES: Final = ("narrow", "usual", "wide")
USUAL: Final = ("name", "role", "state", "rate", "first", "context", "cost", "note")
DEFAULTS: Final[dict[str, tuple[str, ...]]] = {
    "narrow": ("name", "role", "state", "rate", "context", "note"),
    "usual": USUAL,
    "wide": (*USUAL[:-1], "tokens", "up", "note"),
}
"""By size class, the columns that are shown unless the operator chose others; model and host join where they differ."""


def size_class(width: int) -> str:
    """Return the size class of a terminal of this width."""
    return SIZE_CLASSES[0] if width < NARROW else SIZE_CLASSES[1] if width < WIDE else SIZE_CLASSES[2]


def fitting(
    width: int, chosen: Sequence[str], *, wide: bool = True, extra: Sequence[str] = ()
) -> list[tuple[Column, int]]:
    """Return the columns that fit, in the order chosen, with their widths; the last takes what is left.

    `extra` are shown behind the role if there is room. Columns of rank 0 are always among them, names first; the note
    only where it has room for a word.
    """
    names = [name for name in dict.fromkeys(("name", *chosen)) if name in BY_NAME]
    if "state" not in names:
        names.insert(1, "state")
    names += ["note"] if "note" not in names else []
    place = names.index("state")
    names[place:place] = [name for name in extra if name in BY_NAME and name not in names]
    columns = [BY_NAME[name] for name in names]
    room = width - sum(column.width(wide) + 1 for column in columns) + 1
    # the highest rank goes first, until the rest fits
    for column in sorted(columns, key=lambda column: -column.rank):
        if room >= 0 or column.rank == 0:
            break
        columns.remove(column)
        room += column.width(wide) + 1
    if room < 0:
        columns.remove(BY_NAME["note"])
        room += NOTE_CELLS + 1
    last = len(columns) - 1
    return [(column, column.width(wide) + (room if at == last else 0)) for at, column in enumerate(columns)]


def row_parts(columns: Sequence[tuple[Column, int]], facts: Facts, row: SpecialistStatus) -> list[Part]:
    """Return a row's cells, together exactly as wide as its columns with a blank between any two."""
    cause = cause_of(row) or how_it_ended(facts.fleet, row)
    parts: list[Part] = []
    rest = sum(width + 1 for _, width in columns) - 1
    for column, width in columns:
        width = max(0, min(width, rest))
        if column.name == "note" and width > 1:  # what stands before it ends at its right edge
            parts.append(Part(" "))
            width, rest = width - 1, rest - 1
        parts += fitted(column.cell(facts, row), width, right=column.right)
        rest -= width + 1
        if rest <= 0:
            break
        parts.append(Part(" "))
        if column.name == "state" and cause is not None and cause.text:
            parts += fitted([Part(cut(cause.text, rest), cause.tone)], rest)
            break
    return parts
