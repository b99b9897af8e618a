"""A whole platform in a home of its own: the real backend process, its workers, and a client of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from backend.client import Client, attach
from backend.home import Home
from backend.schema.errors import TektonError

BOUND_S = 60.0


async def tekton(*words: str) -> tuple[int, str, str]:
    """Run the command line as its user does; return exit code, stdout and stderr."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "backend.cli.tekton", *words,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), BOUND_S)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


class OverClient:
    """What a test asks of a platform through its client."""

    client: Client

    async def launch(self, *names: str) -> None:
        for result in (await self.client.request("launch", {"ids": list(names)}))["results"]:
            assert result["ok"], result

    async def row(self, name: str) -> dict[str, Any]:
        rows = (await self.client.request("snapshot", {}))["specialists"]
        return next(row for row in rows if row["name"] == name)

    async def until_row(self, name: str, fits: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Wait for a row to become so; looks as often as the backend answers."""
        async with asyncio.timeout(BOUND_S):
            while not fits(row := await self.row(name)):
                pass
        return row

    async def ask(self, name: str, content: str, **more: Any) -> dict[str, Any]:
        return await self.client.request(
            "chat", {"ai_id": name, "content": content, **more}, timeout_s=BOUND_S
        )


@dataclass
class Whole(OverClient):
    """One client's view of the platform of `home`. After `kill_backend`, `reattach` starts and joins the next one."""

    home: Home
    client: Client
    calls_file: Path

    @property
    def calls(self) -> int:
        """Upstream calls of the scripted provider so far."""
        return self.calls_file.read_text().count("call") if self.calls_file.exists() else 0

    @property
    def backend_pid(self) -> int:
        with contextlib.suppress(OSError, msgspec.DecodeError):
            return msgspec.json.decode(self.home.backend_facts.read_bytes())["pid"]
        return 0

    async def fail(self, name: str, content: str, request_id: str) -> TektonError:
        """Ask what must fail and return the failure as the client sees it."""
        with pytest.raises(TektonError) as failure:
            await self.ask(name, content, request_id=request_id)
        return failure.value

    async def errors(self, where: str) -> list[dict[str, Any]]:
        found = (await self.client.request("list_errors", {}))["errors"]
        return [error for error in found if error["where"] == where]

    async def kill_backend(self) -> None:
        """End the backend by SIGKILL, as a crash would; workers live on."""
        os.kill(self.backend_pid, signal.SIGKILL)
        await self.client.close()

    async def reattach(self) -> None:
        self.client = await attach(self.home)


def environment(home: Home, calls: Path) -> dict[str, str]:
    """Return what a backend of a test sees: its own home, free ports, the scripted provider counting its calls."""
    return {
        "TEKTON_HOME": str(home.root),
        "TEKTON_PORT_PROFILE": "free",
        "TEKTON_GATEWAY_PORT": "0",
        "TEKTON_PROVIDER": "scripted",
        "TEKTON_SCRIPTED_COUNT": str(calls),
    }
