"""The lanes of a team turn: which there are, their order, and the one keys act on; as cards beside each other, or one alone.

A judge's lane stands in a box of its own above the others: `judge_box`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from time import monotonic
from typing import Literal, NamedTuple

from textual.containers import Vertical, VerticalScroll
from textual.widget import Widget

from backend.schema.records import StoredMessage
from tekton_tui.stores import LiveTeam, LiveTurn, Stores
from tekton_tui.stores.tool_calls import LiveCall
from tekton_tui.widgets.team.agreement import agreements, agrees, stances, terms
from tekton_tui.widgets.team.lane import Lane
from tekton_tui.widgets.team.lane_text import Order
from tekton_tui.widgets.team.status_line import MEASURE
from tekton_tui.widgets.team.vote import tally

Shown = Literal["cards", "reader", "zoom"]
"""All lanes as cards, the current one below the list, or the current one alone."""
LANE_WIDTH, NARROW_WIDTH = 38, 28
"""Width of a lane beside others: preferred, and the least at which more lanes are shown at once."""
FRAME_ROWS = 2
BESIDE_WIDTH = 75
"""Least width of an answer that is read beside others."""
LEAST_CARD = 4
"""Least height of a card whose answer is there."""
LEAST_ROWS = 5
"""Least height of a lane beside others."""
JUDGES = ("synthesis", "consensus", "merge")
"""Names of the lanes in which a judge answers, made from the members' answers."""


class Places(NamedTuple):
    """Lanes beside each other, and the height of each."""

    columns: int
    rows: int


def places_for(count: int, width: int, height: int) -> Places:
    """Return columns and row height for lanes side by side: all in view if possible, else a whole number of rows."""
    if count < 1 or width < 1 or height < 1:
        return Places(1, LEAST_ROWS)
    for lane_width in (LANE_WIDTH, NARROW_WIDTH):
        columns = min(count, max(1, width // lane_width))
        rows = -(-count // columns)
        if rows * LEAST_ROWS <= height:
            # columns again from the rows: six lanes in rows of four are three and three, not four and two
            return Places(-(-count // rows), height // rows)
    columns = max(1, width // LANE_WIDTH)
    rows = -(-count // columns)
    return Places(-(-count // rows), max(LEAST_ROWS, height // max(1, height // LEAST_ROWS)))


def row_heights(needs: Sequence[int], fair: int) -> list[int]:
    """Return the height of each row of cards: what its longest answer takes, and of what others leave as much as it needs.

    Args:
        needs: Rows that the cards of each row would take.
        fair: What each row has when all have the same.
    """
    heights = [max(LEAST_CARD, min(need, fair)) for need in needs]
    spare = fair * len(heights) - sum(heights)
    for at, need in enumerate(needs):
        more = max(0, min(spare, need - heights[at]))
        heights[at] += more
        spare -= more
    return heights


class LaneGrid(VerticalScroll, can_focus=False):
    """The lanes of one team turn, found by the request id of their turn.

    Keys act on the first lane until another is chosen, then on that one wherever the order puts it.
    """

    def __init__(self, stores: Stores, judge_box: Vertical, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.lanes: list[Lane] = []
        """Judges first, the newest before the others; then the members in order."""
        self.order: Order = "finish"
        self.shown: Shown = "cards"
        self._stores, self._judge_box = stores, judge_box
        self._team: LiveTeam | None = None
        self._by_request: dict[str, Lane] = {}
        self._current: Lane | None = None
        self._columns = 1
        self._heights: list[int] = []
        """Of the rows of answers that are read at once, where there is room for more than one answer."""
        self._fair = LEAST_ROWS
        """Height of a row of cards when all have the same."""
        self._drawn: Lane | None = None
        """The lane that was drawn as the one keys act on."""
        self.came = ("", 0.0)
        """Which lane became that by the order alone, and when (monotonic, seconds): see `MovesByItself`."""

    def on_mount(self) -> None:
        turns = self._stores.turns
        turns.text.subscribe_widget(self, self._add_text)
        turns.reasoning.subscribe_widget(self, self._add_reasoning)
        turns.phase.subscribe_widget(self, self._show_phase)
        turns.tool.subscribe_widget(self, self._show_call)

    def _add_text(self, turn: LiveTurn, text: str) -> None:
        if lane := self.lane_of(turn):
            lane.add_text(text)

    def _add_reasoning(self, turn: LiveTurn, text: str) -> None:
        if lane := self.lane_of(turn):
            lane.add_reasoning(text)

    def _show_call(self, turn: LiveTurn, call: LiveCall) -> None:
        if lane := self.lane_of(turn):
            lane.show_call(call)

    def _show_phase(self, turn: LiveTurn) -> None:
        if lane := self.lane_of(turn):
            lane.update_status()

    @property
    def current(self) -> Lane | None:
        """The lane that keys act on: the one chosen, else the first member."""
        if self._current in self.lanes:
            return self._current
        return next((lane for lane in self.lanes if not lane.is_judge), None) or next(iter(self.lanes), None)

    @property
    def members(self) -> list[Lane]:
        """The lanes that are no judge's, in order."""
        return [lane for lane in self.lanes if not lane.is_judge]

    @property
    def judge(self) -> Lane | None:
        """The judge's lane that is shown: the one keys act on, else the newest."""
        current = self.current
        if current is not None and current.is_judge:
            return current
        return next((lane for lane in self.lanes if lane.is_judge), None)

    @property
    def running(self) -> list[Lane]:
        return [lane for lane in self.lanes if lane.turn is not None and not lane.turn.ended]

    @property
    def marked(self) -> list[Lane]:
        """The lanes the operator marked, in the order shown."""
        return [lane for lane in self.lanes if lane.marked]

    @property
    def picked(self) -> Lane | None:
        """The lane the operator picked."""
        return next((lane for lane in self.lanes if lane.picked), None)

    def lane_of(self, turn: LiveTurn) -> Lane | None:
        return self._by_request.get(turn.request_id)

    async def show_team(self, team: LiveTeam) -> None:
        """Replace all lanes by those of this team turn."""
        self._team, self._current = team, None
        await self.remove_children()
        await self._judge_box.remove_children()
        lanes = {
            ai_id: Lane(ai_id, team.lanes.get(ai_id), role=self._stores.fleet.title_of(ai_id))
            for ai_id in team.start.lanes
        }
        refused = [Lane(ai_id, None, refusal=reason) for ai_id, reason in team.start.refused.items()]
        self._by_request = {request_id: lanes[ai_id] for ai_id, request_id in team.start.lanes.items()}
        self.lanes = [*lanes.values(), *refused]
        await self.mount(*self.lanes)
        for name, turn in team.lanes.items():
            if _is_judge(turn):
                await self._judge_box.mount(self._add_judge(turn))
            elif name in lanes:
                self._by_request[turn.request_id] = lanes[name]
        self.measure_agreement()

    def attach_turn(self, turn: LiveTurn) -> bool:
        """Show a turn that began in its lane; return whether it belongs to this team turn."""
        if self._team is None or turn.group != self._team.start.request_id:
            return False
        lane = self._by_request.get(turn.request_id) or next(
            (lane for lane in self.lanes if not lane.is_judge and lane.ai_id == turn.lane), None
        )
        if lane is not None:
            self._by_request[turn.request_id] = lane
            lane.attach(turn)
        elif _is_judge(turn):
            self._judge_box.mount(self._add_judge(turn))
        return True

    def recall(self, turns: Mapping[str, LiveTurn], messages: Iterable[StoredMessage]) -> None:
        """Take the ends of turns from memory; a lane whose member was asked again meanwhile shows the newer turn."""
        for message in messages:
            turn = turns.get(message.request_id)
            if turn is not None and message.role == "assistant":
                turn.recall(message)
                lane = self.lane_of(turn)
                if lane is not None and lane.turn is turn:
                    lane.attach(turn)
        self.measure_agreement()

    def measure_agreement(self) -> None:
        """Count for each answer how many others agree with it and voted for it; read how it stands to the joint one."""
        if self._team is not None:
            votes, question = tally(self._team), self._team.start.prompt
            texts = {lane.ai_id: lane.text for lane in self.members if lane.answered}
            agreeing = agreements(texts, question)
            for lane in self.members:
                lane.votes = None if votes is None else votes.get(lane.ai_id, 0)
                lane.agree = len(agreeing.get(lane.ai_id, ()))
            for judge in self.lanes:
                if judge.is_judge and judge.text:
                    joint = terms(judge.text, question)
                    with_it = [name for name, text in texts.items() if agrees(joint, terms(text, question))]
                    judge.shares = [name.removesuffix("-ai") for name in with_it]
                    judge.stances = stances(judge.text, [lane.writer for lane in self.members])
                    judge.update_status()
            newest = next((lane for lane in self.lanes if lane.is_judge and lane.text), None)
            for lane in self.members:
                lane.stance = newest.stances.get(lane.writer) if newest is not None else None

    def lay_out(self) -> None:
        """Sort the lanes and give each its position and size."""
        self._sort()
        width, height = self.size.width, self.size.height
        members = self.members
        cards = self.shown == "cards"
        places = places_for(len(members), width, height) if cards else Places(1, height)
        read = self._read_at_once(width, height) if self.shown == "reader" else []
        self._columns = places.columns if cards else max(1, min(len(read), width // BESIDE_WIDTH))
        self.styles.grid_size_columns = self._columns
        self._fair = places.rows
        self._fit_rows()
        current, judge = self.current, self.judge
        if current is not None and self._drawn in self.lanes and current not in (self._drawn, self._current):
            self.came = (current.name_shown, monotonic())
        self._drawn = current
        for lane in self.lanes:
            here = lane is current
            lane.set_class(here, "-focused")
            lane.reading = here and not cards
            lane.display = lane is judge if lane.is_judge else cards or here or lane in read
            lane.transcript.can_focus = self.shown == "zoom" and here
            lane.update_status()
        self.call_after_refresh(self._fit_rows)  # their texts are wrapped anew where the columns are others

    def _read_at_once(self, width: int, height: int) -> list[Lane]:
        """Return the answers that there is room for at once: all of them, else the current one and those after it."""
        members, columns = self.members, width // BESIDE_WIDTH
        cells = min(MEASURE, width // max(1, columns) - FRAME_ROWS)
        self._heights = []
        if columns < 2 or len(members) < 2:
            return []
        here = members.index(self.current) if self.current in members else 0
        for first in (0, here):
            rows = [members[at : at + columns] for at in range(first, len(members), columns)]
            needs = [min(height, max(_estimate(lane, cells, height) for lane in row)) for row in rows]
            sums = accumulate(needs)
            fit = max(1, sum(total <= height for total in sums))
            self._heights = needs[:fit]
            if fit == len(rows):
                break
        return [lane for row in rows[:fit] for lane in row]

    def _fit_rows(self) -> None:
        """Give each row of cards the height of its answers; one in which somebody writes keeps its whole share."""
        if self.shown != "cards":
            self.styles.grid_rows = " ".join(map(str, self._heights)) or "1fr"
            return
        lanes = [lane for lane in self.children if isinstance(lane, Lane)]
        rows = [lanes[at : at + self._columns] for at in range(0, len(lanes), self._columns)]
        heights = row_heights([max(map(self._need, row)) for row in rows], self._fair)
        self.styles.grid_rows = " ".join(map(str, heights)) or str(self._fair)

    def _need(self, lane: Lane) -> int:
        """Return the rows of a card that shows all of its answer, a whole share before it has one."""
        lane.transcript.frame()
        rows = lane.transcript.virtual_size.height
        done = lane.turn is None or lane.turn.ended
        return rows + FRAME_ROWS if done and rows else self._fair

    def move(self, right: int, down: int) -> None:
        """Go to another lane; as cards, one row down is as many lanes on as there are columns."""
        if (current := self.current) is not None:
            cards = self.shown == "cards" and not current.is_judge
            at = self.lanes.index(current) + right + down * (self._columns if cards else 1)
            self.go_to(self.lanes[max(0, min(len(self.lanes) - 1, at))])

    def go_to(self, lane: Lane) -> None:
        """Let keys act on this lane."""
        self._current, self.came = lane, ("", 0.0)
        self.lay_out()
        if self.shown == "cards":
            # the lanes have their places only after the layout that was asked for
            self.call_after_refresh(lane.scroll_visible, animate=False)

    def go_to_answer(self, request_id: str) -> None:
        """Let keys act on the lane of an answer; on the joint one for a team turn's own id. None is empty."""
        if request_id and (lane := self._by_request.get(request_id) or self.judge):
            self._current = lane

    def choose_current(self) -> None:
        """Stay with the lane that keys act on, wherever the order puts it."""
        self._current = self.current

    def on_resize(self) -> None:
        # the new size is that of the layout to come
        self.call_after_refresh(self.lay_out)

    def _sort(self) -> None:
        team = self._team
        if team is None:
            return
        done = [lane for lane in team.finished if (turn := team.lanes.get(lane)) and not turn.code]
        asked = list(team.start.lanes)
        for lane in self.members:
            lane.place = done.index(lane.ai_id) + 1 if lane.ai_id in done else 0
        before = list(self.lanes)
        judges = [lane for lane in self.lanes if lane.is_judge]
        members = sorted(self.members, key=lambda lane: self._rank(lane, team, asked))
        self.lanes = [*judges, *members]
        # sorting children lays the whole view out anew, so it is done only where the order has changed
        if self.lanes != before or [child for child in self.children if child in members] != members:
            wanted = {lane: place for place, lane in enumerate(members)}
            self.sort_children(key=_place_in(wanted))

    def _rank(self, lane: Lane, team: LiveTeam, asked: list[str]) -> tuple[bool, float, float, int]:
        """Return by what a member is sorted: those that answered by the order, then the others as they came."""
        place = asked.index(lane.ai_id) if lane.ai_id in asked else len(asked)
        if self.order == "name":
            return (False, 0, 0, sorted(each.ai_id for each in self.members).index(lane.ai_id))
        if not lane.answered:
            arrived = team.arrived.index(lane.ai_id) if lane.ai_id in team.arrived else len(asked)
            return (True, lane.failed, arrived, place)
        if self.order == "length":
            return (False, -len(lane.text), lane.place, place)
        if self.order == "agreement":
            return (False, -lane.agree, lane.place, place)
        return (False, lane.place or len(asked) + 1, 0, place)

    def _add_judge(self, turn: LiveTurn) -> Lane:
        name, role = turn.lane.partition("/")[0], self._stores.fleet.title_of(turn.ai_id)
        lane = self._by_request[turn.request_id] = Lane(turn.ai_id, turn, title=name, role=role)
        self.lanes.insert(0, lane)
        return lane


def _estimate(lane: Lane, cells: int, height: int) -> int:
    """Return about how many rows an answer takes, half of the room while it comes."""
    if lane.turn is not None and not lane.turn.ended:
        return height // 2
    return FRAME_ROWS + max(2, sum(1 + len(line) // cells for line in lane.text.splitlines()))


def _is_judge(turn: LiveTurn) -> bool:
    return turn.lane.partition("/")[0] in JUDGES


def _place_in(places: dict[Lane, int]) -> Callable[[Widget], int]:
    """Return a sort key: a lane's place, 0 for any other widget."""
    return lambda widget: places.get(widget, 0) if isinstance(widget, Lane) else 0
