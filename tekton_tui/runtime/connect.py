"""How the console comes to its client: the home's own backend, started if need be, or a gateway elsewhere.

The client is imported when it is used: the first paint does not wait for it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tekton_tui.runtime.controller import Connect, ConsoleClient


def connector(
    home: str | None, url: str | None, token_file: str | None, ca_file: str | None = None
) -> Connect:
    """Return a function that connects; its errors say what to do."""
    if home:
        os.environ["TEKTON_HOME"] = home

    async def connect() -> ConsoleClient:
        from backend.client import ADDRESS, CA_FILE, TOKEN_FILE, attach, connect_to, own_home

        place = url or os.environ.get(ADDRESS)
        if not place:
            return await attach(own_home())
        return await connect_to(
            place, token_file or os.environ.get(TOKEN_FILE), ca_file or os.environ.get(CA_FILE)
        )

    return connect
