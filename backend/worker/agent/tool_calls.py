"""What an agent does in one turn: its tool calls, merged from their updates, and the files it changed. Pure.

All of it is the agent's word: a title, a command or a diff says what it claims, which is shown as such.
"""

from __future__ import annotations

import posixpath
import shlex
from pathlib import PurePath
from typing import Any, cast

import msgspec

from backend.acp.messages import Location, ToolContent, ToolUpdate
from backend.schema.agents import MAX_DIFF, FileChange
from backend.schema.edits import PATHS, counted, unified
from backend.schema.tools import MAX_ARGUMENTS
from backend.text import safe_line

MAX_TITLE = 200
MAX_TEXT = 256 * 1024
"""Characters of a result that are kept."""
MAX_FILES = 200
"""Files whose changes are followed in one call."""


class ToolRun:
    """One tool call by the agent. `index` is its number in the turn."""

    def __init__(self, index: int, call_id: str) -> None:
        self.index, self.id = index, call_id
        self.title = self.kind = ""
        self.status = "pending"
        self.content: list[ToolContent] = []
        self.diffs: dict[str, ToolContent] = {}
        """The newest diff of each file: some agents say it once, with their question, and leave it out at the end."""
        self.locations: list[Location] = []
        self.input: Any = None
        self.output: Any = None
        self.announced = self.closed = False
        self.began = 0.0
        """When it began to run, by the loop's clock."""

    def merge(self, update: ToolUpdate) -> None:
        """Take an update: lists stand for the lists before, what is absent stays."""
        if update.title:
            self.title = safe_line(update.title)[:MAX_TITLE]
        if update.kind:
            self.kind = safe_line(update.kind)[:32]
        if update.status and not self.closed:
            self.status = update.status
        if update.content is not None:
            self.content = update.content
            for part in update.content:
                if part.type == "diff" and part.path and len(self.diffs) < MAX_FILES:
                    self.diffs[part.path] = part
        if update.locations is not None:
            self.locations = update.locations
        if update.raw_input is not None:
            self.input = update.raw_input
        if update.raw_output is not None:
            self.output = update.raw_output

    @property
    def name(self) -> str:
        """What rules call it: `agent:` and its kind."""
        return f"agent:{self.kind or 'other'}"

    @property
    def shown(self) -> str:
        """What it does, in the agent's words, on one line."""
        return self.title or self.kind or "a tool"

    @property
    def ended(self) -> bool:
        return self.status in ("completed", "failed")

    @property
    def paths(self) -> list[str]:
        """The files it is about."""
        found = list(self.diffs)
        found += [place.path for place in self.locations]
        return list(dict.fromkeys(found))

    def arguments(self) -> str:
        """Return what it is called with, as JSON: the agent's own arguments, with `path` and `command` where known."""
        values: dict[str, Any] = {}
        given: object = self.input
        if isinstance(given, dict):
            values.update(cast("dict[str, Any]", given))
        elif given is not None:
            values["input"] = given
        command = values.get("command", values.get("cmd"))
        if isinstance(command, list):
            command = shlex.join(str(word) for word in cast("list[Any]", command))
        if command is not None:
            values["command"] = command
        paths = self.paths
        for named in [value for name in PATHS if isinstance(value := values.get(name), str)]:
            # what the call itself names counts beside what is shown of it: a rule has to cover both
            plain = posixpath.normpath(named)
            if not any(path == named or path.endswith(f"/{plain}") for path in paths):
                paths.append(named)
        if paths:
            values["path"] = paths[0] if len(paths) == 1 else paths
        if self.title and "title" not in values:
            values["title"] = self.title
        text = msgspec.json.encode(values).decode()
        if len(text) <= MAX_ARGUMENTS:
            return text
        kept = {name: value for name, value in values.items() if name in ("command", "path", "title")}
        short = msgspec.json.encode({**kept, "left out": f"{len(text):,} characters"}).decode()
        return short if len(short) <= MAX_ARGUMENTS else msgspec.json.encode({"title": self.title}).decode()

    def diff(self) -> str:
        """Return what it changes in files, as one unified diff."""
        return bounded(
            "\n".join(unified(path, part.old_text, part.new_text or "") for path, part in self.diffs.items())
        )

    def result(self) -> str:
        """Return what came of it: its texts, its diffs, else its raw output."""
        texts: list[str] = []
        for part in self.content:
            if part.type == "content" and part.content is not None:
                block = part.content
                texts.append(block.text or f"({block.type}: {safe_line(block.name or block.uri or '')})")
            elif part.type == "terminal":
                texts.append("(a terminal)")
        if diff := self.diff():
            texts.append(diff)
        if not texts and self.output is not None:
            raw = self.output
            texts.append(raw if isinstance(raw, str) else msgspec.json.encode(raw).decode())
        return "\n".join(text[:MAX_TEXT] for text in texts)


class Changes:
    """The files that one turn changed: of each its first text before and its last one after."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[str | None, str]] = {}
        self._counts: dict[str, tuple[int, int]] = {}

    def __bool__(self) -> bool:
        return bool(self._files)

    def add(self, run: ToolRun) -> None:
        """Take the diffs of a call that was completed."""
        for path, part in run.diffs.items():
            if part.new_text is not None:
                before = self._files.get(path, (part.old_text, ""))[0]
                self._files[path] = before, part.new_text
                self._counts[path] = counted(before, part.new_text)

    def files(self) -> list[FileChange]:
        """Return the files with how many lines came and went."""
        return [FileChange(path, *lines) for path, lines in self._counts.items()]

    def diff(self, cwd: str) -> str:
        """Return all of it as one diff, with paths below `cwd` as seen from there."""
        parts = [unified(_below(path, cwd), old, new) for path, (old, new) in self._files.items()]
        return bounded("\n".join(part for part in parts if part))


def bounded(text: str) -> str:
    """Return a diff of at most `MAX_DIFF` characters, which says how much is left out."""
    if len(text) <= MAX_DIFF:
        return text
    return f"{text[:MAX_DIFF]}\n… {len(text) - MAX_DIFF:,} characters of this diff left out …"


def _below(path: str, cwd: str) -> str:
    try:
        return str(PurePath(path).relative_to(cwd))
    except ValueError:
        return path
