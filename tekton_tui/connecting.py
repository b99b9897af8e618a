"""How the console comes to its client: the home's own backend, started if need be, or a gateway elsewhere.

The client is imported when it is used: the first paint does not wait for it.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

SCHEMES = ("http", "https", "ws", "wss")

if TYPE_CHECKING:
    from tekton_tui.desk import Connect, ConsoleClient


def connector(home: str | None, url: str | None, token_file: str | None) -> Connect:
    """Return a function that connects; its errors say what to do."""
    if home:
        os.environ["TEKTON_HOME"] = home

    async def connect() -> ConsoleClient:
        from backend.client import Client, RemoteError, attach, own_home

        if url is None:
            return await attach(own_home())
        _check(url)
        path = token_file or os.environ.get("TEKTON_TOKEN_FILE")
        if not path:
            raise RemoteError(
                "--connect needs --token-file: the file `token` of that machine's TEKTON_HOME",
                code="unauthorized",
            )
        try:
            token = await asyncio.to_thread(_read, path)
        except (OSError, UnicodeDecodeError) as error:
            raise RemoteError(f"{path}: the token cannot be read: {error}", code="unauthorized") from error
        return await Client.connect((url, token))

    return connect


def _check(url: str) -> None:
    """Refuse what is no address of a gateway, before anything is sent.

    Raises:
        RemoteError: It has no scheme of ours or no host.
    """
    from backend.client import RemoteError

    scheme, mark, host = url.partition("://")
    if not mark or scheme not in SCHEMES or not host.strip("/"):
        raise RemoteError(
            f"{url!r} is no address of a gateway; it looks like http://10.0.0.5:8003 or https://host",
            code="invalid_request",
        )


def _read(path: str) -> str:
    return Path(path).expanduser().read_text(encoding="ascii").strip()
