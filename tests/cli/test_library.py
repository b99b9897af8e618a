"""The library's plain functions, as a program of one's own would use them, and what the package says of its types."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import signal
import subprocess
import sys
import textwrap
from importlib.resources import files

import pytest

import backend.client as library
from backend.client import Client, RemoteError, SpecialistUnreachable, ai_send, ai_send_sync, ai_stream
from backend.home import Home
from backend.schema.errors import TektonError
from backend.schema.frames import StreamChunk
from tests.cli.commandline import BOUND_S, Line


@pytest.fixture(autouse=True)
def _here(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TEKTON_HOME", "TEKTON_PORT_PROFILE", "TEKTON_GATEWAY_PORT", "TEKTON_PROVIDER"):
        monkeypatch.setenv(name, line.environment[name])


@pytest.fixture
def port(line: Line) -> int:
    return json.loads((line.home / "ai_registry" / "platform_ai_registry.json").read_text())["apollo-ai"][
        "port"
    ]


def test_a_plain_program_asks_with_and_without_a_place(port: int) -> None:
    assert ai_send_sync("apollo-ai", "Hello", "localhost", port) == "You said: Hello"
    assert ai_send_sync("apollo-ai", "Hello") == ai_send_sync("apollo", "Hello") == "You said: Hello"


async def test_many_are_asked_at_once_without_a_backend(port: int) -> None:
    answers = await asyncio.gather(*(ai_send("apollo", f"n{number}", port=port) for number in range(20)))
    assert answers == [f"You said: n{number}" for number in range(20)]


async def test_an_answer_is_read_as_it_comes_and_ends_when_the_reader_goes() -> None:
    pieces = [piece async for piece in ai_stream("apollo", "a b c")]
    assert len(pieces) > 1 and "".join(pieces) == "You said: a b c"
    endless = ai_stream("apollo", "[[repeat 9999]] [[rate 50]]")
    assert (await anext(endless)).startswith("token0")
    await endless.aclose()
    assert await ai_send("apollo", "free again?") == "You said: free again?"


async def test_failures_are_told_by_code(line: Line, port: int) -> None:
    with pytest.raises(SpecialistUnreachable) as dead:
        await ai_send("terma", "x", port=1)
    assert dead.value.code == "not_running" and "tekton launch terma" in dead.value.message
    with pytest.raises(TektonError) as refused:
        await ai_send("apollo", "[[fail provider_auth]]")
    assert refused.value.code == "provider_auth" and refused.value.evidence
    with pytest.raises(TektonError) as cut:
        _ = [piece async for piece in ai_stream("apollo", "[[repeat 9]] [[cut internal]]")]
    assert cut.value.code == "internal"
    with pytest.raises(TektonError) as late:
        await ai_send("apollo", "[[first 30]]", timeout_s=0.2)
    assert late.value.code == "timeout"
    with pytest.raises(TektonError) as large:
        await ai_send("apollo", "m" * 9_000_000)
    assert large.value.code == "too_large" and "8,388,608" in large.value.message
    with pytest.raises(TektonError) as died:
        await ai_send("athena", "[[repeat 9]] [[kill]]")
    assert died.value.code == "worker_lost"
    line("tekton", "launch", "athena")
    with pytest.raises(TektonError) as unknown:
        await ai_send("nobody", "x")
    assert unknown.value.code == "unknown_specialist"


async def test_a_client_of_the_gateway_streams_a_turn(line: Line) -> None:
    client = await library.attach(Home(line.home), start=False)
    try:
        await client.subscribe(["chat"])
        await client.request(
            "chat", {"ai_id": "apollo", "content": "one two", "request_id": "mine", "wait": False}
        )
        text = ""
        async with asyncio.timeout(BOUND_S):
            async for batch in client.events():
                for _, event in batch:
                    if isinstance(event, StreamChunk) and event.request_id == "mine":
                        text += event.content
                if text == "You said: one two":
                    break
    finally:
        await client.close()
    with pytest.raises(RemoteError):
        await client.request("snapshot", {})


def test_everything_public_is_typed_documented_and_shipped_as_typed() -> None:
    assert files("backend").joinpath("py.typed").is_file()
    for name in library.__all__:
        thing = getattr(library, name)
        if inspect.isfunction(thing):
            assert inspect.getdoc(thing), name
            signature = inspect.signature(thing)
            assert signature.return_annotation is not inspect.Signature.empty, name
            assert all(p.annotation is not inspect.Parameter.empty for p in signature.parameters.values()), (
                name
            )
    assert all(
        inspect.getdoc(method) for method in (Client.call, Client.subscribe, Client.events, Client.connect)
    )


def test_a_program_with_ctrl_c_ends_at_once(line: Line) -> None:
    program = textwrap.dedent("""
        from backend.client import ai_send_sync
        print("asking", flush=True)
        ai_send_sync("apollo", "[[first 60]]")
    """)
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ, **line.environment}
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stdout.readline() == b"asking\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(BOUND_S) != 0
