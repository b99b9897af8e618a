"""What a model was sent for one turn, on one page: parts and their tokens, what was left out, what is new, every text."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import groupby

from textual.content import Content

from backend.schema.sent import SentChange, SentPart, SentReport
from tekton_tui.safe_text import literal, safe
from tekton_tui.screens.text import TextScreen

KIND_CELLS, COUNT_CELLS, TOKEN_CELLS, BAR_CELLS = 14, 12, 10, 24
MAX_TEXT_CHARS = 6_000
"""Of one text, what is shown here; `tekton sent --full` has the rest."""


def sent_screen(report: SentReport) -> TextScreen:
    turn = report.turn
    when = time.strftime("%H:%M:%S", time.localtime(turn.at))
    title = f"Sent to {turn.ai_id.removesuffix('-ai')} at {when}"
    lines = [*_summary(report), Content("")]
    most = max((part.tokens for part in turn.parts), default=0) or 1
    for kind, group in groupby(turn.parts, lambda part: part.kind):
        lines.append(_row(kind, list(group), max(most, report.tokens // 2)))
    lines += _section("Left out", [literal(f"  {sentence}") for sentence in turn.left_out])
    heading = "Since the turn before" if report.before else "The first turn that is kept of this conversation"
    told = [line for change in report.changes for line in _change(change)]
    lines += _section(
        heading, told or ([literal("  the same", "$text-muted")] if report.before else []), always=True
    )
    for part in turn.parts:
        lines += _section(_heading(part), [literal(_text(part))])
    return TextScreen(safe(title), Content("\n").join(lines))


def _summary(report: SentReport) -> list[Content]:
    turn = report.turn
    about = f"about {report.tokens:,} tokens"
    if turn.counted:
        about = f"{turn.counted:,} tokens by its provider's count, {about} by parts"
    if turn.window:
        used = (turn.counted or report.tokens) / turn.window
        about += f" · {used:.0%} of its {turn.window:,}"
    lines = [literal(turn.model, "bold"), literal(about)]
    if turn.options:
        wishes = ", ".join(f"{name} {value}" for name, value in turn.options.items())
        lines.append(literal(f"asked with {wishes}", "$text-muted"))
    return lines


def _row(kind: str, parts: list[SentPart], most: int) -> Content:
    """Return the parts of one kind that stand together, as a row with a bar."""
    tokens = sum(part.tokens for part in parts)
    source = parts[0].source.removesuffix("-ai")[: COUNT_CELLS - 1]
    count = source if len(parts) == 1 else f"{len(parts)} texts"
    bar = "━" * max(1 if tokens else 0, min(BAR_CELLS, round(BAR_CELLS * tokens / most)))
    return Content.assemble(
        literal(f"{kind:<{KIND_CELLS}}"),
        literal(f"{count:<{COUNT_CELLS}}", "$text-muted"),
        literal(f"{tokens:>{TOKEN_CELLS},}  "),
        literal(bar, "$text-primary"),
    )


def _change(change: SentChange) -> Iterator[Content]:
    counts = [
        f"{change.added} new" if change.added else "",
        f"{change.removed} gone" if change.removed else "",
    ]
    words = "changed" if change.added == change.removed == 1 else ", ".join(filter(None, counts))
    yield literal(f"  {change.kind}: {words}, {change.tokens:+,} tokens")
    for line in change.lines:
        yield literal(f"    {line}", "$text-success" if line.startswith("+") else "$text-error")


def _section(heading: str, lines: list[Content], *, always: bool = False) -> list[Content]:
    """Return a heading with its lines; nothing where there are none."""
    return [Content(""), literal(heading, "bold $text-primary"), *lines] if lines or always else []


def _heading(part: SentPart) -> str:
    who = part.source.removesuffix("-ai") or part.role
    return f"{part.kind} · {who} · {part.tokens:,} tokens" if who else f"{part.kind} · {part.tokens:,} tokens"


def _text(part: SentPart) -> str:
    if not part.text:
        return f"({part.missing})"
    if len(part.text) <= MAX_TEXT_CHARS:
        return part.text
    return f"{part.text[:MAX_TEXT_CHARS]}\n… {len(part.text) - MAX_TEXT_CHARS:,} more characters: tekton sent --full"
