"""In what order rows stand, which of them pass the filter, and what is folded. Pure: rows in, lines out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal, NamedTuple

from textual.fuzzy import FuzzySearch

from backend.schema.records import SpecialistStatus
from backend.schema.states import BROKEN
from tekton_tui.formatting import SYMBOLS
from tekton_tui.safe_text import one_line
from tekton_tui.stores import FleetStore, Stores

Grouping = Literal["need", "host", "group", "model", "role"]
GROUPINGS: Final[tuple[Grouping, ...]] = ("need", "host", "group", "model", "role")
STOPPED = "·stopped"
"""Key of the line that stands for all that are stopped."""


class Line(NamedTuple):
    """One line of the grid: a row, several tiles, a group's head, or what is folded. `key` is a row's id, or the fold's."""

    kind: Literal["row", "tiles", "head", "fold"]
    key: str
    ids: tuple[str, ...]


def need(row: SpecialistStatus) -> int:
    """Return where a row stands unless a column orders them: who asks, is down, stalls, works, is ready, starts, is stopped."""
    if row.state == "busy" and row.phase == "waiting":
        return -1
    if row.state in BROKEN:
        return 0
    if row.state == "busy":
        return 1 if row.phase == "stalled" else 2
    return {"ready": 3, "starting": 4, "stopping": 4}.get(row.state, 5)


def group_of(row: SpecialistStatus, grouping: Grouping) -> str:
    """Return the name of the group a row is in."""
    if grouping == "host":
        return "here" if row.launcher == "local" else row.host
    if grouping == "group":
        return row.groups[0] if row.groups else "no group"
    if grouping == "model":
        return row.model_display or "no model"
    return row.short or row.title


def arrange(
    rows: Sequence[SpecialistStatus],
    *,
    grouping: Grouping = "need",
    folded: Iterable[str] = (),
    tiles: int = 0,
    room: int = 0,
    unfolded: bool = False,
    keep: str = "",
) -> list[Line]:
    """Return the lines of rows that are in order already.

    By need, the stopped stand as one line when there are more rows than `room`, some run, and nobody unfolded them; but
    the row named `keep` stands for itself. In other groupings each group has a head, and those in `folded` nothing else.
    `tiles` is how many stand beside each other; 0 for one row a line.
    """
    shut = set(folded)
    if grouping == "need":
        stopped = [row.id for row in rows if row.state == "stopped" and row.id != keep]
        fold = not unfolded and 1 < len(stopped) < len(rows) and len(rows) > room > 0 and not tiles
        shown = [row.id for row in rows if not fold or row.state != "stopped" or row.id == keep]
        return [*_lines(shown, tiles), *([Line("fold", STOPPED, tuple(stopped))] if fold else [])]
    groups: dict[str, list[str]] = {}
    for row in rows:
        groups.setdefault(group_of(row, grouping), []).append(row.id)
    lines: list[Line] = []
    for name, ids in groups.items():
        lines.append(Line("head", f"·{name}", tuple(ids)))
        if f"·{name}" not in shut:
            lines += _lines(ids, tiles)
    return lines


def _lines(ids: list[str], tiles: int) -> list[Line]:
    if not tiles:
        return [Line("row", ai_id, (ai_id,)) for ai_id in ids]
    return [Line("tiles", ids[at], tuple(ids[at : at + tiles])) for at in range(0, len(ids), tiles)]


def matcher(text: str) -> Callable[[SpecialistStatus], float]:
    """Return what tells how well a row fits the filter: 0 not at all.

    Fuzzy over name, role, state and model; `cap:word` finds capabilities; `!` in front inverts.
    """
    wanted = text.strip()
    if not wanted:
        return lambda row: 1.0
    if wanted.startswith("!"):
        inner = matcher(wanted[1:])
        return lambda row: 0.0 if inner(row) else 1.0
    if wanted.startswith("cap:"):
        word = wanted[4:].lower()
        return lambda row: float(any(word in capability.lower() for capability in row.capabilities))
    fuzzy = FuzzySearch()
    lowered = wanted.lower()

    def score(row: SpecialistStatus) -> float:
        found, _ = fuzzy.match(wanted, row.name)
        if found:
            return 100.0 + found
        facts = [row.short, row.title, row.state, row.phase or "", row.model_display, row.host, *row.groups]
        return 1.0 if any(lowered in fact.lower() for fact in facts) else 0.0

    return score


def hit_offsets(text: str, name: str) -> set[int]:
    """Return which characters of a name the filter found, to underline them."""
    wanted = text.strip()
    if not wanted or wanted.startswith(("!", "cap:")):
        return set()
    return set(FuzzySearch().match(wanted, name)[1])


def why_no_rows(stores: Stores, pattern: str, hidden: int, *, first: bool) -> tuple[str, str] | None:
    """Return why there are no rows, or what starts them, and what helps; `None` while somebody runs in sight.

    `first`: what is written as a filter may be meant as the first question, and Enter makes it that.
    """
    fleet = stores.fleet
    if hidden and hidden == len(fleet.rows):
        helps = "⏎ makes it your first question, esc clears it." if first else "esc clears the filter."
        return f"Nobody fits “{one_line(pattern, 40)}”.", helps
    if not fleet.nothing_runs:
        return None
    platform = fleet.platform
    if (unanswered := stores.unanswered) or platform is None:
        return unanswered
    if not platform.lifecycle_on:
        return "The AI lifecycle is off (TEKTON_REGISTER_AI=false).", "Nothing launches or registers."
    used = platform.provider
    model = "the embedded model" if used.provider == "embedded" else used.display
    words = f"Nothing runs. Enter starts a team: {', '.join(platform.starter)}."
    return words, f"They answer with {model}: {used.reason}."


def services_in_words(fleet: FleetStore) -> str:
    """Return which services do not serve."""
    parts = [
        f"{SYMBOLS.get(service.state, '●')} {service.title}: {service.state} {service.cause or service.detail}"
        for service in fleet.services.values()
        if service.state != "ready" and (service.state != "stopped" or service.cause)
    ]
    return one_line(" · ".join(parts), 70)
