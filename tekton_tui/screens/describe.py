"""All that is known of one specialist, on one page."""

from __future__ import annotations

from typing import Any, cast

from textual.content import Content

from backend.schema import money
from backend.schema.results import SpecialistDetail
from tekton_tui.safe_text import literal, safe
from tekton_tui.screens.text import TextScreen

LABEL_CELLS = 18
SHOWN = (
    "id", "title", "state", "detail", "cause", "provider", "model", "model_display", "provider_reason", "temperature",
    "transport", "host", "port", "pid", "launcher", "exit_code", "signal", "turns", "failures", "tokens_in", "tokens_out",
    "costs", "first_token_ms", "tokens_per_second", "avg_response_s", "queue", "groups", "roles", "capabilities", "last_error",
)  # fmt: skip


def describe_screen(specialist: SpecialistDetail) -> TextScreen:
    """Return the page of one specialist."""
    row = specialist.status_row
    lines = [literal(row.description, "bold"), Content("")]
    for name in SHOWN:
        value = getattr(row, name)
        if value not in (None, "", [], {}, 0):
            lines.append(_line(name.replace("_", " "), _in_words(value)))
    if specialist.aliases:
        lines.append(_line("also called", ", ".join(specialist.aliases)))
    lines += [Content(""), literal("Persona", "bold $text-primary"), literal(specialist.persona)]
    return TextScreen(safe(row.name), Content("\n").join(lines))


def _line(label: str, words: str) -> Content:
    return Content.assemble(literal(f"{label:<{LABEL_CELLS}}", "$text-muted"), literal(words))


def _in_words(value: Any) -> str:
    """Return a list's items or the sums of a table of costs with commas between."""
    if isinstance(value, dict):
        return money.in_words(cast("dict[str, float]", value)) or "nothing"
    return ", ".join(map(str, cast("list[Any]", value))) if isinstance(value, list) else str(value)
