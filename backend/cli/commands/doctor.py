"""`tekton doctor`: find what is wrong on this machine, and how to fix each thing. Changes nothing, but with `--repair`."""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from backend.cli import terminal
from backend.cli.command import argument, command
from backend.cli.exit_codes import FAILED, OK
from backend.cli.runner import call, here_only
from backend.schema.errors import TektonError
from backend.schema.params import GetPlatform

if TYPE_CHECKING:
    from backend.catalog import Catalog
    from backend.config import Settings
    from backend.home import Home
    from backend.providers.discovery import Found

SOON_DAYS = 14
"""A certificate that expires within these days is a finding."""


class Finding(NamedTuple):
    """One thing that was checked. `fix` says what to do when it is not ok."""

    ok: bool
    what: str
    fix: str = ""


@command(
    "doctor",
    argument(
        "--repair",
        action="store_true",
        help="check the whole database, set a damaged one aside and bring back what can be read",
    ),
    examples=[("tekton doctor", "all findings, and how to fix each")],
)
async def doctor(options: argparse.Namespace) -> int:
    """Check Python, permissions, configuration, weights, ports, disk, provider and backend, and say for each thing
    that is wrong how to fix it. Changes nothing, unless --repair is given: that repairs a damaged database first.
    """
    here_only("`tekton doctor`")
    worst = OK
    if options.repair:
        await asyncio.to_thread(_repair)
    for finding in [*await asyncio.to_thread(lambda: list(_local())), *await _remote()]:
        mark = terminal.colour("ok  ", "green") if finding.ok else terminal.colour("FAIL", "red")
        terminal.draw(f"{mark} {terminal.filled(finding.what, '     ', before=5)}")
        if not finding.ok:
            worst = FAILED
            print(f"     fix: {terminal.filled(finding.fix, '     ', before=10)}")
    return worst


def _local() -> Iterator[Finding]:
    from backend import config as settings_module
    from backend.catalog import load
    from backend.home import READ_ONLY, Home
    from backend.providers.embedded import PROVIDER as EMBEDDED
    from backend.providers.embedded import weights
    from backend.providers.embedded.server import CannotServe, check_machine

    version = platform.python_version()
    yield Finding(sys.version_info >= (3, 11), f"Python {version}", "install Python 3.11 or newer")
    home = Home.from_environment()
    try:
        home.check()
    except TektonError as error:
        yield Finding(False, error.message, "choose another TEKTON_HOME")
        return
    read_only = home.root.exists() and home.is_read_only
    if read_only:  # of what follows from it nothing is broken, and nothing is to be repaired
        yield Finding(False, f"{home.root} is on {READ_ONLY}", "mount it for writing, or set TEKTON_HOME")
    else:
        yield from _permissions(home)
        yield from _files(home)
    yield from _packages()
    try:
        settings = settings_module.load(home)
        catalog = load(settings)
        yield Finding(
            True, f"configuration {home.config}" + ("" if home.config.exists() else " (not there: defaults)")
        )
    except TektonError as error:
        yield Finding(False, f"configuration: {error.message}", f"correct {home.config}")
        return
    yield Finding(settings.fleet.lifecycle_on, "the AI lifecycle is on", "set TEKTON_REGISTER_AI=true")
    try:
        path = weights.find(EMBEDDED.own(settings), home)
        # weights that the operator chose have no checksum that we know
        if path.name == weights.FILE_NAME:
            weights.verify(path)
        yield Finding(True, f"weights of the embedded model {path}")
    except TektonError as error:
        yield Finding(False, error.message, "tekton models fetch")
    try:
        check_machine()
        yield Finding(True, "the embedded model can run on this machine")
    except CannotServe as error:
        yield Finding(False, str(error), "connect Ollama or another provider")
    yield from _ports(home, settings, catalog)
    yield from _agents(settings)
    if not settings.memory.store and not read_only:
        yield from _database(home, settings)
    free = shutil.disk_usage(home.root if home.root.exists() else "/").free
    # weights take about a tenth of a GiB; the rest is for logs and conversations
    yield Finding(
        free > 1 << 30, f"{free >> 30} GiB free on disk", "make room: logs, memory and weights need it"
    )


def _repair() -> None:
    """Mend the database of the home and say what was done.

    Raises:
        TektonError: A backend lives (`conflict`), conversations are elsewhere, or the file cannot be used.
    """
    import sqlite3

    from filelock import FileLock, Timeout

    from backend.home import Home
    from backend.memory.sqlite.database import repair
    from backend.memory.sqlite.executor import store_failed

    home = Home.from_environment()
    if not home.database.exists():
        raise TektonError(f"there is no database {home.database} to repair", code="not_found")
    try:
        with FileLock(home.backend_lock, timeout=0, fallback_to_soft=False):
            done = repair(home.database)
    except Timeout:
        raise TektonError("the backend runs: `tekton stop` first, then repair", code="conflict") from None
    except sqlite3.Error as error:
        raise store_failed(error) from error
    except OSError as error:
        raise TektonError(f"{home.database} cannot be repaired: {error}") from error
    print("\n".join(done) or f"{home.database} is whole: nothing was to be repaired")


def _database(home: Home, settings: Settings) -> Iterator[Finding]:
    """Say how large the conversations are, and what the newest retention did."""
    import sqlite3

    from backend.memory.sqlite.database import missing
    from backend.memory.sqlite.salvage import left_aside
    from backend.memory.sqlite.settings import peek
    from backend.orchestration.maintenance import REPORT, RETAINED_AT, clock_doubt

    if not home.database.exists():
        return
    try:
        kept = peek(home.database, (RETAINED_AT, REPORT))
    except sqlite3.Error as error:
        # the low byte of SQLite's extended codes is the primary one; it cannot be opened is a matter of rights, all else of damage
        damaged = getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_CANTOPEN
        yield Finding(
            False,
            f"the database {home.database} cannot be read: {error}",
            "tekton stop, then tekton doctor --repair: it is set aside, and what can be read is brought back"
            if damaged
            else f"make {home.state} and the files in it readable and writable by you",
        )
        return
    if doubt := clock_doubt(kept.get(RETAINED_AT, math.inf), time.time(), settings.memory.clock_checked):
        yield Finding(False, *doubt.split(": ", 1))
    did = ", ".join(f"{name.replace('_', ' ')} {n}" for name, n in kept.get(REPORT, {}).items() if n)
    when = (
        f"retention {terminal.ago(kept[RETAINED_AT])} ago: {did or 'nothing was old enough'}"
        if RETAINED_AT in kept
        else "no retention yet"
    )
    size = home.database.stat().st_size / 1e6
    for damaged in left_aside(home.database):
        yield Finding(
            False,
            f"{damaged.name} was damaged and set aside; nothing of it was brought back",
            "tekton stop, then tekton doctor --repair",
        )
    if not _backend_pid(home) and (lost := missing(home.database)):
        yield Finding(False, lost, "start the backend without it, or put the copy back")
    yield Finding(True, f"conversations {home.database}, {size:.1f} MB; {when}")


def _permissions(home: Home) -> Iterator[Finding]:
    if not home.root.exists():
        above = home.root.parent
        yield Finding(os.access(above, os.W_OK), f"{home.root} will be made", f"make {above} writable")
        return
    modes = {home.root: 0o700, home.token: 0o600, home.config: 0o644, home.env_file: 0o600}
    for path, allowed in modes.items():
        if path.is_file() or path == home.root:
            mode = path.stat().st_mode & 0o777
            yield Finding(not mode & ~allowed & 0o077, f"{path} mode {mode:o}", f"chmod {allowed:o} {path}")


def _files(home: Home) -> Iterator[Finding]:
    """Check that what a backend reads and writes at its start is of the right kind, readable and writable."""
    from backend.home import read_token
    from backend.registry.store import Registry

    folders = (home.registry.parent, home.logs, home.run, home.state, home.specialists)
    tokens = (home.token, home.worker_token)
    log_of_database = home.database.with_name(f"{home.database.name}-wal")
    files = [*tokens, home.registry, home.audit, home.logs / "control-audit.log", home.database]
    files += [log_of_database, home.backend_lock, home.backend_facts]
    wrong = [
        Finding(False, f"{path} is not a {kind}", "move it away")
        for kind, paths, fits in (("folder", folders, os.path.isdir), ("file", files, os.path.isfile))
        for path in paths
        if os.path.exists(path) and not fits(path)
    ]
    wrong += [
        Finding(
            False,
            f"{path} cannot be read and written by you",
            f"chown it to your user, then chmod u+rw {path}",
        )
        for path in (*folders, *files)
        if os.path.exists(path) and not os.access(path, os.R_OK | os.W_OK)
    ]
    for path in tokens:
        try:
            if os.path.isfile(path):
                read_token(path)
        except TektonError as error:
            fix = "remove the file; a new one is made at the next start"
            wrong.append(Finding(False, error.message, fix))
    try:
        if os.path.isfile(home.registry):
            Registry(home.registry, home.audit).read()
    except TektonError as error:
        fix = "end the specialists with `tekton kill --all`, then move it away"
        wrong.append(Finding(False, error.message, fix))
    yield from wrong or [Finding(True, f"files and folders in {home.root}")]


def _ports(home: Home, settings: Settings, catalog: Catalog) -> Iterator[Finding]:
    """Say which of our ports a stranger holds. Ports our own workers hold are as they should be."""
    import psutil

    from backend.catalog import gateway_port
    from backend.registry.ports import find_holder
    from backend.registry.store import Registry

    try:
        entries = Registry(home.registry, home.audit).read() if home.registry.exists() else {}
    except TektonError:
        return  # found before
    ours = {entry.pid for entry in entries.values()} | {_backend_pid(home)}
    gateway = gateway_port(settings, catalog)
    wanted = {component.ai_port: component.name for component in catalog if component.ai_port}
    wanted |= {gateway: "the gateway"} if gateway else {}
    held: dict[int, int] = {}
    try:
        for connection in psutil.net_connections("tcp"):
            port = connection.laddr[1] if connection.laddr else 0
            if connection.status == psutil.CONN_LISTEN and port in wanted:
                held[port] = connection.pid or 0
    except psutil.AccessDenied:
        yield Finding(True, "ports cannot be looked at without more rights on this system")
        return
    strangers = [port for port, pid in held.items() if pid not in ours]
    for port in strangers:
        holder = find_holder(port)
        yield Finding(
            False,
            f"port {port} of {wanted[port]} is held by {holder}",
            holder.advice or "stop it, or choose another port in the configuration",
        )
    if not strangers:
        words = "free or ours" if wanted else "picked when they are needed"
        yield Finding(True, f"{len(wanted) or 'all'} ports are {words}")


def _backend_pid(home: Home) -> int:
    try:
        return int(json.loads(home.backend_facts.read_bytes())["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


async def _remote() -> list[Finding]:
    """Ask the providers and the backend. What is wrong with the configuration was found before."""
    from backend import config as settings_module
    from backend.home import Home

    home = Home.from_environment()
    try:
        environment = {**settings_module.read_env_file(home), **os.environ}
        settings = settings_module.load(home, environment)
    except TektonError:
        return [await _backend()]
    from backend.providers.discovery import PATIENT_TIMEOUT_S, look_around

    remote = await check_remote(settings, home, environment)
    # one look for all: a second one, of less patience, could say something else
    found = await look_around(settings, home, environment, timeout_s=PATIENT_TIMEOUT_S)
    providers = await _providers(settings, home, environment, found)
    return [*providers, *_candidates(found), *remote, await _backend()]


def _candidates(found: Found) -> list[Finding]:
    """Say what could answer on this machine, and what each place that was looked at said."""
    looked = [Finding(True, f"looked for models: {one.where}: {one.said}") for one in found.looked]
    usable = [one for one in found.candidates if one.usable]
    return [*looked, *(Finding(True, f"found: {one.provider} {one.display}: {one.why}") for one in usable)]


async def _providers(
    settings: Settings, home: Home, environment: dict[str, str], found: Found
) -> list[Finding]:
    """Ask the platform's provider, and each provider and address that specialists have of their own."""
    from backend.catalog import load
    from backend.config import AUTO
    from backend.providers.choice import default_model, settings_with
    from backend.providers.discovery import choose
    from backend.specialists.plan import worker_settings

    choice = await choose(settings, home, environment, found)
    settings = settings_with(settings, choice)  # as the backend asks a server that was found
    what = f"provider {choice.provider} {choice.display}: {choice.reason}"
    asked = {(choice.provider, ""): _asked(what, choice.provider, choice.model, settings, home, environment)}
    for row in load(settings):
        if row.transport == "acp":
            continue  # it has models of its own: see `_agents`
        kind = choice.provider if row.provider in (None, AUTO) else row.provider
        if (kind, row.base_url or "") in asked:
            continue
        own = worker_settings(settings, row)
        what = f"provider {kind} of {row.name}" + (f" at {row.base_url}" if row.base_url else "")
        model = row.model or default_model(kind, own)
        asked[kind, row.base_url or ""] = _asked(what, kind, model, own, home, environment)
    return list(await asyncio.gather(*asked.values()))


async def _asked(
    what: str, kind: str, model: str, settings: Settings, home: Home, environment: dict[str, str]
) -> Finding:
    """Say whether a chat with a provider would be answered; the embedded one starts with its first use."""
    from backend.config import find_provider
    from backend.providers import opened

    fix = "upgrade or uninstall the package, or choose another"
    try:
        info = find_provider(kind)
        fix = info.fix
        if info.check is not None:
            return Finding(True, what)
        async with opened(kind, settings, home, environment) as provider:
            health = await provider.health(model)
    except TektonError as error:
        return Finding(False, f"{what}; {error.message}", fix)
    return Finding(health.ok, f"{what}; {health.detail}", fix)


def _agents(settings: Settings) -> Iterator[Finding]:
    """Yield the external agents that are found, and those that are configured and lack something."""
    from backend.specialists.known_agents import KNOWN

    configured = {
        name: own.command[0]
        for name, own in settings.own_specialists.items()
        if own.transport == "acp" and own.command
    }
    for known in KNOWN:
        if (path := shutil.which(known.command[0])) is not None:
            hint = f"; needs {known.needs}" if known.needs else ""
            yield Finding(
                True,
                f"agent {known.title}: {path}{hint}; make it a specialist: tekton specialists new NAME --agent {known.name}",
            )
    for name, first in configured.items():
        program = os.path.expanduser(first)
        if shutil.which(program) is None:
            install = next((one.install for one in KNOWN if one.command[0] == os.path.basename(program)), "")
            yield Finding(
                False,
                f"agent {name}: there is no program {first!r}",
                install or "give its whole path in command",
            )


def _packages() -> Iterator[Finding]:
    """Say which providers other packages bring, and which of them cannot be used."""
    from backend.config import provider_packages, provider_problems

    for problem in provider_problems():
        sentence, _, fix = problem.rpartition("; ")
        yield Finding(False, sentence, fix)
    for kind, package in provider_packages().items():
        yield Finding(True, f"provider {kind} of the package {package}")


async def _backend() -> Finding:
    try:
        facts = await call(GetPlatform())
        plain = (
            ", reached from other machines without TLS, as gateway.without_tls says" if facts.in_clear else ""
        )
        return Finding(True, f"backend {facts.gateway} (pid {facts.pid}){plain}")
    except TektonError as error:
        if error.code == "backend_lost":
            return Finding(True, error.message)
        return Finding(False, error.message, "tekton stop --force, then tekton serve")


async def check_remote(settings: Settings, home: Home, environment: Mapping[str, str]) -> list[Finding]:
    """Check what the settings name beyond this machine: certificate, cluster, Redis.

    Ray and Redis are imported only when they are named.
    """
    from backend.tls import is_loopback

    found: list[Finding] = []
    if not settings.tls.cert and not is_loopback(settings.gateway.host) and not settings.gateway.without_tls:
        plain = f"gateway.host = {settings.gateway.host} can be reached from other machines, and tls.cert is not set"
        fix = (
            "set tls.cert and tls.key (docs/cluster.md), or gateway.without_tls = true if plain text is meant"
        )
        found.append(Finding(False, plain, fix))
    if settings.tls.cert or settings.tls.ca:
        found.append(await asyncio.to_thread(_certificate, settings))
    if settings.memory.store:
        found.append(await _store(settings, home, environment))
    if settings.cluster.address:
        found += await asyncio.to_thread(_cluster, settings, home, environment)
    return found


def _certificate(settings: Settings) -> Finding:
    from backend import tls

    files = settings.tls
    try:
        found = tls.check(files.cert, files.key, files.ca)
        if files.ca and found is None:
            tls.trusting(files.ca)
    except TektonError as error:
        return Finding(False, f"TLS: {error.message}", "correct [tls] in config.toml")
    if found is None:
        return Finding(True, f"TLS: trusts {files.ca}")
    if files.key and Path(files.key).stat().st_mode & 0o007:
        what = f"TLS: the private key {files.key} can be read by others"
        return Finding(False, what, f"chmod 600 {files.key}")
    left = f"TLS: {files.cert} for {', '.join(found.names) or 'no name'}, {found.days_left} days left"
    return Finding(found.days_left > SOON_DAYS, left, "have it renewed, then start the gateway anew")


async def _store(settings: Settings, home: Home, environment: Mapping[str, str]) -> Finding:
    from backend.memory import choose_store

    try:
        store = choose_store(home, settings, environment)
        await store.open()
    except TektonError as error:
        return Finding(False, f"conversations: {error.message}", "start that server, or correct memory.store")
    await store.close()
    return Finding(True, f"conversations: {store.place}")


def _cluster(settings: Settings, home: Home, environment: Mapping[str, str]) -> list[Finding]:
    """Join the cluster as a gateway would, look, and leave."""
    from backend.specialists.ray.head import ClusterRefused, Head, HeadSilent
    from backend.specialists.supervisor import worker_token

    address = settings.cluster.address
    head = Head(address, worker_token(home))
    try:
        head.join(environment)
    except ClusterRefused as error:
        fix = "see docs/cluster.md, Specialists on several hosts"
        return [Finding(False, f"cluster: {error.message}", fix)]
    try:
        nodes, living = head.nodes(), head.running_ids()
    except HeadSilent as error:
        return [Finding(False, f"cluster: {error.message}", "see that the head runs: ray status")]
    finally:
        head.leave()
    mine = f"{len(living)} specialists of this home run there" if living else "none of this home runs there"
    found = [Finding(True, f"cluster {address}, Ray {head.ray.__version__}, token accepted; {mine}")]
    for node in nodes:
        where = f"node {node.host} ({node.address})"
        what = where if node.alive else f"{where} is gone"
        fix = "start Ray there anew, or ignore it: a dead node stays listed"
        found.append(Finding(node.alive, what, fix))
    return found
