"""A turn and a team turn as the console knows them, while they run and of earlier."""

from __future__ import annotations

import time
from collections.abc import Sequence

from msgspec import Struct, field

from backend.schema.content import Attachment
from backend.schema.events import (
    TeamEnd,
    TeamStart,
    TurnStarted,
)
from backend.schema.frames import (
    Phase,
    Usage,
)
from backend.schema.records import ActiveTurn, StoredMessage
from tekton_tui.clock import gateway_time
from tekton_tui.stores.tool_calls import LiveCall, calls_of

LEAST_TOKENS, LEAST_SECONDS = 8, 0.5
"""From fewer tokens, or in a shorter time, a speed says nothing."""


def speed_of(tokens: int, seconds: float) -> float | None:
    """Return tokens per second, `None` where there is too little to tell."""
    return tokens / seconds if tokens >= LEAST_TOKENS and seconds >= LEAST_SECONDS else None


class LiveTurn(Struct):
    """One turn. `ended` is set once; `code` then says whether and how it failed."""

    request_id: str
    ai_id: str
    session_id: str
    prompt: str
    group: str
    started_at: float
    phase: Phase = "queued"
    phase_since: float = field(default_factory=time.time)
    detail: str = ""
    position: int = 0
    text: list[str] = field(default_factory=list[str])
    reasoning: list[str] = field(default_factory=list[str])
    pieces: int = 0
    first_token_ms: float | None = None
    first_at: float = 0.0
    reasoned_at: float = 0.0
    """When its model began to think, as far as this console saw."""
    ended: bool = False
    stored: bool = False
    """Whether it is of earlier, read from memory."""
    unseen: bool = False
    """Whether it ended while the connection was lost: how it ended is known to memory alone."""
    code: str = ""
    error: str = ""
    tokens: int = 0
    estimated: bool = False
    """Whether its provider did not count its tokens, and the backend guessed."""
    context: int = 0
    """Tokens of its prompt and its answer together, as the provider counted them; 0 while unknown."""
    total_time: float = 0.0
    cost: float = 0.0
    """In `currency`, 0 where nothing has a price or it is not known."""
    currency: str = "USD"
    finish_reason: str = ""
    notes: list[str] = field(default_factory=list[str])
    attached: Sequence[Attachment] = ()
    """Files that went along with its question."""
    after: str = ""
    """Behind which question it stands, where that is not the newest one."""
    calls: dict[int, LiveCall] = field(default_factory=dict[int, LiveCall])
    """Its tool calls, in the order they began."""
    left_out: int = 0
    """Characters before its text and reasoning that are on their way."""

    @property
    def content(self) -> str:
        return "".join(self.text)

    @property
    def waits(self) -> bool:
        """Whether it waits behind other turns and nothing of it was asked yet."""
        return self.phase == "queued" and self.position > 0 and not self.pieces

    @property
    def lane(self) -> str:
        """Name of its lane in a team turn: the specialist's id, also when asked again, or what a judge makes."""
        name = self.request_id.removeprefix(f"{self.group}/")
        return self.ai_id if name.startswith(f"{self.ai_id}/") else name

    def rate(self) -> float | None:
        """Return tokens per second since the first token, `None` where there is too little to tell."""
        if not self.first_at:
            return None
        if not self.ended:
            return speed_of(self.pieces - 1, gateway_time() - self.first_at)
        return speed_of(max(self.tokens, self.pieces), self.total_time - (self.first_token_ms or 0.0) / 1000)

    def recall(self, message: StoredMessage) -> None:
        """Set the end of a turn as memory has it."""
        self.text, self.code, self.error = [message.content], message.error_code or "", message.error
        self.ended, self.unseen, self.left_out = True, False, 0
        self.take_calls(calls_of(message.parts, message.finish_reason or ""))

    def take_calls(self, calls: Sequence[LiveCall]) -> None:
        """Take its calls as the backend has them, in the place of what was seen of them."""
        self.calls = {call.index: call for call in calls}

    def call_open(self, tool: str, arguments: str | None = None) -> LiveCall | None:
        """Return the first of its calls that is open: of this tool, and with these arguments if they are given."""
        for call in self.calls.values():
            if call.open and call.name == tool and arguments in (None, call.arguments):
                return call
        return None


class LiveTeam(Struct):
    """A team turn: lanes by specialist id, in the order asked; `arrived` orders those that have text."""

    start: TeamStart
    lanes: dict[str, LiveTurn] = field(default_factory=dict[str, LiveTurn])
    arrived: list[str] = field(default_factory=list[str])
    finished: list[str] = field(default_factory=list[str])
    """Lanes in the order in which they ended."""
    end: TeamEnd | None = None
    ahead: int = 0
    """Questions of its session that are asked before it."""


def earlier_teams(messages: Sequence[StoredMessage]) -> list[LiveTeam]:
    """Return the team turns of a session's messages, the oldest first, as they ended."""
    teams: dict[str, LiveTeam] = {}
    for message in messages:
        if message.role == "user" and message.request_id:
            start = TeamStart(message.request_id, message.session_id, message.content, {}, message.created_at)
            teams[message.request_id] = LiveTeam(start)
    for message in messages:
        group = message.lane
        if message.role == "user" or not group:
            continue
        if group not in teams:
            teams[group] = LiveTeam(
                TeamStart(group, message.session_id, "a round of discussion", {}, message.created_at)
            )
        team, turn = teams[group], _of_earlier(message)
        team.lanes[turn.lane] = turn
        team.finished = [*(lane for lane in team.finished if lane != turn.lane), turn.lane]
        if turn.lane == turn.ai_id:
            team.start.lanes[turn.ai_id] = turn.request_id
    found = [team for team in teams.values() if team.lanes]
    for team in found:
        codes = [turn.code for turn in team.lanes.values()]
        stopped = codes.count("cancelled")
        failed = sum(bool(code) for code in codes) - stopped
        took = max(turn.total_time for turn in team.lanes.values())
        team.arrived = list(team.finished)
        team.end = TeamEnd(team.start.request_id, len(codes) - stopped - failed, failed, stopped, took)
    return found


def complete(team: LiveTeam) -> None:
    """Give each member of a team turn that ended unseen a turn: one that waited had none, and the store knows its end."""
    for ai_id, request_id in team.start.lanes.items():
        if ai_id not in team.lanes:
            start = team.start
            turn = LiveTurn(request_id, ai_id, start.session_id, "", start.request_id, start.timestamp)
            turn.ended = turn.unseen = True
            team.lanes[turn.lane] = turn


def _of_earlier(message: StoredMessage) -> LiveTurn:
    usage, took = message.usage or Usage(), message.total_time or 0.0
    code = message.error_code or ("cancelled" if message.finish_reason == "cancelled" else "")
    return LiveTurn(
        message.request_id,
        message.author,
        message.session_id,
        "",
        message.lane,
        message.created_at - took,
        phase="streaming",
        text=[message.content],
        reasoning=[message.reasoning] if message.reasoning else [],
        pieces=usage.output_tokens,
        first_token_ms=message.first_token_ms,
        first_at=message.created_at,
        ended=True,
        stored=True,
        code=code,
        error=message.error,
        tokens=usage.output_tokens,
        total_time=took,
        finish_reason=message.finish_reason or "",
        calls={call.index: call for call in calls_of(message.parts, message.finish_reason or "")},
    )


def begun(turn: TurnStarted | ActiveTurn, at: float) -> LiveTurn:
    return LiveTurn(
        turn.request_id, turn.ai_id, turn.session_id, turn.prompt, turn.group, at, attached=turn.attached
    )
