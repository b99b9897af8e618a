"""The command line's part of a pipeline: its files and its output. The backend never reads or writes a file."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from uuid import uuid4

import msgspec
from msgspec import Struct

from backend.cli import terminal
from backend.cli.event_listener import CallEvent, Listener
from backend.cli.exit_codes import OK
from backend.cli.streams import Output, Pieces, read_file, within_cap
from backend.grammar import Cat, Echo, Pipeline, parse, show
from backend.grammar.lexer import INPUT
from backend.schema.errors import InvalidRequest, TektonError
from backend.schema.events import Snapshot, StageText
from backend.schema.params import RunPipeline
from backend.schema.records import RunRecord


def resolve_input(pipeline: Pipeline, given: str) -> tuple[Pipeline | None, str]:
    """Read what the pipeline reads: `< file`, `cat file`; return what is left to run and its input.

    `None` is left when the pipeline only produces a text.

    Raises:
        TektonError: A file cannot be read, or the input is too long.
    """
    stages = pipeline.stages
    text = read_file(pipeline.input_path) if pipeline.input_path else given
    if isinstance(stages[0], Cat):
        text, stages = read_file(stages[0].path), stages[1:]
    elif isinstance(stages[0], Echo):
        text, stages = stages[0].text.replace(INPUT, given), stages[1:]
    within_cap(text)
    if not stages:
        return None, text
    return dataclasses.replace(pipeline, stages=stages, input_path="", output_path="", append=False), text


class PipelineCall:
    """One run of a pipeline from the command line. `times` wants the stages' figures on stderr."""

    def __init__(self, listener: Listener, out: Output, *, times: bool = False) -> None:
        self._listener, self._out, self._times = listener, out, times

    async def run(self, source: str, given: str, *, session_id: str = "") -> int:
        """Run a pipeline's text: read its files, run its stages in the backend, write its output as it comes.

        When a stage fails the output file stays as it was; stderr names stage and code.

        Raises:
            TektonError: The text is no pipeline, or a file cannot be read or written.
        """
        pipeline = parse(source)
        sink = _Sink(pipeline, self._out)
        # before anybody is asked: an answer that cannot be written would have cost its tokens for nothing
        sink.check()
        rest, text = resolve_input(pipeline, given)
        if rest is None:
            sink.whole(text)
            return OK
        before = len(pipeline.stages) - len(rest.stages)
        return await self._stages(
            sink, before, RunPipeline(pipeline=show(rest), input=text, session_id=session_id)
        )

    async def again(self, run_id: str, from_stage: int) -> int:
        """Run an earlier pipeline again from a stage, 1 being the first, with the stored output before it."""
        return await self._stages(
            _Sink(None, self._out), 0, RunPipeline(run_id=run_id, from_stage=from_stage)
        )

    async def _stages(self, sink: _Sink, before: int, params: RunPipeline) -> int:
        """Run the stages in the backend; `before` stages of the line were done here."""
        params.request_id = f"pipe-{uuid4().hex[:16]}"

        def handle(event: CallEvent) -> None:
            if isinstance(event, StageText):
                sink.piece(event.content)
            elif isinstance(event, Snapshot):
                sink.pieces.close()

        try:
            record = await self._listener.call(params, params.request_id, "pipes", handle)
        except TektonError as error:
            sink.abandon()
            return self._failed(error, before)
        self._print_times(record)
        for number, stage in enumerate(record.stages, 1 + before):
            if stage.error:
                terminal.error(f"stage {number} {stage.label}: {stage.error}")
            for lane in stage.lanes:
                for note in lane.notes:
                    terminal.error(f"stage {number} {lane.name}: {note}")
        sink.whole(record.output, record)
        return OK

    def _failed(self, error: TektonError, before: int) -> int:
        """Name the stage as the line was written, the code and the reason."""
        try:
            detail = msgspec.convert(error.detail, _Failure)
            label = detail.run.stages[detail.stage - 1].label
        except (msgspec.ValidationError, IndexError):  # it failed before a stage began
            return self._out.failed("pipeline", error.code, error.message)
        self._print_times(detail.run)
        where = f"stage {detail.stage + before} {label}"
        return self._out.failed(where, error.code, detail.reason or error.message)

    def _print_times(self, record: RunRecord) -> None:
        if self._times:
            terminal.draw(stage_table(record), sys.stderr)


class _Failure(Struct):
    """What the backend says of a run whose stage failed, stages counted from 1."""

    stage: int
    run: RunRecord
    reason: str = ""


def stage_table(record: RunRecord) -> str:
    """Draw the stages of a run: state, time, first token, sizes."""
    rows = [
        (
            str(number),
            stage.state,
            f"{stage.elapsed_s:.2f} s" if stage.elapsed_s else "-",
            f"{stage.first_token_ms:.0f} ms" if stage.first_token_ms else "-",
            f"{len(stage.input.encode()):,}",
            f"{len(stage.output.encode()):,}",
            stage.label,
        )
        for number, stage in enumerate(record.stages, 1)
    ]
    return terminal.table(
        ("N", "STATE", "TIME", "FIRST", "BYTES IN", "BYTES OUT", "STAGE"), rows, state_column=1
    )


class _Sink:
    """Where the output goes: stdout as it comes, or the file of a redirect when it is complete."""

    def __init__(self, pipeline: Pipeline | None, out: Output) -> None:
        self._path = pipeline.output_path if pipeline else ""
        self._append = bool(pipeline and pipeline.append)
        self._out = out
        self.pieces = Pieces(out)

    def check(self) -> None:
        """Check before anything is asked that the output can be written.

        Raises:
            TektonError: The file cannot be written.
        """
        if not self._path:
            return
        path = Path(self._path)
        # a file that is not there yet is made by writing into its folder
        place = path if path.exists() else path.parent
        if path.is_dir() or not os.access(place, os.W_OK):
            reason = "it is a folder" if path.is_dir() else "no such folder, or no right to write there"
            raise InvalidRequest(f"{self._path}: cannot be written: {reason}")

    def piece(self, text: str) -> None:
        if not self._path:
            self.pieces.give(text)

    def abandon(self) -> None:
        """End a line that was begun, so that the error stands on its own."""
        if self.pieces.begun and self._out.stream and not self._out.as_json:
            self._out.text("\n")

    def whole(self, text: str, record: RunRecord | None = None) -> None:
        """Write the complete output, less the pieces that were written."""
        ended = text if text.endswith("\n") else f"{text}\n"
        if self._path:
            self._write(ended)
        else:
            self.pieces.complete(text)
        if self._out.as_json:
            self._out.row("answer", content=text, **({"run": msgspec.to_builtins(record)} if record else {}))
        elif not self._path:
            self._out.text(ended[len(text) :] if self._out.stream else ended)

    def _write(self, text: str) -> None:
        try:
            with Path(self._path).open("a" if self._append else "w", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise InvalidRequest(f"{self._path}: cannot be written: {error.strerror}") from error
