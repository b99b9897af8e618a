"""A real backend of its own for a benchmark: private home, free ports, the scripted provider; knows no console."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, MutableMapping
from pathlib import Path

from backend.client import Client, attach
from backend.home import Home

ENVIRONMENT = {
    "TEKTON_PORT_PROFILE": "free",
    "TEKTON_GATEWAY_PORT": "0",
    "TEKTON_PROVIDER": "scripted",
}


@contextlib.asynccontextmanager
async def own_backend(environment: MutableMapping[str, str]) -> AsyncIterator[tuple[Home, Client]]:
    """Serve a new home; give it and a client; at the end stop specialists and backend.

    Args:
        environment: The process environment to be changed (`os.environ`): the home's name is put into it.
    """
    with tempfile.TemporaryDirectory(prefix="tk-", ignore_cleanup_errors=True) as folder:
        environment.update(ENVIRONMENT, TEKTON_HOME=folder)
        client = await attach(Home(Path(folder)))
        try:
            yield Home(Path(folder)), client
        finally:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(client.request("shutdown", {"stop_fleet": True}), 30)
            await client.close()
