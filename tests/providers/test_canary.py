"""No key of any kind is to be found where it need not be: processes, files, outputs, exports."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import psutil
import pytest

from backend.home import Home, write_private
from backend.schema.errors import TektonError
from tests.providers.product import Product, words_in
from tests.providers.upstreams import Call

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

WORDS = {
    "ANTHROPIC_API_KEY": "plumtree-anthropic-7731",
    "OPENAI_API_KEY": "plumtree-openai-7732",
    "OLLAMA_HOST": "plumtree-ollama-7733",
}
"""Canaries that look like no key, so that no pattern helps."""
TOKEN = "plumtree-gateway-7734-" + "x" * 40
BASIC = "bWU6cGx1bXRyZWUtb2xsYW1hLTc3MzM="
"""What the password of Ollama's address is on the wire."""
USERS = {"apollo": "anthropic", "athena": "openai", "numa": "ollama"}


async def echo(call: Call) -> None:
    """Refuse as a careless server does: with all it was sent."""
    said = f"bad credentials: {call.headers.get('authorization')} {call.headers.get('x-api-key', '')}"
    await call.reply(
        401, {"error": {"type": "authentication_error", "message": said}, "headers": call.headers}
    )


async def started(product: Any, home: Home) -> Product:
    """Start a platform full of canaries, with an upstream that echoes them."""
    write_private(home.token, TOKEN.encode())
    config = "".join(f'[specialists.{name}]\nprovider = "{kind}"\n' for name, kind in USERS.items())
    one: Product = await product(
        config,
        ANTHROPIC_API_KEY=WORDS["ANTHROPIC_API_KEY"],
        OPENAI_API_KEY=WORDS["OPENAI_API_KEY"],
        OLLAMA_HOST=f"http://me:{WORDS['OLLAMA_HOST']}@{{ollama}}",
    )
    for rig in one.vendors.values():
        rig.handler = echo
    await one.launch(*USERS, "ergon")
    return one


def processes(one: Product) -> dict[int, psutil.Process]:
    entries = json.loads(one.home.registry.read_text()).values()
    pids = [one.backend_pid(), *(entry["pid"] for entry in entries)]
    return {pid: psutil.Process(pid) for pid in pids}


async def test_no_canary_leaves_its_cage(product: Any, tmp_path: Path) -> None:
    one = await started(product, Home(tmp_path / "home").prepare())
    secrets = [*WORDS.values(), TOKEN, BASIC]
    shown: list[str] = []
    for name, kind in USERS.items():
        with pytest.raises(TektonError) as refused:
            await one.ask(name, "hello")
        assert refused.value.code == "provider_auth"
        shown.append(f"{refused.value.message} {refused.value.evidence} {refused.value.detail}")
        assert await one.vendors[kind].calls() == 1
    for action in (
        "snapshot",
        "list_errors",
        "list_models",
        "usage",
        "platform",
        "get_orchestration",
        "gateway_info",
    ):
        shown.append(json.dumps(await one.client.request(action, {})))

    workers = {name: (await one.row(name))["pid"] for name in (*USERS, "ergon")}
    for pid, process in processes(one).items():
        assert not [secret for secret in secrets if secret in " ".join(process.cmdline())], process.cmdline()
        if pid != one.backend_pid():
            environment = process.environ()
            name = next(name for name, worker in workers.items() if worker == pid)
            own = {"apollo": "ANTHROPIC_API_KEY", "athena": "OPENAI_API_KEY"}.get(name)
            for variable, secret in {**WORDS, "": TOKEN}.items():
                held = [key for key, value in environment.items() if secret in value]
                assert held == ([variable] if variable == own else []), name

    commands = ["status", "errors", "doctor", "logs apollo", "logs numa", "status --json"]
    for _, out, err in await asyncio.gather(*(one.tekton(*words.split()) for words in commands)):
        shown += [out, err]
    sessions = (await one.client.request("list_sessions", {}))["sessions"]
    for session in sessions:
        for form in ("md", "json"):
            export = await one.client.request("export_session", {"id": session["id"], "format": form})
            shown.append(json.dumps(export))
    assert len(sessions) >= 3 and "401" in "".join(shown) and "redacted" in "".join(shown)
    for secret in secrets:
        assert secret not in "".join(shown)
        held = words_in(one.home.root, secret)
        assert held == (["token"] if secret == TOKEN else []), held
