"""Screen 8: earlier conversations: find by words, read, resume, rename, export, delete."""

from __future__ import annotations

import time
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import DataTable, Input

from tekton_tui.commands import Commands
from tekton_tui.entries import stored_entry
from tekton_tui.safe_text import literal
from tekton_tui.stores import Stores
from tekton_tui.transcript import Transcript
from tekton_tui.widgets.cells import cell
from tekton_tui.widgets.empty import EmptyState
from tekton_tui.widgets.field import Field

PREVIEW = 40
WIDE = 100
"""Cells from which list and conversation stand side by side."""


class SessionsPane(Vertical):
    """The list at the left, the conversation under the cursor at the right."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "find", "Find", key_display="/", id="sessions.find"),
        Binding("enter", "resume", "Resume", id="sessions.resume"),
        Binding("n", "rename", "Rename", id="sessions.rename"),
        Binding("x", "export", "Export", id="sessions.export"),
        Binding("j", "export_json", "Export JSON", id="sessions.export-json", show=False),
        Binding("D", "delete", "Delete", id="sessions.delete"),
        Binding("escape", "back", "Back", show=False, id="sessions.back"),
    ]

    def __init__(self, stores: Stores, commands: Commands, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._stores, self._commands = stores, commands
        self._rows: list[dict[str, Any]] = []
        self._renaming = ""
        self._sought = ""

    def compose(self) -> ComposeResult:
        yield Field(placeholder="find in all conversations: any words", id="sessions-query", compact=True)
        yield EmptyState(id="sessions-empty")
        with Horizontal(id="sessions-body"):
            yield DataTable[Any](id="sessions-table", cursor_type="row")
            yield Transcript(id="sessions-preview")

    def on_mount(self) -> None:
        self.query_one("#sessions-query").display = False
        table = self.query_one(DataTable)
        for title, width in (("WITH", 11), ("USED", 12), ("N", 4)):
            table.add_column(title, width=width)
        table.add_column("TITLE")
        self.query_one("#sessions-preview").add_class("framed")
        self._load()

    def on_resize(self) -> None:
        self.query_one("#sessions-body").set_class(self.size.width < WIDE, "-narrow")

    def focus_content(self) -> None:
        """Read the list anew; words that are sought stay sought."""
        self.query_one(DataTable).focus()
        self._load(self._sought)

    def _load(self, query: str = "") -> None:
        self._commands.fetch("list_sessions", self._take, query=query or None, limit=300)

    def _take(self, answer: dict[str, Any]) -> None:
        if not self.is_attached:
            return
        self._rows = [row for row in answer["sessions"] if row.get("messages")]
        table = self.query_one(DataTable)
        table.clear()
        for row in self._rows:
            used = time.strftime("%d %b %H:%M", time.localtime(row["updated_at"]))
            owner, count, title = (
                row["owner"].removesuffix("-ai"),
                str(row["messages"]),
                row["title"] or row["id"],
            )
            table.add_row(cell(self, owner, 11), cell(self, used), cell(self, count), cell(self, title, 200))
        empty = self.query_one(EmptyState)
        empty.display = not self._rows
        self.query_one("#sessions-body").display = bool(self._rows)
        if not self._rows:
            if self._sought:
                empty.say(f"Nothing holds “{self._sought}”.", "esc shows all conversations again.")
            else:
                empty.say("No conversation yet.", "Ask somebody first (2).")
        self._preview()

    @property
    def current(self) -> dict[str, Any] | None:
        row = self.query_one(DataTable).cursor_row
        return self._rows[row] if 0 <= row < len(self._rows) else None

    @on(DataTable.RowHighlighted)
    def _preview(self) -> None:
        if (row := self.current) is not None:
            self._commands.fetch(
                "session_messages", lambda answer: self._show(row, answer), id=row["id"], limit=PREVIEW
            )

    def _show(self, row: dict[str, Any], answer: dict[str, Any]) -> None:
        if not self.is_attached or row is not self.current:
            return
        transcript = self.query_one(Transcript)
        transcript.border_title = literal(row["title"] or row["id"])
        transcript.load([stored_entry(message) for message in answer["messages"]])
        transcript.search(self._sought)

    @on(DataTable.RowSelected)
    def action_resume(self) -> None:
        """Open the conversation in its specialist's tab and go on in it."""
        row = self.current
        if row is None:
            return
        if row["owner"] in self._stores.fleet.rows:
            self._commands.resume(row["owner"], row["id"], self._sought)
        else:
            self._commands.tell(f"the {row['owner']} conversation goes on on its own screen")
            self._commands.show("team" if row["owner"] == "team" else "pipes")

    @on(Input.Submitted, "#sessions-query")
    def _entered(self, event: Input.Submitted) -> None:
        if self._renaming:
            session, self._renaming = self._renaming, ""
            event.input.value, event.input.display = "", False
            self._commands.fetch("patch_session", lambda answer: self._load(), id=session, title=event.value)
        self.query_one(DataTable).focus()

    @on(Input.Changed, "#sessions-query")
    def _changed(self, event: Input.Changed) -> None:
        if not self._renaming:
            self._sought = event.value
            self._load(event.value)

    def action_find(self) -> None:
        self._open_field("", "find in all conversations: any words")

    def action_rename(self) -> None:
        if row := self.current:
            self._renaming = row["id"]
            self._open_field(row["title"], "new title")

    def action_export(self) -> None:
        self._export("md")

    def action_export_json(self) -> None:
        self._export("json")

    def _export(self, kind: str) -> None:
        if row := self.current:
            self._commands.export_session(row["id"], kind)

    def action_delete(self) -> None:
        if row := self.current:
            self._commands.delete_session(row["id"], row["title"] or row["id"], row["messages"], self._load)

    def action_back(self) -> None:
        field = self.query_one("#sessions-query", Input)
        if field.display:
            self._renaming = self._sought = ""
            with self.prevent(Input.Changed):
                field.value, field.display = "", False
            self.focus_content()
        else:
            self._commands.show("fleet")

    def _open_field(self, value: str, placeholder: str) -> None:
        field = self.query_one("#sessions-query", Input)
        field.placeholder = placeholder
        with self.prevent(Input.Changed):
            field.value = value
        field.display = True
        field.focus()
