"""A tab of Needs you: the error log. Nothing ages out; a person says what has been seen."""

from __future__ import annotations

import time
from typing import Any, ClassVar, cast

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import DataTable, Static

from backend.schema.records import ErrorRecord
from tekton_tui.commands import Commands
from tekton_tui.runtime.frame_scheduler import app_of
from tekton_tui.runtime.latest import Rereading
from tekton_tui.safe_text import literal, one_line
from tekton_tui.stores import Stores
from tekton_tui.verbs import bindings
from tekton_tui.widgets.common.cells import cell
from tekton_tui.widgets.common.empty import EmptyState
from tekton_tui.widgets.common.table import Table

COLUMNS = (("", 1), ("LAST", 8), ("FIRST", 8), ("N", 4), ("WHERE", 12), ("CODE", 20))
WIDE = 100
"""Cells from which the table also says when a failure was first seen; the evidence always does."""


class ErrorsPane(Vertical):
    """The table of failures, newest first, and the evidence of the one under the cursor."""

    DEFAULT_CSS = """
    #errors-table { height: 1fr; background: $background; overflow-x: hidden; }
    #errors-evidence { height: 2fr; padding: 0 1; }
    """

    BINDINGS: ClassVar[list[BindingType]] = bindings("errors")

    def __init__(self, stores: Stores, commands: Commands, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._stores, self._commands = stores, commands
        self._wanted = ""
        self._wide = True
        self._rereading = Rereading(self, stores, lambda: commands.errors.load(self._rereading.failed))

    def compose(self) -> ComposeResult:
        empty = EmptyState(self._stores, id="errors-empty")
        empty.can_focus = True
        yield empty
        yield Table(id="errors-table", cursor_type="row", zebra_stripes=False)
        with VerticalScroll(id="errors-evidence", can_focus=False):
            yield Static("", id="evidence-text")

    def on_mount(self) -> None:
        self.query_one("#errors-evidence").add_class("framed")
        self._stores.errors.changed.subscribe_widget(self, self._fill)
        # cells keep the colours they were made with
        app_of(self).theme_changed_signal.subscribe(self, lambda _theme: self._fill())
        self._rereading.begin()
        self._fill()

    def on_show(self) -> None:
        self._rereading.shown()

    def on_resize(self) -> None:
        self._fill()

    def focus_content(self) -> None:
        """Focus the list, or what stands for it while it is empty: a hidden widget would lose the focus again."""
        empty = self.query_one(EmptyState)
        (empty if empty.display else self.query_one(DataTable)).focus()

    def go_to(self, where: str) -> None:
        """Put the cursor on the newest failure of a specialist."""
        self._wanted = where
        self._fill()
        self.focus_content()

    def _fill(self) -> None:
        if not self.is_mounted:
            return
        records = self._stores.errors.newest_first()
        table: DataTable[Any] = cast(Any, self).query_one(DataTable)
        # clearing the table loses the cursor: it goes back to its failure, wherever that stands then
        keep = self._current()
        self._make_columns(table)
        for record in records:
            table.add_row(*self._cells(record), key=str(record.id))
        empty = self.query_one(EmptyState)
        focused = empty.has_focus or table.has_focus
        empty.display = not records
        table.display = bool(records)
        if focused:
            self.focus_content()
        self.query_one("#errors-evidence").display = bool(records)
        if not records:
            platform = self._stores.fleet.platform
            since = (
                f" since start ({time.strftime('%H:%M', time.localtime(platform.started_at))})"
                if platform
                else ""
            )
            known = self._stores.errors.listed
            line = f"No errors{since}." if known else ""
            empty.show_text(line, "Every failure is listed here until you acknowledge it." if known else "")
        self._restore(records, keep)
        self._show()

    def _make_columns(self, table: DataTable[Any]) -> None:
        """Empty the table, and give it the columns that the terminal has room for."""
        self._wide = app_of(self).size.width >= WIDE
        table.clear(columns=True)
        for title, width in COLUMNS:
            if self._wide or title != "FIRST":
                table.add_column(title, width=width)
        table.add_column("WHAT", width=self._room())

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
            cell(self, record.code.replace("_", " "), 20, tone),
            cell(self, record.message, self._room(), tone),
        ]

    def _room(self) -> int:
        """Return the cells that the other columns, with their padding, leave for the last."""
        shown = [width for title, width in COLUMNS if self._wide or title != "FIRST"]
        # the pane has no size before its first layout, and takes the console's whole width from then on
        width = self.size.width or app_of(self).size.width
        return max(16, width - sum(shown) - 2 * (len(shown) + 1))

    def _current(self) -> ErrorRecord | None:
        table: DataTable[Any] = cast(Any, self).query_one(DataTable)
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
        who, code = one_line(record.where.removesuffix("-ai"), 20), record.code.replace("_", " ")
        box.border_title = literal(f"{who} · {code} · {record.count}× · {seen}")
        times = f"first {_clock(record.first)} · last {_clock(record.last)}"
        lines = [literal(record.message), literal(times, "$text-muted")]
        if record.phase or record.request_id:
            lines.append(
                literal(f"while {record.phase or 'running'} {record.request_id}".strip(), "$text-muted")
            )
        lines.append(literal(record.evidence or "no evidence was kept", "$text-muted"))
        self.query_one("#evidence-text", Static).update(Content("\n\n").join(lines))

    def why_not(self, verb: str) -> str:
        """Return why a verb has no use on the failure under the cursor now."""
        record = self._current()
        if verb == "acknowledge-all":
            return "" if self._stores.errors.unacknowledged else "all have been seen"
        if verb in ("open", "acknowledge", "log", "copy") and record is None:
            return "no failure is listed"
        if record is not None and verb == "acknowledge" and record.acknowledged:
            return "this one has been seen"
        if record is not None and verb in ("open", "log") and record.where not in self._stores.fleet.rows:
            return f"{one_line(record.where, 40)} is no specialist"
        if record is not None and verb == "log" and self._stores.fleet.rows[record.where].transport == "api":
            return "no process of ours wrote a log here"
        return ""

    def action_acknowledge(self) -> None:
        record = self._current()
        if record is not None and not record.acknowledged:
            self._commands.errors.acknowledge([record.id])
            self.query_one(DataTable).action_cursor_down()

    def action_acknowledge_all(self) -> None:
        self._commands.errors.acknowledge_all()

    @on(DataTable.RowSelected)
    def action_go(self) -> None:
        if (record := self._current()) and record.where in self._stores.fleet.rows:
            self._commands.navigator.go_to_specialist(record.where)

    def action_logs(self) -> None:
        if record := self._current():
            self._commands.navigator.open_logs(record.where)

    def action_copy(self) -> None:
        if record := self._current():
            self._commands.copy(
                f"{record.where} {record.code}: {record.message}\n\n{record.evidence}", "the error"
            )

    def action_back(self) -> None:
        self._commands.navigator.show("fleet")


def _clock(moment: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(moment))
