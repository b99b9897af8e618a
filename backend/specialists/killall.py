"""End all processes of a platform whose backend does not run: its workers and its model server.

Blocking. Workers are found by how they were started: a damaged registry cannot hide one, and a forged entry cannot make
another program a target.
"""

from __future__ import annotations

import signal
import time
from contextlib import suppress

import msgspec
from msgspec import Struct

from backend.home import Home
from backend.identity import Identity, entry_alive, recorded_identity
from backend.registry import Registry, RegistryError
from backend.schema.records import LaunchResult
from backend.specialists.model_server import SERVICE, ServerFacts
from backend.specialists.process import KILL_WAIT_S, live_groups, signal_group
from backend.specialists.process_scan import find_workers, home_of

GRACE_S = 3.0
POLL_S = 0.02


class _Target(Struct):
    name: str
    identity: Identity
    port: int = 0


def kill_all(home: Home, *, grace_s: float = GRACE_S) -> list[LaunchResult]:
    """End every worker and the model server of a home; return a result for each, an empty list when none lived.

    A registry that takes nothing is left as it is: entries of what ended are provably dead, and go with the next sweep.
    """
    targets = _targets(home)
    started = time.monotonic()
    for number, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, KILL_WAIT_S)):
        alive = _living(targets)
        for target in alive:
            signal_group(target.identity.pid, number)
        _wait(alive, wait_s)
    elapsed_s = round(time.monotonic() - started, 3)
    with suppress(RegistryError, OSError):
        _clear(home, targets)
    return [_result(target, elapsed_s) for target in targets]


def _targets(home: Home) -> list[_Target]:
    targets = [_Target(worker.ai_id, worker.identity, worker.port) for worker in find_workers(home)]
    targets += _of_the_old_name(home, {target.identity.pid for target in targets})
    with suppress(OSError, msgspec.MsgspecError):
        facts = msgspec.json.decode(home.embedded_facts.read_bytes(), type=ServerFacts)
        if facts.identity.still_lives() and home.may_be(facts.home):
            targets.append(_Target(SERVICE, facts.identity))
    return targets


def _of_the_old_name(home: Home, known: set[int]) -> list[_Target]:
    """Return the living workers that the registry names and whose home is gone by the name they know: it was moved."""
    found: list[_Target] = []
    with suppress(RegistryError, OSError):
        for ai_id, entry in Registry(home.registry, home.audit).read().items():
            named = home_of(entry.pid) if entry.pid not in known else ""
            if named and home.may_be(named) and entry_alive(entry):
                found.append(_Target(ai_id, recorded_identity(entry), entry.port))
    return found


def _wait(targets: list[_Target], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and _living(targets):
        time.sleep(POLL_S)


def _living(targets: list[_Target]) -> list[_Target]:
    """Return the targets of which something lives, by one look at all processes."""
    groups = live_groups()
    return [one for one in targets if one.identity.still_lives() or groups.get(one.identity.pid)]


def _clear(home: Home, targets: list[_Target]) -> None:
    """Remove what ended from the registry, and the file with the model server's address."""
    dead = {target.name: target for target in targets if not target.identity.still_lives()}
    if SERVICE in dead:
        home.embedded_facts.unlink(missing_ok=True)
    if not dead:
        return
    with Registry(home.registry, home.audit).transaction() as transaction:
        for ai_id, entry in list(transaction.entries.items()):
            if ai_id in dead and dead[ai_id].identity.pid == entry.pid:
                transaction.deregister(ai_id, reason="ended by kill --all without a backend")


def _result(target: _Target, elapsed_s: float) -> LaunchResult:
    pid = target.identity.pid
    if target.identity.still_lives():
        text = f"pid {pid} does not end, not even by SIGKILL"
        return LaunchResult(target.name, False, "lost", pid, target.port, text, "internal", elapsed_s)
    return LaunchResult(target.name, True, "stopped", pid, target.port, "stopped", None, elapsed_s)
