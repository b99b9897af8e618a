"""Lines of the grid that are no rows: tiles of the wall, heads of groups, what is folded. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from backend.schema.records import SpecialistStatus
from backend.schema.states import BROKEN
from tekton_tui.formatting import rate, span, symbol_of
from tekton_tui.safe_text import one_line
from tekton_tui.widgets.fleet.arrangement import need
from tekton_tui.widgets.fleet.columns import Facts, tone_of
from tekton_tui.widgets.fleet.drawing import Part, fitted, width_of

CELLS: Final = 19
"""Width of a tile: symbol, name, a word or a number, air."""
NAME, WORD = 11, 4


def tile(row: SpecialistStatus, facts: Facts, *, mark: str = "") -> list[Part]:
    """Return a specialist in `CELLS` cells; a word or a number says its state, so that it reads without colour."""
    tone = tone_of(row)
    name = "faint" if row.state == "stopped" else "muted" if row.state == "ready" else "text"
    if row.id in facts.unread:
        name = "text bold"
    return [
        Part(f"{symbol_of(row)}{mark or ' '}", "you" if mark else tone),
        *fitted([Part(one_line(row.name, 60), name)], NAME),
        Part(one_line(_word(row, facts), WORD).rjust(WORD), tone),
        Part("  "),
    ]


def _word(row: SpecialistStatus, facts: Facts) -> str:
    if row.state in BROKEN:
        return "down"
    if row.phase == "waiting":
        return "asks"
    if row.phase == "stalled":
        return span(facts.now - row.phase_since).replace(" ", "")
    if row.state == "busy":
        return rate(row.tokens_per_second) if row.phase == "streaming" and row.tokens_per_second else "wait"
    return "…" if row.state in ("starting", "stopping") else ""


def head(name: str, rows: Sequence[SpecialistStatus], facts: Facts, width: int, *, shut: bool) -> list[Part]:
    """Return the head of a group: how many are in which state, and their speed."""
    left = [
        Part("▸ " if shut else "▾ ", "muted"),
        *fitted([Part(one_line(name, 60), "text bold")], 14),
        Part(f"{len(rows):>4}  ", "muted"),
    ]
    counts = Counter((symbol_of(row), tone_of(row), need(row)) for row in rows)
    for (symbol, tone, _), count in sorted(counts.items(), key=lambda item: item[0][2]):
        left.append(Part(f"{symbol} {count}  ", tone))
    speed = sum(row.tokens_per_second or 0.0 for row in rows if row.phase == "streaming")
    right = [Part(rate(speed), "text bold"), Part(" tok/s", "muted")] if speed else []
    return [*fitted(left, max(0, width - width_of(right))), *right]


def stopped(rows: Sequence[SpecialistStatus], width: int) -> list[Part]:
    """Return the line that stands for all that are stopped."""
    words = [Part("▸ ", "muted"), Part(f"{len(rows)} stopped  ", "muted")]
    keys = [
        Part("  s", "accent bold"),
        Part(" start  ", "muted"),
        Part("⏎", "accent bold"),
        Part(" unfold", "muted"),
    ]
    room = max(0, width - width_of(words) - width_of(keys))
    names = one_line(" ".join(row.name for row in rows), room) if room else ""
    return [*words, *fitted([Part(names, "faint")], room), *keys]
