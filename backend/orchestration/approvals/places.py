"""Where paths really lead: the links in the arguments of a call, and in the folders that rules name. Reads the file system.

A link below an allowed folder may lead out of it, and one elsewhere into a denied one. What is looked at here can change
before the tool runs: it is the operator's own file system that keeps others from that.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, cast

MAX_PATHS = 64
"""Of one call, in the order in which its arguments stand there."""
MAX_PATH_CHARS = 4096
_STAR = re.compile(r"\*|\\")


class Place(NamedTuple):
    """Where a path leads. `by_link`: elsewhere than it says, though it is written without `..`."""

    path: str
    by_link: bool


def real_places(values: Mapping[str, object], globs: Iterable[str], cwd: str) -> dict[str, Place]:
    """Return where texts lead that are paths, as far as that is not what they say. Blocks: for a thread.

    `cwd` is where relative ones begin; empty where that is not known, and they are left out. Of a glob it is the
    folder before its first star, of one without a star the whole.
    """
    base = os.path.realpath(cwd) if cwd else ""
    texts = [*_texts(list(values.values()))][:MAX_PATHS]
    texts += [fixed_part(glob) for glob in globs]
    return {text: place for text in dict.fromkeys(texts) if (place := _place(text, base)) is not None}


def fixed_part(glob: str) -> str:
    """Return what a glob says of where it is about, before anything in it is open."""
    found = _STAR.search(glob)
    return glob if found is None else glob[: glob.rfind("/", 0, found.start()) + 1]


def _texts(values: Iterable[object]) -> Iterator[str]:
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            yield from _texts(cast(list[object], value))
        elif isinstance(value, dict):
            yield from _texts(cast(dict[str, object], value).values())


def _place(text: str, base: str) -> Place | None:
    """Return where a text leads as a path; `None` where it cannot be one, or leads where it says."""
    if len(text) > MAX_PATH_CHARS or "\0" in text or "\n" in text:
        return None
    said = os.path.expanduser(text) if text.startswith("~") else text
    if not said.startswith("/"):
        if not base:
            return None
        said = os.path.join(base, said)
    said = posixpath.normpath(said)
    try:
        found = os.path.realpath(said)
    except (OSError, ValueError):
        return None
    if found == posixpath.normpath(text):
        return None
    ended = f"{found}/" if found != "/" and (not text or text.endswith("/")) else found
    return Place(ended, found != said)
