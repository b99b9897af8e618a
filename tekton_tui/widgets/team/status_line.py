"""The rows of a team turn: above, the question and its rounds; below, the counts by outcome. Pure functions of lanes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len
from textual.content import Content

from tekton_tui.formatting import number, span, spent
from tekton_tui.safe_text import literal, one_line
from tekton_tui.stores import LiveTeam
from tekton_tui.transcript import MEASURE
from tekton_tui.widgets.team.lane import Lane
from tekton_tui.widgets.team.vote import vote_words

BAR_CELLS, SHORT_BAR_CELLS = 14, 8
WIDE = 100
"""From so many cells on everything is said in full."""
LEAST_JOINT_ROWS, MOST_JOINT_ROWS, LEAST_ROWS_FOR_LONG_JOINT = 3, 6, 26
"""Rows of a joint answer beside the others, in a low and in a high view, and from when a view is high."""
LEAST_READER_ROWS, LEAST_ROWS_WITH_READER = 5, 18
"""Least height of the reader below the list, and of both together for there to be one."""


class Counts(NamedTuple):
    """How many of a team's members stand where; judges are not counted."""

    answered: int
    writing: int
    waiting: int
    failed: int
    stopped: int


def counts_of(lanes: Sequence[Lane]) -> Counts:
    """Count the members of a team turn by outcome."""
    members = [lane for lane in lanes if not lane.is_judge]
    turns = [lane.turn for lane in members if lane.turn is not None]
    return Counts(
        sum(turn.ended and not turn.code for turn in turns),
        sum(not turn.ended for turn in turns),
        sum(lane.turn is None and not lane.refusal for lane in members),
        sum(lane.failed for lane in members),
        sum(turn.code == "cancelled" for turn in turns),
    )


def question_row(team: LiveTeam, place: tuple[int, int], width: int) -> Content:
    """Return the question with its time; `place` is which of how many team turns this is: the keys go to those there are."""
    at, of = place
    clock = time.strftime("%H:%M", time.localtime(team.start.timestamp))
    others = [("{", "earlier")] * (at > 1) + [("}", "later")] * (at < of)
    where = f"{clock}{f' · {at} of {of}' if of > 1 else ''} {' ' if others else ''}" if width >= WIDE else ""
    keys = [
        part for key, word in others for part in ((key, "bold $text-primary"), (f" {word} ", "$text-muted"))
    ]
    right = Content.assemble((where, "$text-muted"), *keys)
    prompt = literal(f" “{one_line(team.start.prompt, max(4, width - cell_len(right.plain) - 5))}”", "bold")
    return _at_the_ends(prompt, right, width)


def rounds_row(team: LiveTeam, lanes: Sequence[Lane], moderation: str, width: int) -> Content:
    """Return the round as a bar in the proportions of its outcomes, and what comes after it."""
    counts, wide = counts_of(lanes), width >= WIDE
    parts: list[Content | str | tuple[str, str]] = [f" round {team.start.round} "]
    if team.ahead and team.end is None:
        words = "queued behind your question" if team.ahead == 1 else f"queued behind {team.ahead} questions"
        parts.append(literal(words, "$text-warning"))
    else:
        parts += [_bar(counts, BAR_CELLS if wide else SHORT_BAR_CELLS), " ", *_count_words(counts, wide)]
    judge = next((lane for lane in lanes if lane.is_judge), None)
    if judge is not None and judge.turn is not None:
        sign, tone = ("◐", "$text-primary") if not judge.turn.ended else ("✓", "$text-success")
        if judge.failed:
            sign, tone = "✖", "$text-error"
        took = f" {span(judge.turn.total_time)}" if wide and judge.turn.ended else ""
        parts += [
            ("  ─▸  ", "$text-disabled"),
            f"{judge.kind} ",
            (f"{sign} ", tone),
            (judge.writer + took, "$text-muted"),
        ]
    elif moderation:
        parts += [("  ─▸  ", "$text-disabled"), (moderation, "$text-disabled")]
    if words := vote_words(team):
        parts += [("  ─▸  ", "$text-disabled"), literal(words, "$text-primary")]
    return Content.assemble(*parts).truncate(width, ellipsis=True)


def counts_row(team: LiveTeam | None, lanes: Sequence[Lane], escape: str, width: int) -> Content:
    """Return the counts with time and tokens, and at the right what `esc` does now."""
    right = _escape_part(escape)
    if team is None:
        return Content.assemble(" " * max(0, width - cell_len(right.plain)), right)
    parts = [*_count_words(counts_of(lanes), True, " · ")]
    took = team.end.total_time if team.end else 0.0
    turns = list(team.lanes.values())
    tokens = sum(turn.tokens or turn.pieces for turn in turns)
    costs: dict[str, float] = {}
    for turn in turns:
        costs[turn.currency] = costs.get(turn.currency, 0.0) + turn.cost
    facts = [span(took)] if took else []
    facts += [f"{number(tokens)} tok"] if tokens else []
    facts += [money] if (money := spent(costs)) else []
    left = Content.assemble(" ", *parts, ("".join(f" · {fact}" for fact in facts), "$text-muted"))
    room = width - cell_len(right.plain) - 1
    if cell_len(left.plain) > room:
        left = left.truncate(max(1, room), ellipsis=True)
    return _at_the_ends(left, right, width)


def hint_row(hint: str, escape: str, width: int) -> Content:
    """Return what the keys do with what is marked or picked, and at the right what `esc` does now."""
    right = _escape_part(escape)
    left = literal(f" {one_line(hint, max(1, width - cell_len(right.plain) - 2))}", "$text-primary")
    return _at_the_ends(left, right, width)


def _escape_part(words: str) -> Content:
    return Content.assemble(("esc", "bold $text-warning"), f" {words} ") if words else Content("")


def _at_the_ends(left: Content, right: Content, width: int) -> Content:
    return Content.assemble(left, " " * max(1, width - cell_len(left.plain) - cell_len(right.plain)), right)


def hint_of(lanes: Sequence[Lane]) -> str:
    """Return what the keys do with what is marked or picked; empty for neither."""
    marked = [lane for lane in lanes if lane.marked]
    if len(marked) > 1:
        return f"{len(marked)} marked: = compares · M joins"
    if marked:
        return "1 marked: = compares with the lane in focus"
    if picked := next((lane for lane in lanes if lane.picked), None):
        return f"{picked.name_shown} picked: | pipes it on · y copies · > quotes"
    return ""


def _bar(counts: Counts, cells: int) -> Content:
    """Return a bar in proportions; whatever there is at all has a cell."""
    kinds = (
        (counts.answered, "$text-success"),
        (counts.failed, "$text-error"),
        (counts.stopped, "$text-muted"),
        (counts.writing, "$text-primary"),
        (counts.waiting, "$text-disabled"),
    )
    whole = max(1, sum(counts))
    widths = [max(1, round(cells * count / whole)) if count else 0 for count, _tone in kinds]
    # rounding gives a cell too many or too few: the longest part bears it
    while sum(widths) > cells and max(widths) > 1:
        widths[widths.index(max(widths))] -= 1
    while sum(widths) < cells and any(widths):
        widths[widths.index(max(widths))] += 1
    return Content.assemble(
        *(("━" * width, tone) for width, (_count, tone) in zip(widths, kinds, strict=True) if width)
    )


def _count_words(counts: Counts, wide: bool, joint: str = "  ") -> list[tuple[str, str]]:
    kinds = (
        (counts.answered, "answered", "", "$text-success"),
        (counts.failed, "failed", "✖", "$text-error"),
        (counts.writing, "writing", "◐", "$text-primary"),
        (counts.waiting, "waiting", "○", "$text-muted"),
        (counts.stopped, "stopped", "○", "$text-muted"),
    )
    parts: list[tuple[str, str]] = []
    for count, word, sign, tone in kinds:
        if count or word == "answered":
            parts.append(((joint if wide else " ") if parts else " " if joint == "  " else "", "$text-muted"))
            parts.append((f"{count} {word}" if wide else f"{sign}{count}", tone))
    return parts


def joint_rows(answer: str, width: int, height: int) -> int:
    """Return the height of a joint answer beside the others: as high as its text, within a third of the view."""
    cells = max(1, min(MEASURE, width - 6))
    text = sum(1 + len(line) // cells for line in answer.splitlines()) or 1
    return 2 + min(text, MOST_JOINT_ROWS if height >= LEAST_ROWS_FOR_LONG_JOINT else LEAST_JOINT_ROWS)


def reader_rows(listed: int, room: int) -> int:
    """Return the height of the reader below the list of so many rows; 0 where there is no room for it."""
    left = room - listed
    least = max(LEAST_READER_ROWS, room // 3) if room >= LEAST_ROWS_WITH_READER else 0
    return max(least, left) if least or left >= LEAST_READER_ROWS else 0
