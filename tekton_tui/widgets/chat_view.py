"""One conversation: transcript, composer, and the strip that says what the specialist does now."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical

from tekton_tui.commands import Commands
from tekton_tui.entries import live_entry, stored_entry
from tekton_tui.hearing import hear
from tekton_tui.reading import reading_of_line
from tekton_tui.safe_text import literal, one_line
from tekton_tui.stores import LiveTurn, Stores
from tekton_tui.transcript import Entry, Transcript
from tekton_tui.verbs import VERBS, read_line
from tekton_tui.widgets.chat_side import ChatSide
from tekton_tui.widgets.composer import Choice, Composer, teaching_placeholder
from tekton_tui.widgets.empty import EmptyState
from tekton_tui.widgets.search_bar import SearchBar
from tekton_tui.wording import turn_footer, turn_words

PAGE = 60
"""Messages fetched at a time."""


class ChatView(Vertical):
    """A specialist's conversation in its default session, or in one that was chosen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "find", "Find", key_display="/", id="chat.find"),
        Binding("P", "pin", "Pin or unpin", show=False, id="chat.pin"),
        Binding("S", "export", "Export", id="chat.export"),
        Binding("escape", "cancel", "Cancel", show=False, id="chat.cancel"),
    ]

    def __init__(self, ai_id: str, stores: Stores, commands: Commands, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.ai_id = ai_id
        self.session_id = ""
        self._stores, self._commands = stores, commands
        self._oldest: int | None = None
        self._words = ""
        self._leave: list[Callable[[], None]] = []
        self._transcript = Transcript(classes="chat-transcript")

    @property
    def name_shown(self) -> str:
        row = self._stores.fleet.rows.get(self.ai_id)
        return row.name if row else self.ai_id.removesuffix("-ai")

    def compose(self) -> ComposeResult:
        with Horizontal(classes="chat-body"):
            yield EmptyState(classes="chat-nothing")
            yield self._transcript
            yield ChatSide(self.ai_id, self._stores, self._commands)
        yield SearchBar()
        yield Composer(teaching_placeholder(f"Ask {self.name_shown}…"))

    def on_mount(self) -> None:
        turns = self._stores.turns
        self._leave = [
            hear(self, turns.started, self._turn_started),
            hear(self, turns.text, self._turn_text),
            hear(self, turns.reasoning, self._turn_reasoning),
            hear(self, turns.phase, self._turn_phase),
            hear(self, turns.ended, self._turn_ended),
            hear(self, turns.reloaded, self.reload),
            hear(self, self._stores.fleet.summary_changed, self._name_names),
        ]
        row = self._stores.fleet.rows.get(self.ai_id)
        self.query_one(".chat-nothing", EmptyState).say(
            f"Ask {self.name_shown}: {row.title if row else ''}",
            f"good at {', '.join(row.capabilities[:5])}" if row else "",
        )
        self._show_emptiness()
        composer = self.query_one(Composer)
        composer.border_title = literal(one_line(f"message {self.name_shown}", 60))
        composer.verbs = [Choice(verb.name, verb.help) for verb in VERBS]
        composer.read = lambda text: reading_of_line(text, self._commands.known_names())
        self._name_names()
        self.watch(self._transcript, "scroll_y", self._scrolled, init=False)
        self._commands.restore_draft(self.ai_id, self.put_draft)
        self.reload()
        self._clock = self.set_interval(1.0, self._count_clocks, pause=not self.running())

    def on_unmount(self) -> None:
        for leave in self._leave:
            leave()

    def focus_composer(self) -> None:
        self.query_one(Composer).focus_field()

    def put_draft(self, text: str) -> None:
        """Put a text into the composer, unless something is being written there."""
        if self.query_one(Composer).empty:
            self.query_one(Composer).draft = text

    def search(self, pattern: str) -> None:
        """Mark the hits of a pattern in this conversation and go to the newest."""
        self.query_one(SearchBar).open(pattern)

    def export(self, kind: str) -> None:
        """Write this conversation to a file, as Markdown (`md`) or `json`."""
        if self.session_id:
            self._commands.export_session(self.session_id, kind)

    def use_session(self, session_id: str, sought: str = "") -> None:
        """Show and continue another conversation with this specialist; go to where the words sought stand."""
        self.session_id, self._words = session_id, sought
        self.reload()

    def reload(self) -> None:
        """Read the newest messages anew: at the start, and after a gap in what was heard."""
        if self.session_id:
            self._commands.fetch("session_messages", self._take_page, id=self.session_id, limit=PAGE)
        else:
            self._commands.fetch(
                "conversation_history", self._take_history, specialist_id=self.ai_id, limit=PAGE
            )

    def running(self) -> list[LiveTurn]:
        """Return this conversation's turns under way."""
        return [turn for turn in self._stores.turns.of_specialist(self.ai_id) if self._mine(turn)]

    def _take_history(self, answer: dict[str, Any]) -> None:
        self.session_id = answer["conversation_id"]
        self._take_page(answer)

    def _take_page(self, answer: dict[str, Any]) -> None:
        if not self.is_attached:
            return
        messages: list[dict[str, Any]] = answer["messages"]
        self._oldest = messages[0]["id"] if len(messages) >= PAGE else None
        transcript = self._transcript
        running = {turn.request_id for turn in self.running()}
        kept = [m for m in messages if not (m["role"] == "assistant" and m.get("request_id") in running)]
        transcript.load([stored_entry(message) for message in kept])
        asked = {message.get("request_id") for message in kept}
        for turn in self.running():
            self._open(turn, prompt=turn.request_id not in asked)
        self._show_emptiness()
        self.query_one(Composer).history = [m["content"] for m in kept if m["author"] == "you"]
        self.query_one(ChatSide).use_session(self.session_id)
        if self._words:
            sought, self._words = self._words, ""
            self.search(sought)
        elif words := self.query_one(SearchBar).words:
            transcript.search(words)

    def _older(self) -> None:
        if self._oldest is not None:
            before, self._oldest = self._oldest, None
            self._commands.fetch(
                "session_messages", self._take_older, id=self.session_id, before_id=before, limit=PAGE
            )

    def _take_older(self, answer: dict[str, Any]) -> None:
        messages: list[dict[str, Any]] = answer["messages"]
        if self.is_attached and messages:
            self._transcript.prepend([stored_entry(message) for message in messages])
            self._oldest = messages[0]["id"] if len(messages) >= PAGE else None

    def _mine(self, turn: LiveTurn) -> bool:
        return turn.ai_id == self.ai_id and (not self.session_id or turn.session_id == self.session_id)

    def _turn_started(self, turn: LiveTurn) -> None:
        if self._mine(turn):
            self._open(turn, prompt=bool(turn.prompt))

    def _open(self, turn: LiveTurn, *, prompt: bool) -> None:
        transcript = self._transcript
        if prompt:
            transcript.append_entry(live_entry(turn, of_user=True))
        transcript.begin(live_entry(turn))
        if turn.content:
            transcript.append_text(turn.request_id, turn.content)
        transcript.set_phase(turn.request_id, turn_words(turn))
        self._clock.resume()
        self._show_emptiness()

    def _turn_text(self, turn: LiveTurn, text: str) -> None:
        if self._mine(turn):
            self._transcript.append_text(turn.request_id, text)

    def _turn_reasoning(self, turn: LiveTurn, text: str) -> None:
        if self._mine(turn):
            self._transcript.append_reasoning(turn.request_id, text)

    def _turn_phase(self, turn: LiveTurn) -> None:
        if self._mine(turn):
            self._transcript.set_phase(turn.request_id, turn_words(turn))

    def _turn_ended(self, turn: LiveTurn) -> None:
        if not self._mine(turn):
            return
        transcript = self._transcript
        if turn.code:
            transcript.fail(turn.request_id, turn.code, turn.error, footer=turn_footer(turn))
        else:
            transcript.finish(turn.request_id, footer=turn_footer(turn))

    def _count_clocks(self) -> None:
        """Move the clock of a turn that waits for its first token; without a turn the clock stands still."""
        running = self.running()
        if not running:
            self._clock.pause()
        for turn in running:
            if not turn.pieces:
                self._transcript.set_phase(turn.request_id, turn_words(turn))

    def _show_emptiness(self) -> None:
        empty = not self._transcript.entries
        self.query_one(".chat-nothing").display = empty
        self._transcript.display = not empty

    def _name_names(self) -> None:
        rows = self._stores.fleet.rows.values()
        with contextlib.suppress(Exception):
            self.query_one(Composer).names = [Choice("auto", "whoever suits best")] + [
                Choice(row.name, row.title) for row in rows
            ]

    @on(Composer.Submitted)
    def _submitted(self, event: Composer.Submitted) -> None:
        event.stop()
        self._commands.keep_draft(self.ai_id, "")
        read_line(event.text, self._commands, ai_id=self.ai_id, session_id=self.session_id, view=self)

    @on(Composer.Changed)
    def _changed(self, event: Composer.Changed) -> None:
        self._commands.keep_draft(self.ai_id, event.composer.draft)

    @on(Composer.Cancelled)
    def _cancelled(self) -> None:
        self.action_cancel()

    @on(SearchBar.Sought)
    def _sought(self, event: SearchBar.Sought) -> None:
        self._transcript.search(event.words)

    @on(SearchBar.Stepped)
    def _stepped(self, event: SearchBar.Stepped) -> None:
        self._transcript.action_hit(event.step)

    @on(SearchBar.Closed)
    def _search_closed(self) -> None:
        self._transcript.stop_search()
        self._transcript.focus()

    @on(Transcript.SearchChanged)
    def _found(self, event: Transcript.SearchChanged) -> None:
        self.query_one(SearchBar).count(event.at, event.count, event.done)

    def action_find(self) -> None:
        self.query_one(SearchBar).open()

    def action_export(self) -> None:
        self.export("md")

    def action_pin(self) -> None:
        """Pin the message under the cursor, or unpin it; one that memory has not numbered yet is read first."""
        entry = self._transcript.current()
        if entry is None:
            return
        if self._transcript.is_streaming(entry.key):
            self._commands.tell("still being written: pin it when it is complete", bad=True)
        elif entry.message_id:
            self._pin(entry)
        else:
            self._commands.fetch(
                "session_messages",
                lambda answer: self._take_numbers(answer, entry),
                id=self.session_id,
                limit=PAGE,
            )

    def _take_numbers(self, answer: dict[str, Any], wanted: Entry) -> None:
        """Learn the numbers of messages that came by the stream, then pin the one that was meant."""
        if not self.is_attached:
            return
        numbers = {entry.key: entry.message_id for entry in map(stored_entry, answer["messages"])}
        for entry in self._transcript.entries:
            entry.message_id = entry.message_id or numbers.get(entry.key, 0)
        if wanted.message_id:
            self._pin(wanted)
        else:
            self._commands.tell("not in memory: only a stored message can be pinned", bad=True)

    def _pin(self, entry: Entry) -> None:
        pinned = not entry.pinned

        def show() -> None:
            if self.is_attached:
                self._transcript.set_pinned(entry.key, pinned)

        self._commands.pin_message(entry.message_id, pinned, show)

    def action_cancel(self) -> None:
        """Cancel what streams; with nothing streaming go to the transcript, then back to the fleet."""
        if running := self.running():
            self._commands.cancel_turns(running)
        elif self.query_one(Composer).has_focus_within and self._transcript.display:
            self._transcript.focus()
        else:
            self._commands.show("fleet")

    def _scrolled(self) -> None:
        """Read older messages when their place comes near."""
        transcript = self._transcript
        if not transcript.following and transcript.scroll_offset.y < transcript.size.height * 2:
            self._older()

    @on(Transcript.AskAgain)
    def _ask_again(self, event: Transcript.AskAgain) -> None:
        if prompt := self._prompt_of(event.entry.key):
            self._commands.ask(self.ai_id, prompt, self.session_id)

    @on(Transcript.EditAndAsk)
    def _edit(self, event: Transcript.EditAndAsk) -> None:
        self.query_one(Composer).draft = self._prompt_of(event.entry.key) or event.text
        self.focus_composer()

    @on(Transcript.Quote)
    def _quote(self, event: Transcript.Quote) -> None:
        quoted = "\n".join(f"> {line}" for line in event.text.splitlines())
        self.query_one(Composer).insert(f"{quoted}\n\n")
        self.focus_composer()

    @on(Transcript.Pipe)
    def _pipe(self, event: Transcript.Pipe) -> None:
        self._commands.pipe_text(event.text)

    @on(Transcript.Copied)
    def _copied(self, event: Transcript.Copied) -> None:
        self._commands.copy(event.text, f"{len(event.text):,} characters")

    def _prompt_of(self, key: str) -> str:
        """Return the operator's line a message answers, or the line itself."""
        prompt = ""
        for entry in self._transcript.entries:
            if entry.kind == "user":
                prompt = entry.text
            if entry.key == key:
                return prompt
        return ""
