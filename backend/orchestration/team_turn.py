"""A team turn as it stands: what was asked, who said what so far, what came of it. Values; asks nobody."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from msgspec import Struct

from backend.orchestration.settings import Mode, Style
from backend.orchestration.turn import Turn
from backend.schema.events import TeamStart
from backend.schema.frames import ChatMessage, PreviousOutput, TurnContext
from backend.schema.records import TurnOutcome


class TeamOrder(Struct, omit_defaults=True):
    """What is asked of a team. No targets: all that run, or in mode `directed` those that suit the request.

    `previous` are answers each member sees, its own left out (a discussion round). `messages` stand for the session's
    where the caller keeps the conversation himself. `style` is Rhetor's for this turn. `key` names the conversation
    whose events these are: a further round's is the first one's request id.
    """

    content: str
    target_ids: list[str] | None = None
    mode: Mode | None = None
    timeout_s: float | None = None
    session_id: str = ""
    request_id: str = ""
    temperature: float | None = None
    max_tokens: int | None = None
    context: TurnContext | None = None
    round: int = 1
    previous: list[PreviousOutput] = []
    question: str = ""
    messages: list[ChatMessage] | None = None
    style: Style | None = None
    key: str = ""


class TeamOutcome(Struct):
    """All that came of a team turn; answers in the order of arrival."""

    request_id: str
    session_id: str
    mode: Mode
    answers: list[TurnOutcome]
    failures: list[TurnOutcome]
    synthesis: str
    consensus: str
    elapsed: float


@dataclass
class TeamRun:
    """A team turn under way or ended; `done` resolves to its outcome and never raises."""

    order: TeamOrder
    session_id: str
    start: TeamStart
    done: asyncio.Future[TeamOutcome]
    places: asyncio.Semaphore
    """How many members answer at once."""
    began: float = field(default_factory=time.monotonic)
    gathered: bool = False
    """Every member's call has ended: what is asked of one from now on is no part of this turn's outcome."""
    stopped: bool = False
    """Cancelled: members not asked yet are not asked any more."""
    turns: dict[str, Turn] = field(default_factory=dict[str, Turn])
    """The newest turn of each member that could be asked."""
    asking: dict[str, asyncio.Task[TurnOutcome]] = field(
        default_factory=dict[str, "asyncio.Task[TurnOutcome]"]
    )
    """The newest call of each member, by specialist id; named by the turn's request id."""
    calls: dict[str, str] = field(default_factory=dict[str, str])
    """Turns of members asked again, by the request id of whoever asked."""
    said: dict[str, TurnOutcome] = field(default_factory=dict[str, TurnOutcome])
    """What stands for each member, in the order of arrival."""
    moderation: str = ""
    """Request id of the turn in which Rhetor writes over the answers, while he does."""
    unmoderated: TurnOutcome | None = None
    """Rhetor's failure to write over the answers."""

    @property
    def key(self) -> str:
        """The conversation whose events are told of this run."""
        return self.order.key or self.order.request_id

    def take(self, outcome: TurnOutcome) -> None:
        """Let an outcome stand for its member: an answer over what was before, a failure over no answer."""
        before = self.said.get(outcome.ai_id)
        if outcome.code is None or before is None or before.code is not None:
            self.said.pop(outcome.ai_id, None)
            self.said[outcome.ai_id] = outcome

    @property
    def pending(self) -> list[asyncio.Task[TurnOutcome]]:
        """Calls of members that have not ended."""
        return [task for task in self.asking.values() if not task.done()]

    @property
    def open_turns(self) -> list[str]:
        """Request ids of all turns of this run that have not ended."""
        members = [task.get_name() for task in self.pending]
        return [*members, self.moderation] if self.moderation else members

    @property
    def answers(self) -> list[TurnOutcome]:
        return [outcome for outcome in self.said.values() if outcome.code is None]

    @property
    def failures(self) -> list[TurnOutcome]:
        failed = [outcome for outcome in self.said.values() if outcome.code]
        return [*failed, self.unmoderated] if self.unmoderated else failed

    def outcome(self, synthesis: str = "", consensus: str = "") -> TeamOutcome:
        """Say what came of the run up to now."""
        return TeamOutcome(
            self.order.request_id,
            self.session_id,
            self.order.mode or "pass_through",
            self.answers,
            self.failures,
            synthesis,
            consensus,
            time.monotonic() - self.began,
        )
