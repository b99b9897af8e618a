"""The stages of a pipeline run from left to right: name and state, sizes, times. Pure; draws no widget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.cells import cell_len
from textual.content import Content

from tekton_tui.safe_text import literal, one_line
from tekton_tui.wording import milliseconds, size, span

STATE_SYMBOLS = {"waiting": "○", "running": "◐", "done": "✓", "failed": "✖", "cancelled": "✖", "not run": "–"}
STATE_TONES = {
    "waiting": "$text-muted", "running": "$text-primary", "done": "$text-success", "failed": "$text-error",
    "cancelled": "$text-muted", "not run": "$text-muted",
}  # fmt: skip
LEAST_CELLS, MOST_CELLS = 18, 34
ARROW = " → "


def stage_strip(stages: Sequence[dict[str, Any]], at: int, width: int) -> Content:
    """Return three rows: the stages around stage `at`, as many as fit; what is left out is counted at the ends."""
    if not stages:
        return Content("")
    fit = max(1, min(len(stages), (width + len(ARROW)) // (LEAST_CELLS + len(ARROW))))
    width -= len(" more") if fit < len(stages) else 0
    first = max(0, min(at - fit // 2, len(stages) - fit))
    shown = range(first, first + fit)
    cells = min(MOST_CELLS, max(8, (width - len(ARROW) * (fit - 1)) // fit))
    rows: list[list[Content]] = [[], [], []]
    for number in shown:
        joints = ("", "", "") if number == first else (ARROW, "   ", "   ")
        for row, joint, part in zip(
            rows, joints, _column(stages[number], number, number == at, cells), strict=True
        ):
            row += [literal(joint, "$text-muted"), part]
    lines = [Content.assemble(*row) for row in rows]
    hidden = len(stages) - fit
    if hidden:
        words = (f"{f'+{hidden}':>5}", " more")
        for row, word in enumerate(words):
            lines[row] = Content.assemble(lines[row], literal(word, "$text-muted"))
    return Content("\n").join(lines)


def _column(stage: dict[str, Any], number: int, here: bool, cells: int) -> tuple[Content, Content, Content]:
    """Return a stage's three rows, each exactly `cells` wide."""
    state = stage.get("state", "waiting")
    tone = STATE_TONES.get(state, "")
    head = f"{'▸' if here else ' '}{STATE_SYMBOLS.get(state, ' ')} {number + 1} {stage['label']}"
    return (
        literal(_fit(head, cells), f"{tone} bold on $panel" if here else tone),
        literal(_fit(f"  {_sizes(stage)}", cells), "$text-muted"),
        literal(_fit(f"  {_times(stage)}", cells), "$text-error" if stage.get("error") else "$text-muted"),
    )


def _sizes(stage: dict[str, Any]) -> str:
    if stage.get("state") in ("not run", "waiting"):
        return stage.get("state", "")
    return f"{_bytes(stage, 'input')} → {_bytes(stage, 'output')}"


def _bytes(stage: dict[str, Any], side: str) -> str:
    return size(stage.get(f"{side}_bytes") or len(stage.get(side, "").encode()))


def _times(stage: dict[str, Any]) -> str:
    if stage.get("error") or stage.get("code"):
        return str(stage.get("code") or "failed")
    parts = (
        [f"first {milliseconds(stage['first_token_ms'])}"] if stage.get("first_token_ms") is not None else []
    )
    parts += [span(stage["elapsed_s"])] if stage.get("elapsed_s") else []
    return " · ".join(parts)


def _fit(text: str, cells: int) -> str:
    lead = len(text) - len(text.lstrip(" "))
    cut = " " * lead + one_line(text[lead:], max(1, cells - lead))
    return cut + " " * max(0, cells - cell_len(cut))
