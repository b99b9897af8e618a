"""Edits of files: as the arguments of a tool's call name them, and as unified diffs. Pure; reads no file."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

from backend.text import safe, safe_line

PATHS = (
    "path",
    "file_path",
    "filePath",
    "filepath",
    "abs_path",
    "absolute_path",
    "notebook_path",
    "filename",
    "file",
)
"""Under which names tools and agents are given the file a call is about."""
OLD = ("oldText", "old_text", "old_string", "old_str", "old")
NEW = ("newText", "new_text", "new_string", "new_str", "new")
MAX_TEXT = 256 * 1024
"""Characters of a file's text that are compared."""
MAX_COMPARED = 2_000
"""Lines that are compared one by one; of more, only how many there are is said."""
MAX_EXACT = 250_000
"""Pairs of lines that are looked at to count exactly; beyond, lines that stand there often count as changed."""
CONTEXT_LINES = 3


def named(values: Mapping[str, Any], names: Iterable[str]) -> str | None:
    """Return the first text that stands under one of these names."""
    return next((value for name in names if isinstance(value := values.get(name), str)), None)


def edits_of(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what a call replaces by what, in the order it names them; nothing where it does not say both."""
    edits = values.get("edits")
    every = cast("list[Any]", edits) if isinstance(edits, list) else [values]
    found: list[tuple[str, str]] = []
    for one in every:
        given = cast("dict[str, Any]", one) if isinstance(one, Mapping) else {}
        old, new = named(given, OLD), named(given, NEW)
        if old is not None and new is not None:
            found.append((old, new))
    return found


def edited(text: str, edits: Iterable[tuple[str, str]]) -> str | None:
    """Return a text after its edits; `None` where one of them has not exactly one place in it."""
    for old, new in edits:
        if text.count(old) != 1:
            return None
        text = text.replace(old, new)
    return text


def unplaced(path: str, edits: Iterable[tuple[str, str]]) -> str:
    """Return edits as a unified diff whose lines have no numbers: nobody knows where in the file they stand."""
    parts = (unified(path, old, new) for old, new in edits)
    return "\n".join(_unnumbered(part) for part in parts if part)


def unified(path: str, old: str | None, new: str) -> str:
    """Return one file's change as a unified diff; of a long one how many lines came and went. Empty for none."""
    if old == new:
        return ""
    path, before_text = safe_line(path), old or ""
    head = f"--- {'/dev/null' if old is None else path}\n+++ {path}"
    before, after = _lines(before_text), _lines(new)
    start, end = _common(before, after)
    middle = before[start : len(before) - end], after[start : len(after) - end]
    body: list[str] = []
    if max(map(len, middle)) > MAX_COMPARED:
        body = [f"@@ {len(middle[0]):,} lines replaced by {len(middle[1]):,}, too many to show @@"]
    elif middle[0] or middle[1]:
        first = max(0, start - CONTEXT_LINES)
        rest = max(0, end - CONTEXT_LINES)
        lines = difflib.unified_diff(
            before[first : len(before) - rest], after[first : len(after) - rest], n=CONTEXT_LINES, lineterm=""
        )
        body = [_moved(line, first) if line.startswith("@@") else line for line in lines][2:]
    if before_text[MAX_TEXT:] != new[MAX_TEXT:]:
        left = max(len(before_text), len(new)) - MAX_TEXT
        body.append(f"@@ {left:,} characters behind the first {MAX_TEXT:,} differ and are not compared @@")
    elif not body and before_text != new:
        body.append("@@ only the end of the last line differs @@")
    return safe("\n".join([head, *body]))


def counted(old: str | None, new: str) -> tuple[int, int]:
    """Return how many lines of a file came and went."""
    before, after = _lines(old or ""), _lines(new)
    start, end = _common(before, after)
    gone, came = before[start : len(before) - end], after[start : len(after) - end]
    if max(len(gone), len(came)) > MAX_COMPARED:
        return len(came), len(gone)
    same = sum(
        block.size
        for block in difflib.SequenceMatcher(
            None, gone, came, autojunk=len(gone) * len(came) > MAX_EXACT
        ).get_matching_blocks()
    )
    return len(came) - same, len(gone) - same


def _unnumbered(diff: str) -> str:
    """Return a diff with hunks that begin at line 0, where no hunk with lines begins."""
    return re.sub(r"^@@ -\d+(,\d+)? \+\d+(,\d+)? @@", _at_zero, diff, flags=re.MULTILINE)


def _at_zero(head: re.Match[str]) -> str:
    return f"@@ -0{head[1] or ',1'} +0{head[2] or ',1'} @@"


def _moved(head: str, lines: int) -> str:
    """Return the head of a hunk with its line numbers moved on."""
    words = head.split()
    for place in (1, 2):
        number, _, count = words[place][1:].partition(",")
        words[place] = f"{words[place][0]}{int(number) + lines}{',' + count if count else ''}"
    return " ".join(words)


def _lines(text: str) -> list[str]:
    """Return the lines of a text, ended by line feeds alone: every other character is shown where it stands."""
    lines = text[:MAX_TEXT].split("\n")
    return lines if lines[-1] else lines[:-1]


def _common(before: list[str], after: list[str]) -> tuple[int, int]:
    """Return how many lines two texts have in common at their beginnings, and at their ends behind that."""
    most = min(len(before), len(after))
    start = next((at for at in range(most) if before[at] != after[at]), most)
    most -= start
    end = next((at for at in range(most) if before[-1 - at] != after[-1 - at]), most)
    return start, end
