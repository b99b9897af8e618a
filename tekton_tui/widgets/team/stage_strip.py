"""The stages of a pipeline run, a row each: name, state, a bar over the run's time, the first sentence. Pure; no widget."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from textual.content import Content

from backend.schema.records import StageRecord
from tekton_tui.clock import gateway_time
from tekton_tui.formatting import span
from tekton_tui.safe_text import literal, one_line
from tekton_tui.widgets.chat.failures import failure_words
from tekton_tui.widgets.team.lane_text import first_sentence

STATE_SYMBOLS = {"waiting": "○", "running": "◐", "done": "✓", "failed": "✖", "cancelled": "○", "not run": "–"}
STATE_TONES = {
    "waiting": "$text-muted", "running": "$text-primary", "done": "$text-success", "failed": "$text-error",
    "cancelled": "$text-muted", "not run": "$text-muted",
}  # fmt: skip
NAME_CELLS, SHORT_NAME_CELLS, BAR_CELLS, TIME_CELLS = 22, 13, 16, 7
WIDE = 64
"""Cells from which a row has its bar."""


def stage_rows(stages: Sequence[StageRecord], at: int, width: int, height: int) -> Content:
    """Return a row for each of the stages around stage `at`; what is left out is counted in the last row."""
    if not stages or height < 1:
        return Content("")
    shown = len(stages) if len(stages) <= height else max(1, height - 1)
    # the stage under the cursor stands in the middle as far as there are stages on both sides
    first = max(0, min(at - shown // 2, len(stages) - shown))
    starts, whole = _times(stages)
    rows = [
        _row(stages[number], number, number == at, starts[number], whole, width)
        for number in range(first, first + shown)
    ]
    if shown < len(stages) and height > 1:
        rows.append(literal(f"  +{len(stages) - shown} more", "$text-muted"))
    return Content("\n").join(rows)


def _times(stages: Sequence[StageRecord]) -> tuple[list[float], float]:
    """Return when each stage began, in seconds since the first, and how long all took so far; at least a moment."""
    begun = [stage.started_at for stage in stages if stage.started_at]
    origin = min(begun, default=0.0)
    starts: list[float] = []
    end = 0.0
    for stage in stages:
        start = stage.started_at - origin if stage.started_at else end
        starts.append(start)
        end = max(end, start + _took(stage))
    return starts, max(end, 0.001)


def _took(stage: StageRecord) -> float:
    if stage.state == "running" and stage.started_at:
        return max(0.0, gateway_time() - stage.started_at)
    return stage.elapsed_s


def _row(stage: StageRecord, number: int, here: bool, start: float, whole: float, width: int) -> Content:
    tone = STATE_TONES.get(stage.state, "")
    wide = width >= WIDE
    cells = NAME_CELLS if wide else SHORT_NAME_CELLS
    name = one_line(stage.label, cells)
    head = f"{'▎' if here else ' '}{number + 1} {name}{' ' * (cells - cell_len(name))} "
    took = span(_took(stage)) if _took(stage) else ""
    bar = _bar(start, _took(stage), whole) if wide else ""
    room = max(1, width - cell_len(head) - 2 - len(bar) - TIME_CELLS - 3)
    words = one_line(_words(stage), room)
    ground = " on $panel" if here else ""
    parts = (
        (head, f"bold{ground}" if here else ""),
        (f"{STATE_SYMBOLS.get(stage.state, ' ')} ", f"{tone}{ground}"),
        (bar, f"{tone}{ground}"),
        (f"{took:>{TIME_CELLS}}   ", f"$text-muted{ground}"),
        (
            words + " " * (room - cell_len(words)),
            f"{'$text-error' if stage.error or stage.code else ''}{ground}".strip(),
        ),
    )
    return Content.assemble(*parts).truncate(width)


def _bar(start: float, took: float, whole: float) -> str:
    """Return a stage's part of the run's time; whatever took time at all has a cell."""
    if not took:
        return " " * BAR_CELLS
    first = min(BAR_CELLS - 1, int(start / whole * BAR_CELLS))
    cells = max(1, min(BAR_CELLS - first, round(took / whole * BAR_CELLS)))
    return " " * first + "━" * cells + " " * (BAR_CELLS - first - cells)


def _words(stage: StageRecord) -> str:
    if stage.code == "cancelled" or stage.state in ("not run", "waiting", "cancelled"):
        return "stopped" if stage.state == "cancelled" else stage.state
    if stage.code or stage.error:
        return failure_words(stage.code or "").cause if stage.code else stage.error
    return first_sentence(stage.output)
