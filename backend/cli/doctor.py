"""`tekton doctor`: what is wrong on this machine, each finding with its mend. Mends nothing itself."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from backend.cli import terminal
from backend.cli.exit_codes import FAILED, OK
from backend.schema.errors import TektonError

if TYPE_CHECKING:
    from backend.catalog import Catalog
    from backend.config import Settings
    from backend.home import Home
MENDS = {
    "ollama": "start it with `ollama serve`, fetch the model with `ollama pull MODEL`, or correct providers.ollama",
    "anthropic": "set ANTHROPIC_API_KEY, or providers.anthropic.api_key_file; see that the network lets it through",
    "openai": "correct providers.openai.base_url, its model or its key; see that the server runs",
    "scripted": "correct providers.scripted.script",
}
"""What to do when a provider cannot be used."""


class Finding(NamedTuple):
    """One thing looked at. `mend` says what to do when it is not well."""

    ok: bool
    what: str
    mend: str = ""


async def doctor(options: argparse.Namespace) -> int:
    """Look at environment, configuration, ports, providers, weights and permissions."""
    worst = OK
    for finding in [*await asyncio.to_thread(lambda: list(_local())), *await _remote()]:
        mark = terminal.colour("ok  ", "green") if finding.ok else terminal.colour("FAIL", "red")
        print(f"{mark} {terminal.filled(finding.what, '     ', before=5)}")
        if not finding.ok:
            worst = FAILED
            print(f"     mend: {terminal.filled(finding.mend, '     ', before=11)}")
    return worst


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
    yield from _ports(home, settings, catalog)
    free = shutil.disk_usage(home.root if home.root.exists() else "/").free
    yield Finding(
        free > 1 << 30, f"{free >> 30} GiB free on disk", "make room: logs, memory and weights need it"
    )


def _permissions(home: Home) -> Iterator[Finding]:
    if not home.root.exists():
        yield Finding(
            os.access(home.root.parent, os.W_OK),
            f"{home.root} will be made",
            f"make {home.root.parent} writable",
        )
        return
    for path, allowed in (
        (home.root, 0o700),
        (home.token, 0o600),
        (home.config, 0o644),
        (home.env_file, 0o600),
    ):
        if path.exists():
            mode = path.stat().st_mode & 0o777
            yield Finding(not mode & ~allowed & 0o077, f"{path} mode {mode:o}", f"chmod {allowed:o} {path}")


def _ports(home: Home, settings: Settings, catalog: Catalog) -> Iterator[Finding]:
    """Say which of our ports a stranger holds. Ports our own workers hold are as they should be."""
    import psutil

    from backend.registry.store import Registry

    entries = Registry(home.registry, home.audit).read() if home.registry.exists() else {}
    ours = {entry.pid for entry in entries.values()} | {_backend_pid(home)}
    gateway = catalog.get("rhetor").port if settings.gateway.port is None else settings.gateway.port
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
    strangers = {port: pid for port, pid in held.items() if pid not in ours}
    for port, pid in strangers.items():
        name = psutil.Process(pid).name() if pid and psutil.pid_exists(pid) else "an unknown program"
        yield Finding(
            False,
            f"port {port} of {wanted[port]} is held by {name} (pid {pid})",
            "stop it, or choose another port in the configuration",
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
    """Ask the provider and the backend. What is wrong with the configuration was found before."""
    from backend import config as settings_module
    from backend.home import Home

    home = Home.from_environment()
    try:
        environment = {**settings_module.read_env_file(home), **os.environ}
        settings = settings_module.load(home, environment)
    except TektonError:
        return [await _backend()]
    from backend.cli.doctor_cluster import beyond

    further = await beyond(settings, home, environment)
    return [await _provider(settings, home, environment), *further, await _backend()]


async def _provider(settings: Settings, home: Home, environment: dict[str, str]) -> Finding:
    """Say which provider is used and whether a chat would find it; the embedded one comes with its first use."""
    from backend.providers import choose, create

    choice = await choose(settings, home, environment)
    what = f"provider {choice.provider} {choice.display}: {choice.reason}"
    if choice.provider == "embedded":
        return Finding(True, what)
    provider = create(choice.provider, settings, home, environment)
    try:
        await provider.prepare()
        health = await provider.health(choice.model)
    except TektonError as error:
        return Finding(False, f"{what}; {error.message}", MENDS[choice.provider])
    finally:
        await provider.aclose()
    return Finding(health.ok, f"{what}; {health.detail}", MENDS[choice.provider])


async def _backend() -> Finding:
    from backend.cli.calling import call

    try:
        facts = await call("platform")
        return Finding(True, f"backend {facts['gateway']} (pid {facts['pid']})")
    except TektonError as error:
        if error.code == "backend_lost":
            return Finding(True, "no backend runs; the console, `tekton launch` and `tekton serve` start one")
        return Finding(False, error.message, "tekton stop, then tekton serve")
