"""Turns under way and just ended, alone or as lanes of a team: their phase, text and end."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from backend.schema.events import (
    AskClosed,
    Snapshot,
    TeamEnd,
    TeamQueued,
    TeamStart,
    TurnChanged,
    TurnStarted,
    TurnText,
)
from backend.schema.frames import (
    Phase,
    StreamEnd,
    StreamError,
    StreamPhase,
    StreamToolCall,
    StreamToolResult,
    StreamToolUse,
)
from backend.schema.records import StoredMessage
from backend.schema.tools import Ask
from tekton_tui.clock import gateway_time
from tekton_tui.stores.live_turn import LiveTeam, LiveTurn, begun, complete, earlier_teams
from tekton_tui.stores.signal import Signal
from tekton_tui.stores.tool_calls import LiveCall, calls_of, shown_name

KEPT_TEAMS = 20


class TurnStore:
    """Fed with events; each signal is emitted with its turn or team."""

    def __init__(self) -> None:
        self.turns: dict[str, LiveTurn] = {}
        self.teams: dict[str, LiveTeam] = {}
        self.started: Signal[[LiveTurn]] = Signal()
        self.text: Signal[[LiveTurn, str]] = Signal()
        self.reasoning: Signal[[LiveTurn, str]] = Signal()
        self.phase: Signal[[LiveTurn]] = Signal()
        self.tool: Signal[[LiveTurn, LiveCall]] = Signal()
        """Emitted with a tool call that began or changed."""
        self.ended: Signal[[LiveTurn]] = Signal()
        self.team_started: Signal[[LiveTeam]] = Signal()
        self.team_ended: Signal[[LiveTeam]] = Signal()
        self.reloaded: Signal[[]] = Signal()
        """Emitted when everything was replaced: events were missed, what memory holds has to be read anew."""
        self._shortened: dict[str, LiveTurn] = {}
        """Turns of which a part is on its way, ended ones included."""
        self.restored: Signal[[LiveTurn]] = Signal()
        """Emitted with a turn whose text has become whole at its beginning."""
        self.reworded: Signal[[LiveTurn]] = Signal()
        """Emitted with a turn whose question was put in other words while it waited."""
        self.team_reworded: Signal[[LiveTeam]] = Signal()
        self.corrected: Signal[[StoredMessage]] = Signal()
        """Emitted with an answer that is in memory in the place of another end of its turn, which was shown before."""
        self._reading = ""
        self.shown: Signal[[str]] = Signal()
        """Emitted with whose conversation came on the screen, the `team`'s too; empty for none."""

    @property
    def reading(self) -> str:
        """Whose conversation is on the screen, empty for none."""
        return self._reading

    def read(self, whose: str) -> None:
        """Take note of whose conversation is on the screen, empty for none: its answers are seen."""
        self._reading = whose
        self.shown.emit(whose)

    def leave(self, whose: str) -> None:
        """Take note that a conversation left the screen; another may have come before."""
        if self._reading == whose:
            self.read("")

    def load(self, snapshot: Snapshot) -> None:
        """Replace everything by a snapshot; turns that were under way and are not in it have ended unseen."""
        known, self.turns = self.turns, {}
        for turn in self._shortened.values():
            if turn.ended:
                turn.unseen = True  # memory alone has all of it
        self._shortened = {}
        running = {team.request_id for team in snapshot.teams}
        for known_id, team in self.teams.items():
            if team.end is None and known_id not in running:
                answered = sum(turn.ended for turn in team.lanes.values())
                complete(team)
                took_s = gateway_time() - team.start.timestamp
                self.end_team(TeamEnd(known_id, answered, len(team.lanes) - answered, 0, took_s))
        for team in snapshot.teams:
            self.teams.setdefault(team.request_id, LiveTeam(team))
        for active in snapshot.turns:
            # The same object as before where there is one: widgets hold it.
            turn = known.get(active.request_id) or begun(active, active.started_at)
            turn.text = [active.content] if active.content else []
            turn.reasoning = [active.reasoning]
            turn.phase, turn.phase_since, turn.pieces = active.phase, active.phase_since, active.chunks
            turn.first_token_ms = active.first_token_ms
            turn.detail, turn.position = active.detail, active.position
            turn.left_out = active.left_out
            if turn.left_out:
                self._shortened[turn.request_id] = turn
            turn.take_calls(calls_of(active.parts))
            self._run_call(turn)
            self._add(turn)
        for request_id, turn in known.items():
            if request_id not in self.turns:
                turn.ended, turn.unseen = True, True
        self.reloaded.emit()

    @property
    def catching_up(self) -> int:
        """How many turns have text that is still on its way."""
        return len(self._shortened)

    def restore(self, event: TurnText) -> None:
        """Put what a snapshot left out before the text of its turn, which may have ended since."""
        turn = self._shortened.pop(event.request_id, None)
        if turn is None or not turn.left_out:  # memory may have given all of it meanwhile
            return
        turn.text.insert(0, event.content)
        turn.reasoning.insert(0, event.reasoning)
        for call in turn.calls.values():
            call.at += len(event.content)
        turn.left_out = 0
        self.restored.emit(turn)

    def start(self, event: TurnStarted) -> None:
        turn = begun(event, event.timestamp)
        turn.after = event.after
        self._add(turn)
        self.started.emit(turn)

    def add_text(self, request_id: str, content: str, pieces: int = 1) -> None:
        """Add text that came in so many pieces."""
        turn = self.turns.get(request_id)
        if turn is None:
            return
        if not turn.pieces:
            turn.first_at = gateway_time()
            # as seen from here; the backend's own measure takes its place at the end
            turn.first_token_ms = (turn.first_at - turn.started_at) * 1000
            self._arrive(turn)
        if turn.phase != "streaming":
            self._set_phase(turn, "streaming", "")
        turn.pieces += pieces
        turn.text.append(content)
        self.text.emit(turn, content)

    def add_reasoning(self, request_id: str, content: str) -> None:
        if turn := self.turns.get(request_id):
            turn.reasoned_at = turn.reasoned_at or gateway_time()
            turn.reasoning.append(content)
            self.reasoning.emit(turn, content)

    def set_phase(self, event: StreamPhase) -> None:
        if turn := self.turns.get(event.request_id):
            turn.position = event.position
            self._set_phase(turn, event.phase, event.detail)
            if call := self._run_call(turn):
                self.tool.emit(turn, call)

    def call_tool(self, event: StreamToolCall) -> None:
        """Take the beginning of a tool call, or more of its arguments."""
        if turn := self.turns.get(event.request_id):
            call = self._call(turn, event.index)
            call.name = call.name or shown_name(event.name)
            call.pieces.append(event.arguments)
            self.tool.emit(turn, call)

    def use_tool(self, event: StreamToolUse) -> None:
        """Take that a call is whole and waits for the platform's word."""
        if turn := self.turns.get(event.request_id):
            call = self._call(turn, event.index)
            call.name, call.pieces = event.tool, [event.arguments]
            self.tool.emit(turn, call)

    def ask_opened(self, ask: Ask) -> None:
        """Take that a call waits for a person."""
        turn = self.turns.get(ask.request_id)
        if turn is not None and (call := turn.call_open(ask.tool, ask.arguments)):
            call.enter("asking")
            call.since, call.ask_id = ask.since, ask.id
            self.tool.emit(turn, call)

    def ask_closed(self, event: AskClosed) -> None:
        """Take that a person answered; whether it runs, its turn tells."""
        for turn in self.of_specialist(event.ai_id):
            for call in turn.calls.values():
                if call.open and call.ask_id == event.id:
                    call.enter("calling")
                    verdict = "allowed" if event.verdict == "allow" else "denied"
                    call.ask_id, call.detail = "", f"{verdict} by {event.by}"
                    self.tool.emit(turn, call)

    def tool_result(self, event: StreamToolResult) -> None:
        if turn := self.turns.get(event.request_id):
            call = self._call(turn, event.index)
            call.name = call.name or shown_name(event.tool)
            call.end(event.content, is_error=event.is_error, size=event.size, took_ms=event.took_ms)
            self.tool.emit(turn, call)

    def finish(self, event: StreamEnd | StreamError) -> None:
        turn = self.turns.pop(event.request_id, None)
        if turn is None:
            return
        turn.ended = True
        turn.text = [turn.content]  # joined once: whole answers are read again and again
        if (team := self.teams.get(turn.group)) is not None:
            team.finished = [*(lane for lane in team.finished if lane != turn.lane), turn.lane]
        match event:
            case StreamEnd(metadata=facts):
                turn.tokens = facts.usage.output_tokens
                turn.context, turn.estimated = (
                    facts.context_tokens or facts.usage.total,
                    facts.usage.estimated,
                )
                turn.total_time = facts.total_time or gateway_time() - turn.started_at
                if facts.first_token_ms is not None:
                    turn.first_token_ms = facts.first_token_ms
                turn.finish_reason, turn.notes = facts.finish_reason, facts.notes
                turn.cost, turn.currency = facts.cost or 0.0, facts.currency
                if facts.finish_reason == "cancelled":
                    turn.code = "cancelled"
            case StreamError():
                turn.total_time = gateway_time() - turn.started_at
                turn.code, turn.error = event.code, event.message
        for call in [call for call in turn.calls.values() if call.open]:
            call.end_without(turn.finish_reason)
            self.tool.emit(turn, call)
        self.ended.emit(turn)

    def recall_teams(self, messages: Sequence[StoredMessage]) -> list[LiveTeam]:
        """Put the team turns of a session before those this console saw; return them, the oldest first."""
        found = earlier_teams(messages)
        known = {team.start.request_id: self.teams.get(team.start.request_id, team) for team in found}
        self.teams = {**known, **{name: team for name, team in self.teams.items() if name not in known}}
        return list(known.values())

    def start_team(self, event: TeamStart) -> None:
        team = LiveTeam(event)
        self.teams[event.request_id] = team
        while len(self.teams) > KEPT_TEAMS:
            del self.teams[next(iter(self.teams))]
        self.team_started.emit(team)

    def queue_team(self, event: TeamQueued) -> None:
        if team := self.teams.get(event.request_id):
            team.ahead = event.ahead

    def change_prompt(self, event: TurnChanged) -> None:
        """Take the new words of a question that waits; views read its conversation anew."""
        if turn := self.turns.get(event.request_id):
            turn.prompt = event.prompt
            self.reworded.emit(turn)
        elif team := self.teams.get(event.request_id):
            team.start = msgspec.structs.replace(team.start, prompt=event.prompt)
            self.team_reworded.emit(team)

    def correct(self, message: StoredMessage) -> None:
        """Take that memory has another end of a turn than was told; views read its conversation anew."""
        for team in self.teams.values():
            for turn in team.lanes.values():
                turn.unseen = turn.unseen or turn.request_id == message.request_id
        self.corrected.emit(message)

    def end_team(self, event: TeamEnd) -> None:
        if team := self.teams.get(event.request_id):
            team.end = event
            self.team_ended.emit(team)

    def of_specialist(self, ai_id: str) -> list[LiveTurn]:
        return [turn for turn in self.turns.values() if turn.ai_id == ai_id]

    def waiting(self, turn: LiveTurn) -> bool:
        """Whether a turn has not begun because an earlier one of its session is under way."""
        if turn.ended or turn.pieces or turn.phase != "queued" or turn.group:
            return False
        for other in self.turns.values():
            # turns stand in the order in which they were accepted: only those before it can hold it up
            if other is turn:
                return False
            if other.session_id == turn.session_id:
                return True
        return False

    def _add(self, turn: LiveTurn) -> None:
        self.turns[turn.request_id] = turn
        if team := self.teams.get(turn.group):
            team.lanes[turn.lane] = turn
            if turn.pieces:
                self._arrive(turn)

    def _arrive(self, turn: LiveTurn) -> None:
        team = self.teams.get(turn.group)
        if team is not None and turn.lane not in team.arrived:
            team.arrived.append(turn.lane)

    def _call(self, turn: LiveTurn, index: int) -> LiveCall:
        if index not in turn.calls:
            turn.calls[index] = LiveCall(index, sum(map(len, turn.text)))
        return turn.calls[index]

    def _run_call(self, turn: LiveTurn) -> LiveCall | None:
        """Note that the call runs of which a turn's phase speaks; return it."""
        if turn.phase != "tool":
            return None
        tool, _, progress = turn.detail.partition(" ")
        if call := turn.call_open(tool):
            call.enter("running")
            call.detail = progress
        return call

    def _set_phase(self, turn: LiveTurn, phase: Phase, detail: str) -> None:
        turn.phase, turn.phase_since, turn.detail = phase, gateway_time(), detail
        self.phase.emit(turn)
