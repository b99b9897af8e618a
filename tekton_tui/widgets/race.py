"""A team turn as a race: its lanes as they arrive, and every key that acts on them. Knows no composer."""

from __future__ import annotations

from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Static

from tekton_tui.commands import Commands
from tekton_tui.hearing import hear
from tekton_tui.screens.compare import compare_screen
from tekton_tui.stores import LiveTeam, LiveTurn, Stores
from tekton_tui.transcript import Transcript
from tekton_tui.widgets.lane import Lane
from tekton_tui.widgets.lane_board import LaneBoard
from tekton_tui.widgets.lane_words import heading as heading_of
from tekton_tui.widgets.team_line import TeamLine

CLOCK_PARTS = 4
CLOCK_S = 0.5 / CLOCK_PARTS
"""Each lane's clock moves twice a second, a part of the lanes at a time."""


class Race(Vertical):
    """How it stands, the lanes, and the verbs on them; one team turn at a time."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("z", "zoom", "Zoom", id="team.zoom"),
        Binding("p", "pick", "Pick", id="team.pick"),
        Binding("vertical_line", "pipe", "Pipe", key_display="|", id="team.pipe"),
        Binding("equals_sign", "diff", "Diff", key_display="=", id="team.diff"),
        Binding("m", "merge", "Merge", id="team.merge"),
        Binding("t", "discuss", "Discuss", id="team.discuss"),
        Binding("x", "cancel_lane", "Cancel", id="team.cancel-lane"),
        Binding("L", "list", "List", id="team.list"),
        Binding("R", "ask_again", "Ask again", id="team.ask-again"),
        Binding("space", "mark", "Mark", id="team.mark"),
        Binding("X", "cancel_all", "Cancel all", id="team.cancel-all"),
        Binding("o", "order", "Order", id="team.order"),
        Binding("y", "copy", "Copy", id="team.copy"),
        Binding("greater_than_sign", "quote", "Quote", key_display=">", show=False, id="team.quote"),
        Binding("escape", "back", "Back", show=False, id="team.back"),
    ]

    class Written(Message):
        """Posted when a text should go into the composer; `insert` puts it where the cursor is."""

        def __init__(self, text: str, *, insert: bool) -> None:
            super().__init__()
            self.text, self.insert = text, insert

    class Left(Message):
        """Posted on escape when there is nothing left to take back here."""

    def __init__(self, stores: Stores, commands: Commands, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._stores, self._commands = stores, commands
        self._manner = ""
        self._told = 0
        self.team: LiveTeam | None = None

    def compose(self) -> ComposeResult:
        yield TeamLine("", id="team-line")
        yield Static("", id="team-heading")
        yield LaneBoard(id="team-lanes")

    def on_mount(self) -> None:
        turns = self._stores.turns
        hear(self, turns.team_ended, self._ended)
        hear(self, turns.started, self._lane_started)
        hear(self, turns.text, self._lane_text)
        hear(self, turns.reasoning, self._lane_reasoning)
        hear(self, turns.phase, self._lane_phase)
        hear(self, turns.ended, self._lane_ended)
        hear(self, turns.reloaded, self._recall)
        self._clock = self.set_interval(CLOCK_S, self._count_clocks)
        self.tell()

    @property
    def board(self) -> LaneBoard:
        return self.query_one(LaneBoard)

    def show_team(self, team: LiveTeam) -> None:
        """Show this team turn from now on."""
        self.team = team
        self.call_after_refresh(self._make_lanes)

    def say_manner(self, words: str) -> None:
        """Say how the next question is moderated."""
        self._manner = words
        self.tell()

    def tell(self) -> None:
        """Write how the race stands."""
        team, board = self.team, self.board
        heading = self.query_one("#team-heading", Static)
        heading.display = board.arrangement == "list"
        heading.update(heading_of(self.size.width))
        if team is not None:
            order = f"by {'arrival' if board.by_arrival else 'name'}"
            self.query_one(TeamLine).tell(team, board.lanes, (order, self._manner))

    def on_resize(self) -> None:
        self.call_after_refresh(self.tell)

    # what happens

    def _ended(self, team: LiveTeam) -> None:
        if team is self.team:
            self.tell()

    async def _make_lanes(self) -> None:
        if self.team is not None:
            self._clock.resume()
            await self.board.show_team(self.team)
            self.tell()

    def _lane_started(self, turn: LiveTurn) -> None:
        if self.board.take(turn):
            self._clock.resume()
            self.tell()

    def _lane_text(self, turn: LiveTurn, text: str) -> None:
        lane = self.board.lane_of(turn)
        if lane is not None:
            lane.add_text(text)
            if len(turn.text) == 1 and self.board.by_arrival:
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
            self.tell()

    def _recall(self) -> None:
        """Read from memory how lanes ended while the link was down."""
        team = self.team
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
            self.tell()

        self._commands.fetch("session_messages", take, id=team.start.session_id, limit=200)

    def _count_clocks(self) -> None:
        """Move the clocks of a few lanes at a time: all at once would hold up a key. Without any, stand still."""
        running = [lane for lane in self.board.lanes if lane.turn is not None and not lane.turn.ended]
        self._told += 1
        for lane in running[self._told % CLOCK_PARTS :: CLOCK_PARTS]:
            lane.tell()
        if not running:
            self._clock.pause()

    # keys and mouse

    @on(Lane.Clicked)
    def _clicked(self, event: Lane.Clicked) -> None:
        self.board.focus()
        self.board.go_to(event.lane)
        if event.times == 2:
            self.action_zoom()

    @on(Transcript.Copied)
    def _copied(self, event: Transcript.Copied) -> None:
        self._commands.copy(event.text, f"{len(event.text):,} characters")

    @on(Transcript.Pipe)
    def _pipe_part(self, event: Transcript.Pipe) -> None:
        self._commands.pipe_text(event.text)

    @on(Transcript.Quote)
    def _quote_part(self, event: Transcript.Quote) -> None:
        self._quote(event.text)

    @on(Transcript.AskAgain)
    def _one_again(self) -> None:
        self._ask_again([self.board.at] if self.board.at else [])

    @on(Transcript.EditAndAsk)
    def _edit(self) -> None:
        if self.team is not None:
            self.post_message(self.Written(self.team.start.prompt, insert=False))

    def action_zoom(self) -> None:
        self.board.toggle("zoom")
        self.tell()

    def action_list(self) -> None:
        self.board.toggle("list")
        self.tell()

    def action_order(self) -> None:
        self.board.by_arrival = not self.board.by_arrival
        self.board.place()
        self.tell()

    def action_cancel_lane(self) -> None:
        lane = self.board.at
        if lane is not None and lane.turn is not None and not lane.turn.ended:
            self._commands.cancel(lane.turn.request_id)
        elif lane is not None:
            self._commands.tell(f"{lane.name_shown} has ended: there is nothing to cancel")

    def action_cancel_all(self) -> None:
        """Cancel every lane under way, those of judges and those asked again as well."""
        team = self.team
        running = [lane.turn for lane in self.board.lanes if lane.turn is not None and not lane.turn.ended]
        if team is not None and team.end is None:
            self._commands.cancel(team.start.request_id)
        elif running:
            self._commands.cancel_turns(running)
        elif team is not None:
            self._commands.tell("all have ended: there is nothing to cancel")

    def action_mark(self) -> None:
        if lane := self.board.at:
            lane.marked = not lane.marked
            self.tell()

    def action_pick(self) -> None:
        """Pick the best answer; pipe, copy and quote mean exactly this one."""
        here = self.board.at
        if here is not None and not here.text:
            self._commands.tell(f"{here.name_shown} has no answer to pick", bad=True)
            return
        for lane in self.board.lanes:
            lane.picked = lane is here and not lane.picked
        self.tell()

    @property
    def _meant(self) -> Lane | None:
        """The picked lane, else the one in focus; none, and said so, when it has no text."""
        lane = self.board.picked or self.board.at
        if lane is not None and not lane.text:
            self._commands.tell(f"{lane.name_shown} has no answer yet", bad=True)
            return None
        return lane

    def action_pipe(self) -> None:
        if lane := self._meant:
            self._commands.pipe_text(lane.text, lane.name_shown)

    def action_copy(self) -> None:
        if lane := self._meant:
            self._commands.copy(lane.text, f"the answer of {lane.name_shown}")

    def action_quote(self) -> None:
        if lane := self._meant:
            self._quote(lane.text)

    def _quote(self, text: str) -> None:
        quoted = "\n".join(f"> {line}" for line in text.splitlines())
        self.post_message(self.Written(f"{quoted}\n\n", insert=True))

    def action_diff(self) -> None:
        """Compare two answers word by word: two marked, the marked and the focused, or the focused and the next."""
        board = self.board
        order = [*board.marked, *([board.at] if board.at else []), *board.lanes]
        pair = [lane for number, lane in enumerate(order) if lane.text and lane not in order[:number]][:2]
        if len(pair) < 2:
            self._commands.tell("a comparison needs two answers", bad=True)
            return
        one, other = pair
        self._commands.open_screen(compare_screen(one.name_shown, one.text, other.name_shown, other.text))

    def action_merge(self) -> None:
        """Let a judge write one answer from those marked, or from all when fewer than two are."""
        marked = self.board.marked
        chosen = marked if len(marked) > 1 else [lane for lane in self.board.lanes if not lane.is_judge]
        answers = {lane.ai_id: lane.text for lane in chosen if lane.answered}
        if self.team is None or len(answers) < 2:
            self._commands.tell("a merge needs at least two whole answers", bad=True)
        else:
            self._commands.merge(self.team, answers)

    def action_discuss(self) -> None:
        if self.team is None or self.team.end is None:
            self._commands.tell("a discussion starts when the team has answered", bad=True)
        else:
            self._commands.discuss(self.team.start.request_id)

    def action_ask_again(self) -> None:
        """Ask those that failed once more; without failures the lane in focus."""
        failed = [lane for lane in self.board.lanes if lane.failed and not lane.is_judge]
        self._ask_again(failed or ([self.board.at] if self.board.at else []))

    def _ask_again(self, lanes: list[Lane]) -> None:
        if any(lane.is_judge for lane in lanes):
            self._commands.tell("a judge merges again with m", bad=True)
        elif any(lane.turn is not None and not lane.turn.ended for lane in lanes):
            self._commands.tell("it still answers: cancel it first (x)", bad=True)
        elif self.team is not None:
            for lane in lanes:
                self._commands.ask_lane_again(self.team, lane.ai_id)

    def action_back(self) -> None:
        """Take back the last thing: marks and picks, zoom or list, whom one asks; then leave."""
        board = self.board
        if board.arrangement == "zoom":
            self.action_zoom()
        elif board.marked or board.picked:
            for lane in board.lanes:
                lane.marked = lane.picked = False
            self.tell()
        elif board.arrangement == "list":
            self.action_list()
        else:
            self.post_message(self.Left())
