"""Screen 3: one prompt to many, their answers side by side, in the order they arrive."""

from __future__ import annotations

from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from tekton_tui.commands import Commands
from tekton_tui.safe_text import literal, one_line
from tekton_tui.screens.compare import compare_screen
from tekton_tui.stores import LiveTeam, LiveTurn, Stores
from tekton_tui.verbs import TEAM_VERBS, read_team_line
from tekton_tui.widgets.composer import Choice, Composer, teaching_placeholder
from tekton_tui.widgets.empty import EmptyState
from tekton_tui.widgets.lane import Lane
from tekton_tui.widgets.lane_board import LaneBoard
from tekton_tui.wording import span

WIDE = 100
"""Cells from which the prompt's line also says order and moderation."""
MODES = ("pass_through", "synthesis", "consensus", "directed")


class TeamPane(Vertical):
    """The prompt line, the lanes, the composer."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "move(-1,0)", "Left", show=False, id="team.left"),
        Binding("right", "move(1,0)", "Right", show=False, id="team.right"),
        Binding("up", "move(0,-1)", "Up", show=False, id="team.up"),
        Binding("down", "move(0,1)", "Down", show=False, id="team.down"),
        Binding("z", "zoom", "Zoom", id="team.zoom"),
        Binding("L", "list", "List", id="team.list", show=False),
        Binding("x", "cancel_lane", "Cancel", id="team.cancel-lane"),
        Binding("X", "cancel_all", "Cancel all", id="team.cancel-all", show=False),
        Binding("space", "mark", "Mark", id="team.mark"),
        Binding("equals_sign", "diff", "Diff", key_display="=", id="team.diff", show=False),
        Binding("p", "pick", "Pick", id="team.pick"),
        Binding("vertical_line", "pipe", "Pipe", key_display="|", id="team.pipe"),
        Binding("m", "merge", "Merge", id="team.merge"),
        Binding("t", "discuss", "Discuss", id="team.discuss"),
        Binding("o", "order", "Order", id="team.order", show=False),
        Binding("M", "mode", "Moderation", id="team.mode", show=False),
        Binding("y", "copy", "Copy", id="team.copy", show=False),
        Binding("i", "write", "Write", id="team.write", show=False),
        Binding("escape", "back", "Back", show=False, id="team.back"),
    ]

    def __init__(self, stores: Stores, commands: Commands, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._stores, self._commands = stores, commands
        self._team: LiveTeam | None = None
        self._addressed: list[str] = []
        self._mode = MODES[0]

    def compose(self) -> ComposeResult:
        yield Static("", id="team-line")
        yield EmptyState(id="team-empty")
        yield LaneBoard(id="team-lanes")
        yield Composer(teaching_placeholder("Ask the team…"), id="team-composer")

    def on_mount(self) -> None:
        turns = self._stores.turns
        turns.team_started.subscribe(self._started)
        turns.team_ended.subscribe(self._ended)
        turns.started.subscribe(self._lane_started)
        turns.text.subscribe(self._lane_text)
        turns.reasoning.subscribe(self._lane_reasoning)
        turns.phase.subscribe(self._lane_phase)
        turns.ended.subscribe(self._lane_ended)
        turns.reloaded.subscribe(self._recall)
        self._stores.fleet.summary_changed.subscribe(self._name_names)
        composer = self.query_one(Composer)
        composer.border_title = "message the team"
        composer.verbs = [Choice(verb.name, verb.help) for verb in TEAM_VERBS]
        self._commands.restore_draft("team", self.put_draft)
        self._name_names()
        self.set_interval(0.5, self._count_clocks)
        if running := next((team for team in turns.teams.values() if team.end is None), None):
            self._started(running)
        else:
            self._show_last()
        self._write_line()

    def focus_content(self) -> None:
        self.query_one(Composer).focus_field()

    def address(self, ids: list[str]) -> None:
        """Ask only these from now on; none is everybody that runs."""
        self._addressed = ids
        self._name_names()
        self.focus_content()

    @property
    def board(self) -> LaneBoard:
        return self.query_one(LaneBoard)

    # what happens

    def _started(self, team: LiveTeam) -> None:
        self._team = team
        self.call_after_refresh(self._make_lanes)

    async def _make_lanes(self) -> None:
        if self._team is not None:
            await self.board.show_team(self._team)
            self._write_line()

    def _lane_started(self, turn: LiveTurn) -> None:
        if self.board.take(turn):
            self._write_line()

    def _lane_text(self, turn: LiveTurn, text: str) -> None:
        lane = self.board.lane_of(turn)
        if lane is not None:
            lane.add_text(text)
            if turn.pieces == 1 and self.board.by_arrival:
                self.board.place()

    def _lane_reasoning(self, turn: LiveTurn, text: str) -> None:
        if lane := self.board.lane_of(turn):
            lane.add_reasoning(text)

    def _lane_phase(self, turn: LiveTurn) -> None:
        if lane := self.board.lane_of(turn):
            lane.tell()

    def _lane_ended(self, turn: LiveTurn) -> None:
        if lane := self.board.lane_of(turn):
            lane.finish()
            self._write_line()

    def _ended(self, team: LiveTeam) -> None:
        if team is self._team:
            self._write_line()

    def _recall(self) -> None:
        """Read from memory how lanes ended while the link was down."""
        team = self._team
        if team is None or not any(turn.unseen for turn in team.lanes.values()):
            return
        by_request = {turn.request_id: turn for turn in team.lanes.values() if turn.unseen}

        def take(answer: dict[str, Any]) -> None:
            for message in answer["messages"]:
                turn = by_request.get(message.get("request_id", ""))
                if turn is not None and message["role"] == "assistant":
                    turn.recall(message["content"], message.get("error_code") or "", message.get("error", ""))
                    if lane := self.board.lane_of(turn):
                        lane.attach(turn)
            self._write_line()

        self._commands.fetch("session_messages", take, id=team.start.session_id, limit=200)

    def _count_clocks(self) -> None:
        for lane in self.board.lanes:
            if lane.turn is not None and not lane.turn.ended:
                lane.tell()

    # how it looks

    def _write_line(self) -> None:
        empty = self._team is None
        self.query_one(EmptyState).display = empty
        self.board.display = not empty
        self.query_one("#team-line").display = not empty
        if empty:
            self.query_one(EmptyState).say(
                "Ask the whole team at once.", "Write below; the answers arrive side by side, quickest first."
            )
        else:
            self.query_one("#team-line", Static).update(self._line())

    def _line(self) -> Content:
        assert self._team is not None
        lanes = [lane for lane in self.board.lanes if not lane.is_judge]
        turns = [lane.turn for lane in lanes if lane.turn is not None]
        answered = sum(turn.ended and not turn.code for turn in turns)
        cancelled = sum(turn.code == "cancelled" for turn in turns)
        failed = (
            sum(bool(turn.code) for turn in turns) - cancelled + sum(bool(lane.refusal) for lane in lanes)
        )
        streaming = sum(not turn.ended for turn in turns)
        counts = [f"{answered} answered"]
        counts += [
            f"{number} {word}"
            for number, word in ((streaming, "under way"), (failed, "failed"), (cancelled, "cancelled"))
            if number
        ]
        end = f" · {span(self._team.end.total_time)}" if self._team.end else ""
        order = (
            f"  order: {'arrival' if self.board.by_arrival else 'name'} · {self._mode}"
            if self.size.width >= WIDE
            else ""
        )
        tail = f"  {', '.join(counts)}{end}{order} "
        room = max(10, self.size.width - len(tail) - 4)
        prompt = one_line(self._team.start.prompt, room)
        gap = " " * max(1, self.size.width - len(tail) - len(prompt) - 4)
        round_number = f"round {self._team.start.round} " if self._team.start.round > 1 else ""
        tone = "$text-error" if failed else "$text-muted"
        return Content.assemble(literal(f" {round_number}“{prompt}”", "bold"), gap, literal(tail, tone))

    def _show_last(self) -> None:
        """Before the first broadcast of this console: what was asked last."""

        def take(answer: dict[str, Any]) -> None:
            prompts = [m["content"] for m in answer["messages"] if m["author"] == "you"][-3:]
            if prompts and self._team is None and self.is_attached:
                words = " · ".join(f"“{one_line(prompt, 40)}”" for prompt in prompts)
                self.query_one(EmptyState).say("Ask the whole team at once.", f"last asked: {words}")

        self._commands.fetch("conversation_history", take, specialist_id="team", limit=60)

    def _name_names(self) -> None:
        rows = self._stores.fleet.rows.values()
        composer = self.query_one(Composer)
        composer.names = [Choice(row.name, row.title) for row in rows]
        live = self._stores.fleet.live()
        asked = self._stores.fleet.names(self._addressed) if self._addressed else f"all {len(live)} that run"
        composer.border_subtitle = literal(f"to {one_line(asked, 60)} · {self._mode}")

    # what the operator does

    @on(Composer.Submitted)
    def _submitted(self, event: Composer.Submitted) -> None:
        event.stop()
        self._commands.keep_draft("team", "")
        read_team_line(event.text, self._commands, view=self)

    def ask(self, text: str, targets: list[str]) -> None:
        """Send a question to those named, else to those addressed, else to all that run."""
        self._commands.ask_team(text, targets or self._addressed, self._mode, otherwise=self.put_draft)
        self.board.focus()

    def set_mode(self, mode: str) -> bool:
        """Moderate from the next question on; return whether there is such a mode."""
        if mode in MODES:
            self._mode = mode
            self._name_names()
            self._write_line()
        return mode in MODES

    def put_draft(self, text: str) -> None:
        """Put a text into the composer, unless something is being written there."""
        if self.query_one(Composer).empty:
            self.query_one(Composer).draft = text

    @on(Composer.Changed)
    def _changed(self, event: Composer.Changed) -> None:
        self._commands.keep_draft("team", event.composer.draft)

    @on(Composer.Cancelled)
    def _cancelled(self) -> None:
        self.board.focus()

    @on(Lane.Clicked)
    def _clicked(self, event: Lane.Clicked) -> None:
        self.board.focus()
        self.board.go_to(event.lane)

    def on_resize(self) -> None:
        self.call_after_refresh(self._resized)

    def _resized(self) -> None:
        self.board.place()
        self._write_line()

    def action_move(self, right: int, down: int) -> None:
        self.board.move(right, down)

    def action_zoom(self) -> None:
        self.board.toggle("zoom")

    def action_list(self) -> None:
        self.board.toggle("list")

    def action_order(self) -> None:
        self.board.by_arrival = not self.board.by_arrival
        self.board.place()
        self._write_line()

    def action_mode(self) -> None:
        """Go to the next way of moderating; used by the next question."""
        self.set_mode(MODES[(MODES.index(self._mode) + 1) % len(MODES)])

    def action_cancel_lane(self) -> None:
        lane = self.board.at
        if lane is not None and lane.turn is not None and not lane.turn.ended:
            self._commands.cancel(lane.turn.request_id)

    def action_cancel_all(self) -> None:
        if self._team is not None and self._team.end is None:
            self._commands.cancel(self._team.start.request_id)

    def action_mark(self) -> None:
        if lane := self.board.at:
            lane.marked = not lane.marked

    def action_pick(self) -> None:
        """Mark the best answer; the pipe key sends exactly this one on."""
        for lane in self.board.lanes:
            lane.picked = lane is self.board.at and not lane.picked

    def action_pipe(self) -> None:
        lane = next((lane for lane in self.board.lanes if lane.picked), self.board.at)
        if lane is not None and lane.text:
            self._commands.pipe_text(lane.text)

    def action_diff(self) -> None:
        """Compare two marked answers word by word; with fewer marked, the focused with the next."""
        marked = [lane for lane in self.board.lanes if lane.marked]
        if len(marked) < 2 and self.board.at is not None:
            others = [lane for lane in self.board.lanes if lane is not self.board.at]
            marked = [self.board.at, *others]
        if len(marked) >= 2:
            self._commands.open_screen(
                compare_screen(marked[0].name_shown, marked[0].text, marked[1].name_shown, marked[1].text)
            )

    def action_merge(self) -> None:
        """Let a judge write one answer from those marked, or from all."""
        if self._team is None:
            return
        chosen = [lane for lane in self.board.lanes if lane.marked] or [
            lane for lane in self.board.lanes if not lane.is_judge
        ]
        answers = {lane.ai_id: lane.text for lane in chosen if lane.text and lane.turn and not lane.turn.code}
        if len(answers) < 2:
            self._commands.tell("a merge needs at least two answers", bad=True)
            return
        self._commands.merge(
            self._team.start.request_id, self._team.start.session_id, self._team.start.prompt, answers
        )

    def action_discuss(self) -> None:
        if self._team is None or self._team.end is None:
            self._commands.tell("a discussion starts when the team has answered", bad=True)
            return
        self._commands.discuss(self._team.start.request_id)

    def action_copy(self) -> None:
        if (lane := self.board.at) and lane.text:
            self._commands.copy(lane.text, f"the answer of {lane.name_shown}")

    def action_write(self) -> None:
        self.focus_content()

    def action_back(self) -> None:
        if self.board.arrangement != "columns":
            self.board.toggle(self.board.arrangement)
        elif self._addressed:
            self.address([])
        else:
            self._commands.show("fleet")
