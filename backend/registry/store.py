"""The registry file: read without a lock, changed under one, replaced in one step.

A change reads, changes and writes the file under a lock of the operating system, which a process that dies gives
back; the lock file is never deleted. Knows no process and does not decide who is dead.

RegistryError
└── RegistryBusy    the lock stayed held until the time-out; nothing was written      registry_busy
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from filelock import FileLock, Timeout
from msgspec import Struct

from backend.home import write_private
from backend.registry.audit import AuditLog, audit_line
from backend.schema.errors import TektonError
from backend.schema.records import AuditLine, RegistryEntry
from backend.wire import encoder

LOCK_TIMEOUT_S = 5.0
LOCK_POLL_S = 0.005
"""Ten times shorter than the library's default, at which processes that compete for the lock wait for seconds."""

_KEY = re.compile(r'"([A-Za-z0-9_.@-]{1,80})"\s*:\s*(?=\{)')
_table = msgspec.json.Decoder(dict[str, RegistryEntry])

Expected = tuple[int, float] | None
"""Pid and start time that an entry must have to be changed; `None`: any."""


class RegistryError(TektonError):
    """The registry cannot be used. The message names the file."""


class RegistryBusy(RegistryError):
    code = "registry_busy"


class Corruption(Struct, frozen=True):
    """A damaged registry file that was renamed to `path`. `kept` are the ids that could still be read."""

    path: Path
    kept: list[str]
    problem: str


class Transaction:
    """The entries, while the lock is held. All changes of a transaction are written together, or none is."""

    def __init__(self, entries: dict[str, RegistryEntry]) -> None:
        self.entries = entries
        self.audit: list[AuditLine] = []
        self.changed = False

    def register(self, ai_id: str, entry: RegistryEntry, detail: str = "") -> None:
        """Add an entry, in place of the one with its id."""
        previous = self.entries.get(ai_id)
        entry = msgspec.structs.replace(entry, registered_at=entry.registered_at or time.time())
        self.entries[ai_id] = entry
        self._note(ai_id, "registered", previous, detail or f"pid {entry.pid} on port {entry.port}")

    def update(self, ai_id: str, *, expect: Expected = None, detail: str = "", **changes: object) -> bool:
        """Change fields of an entry; return whether it was there and of the expected process."""
        previous = self._expected(ai_id, expect)
        if previous is None:
            return False
        self.entries[ai_id] = msgspec.structs.replace(previous, **changes)
        self._note(
            ai_id, "updated", previous, detail or ", ".join(f"{k}={v}" for k, v in sorted(changes.items()))
        )
        return True

    def deregister(self, ai_id: str, *, expect: Expected = None, reason: str) -> bool:
        """Remove an entry; return whether it was there and of the expected process."""
        previous = self._expected(ai_id, expect)
        if previous is None:
            return False
        del self.entries[ai_id]
        self._note(ai_id, "removed", previous, reason)
        return True

    def _expected(self, ai_id: str, expect: Expected) -> RegistryEntry | None:
        entry = self.entries.get(ai_id)
        # An end that is reported late must not remove the entry of the process that was launched after it.
        if entry is not None and expect is not None and (entry.pid, entry.process_start) != expect:
            return None
        return entry

    def _note(self, ai_id: str, event: str, previous: RegistryEntry | None, detail: str) -> None:
        self.changed = True
        self.audit.append(audit_line(ai_id, event, previous.state if previous else None, detail))


class Registry:
    """One registry file. Blocking; call it through `asyncio.to_thread`. Safe for several threads and processes.

    `on_corrupt` is called after a damaged file was renamed and its readable entries were written to a new one.
    """

    def __init__(
        self,
        path: Path,
        audit: Path | AuditLog,
        *,
        lock_timeout_s: float = LOCK_TIMEOUT_S,
        on_corrupt: Callable[[Corruption], None] | None = None,
    ) -> None:
        self.path = path
        self.on_corrupt = on_corrupt
        self._audit = audit if isinstance(audit, AuditLog) else AuditLog(audit)
        self._timeout_s = lock_timeout_s
        self._mutex = threading.Lock()
        self._cache: _Cached | None = None
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)

    def read(self) -> dict[str, RegistryEntry]:
        """Return all entries without taking the lock; decodes the file only if it changed. Do not change the entries.

        Raises:
            RegistryBusy: The file is damaged, and the lock to repair it stayed held until the time-out.
            RegistryError: The file cannot be read.
        """
        # Without the lock: the file is replaced whole, so a reader sees the old one or the new one.
        cached = self._cache
        if cached is not None and cached.is_current(self.path):
            return dict(cached.entries)
        try:
            return dict(self._load())
        except msgspec.MsgspecError:
            # A transaction repairs the file; its lock lets only one of several readers do so.
            with self.transaction() as transaction:
                return transaction.entries

    @contextmanager
    def transaction(self) -> Generator[Transaction]:
        """Hold the lock for the length of the block, then write the entries back if they changed.

        After an exception in the block nothing is written.

        Raises:
            RegistryBusy: The lock stayed held until the time-out.
            RegistryError: The file cannot be read or written; it is unchanged.
        """
        corruption = None
        try:
            with self._locked():
                try:
                    entries = dict(self._load())
                except msgspec.MsgspecError as error:
                    corruption = self._set_aside(error)
                    entries = dict(self._load())
                transaction = Transaction(entries)
                yield transaction
                if transaction.changed:
                    self._write(transaction.entries, transaction.audit)
        finally:
            # Outside the lock: whoever is called may use the registry.
            if corruption is not None and self.on_corrupt is not None:
                self.on_corrupt(corruption)

    def register(self, ai_id: str, entry: RegistryEntry, detail: str = "") -> None:
        """Add an entry. Raises as `transaction`."""
        with self.transaction() as transaction:
            transaction.register(ai_id, entry, detail)

    def update(self, ai_id: str, *, expect: Expected = None, detail: str = "", **changes: object) -> bool:
        """Change fields of an entry if it is of the expected `(pid, process_start)`. Raises as `transaction`."""
        with self.transaction() as transaction:
            return transaction.update(ai_id, expect=expect, detail=detail, **changes)

    def deregister(self, ai_id: str, *, expect: Expected = None, reason: str) -> bool:
        """Remove an entry if it is of the expected `(pid, process_start)`. Raises as `transaction`."""
        with self.transaction() as transaction:
            return transaction.deregister(ai_id, expect=expect, reason=reason)

    @contextmanager
    def _locked(self) -> Generator[None]:
        deadline = time.monotonic() + self._timeout_s
        busy = f"{self.path}: another process held the lock for {self._timeout_s:g} s; nothing was written"
        # Threads queue here, so that only one of them polls the lock of the file.
        if not self._mutex.acquire(timeout=self._timeout_s):
            raise RegistryBusy(busy)
        try:
            lock = FileLock(
                f"{self.path}.lock",
                mode=0o600,
                poll_interval=LOCK_POLL_S,
                # A soft lock would stay held by a process that died, and a lock file that is deleted lets two hold it.
                fallback_to_soft=False,
                preserve_lock_file=True,
            )
            try:
                lock.acquire(timeout=max(0.0, deadline - time.monotonic()))
            except Timeout as error:
                raise RegistryBusy(busy) from error
            except OSError as error:
                raise RegistryError(f"{self.path}.lock: cannot be locked: {error.strerror}") from error
            try:
                yield
            finally:
                lock.release()
        finally:
            self._mutex.release()

    def _load(self) -> dict[str, RegistryEntry]:
        """Read and decode the file as it is now; remember it."""
        try:
            # a pipe in its place would be waited for
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            fresh = _Cached(descriptor)
        except FileNotFoundError:
            self._cache = None
            return {}
        except OSError as error:
            raise RegistryError(f"{self.path}: cannot be read: {error.strerror}") from error
        if not fresh.data:
            raise msgspec.DecodeError("the file is empty")
        fresh.entries = decode(fresh.data)
        fresh.data = b""
        self._cache = fresh
        return fresh.entries

    def _write(self, entries: dict[str, RegistryEntry], audit: list[AuditLine]) -> None:
        try:
            write_private(self.path, msgspec.json.format(encoder.encode(entries), indent=1))
            self._audit.append(audit)
        except OSError as error:
            raise RegistryError(
                f"{error.filename or self.path}: cannot be written: {error.strerror}"
            ) from error

    def _set_aside(self, problem: msgspec.MsgspecError) -> Corruption:
        """Copy the damaged file to another name, and write the entries that can be read to a new one."""
        try:
            data = self.path.read_bytes()
            aside = self._free_name(
                f"{self.path.name}.corrupt-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
            )
            write_private(aside, data)
        except OSError as error:
            raise RegistryError(f"{self.path}: damaged, and cannot be set aside: {error.strerror}") from error
        kept = salvage(data)
        text = f"{problem}; set aside as {aside.name}, {len(kept)} entries could be read"
        self._write(kept, [audit_line("*", "corrupt", None, text)])
        return Corruption(aside, sorted(kept), str(problem))

    def _free_name(self, name: str) -> Path:
        path, number = self.path.with_name(name), 1
        while path.exists():
            path, number = self.path.with_name(f"{name}-{number}"), number + 1
        return path


class _Cached:
    """A file that was read. Its descriptor stays open, so that no other file can get its inode number meanwhile."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.entries: dict[str, RegistryEntry] = {}
        found = os.fstat(descriptor)
        if stat.S_ISFIFO(found.st_mode):
            raise OSError(errno.EINVAL, "it is a pipe; move it away")
        self._key = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
        with open(descriptor, "rb", closefd=False) as file:
            self.data = file.read()

    def is_current(self, path: Path) -> bool:
        """Return whether the file at `path` is still the one that was read."""
        try:
            found = os.stat(path)
        except OSError:
            return False
        return self._key == (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)

    def __del__(self) -> None:
        os.close(self._descriptor)


def decode(data: bytes) -> dict[str, RegistryEntry]:
    """Return the entries of an intact file.

    Raises:
        msgspec.MsgspecError: The file is damaged, or was written by something else.
    """
    return _table.decode(data)


def salvage(data: bytes) -> dict[str, RegistryEntry]:
    """Return every entry that can still be read from a truncated, overwritten or hand-mangled file."""
    text = data.decode("utf-8", "replace")
    found: dict[str, RegistryEntry] = {}
    decoder = json.JSONDecoder()
    position = 0
    while match := _KEY.search(text, position):
        position = match.end()
        try:
            value, end = decoder.raw_decode(text, position)
            found[match[1]] = msgspec.convert(value, RegistryEntry)
        except (ValueError, RecursionError, msgspec.ValidationError):
            continue  # search on, also inside the value that could not be read
        position = end
    return found
