"""What a pipeline run was given and gave, stage by stage. Values; knows nothing of how stages are run."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Literal, cast

from backend.grammar import Pipeline, show
from backend.orchestration.sessions import Place
from backend.schema.errors import ErrorCode
from backend.schema.events import PipelineEnd, PipelineStart, StageEvent
from backend.schema.records import LaneRecord, RunRecord, StageRecord, TurnOutcome
from backend.schema.tools import CallRules

LOST = "the backend ended while this run was under way; what its turns came to is in their session"
StageState = Literal["waiting", "running", "done", "failed", "cancelled", "not run"]


def lane_record(outcome: TurnOutcome, label: str) -> LaneRecord:
    """Return what a member's turn gave."""
    return LaneRecord(
        outcome.ai_id,
        outcome.request_id,
        outcome.handed_on,
        outcome.code,
        outcome.error,
        outcome.first_token_ms,
        outcome.total_time,
        outcome.model,
        outcome.notes,
        label if label != outcome.ai_id.removesuffix("-ai") else "",
    )


def lane_text(lane: LaneRecord) -> str:
    """Return the answer, or why there is none: the next stage gets that, too."""
    return lane.output if not lane.code else f"(no answer: {lane.code}: {lane.error})"


def fail_stage(stage: StageRecord, code: ErrorCode, error: str) -> None:
    """End a stage with an error; one with the code `cancelled` is cancelled, not failed."""
    stage.state, stage.code, stage.error = "cancelled" if code == "cancelled" else "failed", code, error


def lose(record: RunRecord) -> None:
    """End a run with the backend that ran it: how far it came is not known."""
    for stage in record.stages:
        if stage.state in ("waiting", "running"):
            stage.state = "not run"
    number = next((place for place, stage in enumerate(record.stages) if stage.state != "done"), 0)
    fail_stage(record.stages[number], "backend_lost", LOST)
    record.failed_stage, record.code, record.error = number + 1, "backend_lost", LOST


def conclude_stage(stage: StageRecord, outcomes: list[TurnOutcome], labels: list[str]) -> None:
    """End a stage with its members' outcomes: it is done when at least one of several answered.

    The answer of one alone is the stage's, as it was streamed; those of several stand below their labels.
    """
    stage.lanes = [lane_record(outcome, label) for outcome, label in zip(outcomes, labels, strict=True)]
    several = len(outcomes) > 1
    failed = [lane for lane in stage.lanes if lane.code]
    answered = [lane for lane in stage.lanes if not lane.code]
    if not answered:
        reasons = [f"{lane.source}: {lane.error}" if several else lane.error for lane in failed]
        fail_stage(stage, failed[0].code or "internal", "; ".join(reasons))
        return
    stage.state = "done"
    stage.error = "; ".join(f"{lane.source} gave no answer ({lane.code}): {lane.error}" for lane in failed)
    if several:
        parts = [f"{lane.name}:\n{lane_text(lane)}" for lane in stage.lanes]
        stage.output = "\n\n".join(parts)
    else:
        stage.output = answered[0].output


def start_event(record: RunRecord, session_id: str = "") -> PipelineStart:
    """Return the event with which a run begins."""
    labels = [stage.label for stage in record.stages]
    return PipelineStart(
        record.request_id, record.pipeline, labels, record.started_at, session_id, record.input[:4000]
    )


def stage_event(record: RunRecord, number: int, request_ids: list[str] | None = None) -> StageEvent:
    """Return the event that shows a stage, counted from 0, as it is."""
    stage = record.stages[number]
    return StageEvent(
        record.request_id,
        number,
        cast(StageState, stage.state),
        stage.label,
        len(stage.input.encode()),
        len(stage.output.encode()),
        stage.first_token_ms,
        stage.elapsed_s or None,
        stage.started_at,
        stage.code or "",
        stage.error,
        request_ids or [],
    )


def end_event(record: RunRecord) -> PipelineEnd:
    """Return the event with which a run ends."""
    return PipelineEnd(
        record.request_id,
        record.ok,
        record.output,
        record.total_time,
        record.failed_stage,
        record.code or "",
        record.error,
    )


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
    rules: CallRules | None = None
    """Narrow the rules over tools for every stage."""
    first: int = 0
    current: int = 0
    stop_at: int | None = None
    open_turns: set[str] = field(default_factory=set[str])
    task: asyncio.Task[RunRecord] | None = None
    place: Place | None = None
    """Its place in the queue of its session, where it reads that."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once it is kept, so that its end is told whatever becomes of this backend."""
    began: float = field(default_factory=time.monotonic)
    record: RunRecord = field(init=False)

    def __post_init__(self) -> None:
        stages = [StageRecord(show(stage)) for stage in self.pipeline.stages]
        self.record = RunRecord(
            self.request_id, self.text, stages, time.time(), self.input, session_id=self.session_id
        )

    def stopped(self, number: int) -> bool:
        """Return whether a stage may not run, or not run on."""
        return self.stop_at is not None and number >= self.stop_at

    def finish(self) -> RunRecord:
        """Sum the run up; what was still running or waiting did not end."""
        record = self.record
        record.total_time = time.monotonic() - self.began
        for stage in record.stages:
            if stage.state == "running":
                fail_stage(stage, "cancelled", "the run was ended")
            elif stage.state == "waiting":
                stage.state = "not run"
        for number, stage in enumerate(record.stages, 1):
            if stage.state in ("failed", "cancelled"):
                record.failed_stage, record.code, record.error = number, stage.code, stage.error
                break
        record.ok = all(stage.state == "done" for stage in record.stages)
        record.output = record.stages[-1].output if record.ok else ""
        return record
