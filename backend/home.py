"""The files of one platform: the folder `TEKTON_HOME` and the names inside it.

Knows no file's content. Folders have mode 0700, files written below them 0600.

TektonError
├── HomeRefused    the folder cannot be a home, or a file in it is no file    config_invalid
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from backend.schema.errors import TektonError

READ_ONLY = "a file system that is mounted read-only"


class HomeRefused(TektonError):
    """The folder cannot be a home: it is shared with others, or the system does not let us use it."""

    code = "config_invalid"


class _Below:
    """A path at a fixed place below the root of a home."""

    def __init__(self, *names: str) -> None:
        self._names = names

    def __get__(self, home: Home, owner: type[Home]) -> Path:
        return home.root.joinpath(*self._names)


@dataclass(frozen=True)
class Home:
    """The paths of one platform. Platforms with different homes share nothing."""

    root: Path

    config = _Below("config.toml")
    """The settings that people write."""
    specialists = _Below("specialists")
    """Specialists of one's own: a file or a folder each."""
    specialist_versions = _Below("specialist-versions")
    """What those files held before: a folder for each name."""
    env_file = _Below(".env.tekton")
    """`KEY=value` lines that stand for environment variables."""
    registry = _Below("ai_registry", "platform_ai_registry.json")
    """Who runs where; see `backend.registry`."""
    audit = _Below("ai_registry", "ai_registry_audit.log")
    """The log of the registry's changes."""
    model_choice = _Below("model-choice.json")
    """Which model the operator chose by hand."""
    token = _Below("token")
    """The secret by which clients are let in at the gateway, 0600."""
    logs = _Below("logs")
    """One file for each process: `<name>.log`, with the previous run beside it as `<name>.previous.log`."""
    run = _Below("run")
    """Who serves where at this time. Safe to lose."""
    worker_token = _Below("run", "worker.token")
    """The secret that a platform and its workers share."""
    backend_lock = _Below("run", "backend.lock")
    """Locked by the backend that serves the home."""
    backend_facts = _Below("run", "backend.json")
    """`{"home","pid","process_start","url","port","epoch"}` of the serving backend."""
    embedded_facts = _Below("run", "embedded.json")
    """`{"home","pid","process_start","url","api_key","model","slots","context"}` of the embedded model server, 0600."""
    embedded_ending = _Below("run", "embedded.ending")
    """How the last embedded model server ended, in a sentence. Does not exist while one serves or starts."""
    state = _Below("state")
    """What must not be lost: the database, drafts, settings made on the screen."""
    database = _Below("state", "engram.sqlite3")
    """Conversations, errors and usage, if no Redis server stores them."""
    models = _Below("models")
    """Weights of the embedded model that were fetched for this home."""

    @classmethod
    def from_environment(cls) -> Home:
        """Return the home named by `TEKTON_HOME`, by default `~/.tekton`."""
        return cls(Path(os.environ.get("TEKTON_HOME") or Path.home() / ".tekton").expanduser().absolute())

    def check(self) -> None:
        """See whether the folder can be a home; change nothing.

        Raises:
            HomeRefused: It is shared with others, or cannot be looked at.
        """
        try:
            str(self.root).encode()
            found = self.root.stat()
            if not stat.S_ISDIR(found.st_mode):
                raise HomeRefused(f"TEKTON_HOME: {self.root} is not a folder")
            mode = stat.S_IMODE(found.st_mode)
            if mode & 0o077 and (mode & stat.S_ISVTX or not self._is_ours()):
                held = "" if self._is_ours() else ", with other files in it"
                raise HomeRefused(
                    f"TEKTON_HOME: {self.root} is a folder that others use, too (mode {mode:o}{held}); "
                    f"name a folder of its own, or make it private: chmod 700 {self.root}"
                )
        except FileNotFoundError:
            return
        except UnicodeEncodeError as error:
            raise HomeRefused(f"TEKTON_HOME: {os.fsencode(self.root)!r} is not valid UTF-8") from error
        except OSError as error:
            raise HomeRefused(f"TEKTON_HOME: {self.root} cannot be used: {error.strerror}") from error

    def prepare(self) -> Home:
        """Make the folders, private to the user, and make an existing root private.

        Raises:
            HomeRefused: The folder is shared with others, or the system does not let us write there.
        """
        self.check()
        try:
            for folder in (self.root, self.registry.parent, self.logs, self.run, self.state):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.is_read_only:
                raise HomeRefused(
                    f"TEKTON_HOME: {self.root} is on {READ_ONLY}; mount it for writing, or name another folder"
                )
            if self.root.stat().st_mode & 0o077:
                self.root.chmod(0o700)
        except FileExistsError as error:
            raise HomeRefused(f"{error.filename} is not a folder; move it away") from error
        except OSError as error:
            raise HomeRefused(f"{error.filename or self.root} cannot be used: {error.strerror}") from error
        return self

    @property
    def is_read_only(self) -> bool:
        """Whether the folder is on a file system that nobody can write to."""
        return bool(os.statvfs(self.root).f_flag & os.ST_RDONLY)

    def may_be(self, named: str) -> bool:
        """Return whether what was written by the home at `named` may be this one's: it is no copy of another home.

        A home goes by other names through a link, `..` or a mount, and by an old one after it was moved.
        """
        try:
            return not named or os.path.samefile(named, self.root)
        except OSError:
            return not os.path.exists(named)

    def _is_ours(self) -> bool:
        """Return whether nothing is in the folder, or what only a home has."""
        names = set(os.listdir(self.root))
        return not names or bool(
            names & {self.registry.parent.name, self.token.name, self.config.name, self.env_file.name}
        )

    def lock_of(self, place: int) -> Path:
        """Return the lock of the home's first, second … gateway; several only on a store they share."""
        return self.backend_lock if place == 1 else self.run / f"backend-{place}.lock"

    def facts_of(self, place: int) -> Path:
        """Return the facts of the home's first, second … gateway."""
        return self.backend_facts if place == 1 else self.run / f"backend-{place}.json"


def write_private(path: Path, data: bytes) -> None:
    """Replace a file in one step by one with `data`, readable by the user alone; return when it is on disk.

    Raises:
        OSError: It cannot be written; the old file is unchanged.
    """
    # in the same folder: a rename is one step only within a file system
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        try:
            left = memoryview(data)
            while left:
                # A nearly full disk takes a part of the data, and raises only at the next write.
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def read_text(path: Path) -> str:
    """Read one of a home's text files; a pipe in its place is refused instead of waited for.

    Raises:
        HomeRefused: It cannot be read, is no file, or holds no text.
        FileNotFoundError: There is none.
    """
    try:
        # without O_NONBLOCK the opening of a pipe waits until somebody writes to it
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                raise HomeRefused(f"{path} is no file; move it away")
            # editors of Windows put a mark in front
            return file.read().decode("utf-8-sig")
    except FileNotFoundError:
        raise
    except UnicodeDecodeError as error:
        raise HomeRefused(f"{path} is not UTF-8 text; move it away") from error
    except OSError as error:
        raise HomeRefused(f"{path} cannot be read: {error.strerror}") from error


def read_token(path: Path) -> str:
    """Read a file that holds one token.

    Raises:
        HomeRefused: It cannot be read or holds something else; the message does not repeat it (`unauthorized`).
        FileNotFoundError: There is none.
    """
    token = read_text(path).strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise HomeRefused(f"{path}: expected a token and nothing else", code="unauthorized")
    return token
