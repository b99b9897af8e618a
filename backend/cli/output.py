"""Where answers go: text piece by piece, text when it is whole, or JSON lines; failures go to stderr.

On a terminal foreign text is neutralised; a pipe or a file gets it as it came. Every piece is flushed.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any

import msgspec

from backend.cli import terminal
from backend.cli.exit_codes import exit_code
from backend.schema.errors import ErrorCode


class Pieces:
    """Pieces of one answer as they were given, and the rest of it from the whole: nothing is lost, nothing twice."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._given = 0
        self._closed = False

    @property
    def begun(self) -> bool:
        return self._given > 0

    def give(self, text: str) -> None:
        """Give a piece that follows what was given."""
        if not self._closed:
            self._given += len(text)
            self._out.piece(text)

    def close(self) -> None:
        """Give nothing more as it comes: something before it was missed."""
        self._closed = True

    def complete(self, whole: str) -> None:
        """Give what of the whole was not given yet."""
        self._closed = True
        if self._out.stream and (rest := whole[self._given :]):
            self._given = len(whole)
            self._out.piece(rest)


@dataclass
class Output:
    """How the user wants answers. `stream` false holds pieces back: the caller gives the whole at the end."""

    as_json: bool = False
    stream: bool = True

    def piece(self, text: str, **facts: Any) -> None:
        """Give a piece of an answer that is on its way."""
        if not self.stream:
            return
        if self.as_json:
            self.row("chunk", content=text, **facts)
        else:
            self.text(text)

    def text(self, text: str) -> None:
        sys.stdout.write(terminal.shown(text))
        sys.stdout.flush()

    def row(self, kind: str, **facts: Any) -> None:
        """Write one JSON line with a `type`."""
        self.line({"type": kind, **msgspec.to_builtins(facts)})

    def line(self, value: Any) -> None:
        """Write a value as one JSON line."""
        sys.stdout.write(json.dumps(value) + "\n")
        sys.stdout.flush()

    def failed(self, where: str, code: ErrorCode | str, error: str, *, evidence: str = "") -> int:
        """Say on stderr who failed, with which code and why; return the exit code."""
        if self.as_json:
            row = {"type": "error", "where": where, "code": code, "error": error}
            print(json.dumps(row), file=sys.stderr, flush=True)
        else:
            terminal.error(": ".join(part for part in (where, code, error) if part))
            if evidence:
                terminal.error(f"  it said: {' '.join(evidence.split())[:500]}")
        return exit_code(code)
