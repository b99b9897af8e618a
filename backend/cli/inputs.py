"""Text that comes in from outside: what is piped in, files, words of the call. Whole or refused, never cut."""

from __future__ import annotations

import sys
from pathlib import Path

from backend.schema.errors import TektonError

MAX_INPUT_BYTES = 8 * 1024 * 1024
"""Longest text that is asked or goes into a pipeline, bytes of UTF-8."""


def question(words: list[str]) -> str:
    """Return the text to ask: the words, and what is piped in behind them.

    Raises:
        TektonError: There is neither, or the input is too long or no text.
    """
    text = "\n\n".join(part for part in (" ".join(words), read_stdin()) if part)
    if not text.strip():
        raise TektonError("nothing to ask: give a text, or pipe one in", code="invalid_request")
    return within_cap(text)


def read_stdin() -> str:
    """Read what is piped in, to its end, without the newlines there; a terminal gives nothing.

    Raises:
        TektonError: It is longer than `MAX_INPUT_BYTES`, or not UTF-8.
    """
    if sys.stdin is None or sys.stdin.isatty():
        return ""
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
        raise TektonError(f"{what} is not UTF-8 text", code="invalid_request") from error
