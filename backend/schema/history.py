"""Figures of the fleet over time, and turns with the times of their phases.

Times are unix seconds, durations seconds unless the name says `_ms`.
"""

from __future__ import annotations

from msgspec import Struct

from backend.schema.errors import ErrorCode
from backend.schema.frames import Phase

HISTORY_S = 600.0
"""How far back the series of samples goes."""
SAMPLE_EVERY_S = 2.0


class Sample(Struct, array_like=True):
    """The fleet and its host at one moment; on the wire a list, for there are hundreds of them.

    `rate` in tokens a second over the time since the sample before, `first_token_ms` the median of the minute before
    (`None` when no answer began in it), `cpu` and `memory` in percent of the whole machine. `cost` is today's in
    `currency`, the one most was spent in and empty while nothing has a price; `tokens` are today's, in and out.
    """

    timestamp: float
    rate: float
    first_token_ms: float | None
    cpu: float
    memory: float
    cost: float = 0.0
    currency: str = ""
    tokens: int = 0


class History(Struct):
    """Samples of the last `HISTORY_S` seconds, oldest first, one every `step_s`."""

    step_s: float
    samples: list[Sample]


class TurnPhase(Struct, array_like=True):
    """When a turn entered a phase; on the wire a list of two."""

    phase: Phase
    at: float


class TurnRecord(Struct, omit_defaults=True):
    """A turn as a timeline shows it. `ended_at` is 0 while it runs; `prompt` its first words.

    `code` is set when it gave no whole answer. `phases` are in order; the last one goes on until `ended_at`.
    """

    request_id: str
    ai_id: str
    session_id: str
    prompt: str
    started_at: float
    ended_at: float = 0.0
    phases: list[TurnPhase] = []
    group: str = ""
    code: ErrorCode | None = None
    tokens_in: int = 0
    tokens_out: int = 0
    first_token_ms: float | None = None
