"""The strip below the grid: who the row under the cursor is, what it did, and the tail of its stderr."""

from __future__ import annotations

from typing import Any

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from backend.schema import money
from backend.schema.records import SpecialistStatus
from tekton_tui.commands import Commands
from tekton_tui.hearing import hear
from tekton_tui.safe_text import literal, literal_line
from tekton_tui.stores import Stores
from tekton_tui.wording import age, number, why_ended

STDERR_LINES = 2


class DetailStrip(Vertical):
    """Follows the cursor; the log tail is fetched a moment after the cursor rests."""

    def __init__(self, stores: Stores, commands: Commands, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._stores, self._commands = stores, commands
        self._shown: str | None = None
        self._stderr: list[str] = []
        self._drawn: tuple[Content, dict[str, float]] | None = None

    def compose(self) -> ComposeResult:
        yield Static("", id="detail-text")

    def on_mount(self) -> None:
        self.add_class("framed")
        hear(self, self._stores.fleet.changed, self._changed)

    def show_specialist(self, ai_id: str | None) -> None:
        self._shown, self._stderr, self._drawn = ai_id, [], None
        self._write()
        if ai_id is not None:
            self.set_timer(0.25, lambda: self._fetch(ai_id))

    def _fetch(self, ai_id: str) -> None:
        if self._shown == ai_id and self.is_attached:
            self._commands.fetch_log(ai_id, STDERR_LINES, self._take_log)

    def _take_log(self, answer: dict[str, Any]) -> None:
        if self._shown and answer.get("source") == self._shown and self.is_attached:
            self._stderr = [str(line) for line in answer.get("lines", [])][-STDERR_LINES:]
            self._write()

    def _changed(self, ids: set[str]) -> None:
        if self._shown in ids:
            self._write()

    def _write(self) -> None:
        """Draw the row's facts; nothing when they read as before, for figures beat every second."""
        row = self._stores.fleet.rows.get(self._shown or "")
        content = self._content(row) if row else Content("")
        if (content, costs := row.costs if row else {}) == self._drawn:
            return
        self._drawn = content, costs
        self.border_title = literal(row.name) if row else ""
        spent = money.in_words(row.costs) if row else ""
        self.border_subtitle = literal(f"{spent} today") if spent else ""
        self.query_one("#detail-text", Static).update(content)

    def _content(self, row: SpecialistStatus) -> Content:
        facts = [
            f"{row.provider} {row.model}".strip(),
            f"{row.turns} turn{'' if row.turns == 1 else 's'}",
            f"{number(row.tokens_in)} in / {number(row.tokens_out)} out",
        ]
        if row.failures:
            facts.append(f"{row.failures} failed")
        if row.last_activity:
            facts.append(f"last {age(row.last_activity)}")
        lines = [
            literal_line(row.description, None),
            literal_line(" · ".join(facts), None, "$text-muted"),
            literal_line("good at " + ", ".join(row.capabilities), None, "$text-muted"),
        ]
        if ended := why_ended(row):
            lines.append(literal_line(ended, None, "$text-error"))
        lines += [literal_line(f"stderr  {line}", None, "$text-muted") for line in self._stderr]
        return Content("\n").join(lines)
