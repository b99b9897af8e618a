"""Why a key has no use on a team's answers now. Pure: of the team turn and its lanes."""

from __future__ import annotations

from tekton_tui.stores import LiveTeam
from tekton_tui.widgets.team.lane_grid import LaneGrid


def why_not(verb: str, team: LiveTeam | None, grid: LaneGrid) -> str:
    """Return why a verb of the table has no use, as a sentence; empty if it has one."""
    lane, meant = grid.current, grid.picked or grid.current
    match verb:
        case "stop" if lane is not None and lane not in grid.running:
            return f"{lane.name_shown} has ended: there is nothing to stop"
        case "kill" if team is not None and team.end is not None and not grid.running:
            return "all have ended: there is nothing to stop"
        case "team" if team is None or team.end is None:
            return "a discussion starts when the team has answered"
        case "joint" if _whole(grid) < 2:
            return "a joint answer needs two whole answers"
        case "vote" if _whole(grid) < 2:
            return "a vote needs two whole answers, and a member that runs"
        case "compare" if sum(bool(each.text) for each in grid.lanes) < 2:
            return "a comparison needs two answers"
        case "pin" if lane is not None and not lane.text:
            return f"{lane.name_shown} has no answer to pick"
        case "copy" | "pipe" | "quote" if meant is not None and not meant.text:
            return f"{meant.name_shown} has no answer yet"
        case _:
            return ""


def _whole(grid: LaneGrid) -> int:
    return sum(lane.answered for lane in grid.members)
