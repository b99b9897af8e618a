"""A real backend process in a home of its own, as any program outside would meet it: a URL and tokens."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from backend.gateway.auth import read_or_make_token
from backend.home import Home, write_private

SCOPES = ("read", "chat", "control")
START_S = 60.0
END_S = 60.0


@dataclass
class Backend:
    """One running backend. `tokens` maps scope to a token of that scope; `token` is the owner's."""

    home: Home
    url: str
    token: str
    tokens: dict[str, str]
    process: subprocess.Popen[bytes]

    def auth(self, scope: str = "") -> dict[str, str]:
        """Return the header of a token: the owner's, or one of this scope."""
        return {"Authorization": f"Bearer {self.tokens[scope] if scope else self.token}"}

    def http(self, scope: str = "", **options: Any) -> httpx.AsyncClient:
        """Return a client that carries a token; loopback only, no proxies of the environment."""
        options = {"timeout": 30.0, **options}
        return httpx.AsyncClient(base_url=self.url, headers=self.auth(scope), trust_env=False, **options)

    def ask(self, method: str, path: str, **options: Any) -> Any:
        """Call one route and return its JSON; for what a test needs before its own loop runs."""
        with httpx.Client(base_url=self.url, headers=self.auth(), trust_env=False, timeout=60) as http:
            answer = http.request(method, path, **options)
        answer.raise_for_status()
        return answer.json()

    def environment(self) -> dict[str, str]:
        """Return the environment in which a command of ours finds this backend."""
        return environment_of(self.home.root)

    def stop(self) -> None:
        """End the backend with its fleet; by pid whatever does not end when asked."""
        try:
            self.ask("POST", "/api/v1/shutdown", json={"stop_fleet": True})
            self.process.wait(END_S)
        except (httpx.HTTPError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait(END_S)


def environment_of(root: Path, **more: str) -> dict[str, str]:
    """Return the environment of a private platform: free ports, the scripted provider."""
    return {
        **os.environ,
        "TEKTON_HOME": str(root),
        "TEKTON_PORT_PROFILE": "free",
        "TEKTON_GATEWAY_PORT": "0",
        "TEKTON_PROVIDER": "scripted",
        **more,
    }


def start_backend(
    root: Path, *, config: str = "", launch: tuple[str, ...] = (), **environment: str
) -> Backend:
    """Start a backend in a fresh home with a token of each scope, and launch specialists."""
    home = Home(root).prepare()
    tokens = {scope: f"test-{scope}-" + "x" * 40 for scope in SCOPES}
    rows = [
        f'[[token]]\nlabel = "{scope}er"\nscope = "{scope}"\nsha256 = "{hashlib.sha256(token.encode()).hexdigest()}"\n'
        for scope, token in tokens.items()
    ]
    write_private(home.root / "tokens.toml", "\n".join(rows).encode())
    if config:
        write_private(home.config, config.encode())
    token = read_or_make_token(home)
    read_end, write_end = os.pipe()
    with open(home.logs / "backend.log", "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "backend.gateway.serve", "--ready-fd", str(write_end)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(write_end,),
            env=environment_of(root, **environment),
        )
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        facts = json.loads(pipe.readline() or b"{}")
    if "url" not in facts:
        process.wait(END_S)
        raise RuntimeError(
            f"the backend did not start: {facts} {(home.logs / 'backend.log').read_text()[-2000:]}"
        )
    backend = Backend(home, facts["url"], token, tokens, process)
    if launch:
        results = backend.ask("POST", "/api/v1/fleet/launch", json={"ids": list(launch)})["results"]
        assert all(row["ok"] for row in results), results
    return backend
