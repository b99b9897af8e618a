"""The console's state, in plain Python: fed by events, read by widgets, tested without a screen."""

from __future__ import annotations

from dataclasses import dataclass, field

from backend.schema.attention import AttentionItem, Waiting, count_waiting
from backend.schema.records import Session
from tekton_tui.clock import gateway_time
from tekton_tui.stores.asks import AskStore
from tekton_tui.stores.attention import AttentionStore
from tekton_tui.stores.connection import ConnectionStore
from tekton_tui.stores.errors import ErrorStore
from tekton_tui.stores.fleet import FleetStore
from tekton_tui.stores.live_turn import LiveTeam, LiveTurn
from tekton_tui.stores.pipes import LiveRun, PipeStore
from tekton_tui.stores.signal import Signal
from tekton_tui.stores.timeline import Line, TimelineStore
from tekton_tui.stores.turn_log import TurnLog
from tekton_tui.stores.turns import TurnStore


@dataclass
class Stores:
    """All stores of one console."""

    fleet: FleetStore = field(default_factory=FleetStore)
    turns: TurnStore = field(default_factory=TurnStore)
    errors: ErrorStore = field(default_factory=ErrorStore)
    asks: AskStore = field(default_factory=AskStore)
    attention: AttentionStore = field(default_factory=AttentionStore)
    pipes: PipeStore = field(default_factory=PipeStore)
    turn_log: TurnLog = field(default_factory=TurnLog)
    timeline: TimelineStore = field(default_factory=TimelineStore)
    connection: ConnectionStore = field(default_factory=ConnectionStore)
    waiting_changed: Signal[[]] = field(default_factory=Signal[[]])
    """Emitted when something more or less waits for the operator."""
    session_changed: Signal[[Session]] = field(default_factory=Signal[[Session]])
    """Emitted with a conversation that was named, archived or made the default, by whomever."""
    session_removed: Signal[[str]] = field(default_factory=Signal[[str]])
    """Emitted with the id of a conversation that was deleted."""

    def __post_init__(self) -> None:
        self.asks.changed.subscribe(self.waiting_changed.emit)
        self.attention.changed.subscribe(self.waiting_changed.emit)
        self.turns.shown.subscribe(lambda whose: self.waiting_changed.emit())

    @property
    def unanswered(self) -> tuple[str, str] | None:
        """Why nothing is known, and what helps; `None` once the backend has said what there is."""
        if self.connection.state == "failed":
            return "No backend is attached. F5 tries again.", self.connection.reason
        return None if self.fleet.platform is not None else ("Attaching to the backend…", "")

    def counts(self) -> Waiting:
        """Return how much of the queue is what: no answer that is on the screen, and tool calls as they come."""
        others = [
            item
            for item in self.attention.items.values()
            if item.kind != "asks" and not self._on_screen(item)
        ]
        counts = count_waiting(others, gateway_time())
        answered = {f"asks:{name}" for name in self.asks.answered}
        asks = {item.id for item in self.attention.open() if item.kind == "asks"} - answered
        asks |= {f"asks:{name}" for name in self.asks.asks}
        return counts._replace(yours=counts.yours + len(asks))

    def waiting(self) -> int:
        """Return how much goes on only when the operator acts; what failed and what was answered is not of it."""
        return self.counts().yours

    def failed(self) -> int:
        """Return how much failed and was not acknowledged."""
        return self.counts().failed

    def unread_team(self) -> int:
        """Return how many answers of the team nobody has seen."""
        return sum(item.who == "team" for item in self._unread())

    def unread_chats(self) -> int:
        """Return how many answers of single specialists nobody has seen."""
        return sum(item.who in self.fleet.rows for item in self._unread())

    def _unread(self) -> list[AttentionItem]:
        items = self.attention.items.values()
        return [item for item in items if item.kind == "done" and not self._on_screen(item)]

    def _on_screen(self, item: AttentionItem) -> bool:
        return item.kind == "done" and item.who == self.turns.reading


__all__ = [
    "AskStore",
    "AttentionStore",
    "ConnectionStore",
    "ErrorStore",
    "FleetStore",
    "Line",
    "LiveRun",
    "LiveTeam",
    "LiveTurn",
    "PipeStore",
    "Signal",
    "Stores",
    "TimelineStore",
    "TurnLog",
    "TurnStore",
]
