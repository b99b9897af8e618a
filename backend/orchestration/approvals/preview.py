"""What a call would change in a file, as a unified diff, for the person who is asked. Best effort: names of arguments decide.

Knows no rules. What it cannot read or compare it leaves out: the arguments themselves are always shown.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from difflib import unified_diff
from pathlib import Path
from typing import Any, cast

from backend.schema.content import read_arguments, shortened

PATHS = ("path", "file_path", "filepath", "filename", "file")
TEXTS = ("content", "contents", "text", "new_content", "data")
OLD = ("oldText", "old_text", "old_string", "old")
NEW = ("newText", "new_text", "new_string", "new")
MAX_FILE_BYTES, MAX_LINES = 256 * 1024, 2_000
MAX_DIFF_BYTES = 16 * 1024


def diff_of(arguments: str, *, roots: Sequence[str], hidden: Path) -> str:
    """Return a unified diff of what a call would write, empty where it names no file and no text.

    Edits that say what they replace are compared as they stand; a whole text is compared with the file of an absolute path
    on this host. Only files below `roots` are read, and none under `hidden`: the path is the model's word, and who may
    only read or ask sees the diff as well.
    """
    try:
        values = read_arguments(arguments)
    except ValueError:
        return ""
    path = _first(values, PATHS)
    if path is None:
        return ""
    edits = values.get("edits")
    wanted: list[Any] = cast(list[Any], edits) if isinstance(edits, list) else [values]
    found = [pair for one in wanted if (pair := _edit(one))]
    if not found and (text := _first(values, TEXTS)) is not None:
        old = _read(path, roots, hidden)
        found = [(old, text)] if old is not None else []
    return shortened("\n".join(_lines(path, found)), MAX_DIFF_BYTES)


def _edit(value: Any) -> tuple[str, str] | None:
    if not isinstance(value, dict):
        return None
    old, new = _first(cast(dict[str, Any], value), OLD), _first(cast(dict[str, Any], value), NEW)
    return None if old is None or new is None else (old, new)


def _first(values: dict[str, Any], names: Iterable[str]) -> str | None:
    return next((value for name in names if isinstance(value := values.get(name), str)), None)


def _lines(path: str, pairs: list[tuple[str, str]]) -> Iterable[str]:
    for old, new in pairs:
        before, after = (text.split("\n") if text else [] for text in (old, new))
        if len(before) > MAX_LINES or len(after) > MAX_LINES:
            yield f"@@ {len(before):,} lines replaced by {len(after):,}, too many to show @@"
        else:
            yield from unified_diff(before, after, f"{path} as it is", f"{path} with this text", lineterm="")


def _read(path: str, roots: Sequence[str], hidden: Path) -> str | None:
    """Return a text file of this host, an empty text where there is none yet; `None` where it cannot be compared."""
    if not path.startswith(("/", "~/")):
        return None
    try:
        place = Path(os.path.realpath(os.path.expanduser(path)))
        known = [os.path.realpath(os.path.expanduser(root)) for root in roots]
        below = any(place.is_relative_to(root) and os.path.isdir(root) for root in known)
    except ValueError:
        return None
    if not below or place.is_relative_to(os.path.realpath(hidden)):
        return None
    try:
        file = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    except (OSError, ValueError):
        return None
    with open(file, "rb") as opened:
        facts = os.fstat(file)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > MAX_FILE_BYTES:
            return None
        try:
            return opened.read(MAX_FILE_BYTES).decode()
        except (OSError, UnicodeError):
            return None
