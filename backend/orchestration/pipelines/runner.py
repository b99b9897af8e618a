"""The running of a pipeline's stages, one after another, members of a stage side by side. See `pipelines`.

What a specialist said is handed on in one of two ways. Without an instruction the text itself is the next prompt:
that is what the operator's bar means. With an instruction, or from several members, it goes along as attributed data
beside the prompt. Everybody a pipeline names was named by the operator, so no loop guard holds such a turn;
a choice made by `@auto` may not come back to somebody who spoke already.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from backend.catalog import Catalog
from backend.events import EventStream
from backend.grammar import Ask, Echo, Target
from backend.grammar.lexer import INPUT
from backend.orchestration.pipelines.records import (
    PipelineRun,
    conclude_stage,
    fail_stage,
    lane_text,
    stage_event,
)
from backend.orchestration.selection import Selector
from backend.orchestration.turns.context_builder import LoopRefused
from backend.orchestration.turns.manager import TurnManager
from backend.orchestration.turns.request import ChatRequest
from backend.schema.errors import TektonError
from backend.schema.events import StageText
from backend.schema.frames import PreviousOutput, TurnContext
from backend.schema.records import LaneRecord, StageRecord, TurnOutcome
from backend.schema.states import LIVE
from backend.specialists.supervisor import Supervisor
from backend.worker.prompt import MAX_OUTPUT_CHARS

NOTHING_TO_ASK = (
    'there is nothing to ask: begin with echo "text" | …, give the stage an instruction as in apollo "text" | …, '
    "or send an input"
)
JUDGE = "Give one joint answer from the answers above."
"""What is asked behind a fan-out when no instruction says otherwise."""
TEAM, AUTO = "team", "@auto"
OWNER = "pipelines"
"""Owner of the session in which runs are recorded, apart from what was said to specialists directly."""


_Member = tuple[str, Target]
"""Whom a stage asks, and as what it was named."""


class StageRunner:
    """Runs the stages of a run. `max_bytes` caps each stage's output."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        fleet: Supervisor,
        selector: Selector,
        turns: TurnManager,
        events: EventStream,
        max_bytes: int,
    ) -> None:
        self._catalog, self._fleet, self._selector = catalog, fleet, selector
        self._turns, self._events = turns, events
        self._max_bytes = max_bytes

    async def run(self, run: PipelineRun) -> None:
        """Run from the first stage to the end or the first failure; every change is published."""
        for number in range(run.first):
            self._publish(run, number)
        for number in range(run.first, len(run.pipeline.stages)):
            run.current = number
            await self._timed(run, number)
            self._publish(run, number)
            if run.record.stages[number].state != "done":
                break
        for number, record in enumerate(run.record.stages):
            if record.state == "waiting":
                record.state = "not run"
                self._publish(run, number)

    async def _timed(self, run: PipelineRun, number: int) -> None:
        record = run.record.stages[number]
        record.input = run.record.stages[number - 1].output if number else run.input
        if run.stopped(number):
            fail_stage(record, "cancelled", "the run was ended before this stage")
            return
        record.state, record.started_at = "running", time.time()
        self._publish(run, number)
        began = time.monotonic()
        await self._stage(run, number, record)
        record.elapsed_s = time.monotonic() - began
        if len(record.output.encode()) > self._max_bytes:
            fail_stage(record, "too_large", f"the output is longer than {self._max_bytes:,} bytes")
        if run.stopped(number) and not _is_done(record):
            fail_stage(record, "cancelled", record.error or "cancelled")

    async def _stage(self, run: PipelineRun, number: int, record: StageRecord) -> None:
        stage = run.pipeline.stages[number]
        if isinstance(stage, Echo):
            record.output, record.state = stage.text.replace(INPUT, run.input), "done"
            return
        assert isinstance(stage, Ask)  # files were refused before the run
        prompt = _prompt(run, number, stage)
        if not prompt.strip():
            fail_stage(record, "invalid_request", NOTHING_TO_ASK)
            return
        try:
            members = self._members(run, number, stage, prompt)
        except TektonError as error:
            fail_stage(record, error.code, error.message)
            return
        prefix = f"{run.request_id}/{number + 1}"
        names = _lane_names([ai_id for ai_id, _ in members])
        requests = [
            self._request(run, number, stage, ai_id, target, f"{prefix}/{name}", prompt)
            for name, (ai_id, target) in zip(names, members, strict=True)
        ]
        # reserved before they are announced: whoever reads an id in the event may cancel it at once
        reservations = [self._turns.reserve(request.request_id) for request in requests]
        self._publish(run, number, [request.request_id for request in requests])
        sole = len(requests) == 1
        try:
            outcomes = await asyncio.gather(
                *(self._ask(run, number, request, sole=sole) for request in requests)
            )
        finally:
            for reservation in reservations:
                self._turns.release(reservation.request_id)
        conclude_stage(record, outcomes, _labels(members))

    def _members(self, run: PipelineRun, number: int, stage: Ask, prompt: str) -> list[_Member]:
        """Return whom a stage asks: names, members of groups, all that run, or whom routing chooses.

        Each once with the same options; one that is named with others is asked with each.
        """
        members: dict[tuple[str, object], _Member] = {}
        for target in stage.targets:
            if target.name == TEAM:
                rows = [status.id for status in self._fleet.statuses() if status.state in LIVE]
                if not rows:
                    raise TektonError("nobody of the team runs: launch somebody first", code="not_running")
            elif target.name.lower() == AUTO:
                rows = [self._chosen(run, number, stage, prompt)]
            else:
                rows = [component.id for component in self._catalog.expand([target.name])]
            members |= {(ai_id, target.options): (ai_id, target) for ai_id in rows}
        return list(members.values())

    def _chosen(self, run: PipelineRun, number: int, stage: Ask, prompt: str) -> str:
        handed = _handed_on(run, number, stage.instruction)
        ai_id, why = self._selector.pick("\n".join([prompt, *(lane.output for lane in handed)]))
        if ai_id in (trail := _trail(run, number)):
            path = " → ".join(name.removesuffix("-ai") for name in [*trail, ai_id])
            raise LoopRefused(
                f"@auto comes back to somebody who spoke already ({path}; {why}): name somebody"
            )
        return ai_id

    def _request(
        self,
        run: PipelineRun,
        number: int,
        stage: Ask,
        ai_id: str,
        target: Target,
        request_id: str,
        prompt: str,
    ) -> ChatRequest:
        options = dict(target.options)
        return ChatRequest(
            ai_id=ai_id,
            content=prompt,
            request_id=request_id,
            group=run.request_id,
            session_id=run.session_id,
            temperature=options.get("temperature"),  # pyright: ignore[reportArgumentType]
            max_tokens=options.get("max_tokens"),  # pyright: ignore[reportArgumentType]
            provider=options.get("provider"),  # pyright: ignore[reportArgumentType]
            model=options.get("model"),  # pyright: ignore[reportArgumentType]
            timeout_s=options.get("timeout"),  # pyright: ignore[reportArgumentType]
            context=_context(run, number, stage.instruction),
            history=run.history,
            named=True,
            rules=run.rules,
            owners=(ai_id, OWNER),
        )

    async def _ask(self, run: PipelineRun, number: int, request: ChatRequest, *, sole: bool) -> TurnOutcome:
        record = run.record.stages[number]
        began = time.monotonic()
        last = sole and number == len(run.pipeline.stages) - 1

        def on_text(text: str) -> None:
            if record.first_token_ms is None:
                record.first_token_ms = (time.monotonic() - began) * 1000
                self._publish(run, number)
            if last:
                self._events.publish("pipes", StageText(run.request_id, number, text), key=run.request_id)

        run.open_turns.add(request.request_id)
        try:
            if run.stopped(number):
                raise TektonError("cancelled", code="cancelled")
            return await self._turns.ask(request, on_text=on_text)
        except TektonError as error:
            return TurnOutcome(request.request_id, request.ai_id, "", code=error.code, error=error.message)
        finally:
            run.open_turns.discard(request.request_id)

    def _publish(self, run: PipelineRun, number: int, request_ids: list[str] | None = None) -> None:
        event = stage_event(run.record, number, request_ids)
        self._events.publish("pipes", event, key=run.request_id)


def _lane_names(ids: list[str]) -> list[str]:
    """Return a name for each lane of a stage: the specialist's id, numbered from its second lane on."""
    seen: Counter[str] = Counter()
    names: list[str] = []
    for ai_id in ids:
        seen[ai_id] += 1
        names.append(ai_id if seen[ai_id] == 1 else f"{ai_id}.{seen[ai_id]}")
    return names


def _labels(members: list[_Member]) -> list[str]:
    """Return what each lane is called: its specialist, with the options where they tell two lanes apart."""
    often = Counter(ai_id for ai_id, _ in members)
    labels: list[str] = []
    for ai_id, target in members:
        options = ",".join(f"{name}={value}" for name, value in target.options)
        suffix = f"[{options}]" if options and often[ai_id] > 1 else ""
        labels.append(ai_id.removesuffix("-ai") + suffix)
    return labels


def _prompt(run: PipelineRun, number: int, stage: Ask) -> str:
    """Return what a stage asks: its instruction, and the text before it unless that goes along as data."""
    instruction = stage.instruction.replace(INPUT, run.input)
    if _handed_on(run, number, instruction):
        return instruction or f"{JUDGE} {run.input}".strip()
    text = run.record.stages[number].input
    if INPUT in stage.instruction and text == run.input:
        return instruction
    return "\n\n".join(part for part in (instruction, text) if part)


def _handed_on(run: PipelineRun, number: int, instruction: str) -> list[LaneRecord]:
    """Return the answers of the stage before that go along as data."""
    lanes = run.record.stages[number - 1].lanes if number else []
    return lanes if instruction or len(lanes) > 1 else []


def _trail(run: PipelineRun, number: int) -> list[str]:
    return [lane.ai_id for stage in run.record.stages[:number] for lane in stage.lanes]


def _context(run: PipelineRun, number: int, instruction: str) -> TurnContext:
    """Say where a prompt comes from. What is cut to the size that prompts take of such data is noted."""
    notes: list[str] = []
    previous = [
        PreviousOutput(lane.source, _cut(lane_text(lane), f"the answer of {lane.source}", notes))
        for lane in _handed_on(run, number, instruction)
    ]
    return TurnContext(
        pipeline_id=run.request_id,
        stage=number + 1,
        original_input=_cut(run.input, "the original input", notes) if number else "",
        trail=_trail(run, number),
        previous=previous,
        notes=notes,
    )


def _cut(text: str, what: str, notes: list[str]) -> str:
    if len(text) > MAX_OUTPUT_CHARS:
        notes.append(f"{what} was cut from {len(text):,} to {MAX_OUTPUT_CHARS:,} characters")
    return text[:MAX_OUTPUT_CHARS]


def _is_done(record: StageRecord) -> bool:
    return record.state == "done"
