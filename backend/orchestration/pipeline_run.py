"""One run of a pipeline: its stages' records, and the running of a stage. See `pipelines` for the whole."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import Struct

from backend.catalog import Catalog
from backend.events import EventStream
from backend.grammar import Ask, Echo, Pipeline, Target, show
from backend.grammar.lexer import INPUT
from backend.orchestration.orders import ChatOrder
from backend.orchestration.turns import TurnManager
from backend.schema.errors import ErrorCode, TektonError
from backend.schema.events import StageEvent, StageText
from backend.schema.frames import PreviousOutput, TurnContext
from backend.schema.records import TurnOutcome
from backend.specialists.supervisor import Supervisor

NOTHING_TO_ASK = (
    'there is nothing to ask: begin with echo "text" | …, give the stage an instruction as in apollo "text" | …, '
    "or send an input"
)
JUDGE = "Give one joint answer from the answers above."
"""What is asked behind a fan-out when no instruction says otherwise."""


class LaneRecord(Struct, omit_defaults=True):
    """What one member of a stage gave."""

    ai_id: str
    request_id: str
    output: str = ""
    code: ErrorCode | None = None
    error: str = ""
    first_token_ms: float | None = None
    total_time: float = 0.0
    model: str = ""


class StageRecord(Struct, omit_defaults=True):
    """What one stage was given and gave; sizes in bytes, times in seconds."""

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
    """A run under way. `first` is the stage it begins with, counted from 0; `history` sends the session's too."""

    request_id: str
    pipeline: Pipeline
    text: str
    input: str
    session_id: str
    history: bool = False
    first: int = 0
    cancelled: bool = False
    open_turns: set[str] = field(default_factory=set[str])
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    began: float = field(default_factory=time.monotonic)
    record: RunRecord = field(init=False)

    def __post_init__(self) -> None:
        stages = [StageRecord(show(stage)) for stage in self.pipeline.stages]
        self.record = RunRecord(self.request_id, self.text, stages, time.time(), self.input)

    def finish(self) -> RunRecord:
        """Sum the run up."""
        record = self.record
        record.total_time = time.monotonic() - self.began
        for number, stage in enumerate(record.stages, 1):
            if stage.state in ("failed", "cancelled") and not record.failed_stage:
                record.failed_stage, record.code, record.error = number, stage.code, stage.error
            elif stage.state in ("waiting", "running"):
                stage.state = "not run" if stage.state == "waiting" else "cancelled"
        record.ok = all(stage.state == "done" for stage in record.stages)
        if record.ok:
            record.output = record.stages[-1].output
        elif not record.failed_stage:
            record.failed_stage, record.code, record.error = (
                len(record.stages),
                "cancelled",
                "the run was ended",
            )
        return record


class StageRunner:
    """Runs the stages of a run, one after another."""

    def __init__(
        self, catalog: Catalog, fleet: Supervisor, turns: TurnManager, events: EventStream, max_bytes: int
    ) -> None:
        self._catalog, self._fleet, self._turns, self._events = catalog, fleet, turns, events
        self._max_bytes = max_bytes

    async def run(self, run: PipelineRun) -> None:
        """Run from the first stage to the end or the first failure; every change is published."""
        for number in range(run.first, len(run.pipeline.stages)):
            record = run.record.stages[number]
            record.input = run.record.stages[number - 1].output if number else run.input
            record.state, record.started_at = "running", time.time()
            self._tell(run, number)
            began = time.monotonic()
            await self._stage(run, number, record)
            record.elapsed_s = time.monotonic() - began
            if len(record.output.encode()) > self._max_bytes:
                record.state, record.code = "failed", "too_large"
                record.error = f"the output is longer than {self._max_bytes} bytes"
            if run.cancelled and not record.ended_well:
                record.state, record.code = "cancelled", "cancelled"
                record.error = record.error or "cancelled"
            self._tell(run, number)
            if not record.ended_well:
                break
        for number, record in enumerate(run.record.stages):
            if record.state == "waiting":
                record.state = "not run"
                self._tell(run, number)

    async def _stage(self, run: PipelineRun, number: int, record: StageRecord) -> None:
        stage = run.pipeline.stages[number]
        if isinstance(stage, Echo):
            record.output, record.state = stage.text.replace(INPUT, run.input), "done"
            return
        assert isinstance(stage, Ask)
        if not self._prompt(run, number, stage).strip():
            record.state, record.code, record.error = "failed", "invalid_request", NOTHING_TO_ASK
            return
        try:
            targets = self._members(stage)
        except TektonError as error:
            record.state, record.code, record.error = "failed", error.code, error.message
            return
        prefix = f"{run.request_id}/{number + 1}"
        lanes = [(target, f"{prefix}/{self._catalog.get(target.name).id}") for target in targets]
        self._tell(run, number, [lane for _, lane in lanes])
        outcomes = await asyncio.gather(
            *(self._ask(run, number, stage, target, lane, sole=len(lanes) == 1) for target, lane in lanes)
        )
        _conclude(record, outcomes, several=stage.fan_out or len(lanes) > 1)

    def _members(self, stage: Ask) -> list[Target]:
        """Return whom a stage asks, `team` being all that run now."""
        members: list[Target] = []
        for target in stage.targets:
            if target.name != "team":
                members.append(target)
                continue
            live = [status.name for status in self._fleet.statuses() if status.state in ("ready", "busy")]
            if not live:
                raise TektonError("nobody of the team runs: launch somebody first", code="not_running")
            members += [Target(name, target.options) for name in live]
        return list({self._catalog.get(member.name).id: member for member in members}.values())

    async def _ask(
        self, run: PipelineRun, number: int, stage: Ask, target: Target, request_id: str, *, sole: bool
    ) -> TurnOutcome:
        options = dict(target.options)
        record = run.record.stages[number]
        order = ChatOrder(
            ai_id=self._catalog.get(target.name).id,
            content=self._prompt(run, number, stage),
            request_id=request_id,
            group=run.request_id,
            session_id=run.session_id,
            temperature=options.get("temperature"),  # pyright: ignore[reportArgumentType]
            max_tokens=options.get("max_tokens"),  # pyright: ignore[reportArgumentType]
            provider=options.get("provider"),  # pyright: ignore[reportArgumentType]
            model=options.get("model"),  # pyright: ignore[reportArgumentType]
            timeout_s=options.get("timeout"),  # pyright: ignore[reportArgumentType]
            context=self._context(run, number),
            history=run.history,
        )
        last = sole and number == len(run.pipeline.stages) - 1

        def hear(text: str) -> None:
            if record.first_token_ms is None:
                record.first_token_ms = (time.time() - record.started_at) * 1000
                self._tell(run, number)
            if last:
                self._events.publish("pipes", StageText(run.request_id, number, text), key=run.request_id)

        run.open_turns.add(request_id)
        try:
            if run.cancelled:
                raise TektonError("cancelled", code="cancelled")
            return await self._turns.ask(order, on_text=hear)
        except TektonError as error:
            return TurnOutcome(request_id, order.ai_id, "", code=error.code, error=error.message)
        finally:
            run.open_turns.discard(request_id)

    def _prompt(self, run: PipelineRun, number: int, stage: Ask) -> str:
        """Return what a specialist is asked: its instruction, and the text of the stage before.

        Answers of several members come as context instead, each under its author's name.
        """
        instruction = stage.instruction.replace(INPUT, run.input)
        if number and len(run.record.stages[number - 1].lanes) > 1:
            return instruction or f"{JUDGE} {run.input}".strip()
        text = run.record.stages[number].input
        if INPUT in stage.instruction and text == run.input:
            return instruction
        return "\n\n".join(part for part in (instruction, text) if part)

    def _context(self, run: PipelineRun, number: int) -> TurnContext:
        """Say where the text comes from. The text itself is the prompt; answers of a fan-out come as context."""
        trail = [lane.ai_id for stage in run.record.stages[:number] for lane in stage.lanes[:1]]
        before = run.record.stages[number - 1] if number else None
        several = before is not None and len(before.lanes) > 1
        return TurnContext(
            pipeline_id=run.request_id,
            stage=number + 1,
            original_input=run.input if number else "",
            trail=trail,
            previous=[
                PreviousOutput(
                    lane.ai_id, lane.output if not lane.code else f"(no answer: {lane.code}: {lane.error})"
                )
                for lane in (before.lanes if before and several else [])
            ],
        )

    def _tell(self, run: PipelineRun, number: int, request_ids: list[str] | None = None) -> None:
        record = run.record.stages[number]
        self._events.publish(
            "pipes",
            StageEvent(
                run.request_id,
                number,
                record.state,  # pyright: ignore[reportArgumentType]
                record.label,
                len(record.input.encode()),
                len(record.output.encode()),
                record.first_token_ms,
                record.elapsed_s or None,
                record.started_at,
                record.code or "",
                record.error,
                request_ids or [],
            ),
            key=run.request_id,
        )


def _conclude(record: StageRecord, outcomes: list[TurnOutcome], *, several: bool) -> None:
    """Write the members' outcomes into the stage: it is done when at least one of several answered."""
    record.lanes = [
        LaneRecord(
            outcome.ai_id,
            outcome.request_id,
            outcome.content,
            outcome.code,
            outcome.error,
            outcome.first_token_ms,
            outcome.total_time,
            outcome.model,
        )
        for outcome in outcomes
    ]
    failed = [lane for lane in record.lanes if lane.code]
    answered = [lane for lane in record.lanes if not lane.code]
    if not answered:
        record.state = "failed"
        record.code = failed[0].code
        record.error = "; ".join(f"{lane.ai_id}: {lane.error}" if several else lane.error for lane in failed)
        return
    record.state = "done"
    if failed:
        record.error = "; ".join(
            f"{lane.ai_id} gave no answer ({lane.code}): {lane.error}" for lane in failed
        )
    if not several:
        record.output = answered[0].output
        return
    record.output = "\n\n".join(
        f"{lane.ai_id.removesuffix('-ai')}:\n{lane.output if not lane.code else f'(no answer: {lane.code})'}"
        for lane in record.lanes
    )
