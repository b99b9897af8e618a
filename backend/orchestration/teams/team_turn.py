"""A team turn as it stands: what was asked, who said what so far, what came of it. Values; asks nobody."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass, field

import msgspec
from msgspec import Struct

from backend.memory import TEAM
from backend.orchestration.sessions import Place
from backend.orchestration.turns.turn import Turn, beside_text_bytes, last_frame, without_words
from backend.schema.errors import ErrorCode
from backend.schema.events import TeamStart, TurnStarted
from backend.schema.frames import (
    ChatMessage,
    PreviousOutput,
    StreamChunk,
    StreamEnd,
    StreamError,
    TurnContext,
)
from backend.schema.orchestration import Mode, Style
from backend.schema.records import TurnOutcome
from backend.schema.tools import CallRules
from backend.wire import encoder


class TeamRequest(Struct, omit_defaults=True):
    """What is asked of a team. No targets: all that run, or in mode `directed` those that suit the request.

    `previous` are answers each member sees, its own left out (a discussion round). `messages` stand for the session's
    where the caller keeps the conversation himself. `style` is Rhetor's for this turn. `key` names the conversation
    whose events these are: a further round's is the first one's request id. `owners` may own the session. `attend` when nobody
    waits for the answers, so that they wait for somebody.
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
    owners: tuple[str, ...] = (TEAM,)
    attend: bool = False
    about: str = ""
    """The team turn that a discussion round is about."""
    rules: CallRules | None = None

    def asks_the_same(self, other: TeamRequest) -> bool:
        """Return whether two requests are one question to the same members; how it is answered may differ."""
        return (
            self.content == other.content
            and self.target_ids == other.target_ids
            and self.messages == other.messages
            and self.about == other.about
            and (self.session_id == other.session_id or not (self.session_id and other.session_id))
        )


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

    request: TeamRequest
    session_id: str
    start: TeamStart
    done: asyncio.Future[TeamOutcome]
    places: asyncio.Semaphore
    """How many members answer at once."""
    began: float = field(default_factory=time.monotonic)
    gathered: bool = False
    """Every member's call has ended: what is asked of one from now on is no part of this turn's outcome."""
    first: TeamRequest | None = None
    """What it was before it was changed while it waited."""
    stopped: bool = False
    """Cancelled: members not asked yet are not asked any more."""
    place: Place | None = None
    """Its place in the queue of its session, where it reads that."""
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
    def request_id(self) -> str:
        return self.request.request_id

    @property
    def opens(self) -> dict[str, str]:
        """The specialist of each member's turn, by the turn's request id."""
        return {request_id: ai_id for ai_id, request_id in self.start.lanes.items()}

    @property
    def key(self) -> str:
        """The conversation this run's events are published under."""
        return self.request.key or self.request.request_id

    def is_asked_by(self, request: TeamRequest) -> bool:
        """Return whether a request asks what this run asks, or did before it was changed."""
        return self.request.asks_the_same(request) or (
            self.first is not None and self.first.asks_the_same(request)
        )

    def ask(self, request: TeamRequest) -> None:
        """Ask something else, while nobody was asked."""
        self.first = self.first or self.request
        self.request, self.start = request, msgspec.structs.replace(self.start, prompt=request.content)

    def take(self, outcome: TurnOutcome) -> None:
        """Let an outcome stand for its member: an answer over what was before, a failure over no answer."""
        before = self.said.get(outcome.ai_id)
        if outcome.code is None or before is None or before.code is not None:
            self.said.pop(outcome.ai_id, None)
            self.said[outcome.ai_id] = outcome

    def fail_rest(self, code: ErrorCode, error: str) -> None:
        """Let the members fail of whom nothing came."""
        for ai_id, request_id in self.start.lanes.items():
            if ai_id not in self.said:
                self.take(
                    TurnOutcome(request_id, ai_id, "", session_id=self.session_id, code=code, error=error)
                )

    def forget_words(self) -> None:
        """Keep of a run that ended how each member ended, and nothing that was said: its session was deleted."""
        self.said = {ai_id: without_words(outcome) for ai_id, outcome in self.said.items()}
        self.turns.clear()
        self.unmoderated = None
        self.done = asyncio.get_running_loop().create_future()
        self.done.set_result(self.outcome())

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

    @property
    def size(self) -> int:
        """About how many bytes the run holds: what was asked, and what came of each member."""
        request = self.request  # a member that is asked again gets all of it once more
        return len(encoder.encode([request, self.first])) + sum(
            sys.getsizeof(outcome.content) + beside_text_bytes(outcome) for outcome in self.said.values()
        )

    def so_far(self) -> list[TurnStarted | StreamChunk | StreamEnd | StreamError]:
        """Return the events that would have shown what came of the members up to now, each text in one piece."""
        events: list[TurnStarted | StreamChunk | StreamEnd | StreamError] = []
        ended = {outcome.request_id for outcome in self.said.values()}
        for turn in self.turns.values():
            if turn.request_id not in ended:
                events.append(self._started(turn.request_id, turn.ai_id))
                if turn.chunks:
                    events.append(StreamChunk(turn.request_id, turn.text, turn.chunks - 1))
        for outcome in self.said.values():
            events.append(self._started(outcome.request_id, outcome.ai_id))
            if outcome.content:
                events.append(StreamChunk(outcome.request_id, outcome.content, max(0, outcome.chunks - 1)))
            events.append(last_frame(outcome))
        return events

    def _started(self, request_id: str, ai_id: str) -> TurnStarted:
        return TurnStarted(
            request_id, ai_id, self.session_id, self.request.content, self.start.timestamp, self.request_id
        )

    def outcome(self, synthesis: str = "", consensus: str = "") -> TeamOutcome:
        """Return what came of the run up to now."""
        return TeamOutcome(
            self.request.request_id,
            self.session_id,
            self.request.mode or "pass_through",
            self.answers,
            self.failures,
            synthesis,
            consensus,
            time.monotonic() - self.began,
        )
