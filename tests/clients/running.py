"""Runs programs of others against a backend of the tests: with a home of their own, and no way out of this machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.serving import Backend

OWN = Path(__file__).parent / "programs"
NOWHERE = "http://127.0.0.1:9"
"""A proxy that nobody serves: whatever leaves this machine fails at once."""
BOUND_S = 150.0


@dataclass
class Programs:
    """`installed` is what `make test-clients` made; `root` a folder of the tests' own."""

    installed: Path
    root: Path
    url: str
    token: str

    @classmethod
    def beside(cls, backend: Backend, folders: pytest.TempPathFactory) -> Programs:
        """Return the programs for a backend; skips where they are not installed."""
        where = os.environ.get("TEKTON_CLIENTS", "")
        if not where:
            pytest.skip("TEKTON_CLIENTS is not set: `make test-clients` sets it")
        return cls(Path(where).resolve(), folders.mktemp("programs"), backend.url, backend.token)

    def python(self, name: str) -> dict[str, Any]:
        """Run one of the Python programs beside this file; return what it printed as JSON."""
        return self._said(self.run([str(self.installed / "python/bin/python"), str(OWN / name)]))

    def node(self, name: str, **environment: str) -> dict[str, Any]:
        """Run one of the JavaScript programs, from the folder its packages are in."""
        script = self.installed / name
        shutil.copyfile(OWN / name, script)
        return self._said(self.run([self.node_path, str(script)], **environment))

    @property
    def node_path(self) -> str:
        """The newest node: one from npm, or the machine's."""
        own = self.installed / "node_modules/node/bin/node"
        return str(own) if own.exists() else "node"

    def npm(self, name: str) -> str:
        """Return the path of a command from npm."""
        return str(self.installed / "node_modules/.bin" / name)

    def run(
        self, command: list[str], *, stdin: str = "", folder: Path | None = None, **environment: str
    ) -> str:
        """Run a program to its end and return what it wrote; its words are shown where it fails."""
        home = folder or self.root
        own = {
            "PATH": f"{Path(self.node_path).parent}:{os.environ['PATH']}",
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "BASE": self.url,
            "TOKEN": self.token,
            "HTTP_PROXY": NOWHERE,
            "HTTPS_PROXY": NOWHERE,
            "NO_PROXY": "127.0.0.1,localhost",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            **environment,
        }
        own |= {name.lower(): own[name] for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")}
        done = subprocess.run(
            command,
            input=stdin,
            env=own,
            cwd=home,
            capture_output=True,
            text=True,
            timeout=BOUND_S,
            check=False,
        )
        assert done.returncode == 0, f"{command[0]}: {done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def _said(self, output: str) -> dict[str, Any]:
        return json.loads(output.strip().splitlines()[-1])
