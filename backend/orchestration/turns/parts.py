"""What every step of a turn works with, put together once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from backend.events import EventStream
from backend.memory import MessageStore, TurnStore
from backend.orchestration.error_log import ErrorLog
from backend.orchestration.sessions import Sessions
from backend.orchestration.turns.budgets import Budgets
from backend.orchestration.turns.context_builder import ContextBuilder
from backend.orchestration.turns.request import ChatRequest
from backend.schema.frames import Request, StreamToolResult, StreamToolUse
from backend.specialists.supervisor import Supervisor


class DecidesTools(Protocol):
    """Who decides over the tool calls of a turn."""

    def take(
        self, use: StreamToolUse, session_id: str, asked: ChatRequest, send: Callable[[Request], None]
    ) -> None:
        """Take a call; `send` gets the verdict, once, unless the turn ends before."""
        ...

    def finished(self, result: StreamToolResult) -> None:
        """Note what came of a call that ran."""
        ...

    def turn_ended(self, request_id: str) -> None:
        """Give up what a turn left open."""
        ...


@dataclass(frozen=True)
class TurnParts:
    """The rooms around a turn: who answers it, where it is kept, who hears of it, what it may cost and do."""

    fleet: Supervisor
    messages: MessageStore
    turn_store: TurnStore
    sessions: Sessions
    events: EventStream
    error_log: ErrorLog
    contexts: ContextBuilder
    budgets: Budgets
    approvals: DecidesTools
