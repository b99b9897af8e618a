"""The gateway beyond loopback with a certificate: who is let in, who is told what, and nothing that hangs."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from backend.client import RemoteError, attach, connect_to
from backend.tls import trusting
from tests.certificates import Authority
from tests.gateway.serving import Backend, environment_of, start_backend

pytestmark = pytest.mark.e2e
BOUND_S = 60.0


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def backend(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """A gateway on every address of this machine, as one for other hosts would be."""
    files = authority.issue("127.0.0.1", "gateway.internal")
    config = f'[gateway]\nhost = "0.0.0.0"\n[tls]\ncert = "{files.cert}"\nkey = "{files.key}"\nca = "{authority.ca}"\n'
    backend = start_backend(tmp_path_factory.mktemp("tls") / "home", config=config)
    yield backend
    with httpx.Client(
        base_url=backend.url, headers=backend.auth(), verify=trusting(authority.ca).context, timeout=60
    ) as http:
        http.post("/api/v1/shutdown", json={"stop_fleet": True})
    backend.process.wait(BOUND_S)


def address(backend: Backend) -> tuple[str, int]:
    return "127.0.0.1", int(backend.url.rpartition(":")[2])


async def test_a_console_elsewhere_believes_the_authority_it_was_given(
    backend: Backend, authority: Authority
) -> None:
    assert backend.url.startswith("https://")
    client = await connect_to(backend.url, str(backend.home.token), authority.ca)
    assert (await client.request("platform", {}))["gateway"] == backend.url
    await client.close()


async def test_the_home_s_own_console_needs_no_authority_for_it_knows_the_certificate(
    backend: Backend,
) -> None:
    client = await attach(backend.home, start=False)
    assert client.url == backend.url and await client.request("snapshot", {})
    await client.close()


async def test_whom_nobody_vouches_for_is_not_told_the_token(backend: Backend, tmp_path: Path) -> None:
    for ca in (Authority(tmp_path / "other", "other").ca, None):
        with pytest.raises(
            RemoteError, match="the gateway is not trusted: its certificate is not trusted"
        ) as failed:
            await connect_to(backend.url, str(backend.home.token), ca)
        assert failed.value.code == "unauthorized"


async def test_plain_on_tls_and_tls_on_plain_say_so(backend: Backend, authority: Authority) -> None:
    plain = backend.url.replace("https", "http")
    with pytest.raises(RemoteError, match=r"no gateway there|closed") as failed:
        await connect_to(plain, str(backend.home.token))
    assert "https" in failed.value.message
    gone = asyncio.Event()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with suppress(ConnectionResetError):
            await reader.read()
        writer.close()
        gone.set()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(RemoteError, match="does not speak TLS there"):
            await connect_to(f"https://127.0.0.1:{port}", str(backend.home.token), authority.ca)
        await asyncio.wait_for(gone.wait(), BOUND_S)


@pytest.mark.parametrize(
    ("names", "days", "words"),
    [
        (("elsewhere.internal",), 30, "made out to others than 127.0.0.1"),
        (("127.0.0.1",), -1, "has expired .or this machine's clock is ahead"),
        (("127.0.0.1",), 90, "not valid yet .is a clock wrong"),
        ((), 0, r"cannot be reached: .*does it speak TLS there"),
    ],
)
async def test_a_gateway_whose_certificate_does_not_fit_is_not_told_the_token(
    authority: Authority, tmp_path: Path, names: tuple[str, ...], days: float, words: str
) -> None:
    token = tmp_path / "token"
    token.write_text("t" * 40)
    token.chmod(0o600)
    context = None
    if names:
        files = authority.issue(*names, days=days, called="other")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.cert, files.key)
    heard = b""

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        with suppress(ConnectionResetError):
            heard += await reader.read(10_000)
        writer.close()

    async with await asyncio.start_server(hear, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(RemoteError, match=words):
            await connect_to(f"https://127.0.0.1:{port}", str(token), authority.ca)
    assert b"t" * 40 not in heard


async def test_a_handshake_that_never_ends_is_cut_off_and_others_are_served(
    backend: Backend, authority: Authority
) -> None:
    waiting = [await asyncio.open_connection(*address(backend)) for _ in range(20)]
    for number, (_, writer) in enumerate(waiting):
        writer.write(b"\x16\x03\x01\x02\x00\x01"[: number % 7])
    async with httpx.AsyncClient(verify=trusting(authority.ca).context, trust_env=False, timeout=60) as http:
        assert (await http.get(f"{backend.url}/health", headers=backend.auth())).status_code == 200
    for reader, writer in waiting:
        with suppress(ConnectionResetError):
            await asyncio.wait_for(reader.read(), BOUND_S)
        writer.close()
        with suppress(ConnectionResetError, ssl.SSLError):
            await writer.wait_closed()


def command(backend: Backend, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "backend.cli.tekton", *words],
        env={**environment_of(backend.home.root / "nowhere"), **environment},
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )


async def test_commands_go_to_a_gateway_elsewhere_by_options_or_environment(
    backend: Backend, authority: Authority
) -> None:
    token = str(backend.home.token)
    done = await asyncio.to_thread(
        command, backend, "--connect", backend.url, "--token-file", token, "--ca-file", authority.ca, "status"
    )
    assert done.returncode == 0 and "apollo" in done.stdout, done
    named: dict[str, str] = {
        "TEKTON_CONNECT": backend.url,
        "TEKTON_TOKEN_FILE": token,
    }
    done = await asyncio.to_thread(command, backend, "status", **named)
    assert done.returncode != 0 and "not trusted" in done.stderr and "Traceback" not in done.stderr, done
    assert not (backend.home.root / "nowhere").exists(), "no backend was started here instead"


@pytest.mark.parametrize("fault", ["missing", "expired"])
def test_serve_refuses_files_it_cannot_use(authority: Authority, tmp_path: Path, fault: str) -> None:
    files = authority.issue("a", days=-1, called="old")
    cert = files.cert if fault == "expired" else str(tmp_path / "none.pem")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "backend.cli.tekton", "serve", "--host", "0.0.0.0"],
        env=environment_of(tmp_path / "home", TEKTON_TLS_CERT=cert, TEKTON_TLS_KEY=files.key),
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )
    assert done.returncode == 2 and cert in done.stderr and "Traceback" not in done.stderr, done
