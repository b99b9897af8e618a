"""Which launcher a platform uses: processes of this machine, or the cluster its settings name.

Ray is imported only where it is used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from backend.config import Settings
from backend.home import Home, write_private
from backend.registry import Registry
from backend.registry.identity import entry_alive
from backend.schema.errors import TektonError
from backend.specialists.launcher import Launcher
from backend.specialists.local import LocalLauncher
from backend.specialists.supervisor import worker_token
from backend.tls import TlsRefused

CLUSTER_NOTE = "cluster"
"""File of the home's `run` folder that says which cluster its specialists are on."""


class LocalsRun(TektonError):
    """Specialists of this machine run, which a cluster's launcher cannot take over."""

    code = "conflict"


async def choose_launcher(home: Home, settings: Settings, environment: Mapping[str, str]) -> Launcher:
    """Return the launcher, ready to be used.

    Raises:
        LocalsRun: The home has specialists that run on this machine.
        ClusterRefused: The cluster cannot be used.
        TlsRefused: Specialists would show certificates, and nothing says whom to believe.
    """
    if not settings.cluster.address:
        return LocalLauncher(home, settings, environment)
    entries = await asyncio.to_thread(Registry(home.registry, home.audit).read)
    here = sorted(
        ai_id for ai_id, entry in entries.items() if entry.launcher == "local" and entry_alive(entry)
    )
    if here:
        raise LocalsRun(
            f"{', '.join(here)} run on this machine, where a gateway with --cluster does not see them: "
            "stop them first with `tekton kill --all`"
        )
    if settings.tls.cert and not settings.tls.ca:
        raise TlsRefused(
            "tls.ca is missing: specialists on other hosts show certificates that it must have signed"
        )
    from backend.specialists.ray_launcher import RayLauncher

    launcher = RayLauncher(home, settings, environment, worker_token(home))
    await launcher.connect()
    await asyncio.to_thread(write_private, home.run / CLUSTER_NOTE, settings.cluster.address.encode())
    return launcher


def last_cluster(home: Home) -> str:
    """Return the address of the cluster the home's last gateway joined; empty when none did."""
    try:
        return (home.run / CLUSTER_NOTE).read_text(encoding="utf-8").strip()
    except OSError:
        return ""
