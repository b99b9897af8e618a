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


@dataclass(frozen=True)
class Home:
    """The paths of one platform. Platforms with different homes share nothing."""

    root: Path

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

    @property
    def config(self) -> Path:
        """The settings that people write."""
        return self.root / "config.toml"

    @property
    def specialists(self) -> Path:
        """Specialists of one's own: a file or a folder each."""
        return self.root / "specialists"

    @property
    def specialist_versions(self) -> Path:
        """What those files held before: a folder for each name."""
        return self.root / "specialist-versions"

    @property
    def env_file(self) -> Path:
        """`KEY=value` lines that stand for environment variables."""
        return self.root / ".env.tekton"

    @property
    def registry(self) -> Path:
        """Who runs where; see `backend.registry`."""
        return self.root / "ai_registry" / "platform_ai_registry.json"

    @property
    def audit(self) -> Path:
        """The log of the registry's changes."""
        return self.root / "ai_registry" / "ai_registry_audit.log"

    @property
    def model_choice(self) -> Path:
        """Which model the operator chose by hand."""
        return self.root / "model-choice.json"

    @property
    def token(self) -> Path:
        """The secret by which clients are let in at the gateway, 0600."""
        return self.root / "token"

    @property
    def logs(self) -> Path:
        """One file for each process: `<name>.log`, with the previous run beside it as `<name>.previous.log`."""
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """Who serves where at this time. Safe to lose."""
        return self.root / "run"

    @property
    def worker_token(self) -> Path:
        """The secret that a platform and its workers share."""
        return self.run / "worker.token"

    @property
    def backend_lock(self) -> Path:
        """Locked by the backend that serves the home."""
        return self.run / "backend.lock"

    @property
    def backend_facts(self) -> Path:
        """`{"home","pid","process_start","url","port","epoch"}` of the serving backend."""
        return self.run / "backend.json"

    def lock_of(self, place: int) -> Path:
        """Return the lock of the home's first, second … gateway; several only on a store they share."""
        return self.backend_lock if place == 1 else self.run / f"backend-{place}.lock"

    def facts_of(self, place: int) -> Path:
        """Return the facts of the home's first, second … gateway."""
        return self.backend_facts if place == 1 else self.run / f"backend-{place}.json"

    @property
    def embedded_facts(self) -> Path:
        """`{"home","pid","process_start","url","api_key","model","slots","context"}` of the embedded model server, 0600."""
        return self.run / "embedded.json"

    @property
    def embedded_ending(self) -> Path:
        """How the last embedded model server ended, in a sentence. Does not exist while one serves or starts."""
        return self.run / "embedded.ending"

    @property
    def state(self) -> Path:
        """What must not be lost: the database, drafts, settings made on the screen."""
        return self.root / "state"

    @property
    def database(self) -> Path:
        """Conversations, errors and usage, if no Redis server stores them."""
        return self.state / "engram.sqlite3"

    @property
    def models(self) -> Path:
        """Weights of the embedded model that were fetched for this home."""
        return self.root / "models"


def write_private(path: Path, data: bytes) -> None:
    """Replace a file in one step by one with `data`, readable by the user alone; return when it is on disk.

    Raises:
        OSError: It cannot be written; the old file is unchanged.
    """
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
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                raise HomeRefused(f"{path} is no file; move it away")
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
