"""What a call would change in a file, as a unified diff, for the person who is asked. Best effort: names of arguments decide.

Knows no rules. What it cannot read or compare it leaves out: the arguments themselves are always shown.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from backend.schema.content import read_arguments, shortened
from backend.schema.edits import PATHS, edited, edits_of, named, unified, unplaced

TEXTS = ("content", "contents", "text", "new_content", "data")
MAX_FILE_BYTES = 256 * 1024
MAX_DIFF_BYTES = 16 * 1024


def diff_of(arguments: str, *, roots: Sequence[str], hidden: Path) -> str:
    """Return a unified diff of what a call would write, empty where it names no file and no text.

    A whole text, and edits that say what they replace, are compared with the file of an absolute path on this host; edits
    whose place in it is not certain are shown without numbers of lines. Only files below `roots` are read, and none under
    `hidden`: the path is the model's word, and who may only read or ask sees the diff as well.
    """
    try:
        values = read_arguments(arguments)
    except ValueError:
        return ""
    path = named(values, PATHS)
    if path is None:
        return ""
    edits = edits_of(values)
    old = _read(path, roots, hidden)
    new = edited(old or "", edits) if edits else named(values, TEXTS)
    if old is None or new is None:
        return shortened(unplaced(path, edits), MAX_DIFF_BYTES)
    return shortened(unified(path, old, new), MAX_DIFF_BYTES)


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
