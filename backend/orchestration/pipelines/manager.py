"""Pipelines: specialists one after another, each fed by the one before, with a clock and a size for every stage.

A stage that fails ends the run (pipefail); the stages behind it are `not run`. Members of a fan-out work side by side;
one that fails is named to the next stage and to the operator. Files are the command line's: a server reads and writes
none. Knows turns, not transports.
"""

from __future__ import annotations

import asyncio
import logging

from backend.catalog import Catalog
from backend.events import EventStream
from backend.grammar import Cat, Pipeline, parse
from backend.orchestration.approvals.rules import check
from backend.orchestration.error_log import ErrorLog
from backend.orchestration.pipelines.history import RunHistory, UnknownRun
from backend.orchestration.pipelines.records import (
    LOST,
    PipelineRun,
    end_event,
    fail_stage,
    lose,
    stage_event,
    start_event,
)
from backend.orchestration.pipelines.runner import AUTO, OWNER, TEAM, StageRunner
from backend.orchestration.pipelines.saved import SavedPipelines
from backend.orchestration.request_names import PIPELINE, RequestNames, taken
from backend.orchestration.selection import Selector
from backend.orchestration.sessions import Sessions
from backend.orchestration.stored import Stored
from backend.orchestration.turns.manager import TurnManager, new_request_id
from backend.schema.errors import TektonError
from backend.schema.events import Event, StageText
from backend.schema.params import RunPipeline
from backend.schema.records import RunRecord
from backend.schema.results import Started
from backend.specialists.supervisor import Supervisor

log = logging.getLogger(__name__)

CLOSE_S = 2.0
MAX_TEXT_BYTES = 8 * 1024 * 1024
"""Longest input of a run and longest text between stages. More is refused by this name, never cut."""


class PipelineFailed(TektonError):
    """A stage failed. `detail` has `stage` (from 1), `label` and the stages' records; the code is the stage's."""


class PipelineManager:
    """Run, cancel, remember. `active` maps request ids to runs under way."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        fleet: Supervisor,
        selector: Selector,
        turns: TurnManager,
        sessions: Sessions,
        store: Stored,
        events: EventStream,
        error_log: ErrorLog,
        names: RequestNames,
    ) -> None:
        self._names = names
        names.register(PIPELINE, self._is_known)
        self._catalog, self._turns = catalog, turns
        self._sessions, self._events, self._error_log = sessions, events, error_log
        self.kept = RunHistory(store)
        self.saved = SavedPipelines(store)
        self._runner = StageRunner(
            catalog=catalog,
            fleet=fleet,
            selector=selector,
            turns=turns,
            events=events,
            max_bytes=MAX_TEXT_BYTES,
        )
        self.active: dict[str, PipelineRun] = {}
        self._alone = True

    async def open(self, *, alone: bool) -> None:
        """Read which runs are kept; where this backend has the store `alone`, end those that the one before left."""
        self._alone = alone
        for record in await self.kept.open():
            if alone:
                lose(record)
                self._error_log.record("pipelines", "backend_lost", LOST, request_id=record.request_id)
                await self._keep(record)

    async def run(self, params: RunPipeline) -> RunRecord | Started:
        """Run a pipeline; with `wait` return its record, otherwise at once its id and stages.

        A request id that is known joins its run, or returns what is kept of it; nothing is run twice.

        Raises:
            TektonError: The text is no pipeline, a name is unknown, the input too long, or (waiting) a stage failed;
                `conflict` when the request id names another pipeline or input.
        """
        text, given, earlier = await self._text_and_input(params)
        request_id = params.request_id or new_request_id()
        # Looked up before anything is begun: a client that lost its connection sends the same id once more.
        known = await self.known(request_id) if params.request_id else None
        if known is not None and (known.pipeline, known.input) != (text, given):
            raise taken(request_id, "another pipeline")
        if known is None and params.request_id:
            if await self.kept.is_forgotten(request_id):
                raise taken(request_id, "a pipeline run whose conversation was deleted")
            self._names.check(request_id, PIPELINE)
            if await self._turns.is_stored(request_id):
                raise taken(request_id)
        run = self.active.get(request_id)
        if run is not None and (run.text, run.input) != (text, given):
            raise taken(request_id, "another pipeline")  # it began while it was looked for
        if known is not None and run is None:
            return _result(known) if params.wait else _started(known)
        if run is None:
            run = await self._prepared(params, request_id, text, given, earlier)
            if run is None:
                # It ended while this call looked: now it is kept, and its record is the answer.
                return await self.run(params)
        joined = run.task is not None
        if run.task is None:
            # Begun by the first caller alone; those who came with the same id meanwhile join this task.
            run.task = asyncio.create_task(self._work(run), name=f"pipeline {request_id}")
        if not params.wait:
            await run.begun.wait()
            return _started(run.record)
        assert run.task is not None
        try:
            # shielded: one of several callers that goes away must not end the run for the others
            record = await asyncio.shield(run.task)
        except asyncio.CancelledError:
            # Whoever began it takes it along; one that merely joined leaves it to the others.
            if not joined:
                self._stop(run, 0)
            raise
        return _result(record)

    async def known(self, request_id: str) -> RunRecord | None:
        """Return what there is of the run of a request id, under way or kept."""
        try:
            return await self.get(request_id)
        except UnknownRun:
            return None

    def so_far(self, record: RunRecord) -> list[Event]:
        """Return the events that would have shown a run up to now, and its end if it has ended."""
        events: list[Event] = [start_event(record)]
        for number, stage in enumerate(record.stages):
            if stage.state != "waiting":
                events.append(stage_event(record, number))
        run = self.active.get(record.request_id)
        if run is None:
            return [*events, end_event(record)]
        last = len(record.stages) - 1
        texts = [turn.text for name in run.open_turns if (turn := self._turns.find(name))]
        if run.current == last and len(texts) == 1 and texts[0]:
            events.append(StageText(record.request_id, last, texts[0]))
        return events

    def in_session(self, session_id: str) -> list[PipelineRun]:
        """Return the runs that wait or are under way in a session."""
        return [run for run in self.active.values() if run.session_id == session_id]

    async def forget_session(self, session_id: str) -> None:
        """Forget what was said in the runs of a conversation that is being deleted."""
        await self.kept.forget_session(session_id, self._turns.session_of)

    async def forget_before(self, moment: float) -> None:
        """Forget the runs that began before a moment."""
        await self.kept.forget_before(moment)

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
        # Of two who cancel, the earlier stage counts.
        run.stop_at = number if run.stop_at is None else min(run.stop_at, number)
        if run.place is not None and number == 0:
            self._sessions.give_up(run.place)
        if not run.stopped(run.current):
            return 0
        open_turns = list(run.open_turns)
        await asyncio.gather(*(self._turns.cancel(turn) for turn in open_turns), return_exceptions=True)
        await run.ended.wait()
        return sum(turn.chunks for name in open_turns if (turn := self._turns.find(name)))

    def cancel_soon(self, request_id: str) -> None:
        """End a run without waiting for its turns to confirm; one that has ended is left as it is."""
        if (run := self.active.get(request_id)) is not None:
            self._stop(run, 0)

    async def history(self, limit: int) -> list[RunRecord]:
        """Return the newest runs, newest first, those under way included."""
        kept = await self.kept.newest(limit)
        records = [record for record in kept if record.request_id not in self.active]
        known = {record.request_id for record in records}
        records += [run.record for run in self.active.values() if run.request_id not in known]
        return sorted(records, key=lambda record: record.started_at, reverse=True)[:limit]

    async def get(self, run_id: str) -> RunRecord:
        """Return one run, under way or kept. Raises `UnknownRun`."""
        if (run := self.active.get(run_id)) is not None:
            return run.record
        return await self.kept.get(run_id)

    async def close(self) -> None:
        """Wait a moment for what ends by itself, as when its turns were ended, and end the rest; each is stored."""
        runs = list(self.active.values())
        if tasks := [run.task for run in runs if run.task is not None]:
            # Their turns were ended before: given a moment, the runs end by that failure and say so themselves.
            await asyncio.wait(tasks, timeout=CLOSE_S)
        for run in runs:
            self._stop(run, 0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.kept.close()

    def _stop(self, run: PipelineRun, number: int) -> None:
        run.stop_at = number
        if run.place is not None:
            self._sessions.give_up(run.place)
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

    async def _text_and_input(self, params: RunPipeline) -> tuple[str, str, RunRecord | None]:
        """Return the pipeline, its input, and the earlier run they may come from."""
        earlier = await self.get(params.run_id) if params.run_id else None
        text = params.pipeline or (earlier.pipeline if earlier else "")
        if params.saved:
            if text:
                raise TektonError(
                    "give `saved`, `pipeline` or `run_id`, not two of them", code="invalid_request"
                )
            text = await self.saved.text(params.saved)
        return text, params.input or (earlier.input if earlier else ""), earlier

    async def _prepared(
        self, params: RunPipeline, request_id: str, text: str, given: str, earlier: RunRecord | None
    ) -> PipelineRun | None:
        """Check everything that can be known before the first call, and make the run visible.

        Another call of this id that came first and means the same is joined; `None` when one has even ended meanwhile.
        """
        pipeline = parse(text)
        self._check(pipeline)
        check(params.rules)
        if len(given.encode()) > MAX_TEXT_BYTES:
            raise TektonError(f"the input is longer than {MAX_TEXT_BYTES:,} bytes", code="too_large")
        session = await self._sessions.resolve(params.session_id, (OWNER, *self._asked_in(pipeline)))
        if (first := self.active.get(request_id)) is not None:
            # looked at last: from here on nobody else gets in between
            if (first.text, first.input) != (text, given):
                raise taken(request_id, "another pipeline")
            return first
        if self._is_known(request_id):
            return None
        self._names.check(request_id, PIPELINE)
        run = PipelineRun(
            request_id, pipeline, text, given, session.id, history=bool(params.session_id), rules=params.rules
        )
        if params.from_stage > 1:
            self._take_over(run, earlier, params.from_stage)
        if run.history:
            # With no await since the look for another run of this id: nobody can have begun one in between.
            run.place = self._sessions.enter(session.id, request_id)
        self.active[request_id] = run
        self._events.publish("pipes", start_event(run.record, params.session_id), key=request_id)
        return run

    def _is_known(self, request_id: str) -> bool:
        return request_id in self.active or request_id in self.kept.names

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

    def _asked_in(self, pipeline: Pipeline) -> list[str]:
        """Return who may own the session that a pipeline reads: a specialist only if nobody else is named.

        Whom `@auto` or the team come to is known later, and each stage looks again.
        """
        named = {
            row.id
            for stage in pipeline.stages
            for target in getattr(stage, "targets", ())
            if target.name != TEAM and target.name.lower() != AUTO
            for row in self._catalog.expand([target.name])
        }
        return [*named] if len(named) == 1 else []

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
        """Run, keep the record, publish the end: a run that a client saw ending can be looked at and run again."""
        try:
            await self._keep_begun(run)
            if run.place is not None:
                await run.place.granted
            await self._runner.run(run)
        except Exception as error:  # the boundary of a run: it ends visibly, with the traceback in the log
            log.exception("pipeline %s failed", run.request_id)
            fail_stage(run.record.stages[run.current], "internal", f"failed inside the backend: {error}")
        finally:
            # kept first, then no longer active, then announced: at no moment does a look-up find neither
            record = run.finish()
            await self._keep(record)
            self.active.pop(run.request_id, None)
            if run.place is not None:
                self._sessions.leave(run.place)
            run.ended.set()
            self._events.publish("pipes", end_event(record), key=run.request_id)
        return record

    async def _keep_begun(self, run: PipelineRun) -> None:
        try:
            if self._alone:
                await self.kept.begin(run.record)
        except Exception:  # its end is kept if that is possible then, and told if not
            log.exception("the beginning of the pipeline run %s is not kept", run.request_id)
        finally:
            run.begun.set()

    async def _keep(self, record: RunRecord) -> None:
        if why := await self.kept.keep(record):  # a store that is away must not hide how the run ended
            self._error_log.record(
                "pipelines",
                "internal",
                f"a run is not stored yet: {why}. It is kept in memory and stored as soon as that is possible",
                request_id=record.request_id,
            )


def _result(record: RunRecord) -> RunRecord:
    """Return the record of a run that ended well. Raises `PipelineFailed`."""
    if record.ok:
        return record
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


def _started(record: RunRecord) -> Started:
    return Started(record.request_id, stages=[stage.label for stage in record.stages])
