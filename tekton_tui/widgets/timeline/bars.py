"""Turns as bars over time: who had which, what it did when, how it ended. Pure: records in, pieces of text out."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from backend.schema.frames import Phase
from backend.schema.history import TurnRecord
from tekton_tui.widgets.fleet.drawing import Part

SPANS: Final = (
    (10.0, "10 s"),
    (60.0, "1 m"),
    (300.0, "5 m"),
    (1800.0, "30 m"),
    (10_800.0, "3 h"),
    (86_400.0, "1 d"),
)
"""How much time the bars show, in seconds and in words."""
PHASES: Final[dict[Phase, tuple[str, str]]] = {
    "queued": ("╌", "muted"), "prefill": ("─", "muted"), "streaming": ("━", "accent"), "tool": ("═", "steel"),
    "waiting": ("╌", "you"), "stalled": ("╌", "warn"),
}  # fmt: skip
"""What a phase is drawn with, and its colour; phases differ by the sign first."""
HEADS: Final[dict[Phase, str]] = {"waiting": "◆", "stalled": "◐"}
WORDS: Final[dict[Phase, str]] = {"tool": " tool ", "waiting": " asks you ", "stalled": " stalled "}
STOPS: Final[dict[Phase, str]] = {"tool": "tools", "waiting": "waited for you", "stalled": "stalled"}
"""Phases in which a turn is held up, in words."""
STEPS: Final = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14_400)
LABEL_CELLS: Final = 11
"""Cells that a time on the axis takes, with some air."""
LEGEND: Final = (
    Part("╌", "muted"), Part(" queued  ", "faint"), Part("─", "muted"), Part(" prefill  ", "faint"),
    Part("━", "accent"), Part(" writes  ", "faint"), Part("═", "steel"), Part(" tool  ", "faint"),
    Part("◆╌", "you"), Part(" you  ", "faint"), Part("◐╌", "warn"), Part(" stalled  ", "faint"),
    Part("●", "good"), Part(" done  ", "faint"), Part("✖", "bad"), Part(" failed  ", "faint"), Part("○", "muted"),
    Part(" stopped", "faint"),
)  # fmt: skip


def legend(width: int, indent: int) -> list[Part]:
    """Return what the signs mean, closer together where there is little room."""
    if indent + sum(len(part.text) for part in LEGEND) <= width:
        return [Part(" " * indent), *LEGEND]
    return [Part(" "), *(Part(part.text.replace("  ", " "), part.tone) for part in LEGEND)]


class Window(NamedTuple):
    """The time that is shown, in unix seconds, over so many cells."""

    since: float
    until: float
    width: int

    def cell(self, moment: float) -> int:
        """Return the cell of a moment; outside of the window one that is outside of the row."""
        return int((moment - self.since) / max(self.until - self.since, 0.001) * self.width)

    def holds(self, turn: TurnRecord, now: float) -> bool:
        return turn.started_at <= self.until and (turn.ended_at or now) >= self.since


def ticks(window: Window) -> tuple[int, list[float]]:
    """Return how far apart the marks of the axis are, in seconds, and the moments they stand at, by the local clock."""
    span = window.until - window.since
    least = span * LABEL_CELLS / max(window.width, 1)
    step = next((step for step in STEPS if step >= least), STEPS[-1])
    # marks stand at whole minutes of the local clock, also where that is half an hour off
    east = time.localtime(window.until).tm_gmtoff
    first = (int(window.since + east) // step + 1) * step - east
    return step, [float(moment) for moment in range(first, int(window.until) + 1, step)]


def axis(window: Window) -> list[Part]:
    """Return the row of times over the bars: the first in full, the others as short as they are clear."""
    step, moments = ticks(window)
    row = [" "] * window.width
    full = True
    for moment in moments:
        here = time.localtime(moment)
        shape = (
            "%H:%M:%S" if full and step < 60 else "%H:%M" if full or step >= 60 or not here.tm_sec else ":%S"
        )
        words = time.strftime(shape, here)
        at = window.cell(moment)
        if at + len(words) <= window.width:
            row[at : at + len(words)] = words
            full = False
    return [Part("".join(row), "faint")]


def bars(turns: Iterable[TurnRecord], window: Window, now: float, recorded_since: float = 0.0) -> list[Part]:
    """Return a row of bars, as wide as the window. What was before `recorded_since` is shown as not known."""
    cells = [(" ", "line")] * window.width
    for moment in ticks(window)[1]:
        if 0 <= (at := window.cell(moment)) < window.width:
            cells[at] = ("┊", "line")
    for at in range(min(window.width, max(0, window.cell(recorded_since)))):
        cells[at] = ("░", "line")
    for turn in turns:
        _draw(turn, cells, window, now)
    parts: list[Part] = []
    for sign, tone in cells:
        if parts and parts[-1].tone == tone:
            parts[-1] = Part(parts[-1].text + sign, tone)
        else:
            parts.append(Part(sign, tone))
    return parts


def _draw(turn: TurnRecord, cells: list[tuple[str, str]], window: Window, now: float) -> None:
    ends = [*(phase.at for phase in turn.phases[1:]), turn.ended_at or now]
    for phase, end in zip(turn.phases, ends, strict=False):
        sign, tone = PHASES[phase.phase]
        first, last = window.cell(phase.at), window.cell(end)
        for at in range(max(0, first), min(window.width, last + 1)):
            cells[at] = (sign, tone)
        words = HEADS.get(phase.phase, "") + WORDS.get(phase.phase, "")
        lead = 0 if phase.phase in HEADS else 1
        if 0 <= first < window.width:
            room = min(window.width, last + 1) - first - 2 * lead
            shown = words if len(words) <= room else HEADS.get(phase.phase, "")
            for offset, letter in enumerate(shown):
                cells[first + lead + offset] = (letter, tone)
    at = window.cell(turn.ended_at) if turn.ended_at else -1
    if 0 <= at < window.width:
        cells[at] = (
            ("●", "good") if not turn.code else ("○", "muted") if turn.code == "cancelled" else ("✖", "bad")
        )


def grouped(turns: Sequence[TurnRecord]) -> dict[str, str]:
    """Return by specialist the newest run of several that it took part in; of one alone there is nothing to tie."""
    members: dict[str, set[str]] = {}
    for turn in turns:
        if turn.group:
            members.setdefault(turn.group, set()).add(turn.ai_id)
    return {turn.ai_id: turn.group for turn in turns if len(members.get(turn.group, ())) > 1}


def arranged(turns: Sequence[TurnRecord], order: Sequence[str]) -> list[tuple[str, str]]:
    """Return who has a row, and how it is tied to the next: those of one run together, else as in the fleet."""
    group_of = grouped(turns)
    groups = list(dict.fromkeys(reversed(list(group_of.values()))))
    present = {turn.ai_id for turn in turns}
    known = [ai_id for ai_id in order if ai_id in present]
    known += sorted(present - set(known))
    rows: list[tuple[str, str]] = []
    for group in groups:
        members = [ai_id for ai_id in known if group_of.get(ai_id) == group]
        ties = ["╭", *["│"] * (len(members) - 2), "╰"] if len(members) > 1 else [" "]
        rows += zip(members, ties, strict=True)
    return rows + [(ai_id, " ") for ai_id in known if ai_id not in group_of]


def spent(turn: TurnRecord, phase: Phase, now: float) -> float:
    """Return how many seconds a turn was in a phase."""
    ends = [*(entered.at for entered in turn.phases[1:]), turn.ended_at or now]
    return sum(
        end - entered.at for entered, end in zip(turn.phases, ends, strict=False) if entered.phase == phase
    )


def facts(turn: TurnRecord, now: float) -> str:
    """Return what is known of a turn, in a line."""
    total = (turn.ended_at or now) - turn.started_at
    parts = [f"queued {spent(turn, 'queued', now):.1f} s", f"prefill {spent(turn, 'prefill', now):.1f} s"]
    if turn.first_token_ms is not None:
        parts.append(f"first token {turn.first_token_ms:.0f} ms")
    writing = spent(turn, "streaming", now)
    if turn.tokens_out:
        parts.append(f"{turn.tokens_out} tok")
        if writing >= 0.5 and turn.tokens_out >= 8:
            parts.append(f"{turn.tokens_out / writing:.0f} tok/s")
    for phase, words in STOPS.items():
        if seconds := spent(turn, phase, now):
            parts.append(f"{words} {seconds:.1f} s")
    how = "runs" if not turn.ended_at else (turn.code or "answered").replace("_", " ")
    return f"{how} {total:.1f} s · {' · '.join(parts)}"
