"""What the pages on MCP and on the OpenAI API tell a reader to type does what they say."""

from __future__ import annotations

import asyncio
import re
import sys
import tomllib
from pathlib import Path

import pytest

from backend.config import load
from backend.home import Home, write_private
from tests.gateway.serving import Backend

DOCS = Path(__file__).parents[2] / "docs"
ADDRESS = "http://127.0.0.1:8003"
BOUND_S = 60.0


def _blocks(page: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", (DOCS / page).read_text(encoding="utf-8"), re.M | re.S)


async def _run(backend: Backend, *words: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *words,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**backend.environment(), "NO_PROXY": "*", "no_proxy": "*"},
    )
    out, err = await asyncio.wait_for(process.communicate(), BOUND_S)
    assert process.returncode == 0, err.decode()
    return out.decode()


@pytest.mark.parametrize(
    ("page", "number", "seen"),
    [("mcp.md", 0, '"apollo-ai"'), ("mcp.md", 1, "event: complete"), ("openai.md", 0, "data: [DONE]")],
)
async def test_the_shell_commands_of_the_pages_work(
    backend: Backend, page: str, number: int, seen: str
) -> None:
    block = _blocks(page, "bash")[number].replace(ADDRESS, backend.url)
    assert seen in await _run(backend, "bash", "-euc", block)


@pytest.mark.parametrize("page", ["mcp.md", "openai.md"])
async def test_the_programs_of_the_pages_work(backend: Backend, page: str) -> None:
    [block] = _blocks(page, "python")
    out = await _run(backend, sys.executable, "-c", block.replace(ADDRESS, backend.url))
    assert out.startswith("You said: ")


async def test_the_token_of_the_page_is_one_the_gateway_reads(backend: Backend, tmp_path: Path) -> None:
    [block] = _blocks("mcp.md", "sh")
    home = Home(tmp_path / "home").prepare()
    moved = f'export TEKTON_HOME="{home.root}"\n{block}'
    assert len((await _run(backend, "bash", "-euc", moved)).strip()) >= 32
    rows = tomllib.loads((home.root / "tokens.toml").read_text())["token"]
    assert [(row["label"], row["scope"], len(row["sha256"])) for row in rows] == [("desktop", "chat", 64)]


def test_the_member_of_the_page_is_one_the_configuration_takes(tmp_path: Path) -> None:
    home = Home(tmp_path / "home").prepare()
    [block] = [block for block in _blocks("openai.md", "toml") if "faraway" in block]
    write_private(home.config, block.encode())
    assert load(home, {}).specialists["faraway"].transport == "api"
