"""Earlier texts of the files of specialists: kept when they change, compared, taken back.

A folder for each name below `specialist-versions`; a version is a copy of the one file, numbered from 1.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from backend.home import Home, write_private
from backend.schema.errors import TektonError

MAX_VERSIONS = 50
"""Of each specialist; the oldest go first."""


def versions(home: Home, name: str) -> dict[int, Path]:
    """Return the versions kept of a specialist, oldest first, by number."""
    folder = home.specialist_versions / name
    if not folder.is_dir():
        return {}
    return {int(path.stem): path for path in sorted(folder.iterdir()) if path.stem.isdecimal()}


def keep(home: Home, name: str, where: str, text: bytes) -> int:
    """Keep a text as the newest version, unless it is that already; return its number.

    Raises:
        OSError: It cannot be written.
    """
    known = versions(home, name)
    newest = max(known, default=0)
    suffix = Path(where).suffix
    if newest and known[newest].suffix == suffix and known[newest].read_bytes() == text:
        return newest
    folder = home.specialist_versions / name
    for made in (home.specialist_versions, folder):
        made.mkdir(mode=0o700, exist_ok=True)
    # padded, so that the names sort as the numbers do
    write_private(folder / f"{newest + 1:06}{suffix}", text)
    for number in sorted(known)[: max(0, len(known) + 1 - MAX_VERSIONS)]:
        known[number].unlink(missing_ok=True)
    return newest + 1


def version(home: Home, name: str, number: int) -> Path:
    """Return one version.

    Raises:
        TektonError: `not_found`.
    """
    known = versions(home, name)
    if number not in known:
        have = f"versions {min(known)} to {max(known)} are kept" if known else "no version is kept"
        raise TektonError(f"{name} has no version {number}: {have}", code="not_found")
    return known[number]


def difference(old: str, new: str, old_name: str, new_name: str) -> str:
    """Return how two texts differ, as a unified diff; empty when they are the same."""
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), old_name, new_name, lineterm="")
    return "\n".join(lines)
