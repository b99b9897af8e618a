"""A text to read and to leave, and the one that says all that is known of a specialist."""

from __future__ import annotations

from typing import Any, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from backend.schema import money
from backend.schema.results import SpecialistDetail
from tekton_tui.runtime.frame_scheduler import app_of
from tekton_tui.runtime.layout_once import Modal
from tekton_tui.safe_text import literal, safe
from tekton_tui.verbs import bindings

LABEL_CELLS = 18
SHOWN = (
    "id", "title", "state", "detail", "cause", "provider", "model", "model_display", "provider_reason", "temperature",
    "transport", "host", "port", "pid", "launcher", "exit_code", "signal", "turns", "failures", "tokens_in", "tokens_out",
    "costs", "first_token_ms", "tokens_per_second", "avg_response_s", "queue", "groups", "roles", "capabilities", "last_error",
)  # fmt: skip


class TextScreen(Modal[None]):
    """`esc` closes, `y` copies."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("text")

    def __init__(self, title: str, content: Content) -> None:
        super().__init__()
        self._title, self._content = title, content

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="overlay text") as box:
            box.border_title = literal(self._title)
            box.border_subtitle = "esc closes · y copies"
            yield Static(self._content)

    def action_copy(self) -> None:
        app_of(self).copy_to_clipboard(self._content.plain)
        self.notify("copied", markup=False)


def describe_screen(specialist: SpecialistDetail) -> TextScreen:
    row = specialist.status_row
    lines = [literal(row.description, "bold"), Content("")]
    for name in SHOWN:
        value = getattr(row, name)
        # a page of what is known has no place for what is not
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
