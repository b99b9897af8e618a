"""`tekton doctor` and `tekton config`: what is wrong on this machine, each finding with its mend."""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from backend.cli import terminal
from backend.cli.exit_codes import FAILED, OK
from backend.schema.errors import TektonError


class Finding(NamedTuple):
    """One thing looked at. `mend` says what to do when it is not well."""

    ok: bool
    what: str
    mend: str = ""


async def doctor(options: argparse.Namespace) -> int:
    """Look at environment, configuration, ports, providers, weights and permissions."""
    worst = OK
    for finding in [*await asyncio.to_thread(lambda: list(_local())), *await _remote()]:
        mark = terminal.colour("ok  ", "32") if finding.ok else terminal.colour("FAIL", "31")
        print(f"{mark} {terminal.safe(finding.what)}")
        if not finding.ok:
            worst = FAILED
            print(f"     mend: {terminal.safe(finding.mend)}")
    return worst


async def config(options: argparse.Namespace) -> int:
    """Show the settings in force, check the file, or say where it lies."""
    from backend import config as settings_module
    from backend.home import Home

    home = Home.from_environment()
    if options.verb == "path":
        print(home.config)
        return OK
    settings = settings_module.load(home)
    if options.verb == "check":
        from backend.catalog import load

        catalog = load(settings)
        print(
            f"{home.config}: {'good' if home.config.exists() else 'not there; defaults hold'}; {len(catalog.components)} specialists"
        )
        return OK
    print(msgspec.json.format(msgspec.json.encode(settings), indent=2).decode())
    return OK


def _local() -> Iterator[Finding]:
    from backend import config as settings_module
    from backend.catalog import load
    from backend.home import Home
    from backend.providers import weights
    from backend.providers.embedded_server import CannotServe, check_machine

    version = platform.python_version()
    yield Finding(sys.version_info >= (3, 11), f"Python {version}", "install Python 3.11 or newer")
    home = Home.from_environment()
    yield from _permissions(home)
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
        path = weights.find(settings, home)
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
    yield from _ports(settings, catalog)
    free = shutil.disk_usage(home.root if home.root.exists() else "/").free
    yield Finding(
        free > 1 << 30, f"{free >> 30} GiB free on disk", "make room: logs, memory and weights need it"
    )


def _permissions(home: object) -> Iterator[Finding]:
    from backend.home import Home

    assert isinstance(home, Home)
    if not home.root.exists():
        yield Finding(
            os.access(home.root.parent, os.W_OK),
            f"{home.root} will be made",
            f"make {home.root.parent} writable",
        )
        return
    for path, allowed in ((home.root, 0o700), (home.token, 0o600), (home.config, 0o644)):
        if path.exists():
            mode = path.stat().st_mode & 0o777
            yield Finding(not mode & ~allowed & 0o077, f"{path} mode {mode:o}", f"chmod {allowed:o} {path}")


def _ports(settings: object, catalog: object) -> Iterator[Finding]:
    """Say which of our ports a stranger holds. Ports our own workers hold are as they should be."""
    import psutil

    from backend.catalog import Catalog
    from backend.home import Home
    from backend.registry.store import Registry

    assert isinstance(catalog, Catalog)
    home = Home.from_environment()
    ours = {entry.pid for entry in Registry(home.registry, home.audit).read().values()}
    wanted = {component.ai_port: component.name for component in catalog if component.ai_port}
    held: dict[int, int] = {}
    try:
        for connection in psutil.net_connections("tcp"):
            port = connection.laddr[1] if connection.laddr else 0
            if connection.status == psutil.CONN_LISTEN and port in wanted:
                held[port] = connection.pid or 0
    except psutil.AccessDenied:
        yield Finding(True, "ports cannot be looked at without more rights on this system")
        return
    strangers = {port: pid for port, pid in held.items() if pid not in ours}
    for port, pid in strangers.items():
        name = psutil.Process(pid).name() if pid and psutil.pid_exists(pid) else "an unknown program"
        yield Finding(
            False,
            f"port {port} of {wanted[port]} is held by {name} (pid {pid})",
            "stop it, or give the specialist another port",
        )
    if not strangers:
        yield Finding(True, f"{len(wanted)} specialist ports free or ours")


async def _remote() -> list[Finding]:
    from backend import config as settings_module
    from backend.cli.calling import call
    from backend.home import Home
    from backend.providers import choose

    found: list[Finding] = []
    try:
        home = Home.from_environment()
        environment = {**settings_module.read_env_file(home), **os.environ}
        choice = await choose(settings_module.load(home, environment), home, environment)
        found.append(Finding(True, f"provider {choice.provider} {choice.display}: {choice.reason}"))
    except TektonError as error:
        found.append(Finding(False, error.message, "correct the configuration"))
    try:
        platform_facts = await call("platform")
        found.append(Finding(True, f"backend {platform_facts['gateway']} (pid {platform_facts['pid']})"))
    except TektonError as error:
        found.append(Finding(True, f"no backend runs ({error.message.splitlines()[0]})"))
    return found
