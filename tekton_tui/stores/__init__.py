"""What the console knows, in plain Python: fed by events, read by widgets, tested without a screen."""

from __future__ import annotations

from dataclasses import dataclass, field

from tekton_tui.stores.connection import ConnectionStore
from tekton_tui.stores.errors import ErrorStore
from tekton_tui.stores.fleet import FleetStore
from tekton_tui.stores.pipes import LiveRun, PipeStore
from tekton_tui.stores.signal import Signal
from tekton_tui.stores.timeline import Line, TimelineStore
from tekton_tui.stores.turns import LiveTeam, LiveTurn, TurnStore


@dataclass
class Stores:
    """All stores of one console."""

    fleet: FleetStore = field(default_factory=FleetStore)
    turns: TurnStore = field(default_factory=TurnStore)
    errors: ErrorStore = field(default_factory=ErrorStore)
    pipes: PipeStore = field(default_factory=PipeStore)
    timeline: TimelineStore = field(default_factory=TimelineStore)
    connection: ConnectionStore = field(default_factory=ConnectionStore)


__all__ = [
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
    "TurnStore",
]
