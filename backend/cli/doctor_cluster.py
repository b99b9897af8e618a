"""What is wrong beyond this machine: certificate, cluster and Redis server, each finding with its mend.

Looks only at what the settings name; Ray and Redis are imported only then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from backend import tls
from backend.cli.doctor import Finding
from backend.schema.errors import TektonError

if TYPE_CHECKING:
    from backend.config import Settings
    from backend.home import Home

SOON_DAYS = 14


async def beyond(settings: Settings, home: Home, environment: Mapping[str, str]) -> list[Finding]:
    """Look at everything the settings name that is not on this machine."""
    found: list[Finding] = []
    if settings.tls.cert or settings.tls.ca:
        found.append(await asyncio.to_thread(_certificate, settings))
    if settings.memory.store:
        found.append(await _store(settings, home, environment))
    if settings.cluster.address:
        found += await asyncio.to_thread(_cluster, settings, home, environment)
    return found


def _certificate(settings: Settings) -> Finding:
    files = settings.tls
    try:
        found = tls.check(files.cert, files.key, files.ca)
        if files.ca and found is None:
            tls.trusting(files.ca)
    except TektonError as error:
        return Finding(False, f"TLS: {error.message}", "correct [tls] in config.toml")
    if found is None:
        return Finding(True, f"TLS: trusts {files.ca}")
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
    from backend.specialists.ray_head import ClusterRefused, Head, HeadSilent
    from backend.specialists.supervisor import worker_token

    address = settings.cluster.address
    head = Head(address, worker_token(home))
    try:
        head.join(environment)
    except ClusterRefused as error:
        return [
            Finding(False, f"cluster: {error.message}", "see docs/cluster.md, Specialists on several hosts")
        ]
    try:
        nodes, living = head.nodes(), head.living()
    except HeadSilent as error:
        return [Finding(False, f"cluster: {error.message}", "see that the head runs: ray status")]
    finally:
        head.leave()
    mine = f"{len(living)} specialists of this home run there" if living else "none of this home runs there"
    found = [Finding(True, f"cluster {address}, Ray {head.ray.__version__}, token accepted; {mine}")]
    for node in nodes:
        where = f"node {node.host} ({node.address})"
        what = where if node.alive else f"{where} is gone"
        found.append(
            Finding(node.alive, what, "start Ray there anew, or ignore it: a dead node stays listed")
        )
    return found
