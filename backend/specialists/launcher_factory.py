"""Choose the launcher of a platform: processes of this machine, or the Ray cluster its settings name.

Ray is imported only if it is used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from backend.config import Settings
from backend.home import Home
from backend.identity import entry_alive
from backend.registry import Registry
from backend.schema.errors import TektonError
from backend.specialists.launcher import Launcher
from backend.specialists.local import LocalLauncher
from backend.specialists.supervisor import worker_token
from backend.tls import TlsRefused


class LocalSpecialistsRun(TektonError):
    """Specialists run on this machine, which a cluster's launcher can neither see nor end."""

    code = "conflict"


async def choose_launcher(home: Home, settings: Settings, environment: Mapping[str, str]) -> Launcher:
    """Return the launcher, ready to be used.

    Raises:
        LocalSpecialistsRun: The home has specialists that run on this machine.
        ClusterRefused: The cluster cannot be used.
        TlsRefused: Specialists use certificates, and `tls.ca`, which must have signed them, is not set.
    """
    if not settings.cluster.address:
        return LocalLauncher(home, settings, environment)
    entries = await asyncio.to_thread(Registry(home.registry, home.audit).read)
    local = sorted(
        ai_id for ai_id, entry in entries.items() if entry.launcher == "local" and entry_alive(entry)
    )
    if local:
        raise LocalSpecialistsRun(
            f"{', '.join(local)} run on this machine, where a gateway with --cluster does not see them: "
            "stop them first with `tekton kill --all`"
        )
    if settings.tls.cert and not settings.tls.ca:
        raise TlsRefused(
            "tls.ca is missing: specialists on other hosts show certificates that it must have signed"
        )
    from backend.specialists.ray.killall import note_cluster
    from backend.specialists.ray.launcher import RayLauncher

    launcher = RayLauncher(home, settings, environment, worker_token(home))
    await launcher.connect()
    await asyncio.to_thread(note_cluster, home, settings.cluster.address)
    return launcher
