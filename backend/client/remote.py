"""Connect to a gateway on another machine, by the address, token file and CA file that a person gives.

Knows no home; starts nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from itertools import cycle
from pathlib import Path
from urllib.parse import urlsplit

from backend.client.connection import Client, RemoteError
from backend.home import HomeRefused, read_token
from backend.tls import Trust, trusting

SCHEMES = ("http", "https", "ws", "wss")
ADDRESS, TOKEN_FILE, CA_FILE = "TEKTON_CONNECT", "TEKTON_TOKEN_FILE", "TEKTON_CA_FILE"
"""Environment variables that stand in for options that are not given."""


async def connect_to(url: str, token_file: str | None, ca_file: str | None = None) -> Client:
    """Connect to a gateway elsewhere. `ca_file` is the authority that signed its certificate, if the system does not know it.

    `url` may name several that serve one fleet, with commas between: after a drop the next one is tried.

    Raises:
        RemoteError: The address or token file is missing or wrong, nothing listens there, or its certificate is not trusted.
        TlsRefused: `ca_file` cannot be used.
    """
    urls = [part.strip() for part in url.split(",")]
    for part in urls:
        check_address(part)
    if not token_file:
        raise RemoteError(
            f"--connect needs --token-file (or {TOKEN_FILE}): the file `token` of that machine's TEKTON_HOME",
            code="unauthorized",
        )
    try:
        token = await asyncio.to_thread(_token, token_file)
    except FileNotFoundError as error:
        raise RemoteError(f"{token_file}: there is no such file", code="unauthorized") from error
    except HomeRefused as error:
        raise RemoteError(error.message, code="unauthorized") from error
    trust = await asyncio.to_thread(_believed, ca_file) if ca_file else None
    places = cycle([(part, token) for part in urls])
    # the last one is asked below, so that its error is the one that is shown
    for _ in urls[:-1]:
        with contextlib.suppress(RemoteError):
            return await Client.connect(lambda: next(places), trust=lambda: trust)
    return await Client.connect(lambda: next(places), trust=lambda: trust)


def check_address(url: str) -> None:
    """Check the address of a gateway before anything is sent.

    Raises:
        RemoteError: It has no scheme of ours or no host.
    """
    scheme, mark, host = url.partition("://")
    if "@" in host:
        raise RemoteError(
            "the address of a gateway takes no user name and no password; its token comes from --token-file",
            code="invalid_request",
        )
    looks = "it looks like http://10.0.0.5:8003 or https://host"
    if not mark or scheme not in SCHEMES or not host.strip("/"):
        raise RemoteError(f"{url!r} is no address of a gateway; {looks}", code="invalid_request")
    try:
        known = bool(urlsplit(url).hostname) and urlsplit(url).port != 0
    except ValueError:  # a port that is no number, or none there can be; a bracket that is not closed
        known = False
    if not known:
        raise RemoteError(
            f"{url!r} is no address of a gateway: its port cannot be; {looks}", code="invalid_request"
        )


def _believed(path: str) -> Trust:
    return trusting(str(Path(path).expanduser()))


def _token(path: str) -> str:
    file = Path(path).expanduser()
    token = read_token(file)
    if file.stat().st_mode & 0o077:
        raise HomeRefused(
            f"{path} can be read by others on this machine (mode {file.stat().st_mode & 0o777:o}): whoever has the token "
            f"controls that fleet. Make it yours alone: chmod 600 {path}"
        )
    return token
