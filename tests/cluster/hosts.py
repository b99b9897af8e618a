"""Hosts as far as a network goes: namespaces of this machine on one bridge, any of which can be cut off."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager

CLONE_NEWNET = 0x40000000
OURS = f"tk{os.getpid()}"
"""What the names of this run's namespaces begin with: another run, or what one left behind that was killed, is not in its way."""
BRIDGE = f"{OURS}br"


def run(*words: str, **options: object) -> None:
    """Run a command of the system to its end."""
    subprocess.run(words, check=True, capture_output=True, timeout=60, **options)  # type: ignore[call-overload]


def permitted() -> bool:
    """Return whether this machine lets us make namespaces."""
    if shutil.which("ip") is None:
        return False
    try:
        run("ip", "netns", "add", f"{OURS}probe")
        run("ip", "netns", "del", f"{OURS}probe")
    except (subprocess.SubprocessError, OSError):
        return False
    return True


@contextmanager
def standing(name: str) -> Generator[None]:
    """Let this thread be in a namespace: sockets and processes it makes are there."""
    libc = ctypes.CDLL(None, use_errno=True)
    before, there = os.open("/proc/self/ns/net", os.O_RDONLY), os.open(f"/run/netns/{name}", os.O_RDONLY)
    try:
        if libc.setns(there, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        yield
    finally:
        libc.setns(before, CLONE_NEWNET)
        os.close(there)
        os.close(before)


class Hosts:
    """`names` get the addresses 10.77.0.1, .2 …; `router` holds the bridge between them."""

    def __init__(self, *names: str) -> None:
        self.names = {f"{OURS}{name}": f"10.77.0.{number}" for number, name in enumerate(names, 1)}
        run("ip", "netns", "add", BRIDGE)
        run("ip", "-n", BRIDGE, "link", "add", "br0", "type", "bridge")
        run("ip", "-n", BRIDGE, "link", "set", "br0", "up")
        for name, address in self.names.items():
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
            run("ip", "-n", name, "link", "add", "e0", "type", "veth", "peer", "name", name, "netns", BRIDGE)
            run("ip", "-n", name, "addr", "add", f"{address}/24", "dev", "e0")
            run("ip", "-n", name, "link", "set", "e0", "up")
            run("ip", "-n", BRIDGE, "link", "set", name, "master", "br0", "up")

    def address(self, name: str) -> str:
        return self.names[f"{OURS}{name}"]

    def inside(self, name: str) -> list[str]:
        """Return the words before a command that is to run on a host."""
        return ["ip", "netns", "exec", f"{OURS}{name}"]

    def cut(self, name: str) -> None:
        """Let nothing to or from a host through any more; nobody is told."""
        run("ip", "-n", BRIDGE, "link", "set", f"{OURS}{name}", "nomaster")

    def mend(self, name: str) -> None:
        run("ip", "-n", BRIDGE, "link", "set", f"{OURS}{name}", "master", "br0")

    def remove(self) -> None:
        for name in (*self.names, BRIDGE):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True, timeout=60)

    def stand_on(self, name: str) -> AbstractContextManager[None]:
        """Let this thread be on a host: the sockets it makes are that host's."""
        return standing(f"{OURS}{name}")
