"""The command line's part of a pipeline: its files and its output. The backend never reads or writes a file."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

from backend.cli import terminal
from backend.cli.exit_codes import OK
from backend.cli.inputs import read_file, within_cap
from backend.cli.listening import Heard, Listener, first_of
from backend.cli.output import Output, Pieces
from backend.client import Client
from backend.grammar import Cat, Echo, Pipeline, parse, show
from backend.grammar.lexer import INPUT
from backend.schema.errors import TektonError
from backend.schema.events import Snapshot, StageText


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

    def __init__(self, client: Client, listener: Listener, out: Output, *, times: bool = False) -> None:
        self._client, self._listener, self._out, self._times = client, listener, out, times

    async def run(self, source: str, given: str, *, session_id: str | None = None) -> int:
        """Run a pipeline's text: read its files, run its stages in the backend, write its output as it comes.

        A failed stage leaves the output file as it was; stderr names stage and code.

        Raises:
            TektonError: The text is no pipeline, or a file cannot be read or written.
        """
        pipeline = parse(source)
        sink = _Sink(pipeline, self._out)
        sink.check()
        rest, text = resolve_input(pipeline, given)
        if rest is None:
            sink.whole(text)
            return OK
        before = len(pipeline.stages) - len(rest.stages)
        return await self._stages(
            sink, before, pipeline=show(rest), input=text, session_id=session_id or None
        )

    async def again(self, run_id: str, from_stage: int) -> int:
        """Run an earlier pipeline again from a stage, 1 being the first, on what came before it."""
        return await self._stages(_Sink(None, self._out), 0, run_id=run_id, from_stage=from_stage)

    async def _stages(self, sink: _Sink, before: int, **params: Any) -> int:
        """Have the backend run the stages; `before` stages of the line were done here."""
        request_id = f"pipe-{uuid4().hex[:16]}"

        def hear(event: Heard) -> None:
            if isinstance(event, StageText):
                sink.piece(event.content)
            elif isinstance(event, Snapshot):
                sink.pieces.close()

        async with self._listener.hearing("pipes", request_id, hear) as failure:
            call = asyncio.ensure_future(
                self._client.call("pipeline", request_id=request_id, wait=True, **params)
            )
            try:
                record = await first_of(call, failure)
            except TektonError as error:
                sink.abandon()
                return self._failed(error, before)
            except (asyncio.CancelledError, OSError):
                call.cancel()
                await self._end(request_id)
                raise
        self._tell_times(record)
        for number, stage in enumerate(record["stages"], 1 + before):
            if stage.get("error"):
                terminal.error(f"stage {number} {stage['label']}: {stage['error']}")
        sink.whole(record.get("output", ""), record)
        return OK

    async def _end(self, request_id: str) -> None:
        try:
            await self._client.call("cancel", request_id=request_id)
        except TektonError as error:
            if error.code != "not_found":  # it ended in between
                terminal.error(error.message)

    def _failed(self, error: TektonError, before: int) -> int:
        """Name the stage as the line was written, the code and the reason."""
        stage: Any = error.detail.get("stage")
        if not isinstance(stage, int):
            return self._out.failed("pipeline", error.code, error.message)
        run: Any = error.detail.get("run")
        self._tell_times(run)
        where = f"stage {stage + before} {run['stages'][stage - 1]['label']}"
        return self._out.failed(where, error.code, str(error.detail.get("reason") or error.message))

    def _tell_times(self, record: Any) -> None:
        if self._times:
            print(stage_table(record), file=sys.stderr, flush=True)


def stage_table(record: Any) -> str:
    """Draw the stages of a run: state, clock, first token, sizes."""
    rows = [
        (
            str(number),
            stage.get("state", "waiting"),
            f"{stage['elapsed_s']:.2f} s" if stage.get("elapsed_s") else "-",
            f"{stage['first_token_ms']:.0f} ms" if stage.get("first_token_ms") else "-",
            f"{len(stage.get('input', '').encode()):,}",
            f"{len(stage.get('output', '').encode()):,}",
            stage["label"],
        )
        for number, stage in enumerate(record["stages"], 1)
    ]
    return terminal.table(
        ("N", "STATE", "TIME", "FIRST", "BYTES IN", "BYTES OUT", "STAGE"), rows, state_column=1
    )


class _Sink:
    """Where the output goes: stdout as it comes, or the file of a redirect when it is whole."""

    def __init__(self, pipeline: Pipeline | None, out: Output) -> None:
        self._path = pipeline.output_path if pipeline else ""
        self._append = bool(pipeline and pipeline.append)
        self._out = out
        self.pieces = Pieces(out)

    def check(self) -> None:
        """See before anything is asked that the answer will have a place.

        Raises:
            TektonError: The file cannot be written.
        """
        if not self._path:
            return
        path = Path(self._path)
        place = path if path.exists() else path.parent
        if path.is_dir() or not os.access(place, os.W_OK):
            reason = "it is a folder" if path.is_dir() else "no such folder, or no right to write there"
            raise TektonError(f"{self._path}: cannot be written: {reason}", code="invalid_request")

    def piece(self, text: str) -> None:
        if not self._path:
            self.pieces.give(text)

    def abandon(self) -> None:
        """End a line that was begun, so that what is said next stands by itself."""
        if self.pieces.begun and self._out.stream and not self._out.as_json:
            self._out.text("\n")

    def whole(self, text: str, record: Any = None) -> None:
        """Give the whole output, as far as its pieces were not given."""
        ended = text if text.endswith("\n") else f"{text}\n"
        if self._path:
            self._write(ended)
        else:
            self.pieces.complete(text)
        if self._out.as_json:
            self._out.row("answer", content=text, **({"run": record} if record else {}))
        elif not self._path:
            self._out.text(ended[len(text) :] if self._out.stream else ended)

    def _write(self, text: str) -> None:
        try:
            with Path(self._path).open("a" if self._append else "w", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise TektonError(
                f"{self._path}: cannot be written: {error.strerror}", code="invalid_request"
            ) from error


__all__ = ["PipelineCall", "resolve_input", "stage_table"]
