"""Links by TLS: what is trusted, what is refused and in which words, and that nobody can hold a handshake open."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from backend import tls
from backend.schema.frames import Pong, Request, StreamEnd
from backend.specialists.worker_client import ChannelClosed, WorkerClient
from backend.tls import TlsRefused, Trust, first_of, pinning, rehearse, serving, trusting
from tests.certificates import Authority

BOUND_S = 60.0
BEYOND = "0.0.0.0"
"""What a specialist is told it listens on when it is to take itself for one on another host."""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


async def served_by_tls(serve: Any, authority: Authority, *names: str, **changes: Any) -> Any:
    files = authority.issue(*(names or ("127.0.0.1",)), **changes)
    return await serve(host=BEYOND, token="t" * 40, tls_cert=files.cert, tls_key=files.key)


def connect_to(served: Any, trust: Trust | None, **more: Any) -> Awaitable[WorkerClient]:
    return WorkerClient.open(
        "127.0.0.1", served.spec.port, ai_id="apollo-ai", token="t" * 40, trust=trust, **more
    )


async def test_calls_and_turns_go_by_tls_as_they_go_without(serve: Any, authority: Authority) -> None:
    served = await served_by_tls(serve, authority)
    client = await connect_to(served, trusting(authority.ca))
    assert isinstance(await client.call(Request(type="ping"), timeout_s=BOUND_S), Pong)
    ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def take(batch: Any) -> None:
        if isinstance(batch.frames[-1], StreamEnd):
            ended.set_result(batch.frames[-1])

    client.start_turn(Request(content="hello", request_id="r1"), take)
    assert isinstance(await asyncio.wait_for(ended, BOUND_S), StreamEnd)
    client.close()


async def test_the_token_comes_first_on_an_encrypted_socket_too(serve: Any, authority: Authority) -> None:
    served = await served_by_tls(serve, authority)
    context = trusting(authority.ca).context
    reader, writer = await asyncio.open_connection("127.0.0.1", served.spec.port, ssl=context)
    writer.write(b'{"type":"ping"}\n')
    assert b"unauthorized" in await asyncio.wait_for(reader.readline(), BOUND_S)
    assert await asyncio.wait_for(reader.read(), BOUND_S) == b"", "and it hangs up"
    writer.close()
    await writer.wait_closed()


async def test_a_shared_certificate_is_known_by_the_name_that_was_agreed(
    serve: Any, authority: Authority
) -> None:
    served = await served_by_tls(serve, authority, "fleet.internal")
    client = await connect_to(served, trusting(authority.ca, "fleet.internal"))
    assert isinstance(await client.call(Request(type="ping"), timeout_s=BOUND_S), Pong)
    client.close()


@pytest.mark.parametrize(
    ("issue", "trust", "words"),
    [
        ({"days": -1}, None, "its certificate has expired"),
        ({"names": ("elsewhere.internal",)}, None, "made out to others than 127.0.0.1"),
        ({}, "stranger", "is not trusted: unable to get local issuer certificate"),
    ],
    ids=["expired", "another host's", "another authority's"],
)
async def test_a_certificate_that_does_not_fit_is_refused_in_words(
    serve: Any, authority: Authority, tmp_path: Path, issue: dict[str, Any], trust: str | None, words: str
) -> None:
    names, more = issue.get("names", ()), {key: value for key, value in issue.items() if key != "names"}
    served = await served_by_tls(serve, authority, *names, **more)
    believed = Authority(tmp_path / trust, trust).ca if trust else authority.ca
    with pytest.raises(ChannelClosed, match=words):
        await connect_to(served, trusting(believed))


async def test_tls_on_a_plain_socket_and_plain_text_on_a_tls_one_fail_in_words(
    serve: Any, authority: Authority
) -> None:
    plain = await serve(host=BEYOND, token="t" * 40)
    with pytest.raises(ChannelClosed, match=r"speak TLS there|no TLS handshake within 1 s"):
        await connect_to(plain, trusting(authority.ca), timeout_s=1.0)
    served = await served_by_tls(serve, authority)
    client = await connect_to(served, None)
    with pytest.raises(ChannelClosed, match="the specialist closed the connection"):
        await client.call(Request(type="ping"), timeout_s=BOUND_S)


async def on_port(answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> Any:
    return await asyncio.start_server(answer, "127.0.0.1", 0)


async def test_a_handshake_that_is_cut_short_or_never_answered_ends_in_words(authority: Authority) -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"\x16\x03\x03\x00\x7a\x02\x00")  # the beginning of a server's hello
        writer.close()

    gone = asyncio.Event()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        gone.set()

    for answer, words in (
        (cut, r"during the TLS handshake|TLS failed"),
        (mute, "no TLS handshake within 1 s"),
    ):
        async with await on_port(answer) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(ChannelClosed, match=words):
                await WorkerClient.open("127.0.0.1", port, trust=trusting(authority.ca), timeout_s=1.0)
    await asyncio.wait_for(gone.wait(), BOUND_S)


async def test_a_client_that_never_ends_its_handshake_is_cut_off(
    serve: Any, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "HANDSHAKE_S", 0.3)
    served = await served_by_tls(serve, authority)
    for opening in (b"", b"\x16\x03\x01\x02\x00\x01"):
        reader, writer = await asyncio.open_connection("127.0.0.1", served.spec.port)
        writer.write(opening)
        with suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), BOUND_S) == b""
        writer.close()
        with suppress(ConnectionResetError):
            await writer.wait_closed()
    client = await connect_to(served, trusting(authority.ca), timeout_s=BOUND_S)
    assert isinstance(await client.call(Request(type="ping"), timeout_s=BOUND_S), Pong), "others are served"
    client.close()


def test_files_are_looked_at_before_anybody_depends_on_them(authority: Authority, tmp_path: Path) -> None:
    good, old = authority.issue("127.0.0.1"), authority.issue("127.0.0.1", days=-1, called="old")
    assert (found := tls.check(good.cert, good.key, authority.ca)) and found.days_left in (29, 30)
    assert found.names == ("127.0.0.1",) and tls.check("", "") is None
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n")
    for arguments, words in {
        (good.cert, ""): "belong together",
        (str(tmp_path / "none.pem"), good.key): r"certificate .*none.pem cannot be read: No such file",
        (good.cert, str(tmp_path / "none.key")): r"private key .*none.key cannot be read: No such file",
        (good.cert, old.key): "cannot be used together: key values mismatch",
        (old.cert, old.key): "old.pem cannot be used: its certificate has expired",
        (
            good.cert,
            good.key,
            Authority(tmp_path / "other", "other").ca,
        ): "is not trusted.*looked up in .*other/ca.pem",
        (good.cert, good.key, str(broken)): "broken.pem holds no certificate",
    }.items():
        with pytest.raises(TlsRefused, match=words):
            tls.check(*arguments)


def test_a_pinned_certificate_is_believed_and_its_sister_is_not(authority: Authority) -> None:
    one, two = authority.issue("a"), authority.issue("a", called="two")
    assert rehearse(serving(one.cert, one.key), pinning(first_of(one.cert))).names == ("a",)
    with pytest.raises(ssl.SSLError):
        rehearse(serving(two.cert, two.key), pinning(first_of(one.cert)))
