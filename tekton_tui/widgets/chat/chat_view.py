"""One conversation: transcript, the questions that wait, composer, a row of what happens now; a panel beside it on request."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.css.query import NoMatches
from textual.message import Message

from backend.schema.content import Effort
from backend.schema.params import GetSession
from backend.schema.records import Session, StoredMessage
from backend.schema.states import LIVE
from tekton_tui.commands import Commands, ExportFormat
from tekton_tui.runtime.latest import Latest
from tekton_tui.safe_text import literal, one_line
from tekton_tui.stores import LiveTurn, Stores
from tekton_tui.transcript import Entry, Transcript
from tekton_tui.verbs import bindings
from tekton_tui.widgets.chat.ask_cards import AskCards
from tekton_tui.widgets.chat.branching import WRITES_ANEW, Branching, place_of, prompt_of
from tekton_tui.widgets.chat.entries import (
    context_after,
    paired,
    questions,
    stored_entry,
    with_ended,
    without_running,
)
from tekton_tui.widgets.chat.live_turns import LiveTurns
from tekton_tui.widgets.chat.pins import Pins
from tekton_tui.widgets.chat.queue_rows import QueueRows
from tekton_tui.widgets.chat.reader import Reader
from tekton_tui.widgets.chat.sidebar import Sidebar, show_panel, toggle_panel
from tekton_tui.widgets.chat.status_row import STOPS_TURN, StatusRow, escape_words
from tekton_tui.widgets.common.empty import EmptyState
from tekton_tui.widgets.common.search_bar import SearchBar
from tekton_tui.widgets.composer.composer import DRAFT_KEPT, Composer, teaching_placeholder
from tekton_tui.widgets.composer.files import Attached
from tekton_tui.widgets.composer.slash_commands import EFFORTS, everybody, read_into, read_line, verbs_of
from tekton_tui.widgets.composer.text import preview_line


class ChatView(Vertical):
    """A specialist's conversation in its default session, or in one that was chosen."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("chat")

    class Titled(Message):
        """Posted when another conversation is shown, or its title is known."""

        def __init__(self, view: ChatView) -> None:
            super().__init__()
            self.view = view

    def __init__(
        self,
        ai_id: str,
        stores: Stores,
        commands: Commands,
        session_id: str = "",
        sought: str = "",
        *,
        id: str | None = None,
    ) -> None:
        """`session_id` names an earlier conversation, `sought` what to search it for."""
        super().__init__(id=id)
        self.ai_id = ai_id
        self.session_id = session_id
        """Of the conversation that is gone on with; empty for the default one until it was read."""
        self._stores, self._commands = stores, commands
        self._pending_search = sought
        self._shown_session = ""
        """Of the conversation that the transcript shows; empty before one was read."""
        self._reader, self._naming = Reader(ai_id, commands.controller), Latest(commands.controller)
        self.title = ""
        """Of the conversation that is shown; empty for the specialist's default one."""
        self._effort: Effort | None = None
        self._branching = Branching()
        self._transcript = Transcript(classes="chat-transcript")
        self._asks = AskCards(ai_id, stores, commands, self._transcript, self.focus_composer)
        self._live = LiveTurns(
            self._transcript, stores, ai_id, self._asks.row, belongs=self._mine, changed=self._turns_changed
        )
        self._status = StatusRow(ai_id, stores)
        self._queue, self._pins = QueueRows(ai_id, commands), Pins(self._transcript, commands)

    @property
    def name_shown(self) -> str:
        return self._stores.fleet.name_of(self.ai_id)

    def compose(self) -> ComposeResult:
        with Horizontal(classes="chat-body"):
            yield EmptyState(classes="chat-nothing")
            yield self._transcript
        yield from (SearchBar(self._transcript, self._fetch_older), self._asks.keys, self._queue)
        yield Composer(teaching_placeholder(f"Ask {self.name_shown}…"))
        yield self._status

    def on_mount(self) -> None:
        turns = self._stores.turns
        turns.started.subscribe_widget(self, self._turn_started)
        self._live.subscribe(self)
        turns.ended.subscribe_widget(self, self._turn_ended)
        turns.reloaded.subscribe_widget(self, self.reload)
        turns.corrected.subscribe_widget(self, self._corrected)
        for changed in (turns.reworded, turns.restored):
            changed.subscribe_widget(self, lambda turn: self.reload() if self._mine(turn) else None)
        self._stores.session_changed.subscribe_widget(self, self._name_session)
        self._stores.session_removed.subscribe_widget(self, self._removed)
        self._stores.fleet.summary_changed.subscribe_widget(self, self._update_names)
        self._stores.fleet.changed.subscribe_widget(self, self._row_changed)
        row = self._stores.fleet.rows.get(self.ai_id)
        self.query_one(".chat-nothing", EmptyState).show_text(
            f"Ask {self.name_shown}: {self._stores.fleet.title_of(self.ai_id)}",
            f"good at {', '.join(row.capabilities[:5])}" if row else "",
        )
        self._show_emptiness()
        composer = self.query_one(Composer)
        composer.border_title = literal(one_line(f"to {self.name_shown}", 60))
        composer.verbs = verbs_of(row.agent if row else None)
        composer.preview = lambda text: preview_line(text, self._stores.fleet.known_names())
        composer.use_keys(tab=self._asks.go_to, up=lambda: self._queue.take_back(self._write_anew))
        composer.take_files(lambda paths: read_into(composer, self._commands, paths))
        composer.room = lambda: self._status.room
        self._asks.follow(self)
        self._update_names()
        # Textual posts nothing when a widget scrolls: its position has to be watched
        self.watch(self._transcript, "scroll_y", self._scrolled, init=False)
        self._commands.drafts.restore(self.ai_id, self.put_draft)
        self.reload()
        # paused unless something runs: at rest the console writes nothing
        self._clock = self.set_interval(1.0, self._count_clocks, pause=not self.running())

    def focus_composer(self) -> None:
        self.query_one(Composer).focus_field()

    def put_draft(self, text: str, after: str = "") -> None:
        """Put a text into the composer, behind what is being written there; `after` is the question it was to stand behind."""
        composer = self.query_one(Composer)
        offered, own = self._commands.drafts.offered.pop(self.ai_id, ("", False))
        if composer.empty and text == offered:
            composer.offer(text, own=own)
        elif not composer.take_draft(text):
            self._commands.notify(DRAFT_KEPT)
        elif after and after != self._branching.after:
            self._write_anew(after)

    def take_offer(self) -> None:
        """Show a first question that was put here since this was last on the screen."""
        if self.ai_id in self._commands.drafts.offered:
            self._commands.drafts.restore(self.ai_id, self.put_draft)

    def take_text(self, text: str) -> bool:
        """Put text that was typed or pasted outside of a field into the composer; nothing is sent."""
        self.query_one(Composer).insert(text)
        self.focus_composer()
        return True

    def set_effort(self, effort: Effort | None) -> None:
        """Set how hard the model thinks about the next questions here; `None` leaves that to the model."""
        self._effort, self._status.effort = effort, effort or ""
        self._show_status()

    def run_line(self, text: str, files: Sequence[Attached] = ()) -> None:
        """Carry out a line written in the composer, or as if it had been; `files` go along."""
        after = self._branching.after
        self._write_anew("")  # before it is sent: refused at once, it comes back as what it was
        read_line(
            text, self._commands, ai_id=self.ai_id, session_id=self.session_id, view=self,
            composer=self.query_one(Composer), files=files, effort=self._effort, after=after,
        )  # fmt: skip

    def search(self, pattern: str) -> None:
        """Mark the hits of a pattern in this conversation and go to the newest."""
        self.query_one(SearchBar).open(pattern)

    def export(self, kind: ExportFormat) -> None:
        """Write this conversation to a file, as Markdown (`md`) or `json`."""
        if self.session_id:
            self._commands.sessions.export(self.session_id, kind)

    def use_session(self, session_id: str, sought: str = "") -> None:
        """Show and continue another conversation with this specialist; search it for `sought` unless that is empty."""
        self.session_id, self._pending_search = session_id, sought
        if not self._shown_session:
            self._transcript.load([])
            self._live.forget()
        self.reload()

    def reload(self) -> None:
        """Read the newest messages: at the start, and after events were missed."""
        self._reader.read(self.session_id, self._show_newest, self._not_read)

    def _not_read(self) -> None:
        """Go on in the conversation that is shown: the other one could not be read."""
        self.session_id = self._shown_session or self.session_id
        self._pending_search = ""

    def running(self) -> list[LiveTurn]:
        """Return this conversation's turns under way."""
        return self._live.running

    def _show_newest(self, session_id: str, messages: list[StoredMessage], ended: list[LiveTurn]) -> None:
        """Replace the transcript by the newest messages, what has ended since they were asked for, and what is under way."""
        if not self.is_attached:
            return
        same, self.session_id = session_id == self._shown_session, session_id
        self._shown_session = session_id
        transcript, running = self._transcript, self.running()
        self._branching.load(messages)
        kept = without_running(self._branching.on_way(messages), {turn.request_id for turn in running})
        ended = [turn for turn in ended if self._mine(turn)]
        entries = with_ended(self._entries(kept), ended, messages, self._stores.fleet.title_of)
        transcript.load(entries, stay=same)
        self._live.forget()
        self._live.show({message.request_id for message in kept})
        self._show_emptiness()
        self.query_one(Composer).history = questions(kept, (*ended, *running))
        self._status.context = context_after(messages, ended)
        self._show_status()
        if session_id:
            self._naming.request(GetSession(session_id), self._name_session)
        if self._pending_search:
            sought, self._pending_search = self._pending_search, ""
            self.search(sought)
        elif words := self.query_one(SearchBar).words:
            transcript.search(words)
            self._fetch_older()

    def _fetch_older(self) -> None:
        searched = bool(self.query_one(SearchBar).words)
        self._reader.read_older(self._shown_session, self._show_older, searched=searched)

    def _show_older(self, messages: list[StoredMessage]) -> None:
        """Put older messages before the first; a search goes on until it has seen the oldest."""
        if self.is_attached:
            self._branching.prepend(messages)
            self._transcript.prepend(self._entries(self._branching.on_way(messages)))
            if self.query_one(SearchBar).words:
                self._fetch_older()

    def _mine(self, turn: LiveTurn) -> bool:
        """Return whether a turn is of the conversation that is shown, not of one on its way to the screen."""
        session = self._shown_session or self.session_id
        known = turn.session_id == session if session else not self._reader.under_way
        return turn.ai_id == self.ai_id and known

    def _entries(self, messages: list[StoredMessage]) -> list[Entry]:
        entries = [
            stored_entry(message, self._stores.fleet.title_of(message.author)) for message in paired(messages)
        ]
        self._branching.mark(entries)
        return entries

    def _name_session(self, session: Session) -> None:
        if session.id != self.session_id or not self.is_attached:
            return
        self.title = "" if session.is_default else session.title or session.id
        self.post_message(self.Titled(self))
        for panel in self.query(Sidebar):
            panel.name_session(session)

    def _removed(self, session_id: str) -> None:
        """Go on in the conversation there is when the one that is shown was deleted; what is being written stays."""
        if session_id in (self.session_id, self._shown_session):
            self._shown_session, self._branching = "", Branching()
            self._write_anew("")
            self._commands.notify(f"the conversation with {self.name_shown} was deleted")
            self.use_session("")

    def _turn_started(self, turn: LiveTurn) -> None:
        here = turn.ai_id == self.ai_id and turn.session_id in (self.session_id, self._shown_session)
        if here and turn.after:
            self._branching.show_newest()
            self.reload()
        elif self._mine(turn):
            self._live.show()

    def _turns_changed(self) -> None:
        self._queue.show_waiting(self._live.waiting, self.session_id)
        if self.running():
            self._clock.resume()
        self._show_emptiness()
        self._show_status()

    def _turn_ended(self, turn: LiveTurn) -> None:
        if turn.ai_id == self.ai_id:
            self._reader.note_ended(turn)
        if self._mine(turn):
            self._status.context = turn.context or self._status.context
            self._status.speed = turn.rate()
            self._live.end(turn)

    def _corrected(self, message: StoredMessage) -> None:
        if message.session_id in (self._shown_session, self.session_id):
            self.reload()

    def _row_changed(self, ids: set[str]) -> None:
        if self.ai_id in ids:
            self.query_one(Composer).verbs = verbs_of(self._stores.fleet.rows[self.ai_id].agent)
            self._show_status()

    def _count_clocks(self) -> None:
        """Update the clocks of turns that wait for their first token; stop when no turn runs."""
        if not self.running():
            self._clock.pause()
        self._live.count_clocks()
        self._asks.refresh()
        self._show_status()

    def _show_status(self) -> None:
        """Redraw the row of what happens now, and what `esc` does now."""
        composer, before = self.query_one(Composer), self._status.escape
        self._status.escape = escape_words(
            choosing=composer.has_focus_within and composer.choosing,
            searching=self.query_one(SearchBar).has_focus_within,
            answering=bool(self._live.begun),
            asked=self._asks.keys.has_focus,
            writing=composer.has_focus_within and bool(self._transcript.display),
        )
        if self._status.escape != before:
            composer.name_escape("stop turn" if self._status.escape == STOPS_TURN else "")
        self._status.show_turns(self.running())

    @on(events.DescendantFocus)
    @on(events.DescendantBlur)
    @on(events.Resize)
    def _state_changed(self) -> None:
        self._show_status()

    def on_resize(self) -> None:
        show_panel(self)

    def _show_emptiness(self) -> None:
        empty = not self._transcript.entries
        self.query_one(".chat-nothing").display = empty
        self._transcript.display = not empty

    def _update_names(self) -> None:
        # the fleet may change while the view is being taken down
        with contextlib.suppress(NoMatches):
            self.query_one(Composer).names = everybody(self._stores.fleet.rows.values())

    @on(Composer.Submitted)
    def _submitted(self, event: Composer.Submitted) -> None:
        event.stop()
        self._commands.drafts.keep(self.ai_id, "")
        self.run_line(event.text, event.files)

    @on(Composer.SentNothing)
    def _send_held(self, event: Composer.SentNothing) -> None:
        """Ask the first of the questions that were held."""
        event.stop()
        self._queue.send_next(self.put_draft)

    @on(Composer.Changed)
    def _changed(self, event: Composer.Changed) -> None:
        self._commands.drafts.keep(self.ai_id, event.composer.draft)
        if event.composer.empty and self._branching.rewritten:
            self._write_anew("")

    @on(Composer.Cancelled)
    def _cancelled(self) -> None:
        self.action_cancel()

    @on(Transcript.SearchChanged)
    def _found(self, event: Transcript.SearchChanged) -> None:
        self.query_one(SearchBar).count(event.at, event.count, event.done)

    def action_attach_file(self) -> None:
        self.query_one(Composer).insert("/attach ")
        self.focus_composer()

    def action_options(self) -> None:
        """Let the operator set an option of an external agent."""
        self._commands.models.options(self.ai_id)

    def action_effort(self) -> None:
        """Let the operator choose how hard the model is to think."""
        choices = [("default", "default", "its own way"), *((effort, effort, "") for effort in EFFORTS)]
        self._commands.navigator.choose("effort", choices, lambda answer: self.run_line(f"/effort {answer}"))

    def action_find(self) -> None:
        self.query_one(SearchBar).open()

    def action_export(self) -> None:
        if self.session_id:
            self._commands.sessions.choose_export(self.session_id)

    def action_pin(self) -> None:
        """Pin the message under the cursor, or unpin it."""
        self._pins.toggle(self.session_id)

    def action_cancel(self) -> None:
        """Stop what is written and hold what waits behind it; with nothing under way go one step back."""
        if self.running():
            self.action_stop()
        elif self.query_one(Composer).has_focus_within and self._transcript.display:
            self._transcript.focus()
        else:
            self._commands.navigator.show("fleet")

    def action_stop(self) -> None:
        """Stop the answer that is written. What waits behind it is held: `enter` sends it."""
        if not self.running():
            self._commands.notify("no answer is being written here")
        self._queue.stop(self._live.begun)

    def action_start(self) -> None:
        row = self._stores.fleet.rows.get(self.ai_id)
        if row is not None and row.state in LIVE:
            self._commands.notify(f"{self.name_shown} runs already")
        else:
            self._commands.fleet.launch([self.ai_id])

    def action_logs(self) -> None:
        self._commands.navigator.open_logs(self.ai_id)

    def action_model(self) -> None:
        self._commands.navigator.choose_model([self.ai_id])

    async def action_panel(self) -> None:
        """Show the facts of the specialist beside its conversation, or hide them."""
        await toggle_panel(
            self.query_one(".chat-body"), self.ai_id, self._stores, self._commands, self.session_id
        )

    def _scrolled(self) -> None:
        """Fetch older messages when the reader comes near the oldest one loaded."""
        transcript = self._transcript
        if not transcript.following and transcript.scroll_offset.y < transcript.size.height * 2:
            self._fetch_older()

    @on(Transcript.AskAgain)
    def _ask_again(self, event: Transcript.AskAgain) -> None:
        key = event.entry.key
        if (prompt := prompt_of(self._transcript.entries, key)) and (after := self._place_of(key)):
            self._commands.chat.ask_again(self.ai_id, prompt, self.session_id, after)

    @on(Transcript.EditAndAsk)
    def _edit(self, event: Transcript.EditAndAsk) -> None:
        """Put a question into the composer; sent again it is a branch beside the first."""
        key, composer = event.entry.key, self.query_one(Composer)
        if not (prompt := prompt_of(self._transcript.entries, key)):
            composer.draft = event.text
        elif after := self._place_of(key):
            composer.draft = prompt
            self._write_anew(after)
        else:
            return
        self.focus_composer()

    @on(Transcript.WhatWasSent)
    def _sent(self, event: Transcript.WhatWasSent) -> None:
        self._commands.chat.show_sent(event.entry.key)

    def _place_of(self, key: str) -> str:
        """Return behind which question one stands that is to be asked again; empty, with a notice, while one is answered."""
        return "" if self._answers() else place_of(self._transcript.entries, key)

    def _answers(self) -> bool:
        """Return whether an answer is under way, and say so."""
        if self.running():
            self._commands.notify("it still answers: stop it first (esc)", failed=True)
        return bool(self.running())

    def _write_anew(self, after: str) -> None:
        self._branching.rewritten = after
        self.query_one(Composer).border_subtitle = WRITES_ANEW if after else ""

    def action_branch(self, step: int) -> None:
        """Go to the branch before or after the one that is shown."""
        current = self._transcript.current()
        if self._answers() or current is None:
            return
        if self._branching.go(self._transcript.entries, current, step):
            self.reload()
        else:
            self._commands.notify("there is no other branch here: i or R on a question makes one")

    @on(Transcript.CardChosen)
    def _card_chosen(self, event: Transcript.CardChosen) -> None:
        self._asks.chosen(event)

    @on(Transcript.Quote)
    def _quote(self, event: Transcript.Quote) -> None:
        quoted = "\n".join(f"> {line}" for line in event.text.splitlines())
        self.query_one(Composer).insert(f"{quoted}\n\n")
        self.focus_composer()

    @on(Transcript.Pipe)
    def _pipe(self, event: Transcript.Pipe) -> None:
        self._commands.navigator.pipe_text(event.text)
