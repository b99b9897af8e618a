"""Place 3: one prompt to many, their answers side by side, in the order they arrive."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.widgets import Static

from backend.schema.content import TextPart
from backend.schema.orchestration import Mode
from backend.schema.params import GetHistory, ListMessages
from backend.schema.records import StoredMessage
from tekton_tui.commands import Commands
from tekton_tui.runtime.latest import Latest, Rereading
from tekton_tui.safe_text import literal, one_line
from tekton_tui.stores import LiveTeam, Stores
from tekton_tui.verbs import bindings
from tekton_tui.widgets.common.empty import EmptyState
from tekton_tui.widgets.composer.composer import DRAFT_KEPT, Choice, Composer, teaching_placeholder
from tekton_tui.widgets.composer.slash_commands import ABOUT_FILES, TEAM_VERBS, read_into, read_team_line
from tekton_tui.widgets.composer.text import preview_line
from tekton_tui.widgets.team.status_line import counts_row, hint_of, hint_row
from tekton_tui.widgets.team.team_view import TeamView

MODE_WORDS: dict[Mode, str] = {
    "pass_through": "side by side",
    "synthesis": "then one synthesis",
    "consensus": "then a consensus",
    "directed": "only whom it suits",
}
"""How the answers to the next question are moderated, in the words shown."""
MODES: tuple[Mode, ...] = tuple(MODE_WORDS)
TEAM = "team"
"""Whose answers a team's are, in the queue of what nobody has seen."""
RECALLED = 200
"""Messages of the team's conversation in which earlier questions are looked for."""


class TeamPane(Vertical):
    """The prompt line, the lanes, the composer."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("team")

    def __init__(self, stores: Stores, commands: Commands, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._stores, self._commands = stores, commands
        self._reading = Latest(commands.controller)
        self._addressed: list[str] = []
        self._mode: Mode = MODES[0]
        self._rereading = Rereading(self, stores, self._show_last)
        self._asked = False
        """Whether a question was sent whose team turn has not begun: its answers then get the keys."""

    def compose(self) -> ComposeResult:
        yield EmptyState(self._stores, id="team-empty")
        yield TeamView(self._stores, self._commands, id="team-view")
        yield Composer(teaching_placeholder("Ask the team…"), id="team-composer")
        yield Static("", id="team-status")

    def on_mount(self) -> None:
        turns = self._stores.turns
        turns.team_started.subscribe_widget(self, self._started)
        self._stores.fleet.summary_changed.subscribe_widget(self, self._name_names)
        composer = self.query_one(Composer)
        composer.take_files(lambda paths: read_into(composer, self._commands, paths, only_text=True))
        composer.verbs = [Choice(verb.name, verb.help) for verb in TEAM_VERBS]
        composer.preview = lambda text: preview_line(text, self._stores.fleet.known_names())
        self._commands.drafts.restore("team", self.put_draft)
        self._name_names()
        if known := sorted(turns.teams.values(), key=lambda team: team.end is None):
            self._started(known[-1])  # one under way, else the newest
        else:
            self._show_emptiness()
        self._rereading.begin()

    def on_show(self) -> None:
        self._rereading.shown()
        self._stores.turns.read(TEAM)

    def on_hide(self) -> None:
        self._stores.turns.leave(TEAM)

    def focus_content(self) -> None:
        self.query_one(Composer).focus_field()

    def address(self, ids: list[str]) -> None:
        """Ask only these from now on; none is everybody that runs."""
        self._addressed = ids
        self._name_names()
        self.focus_content()

    @property
    def view(self) -> TeamView:
        return self.query_one(TeamView)

    def _started(self, team: LiveTeam) -> None:
        self.view.show_team(team)
        self._show_emptiness()
        if self._asked:
            self._asked = False
            if self.is_on_screen:
                self.view.focus()

    def _show_emptiness(self) -> None:
        empty = self.view.team is None
        self.query_one(EmptyState).display = empty
        self.view.display = not empty
        if empty:
            self._teach()

    def _teach(self) -> None:
        live = len(self._stores.fleet.live())
        if live:
            more = (
                "Write below; each answer is one row, quickest first, and one more says what they share (M)."
            )
        else:
            more = "Nobody runs yet: go to the fleet (1) and press Enter to launch the starter team."
        self.query_one(EmptyState).show_text("Ask the whole team at once.", more)

    def _show_last(self) -> None:
        """Before the first question of this console: what was asked last, and everybody's answers."""
        if self.view.team is not None:
            return
        self._reading.request(
            GetHistory("team", limit=RECALLED),
            lambda history: self._recall(history.messages, only_if_empty=True),
        )

    def show_session(self, session_id: str) -> None:
        """Show the newest question of an earlier conversation with the team."""
        self._reading.request(
            ListMessages(session_id, limit=RECALLED), lambda listed: self._recall(listed.messages)
        )

    def show_answer(self, session_id: str, request_id: str) -> None:
        """Show the team turn that an answer is of, with the cursor on the joint answer if it is that."""
        group = request_id.partition("/")[0]
        if team := self._stores.turns.teams.get(group):
            self._reading.forget()
            self._show_one(team, request_id)
        else:
            self._reading.request(
                ListMessages(session_id, limit=RECALLED),
                lambda listed: self._recall(listed.messages, answer=request_id),
            )

    def _show_one(self, team: LiveTeam, answer: str) -> None:
        self.view.show_team(team, answer)
        self._show_emptiness()
        self.view.focus()

    def _recall(
        self, messages: list[StoredMessage], *, only_if_empty: bool = False, answer: str = ""
    ) -> None:
        if not self.is_attached:
            return
        found = self._stores.turns.recall_teams(messages)
        wanted = [team for team in found if answer and team.start.request_id == answer.partition("/")[0]]
        if wanted:
            self._show_one(wanted[0], answer)
        elif answer:
            self._commands.notify("that answer is no more in memory", failed=True)
        elif found and not (only_if_empty and self.view.team is not None):
            self.view.show_team(found[-1])
            self._show_emptiness()

    def _name_names(self) -> None:
        rows = self._stores.fleet.rows.values()
        composer = self.query_one(Composer)
        composer.names = [Choice(row.name, row.title) for row in rows]
        live = self._stores.fleet.live()
        if self._addressed:
            asked = self._stores.fleet.names(self._addressed)
        elif live:
            asked = f"all {len(live)} that run"
        else:
            asked = "nobody: nobody runs" if self._stores.unanswered is None else "all that run"
        self.view.show_moderation("" if self._mode == MODES[0] else MODE_WORDS[self._mode])
        composer.border_title = literal(f"to {one_line(asked, 40)}")
        composer.border_subtitle = "" if self._mode == MODES[0] else MODE_WORDS[self._mode]
        if self.view.team is None:
            self._teach()

    # what the operator does

    @on(Composer.Submitted)
    def _submitted(self, event: Composer.Submitted) -> None:
        event.stop()
        self._commands.drafts.keep("team", "")
        if event.text.startswith("/"):
            event.composer.add_files(event.files)
            event.files.clear()
        texts = [file.part.text for file in event.files if isinstance(file.part, TextPart)]
        text = "\n\n".join([*texts, event.text or ABOUT_FILES]) if texts else event.text
        self.run_line(text)

    def run_line(self, text: str) -> bool:
        """Carry out a line as if it had been written in the composer."""
        read_team_line(text, self._commands, view=self, composer=self.query_one(Composer))
        return True

    def action_attach_file(self) -> None:
        self.query_one(Composer).insert("/attach ")
        self.focus_content()

    def ask(self, text: str, targets: list[str]) -> None:
        """Send a question to those named, else to those addressed, else to all that run."""
        self._reading.forget()  # what was to be shown of earlier gives way to the answers
        self._commands.team.ask(text, targets or self._addressed, self._mode, on_refused=self._refused)
        self._asked = True

    def _refused(self, text: str) -> None:
        self._asked = False
        self.put_draft(text)

    def set_mode(self, mode: str) -> bool:
        """Moderate from the next question on; return whether there is such a mode."""
        for known in MODES:
            if known == mode:
                self._mode = known
                self._name_names()
                return True
        return False

    def discuss(self) -> None:
        """Start a discussion round over the answers that are shown."""
        self.view.action_discuss()

    def put_draft(self, text: str) -> None:
        """Put a text into the composer, behind what is being written there."""
        if not self.query_one(Composer).take_draft(text):
            self._commands.notify(DRAFT_KEPT)

    def take_text(self, text: str) -> bool:
        """Put text that was typed or pasted outside of a field into the composer; nothing is sent."""
        self.query_one(Composer).insert(text)
        self.focus_content()
        return True

    @on(Composer.Changed)
    def _changed(self, event: Composer.Changed) -> None:
        self._commands.drafts.keep("team", event.composer.draft)

    @on(Composer.Cancelled)
    def _cancelled(self) -> None:
        """Stop what is written; with nothing under way go to the answers, or away when there are none."""
        if self.view.running:
            self.view.stop_all()
        elif self.view.team is not None:
            self.view.focus()
        else:
            self.action_back()

    @on(TeamView.Changed)
    def _show_status(self) -> None:
        """Redraw the row at the bottom: counts, or what keys do with what is marked; and what `esc` does now."""
        view, running = self.view, self.view.running
        if self.query_one(Composer).has_focus_within:
            words = f"stops the {running}" if running else "to the answers" if view.team else "back"
        else:
            words = view.escape
        row = self.query_one("#team-status", Static)
        width = self.size.width
        hint = hint_of(view.lane_grid.lanes)
        if hint and width > len(hint) + 20:
            row.update(hint_row(hint, words, width), layout=False)
        else:
            row.update(counts_row(view.team, view.lane_grid.lanes, words, width), layout=False)

    def on_descendant_focus(self) -> None:
        self._show_status()

    def on_resize(self) -> None:
        self._show_status()

    @on(TeamView.DraftRequested)
    def _written(self, event: TeamView.DraftRequested) -> None:
        composer = self.query_one(Composer)
        if event.insert:
            composer.insert(event.text)
        else:
            composer.draft = event.text
        self.focus_content()

    @on(TeamView.Closed)
    def action_back(self) -> None:
        """Ask everybody again, then leave."""
        if self._addressed:
            self._addressed = []
            self._name_names()
        else:
            self._commands.navigator.show("fleet")

    def action_mode(self) -> None:
        """Go to the next way of moderating; used by the next question."""
        self.set_mode(MODES[(MODES.index(self._mode) + 1) % len(MODES)])
        self._commands.notify(f"the next question: answers {MODE_WORDS[self._mode]}")

    def action_write(self) -> None:
        self.focus_content()
