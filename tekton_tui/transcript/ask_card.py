"""The card of a tool call that waits for a person: what would run, what it changes, since when, and the keys that answer.

A card is drawn whole or not at all: what cannot be read in it is not answered in it.
"""

from __future__ import annotations

from typing import Final

from rich.cells import cell_len

from tekton_tui.clock import gateway_time
from tekton_tui.safe_text import one_line, safe, safe_inline
from tekton_tui.transcript.cards import FRAME_CELLS, LEAST_CELLS, diff_rows, framed, numbered, plain_row
from tekton_tui.transcript.entry import AskCard
from tekton_tui.transcript.pieces import plain_rows
from tekton_tui.transcript.rows import BOLD, CODE, DIM, FOLD, KEY, TEXT, YOU, Ink, Row, Run
from tekton_tui.transcript.wrap import wrap_runs

MOST_ROWS: Final = 14
"""Rows inside a card at most, at any width; a longer call is read alone."""
TAB_HINT: Final = "tab answers it"
ANSWERING_HINT: Final = "esc leaves it waiting"
ALONE_HINT: Final = "tab shows it alone"


def card_rows(card: AskCard, since: float, width: int) -> list[Row]:
    """Return the rows of a card; of a call too long for one, its beginning, and how it is read."""
    inner = width - FRAME_CELLS
    if inner < LEAST_CELLS:
        return []
    body = _body(card, inner)
    whole = len(body) <= MOST_ROWS
    if not whole:
        rest = f"… {len(body) - MOST_ROWS + 1:,} more rows: {ALONE_HINT}, and answers it"
        body = [*body[: MOST_ROWS - 1], *wrap_runs([(rest, YOU)], inner)[:1]]
    else:
        body += _keys(card, inner)
    waits = f"waits {_span(gateway_time() - since)} of {_span(card.until - since)}"
    hint = ANSWERING_HINT if card.answering else TAB_HINT if whole else ALONE_HINT
    return framed(_top(card, waits, hint, width), body, width, YOU)


def card_fits(card: AskCard, width: int) -> bool:
    """Return whether all of a call is read in its card."""
    inner = width - FRAME_CELLS
    return inner >= LEAST_CELLS and len(_body(card, inner)) <= MOST_ROWS


def _body(card: AskCard, width: int) -> list[Row]:
    """Return what is to be read before it is answered."""
    rows = _call(card, width)
    rows += diff_rows(numbered(card.diff), width)
    rows += [row for key, words in card.answers for row in _named(key, words, width, YOU | BOLD)]
    rows += [row for name, words in card.notes for row in _named(name, words, width, DIM)]
    return rows


def _call(card: AskCard, width: int) -> list[Row]:
    """Return the arguments: beside each other where they fit, else one below the other."""
    values = [(safe_inline(name).replace("\t", " "), safe(value)) for name, value in card.arguments]
    if all("\n" not in value and "\t" not in value for _, value in values):
        runs: list[Run] = []
        for name, value in values:
            runs += [("   " if runs else "", TEXT), (f"{name} ", DIM), (f" {value} ", CODE)]
        if sum(cell_len(text) for text, _ in runs) <= width:
            return wrap_runs(runs or [("without arguments", DIM)], width)
    rows: list[Row] = []
    for name, value in values:
        if "\n" in value:
            rows += [*wrap_runs([(name, DIM)], width), *plain_rows(value, width, TEXT, indent="  ")]
        else:
            rows += _named(name, value, width, DIM)
    return rows


def _named(name: str, words: str, width: int, ink: Ink) -> list[Row]:
    """Return words behind their name, below it where that is long."""
    text = safe(words).expandtabs(4).replace("\n", "↵")
    lead = f"{name}  "
    if (cells := cell_len(lead)) > width // 2:
        return [*wrap_runs([(name, ink)], width), *plain_rows(text, width, TEXT, indent="  ")]
    rest = " " * cells
    return wrap_runs([(text, TEXT)], width, first=[(lead, ink)], rest=[(rest, TEXT)], decor=len(lead))


def _keys(card: AskCard, width: int) -> list[Row]:
    """Return the keys as buttons; they are bright while they act."""
    ink = KEY if card.answering else CODE | YOU | BOLD
    runs: list[Run] = []
    rows: list[Row] = []
    used = 0
    for key, word in card.keys:
        cells = cell_len(key) + 3 + cell_len(word)
        if used and used + cells + 3 > width:
            rows.append(plain_row(runs))
            runs, used = [], 0
        runs += [("   ", TEXT)] if runs else []
        runs += [(f" {key} ", ink), (f" {word}", TEXT if card.answering else DIM)]
        used += cells + 3
    return [*rows, plain_row(runs)] if runs else rows


def _top(card: AskCard, waits: str, hint: str, width: int) -> list[Run]:
    title = one_line(card.title, max(1, width - 8))
    runs: list[Run] = [(f"◆ {title}", YOU | BOLD)]
    used = 3 + 2 + cell_len(title)
    for text, ink in ((f"  {waits}", DIM), (f"   {hint}", FOLD)):
        if used + cell_len(text) + 4 <= width:
            runs.append((text, ink))
            used += cell_len(text)
    return runs


def _span(seconds: float) -> str:
    seconds = max(0.0, seconds)
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} m" if seconds < 3600 else f"{seconds / 3600:.0f} h"
