"""What goes in and out of a command: text from words, pipes and files; answers to stdout; failures to stderr.

Input is taken whole or refused, never cut. An answer is written piece by piece, each flushed, or when it is complete, or
as JSON lines. Foreign text is made safe for a terminal; a pipe or a file gets it unchanged.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from backend.cli import terminal
from backend.cli.exit_codes import exit_code
from backend.schema.errors import ErrorCode, InvalidRequest, TektonError

MAX_INPUT_BYTES = 8 * 1024 * 1024
"""Longest text that is asked or goes into a pipeline, bytes of UTF-8."""


def question(words: list[str]) -> str:
    """Return the text to ask: the words, then what is piped in.

    Raises:
        TektonError: There is neither, or the input is too long or no text.
    """
    text = "\n\n".join(part for part in (" ".join(words), read_stdin()) if part)
    if not text.strip():
        raise InvalidRequest("nothing to ask: give a text, or pipe one in")
    return within_cap(text)


def json_or_text(text: str) -> Any:
    """Return what a word says as JSON; one that is none is a text."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def first_of(words: list[str], what: str) -> str:
    """Return the first word of a command's; raise `InvalidRequest` that asks for `what` when there is none."""
    if not words:
        raise InvalidRequest(f"give {what}")
    return words[0]


def read_stdin() -> str:
    """Read what is piped in, without the newlines at its end; a terminal gives nothing.

    Raises:
        TektonError: It is longer than `MAX_INPUT_BYTES`, or not UTF-8.
    """
    # None: it was closed before we began, as services do
    if sys.stdin is None or sys.stdin.isatty():
        return ""
    # one byte more than is taken says that there is more; the newline at the end is the shell's (`echo`)
    return _text(sys.stdin.buffer.read(MAX_INPUT_BYTES + 1), "the input").rstrip("\n")


def read_file(path: str) -> str:
    """Read a text file.

    Raises:
        TektonError: It cannot be read, is longer than `MAX_INPUT_BYTES`, or is not UTF-8.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_INPUT_BYTES + 1)
    except OSError as error:
        raise TektonError(f"{path}: cannot be read: {error.strerror}", code="not_found") from error
    return _text(data, path)


def within_cap(text: str) -> str:
    """Return the text.

    Raises:
        TektonError: It is longer than `MAX_INPUT_BYTES`.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_INPUT_BYTES:
        raise TektonError(f"the input is longer than {MAX_INPUT_BYTES:,} bytes", code="too_large")
    return text


def _text(data: bytes, what: str) -> str:
    if len(data) > MAX_INPUT_BYTES:
        raise TektonError(f"{what} is longer than {MAX_INPUT_BYTES:,} bytes", code="too_large")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{what} is not UTF-8 text") from error


class Pieces:
    """Writes one answer piece by piece, then the rest from the complete text: no character is lost or written twice."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._given = 0
        self._closed = False

    @property
    def begun(self) -> bool:
        """Whether anything was written."""
        return self._given > 0

    def give(self, text: str) -> None:
        """Write the piece that follows."""
        if not self._closed:
            self._given += len(text)
            self._out.piece(text)

    def close(self) -> None:
        """Write no more pieces: one was missed."""
        self._closed = True

    def complete(self, whole: str) -> None:
        """Write what is not written yet of the complete text."""
        self._closed = True
        # pieces are exactly the beginning of the whole text: what follows them is what was missed
        if self._out.stream and (rest := whole[self._given :]):
            self._given = len(whole)
            self._out.piece(rest)


@dataclass
class Output:
    """How the user wants answers. With `stream` false pieces are held back: the caller writes the complete answer."""

    as_json: bool = False
    stream: bool = True

    def piece(self, text: str, **facts: Any) -> None:
        """Write a piece of an answer that is not complete yet."""
        if not self.stream:
            return
        if self.as_json:
            self.row("chunk", content=text, **facts)
        else:
            self.text(text)

    def text(self, text: str) -> None:
        """Write text and flush it."""
        sys.stdout.write(text)
        sys.stdout.flush()

    def row(self, kind: str, **facts: Any) -> None:
        """Write one JSON line with a `type`."""
        self.line({"type": kind, **facts})

    def line(self, value: Any) -> None:
        """Write a value as one JSON line."""
        sys.stdout.write(json.dumps(msgspec.to_builtins(value)) + "\n")
        sys.stdout.flush()

    def failed(self, where: str, code: ErrorCode | str, error: str, *, evidence: str = "") -> int:
        """Report on stderr who failed, with which code and why; return the exit code."""
        if self.as_json:
            row = {"type": "error", "where": where, "code": code, "error": error}
            print(json.dumps(row), file=sys.stderr, flush=True)
        else:
            terminal.error(": ".join(part for part in (where, code, error) if part))
            if evidence:
                terminal.error(f"  it said: {' '.join(evidence.split())[:500]}")
        return exit_code(code)
