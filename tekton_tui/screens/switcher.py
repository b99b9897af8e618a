"""One list of everybody to talk with and every conversation that is kept: type a part of a name, enter goes there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from rich.cells import cell_len
from textual import events, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.fuzzy import Matcher
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from backend.schema.params import GetHistory, ListMessages, ListSessions
from backend.schema.records import Session, StoredMessage
from backend.schema.results import SessionList
from backend.schema.states import LIVE
from tekton_tui.commands.navigator import Navigator
from tekton_tui.formatting import SYMBOLS, age, tone_of_state
from tekton_tui.runtime.controller import Controller
from tekton_tui.runtime.latest import Latest
from tekton_tui.runtime.layout_once import Modal
from tekton_tui.safe_text import literal, one_line
from tekton_tui.stores import Stores
from tekton_tui.transcript import Transcript
from tekton_tui.verbs import bindings
from tekton_tui.widgets.chat.entries import paired, stored_entry
from tekton_tui.widgets.common.field import Field

WIDE = 100
"""Cells from which the conversation under the cursor is shown beside the list."""
PREVIEWED, LISTED = 12, 300
NAME_CELLS, COUNT_CELLS = 13, 13


class Entry(NamedTuple):
    """A line: somebody (`session_id` empty), one of their conversations, or all conversations (`owner` empty,
    `session_id` the words that are sought in them)."""

    owner: str
    session_id: str
    name: str
    words: str
    rank: tuple[int, float]
    """Without a query the lowest comes first."""

    @property
    def sought(self) -> str:
        """What a query is compared with."""
        return f"{self.name} {self.words}"


Chosen = tuple[str, str] | None
"""Owner and session; without an owner the list of all conversations, and the words to find in it."""


def entries_of(stores: Stores, sessions: Sequence[Session]) -> list[Entry]:
    """Return everybody and their kept conversations: what nobody has read first, who runs next, then by time."""
    entries: list[Entry] = []
    for row in stores.fleet.rows.values():
        unread = stores.attention.unread_of(row.id)
        place = 0 if unread else 1 if row.state == "busy" else 2 if row.state in LIVE else 5
        entries.append(Entry(row.id, "", row.name, row.title, (place, -row.last_activity)))
    for session in sessions:
        if session.messages and not (session.is_default and session.owner in stores.fleet.rows):
            name = session.owner.removesuffix("-ai")
            words = session.title or session.preview or session.id
            entries.append(Entry(session.owner, session.id, name, words, (3, -session.updated_at)))
    entries.append(Entry("", "", "all", "conversations: find by words, rename, export, delete", (4, 0.0)))
    return sorted(entries, key=lambda entry: entry.rank)


def matching(entries: Sequence[Entry], query: str) -> list[Entry]:
    """Return the entries that match a query, the best first, and the search in all conversations; all for an empty one.

    Below that search is what has the letters of the query far apart: nearly any word finds somebody so.
    """
    sought = query.strip()
    if not sought:
        return list(entries)
    score, lower = Matcher(sought).match, sought.lower()

    def place(entry: Entry) -> tuple[int, float] | None:
        value = max(score(entry.name) * 2, score(entry.sought))
        if entry.name.lower().startswith(lower):
            return 0, -value
        if not entry.owner:  # its words are no name: a whole one has to begin so
            return (1, 0.0) if f" {lower}" in f" {entry.words}" else None
        if lower in entry.sought.lower():
            return 1, -value
        return (2 if score(entry.name) else 4, -value) if value > 0 else None

    find = Entry("", sought, "all", f"find “{sought}” in every conversation", (6, 0.0))
    placed = [(at, entry) for entry in entries if (at := place(entry)) is not None]
    return [entry for _, entry in sorted([*placed, ((3, 0.0), find)], key=lambda pair: pair[0])]


class SwitcherScreen(Modal[Chosen]):
    """Dismissed with what was chosen, or with none on `esc`."""

    DEFAULT_CSS = """
    SwitcherScreen { align: center top; }
    #switcher {
        width: 96%; max-width: 150; height: 80%; margin-top: 2; padding: 0 1;
        background: $surface; border: round $primary; border-title-color: $text-primary;
    }
    #switcher-query { height: 1; border: none; background: $panel; margin-bottom: 1; }
    #switcher-body { height: 1fr; }
    #switcher-list {
        width: 1fr; height: 1fr; background: $surface; border: none; padding: 0; text-wrap: nowrap;
        text-overflow: ellipsis; scrollbar-size-vertical: 1;
    }
    #switcher-preview { width: 1fr; height: 1fr; margin-left: 1; background: $surface; }
    """
    BINDINGS: ClassVar[list[BindingType]] = bindings("switcher")

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller, self._stores = controller, controller.stores
        self._reading = Latest(controller)
        self._entries = entries_of(self._stores, ())
        self._shown: list[Entry] = []

    def compose(self) -> ComposeResult:
        with Vertical(id="switcher") as box:
            box.border_title = "who, or which conversation"
            box.border_subtitle = "type to find · ↑↓ choose · ⏎ goes there · esc closes"
            yield Field(placeholder="a part of a name, a role or a title", id="switcher-query", compact=True)
            with Horizontal(id="switcher-body"):
                yield OptionList(id="switcher-list", markup=False)
                yield Transcript(id="switcher-preview")

    def on_mount(self) -> None:
        self.query_one(OptionList).can_focus = False
        self.query_one(Field).focus()
        self._list()
        self._controller.request(ListSessions(limit=LISTED), self._add_sessions)

    def on_resize(self, event: events.Resize) -> None:
        preview, wide = self.query_one("#switcher-preview"), event.size.width >= WIDE
        came, preview.display = wide and not preview.display, wide
        if came:
            self._preview()
        # The list has its new width only then; lines drawn before would be cut to what it was.
        self.call_after_refresh(self._fill)

    def take_text(self, text: str) -> bool:
        """Find text that was typed before the field had the keys."""
        self.query_one(Field).show_with(text)
        return True

    def _add_sessions(self, listed: SessionList) -> None:
        if self.is_attached:
            self._entries = entries_of(self._stores, listed.sessions)
            self._fill()

    @on(Input.Changed)
    def _list(self) -> None:
        """Show what matches; the cursor goes to the best."""
        self.query_one(OptionList).highlighted = None
        self._fill()

    def _fill(self) -> None:
        """Show what matches. A cursor that was moved stays on its entry, another on the best."""
        listing = self.query_one(OptionList)
        kept = self._current if listing.highlighted else None
        self._shown = matching(self._entries, self.query_one(Input).value)
        cells = max(20, listing.size.width - 2)
        listing.clear_options()
        listing.add_options([Option(self._line(entry, cells)) for entry in self._shown])
        if self._shown:
            places = [(entry.owner, entry.session_id) for entry in self._shown]
            place = (kept.owner, kept.session_id) if kept else None
            listing.highlighted = places.index(place) if place in places else 0
        else:
            self._reading.forget()
            self.query_one(Transcript).load([])

    def _line(self, entry: Entry, cells: int) -> Content:
        row = self._stores.fleet.rows.get(entry.owner)
        if not entry.owner:
            sign, right = ("…", "$text-muted"), ""
        elif entry.session_id or row is None:
            sign, right = ("↳", "$text-muted"), age(-entry.rank[1])
        else:
            unread = self._stores.attention.unread_of(entry.owner)
            sign = SYMBOLS[row.state], f"${tone_of_state(row)}"
            right = f"{unread} unread" if unread else row.state
        room = max(4, cells - NAME_CELLS - COUNT_CELLS - 4)
        words = one_line(entry.words, room)
        name = one_line(entry.name, NAME_CELLS)
        return Content.assemble(
            sign,
            " ",
            literal(name.ljust(NAME_CELLS), "" if entry.session_id else "bold"),
            " ",
            literal(words + " " * (room - cell_len(words)), "" if entry.session_id else "$text-muted"),
            literal(right.rjust(COUNT_CELLS), "bold $text-primary" if "unread" in right else "$text-muted"),
        )

    @on(OptionList.OptionHighlighted)
    def _preview(self) -> None:
        """Show the end of the conversation under the cursor, where there is room."""
        entry, transcript = self._current, self.query_one(Transcript)
        if entry is None or not transcript.display:
            return
        if not entry.owner:
            self._reading.forget()
            transcript.load([])
        elif entry.session_id:
            self._reading.request(
                ListMessages(entry.session_id, limit=PREVIEWED),
                lambda listed: self._show(listed.messages),
                quiet=True,
            )
        else:
            self._reading.request(
                GetHistory(entry.owner, limit=PREVIEWED),
                lambda history: self._show(history.messages),
                quiet=True,
            )

    def _show(self, messages: list[StoredMessage]) -> None:
        if self.is_attached:
            self.query_one(Transcript).load([stored_entry(message) for message in paired(messages)])

    @property
    def _current(self) -> Entry | None:
        at = self.query_one(OptionList).highlighted
        return self._shown[at] if at is not None and at < len(self._shown) else None

    def action_move(self, step: int) -> None:
        listing = self.query_one(OptionList)
        if self._shown:
            listing.highlighted = ((listing.highlighted or 0) + step) % len(self._shown)

    @on(Input.Submitted)
    @on(OptionList.OptionSelected)
    def action_choose(self) -> None:
        if (entry := self._current) is not None:
            self.dismiss((entry.owner, entry.session_id))


def go_to(chosen: Chosen, stores: Stores, navigator: Navigator) -> None:
    """Show what was chosen, wherever its conversations are read."""
    if chosen is None:
        return
    owner, session_id = chosen
    if not owner:
        navigator.find_conversations(session_id)
    elif owner in stores.fleet.rows:
        navigator.open_chat(owner, session_id)
    elif owner == "team":
        navigator.open_team_session(session_id)
    else:
        navigator.show("pipes")
