"""A team turn: question, rounds, joint answer, list or cards, and every key that acts on them. Knows no composer."""

from __future__ import annotations

from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Static

from backend.schema.params import ListMessages
from backend.schema.results import MessageList
from tekton_tui.commands import Answer, Commands
from tekton_tui.stores import LiveTeam, LiveTurn, Stores
from tekton_tui.transcript import Transcript
from tekton_tui.verbs import bindings
from tekton_tui.widgets.team.agreement import JOINT_ASKED
from tekton_tui.widgets.team.lane import Lane
from tekton_tui.widgets.team.lane_grid import BESIDE_WIDTH, LaneGrid
from tekton_tui.widgets.team.lane_text import ORDERS
from tekton_tui.widgets.team.reasons import why_not
from tekton_tui.widgets.team.status_line import joint_rows, question_row, reader_rows, rounds_row
from tekton_tui.widgets.team.team_list import TeamList
from tekton_tui.widgets.team.vote import is_vote, question

MOST_CARDS = 6
LEAST_CELLS_FOR_CARDS = 110
HEAD_ROWS, LOW = 2, 8
"""Rows of question and rounds; with fewer rows in all the rounds go, the row at the bottom counts as well."""
CLOCK_PARTS, CLOCK_S = 4, 0.125
"""Each lane's clock moves twice a second, a part of the lanes at a time."""
SORTED_S = 0.03
"""How long after the first of answers that end together all are compared and sorted: that takes a while, and they are shown first."""


class TeamView(Vertical, can_focus=True):
    """Shows one team turn at a time: question and rounds, the joint answer, then a list with a reader, or cards.

    The list is for more than `MOST_CARDS` members or less than `LEAST_CELLS_FOR_CARDS` columns, until `L` says otherwise.
    """

    BINDINGS: ClassVar[list[BindingType]] = [*bindings("team-view"), *bindings("lanes")]

    class Changed(Message):
        """Posted when the counts, or what `esc` does, may be others."""

    class DraftRequested(Message):
        """Posted when a text should go into the composer: inserted at its cursor, or in place of the draft."""

        def __init__(self, text: str, *, insert: bool) -> None:
            super().__init__()
            self.text, self.insert = text, insert

    class Closed(Message):
        """Posted on escape when nothing here is left to undo: no zoom, list, mark or pick."""

    def __init__(self, stores: Stores, commands: Commands, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._stores, self._commands = stores, commands
        self._moderation = ""
        self._clock_turn = 0
        self._as_list: bool | None = None
        """Whether the operator chose the list or the cards; `None` leaves it to the size."""
        self._zoomed = False
        self._wanted = ""  # request id of the answer to which the cursor is to go
        self._useless: list[bool] = []
        self._shows = self._lays_out = False  # whether that was asked for and is to come
        self.team: LiveTeam | None = None

    def compose(self) -> ComposeResult:
        judge_box = Vertical(id="team-joint")
        yield Static("", id="team-question")
        yield Static("", id="team-rounds")
        yield judge_box
        yield TeamList(id="team-list")
        yield LaneGrid(self._stores, judge_box, id="team-lanes")

    def on_mount(self) -> None:
        turns = self._stores.turns
        for changed in (turns.team_ended, turns.team_reworded):
            changed.subscribe_widget(self, self._team_changed)
        turns.started.subscribe_widget(self, self._lane_started)
        turns.ended.subscribe_widget(self, self._lane_ended)
        turns.reloaded.subscribe_widget(self, self._reloaded)
        turns.corrected.subscribe_widget(self, lambda _: self._recall())
        turns.restored.subscribe_widget(self, self._show_again)
        self._clock = self.set_interval(CLOCK_S, self._count_clocks)
        self.update_status()

    @property
    def lane_grid(self) -> LaneGrid:
        return self.query_one(LaneGrid)

    def show_team(self, team: LiveTeam, answer: str = "") -> None:
        """Show this team turn from now on; the cursor goes to the answer of this request id, if it or its judge has one."""
        self.team, self._zoomed, self._wanted = team, False, answer
        self.call_after_refresh(self._make_lanes)  # the lanes are sized by what the first layout measures

    def show_moderation(self, words: str) -> None:
        """Show how the next question is moderated."""
        self._moderation = words
        self.update_status()

    def why_not(self, verb: str) -> str:
        """Return why a verb has no use on the answers as they are now."""
        return why_not(verb, self.team, self.lane_grid)

    @property
    def came(self) -> tuple[str, float]:
        """Which lane keys act on since the order put it first, and when: see `MovesByItself`."""
        return self.lane_grid.came

    @property
    def lists(self) -> bool:
        """Whether the answers are a list, not cards."""
        if self._as_list is not None:
            return self._as_list
        return len(self.lane_grid.members) > MOST_CARDS or self.size.width < LEAST_CELLS_FOR_CARDS

    def lay_out(self) -> None:
        """Give question, joint answer, list and lanes their room."""
        grid, height = self.lane_grid, self.size.height
        judge, current = grid.judge, grid.current
        box, listed = self.query_one("#team-joint"), self.query_one(TeamList)
        zooms_judge = self._zoomed and current is not None and current.is_judge
        box.display = judge is not None and (not self._zoomed or zooms_judge)
        self.query_one("#team-rounds").display = height >= LOW
        room = height - HEAD_ROWS + (height < LOW)
        if judge is not None and box.display:
            rows = room if zooms_judge else joint_rows(judge.text, self.size.width, height)
            box.styles.height = rows
            room -= rows
        listed.display = self.lists and not self._zoomed
        if listed.display:
            reader = reader_rows(1 + len(grid.members), room)
            # a joint answer leaves room for those it was made from
            beside = self.size.width >= 2 * BESIDE_WIDTH
            grid.display = reader > 0 and current is not None and (beside or not current.is_judge)
            listed.styles.height = room - reader if grid.display else room
            grid.shown = "reader"
        else:
            grid.display = not zooms_judge
            grid.shown = "zoom" if self._zoomed else "cards"
        grid.lay_out()
        if current is not None and (self._zoomed or (listed.display and grid.display)):
            current.read()
        self._give_focus()
        self.update_status()

    def _give_focus(self) -> None:
        """Let the transcript of a lane that stands alone have the keys, else this view."""
        current = self.lane_grid.current
        if self._zoomed and current is not None and self.has_focus_within:
            current.transcript.focus()
        elif self.has_focus_within and not self.has_focus:
            self.focus()

    def update_status(self) -> None:
        team, grid, width = self.team, self.lane_grid, self.size.width
        if team is None or width < 1:
            return
        runs = list(self._stores.turns.teams.values())
        place = (runs.index(team) + 1 if team in runs else len(runs), len(runs))
        self.query_one("#team-question", Static).update(question_row(team, place, width), layout=False)
        rounds = rounds_row(team, grid.lanes, self._moderation, width)
        self.query_one("#team-rounds", Static).update(rounds, layout=False)
        self._show_list()
        self._name_keys()
        self.post_message(self.Changed())

    def _name_keys(self) -> None:
        """Have the line of keys drawn anew when a key has a use now, or none any more."""
        useless = [bool(self.why_not(verb)) for verb in ("stop", "kill", "team", "joint", "compare", "copy")]
        if useless != self._useless:
            self._useless = useless
            self.refresh_bindings()

    def _show_list(self) -> None:
        listed, grid = self.query_one(TeamList), self.lane_grid
        if listed.display:
            current = None if grid.current is grid.judge else grid.current
            listed.show(grid.members, current, grid.order, focused=self.has_focus)

    @on(events.Focus)
    @on(events.Blur)
    def _focus_changed(self) -> None:
        self.update_status()

    def on_resize(self) -> None:
        # the new size is that of the layout to come
        self.call_after_refresh(self.lay_out)

    @property
    def running(self) -> int:
        return len(self.lane_grid.running)

    @property
    def escape(self) -> str:
        """What `esc` does while the answers have the keys."""
        if self._zoomed:
            return "back to all"
        grid = self.lane_grid
        return "unmarks" if grid.marked else "unpicks" if grid.picked else "back"

    # what happens

    def _team_changed(self, team: LiveTeam) -> None:
        if team is self.team:
            self.update_status()

    async def _make_lanes(self) -> None:
        if self.team is not None:
            self._clock.resume()
            await self.lane_grid.show_team(self.team)
            self.lane_grid.go_to_answer(self._wanted)
            self._wanted = ""
            self.lay_out()

    def _lane_started(self, turn: LiveTurn) -> None:
        if self.lane_grid.attach_turn(turn):
            self._clock.resume()
            self.call_after_refresh(self.lay_out)

    def _lane_ended(self, turn: LiveTurn) -> None:
        if lane := self.lane_grid.lane_of(turn):
            lane.finish()
        if is_vote(turn):  # the tally is on the screen, nobody has to be told of the reply
            self._commands.attention.turn_seen(turn.request_id)
        ours = lane is not None or (self.team is not None and turn.group == self.team.start.request_id)
        if ours and not self._shows:
            self._shows = self.call_later(self._show_ended)

    def _show_ended(self) -> None:
        """Show what the lanes said that ended in one batch of events, and then what takes longer: where each belongs."""
        self._shows = False
        self._show_list()
        if not self._lays_out:
            self._lays_out = True
            self.set_timer(SORTED_S, self._compare_and_lay_out)

    def _compare_and_lay_out(self) -> None:
        self._lays_out = False
        self.lane_grid.measure_agreement()
        self.lay_out()

    def _show_again(self, turn: LiveTurn) -> None:
        """Write a lane anew whose text was replaced."""
        if (lane := self.lane_grid.lane_of(turn)) and lane.turn is turn:
            lane.attach(turn)
            if turn.ended:
                self._compare_and_lay_out()

    def _reloaded(self) -> None:
        """Show all turns as they are after events were missed."""
        for turn in self.team.lanes.values() if self.team is not None else ():
            if not turn.ended and self.lane_grid.attach_turn(turn):
                self._clock.resume()
        self._recall()

    def _recall(self) -> None:
        """Show the question as it is now, and fetch how lanes ended unseen: while the connection was lost, or otherwise than told."""
        self.update_status()
        team = self.team
        if team is None or not any(turn.unseen for turn in team.lanes.values()):
            return
        by_request = {turn.request_id: turn for turn in team.lanes.values() if turn.unseen}

        def recall(stored: MessageList) -> None:
            self.lane_grid.recall(by_request, stored.messages)
            self.lay_out()

        self._commands.controller.request(ListMessages(team.start.session_id, limit=200), recall)

    def _count_clocks(self) -> None:
        """Move the clocks of a part of the lanes: all at once would delay a key. Stop when no lane runs."""
        running = self.lane_grid.running
        self._clock_turn += 1
        for lane in running[self._clock_turn % CLOCK_PARTS :: CLOCK_PARTS]:
            lane.update_status()
        if self._clock_turn % CLOCK_PARTS == 0:
            self._show_list()
            if any(lane.is_judge for lane in running):
                self.lay_out()
        if not running:
            self._clock.pause()

    # keys and mouse

    @on(Lane.Clicked)
    def _clicked(self, event: Lane.Clicked) -> None:
        self.focus()
        self.lane_grid.go_to(event.lane)
        if event.times == 2:
            self._zoomed = True
        self.lay_out()

    @on(Transcript.Pipe)
    def _pipe_part(self, event: Transcript.Pipe) -> None:
        self._commands.navigator.pipe_text(event.text)

    @on(Transcript.WhatWasSent)
    def _sent(self, event: Transcript.WhatWasSent) -> None:
        self._commands.chat.show_sent(event.entry.key)

    @on(Transcript.Quote)
    def _quote_part(self, event: Transcript.Quote) -> None:
        self._quote(event.text)

    @on(Transcript.AskAgain)
    def _one_again(self) -> None:
        self._ask_again([self.lane_grid.current] if self.lane_grid.current else [])

    @on(Transcript.EditAndAsk)
    def _edit(self) -> None:
        if self.team is not None:
            self.post_message(self.DraftRequested(self.team.start.prompt, insert=False))

    def action_move(self, right: int, down: int) -> None:
        self.lane_grid.move(right, down)
        self.lay_out()

    def action_read_lane(self, pages: int) -> None:
        """Scroll the text of the lane in focus."""
        if lane := self.lane_grid.current:
            lane.transcript.scroll_relative(y=pages * max(1, lane.transcript.size.height - 1), animate=False)

    def action_read(self) -> None:
        """Show the lane in focus alone, with all its text."""
        if not self._zoomed:
            self.action_zoom()

    def action_zoom(self) -> None:
        """Show the lane in focus alone, or all again."""
        self._zoomed = not self._zoomed
        self.lane_grid.choose_current()
        self.lay_out()

    def action_list(self) -> None:
        """Change between list and cards."""
        self._as_list = not self.lists
        self._zoomed = False
        self.lay_out()

    def action_order(self) -> None:
        """Order the answers by finish, name, length or agreement, in turn."""
        grid = self.lane_grid
        grid.order = ORDERS[(ORDERS.index(grid.order) + 1) % len(ORDERS)]
        self.lay_out()
        self._commands.notify(f"ordered by {grid.order}")

    def action_round(self, step: int) -> None:
        """Show the round or question before this one, or after it."""
        runs = list(self._stores.turns.teams.values())
        at = (runs.index(self.team) if self.team in runs else len(runs)) + step
        if 0 <= at < len(runs):
            self.show_team(runs[at])
        else:
            self._commands.notify("there is no earlier one here" if step < 0 else "this is the newest")

    def action_cancel_lane(self) -> None:
        lane = self.lane_grid.current
        if lane is not None and lane.turn is not None and not lane.turn.ended:
            self._commands.chat.cancel(lane.turn.request_id)
        elif lane is not None:
            self._commands.notify(self.why_not("stop"))

    def action_cancel_all(self) -> None:
        """Stop every lane under way, also those of judges and those asked again, after a yes."""
        team, lanes = self.team, self.lane_grid.running
        running = [lane.turn for lane in lanes if lane.turn is not None]
        if lanes or (team is not None and team.end is None):
            self._commands.navigator.confirm(
                "Stop all",
                "This stops the answers of:",
                [lane.name_shown for lane in lanes],
                "Stop all",
                lambda: self._cancel(team, running),
            )
        elif team is not None:
            self._commands.notify(self.why_not("kill"))

    def stop_all(self) -> None:
        self._cancel(self.team, [lane.turn for lane in self.lane_grid.lanes if lane.turn is not None])

    def _cancel(self, team: LiveTeam | None, running: list[LiveTurn]) -> None:
        if team is not None and team.end is None:
            self._commands.chat.cancel(team.start.request_id)
        else:
            self._commands.chat.cancel_turns(turn for turn in running if not turn.ended)

    def action_mark(self) -> None:
        if lane := self.lane_grid.current:
            self._keep_choices("marks")
            lane.marked = not lane.marked
            self.update_status()

    def _keep_choices(self, what: str) -> None:
        """Have marks and pick as they are now come back by undo."""
        kept = [(lane, lane.marked, lane.picked) for lane in self.lane_grid.lanes]

        def back() -> None:
            for lane, marked, picked in kept:
                lane.marked, lane.picked = marked, picked
            self.update_status()

        self._commands.undo.offer(what, back)

    def action_pick(self) -> None:
        """Pick the best answer: pipe, copy and quote then act on it."""
        here = self.lane_grid.current
        self._keep_choices("pick")
        for lane in self.lane_grid.lanes:
            lane.picked = lane is here and not lane.picked
        self.update_status()

    @property
    def _meant(self) -> Lane | None:
        """The picked lane, else the one in focus; `None`, with a notice, when it has no text."""
        lane = self.lane_grid.picked or self.lane_grid.current
        if lane is not None and not lane.text:
            self._commands.notify(f"{lane.name_shown} has no answer yet", failed=True)
            return None
        return lane

    def action_pipe(self) -> None:
        if lane := self._meant:
            self._commands.navigator.pipe_text(lane.text, lane.name_shown)

    def action_copy(self) -> None:
        if lane := self._meant:
            self._commands.copy(lane.text, f"the answer of {lane.name_shown}")

    def action_quote(self) -> None:
        if lane := self._meant:
            self._quote(lane.text)

    def _quote(self, text: str) -> None:
        quoted = "\n".join(f"> {line}" for line in text.splitlines())
        self.post_message(self.DraftRequested(f"{quoted}\n\n", insert=True))

    def action_diff(self) -> None:
        """Compare two answers: two marked, the marked and the focused, or the focused and the next."""
        grid = self.lane_grid
        order = [*grid.marked, *([grid.current] if grid.current else []), *grid.lanes]
        pair = [lane for number, lane in enumerate(order) if lane.text and lane not in order[:number]][:2]
        if len(pair) < 2:
            self._commands.notify(self.why_not("compare"), failed=True)
            return
        self._commands.navigator.compare(*(Answer(lane.name_shown, lane.text) for lane in pair))

    def action_merge(self) -> None:
        """Let a judge write one answer from those marked, or from all when fewer than two are."""
        marked = self.lane_grid.marked
        chosen = marked if len(marked) > 1 else [lane for lane in self.lane_grid.lanes if not lane.is_judge]
        answers = {lane.ai_id: lane.text for lane in chosen if lane.answered}
        if self.team is None or len(answers) < 2:
            self._commands.notify(self.why_not("joint") or "mark two whole answers, or none", failed=True)
        else:
            self._commands.team.merge(self.team, answers, JOINT_ASKED)

    def action_vote(self) -> None:
        """Let the members vote for the best answer."""
        if self.team is not None:
            answers = {lane.ai_id: lane.text for lane in self.lane_grid.members if lane.answered}
            self._commands.team.vote(self.team, answers, question)

    def action_discuss(self) -> None:
        if self.team is None or self.team.end is None:
            self._commands.notify(self.why_not("team"), failed=True)
        else:
            self._commands.team.discuss(self.team.start.request_id)

    def action_ask_again(self) -> None:
        """Ask those that failed once more; without failures the lane in focus."""
        failed = [lane for lane in self.lane_grid.lanes if lane.failed and not lane.is_judge]
        self._ask_again(failed or ([self.lane_grid.current] if self.lane_grid.current else []))

    def _ask_again(self, lanes: list[Lane]) -> None:
        if any(lane.is_judge for lane in lanes):
            self._commands.notify("a joint answer is made anew with M", failed=True)
        elif any(lane.turn is not None and not lane.turn.ended for lane in lanes):
            self._commands.notify("it still answers: stop it first (x)", failed=True)
        elif self.team is not None:
            self._commands.team.ask_again(self.team, [lane.ai_id for lane in lanes])

    def action_back(self) -> None:
        """Undo one step: zoom, then marks and picks; with nothing left post `Closed`."""
        grid = self.lane_grid
        if self._zoomed:
            self.action_zoom()
        elif grid.marked or grid.picked:
            self._keep_choices("marks and pick")
            for lane in grid.lanes:
                lane.marked = lane.picked = False
            self.update_status()
        else:
            self.post_message(self.Closed())
