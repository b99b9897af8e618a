"""The whole product in a home of its own: a real backend, its workers, its command line, vendors on loopback."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from backend.client import Client
from backend.home import Home
from tests.fleet.whole import BOUND_S, OverClient
from tests.providers.dialects import AnthropicWords, OllamaWords, OpenAIWords
from tests.providers.rigs import ServerRig


@dataclass
class Product(OverClient):
    """A running platform. `vendors` are servers by provider kind; nothing of them is started before `serve`."""

    home: Home
    environment: dict[str, str]
    client: Client = field(init=False)
    vendors: dict[str, ServerRig] = field(default_factory=dict)

    async def serve(self) -> None:
        """Start a server for each vendor and write the configuration that leads to them."""
        for dialect in (OllamaWords(), OpenAIWords(), AnthropicWords()):
            rig = self.vendors[dialect.kind] = ServerRig(dialect.kind, self.home, dialect=dialect)
            await rig.serve()
        urls = {kind: rig.upstream.url for kind, rig in self.vendors.items()}
        text = (
            f'[providers.ollama]\nhost = "{urls["ollama"]}"\nmodel = "test-model"\n'
            f'[providers.openai]\nbase_url = "{urls["openai"]}/v1"\nmodel = "test-model"\n'
            f'[providers.anthropic]\nbase_url = "{urls["anthropic"]}"\n'
        )
        self.home.config.write_text(text, encoding="utf-8")

    def configure(self, more: str) -> None:
        with self.home.config.open("a", encoding="utf-8") as file:
            file.write(more)

    async def tekton(self, *words: str) -> tuple[int, str, str]:
        """Run the command line as a person would; return exit code, stdout, stderr."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "backend.cli.tekton", *words,
            env=self.environment, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(), BOUND_S)
        return process.returncode or 0, out.decode(), err.decode()

    def backend_pid(self) -> int:
        return json.loads(self.home.backend_facts.read_text())["pid"]


def environment_of(home: Home, **more: str) -> dict[str, str]:
    """Return the environment of a private platform, without the keys of whoever runs the tests."""
    kept = {n: v for n, v in os.environ.items() if not n.endswith("_API_KEY") and n != "OLLAMA_HOST"}
    return {
        **kept, "TEKTON_HOME": str(home.root), "TEKTON_PORT_PROFILE": "free", "TEKTON_GATEWAY_PORT": "0",
        "TEKTON_PROVIDER": "scripted", **more,
    }  # fmt: skip


def words_in(folder: Path, word: str) -> list[str]:
    """Return the files below a folder that hold a word."""
    return [
        str(path.relative_to(folder))
        for path in sorted(folder.rglob("*"))
        if path.is_file() and word.encode() in path.read_bytes()
    ]
