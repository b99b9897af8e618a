"""Every way an upstream can fail: the code, its own words as evidence, what to do in the message, and one call."""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backend.config import Timeouts
from backend.home import Home
from backend.providers import create
from backend.providers.base import ProviderError, Text
from tests.providers.certificates import self_signed
from tests.providers.dialects import Answer
from tests.providers.rigs import (
    BOUND_S,
    ENVIRONMENT,
    KEY,
    ServerRig,
    Stream,
    asking,
    point_embedded,
    settings_for,
)
from tests.providers.upstreams import Call, Upstream

OVERFLOWS = {
    "ollama": "the input length exceeds the context length",
    "openai": "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens.",
    "anthropic": "prompt is too long: 210000 tokens > 200000 maximum",
    "embedded": "request (5031 tokens) exceeds the available context size (2048 tokens), try increasing it",
}
STATUSES = [
    (401, "bad key", "provider_auth", "key"),
    (403, "not for you", "provider_auth", ""),
    (404, "model 'test-model' not found", "model_not_found", "models"),
    (429, "slow down", "provider_rate_limited", "wait"),
    (500, "a bug of mine", "provider_unavailable", "again"),
    (503, "starting up", "provider_unavailable", "again"),
    (529, "Overloaded", "provider_unavailable", "again"),
    (400, "overflow", "context_overflow", "shorten"),
    (418, "I am a teapot", "internal", ""),
]
REMOTE = ("ollama", "openai", "anthropic")


async def failure(stream: Stream) -> tuple[ProviderError, str]:
    """Return how a stream failed, and the text before."""
    text = ""
    with pytest.raises(ProviderError) as caught:
        async with asyncio.timeout(BOUND_S):
            async for item in stream:
                text += item.content if isinstance(item, Text) else ""
    return caught.value, text


def words_of(error: ProviderError) -> str:
    return f"{error.message} {error.evidence} {error.detail}"


@pytest.mark.parametrize(("status", "words", "code", "mend"), STATUSES)
async def test_a_status_becomes_a_code_with_the_upstreams_words_and_what_to_do(
    served: ServerRig, status: int, words: str, code: str, mend: str
) -> None:
    said = OVERFLOWS[served.kind] if words == "overflow" else words.replace("test-model", served.model)

    async def refuse(call: Call) -> None:
        await call.reply(status, served.dialect.refusal(status, f"{said} (you sent Bearer {KEY})"))

    served.handler = refuse
    error, text = await failure(served.ask())
    assert (error.code, text) == (code, "")
    assert said in error.evidence.replace("\\'", "'") and mend in error.message
    assert KEY not in words_of(error), "the upstream echoed the key"
    assert await served.calls() == 1


@pytest.mark.parametrize(("header", "value"), [("Retry-After", "7"), ("retry-after-ms", "7000")])
async def test_a_rate_limit_shows_how_long_to_wait(served: ServerRig, header: str, value: str) -> None:
    if served.kind == "embedded":
        return  # our own server gives no such header

    async def limit(call: Call) -> None:
        await call.reply(429, served.dialect.refusal(429, "slow down"), **{header: value})

    served.handler = limit
    error, _ = await failure(served.ask())
    assert error.detail == {"retry_after_s": 7.0} and "7 s" in error.message


@pytest.mark.parametrize(("status", "code"), [(429, "provider_rate_limited"), (529, "provider_unavailable")])
async def test_an_error_inside_a_stream_keeps_its_code_and_what_came_before(
    served: ServerRig, status: int, code: str
) -> None:
    async def break_off(call: Call) -> None:
        wire = served.dialect.wire(Answer(pieces=["be", "gun"]))
        await call.begin(served.dialect.media)
        await call.send(*wire.before, *wire.pieces, served.dialect.broken_off(status, "too much for me"))
        await call.end()

    served.handler = break_off
    error, text = await failure(served.ask())
    assert text == "begun" and "too much for me" in error.evidence
    assert error.code == ("internal" if served.kind == "ollama" else code), (
        "Ollama gives no status in a stream"
    )
    assert await served.calls() == 1


MALFORMED = {
    "an SSE or NDJSON line": b"data: {broken\n\n",
    "other JSON": b'data: [1, "x"]\n\n',
    "noise": b"\xff\xfe\x00\n\n",
}


@pytest.mark.parametrize("noise", MALFORMED.values(), ids=MALFORMED.keys())
async def test_a_malformed_chunk_ends_the_turn_as_a_fault(served: ServerRig, noise: bytes) -> None:
    async def babble(call: Call) -> None:
        wire = served.dialect.wire(Answer(pieces=["be", "gun"]))
        await call.begin(served.dialect.media)
        await call.send(*wire.before, *wire.pieces, noise)
        await call.end()

    served.handler = babble
    error, text = await failure(served.ask())
    assert (error.code, text) == ("internal", "begun") and await served.calls() == 1


@pytest.mark.parametrize("clean", [True, False], ids=["closed", "reset"])
@pytest.mark.parametrize("begun", [True, False], ids=["in the middle", "before the head"])
async def test_a_cut_stream_is_never_taken_for_an_end(served: ServerRig, clean: bool, begun: bool) -> None:
    async def cut(call: Call) -> None:
        wire = served.dialect.wire(Answer(pieces=["be", "gun"]))
        if begun:
            await call.begin(served.dialect.media)
            await call.send(*wire.before, *wire.pieces)
        if clean and begun:
            await call.end()
        elif not clean:
            call.cut()
        else:
            call.close()

    served.handler = cut
    error, _ = await failure(served.ask())
    assert error.code == ("internal" if begun else "provider_unavailable")
    assert ("again" in error.message or "launch" in error.message) and await served.calls() == 1


async def test_no_question_is_lost_on_a_connection_that_its_server_closes_just_then(
    served: ServerRig,
) -> None:
    served.upstream.closes_idle = True
    for _ in range(3):
        assert [item async for item in served.ask()]
        assert (await served.provider.health(served.model)).ok


@pytest.mark.parametrize("steps", [1, 5, 20])
async def test_an_upstream_is_not_blamed_where_we_stood_still_ourselves(
    served: ServerRig, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """While a vendor's library is imported, for one, or where the machine has no processor to spare."""
    monkeypatch.setattr(sys.modules[type(served.provider).__module__], "ASK_TIMEOUT_S", 0.2)
    asked = asyncio.create_task(served.provider.health(served.model))
    for _ in range(steps):
        await asyncio.sleep(0)
    time.sleep(0.4)  # noqa: ASYNC251 - the stall
    assert (await asked).ok


async def failing(kind: str, url: str, home: Home, **waits: Any) -> ProviderError:
    """Return how a provider fails that is sent to `url`."""
    if kind == "embedded":
        point_embedded(home, url)
    provider = create(kind, settings_for(kind, url, Timeouts(**waits)), home, ENVIRONMENT)
    await provider.prepare()
    try:
        error, _ = await failure(provider.stream(asking(model="test-model")))  # type: ignore[arg-type]
        assert not (await provider.health("test-model")).ok
        return error
    finally:
        await provider.aclose()


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port nobody listens on, and nobody else gets."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.mark.parametrize("kind", [*REMOTE, "embedded"])
async def test_refused_says_what_to_start_or_correct(kind: str, home: Home, closed_port: int) -> None:
    error = await failing(kind, f"http://127.0.0.1:{closed_port}", home)
    assert error.code == "provider_unavailable"
    assert ("start it" in error.message and f"providers.{kind}" in error.message) or kind == "embedded"
    assert kind != "embedded" or "tekton launch" in error.message


@pytest.mark.parametrize("kind", REMOTE)
async def test_an_unknown_name_says_dns(kind: str, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def resolve(host: object, *rest: object, **more: object) -> object:
        if host in ("models.invalid", b"models.invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    error = await failing(kind, "http://models.invalid:8080", home)
    assert (
        error.code == "provider_unavailable" and "DNS" in error.message and "models.invalid" in error.message
    )


@pytest.mark.parametrize("kind", REMOTE)
@pytest.mark.parametrize("tls", [True, False], ids=["unknown certificate", "no TLS at all"])
async def test_tls_that_cannot_be_trusted_says_so(kind: str, tls: bool, home: Home, tmp_path: Path) -> None:
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self_signed(tmp_path))

    async def never(call: Call) -> None:
        raise AssertionError("nothing may be sent over a connection that is not trusted")

    upstream = await Upstream(never, context).start()
    try:
        error = await failing(kind, upstream.url.replace("http://", "https://"), home)
    finally:
        await upstream.stop()
    assert error.code == "provider_unavailable" and "TLS" in error.message and upstream.calls == []


@pytest.mark.parametrize("kind", [*REMOTE, "embedded"])
async def test_a_host_that_does_not_accept_ends_after_the_connect_timeout(kind: str, home: Home) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        try:
            error = await failing(kind, f"http://127.0.0.1:{address[1]}", home, connect=0.2)
        finally:
            for filler in fillers:
                filler.close()
    assert error.code == "provider_unavailable" and ("in time" in error.message or kind == "embedded")
