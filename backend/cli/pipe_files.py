"""The command line's part of a pipeline: its files. The backend never reads or writes one."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

from backend.cli import terminal
from backend.cli.exit_codes import OK, exit_code
from backend.grammar import Cat, Echo, Pipeline, parse, show
from backend.schema.errors import TektonError
from backend.schema.events import PipelineEnd, StageText

MAX_INPUT_BYTES = 8 * 1024 * 1024
"""Longest text that goes into a pipeline. More is refused by this name, never cut."""


def resolve_input(pipeline: Pipeline, given: str) -> tuple[Pipeline | None, str]:
    """Read what the pipeline reads: `< file`, `cat file`; return what is left to run and its input.

    `None` is left when the pipeline only produces a text.

    Raises:
        TektonError: A file cannot be read, or the input is too long.
    """
    stages = pipeline.stages
    text = given
    if pipeline.input_path:
        text = _read(pipeline.input_path)
    if isinstance(stages[0], Cat):
        text, stages = _read(stages[0].path), stages[1:]
    elif isinstance(stages[0], Echo):
        text, stages = stages[0].text.replace("{input}", given), stages[1:]
    if len(text.encode("utf-8", "surrogatepass")) > MAX_INPUT_BYTES:
        raise TektonError(f"the input is longer than {MAX_INPUT_BYTES:,} bytes", code="too_large")
    if not stages:
        return None, text
    return dataclasses.replace(pipeline, stages=stages, input_path="", output_path="", append=False), text


async def run_with_files(client: Any, source: str, given: str, *, as_json: bool = False) -> int:
    """Run a pipeline's text: read its files, run its stages in the backend, write its output as it comes.

    A failed stage leaves stdout and the output file as they were; stderr names stage and code.
    """
    pipeline = parse(source)
    rest, text = resolve_input(pipeline, given)
    sink = _Sink(pipeline, hold=as_json)
    if rest is None:
        sink.write(text)
        sink.finish()
        return OK
    try:
        record = await _run(client, show(rest), text, sink.write)
    except TektonError as error:
        offset = len(pipeline.stages) - len(rest.stages)
        stage = error.detail.get("stage")
        where = f"stage {int(stage) + offset}" if isinstance(stage, int) else "pipeline"
        run: Any = error.detail.get("run")
        label = run["stages"][stage - 1]["label"] if run and isinstance(stage, int) else ""
        terminal.error(
            f"{where} {label}: {error.code}: {error.detail.get('reason') or error.message}".replace("  ", " ")
        )
        return exit_code(error.code)
    if as_json:
        print(json.dumps(record))
        return OK
    for number, stage in enumerate(record["stages"], 1):
        if stage.get("error"):
            terminal.error(f"stage {number} {stage['label']}: {stage['error']}")
    if not sink.written:
        sink.write(record.get("output", ""))
    sink.finish()
    return OK


async def _run(client: Any, pipeline: str, text: str, hear: Callable[[str], None]) -> Any:
    """Run a pipeline and hear the last stage's text as it comes; return the record."""
    request_id = f"pipe-{uuid4().hex[:16]}"
    await client.subscribe(["pipes"])

    async def listen() -> None:
        async for batch in client.events():
            for _, event in batch:
                if isinstance(event, StageText) and event.request_id == request_id:
                    hear(event.content)
                elif isinstance(event, PipelineEnd) and event.request_id == request_id:
                    return

    listening = asyncio.create_task(listen())
    try:
        record = await client.call(
            "pipeline", pipeline=pipeline, input=text, request_id=request_id, wait=True
        )
        await listening
        return record
    except asyncio.CancelledError:
        await client.call("cancel", request_id=request_id)
        raise
    finally:
        listening.cancel()


class _Sink:
    """Where the output goes: stdout as it comes, or the file of a redirect when it is whole."""

    def __init__(self, pipeline: Pipeline, *, hold: bool) -> None:
        self._path, self._append = pipeline.output_path, pipeline.append
        self._hold = hold
        self._parts: list[str] = []

    @property
    def written(self) -> bool:
        return bool(self._parts)

    def write(self, text: str) -> None:
        self._parts.append(text)
        if not self._path and not self._hold:
            sys.stdout.write(terminal.shown(text))
            sys.stdout.flush()

    def finish(self) -> None:
        text = "".join(self._parts)
        newline = "" if text.endswith("\n") else "\n"
        if not self._path:
            sys.stdout.write(newline)
            sys.stdout.flush()
            return
        try:
            with Path(self._path).open("a" if self._append else "w", encoding="utf-8") as file:
                file.write(text + newline)
        except OSError as error:
            raise TektonError(
                f"{self._path}: cannot be written: {error.strerror}", code="invalid_request"
            ) from error


def _read(path: str) -> str:
    try:
        size = Path(path).stat().st_size
        if size > MAX_INPUT_BYTES:
            raise TektonError(f"{path} is longer than {MAX_INPUT_BYTES:,} bytes", code="too_large")
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise TektonError(f"{path} is not UTF-8 text", code="invalid_request") from error
    except OSError as error:
        raise TektonError(f"{path}: cannot be read: {error.strerror}", code="not_found") from error


__all__ = ["MAX_INPUT_BYTES", "resolve_input", "run_with_files"]
