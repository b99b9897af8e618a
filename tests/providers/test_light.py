"""What a worker carries before it is asked: no vendor's library, and later only its own provider's."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {
    "ollama",
    "openai",
    "anthropic",
    "httpx",
    "httpx2",
    "httpcore",
    "httpcore2",
    "pydantic",
    "xllamacpp",
    "psutil",
    "starlette",
}
SETTINGS = {"backend.config", "tomllib"}


def loaded(code: str) -> set[str]:
    """Return which modules a fresh interpreter holds after running `code`."""
    code = f"import sys\n{code}\nprint(*sys.modules)"
    return set(
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
    )


def test_a_worker_that_serves_holds_no_library_of_any_vendor_and_no_settings() -> None:
    modules = loaded("import backend.worker.__main__, backend.providers.base")
    assert modules & (HEAVY | SETTINGS) == set()


@pytest.mark.parametrize(
    ("kind", "own"),
    [("scripted", set()), ("embedded", {"httpcore"}), ("ollama", {"httpx", "httpcore"})],
)  # fmt: skip
def test_a_prepared_provider_brings_its_own_library_and_no_other(kind: str, own: set[str]) -> None:
    code = (
        "import asyncio, pathlib, tempfile\nfrom backend.config import Settings\nfrom backend.home import Home\n"
        "from backend.providers import create\nfrom backend.providers.embedded import weights\nweights.find = lambda *_: None\n"
        f"made = create({kind!r}, Settings(), Home(pathlib.Path(tempfile.gettempdir())), {{}})\n"
        "async def run():\n    await made.prepare()\n    await made.aclose()\nasyncio.run(run())"
    )
    assert loaded(code) & HEAVY == own
