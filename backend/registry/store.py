"""The registry file: read without a lock, changed under one, replaced in one step.

Every change is read, changed and written under an operating system's lock, so a dead holder frees it; the lock file
is never deleted. Knows no process and decides nothing about who is dead.

RegistryError
└── RegistryBusy    the lock was not had in time; nothing was written      registry_busy
"""

from __future__ import annotations

import os
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
from backend.registry.salvage import decode, salvage
from backend.schema.errors import TektonError
from backend.schema.records import AuditLine, RegistryEntry
from backend.wire import encoder

LOCK_TIMEOUT_S = 5.0
LOCK_POLL_S = 0.005
"""Ten times shorter than the library's default, which starves contenders for seconds."""

Expected = tuple[int, float] | None


class RegistryError(TektonError):
    """The registry cannot be used. The message names the file."""


class RegistryBusy(RegistryError):
    code = "registry_busy"


class Corruption(Struct, frozen=True):
    """A damaged registry file that was set aside. `kept` are the ids that could still be read."""

    path: Path
    kept: list[str]
    problem: str


class Transaction:
    """The entries under the lock. Change them here only; all changes reach the file together, or none does."""

    def __init__(self, entries: dict[str, RegistryEntry]) -> None:
        self.entries = entries
        self.audit: list[AuditLine] = []
        self.changed = False

    def register(self, ai_id: str, entry: RegistryEntry, detail: str = "") -> None:
        """Put an entry in, in place of one that is there."""
        previous = self.entries.get(ai_id)
        entry = msgspec.structs.replace(entry, registered_at=entry.registered_at or time.time())
        self.entries[ai_id] = entry
        self._note(ai_id, "registered", previous, detail or f"pid {entry.pid} on port {entry.port}")

    def update(self, ai_id: str, *, expect: Expected = None, detail: str = "", **changes: object) -> bool:
        """Change fields of an entry; return whether it was there and was the expected process."""
        previous = self._expected(ai_id, expect)
        if previous is None:
            return False
        self.entries[ai_id] = msgspec.structs.replace(previous, **changes)
        self._note(
            ai_id, "updated", previous, detail or ", ".join(f"{k}={v}" for k, v in sorted(changes.items()))
        )
        return True

    def deregister(self, ai_id: str, *, expect: Expected = None, reason: str) -> bool:
        """Take an entry out; return whether it was there and was the expected process."""
        previous = self._expected(ai_id, expect)
        if previous is None:
            return False
        del self.entries[ai_id]
        self._note(ai_id, "removed", previous, reason)
        return True

    def _expected(self, ai_id: str, expect: Expected) -> RegistryEntry | None:
        entry = self.entries.get(ai_id)
        if entry is not None and expect is not None and (entry.pid, entry.process_start) != expect:
            return None
        return entry

    def _note(self, ai_id: str, event: str, previous: RegistryEntry | None, detail: str) -> None:
        self.changed = True
        self.audit.append(audit_line(ai_id, event, previous.state if previous else None, detail))


class Registry:
    """One registry file. Blocking; call it through `asyncio.to_thread`. Safe for threads and for processes.

    `on_corrupt` is told of a damaged file after it was set aside and what was readable was written anew.
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
        """Return all entries without taking the lock; decodes only when the file changed. Do not change them.

        Raises:
            RegistryBusy: The file is damaged and the lock to set it aside was not had in time.
            RegistryError: The file cannot be read.
        """
        cached = self._cache
        if cached is not None and cached.is_current(self.path):
            return dict(cached.entries)
        try:
            return dict(self._load())
        except msgspec.MsgspecError:
            with self.transaction() as transaction:
                return transaction.entries

    @contextmanager
    def transaction(self) -> Generator[Transaction]:
        """Hold the lock, hand out the entries, write them back if they changed.

        An exception inside writes nothing.

        Raises:
            RegistryBusy: The lock stayed held for the whole time-out.
            RegistryError: The file cannot be read or written; the old one stands.
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
            if corruption is not None and self.on_corrupt is not None:
                self.on_corrupt(corruption)

    def register(self, ai_id: str, entry: RegistryEntry, detail: str = "") -> None:
        """Put an entry in. Raises as `transaction`."""
        with self.transaction() as transaction:
            transaction.register(ai_id, entry, detail)

    def update(self, ai_id: str, *, expect: Expected = None, detail: str = "", **changes: object) -> bool:
        """Change fields of an entry if it is the expected `(pid, process_start)`. Raises as `transaction`."""
        with self.transaction() as transaction:
            return transaction.update(ai_id, expect=expect, detail=detail, **changes)

    def deregister(self, ai_id: str, *, expect: Expected = None, reason: str) -> bool:
        """Take an entry out if it is the expected `(pid, process_start)`. Raises as `transaction`."""
        with self.transaction() as transaction:
            return transaction.deregister(ai_id, expect=expect, reason=reason)

    @contextmanager
    def _locked(self) -> Generator[None]:
        deadline = time.monotonic() + self._timeout_s
        busy = f"{self.path}: another process held the lock for {self._timeout_s:g} s; nothing was written"
        if not self._mutex.acquire(timeout=self._timeout_s):
            raise RegistryBusy(busy)
        try:
            lock = FileLock(
                f"{self.path}.lock",
                mode=0o600,
                poll_interval=LOCK_POLL_S,
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
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            self._cache = None
            return {}
        except OSError as error:
            raise RegistryError(f"{self.path}: cannot be read: {error.strerror}") from error
        fresh = _Cached(descriptor)
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
            raise RegistryError(f"{self.path}: cannot be written: {error.strerror}") from error

    def _set_aside(self, problem: msgspec.MsgspecError) -> Corruption:
        """Keep the damaged file under another name and write anew what can be read of it."""
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
    """A file that was read. Its descriptor stays open, so that its inode number names no other file meanwhile."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.entries: dict[str, RegistryEntry] = {}
        found = os.fstat(descriptor)
        self._key = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
        with open(descriptor, "rb", closefd=False) as file:
            self.data = file.read()

    def is_current(self, path: Path) -> bool:
        try:
            found = os.stat(path)
        except OSError:
            return False
        return self._key == (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)

    def __del__(self) -> None:
        os.close(self._descriptor)
