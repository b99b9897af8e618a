"""Find the backend of a home, or start one.

A backend that was started here belongs to nobody: it lives on when the console ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from backend.client.connection import Client, Place, RemoteError
from backend.home import Home, read_token
from backend.schema.errors import ErrorCode, TektonError
from backend.tls import Trust, pinning

if TYPE_CHECKING:
    import psutil

NO_BACKEND = "no backend runs for this home; `tekton serve` or the console starts one"
START_TIMEOUT_S = 60.0
SETTLE_S, JOIN_EVERY_S = 10.0, 0.05
"""How long a backend that starts or ends just now may take until it accepts or is gone, and between two looks at it."""


class BackendFailed(TektonError):
    """A backend could not be started; message and code are those it reported before it ended."""

    code = "launch_failed"


class _Facts(Struct):
    """Facts that a gateway writes into its home; `process_start` in unix seconds, 0 and `home` empty from older versions."""

    url: str
    pid: int
    certificate: str = ""
    process_start: float = 0.0
    home: str = ""
    start_ticks: int = 0
    boot_id: str = ""


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
        RemoteError: `backend_lost` when no backend has written its facts into this home.
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
        except (OSError, msgspec.DecodeError, ZeroDivisionError) as error:
            raise RemoteError(NO_BACKEND, code="backend_lost") from error
        try:
            return self._chosen.url, read_token(self._home.token)
        except FileNotFoundError as error:
            raise RemoteError(
                f"{self._home.token}: the token of this home is gone", code="unauthorized"
            ) from error

    def trust(self) -> Trust | None:
        """Return the trust in exactly the certificate that the chosen gateway said it shows."""
        certificate = self._chosen.certificate if self._chosen is not None else ""
        return pinning(certificate) if certificate else None


def _facts(home: Home) -> list[_Facts]:
    """Return the facts that the home's gateways left in it; of several, those whose process is alive.

    What came with a copy of another home names a backend that serves that one.
    """
    # the first gateway's file has the shortest name: it is asked first
    files = sorted(home.run.glob("backend*.json"), key=lambda path: (len(path.name), path.name))
    read = [msgspec.json.decode(path.read_bytes(), type=_Facts) for path in files]
    found = [facts for facts in read if home.may_be(facts.home)]
    return [facts for facts in found if len(found) == 1 or _process(facts)]


def _process(facts: _Facts) -> psutil.Process | None:
    """Return the process of a gateway, `None` when it is gone; one that is suspended or hangs counts as alive."""
    import psutil

    from backend.identity import Identity

    try:
        process = psutil.Process(facts.pid)
        own = Identity(facts.pid, facts.process_start, facts.start_ticks, facts.boot_id)
        same = not facts.process_start or own.still_lives()
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def backend_process(home: Home, url: str) -> psutil.Process | None:
    """Return the process of the gateway of a home that serves at `url`, while it lives."""
    with contextlib.suppress(OSError, msgspec.DecodeError):
        return next((_process(facts) for facts in _facts(home) if facts.url == url), None)
    return None


def living_backend(home: Home) -> int:
    """Return the pid of a gateway of the home whose process lives, 0 when there is none."""
    with contextlib.suppress(OSError, msgspec.DecodeError):
        return next((facts.pid for facts in _facts(home) if _process(facts)), 0)
    return 0


async def attach(home: Home, *, start: bool = True) -> Client:
    """Connect to the backend of a home; with `start`, start one when none runs.

    Raises:
        RemoteError: None runs and none was to be started (`backend_lost`); or one runs and does not answer (`timeout`,
            with its `pid` in the detail).
        BackendFailed: One was started and ended at once; the message says why.
    """
    gateways = _Gateways(home)
    try:
        return await Client.connect(gateways, trust=gateways.trust)
    except RemoteError as error:
        if error.code not in ("backend_lost", "timeout"):
            raise
        pid = await asyncio.to_thread(living_backend, home)
        # one that refuses connections starts or ends just now
        if pid and error.code == "backend_lost" and (client := await _connected(home, SETTLE_S)) is not None:
            return client
        # looked at again: one that ended while we waited may be replaced, one that hangs must not
        if pid and await asyncio.to_thread(living_backend, home) == pid:
            raise RemoteError(
                f"the backend (pid {pid}) is running and does not answer: {error.message}; `tekton stop` can end it",
                code="timeout",
                detail={"pid": pid},
            ) from error
        if not start:
            raise RemoteError(NO_BACKEND, code="backend_lost") from error
    for _ in range(int(START_TIMEOUT_S / SETTLE_S)):
        try:
            await start_backend(home)
            return await Client.connect(gateways, trust=gateways.trust)
        except BackendFailed as error:
            if error.code != "conflict":
                raise
        # somebody else starts or ends one just now: two commands of one shell pipe, for example
        if (client := await _connected(home, SETTLE_S, even_unseen=True)) is not None:
            return client
    raise BackendFailed(f"another backend holds this home and does not serve; see {home.logs}/backend.log")


async def _connected(home: Home, within_s: float, *, even_unseen: bool = False) -> Client | None:
    """Connect to a backend as soon as it accepts; `None` when it does not within a time, or has ended.

    With `even_unseen` one that has not said yet where it serves is waited for, too.
    """
    gateways = _Gateways(home)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            while even_unseen or await asyncio.to_thread(living_backend, home):
                with contextlib.suppress(RemoteError):
                    return await Client.connect(gateways, trust=gateways.trust)
                await asyncio.sleep(JOIN_EVERY_S)
    return None


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
    # `Popen` warns when it is dropped before its process ended.
    process.returncode = 0  # it lives on without us; nobody waits for it here
    return _url_from(line, home)


def _spawn(home: Home, ready_fd: int) -> subprocess.Popen[bytes]:
    with open(home.logs / "backend.log", "ab", buffering=0, opener=_private) as log:
        # a session of its own: ctrl-c in the terminal of whoever started it must not end it
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "backend.gateway.serve", "--ready-fd", str(ready_fd)],
            cwd=home.root,  # it outlives the caller, whose folder may be removed or unmounted
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(ready_fd,),
            start_new_session=True,
            env={**_environment(), "TEKTON_HOME": str(home.root)},
        )


def _environment() -> dict[str, str]:
    """Return our environment with absolute names in `PYTHONPATH`, as the backend works in another folder."""
    environment = dict(os.environ)
    if path := environment.get("PYTHONPATH"):
        environment["PYTHONPATH"] = os.pathsep.join(
            os.path.abspath(entry) for entry in path.split(os.pathsep) if entry
        )
    return environment


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
