"""Earlier conversations: find by words, read, resume, rename, export, delete."""

from __future__ import annotations

import time
from typing import Any, ClassVar, cast

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import DataTable, Input, Static

from backend.schema.params import ListMessages, ListSessions, PatchSession
from backend.schema.records import Session
from backend.schema.results import MessageList, SessionList
from tekton_tui.commands import Commands
from tekton_tui.runtime.latest import Latest, Rereading
from tekton_tui.safe_text import literal
from tekton_tui.stores import Stores
from tekton_tui.transcript import Transcript
from tekton_tui.verbs import bindings
from tekton_tui.widgets.chat.entries import stored_entry
from tekton_tui.widgets.common.cells import cell
from tekton_tui.widgets.common.empty import EmptyState
from tekton_tui.widgets.common.field import Field
from tekton_tui.widgets.common.table import Table

PREVIEW = 40
WIDE = 100
"""Cells from which list and conversation stand side by side."""
COLUMNS = (("WITH", 11), ("USED", 12), ("N", 4))
"""In front of the title, with their cells."""


class SessionsPane(Vertical):
    """The list at the left, the conversation under the cursor at the right."""

    DEFAULT_CSS = """
    #sessions-body { height: 1fr; }
    #sessions-body.-narrow { layout: vertical; }
    #sessions-body.-narrow > * { width: 100%; }
    #sessions-table { width: 1fr; height: 1fr; overflow-x: hidden; }
    #sessions-preview { width: 1fr; height: 1fr; padding: 0 1; }
    #sessions-more { color: $text-muted; padding: 0 1; }
    """

    BINDINGS: ClassVar[list[BindingType]] = bindings("sessions")

    def __init__(self, stores: Stores, commands: Commands, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._stores, self._commands = stores, commands
        self._listing, self._reading = Latest(commands.controller), Latest(commands.controller)
        self._rows: list[Session] = []
        self._renaming = ""
        self._sought = ""
        self._rereading = Rereading(self, stores, lambda: self._load(self._sought))

    def compose(self) -> ComposeResult:
        yield Field(
            placeholder="find in all conversations: any words · enter goes to the list · esc shows all",
            id="sessions-query",
            classes="filter-field",
            compact=True,
        )
        empty = EmptyState(self._stores, id="sessions-empty")
        empty.can_focus = True
        yield empty
        with Horizontal(id="sessions-body"):
            yield Table(id="sessions-table", cursor_type="row")
            yield Transcript(id="sessions-preview")
        yield Static("There are more: further words narrow the list.", id="sessions-more")

    def on_mount(self) -> None:
        for name in ("#sessions-query", "#sessions-more", "#sessions-body"):
            self.query_one(name).display = False
        table: DataTable[Any] = cast(Any, self).query_one(DataTable)
        for title, width in COLUMNS:
            table.add_column(title, width=width)
        self._title = table.add_column("TITLE", width=1)
        self.query_one("#sessions-preview").add_class("framed")
        self._rereading.begin()

    def on_show(self) -> None:
        self._rereading.shown()

    def on_resize(self) -> None:
        self.query_one("#sessions-body").set_class(self.size.width < WIDE, "-narrow")
        if self._rows:
            self._fill(self.query_one(DataTable).cursor_row)

    def focus_content(self) -> None:
        """Read the list anew; words that are sought stay sought."""
        empty = self.query_one(EmptyState)
        (empty if empty.display else self.query_one(DataTable)).focus()
        if self._stores.unanswered is None:
            self._load(self._sought)

    def _load(self, query: str = "") -> None:
        self._listing.request(ListSessions(query=query, limit=300), self._list)

    def _list(self, listed: SessionList) -> None:
        if not self.is_attached:
            return
        before, at = self.current, self.query_one(DataTable).cursor_row
        self._rows = [session for session in listed.sessions if session.messages]
        # what was found begins with the best; else the cursor keeps its row, or takes what stands in its place
        ids = [row.id for row in self._rows]
        kept = ids.index(before.id) if before is not None and before.id in ids else min(at, len(ids) - 1)
        self._fill(0 if self._sought else max(0, kept))
        self.query_one("#sessions-more").display = listed.more and bool(self._rows)
        empty = self.query_one(EmptyState)
        table: DataTable[Any] = cast(Any, self).query_one(DataTable)
        focused = empty.has_focus or table.has_focus
        empty.display = not self._rows
        self.query_one("#sessions-body").display = bool(self._rows)
        if focused:
            (empty if empty.display else table).focus()
        if not self._rows:
            if self._sought:
                where = "Nothing of the newest messages" if listed.more else "Nothing"
                empty.show_text(f"{where} holds “{self._sought}”.", "esc shows all conversations again.")
            else:
                empty.show_text("No conversation yet.", "Ask somebody first (2).")
        self._preview()

    def _fill(self, cursor: int = 0) -> None:
        """Write the table; titles take what the other columns leave. The cursor goes to this row."""
        table: DataTable[Any] = cast(Any, self).query_one(DataTable)
        width = self.size.width // (2 if self.size.width >= WIDE else 1)
        room = max(10, width - sum(cells + 2 for _title, cells in COLUMNS) - 4)
        table.clear()
        table.columns[self._title].width = room
        for row in self._rows:
            used = time.strftime("%d %b %H:%M", time.localtime(row.updated_at))
            owner, title = row.owner.removesuffix("-ai"), row.title or row.id
            table.add_row(
                cell(self, owner, 11),
                cell(self, used),
                cell(self, str(row.messages)),
                cell(self, title, room),
            )
        table.move_cursor(row=cursor)

    @property
    def current(self) -> Session | None:
        row = self.query_one(DataTable).cursor_row
        return self._rows[row] if 0 <= row < len(self._rows) else None

    @on(DataTable.RowHighlighted)
    def _preview(self) -> None:
        if (row := self.current) is not None:
            self._reading.request(ListMessages(row.id, limit=PREVIEW), lambda listed: self._show(row, listed))

    def _show(self, row: Session, listed: MessageList) -> None:
        if not self.is_attached or row is not self.current:
            return
        transcript = self.query_one(Transcript)
        transcript.border_title = literal(row.title or row.id)
        transcript.load([stored_entry(message) for message in listed.messages])
        transcript.search(self._sought)

    @on(Transcript.AskAgain)
    @on(Transcript.EditAndAsk)
    @on(Transcript.Pipe)
    @on(Transcript.Quote)
    @on(Transcript.WhatWasSent)
    def _only_read(self) -> None:
        """Say where a message can be worked on: who reads here may not have meant this conversation to go on."""
        self._commands.notify("here it is only read: ⏎ on its row opens the conversation")

    @on(DataTable.RowSelected)
    def action_resume(self) -> None:
        """Open the conversation in its specialist's tab and go on in it."""
        row = self.current
        if row is None:
            return
        if row.owner in self._stores.fleet.rows:
            self._commands.navigator.open_chat(row.owner, row.id, self._sought)
        elif row.owner == "team":
            self._commands.navigator.open_team_session(row.id)
        else:
            self._commands.navigator.show("pipes")

    @on(Input.Submitted, "#sessions-query")
    def _entered(self, event: Input.Submitted) -> None:
        if self._renaming:
            session, self._renaming = self._renaming, ""
            event.input.value, event.input.display = "", False
            self._commands.controller.request(
                PatchSession(session, title=event.value), lambda patched: self._load(self._sought)
            )
        self.query_one(DataTable).focus()

    @on(Input.Changed, "#sessions-query")
    def _changed(self, event: Input.Changed) -> None:
        if not self._renaming:
            self._sought = event.value
            self._load(event.value)

    def take_text(self, text: str) -> bool:
        """Find text that was typed or pasted outside of a field."""
        self.action_find()
        self.query_one("#sessions-query", Field).show_with(text)
        return True

    def action_find(self) -> None:
        self._open_field("", "find in all conversations: any words")

    def action_rename(self) -> None:
        if row := self.current:
            self._renaming = row.id
            self._open_field(row.title, "new title")

    def action_export(self) -> None:
        if row := self.current:
            self._commands.sessions.choose_export(row.id)

    def action_delete(self) -> None:
        if row := self.current:
            self._commands.sessions.delete(
                row.id, row.title or row.id, row.messages, lambda: self._load(self._sought)
            )

    def action_back(self) -> None:
        field = self.query_one("#sessions-query", Input)
        if field.display:
            self._renaming = self._sought = ""
            with self.prevent(Input.Changed):
                field.value, field.display = "", False
            self.focus_content()
        else:
            self._commands.navigator.show("fleet")

    def _open_field(self, value: str, placeholder: str) -> None:
        field = self.query_one("#sessions-query", Input)
        field.placeholder = placeholder
        with self.prevent(Input.Changed):
            field.value = value
        field.display = True
        field.focus()
