"""Where everything of one platform lies: the folder `TEKTON_HOME` and the names inside it.

Knows no file's content. Every folder is 0700, every file written below it 0600.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Home:
    """The paths of one platform. Two homes share nothing."""

    root: Path

    @classmethod
    def from_environment(cls) -> Home:
        """Return the home named by `TEKTON_HOME`, by default `~/.tekton`."""
        return cls(Path(os.environ.get("TEKTON_HOME") or Path.home() / ".tekton").expanduser().absolute())

    def prepare(self) -> Home:
        """Make the folders, private to the user; tighten the root if it was made wider."""
        for folder in (self.root, self.registry.parent, self.logs, self.run, self.state):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.root.stat().st_mode & 0o077:
            self.root.chmod(0o700)
        return self

    @property
    def config(self) -> Path:
        return self.root / "config.toml"

    @property
    def env_file(self) -> Path:
        return self.root / ".env.tekton"

    @property
    def registry(self) -> Path:
        return self.root / "ai_registry" / "platform_ai_registry.json"

    @property
    def audit(self) -> Path:
        return self.root / "ai_registry" / "ai_registry_audit.log"

    @property
    def token(self) -> Path:
        return self.root / "token"

    @property
    def logs(self) -> Path:
        """One file a process: `<name>.log`, the previous run beside it as `<name>.previous.log`."""
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """Facts of this life: who serves where. Safe to lose."""
        return self.root / "run"

    @property
    def backend_lock(self) -> Path:
        return self.run / "backend.lock"

    @property
    def backend_facts(self) -> Path:
        """`{"pid","process_start","host","port","epoch"}` of the serving backend."""
        return self.run / "backend.json"

    def lock_of(self, place: int) -> Path:
        """Return the lock of the home's first, second … gateway; several only on a store they share."""
        return self.backend_lock if place == 1 else self.run / f"backend-{place}.lock"

    def facts_of(self, place: int) -> Path:
        """Return where the home's first, second … gateway says that it serves."""
        return self.backend_facts if place == 1 else self.run / f"backend-{place}.json"

    @property
    def embedded_facts(self) -> Path:
        """`{"pid","process_start","url","api_key","model","slots","context"}` of the embedded model server, 0600."""
        return self.run / "embedded.json"

    @property
    def embedded_ending(self) -> Path:
        """One sentence: how the last embedded model server ended. Not there while one serves or starts."""
        return self.run / "embedded.ending"

    @property
    def state(self) -> Path:
        """What must survive: the database, drafts, settings made on the screen."""
        return self.root / "state"

    @property
    def database(self) -> Path:
        return self.state / "engram.sqlite3"

    @property
    def models(self) -> Path:
        return self.root / "models"


def write_private(path: Path, data: bytes) -> None:
    """Replace `path` by `data` in one step, readable by the user alone, on disk before it returns."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        try:
            left = memoryview(data)
            while left:
                left = left[
                    os.write(descriptor, left) :
                ]  # a nearly full disk takes a part and says so only then
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
