"""Screen 3: one prompt to many, their answers side by side, in the order they arrive."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from tekton_tui.commands import Commands
from tekton_tui.safe_text import literal, one_line
from tekton_tui.screens.compare import compare_screen
from tekton_tui.stores import LiveTeam, LiveTurn, Stores
from tekton_tui.widgets.composer import Choice, Composer, teaching_placeholder
from tekton_tui.widgets.empty import EmptyState
from tekton_tui.widgets.lane import Lane
from tekton_tui.wording import span

Layout = Literal["columns", "list", "zoom"]
LANE_WIDTH, LANE_ROWS = 38, 9
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
        self._focused = 0
        self._layout: Layout = "columns"
        self._by_arrival = True
        self._mode = MODES[0]
        self._picked = ""
        self._columns = 1

    def compose(self) -> ComposeResult:
        yield Static("", id="team-line")
        yield EmptyState(id="team-empty")
        yield VerticalScroll(id="team-lanes", can_focus=True)
        yield Composer(teaching_placeholder("Ask the team…"), id="team-composer")

    def on_mount(self) -> None:
        turns = self._stores.turns
        turns.team_started.subscribe(self._started)
        turns.team_ended.subscribe(self._ended)
        turns.started.subscribe(self._lane_started)
        turns.text.subscribe(self._lane_text)
        turns.reasoning.subscribe(
            lambda turn, text: self._on_lane(turn, lambda lane: lane.add_reasoning(text))
        )
        turns.phase.subscribe(lambda turn: self._on_lane(turn, lambda lane: lane.tell()))
        turns.ended.subscribe(lambda turn: self._on_lane(turn, lambda lane: lane.finish()))
        self._stores.fleet.summary_changed.subscribe(self._name_names)
        composer = self.query_one(Composer)
        composer.border_title = "message the team"
        self._commands.restore_draft("team", self._put_draft)
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
    def lanes(self) -> list[Lane]:
        """The lanes in the order shown."""
        return list(self.query(Lane))

    @property
    def focused_lane(self) -> Lane | None:
        lanes = self.lanes
        return lanes[min(self._focused, len(lanes) - 1)] if lanes else None

    # what happens

    def _started(self, team: LiveTeam) -> None:
        self._team, self._focused, self._picked = team, 0, ""
        self.call_after_refresh(self._make_lanes)

    async def _make_lanes(self) -> None:
        if self._team is None:
            return
        box = self.query_one("#team-lanes", VerticalScroll)
        await box.remove_children()
        lanes = [Lane(ai_id, self._turn_of(ai_id)) for ai_id in self._team.start.lanes]
        await box.mount(*lanes)
        self._arrange()

    def _turn_of(self, ai_id: str) -> LiveTurn | None:
        return self._team.lanes.get(ai_id) if self._team else None

    def _lane_started(self, turn: LiveTurn) -> None:
        if self._team is None or turn.group != self._team.start.request_id:
            return
        lane_id = turn.request_id.removeprefix(f"{turn.group}/")
        for lane in self.lanes:
            if lane.ai_id == lane_id:
                lane.attach(turn)
                return
        if lane_id in ("synthesis", "consensus", "merge"):
            lane = Lane(turn.ai_id, turn, title=lane_id)
            self.query_one("#team-lanes").mount(lane)
            self.call_after_refresh(self._arrange)

    def _lane_text(self, turn: LiveTurn, text: str) -> None:
        first = turn.pieces == 1
        self._on_lane(turn, lambda lane: lane.add_text(text))
        if first and self._team is not None and turn.group == self._team.start.request_id:
            self._arrange()

    def _on_lane(self, turn: LiveTurn, act: Any) -> None:
        for lane in self.lanes:
            if lane.turn is turn:
                act(lane)
                self._write_line()

    def _ended(self, team: LiveTeam) -> None:
        if team is self._team:
            for lane in self.lanes:
                lane.tell()
            self._write_line()

    def _count_clocks(self) -> None:
        for lane in self.lanes:
            if lane.turn is not None and not lane.turn.ended:
                lane.tell()

    # how it looks

    def _arrange(self) -> None:
        """Put lanes in order and in their places for the layout."""
        box = self.query_one("#team-lanes", VerticalScroll)
        lanes = self.lanes
        if self._by_arrival and self._team is not None:
            order = {ai_id: place for place, ai_id in enumerate(self._team.arrived)}
            focused = self.focused_lane
            lanes.sort(key=lambda lane: order.get(lane.ai_id, 999) if not lane.is_judge else 1000)
            box.sort_children(key=lambda lane: lanes.index(lane) if isinstance(lane, Lane) else 0)
            if focused is not None:
                self._focused = lanes.index(focused)
        columns = max(1, self.size.width // LANE_WIDTH) if self._layout == "columns" else 1
        rows = -(-len(lanes) // columns) if lanes else 1
        columns = self._columns = -(-len(lanes) // rows) if lanes else 1
        height = {
            "columns": max(LANE_ROWS, box.size.height // max(1, rows)),
            "list": 3,
            "zoom": box.size.height,
        }[self._layout]
        box.styles.grid_size_columns = columns
        box.styles.grid_rows = str(height)
        for index, lane in enumerate(lanes):
            lane.set_class(index == self._focused, "-focused")
            lane.set_class(self._layout == "list", "-list")
            lane.display = self._layout != "zoom" or index == self._focused
        self._write_line()

    def _write_line(self) -> None:
        empty = self._team is None
        self.query_one(EmptyState).display = empty
        self.query_one("#team-lanes").display = not empty
        self.query_one("#team-line").display = not empty
        if empty:
            self.query_one(EmptyState).say(
                "Ask the whole team at once.", "Write below; the answers arrive side by side, quickest first."
            )
        else:
            self.query_one("#team-line", Static).update(self._line())

    def _line(self) -> Content:
        assert self._team is not None
        turns = [lane.turn for lane in self.lanes if lane.turn is not None and not lane.is_judge]
        answered = sum(turn.ended and not turn.code for turn in turns)
        cancelled = sum(turn.code == "cancelled" for turn in turns)
        failed = sum(bool(turn.code) for turn in turns) - cancelled
        streaming = sum(not turn.ended for turn in turns)
        counts = [f"{answered} answered"]
        counts += [
            f"{number} {word}"
            for number, word in ((streaming, "under way"), (failed, "failed"), (cancelled, "cancelled"))
            if number
        ]
        end = f" · {span(self._team.end.total_time)}" if self._team.end else ""
        order = (
            f"  order: {'arrival' if self._by_arrival else 'name'} · {self._mode}"
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

    def _put_draft(self, text: str) -> None:
        self.query_one(Composer).draft = text

    # what the operator does

    @on(Composer.Submitted)
    def _submitted(self, event: Composer.Submitted) -> None:
        self._commands.keep_draft("team", "")
        self._commands.ask_team(event.text, self._addressed, self._mode)
        self.query_one("#team-lanes").focus()

    @on(Composer.Changed)
    def _changed(self, event: Composer.Changed) -> None:
        self._commands.keep_draft("team", event.composer.draft)

    @on(Composer.Cancelled)
    def _cancelled(self) -> None:
        self.query_one("#team-lanes").focus()

    @on(Lane.Clicked)
    def _clicked(self, event: Lane.Clicked) -> None:
        self._focused = self.lanes.index(event.lane)
        self.query_one("#team-lanes").focus()
        self._arrange()

    def on_resize(self) -> None:
        self.call_after_refresh(self._arrange)

    def action_move(self, right: int, down: int) -> None:
        lanes = self.lanes
        if not lanes:
            return
        self._focused = max(0, min(len(lanes) - 1, self._focused + right + down * self._columns))
        self._arrange()
        lanes[self._focused].scroll_visible(animate=False)

    def action_zoom(self) -> None:
        self._layout = "columns" if self._layout == "zoom" else "zoom"
        self._arrange()

    def action_list(self) -> None:
        self._layout = "columns" if self._layout == "list" else "list"
        self._arrange()

    def action_order(self) -> None:
        self._by_arrival = not self._by_arrival
        self._arrange()

    def action_mode(self) -> None:
        """Go to the next way of moderating; used by the next question."""
        self._mode = MODES[(MODES.index(self._mode) + 1) % len(MODES)]
        self._name_names()
        self._write_line()

    def action_cancel_lane(self) -> None:
        lane = self.focused_lane
        if lane is not None and lane.turn is not None and not lane.turn.ended:
            self._commands.cancel(lane.turn.request_id)

    def action_cancel_all(self) -> None:
        if self._team is not None and self._team.end is None:
            self._commands.cancel(self._team.start.request_id)

    def action_mark(self) -> None:
        if lane := self.focused_lane:
            lane.marked = not lane.marked

    def action_pick(self) -> None:
        """Mark the best answer; the pipe key sends exactly this one on."""
        for lane in self.lanes:
            lane.picked = lane is self.focused_lane and not lane.picked
            if lane.picked:
                self._picked = lane.text

    def action_pipe(self) -> None:
        lane = next((lane for lane in self.lanes if lane.picked), self.focused_lane)
        if lane is not None and lane.text:
            self._commands.pipe_text(lane.text)

    def action_diff(self) -> None:
        """Compare two marked answers word by word; with fewer marked, the focused with the next."""
        marked = [lane for lane in self.lanes if lane.marked]
        if len(marked) < 2 and self.focused_lane is not None:
            others = [lane for lane in self.lanes if lane is not self.focused_lane]
            marked = [self.focused_lane, *others]
        if len(marked) >= 2:
            self._commands.open_screen(
                compare_screen(marked[0].name_shown, marked[0].text, marked[1].name_shown, marked[1].text)
            )

    def action_merge(self) -> None:
        """Let a judge write one answer from those marked, or from all."""
        if self._team is None:
            return
        chosen = [lane for lane in self.lanes if lane.marked] or [
            lane for lane in self.lanes if not lane.is_judge
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
        if (lane := self.focused_lane) and lane.text:
            self._commands.copy(lane.text, f"the answer of {lane.name_shown}")

    def action_write(self) -> None:
        self.focus_content()

    def action_back(self) -> None:
        if self._layout != "columns":
            self._layout = "columns"
            self._arrange()
        elif self._addressed:
            self.address([])
        else:
            self._commands.show("fleet")
