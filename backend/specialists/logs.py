"""Log files of processes: written by the process itself, rotated by size, read from the end.

`<source>.log` is the current run, `<source>.previous.log` the one before. Knows no process.
"""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

from backend.log import redact

EVIDENCE_LINES = 20
"""How many lines an error record keeps."""
TAIL_BLOCK_BYTES = 64 * 1024
MAX_TAIL_BYTES = 8 * 1024 * 1024


def log_path(folder: Path, source: str, *, previous: bool = False) -> Path:
    """Return the log file of a source, of its current run or the one before."""
    return folder / f"{source}{'.previous' if previous else ''}.log"


def begin_log(folder: Path, source: str) -> int:
    """Keep the last run's file as the previous one; return a descriptor for the new process to write to.

    A folder that was moved away is made anew.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    path = log_path(folder, source)
    if path.exists() and path.stat().st_size:
        path.replace(log_path(folder, source, previous=True))
    for part in folder.glob(f"{source}.log.[0-9]*"):
        part.unlink(missing_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def rotate_if_large(folder: Path, source: str, *, max_bytes: int, keep: int) -> bool:
    """Move the content of a file larger than `max_bytes` to `….log.1`, older parts up to `.keep`; return whether it was.

    The process goes on writing to the same open file, which is emptied; the newest `max_bytes` are kept.
    """
    path = log_path(folder, source)
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return False
    if size <= max_bytes:
        return False
    parts = [path.with_name(f"{path.name}.{number}") for number in range(1, keep + 1)]
    for newer, older in reversed(list(pairwise(parts))):
        if newer.exists():
            newer.replace(older)
    with path.open("rb") as file:
        file.seek(max(0, size - max_bytes))
        content = file.read()
        descriptor = os.open(parts[0], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as part:
            part.write(content)
    os.truncate(path, 0)
    return True


def tail(path: Path, lines: int) -> list[str]:
    """Return the last lines of a file, oldest first; none when there is no file."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            data = b""
            while end and data.count(b"\n") <= lines and len(data) < MAX_TAIL_BYTES:
                start = max(0, end - TAIL_BLOCK_BYTES)
                file.seek(start)
                data = file.read(end - start) + data
                end = start
    except FileNotFoundError:
        return []
    return data.decode("utf-8", "replace").splitlines()[-lines:]


def evidence(path: Path) -> str:
    """Return the last lines of a file as an error record keeps them, without keys and tokens.

    Never fails: a record of an error must not be lost because a log cannot be read.
    """
    try:
        return redact("\n".join(tail(path, EVIDENCE_LINES)))
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
