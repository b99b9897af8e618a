"""What the providers built on a vendor's library share: a client made off the event loop, text made whole.

Knows no vendor.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import socket
from base64 import b64encode
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies

IDLE_S, EVERY_S, TIMES = 10, 5, 3
"""Seconds of silence before the kernel asks whether an upstream's host is there, between two questions, and how many."""
_SURROGATE = re.compile("[\ud800-\udfff]")
_HIGH = re.compile("[\ud800-\udbff]\\Z")


def reaching(library: Any, url: str) -> dict[str, Any]:
    """Return an HTTP client's options for an upstream: this machine without proxies, others under watch.

    `library` is httpx or its successor. Without the watch a stream whose other end is cut off would stay open for ever;
    with it the kernel ends it after `IDLE_S` + `TIMES` x `EVERY_S` seconds of a silence that no probe breaks.
    """
    if is_loopback(url):
        return {"trust_env": False}
    if "all" in getproxies():
        return {"trust_env": True}  # its proxy would be passed over
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    for name, value in (("TCP_KEEPIDLE", IDLE_S), ("TCP_KEEPINTVL", EVERY_S), ("TCP_KEEPCNT", TIMES)):
        if (option := getattr(socket, name, None)) is not None:  # not every system has each
            options.append((socket.IPPROTO_TCP, option, value))
    limits = library.Limits(max_connections=1_000, max_keepalive_connections=100)
    return {
        "trust_env": True,
        "mounts": {"all://": library.AsyncHTTPTransport(limits=limits, socket_options=options)},
    }


def is_loopback(url: str) -> bool:
    """Return whether an address is this machine: then no proxy of the environment may come in between."""
    host = urlsplit(url if "://" in url else f"//{url}").hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def split_user(url: str) -> tuple[str, str]:
    """Return an address as it may be shown, and the `Authorization` for the user and password in it, if any."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url, ""
    user, _, address = parts.netloc.rpartition("@")
    return parts._replace(netloc=address).geturl(), f"Basic {b64encode(unquote(user).encode()).decode()}"


def quiet_libraries() -> None:
    """Keep the libraries' own lines, one a request, out of logs."""
    for name in ("httpx", "httpx2", "httpcore", "httpcore2"):
        logging.getLogger(name).setLevel(logging.WARNING)


class Whole:
    """Make text of pieces valid: a character split over two JSON strings is joined, half of one is replaced.

    Servers that cut their text at UTF-16 units send such halves; nothing after us could encode them.
    """

    def __init__(self) -> None:
        self._half = ""

    def feed(self, text: str) -> str:
        """Return what can be shown now; may be empty."""
        if not self._half and (text.isascii() or not _SURROGATE.search(text)):
            return text
        text, self._half = self._half + text, ""
        if _HIGH.search(text):
            text, self._half = text[:-1], text[-1]
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    def rest(self) -> str:
        """Return what stands for a half that never got its other half."""
        half, self._half = self._half, ""
        return "\ufffd" if half else ""
