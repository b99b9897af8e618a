"""The lanes of a team turn in their places: side by side, as a list, or one alone; in order of arrival or of asking."""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll

from tekton_tui.stores import LiveTeam, LiveTurn
from tekton_tui.widgets.lane import Lane

Arrangement = Literal["columns", "list", "zoom"]
LANE_WIDTH, NARROW_WIDTH = 38, 28
"""Width of a lane beside others: what is wished for, and what is enough to see all at once."""
LEAST_ROWS = 5
"""Least height of a lane beside others."""
LEAST_OPEN_ROWS = 4
"""Spare rows of a list from which the lane under the cursor shows its text below its row."""
JUDGES = ("synthesis", "consensus", "merge")
"""Lanes that nobody was asked for: what a judge makes of the others' answers."""


class Places(NamedTuple):
    """Lanes beside each other, and the height of each."""

    columns: int
    rows: int


def places_for(count: int, width: int, height: int) -> Places:
    """Return how lanes stand side by side: all in view if that is possible, else a whole number of rows of them."""
    if count < 1 or width < 1 or height < 1:
        return Places(1, LEAST_ROWS)
    for lane_width in (LANE_WIDTH, NARROW_WIDTH):
        columns = min(count, max(1, width // lane_width))
        rows = -(-count // columns)
        if rows * LEAST_ROWS <= height:
            return Places(-(-count // rows), height // rows)
    columns = max(1, width // LANE_WIDTH)
    rows = -(-count // columns)
    return Places(-(-count // rows), max(LEAST_ROWS, height // max(1, height // LEAST_ROWS)))


class LaneBoard(VerticalScroll, can_focus=True):
    """Holds the lanes of one team turn, found by the request id of their turn.

    Until a lane is chosen, keys mean the first; then they stay with the chosen one wherever it goes.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "move(-1,0)", "Left lane", show=False, id="team.left"),
        Binding("right", "move(1,0)", "Right lane", show=False, id="team.right"),
        Binding("up", "move(0,-1)", "Lane above", show=False, id="team.up"),
        Binding("down", "move(0,1)", "Lane below", show=False, id="team.down"),
        Binding("pageup", "read_lane(-1)", "Scroll lane up", show=False, id="team.scroll-up"),
        Binding("pagedown", "read_lane(1)", "Scroll lane down", show=False, id="team.scroll-down"),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.lanes: list[Lane] = []
        self.arrangement: Arrangement = "columns"
        self.by_arrival = True
        self._team: LiveTeam | None = None
        self._by_request: dict[str, Lane] = {}
        self._at = 0
        self._chosen = False
        self._columns = 1

    @property
    def at(self) -> Lane | None:
        """The lane the keys mean."""
        return self.lanes[min(self._at, len(self.lanes) - 1)] if self.lanes else None

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
        """Make the lanes of a team turn; those before it go."""
        self._team, self._at, self._chosen = team, 0, False
        await self.remove_children()
        lanes = {ai_id: Lane(ai_id, team.lanes.get(ai_id)) for ai_id in team.start.lanes}
        refused = [Lane(ai_id, None, refusal=reason) for ai_id, reason in team.start.refused.items()]
        self._by_request = {request_id: lanes[ai_id] for ai_id, request_id in team.start.lanes.items()}
        self.lanes = [*lanes.values(), *refused]
        for name, turn in team.lanes.items():
            if _is_judge(turn):
                self._add_judge(turn)
            elif name in lanes:
                self._by_request[turn.request_id] = lanes[name]
        await self.mount(*self.lanes)
        self.place()

    def take(self, turn: LiveTurn) -> bool:
        """Give a turn that began to its lane; return whether it belongs to this team turn."""
        if self._team is None or turn.group != self._team.start.request_id:
            return False
        lane = self._by_request.get(turn.request_id) or next(
            (lane for lane in self.lanes if not lane.is_judge and lane.ai_id == turn.lane), None
        )
        if lane is not None:
            self._by_request[turn.request_id] = lane
            lane.attach(turn)
        elif _is_judge(turn):
            self.mount(self._add_judge(turn))
            self.call_after_refresh(self.place)
        return True

    def place(self) -> None:
        """Put the lanes in order and in their places."""
        self._sort()
        lanes = self.lanes
        width, height = self.size.width, self.size.height
        places = places_for(len(lanes), width, height) if self.arrangement == "columns" else Places(1, height)
        self._columns = places.columns
        self.styles.grid_size_columns = places.columns
        self.styles.grid_rows = self._list_rows(height) if self.arrangement == "list" else str(places.rows)
        for lane in lanes:
            here = lane is self.at
            lane.set_class(here, "-focused")
            lane.as_row = self.arrangement == "list"
            lane.set_class(here and self._room_below(height), "-open")
            lane.display = self.arrangement != "zoom" or here
            lane.transcript.can_focus = self.arrangement == "zoom" and here
        self._give_focus()

    def action_move(self, right: int, down: int) -> None:
        """Go to another lane; beside each other a row down is as many lanes on as there are columns."""
        if self.lanes:
            step = right + down * (self._columns if self.arrangement == "columns" else 1)
            self._go(max(0, min(len(self.lanes) - 1, self._at + step)))

    def action_read_lane(self, pages: int) -> None:
        """Scroll the text of the lane in focus."""
        if lane := self.at:
            lane.transcript.scroll_relative(y=pages * max(1, lane.transcript.size.height - 1), animate=False)

    def go_to(self, lane: Lane) -> None:
        self._go(self.lanes.index(lane))

    def toggle(self, arrangement: Arrangement) -> None:
        """Show the lanes this way, or side by side again."""
        self.arrangement = "columns" if self.arrangement == arrangement else arrangement
        self._chosen = True
        self.place()
        if lane := self.at:
            self.call_after_refresh(lane.scroll_visible, animate=False)

    def on_resize(self) -> None:
        self.call_after_refresh(self.place)

    def _go(self, index: int) -> None:
        self._at, self._chosen = index, True
        self.place()
        self.call_after_refresh(self.lanes[index].scroll_visible, animate=False)

    def _room_below(self, height: int) -> bool:
        return self.arrangement == "list" and height - len(self.lanes) >= LEAST_OPEN_ROWS

    def _list_rows(self, height: int) -> str:
        """Return the heights of a list's rows: one each, what is spare to the one under the cursor."""
        spare = height - len(self.lanes) if self._room_below(height) else 0
        return " ".join(str(1 + spare * (lane is self.at)) for lane in self.lanes) or "1"

    def _give_focus(self) -> None:
        """Give the keys to the text of a lane that stands alone, and back to the board when it no longer does."""
        if not self.has_focus_within or self.at is None:
            return
        if self.arrangement == "zoom":
            self.at.transcript.focus()
        elif not self.has_focus:
            self.focus()

    def _sort(self) -> None:
        if self._team is None:
            return
        at = self.at
        asked, arrived = list(self._team.start.lanes), self._team.arrived
        order = arrived if self.by_arrival else asked
        places = {ai_id: place for place, ai_id in enumerate(order)}
        for lane in self.lanes:
            lane.place = arrived.index(lane.ai_id) + 1 if lane.ai_id in arrived and not lane.is_judge else 0
        before = list(self.lanes)
        self.lanes.sort(
            key=lambda lane: (
                lane.is_judge,
                places.get(lane.ai_id, len(asked)),
                asked.index(lane.ai_id) if lane.ai_id in asked else len(asked),
            )
        )
        if self.lanes != before or list(self.children) != self.lanes:
            wanted = {lane: place for place, lane in enumerate(self.lanes)}
            self.sort_children(key=lambda lane: wanted.get(lane, 0))  # pyright: ignore[reportArgumentType, reportCallIssue]
        if at is not None and self._chosen:
            self._at = self.lanes.index(at)

    def _add_judge(self, turn: LiveTurn) -> Lane:
        lane = self._by_request[turn.request_id] = Lane(turn.ai_id, turn, title=turn.lane.replace("/", " "))
        self.lanes.append(lane)
        return lane


def _is_judge(turn: LiveTurn) -> bool:
    return turn.lane.partition("/")[0] in JUDGES
