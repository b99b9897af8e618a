"""How a team turn stands, in one row: question, counts by outcome; below it what the operator can do about it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from textual.content import Content
from textual.widgets import Static

from tekton_tui.safe_text import literal, one_line
from tekton_tui.stores import LiveTeam
from tekton_tui.widgets.lane import Lane
from tekton_tui.wording import span

LEAST_PROMPT_CELLS = 16


class TeamLine(Static):
    """Fed with `tell`; the rows below it are there only when they have something to say."""

    def tell(self, team: LiveTeam, lanes: Sequence[Lane], manner: Sequence[str]) -> None:
        """Write the rows. `manner` says how it is shown and asked, the most important first; left out for room."""
        width = self.size.width
        rows = [_standing(team, lanes, manner, width), *advice_for(lanes, width)]
        self.update(Content("\n").join(rows))


def counts_of(lanes: Sequence[Lane]) -> str:
    """Say how many answered, go on, failed and were cancelled; judges do not count."""
    members = [lane for lane in lanes if not lane.is_judge]
    turns = [lane.turn for lane in members if lane.turn is not None]
    kinds = (
        ("answered", sum(turn.ended and not turn.code for turn in turns)),
        ("under way", sum(not turn.ended for turn in turns)),
        ("waiting", sum(lane.turn is None and not lane.refusal for lane in members)),
        ("failed", sum(lane.failed for lane in members)),
        ("cancelled", sum(turn.code == "cancelled" for turn in turns)),
    )
    return ", ".join(f"{number} {word}" for word, number in kinds if number or word == "answered")


def advice_for(lanes: Sequence[Lane], width: int) -> list[Content]:
    """Return the rows that name failures, and say what marks and picks are good for; none without them."""
    rows: list[Content] = []
    if failed := [lane for lane in lanes if lane.failed]:
        key = "  ·  R asks again"
        names = ", ".join(f"{lane.name_shown} {_why(lane)}" for lane in failed)
        words = f" {one_line(f'✖ {names}', max(1, width - cell_len(key) - 2))}{key}"
        rows.append(literal(words, "$text-error"))
    marked = [lane for lane in lanes if lane.marked]
    picked = next((lane for lane in lanes if lane.picked), None)
    if picked is not None:
        words = f"★ {picked.name_shown} picked: | pipes it on · y copies · > quotes · esc unpicks"
        rows.append(literal(" " + one_line(words, width - 2), "$text-success"))
    elif marked:
        what = "= compares · m merges" if len(marked) > 1 else "= compares with the lane in focus"
        rows.append(literal(f" ▌ {len(marked)} marked: {what} · esc unmarks", "$text-primary"))
    return rows


def _why(lane: Lane) -> str:
    return lane.turn.code if lane.turn is not None else "not asked"


def _standing(team: LiveTeam, lanes: Sequence[Lane], manner: Sequence[str], width: int) -> Content:
    counts = counts_of(lanes) + (f" · {span(team.end.total_time)}" if team.end else "")
    around = f"round {team.start.round} " if team.start.round > 1 else ""
    room = width - cell_len(counts) - cell_len(around) - LEAST_PROMPT_CELLS - 5
    tail = counts
    for words in manner:
        if len(words) + 3 <= room:
            room -= len(words) + 3
            tail += f" · {words}"
    room = max(4, width - cell_len(tail) - cell_len(around) - 5)
    prompt = f"“{one_line(team.start.prompt, room)}”"
    gap = " " * max(1, width - cell_len(tail) - cell_len(around) - cell_len(prompt) - 2)
    tone = "$text-error" if any(lane.failed for lane in lanes) else "$text-muted"
    return Content.assemble(" ", literal(around + prompt, "bold"), gap, literal(tail, tone), " ")
