"""All that is known of one specialist, on one page."""

from __future__ import annotations

from typing import Any, cast

from textual.content import Content

from backend.schema import money
from tekton_tui.safe_text import literal, safe
from tekton_tui.screens.text import TextScreen

LABEL_CELLS = 18
SHOWN = (
    "id", "title", "state", "detail", "cause", "provider", "model", "model_display", "provider_reason", "temperature",
    "transport", "host", "port", "pid", "launcher", "exit_code", "signal", "turns", "failures", "tokens_in", "tokens_out",
    "costs", "first_token_ms", "tokens_per_second", "avg_response_s", "queue", "groups", "roles", "capabilities", "last_error",
)  # fmt: skip


def describe_screen(facts: dict[str, Any]) -> TextScreen:
    """Return the page for `get_specialist`'s answer."""
    row: dict[str, Any] = facts["status_row"]
    lines = [literal(row.get("description", ""), "bold"), Content("")]
    for name in SHOWN:
        value = row.get(name)
        if value not in (None, "", [], 0):
            words = _in_words(value)
            lines.append(
                Content.assemble(
                    literal(f"{name.replace('_', ' '):<{LABEL_CELLS}}", "$text-muted"), literal(words)
                )
            )
    if aliases := facts.get("aliases"):
        lines.append(
            Content.assemble(
                literal(f"{'also called':<{LABEL_CELLS}}", "$text-muted"), literal(", ".join(aliases))
            )
        )
    lines += [Content(""), literal("Persona", "bold $text-primary"), literal(facts.get("persona", ""))]
    return TextScreen(safe(row["name"]), Content("\n").join(lines))


def _in_words(value: Any) -> str:
    """Return a list's items or the sums of a table of costs with commas between."""
    if isinstance(value, dict):
        return money.in_words(cast("dict[str, float]", value)) or "nothing"
    return ", ".join(map(str, cast("list[Any]", value))) if isinstance(value, list) else str(value)
