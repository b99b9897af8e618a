"""What a worker loads: an ordinary one nothing of external agents, nor of the backend that started it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec

from tests.specialists.tiny import spec_with

SERVED = """
import asyncio, json, sys
import msgspec
from backend.registry.ports import bind
from backend.worker.__main__ import serve_specialist
from backend.worker.spec import Warm, WorkerSpec

async def main():
    listener = bind("127.0.0.1", 0)
    spec = msgspec.json.decode(sys.stdin.buffer.read(), type=WorkerSpec)
    spec.port = listener.getsockname()[1]
    warm = asyncio.Event()
    task = asyncio.create_task(serve_specialist(spec, listener, lambda line: isinstance(line, Warm) and warm.set()))
    await warm.wait()
    reader, writer = await asyncio.open_connection("127.0.0.1", spec.port)
    writer.write(b'{"type":"chat","content":"hello","request_id":"r","stream":true}\\n')
    while json.loads(await reader.readline())["type"] != "stream_end":
        pass
    print(json.dumps(sorted(sys.modules)))
    writer.close()
    task.cancel()
    await asyncio.wait([task])

asyncio.run(main())
"""
NOT_ITS_OWN = (
    "backend.acp", "backend.worker.agent", "backend.gateway", "backend.orchestration", "backend.specialists",
    "backend.client", "backend.cli", "tekton_tui", "textual", "starlette", "acp",
)  # fmt: skip


def test_an_ordinary_worker_that_answers_has_loaded_nothing_of_agents_or_of_the_backend(
    tmp_path: Path,
) -> None:
    spec = spec_with(provider="scripted", model="scripted", home=str(tmp_path))
    served = subprocess.run(
        [sys.executable, "-c", SERVED],
        input=msgspec.json.encode(spec),
        capture_output=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    assert served.returncode == 0, served.stderr.decode()
    loaded = json.loads(served.stdout)
    assert "backend.worker.generation" in loaded
    foreign = [
        name for name in loaded if any(name == one or name.startswith(f"{one}.") for one in NOT_ITS_OWN)
    ]
    assert foreign == []
