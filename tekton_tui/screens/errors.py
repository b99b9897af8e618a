"""Screen 6: the error ledger. Nothing ages out; a person says what has been seen."""

from __future__ import annotations

import time
from typing import Any, ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import DataTable, Static

from backend.schema.records import ErrorRecord
from tekton_tui.commands import Commands
from tekton_tui.hearing import hear
from tekton_tui.safe_text import literal, one_line
from tekton_tui.stores import Stores
from tekton_tui.widgets.cells import cell
from tekton_tui.widgets.empty import EmptyState

COLUMNS = (("", 1), ("LAST", 8), ("FIRST", 8), ("N", 4), ("WHERE", 12), ("CODE", 20))
WIDE = 100
"""Cells from which the table also says when a failure was first seen; the evidence always does."""


class ErrorsPane(Vertical):
    """The table of failures, newest first, and the evidence of the one under the cursor."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "acknowledge", "Acknowledge", id="errors.acknowledge"),
        Binding("A", "acknowledge_all", "Acknowledge all", id="errors.acknowledge-all"),
        Binding("g", "go", "Go to it", id="errors.go"),
        Binding("l", "logs", "Logs", id="errors.logs"),
        Binding("c", "copy", "Copy", id="errors.copy"),
        Binding("escape", "back", "Back", show=False, id="errors.back"),
    ]

    def __init__(self, stores: Stores, commands: Commands, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._stores, self._commands = stores, commands
        self._wanted = ""
        self._wide = True

    def compose(self) -> ComposeResult:
        yield EmptyState(id="errors-empty")
        yield DataTable[Any](id="errors-table", cursor_type="row", zebra_stripes=False)
        with VerticalScroll(id="errors-evidence", can_focus=False):
            yield Static("", id="evidence-text")

    def on_mount(self) -> None:
        self.query_one("#errors-evidence").add_class("framed")
        hear(self, self._stores.errors.changed, self._fill)
        table = self.query_one(DataTable)
        self._wide = self.app.size.width >= WIDE
        for title, width in COLUMNS:
            if self._wide or title != "FIRST":
                table.add_column(title, width=width)
        table.add_column("WHAT", key="what")
        self._commands.load_errors()
        self._fill()

    def on_resize(self) -> None:
        self._fill()

    def focus_content(self) -> None:
        self.query_one(DataTable).focus()

    def go_to(self, where: str) -> None:
        """Put the cursor on the newest failure of a specialist."""
        self._wanted = where
        self._fill()
        self.focus_content()

    def _fill(self) -> None:
        if not self.is_mounted:
            return
        records = self._stores.errors.newest_first()
        table = self.query_one(DataTable)
        keep = self._current()
        table.clear()
        for record in records:
            table.add_row(*self._cells(record), key=str(record.id))
        empty = self.query_one(EmptyState)
        empty.display = not records
        table.display = bool(records)
        self.query_one("#errors-evidence").display = bool(records)
        if not records:
            platform = self._stores.fleet.platform
            since = (
                f" since start ({time.strftime('%H:%M', time.localtime(platform.started_at))})"
                if platform
                else ""
            )
            empty.say(
                f"No errors{since}.",
                "Every failure is listed here until you acknowledge it.",
            )
        self._restore(records, keep)
        self._show()

    def _restore(self, records: list[ErrorRecord], keep: ErrorRecord | None) -> None:
        target = next((r for r in records if self._wanted and r.where == self._wanted), keep)
        self._wanted = ""
        if target is not None and target in records:
            self.query_one(DataTable).move_cursor(row=records.index(target))

    def _cells(self, record: ErrorRecord) -> list[Text]:
        tone = "text-muted" if record.acknowledged else ""
        return [
            cell(self, " " if record.acknowledged else "✖", tone="text-error"),
            cell(self, _clock(record.last), tone=tone),
            *([cell(self, _clock(record.first), tone=tone)] if self._wide else []),
            cell(self, str(record.count), tone=tone),
            cell(self, record.where.removesuffix("-ai"), 12, tone),
            cell(self, record.code, 20, tone),
            cell(self, record.message, max(16, self.size.width - self._other_cells()), tone),
        ]

    def _other_cells(self) -> int:
        """Return the cells the columns before the last take, with their padding."""
        shown = [width for title, width in COLUMNS if self._wide or title != "FIRST"]
        return sum(shown) + 2 * (len(shown) + 1)

    def _current(self) -> ErrorRecord | None:
        table = self.query_one(DataTable)
        if not table.row_count or table.cursor_row >= table.row_count:
            return None
        key = table.coordinate_to_cell_key((table.cursor_row, 0)).row_key.value  # type: ignore[arg-type]
        return self._stores.errors.records.get(int(key or 0))

    @on(DataTable.RowHighlighted)
    def _show(self) -> None:
        record = self._current()
        box = self.query_one("#errors-evidence")
        if record is None:
            self.query_one("#evidence-text", Static).update("")
            return
        seen = f"acknowledged {_clock(record.acknowledged)}" if record.acknowledged else "not acknowledged"
        box.border_title = literal(f"{one_line(record.where, 20)} · {record.code} · {record.count}× · {seen}")
        times = f"first {_clock(record.first)} · last {_clock(record.last)}"
        lines = [literal(record.message), literal(times, "$text-muted")]
        if record.phase or record.request_id:
            lines.append(
                literal(f"while {record.phase or 'running'} {record.request_id}".strip(), "$text-muted")
            )
        lines.append(literal(record.evidence or "no evidence was kept", "$text-muted"))
        self.query_one("#evidence-text", Static).update(Content("\n\n").join(lines))

    def action_acknowledge(self) -> None:
        record = self._current()
        if record is not None and not record.acknowledged:
            self._commands.acknowledge([record.id])
            self.query_one(DataTable).action_cursor_down()

    def action_acknowledge_all(self) -> None:
        self._commands.acknowledge_all()

    def action_go(self) -> None:
        if (record := self._current()) and record.where in self._stores.fleet.rows:
            self._commands.show_row(record.where)

    def action_logs(self) -> None:
        if record := self._current():
            self._commands.open_logs(record.where)

    def action_copy(self) -> None:
        if record := self._current():
            self._commands.copy(
                f"{record.where} {record.code}: {record.message}\n\n{record.evidence}", "the error"
            )

    def action_back(self) -> None:
        self._commands.show("fleet")


def _clock(moment: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(moment))
