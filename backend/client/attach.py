"""Find the backend of a home, or start one.

A backend that was started here belongs to nobody: it lives on when the console ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys

import msgspec
from msgspec import Struct

from backend.client.connection import Client, Place, RemoteError
from backend.home import Home
from backend.schema.errors import ErrorCode, TektonError
from backend.tls import Trust, pinning

START_TIMEOUT_S = 60.0
JOIN_EVERY_S = 0.05
"""Between looks for a backend that somebody else is starting."""


class BackendFailed(TektonError):
    """A backend could not be started; message and code are its own last word."""

    code = "launch_failed"


class _Facts(Struct):
    url: str
    pid: int
    certificate: str = ""


class _Readiness(Struct, omit_defaults=True):
    url: str = ""
    error: str = ""
    code: ErrorCode = "launch_failed"


def own_home() -> Home:
    """Return the home of `TEKTON_HOME`."""
    return Home.from_environment()


def locate(home: Home) -> Place:
    """Return where the first gateway of a home serves, with the token.

    Raises:
        RemoteError: No backend left its facts here (`backend_lost`).
    """
    return _Gateways(home)()


class _Gateways:
    """The gateways of a home, most often one. Each call returns the next: called after a drop, another than was lost."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._turn = 0
        self._chosen: _Facts | None = None

    def __call__(self) -> Place:
        """Return where a gateway serves, with the token. Raises `RemoteError` when none left its facts."""
        try:
            found = _facts(self._home)
            self._chosen = found[self._turn % len(found)]
            self._turn += 1
            return self._chosen.url, self._home.token.read_text(encoding="ascii").strip()
        except (OSError, msgspec.DecodeError, ZeroDivisionError) as error:
            raise RemoteError(
                "no backend runs for this home; `tekton serve` starts one", code="backend_lost"
            ) from error

    def trust(self) -> Trust | None:
        """Return the trust in exactly the certificate that the chosen gateway said it shows."""
        certificate = self._chosen.certificate if self._chosen is not None else ""
        return pinning(certificate) if certificate else None


def _facts(home: Home) -> list[_Facts]:
    """Return what the home's gateways say of themselves; of several, those whose process is there."""
    files = sorted(home.run.glob("backend*.json"), key=lambda path: (len(path.name), path.name))
    found = [msgspec.json.decode(path.read_bytes(), type=_Facts) for path in files]
    return [facts for facts in found if len(found) == 1 or _lives(facts.pid)]


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


async def attach(home: Home, *, start: bool = True) -> Client:
    """Connect to the backend of a home; with `start`, start one when none answers.

    Raises:
        RemoteError: None answers and none was to be started.
        BackendFailed: One was started and ended at once; the message says why.
    """
    gateways = _Gateways(home)
    try:
        return await Client.connect(gateways, trust=gateways.trust)
    except RemoteError as error:
        if not start or error.code != "backend_lost":
            raise
    try:
        await start_backend(home)
    except BackendFailed as error:
        if error.code != "conflict":
            raise
        return await _join(home)
    return await Client.connect(gateways, trust=gateways.trust)


async def _join(home: Home) -> Client:
    """Connect to a backend that somebody else is just starting: two commands of one shell pipe, for example.

    Raises:
        BackendFailed: It was not there within `START_TIMEOUT_S`.
    """
    gateways = _Gateways(home)
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            while True:
                with contextlib.suppress(RemoteError):
                    return await Client.connect(gateways, trust=gateways.trust)
                await asyncio.sleep(JOIN_EVERY_S)
    except TimeoutError as error:
        raise BackendFailed(
            f"another backend holds this home and does not serve; see {home.logs}/backend.log"
        ) from error


async def start_backend(home: Home) -> str:
    """Start a backend for a home and return its URL once it serves.

    Raises:
        BackendFailed: It ended before it served, or was not ready within `START_TIMEOUT_S`.
    """
    home.prepare()
    read_end, write_end = os.pipe()
    process = await asyncio.to_thread(_spawn, home, write_end)
    os.close(write_end)
    try:
        line = await asyncio.wait_for(asyncio.to_thread(_read_line, read_end), START_TIMEOUT_S)
    except TimeoutError as error:
        process.terminate()
        raise BackendFailed(
            f"the backend was not ready within {START_TIMEOUT_S:g} s; see {home.logs}/backend.log"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            os.close(read_end)
    process.returncode = 0  # it lives on without us; nobody waits for it here
    return _url_from(line, home)


def _spawn(home: Home, ready_fd: int) -> subprocess.Popen[bytes]:
    with open(home.logs / "backend.log", "ab", buffering=0, opener=_private) as log:
        return subprocess.Popen(
            [sys.executable, "-m", "backend.gateway.serve", "--ready-fd", str(ready_fd)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(ready_fd,),
            start_new_session=True,
            env={**os.environ, "TEKTON_HOME": str(home.root)},
        )


def _read_line(descriptor: int) -> bytes:
    with os.fdopen(os.dup(descriptor), "rb") as pipe:
        return pipe.readline()


def _url_from(line: bytes, home: Home) -> str:
    if not line:
        raise BackendFailed(f"the backend ended before it served; see {home.logs}/backend.log")
    readiness = msgspec.json.decode(line, type=_Readiness)
    if readiness.error:
        raise BackendFailed(readiness.error, code=readiness.code)
    return readiness.url


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
