"""What a pipeline run was given and gave, stage by stage. Values; knows nothing of how stages are run."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import Struct

from backend.grammar import Pipeline, show
from backend.schema.errors import ErrorCode
from backend.schema.records import TurnOutcome


class LaneRecord(Struct, omit_defaults=True):
    """What one member of a stage gave. `notes` say what its model was not shown."""

    ai_id: str
    request_id: str
    output: str = ""
    code: ErrorCode | None = None
    error: str = ""
    first_token_ms: float | None = None
    total_time: float = 0.0
    model: str = ""
    notes: list[str] = []

    @classmethod
    def of(cls, outcome: TurnOutcome) -> LaneRecord:
        return cls(
            outcome.ai_id,
            outcome.request_id,
            outcome.content,
            outcome.code,
            outcome.error,
            outcome.first_token_ms,
            outcome.total_time,
            outcome.model,
            outcome.notes,
        )

    @property
    def as_text(self) -> str:
        """The answer, or why there is none: the next stage is told, too."""
        return self.output if not self.code else f"(no answer: {self.code}: {self.error})"


class StageRecord(Struct, omit_defaults=True):
    """What one stage was given and gave; times in seconds, `first_token_ms` in milliseconds since its start."""

    label: str
    state: str = "waiting"
    input: str = ""
    output: str = ""
    lanes: list[LaneRecord] = []
    first_token_ms: float | None = None
    elapsed_s: float = 0.0
    started_at: float = 0.0
    code: ErrorCode | None = None
    error: str = ""

    @property
    def ended_well(self) -> bool:
        return self.state == "done"

    def fail(self, code: ErrorCode, error: str) -> None:
        self.state, self.code, self.error = "cancelled" if code == "cancelled" else "failed", code, error

    def conclude(self, outcomes: list[TurnOutcome], *, several: bool) -> None:
        """Take the members' outcomes: the stage is done when at least one of several answered."""
        self.lanes = [LaneRecord.of(outcome) for outcome in outcomes]
        failed = [lane for lane in self.lanes if lane.code]
        answered = [lane for lane in self.lanes if not lane.code]
        if not answered:
            words = [f"{lane.ai_id}: {lane.error}" if several else lane.error for lane in failed]
            self.fail(failed[0].code or "internal", "; ".join(words))
            return
        self.state = "done"
        self.error = "; ".join(f"{lane.ai_id} gave no answer ({lane.code}): {lane.error}" for lane in failed)
        if several:
            parts = [f"{lane.ai_id.removesuffix('-ai')}:\n{lane.as_text}" for lane in self.lanes]
            self.output = "\n\n".join(parts)
        else:
            self.output = answered[0].output


class RunRecord(Struct, omit_defaults=True):
    """A run as it is kept. `failed_stage` counts from 1, 0 when none failed."""

    request_id: str
    pipeline: str
    stages: list[StageRecord]
    started_at: float
    input: str = ""
    output: str = ""
    ok: bool = False
    total_time: float = 0.0
    failed_stage: int = 0
    code: ErrorCode | None = None
    error: str = ""

    @classmethod
    def read(cls, value: Any) -> RunRecord:
        return msgspec.convert(value, cls)

    def written(self) -> Any:
        return msgspec.to_builtins(self)


@dataclass
class PipelineRun:
    """A run under way. `first` is the stage it begins with, counted from 0; `history` sends the session's too.

    Stages from `stop_at` on are not run: the operator ended the run there.
    """

    request_id: str
    pipeline: Pipeline
    text: str
    input: str
    session_id: str
    history: bool = False
    first: int = 0
    current: int = 0
    stop_at: int | None = None
    open_turns: set[str] = field(default_factory=set[str])
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    began: float = field(default_factory=time.monotonic)
    record: RunRecord = field(init=False)

    def __post_init__(self) -> None:
        stages = [StageRecord(show(stage)) for stage in self.pipeline.stages]
        self.record = RunRecord(self.request_id, self.text, stages, time.time(), self.input)

    def stopped(self, number: int) -> bool:
        """Return whether a stage may not run, or not run on."""
        return self.stop_at is not None and number >= self.stop_at

    def finish(self) -> RunRecord:
        """Sum the run up; what was still running or waiting did not end."""
        record = self.record
        record.total_time = time.monotonic() - self.began
        for stage in record.stages:
            if stage.state == "running":
                stage.fail("cancelled", "the run was ended")
            elif stage.state == "waiting":
                stage.state = "not run"
        for number, stage in enumerate(record.stages, 1):
            if stage.state in ("failed", "cancelled"):
                record.failed_stage, record.code, record.error = number, stage.code, stage.error
                break
        record.ok = all(stage.ended_well for stage in record.stages)
        record.output = record.stages[-1].output if record.ok else ""
        return record
