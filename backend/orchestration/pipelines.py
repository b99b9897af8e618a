"""Pipelines: specialists one after another, each fed by the one before, with a clock and a size for every stage.

A stage that fails ends the run (pipefail); the stages behind it are `not run`. Members of a fan-out work side by side;
one that fails is told to the next stage and to the operator. Files are the command line's: a server reads and writes
none. Knows turns, not transports.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from backend.catalog import Catalog
from backend.events import EventStream
from backend.grammar import Cat, Pipeline, parse, show
from backend.memory import MemoryStore
from backend.orchestration.pipeline_history import RunHistory
from backend.orchestration.pipeline_records import PipelineRun, RunRecord
from backend.orchestration.pipeline_run import AUTO, TEAM, StageRunner
from backend.orchestration.routing import Router
from backend.orchestration.saved_pipelines import SavedPipelines
from backend.orchestration.turns import TurnManager, new_request_id
from backend.schema.errors import TektonError
from backend.schema.events import PipelineEnd, PipelineStart
from backend.specialists.supervisor import Supervisor

if TYPE_CHECKING:
    from backend.orchestration.actions.pipelines import PipelineParams

log = logging.getLogger(__name__)

MAX_TEXT_BYTES = 8 * 1024 * 1024
"""Longest input of a run and longest text between stages. More is refused by this name, never cut."""
OWNER = "pipelines"
"""Owner of the session in which runs are recorded, apart from what was said to specialists directly."""


class PipelineFailed(TektonError):
    """A stage failed. `detail` has `stage` (from 1), `label` and the stages' records; the code is the stage's."""


class PipelineManager:
    """Run, cancel, remember. `active` maps request ids to runs under way."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        fleet: Supervisor,
        router: Router,
        turns: TurnManager,
        memory: MemoryStore,
        events: EventStream,
    ) -> None:
        self._catalog, self._turns = catalog, turns
        self._memory, self._events = memory, events
        self._kept = RunHistory(memory)
        self.saved = SavedPipelines(memory)
        self._runner = StageRunner(
            catalog=catalog, fleet=fleet, router=router, turns=turns, events=events, max_bytes=MAX_TEXT_BYTES
        )
        self.active: dict[str, PipelineRun] = {}
        self._tasks: set[asyncio.Task[RunRecord]] = set()

    async def run(self, params: PipelineParams) -> Any:
        """Run a pipeline; with `wait` return its record, otherwise at once its id and stages.

        Raises:
            TektonError: The text is no pipeline, a name is unknown, the input too long, or (waiting) a stage failed.
        """
        run = await self._prepared(params)
        task = asyncio.create_task(self._work(run), name=f"pipeline {run.request_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if not params.wait:
            return {"request_id": run.request_id, "stages": [show(stage) for stage in run.pipeline.stages]}
        try:
            record = await asyncio.shield(task)
        except asyncio.CancelledError:
            self._stop(run, 0)
            raise
        if not record.ok:
            raise PipelineFailed(
                f"stage {record.failed_stage} ({record.stages[record.failed_stage - 1].label}): {record.error}",
                code=record.code or "internal",
                detail={
                    "stage": record.failed_stage,
                    "reason": record.error,
                    "request_id": record.request_id,
                    "run": record,
                },
            )
        return record

    def find(self, request_id: str) -> PipelineRun | None:
        """Return the run under way of a request id; `ID/3` means the run ID from its third stage on."""
        return self._place(request_id)[0]

    async def cancel(self, request_id: str) -> int:
        """End a run, or with `ID/3` what comes from its third stage on; return the pieces of text that had come.

        Waits until the turns of a stage that runs have confirmed; earlier stages run on to their end.
        """
        run, number = self._place(request_id)
        if run is None:
            raise TektonError(f"no pipeline {request_id!r} runs", code="not_found")
        run.stop_at = number if run.stop_at is None else min(run.stop_at, number)
        if not run.stopped(run.current):
            return 0
        open_turns = list(run.open_turns)
        await asyncio.gather(*(self._turns.cancel(turn) for turn in open_turns), return_exceptions=True)
        await run.ended.wait()
        return sum(len(turn.parts) for name in open_turns if (turn := self._turns.find(name)))

    def cancel_soon(self, request_id: str) -> None:
        """End a run without waiting for its turns to confirm; one that has ended is left as it is."""
        if (run := self.active.get(request_id)) is not None:
            self._stop(run, 0)

    async def history(self, limit: int) -> list[RunRecord]:
        """Return the newest runs, newest first, those under way included."""
        records = await self._kept.newest(limit)
        known = {record.request_id for record in records}
        records += [run.record for run in self.active.values() if run.request_id not in known]
        return sorted(records, key=lambda record: record.started_at, reverse=True)[:limit]

    async def get(self, run_id: str) -> RunRecord:
        """Return one run, under way or kept. Raises `UnknownRun`."""
        if (run := self.active.get(run_id)) is not None:
            return run.record
        return await self._kept.get(run_id)

    async def close(self) -> None:
        """Cancel what runs; each run is stored as failed."""
        for run in self.active.values():
            self._stop(run, 0)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _stop(self, run: PipelineRun, number: int) -> None:
        run.stop_at = number
        for request_id in run.open_turns:
            self._turns.cancel_soon(request_id)

    def _place(self, request_id: str) -> tuple[PipelineRun | None, int]:
        """Return the run that a request id means, and the stage, from 0, where it means to end it."""
        if (run := self.active.get(request_id)) is not None:
            return run, 0
        name, slash, stage = request_id.rpartition("/")
        run = self.active.get(name) if slash and stage.isdecimal() else None
        if run is None or not 1 <= int(stage) <= len(run.pipeline.stages):
            return None, 0
        return run, int(stage) - 1

    async def _prepared(self, params: PipelineParams) -> PipelineRun:
        """Check everything that can be known before the first call."""
        earlier = await self.get(params.run_id) if params.run_id else None
        text = params.pipeline or (earlier.pipeline if earlier else "")
        if params.saved:
            if text:
                raise TektonError(
                    "give `saved`, `pipeline` or `run_id`, not two of them", code="invalid_request"
                )
            text = await self.saved.text(params.saved)
        pipeline = parse(text)
        self._check(pipeline)
        request_id = params.request_id or new_request_id()
        given = params.input or (earlier.input if earlier else "")
        if len(given.encode()) > MAX_TEXT_BYTES:
            raise TektonError(f"the input is longer than {MAX_TEXT_BYTES:,} bytes", code="too_large")
        session_id = params.session_id or (await self._memory.default_session(OWNER)).id
        if request_id in self.active:  # looked at last: from here on nobody else gets in between
            raise TektonError(f"a pipeline {request_id!r} runs already", code="conflict")
        run = PipelineRun(request_id, pipeline, text, given, session_id, history=bool(params.session_id))
        if params.from_stage > 1:
            self._take_over(run, earlier, params.from_stage)
        self.active[request_id] = run
        self._events.publish(
            "pipes",
            PipelineStart(
                request_id,
                text,
                [show(stage) for stage in pipeline.stages],
                time.time(),
                params.session_id,
                given[:4000],
            ),
            key=request_id,
        )
        return run

    def _check(self, pipeline: Pipeline) -> None:
        if pipeline.input_path or pipeline.output_path or any(isinstance(s, Cat) for s in pipeline.stages):
            raise TektonError(
                "files (cat, <, >, >>) are read and written by `aish` and `tekton pipe`, not by the backend: "
                "send the text as input",
                code="invalid_request",
            )
        for stage in pipeline.stages:
            for target in getattr(stage, "targets", ()):
                if target.name != TEAM and target.name.lower() != AUTO:
                    self._catalog.expand([target.name])

    def _take_over(self, run: PipelineRun, earlier: RunRecord | None, from_stage: int) -> None:
        """Begin behind stages that an earlier run finished, with their outputs."""
        count = len(run.pipeline.stages)
        if earlier is None or not 1 <= from_stage <= count:
            raise TektonError(f"from_stage: expected 1 to {count}, with run_id", code="invalid_request")
        done = earlier.stages[: from_stage - 1]
        if len(done) < from_stage - 1 or any(stage.state != "done" for stage in done):
            raise TektonError(f"the earlier run has no output before stage {from_stage}", code="conflict")
        if [stage.label for stage in done] != [stage.label for stage in run.record.stages[: from_stage - 1]]:
            raise TektonError(
                f"the stages before {from_stage} differ from those of the earlier run: run the pipeline anew",
                code="conflict",
            )
        run.record.stages[: from_stage - 1] = done
        run.first = from_stage - 1

    async def _work(self, run: PipelineRun) -> RunRecord:
        """Run, keep the record, tell the end: a run that a client saw ending can be looked at and run again."""
        try:
            await self._runner.run(run)
        except Exception as error:  # the boundary of a run: it ends visibly, with the traceback in the log
            log.exception("pipeline %s failed", run.request_id)
            run.record.stages[run.current].fail("internal", f"failed inside the backend: {error}")
        finally:
            record = run.finish()
            await self._keep(record)
            self.active.pop(run.request_id, None)
            run.ended.set()
            self._events.publish(
                "pipes",
                PipelineEnd(
                    run.request_id,
                    record.ok,
                    record.output,
                    record.total_time,
                    record.failed_stage,
                    record.code or "",
                    record.error,
                ),
                key=run.request_id,
            )
        return record

    async def _keep(self, record: RunRecord) -> None:
        try:
            await self._kept.remember(record)
        except TektonError as error:  # a full disk must not hide how the run ended
            log.error("the pipeline run %s is not kept: %s", record.request_id, error)
