"""Screen 3: one prompt to many, their answers side by side, in the order they arrive."""

from __future__ import annotations

from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical

from tekton_tui.commands import Commands
from tekton_tui.hearing import hear
from tekton_tui.reading import reading_of_line
from tekton_tui.safe_text import literal, one_line
from tekton_tui.stores import LiveTeam, Stores
from tekton_tui.verbs import TEAM_VERBS, read_team_line
from tekton_tui.widgets.composer import Choice, Composer, teaching_placeholder
from tekton_tui.widgets.empty import EmptyState
from tekton_tui.widgets.race import Race

MODE_WORDS = {
    "pass_through": "side by side",
    "synthesis": "then one synthesis",
    "consensus": "then a consensus",
    "directed": "only whom it suits",
}
"""How the answers to the next question are moderated, in the words shown."""
MODES = tuple(MODE_WORDS)


class TeamPane(Vertical):
    """The prompt line, the lanes, the composer."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("i", "write", "Write", id="team.write"),
        Binding("M", "mode", "Moderation", id="team.mode"),
        Binding("escape", "back", "Back", show=False, id="team.back-out"),
    ]

    def __init__(self, stores: Stores, commands: Commands, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._stores, self._commands = stores, commands
        self._addressed: list[str] = []
        self._mode = MODES[0]

    def compose(self) -> ComposeResult:
        yield EmptyState(id="team-empty")
        yield Race(self._stores, self._commands, id="team-race")
        yield Composer(teaching_placeholder("Ask the team…"), id="team-composer")

    def on_mount(self) -> None:
        turns = self._stores.turns
        hear(self, turns.team_started, self._started)
        hear(self, self._stores.fleet.summary_changed, self._name_names)
        composer = self.query_one(Composer)
        composer.border_title = "message the team"
        composer.verbs = [Choice(verb.name, verb.help) for verb in TEAM_VERBS]
        composer.read = lambda text: reading_of_line(text, self._commands.known_names())
        self._commands.restore_draft("team", self.put_draft)
        self._name_names()
        if known := sorted(turns.teams.values(), key=lambda team: team.end is None):
            self._started(known[-1])  # one under way, else the newest
        else:
            self._show_emptiness()
            self._show_last()

    def focus_content(self) -> None:
        self.query_one(Composer).focus_field()

    def address(self, ids: list[str]) -> None:
        """Ask only these from now on; none is everybody that runs."""
        self._addressed = ids
        self._name_names()
        self.focus_content()

    @property
    def race(self) -> Race:
        return self.query_one(Race)

    def _started(self, team: LiveTeam) -> None:
        self.race.show_team(team)
        self._show_emptiness()

    def _show_emptiness(self) -> None:
        empty = self.race.team is None
        self.query_one(EmptyState).display = empty
        self.race.display = not empty
        if empty:
            self._teach()

    def _teach(self) -> None:
        live = len(self._stores.fleet.live())
        if live:
            more = "Write below; the answers arrive side by side, quickest first."
        else:
            more = "Nobody runs yet: go to the fleet (1) and press Enter to launch the starter team."
        self.query_one(EmptyState).say("Ask the whole team at once.", more)

    def _show_last(self) -> None:
        """Before the first broadcast of this console: what was asked last."""

        def take(answer: dict[str, Any]) -> None:
            prompts = [m["content"] for m in answer["messages"] if m["author"] == "you"][-3:]
            if prompts and self.race.team is None and self.is_attached and self._stores.fleet.live():
                words = " · ".join(f"“{one_line(prompt, 40)}”" for prompt in prompts)
                self.query_one(EmptyState).say("Ask the whole team at once.", f"last asked: {words}")

        self._commands.fetch("conversation_history", take, specialist_id="team", limit=60)

    def _name_names(self) -> None:
        rows = self._stores.fleet.rows.values()
        composer = self.query_one(Composer)
        composer.names = [Choice(row.name, row.title) for row in rows]
        live = self._stores.fleet.live()
        asked = (
            self._stores.fleet.names(self._addressed)
            if self._addressed
            else (f"all {len(live)} that run" if live else "nobody: nobody runs")
        )
        self.race.say_manner(MODE_WORDS[self._mode])
        composer.border_subtitle = literal(f"to {one_line(asked, 40)} · {MODE_WORDS[self._mode]}")
        if self.race.team is None:
            self._teach()

    # what the operator does

    @on(Composer.Submitted)
    def _submitted(self, event: Composer.Submitted) -> None:
        event.stop()
        self._commands.keep_draft("team", "")
        read_team_line(event.text, self._commands, view=self)

    def ask(self, text: str, targets: list[str]) -> None:
        """Send a question to those named, else to those addressed, else to all that run."""
        self._commands.ask_team(text, targets or self._addressed, self._mode, otherwise=self.put_draft)
        self.race.board.focus()

    def set_mode(self, mode: str) -> bool:
        """Moderate from the next question on; return whether there is such a mode."""
        if mode in MODES:
            self._mode = mode
            self._name_names()
        return mode in MODES

    def discuss(self) -> None:
        """Start a discussion round over the race that is shown."""
        self.race.action_discuss()

    def put_draft(self, text: str) -> None:
        """Put a text into the composer, unless something is being written there."""
        if self.query_one(Composer).empty:
            self.query_one(Composer).draft = text

    @on(Composer.Changed)
    def _changed(self, event: Composer.Changed) -> None:
        self._commands.keep_draft("team", event.composer.draft)

    @on(Composer.Cancelled)
    def _cancelled(self) -> None:
        self.race.board.focus()

    @on(Race.Written)
    def _written(self, event: Race.Written) -> None:
        composer = self.query_one(Composer)
        if event.insert:
            composer.insert(event.text)
        else:
            composer.draft = event.text
        self.focus_content()

    @on(Race.Left)
    def action_back(self) -> None:
        """Ask everybody again, then leave."""
        if self._addressed:
            self._addressed = []
            self._name_names()
        else:
            self._commands.show("fleet")

    def action_mode(self) -> None:
        """Go to the next way of moderating; used by the next question."""
        self.set_mode(MODES[(MODES.index(self._mode) + 1) % len(MODES)])
        self._commands.tell(f"the next question: answers {MODE_WORDS[self._mode]}")

    def action_write(self) -> None:
        self.focus_content()
