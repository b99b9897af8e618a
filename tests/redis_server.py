"""A real Redis server on a free loopback port with a private folder, started and ended by the tests."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.memory import MemoryStore
from backend.memory.redis.connection import Address

BINARY = shutil.which("redis-server")
MISSING = "redis-server is not installed (Debian: apt install redis-server)"
NEEDS_REDIS = pytest.mark.skipif(BINARY is None, reason=MISSING)


class RedisServer:
    """One server process. It can be killed and begun again on the same port and data."""

    def __init__(self, folder: Path, *options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.options = folder, options
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = int(probe.getsockname()[1])
        self.address = Address(f"redis://127.0.0.1:{self.port}/0")
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> RedisServer:
        """Run the server and wait until it says that it takes connections."""
        assert BINARY is not None
        settings = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", ""]
        durable = [] if "--appendonly" in self.options else ["--appendonly", "yes", "--appendfsync", "always"]
        self.process = subprocess.Popen(
            [BINARY, *settings, *durable, *self.options], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if "Ready to accept connections" in line:
                return self
        raise AssertionError("redis-server ended at once")

    def kill(self) -> None:
        """End the server as a power cut would."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.communicate()
            self.process = None

    def empty(self) -> None:
        """Forget everything."""
        self.command("FLUSHALL")

    def command(self, words: str) -> None:
        """Give the server a command that it answers with OK."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(f"{words}\r\n".encode())
            assert connection.recv(16) == b"+OK\r\n"

    def store(self, gateway: str, *, volatile: bool = False) -> MemoryStore:
        from backend.memory.redis.store import RedisStore

        return RedisStore(self.address, gateway, volatile=volatile)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Return a running server, shared by all tests; each empties it first."""
    if BINARY is None:
        pytest.skip(MISSING)
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.kill()
