"""The lanes of a team turn in their places: side by side, as a list, or one alone; in order of arrival or of asking."""

from __future__ import annotations

from typing import Literal

from textual.containers import VerticalScroll

from tekton_tui.stores import LiveTeam, LiveTurn
from tekton_tui.widgets.lane import Lane

Arrangement = Literal["columns", "list", "zoom"]
LANE_WIDTH, LANE_ROWS, LIST_ROWS = 38, 9, 3
"""Least width and height of a lane beside others, and the height of one in a list."""
JUDGES = ("synthesis", "consensus", "merge")
"""Lanes that nobody was asked for: what a judge makes of the others' answers."""


class LaneBoard(VerticalScroll, can_focus=True):
    """Holds the lanes of one team turn, found by the request id of their turn."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.lanes: list[Lane] = []
        self.arrangement: Arrangement = "columns"
        self.by_arrival = True
        self._team: LiveTeam | None = None
        self._by_request: dict[str, Lane] = {}
        self._at = 0
        self._columns = 1

    @property
    def at(self) -> Lane | None:
        """The lane the keys mean."""
        return self.lanes[min(self._at, len(self.lanes) - 1)] if self.lanes else None

    def lane_of(self, turn: LiveTurn) -> Lane | None:
        return self._by_request.get(turn.request_id)

    async def show_team(self, team: LiveTeam) -> None:
        """Make the lanes of a team turn; those before it go."""
        self._team, self._at = team, 0
        await self.remove_children()
        asked = {
            request_id: Lane(ai_id, team.lanes.get(ai_id)) for ai_id, request_id in team.start.lanes.items()
        }
        refused = [Lane(ai_id, None, refusal=reason) for ai_id, reason in team.start.refused.items()]
        self._by_request = asked
        self.lanes = [*asked.values(), *refused]
        for name, turn in team.lanes.items():
            if name in JUDGES:
                self._add_judge(name, turn)
        await self.mount(*self.lanes)
        self.place()

    def take(self, turn: LiveTurn) -> bool:
        """Give a turn that began to its lane; return whether it belongs to this team turn."""
        if self._team is None or turn.group != self._team.start.request_id:
            return False
        name = turn.request_id.removeprefix(f"{turn.group}/")
        if lane := self._by_request.get(turn.request_id):
            lane.attach(turn)
        elif name in JUDGES:
            self.mount(self._add_judge(name, turn))
            self.call_after_refresh(self.place)
        return True

    def place(self) -> None:
        """Put the lanes in order and in their places."""
        self._sort()
        lanes = self.lanes
        columns = max(1, self.size.width // LANE_WIDTH) if self.arrangement == "columns" else 1
        rows = -(-len(lanes) // columns) if lanes else 1
        self._columns = -(-len(lanes) // rows) if lanes else 1
        heights = {
            "columns": max(LANE_ROWS, self.size.height // max(1, rows)),
            "list": LIST_ROWS,
            "zoom": self.size.height,
        }
        self.styles.grid_size_columns = self._columns
        self.styles.grid_rows = str(heights[self.arrangement])
        for lane in lanes:
            lane.set_class(lane is self.at, "-focused")
            lane.set_class(self.arrangement == "list", "-list")
            lane.display = self.arrangement != "zoom" or lane is self.at

    def move(self, right: int, down: int) -> None:
        """Go to another lane; beside each other a row down is as many lanes on as there are columns."""
        if self.lanes:
            step = right + down * (self._columns if self.arrangement == "columns" else 1)
            self._at = max(0, min(len(self.lanes) - 1, self._at + step))
            self.place()
            self.lanes[self._at].scroll_visible(animate=False)

    def go_to(self, lane: Lane) -> None:
        self._at = self.lanes.index(lane)
        self.place()

    def toggle(self, arrangement: Arrangement) -> None:
        """Show the lanes this way, or side by side again."""
        self.arrangement = "columns" if self.arrangement == arrangement else arrangement
        self.place()

    def _sort(self) -> None:
        at = self.at
        if self._team is None:
            return
        asked = list(self._team.start.lanes)
        order = self._team.arrived if self.by_arrival else asked
        places = {ai_id: place for place, ai_id in enumerate(order)}
        self.lanes.sort(
            key=lambda lane: (
                lane.is_judge,
                places.get(lane.ai_id, len(asked)),
                asked.index(lane.ai_id) if lane.ai_id in asked else len(asked),
            )
        )
        wanted = {lane: place for place, lane in enumerate(self.lanes)}
        self.sort_children(key=lambda lane: wanted.get(lane, 0))  # pyright: ignore[reportArgumentType, reportCallIssue]
        if at is not None:
            self._at = self.lanes.index(at)

    def _add_judge(self, name: str, turn: LiveTurn) -> Lane:
        lane = self._by_request[turn.request_id] = Lane(turn.ai_id, turn, title=name)
        if lane not in self.lanes:
            self.lanes.append(lane)
        return lane
