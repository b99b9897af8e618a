"""Who is served at a worker's port, how much of it anybody may hold, and that what is asked there is reported."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from backend.schema.frames import DirectAsk, DirectReply, DirectTurn, Request
from backend.specialists.worker_client import WorkerClient
from backend.worker import access, connection
from backend.worker.access import owner, owner_in
from backend.worker.direct_use import VERDICT_S

NOBODY = 65534
ASK_AND_LEAVE = """
import socket, sys
line = b'{"content":"quick","request_id":"stolen"}\\n'
gone = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
gone.sendall(line)
gone.close()
stays = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
stays.sendall(line)
stays.shutdown(socket.SHUT_WR)
print(stays.makefile().read())
"""

TABLE = (
    b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    b"   0: 0100007F:A000 0100007F:B000 01 00000000:00000000 00:00000000 00000000  1000        0 111 1 x\n"
    b"   1: 0100007F:A001 0100007F:B000 04 00000000:00000000 00:00000000 00000000     0        0 0 1 x\n"
    b"   2: 0000000000000000FFFF00000100007F:A002 0000000000000000FFFF00000100007F:B000 01 0:0 0:0 0  7 0 5 1 x\n"
)


@pytest.mark.parametrize(
    ("port", "uid"),
    [(0xA000, 1000), (0xA001, None), (0xA002, 7), (0xA003, None)],
    ids=["its owner", "a socket that nobody holds any more", "written as IPv6 does", "unknown"],
)
def test_the_owner_of_a_connection_is_read_from_the_systems_table(port: int, uid: int | None) -> None:
    assert owner_in(TABLE, ("127.0.0.1", port), ("127.0.0.1", 0xB000)) == uid


def test_the_system_names_us_as_the_owner_of_our_own_connection() -> None:
    if not any(path.exists() for path in access.SOCKET_TABLES):
        pytest.skip("this system does not say whose a connection is; the token is wanted there")
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
        assert owner(far.getpeername(), far.getsockname()) == os.getuid()
        near.close()
        assert owner(far.getpeername(), far.getsockname()) is None, "root's, says the table of a closed one"
        far.close()


async def test_another_user_of_the_machine_gets_nothing(serve: Any) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can run a program as nobody")
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin:/bin")
    if python is None:
        pytest.skip("no Python that every user may run")
    served = await serve()
    ran = await asyncio.to_thread(
        subprocess.run,
        [python, "-I", "-c", ASK_AND_LEAVE, str(served.spec.port)],
        user=NOBODY, group=NOBODY, extra_groups=[], cwd="/", capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert '"unauthorized"' in ran.stdout and "w0" not in ran.stdout, ran.stderr
    own = await served.connect()
    own.send(content="quick")
    assert (await own.frame())["content"] == "w0 w1 w2 "
    assert len(served.provider.calls) == 1, "a worker of root is not fooled by a socket that nobody holds"


@pytest.mark.parametrize(("rule", "answer"), [("token", "unauthorized"), ("open", None), ("same-user", None)])
async def test_the_setting_says_who_needs_the_token(serve: Any, rule: str, answer: str | None) -> None:
    client = await (await serve(sockets=rule)).connect()
    client.send(type="ping")
    assert (await client.frame()).get("code") == answer
    known = await (await serve(sockets=rule)).connect()
    known.send(type="hello", token="worker-secret")
    known.send(content="x" * 100_000)
    assert (await known.frame())["type"] == "chat_response"


@pytest.mark.parametrize("closes", [False, True])
async def test_what_comes_before_it_is_known_who_asks_waits_for_that(
    serve: Any, monkeypatch: pytest.MonkeyPatch, closes: bool
) -> None:
    """uvloop reads on though it was told not to: programs of the same user were refused, the busier the machine the more."""
    known, looked = asyncio.Event(), asyncio.Event()

    async def slowly(rules: access.Access, transport: asyncio.BaseTransport) -> bool:
        looked.set()
        await known.wait()
        return True

    def not_at_all(transport: asyncio.BaseTransport) -> None:
        """Read on."""

    monkeypatch.setattr(access.Access, "admits", slowly)
    monkeypatch.setattr("asyncio.selector_events._SelectorSocketTransport.pause_reading", not_at_all)
    client = await (await serve()).connect()
    client.send(type="ping")
    client.send(type="ping")
    if closes:
        client.writer.write_eof()
    await asyncio.wait_for(looked.wait(), 60)
    for _ in range(50):  # the loop has read what was sent
        await asyncio.sleep(0)
    known.set()
    assert [(await client.frame())["type"] for _ in range(2)] == ["pong", "pong"]


async def test_connections_are_bounded_and_the_platform_gets_in_all_the_same(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "MAX_CONNECTIONS", 2)
    served = await serve()
    held = [await served.connect() for _ in range(2)]
    for client in held:
        client.send(type="ping")
        assert (await client.frame())["type"] == "pong"
    third = await served.connect()
    third.send(type="ping")
    assert (await third.frame())["code"] == "too_many"
    assert await third.line() == b""
    backend = await WorkerClient.open("127.0.0.1", served.spec.port, token="worker-secret", on_direct=_silent)
    assert (await backend.call(Request(type="ping"), timeout_s=20)).ai_id == "apollo-ai"
    backend.close()
    await held[0].close()
    held[1].send(type="health")
    while (await held[1].frame())["clients"] > 1:  # until the worker has seen that it is gone
        held[1].send(type="health")
    later = await served.connect()
    later.send(type="ping")
    assert (await later.frame())["type"] == "pong"


async def test_half_lines_of_all_clients_together_are_bounded(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "MAX_HELD_BYTES", 1_000_000)
    served = await serve()
    clients = [await served.connect() for _ in range(4)]
    for client in clients:
        client.send_raw(b'{"content":"' + b"x" * 300_000)
    answers = {asyncio.ensure_future(client.frame()) for client in clients}
    refused, waiting = await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED, timeout=60)
    assert {task.result()["code"] for task in refused} == {"too_many"} and waiting
    for task in waiting:
        task.cancel()
    for client in clients:
        await client.close()
    other = await served.connect()
    other.send_raw(b'{"content":"' + b"x" * 900_000 + b'"}\n')
    assert (await other.frame())["type"] == "chat_response", "what clients that left held is free again"


async def test_a_client_that_asks_and_never_reads_is_not_read_from_either(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "MAX_UNREAD_BYTES", 50_000)
    served = await serve()
    client = await served.connect()
    client.writer.transport.set_write_buffer_limits(high=1)
    ping = b'{"type":"ping"}\n' * 4_000
    stuck = asyncio.create_task(_flood(client, ping))
    other = await served.connect()
    for _ in range(5):
        other.send(type="ping")
        assert (await other.frame())["type"] == "pong"
    assert not stuck.done(), "the kernel's buffers are full and the worker takes no more"
    stuck.cancel()


async def _flood(client: Any, data: bytes) -> None:
    while True:
        client.writer.write(data)
        await client.writer.drain()


async def test_who_says_nothing_is_let_go(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "FIRST_LINE_S", 0.05)
    served = await serve(sockets="token")
    silent = await served.connect()
    assert "nothing came" in (await silent.frame())["message"]
    assert await silent.line() == b""


async def test_who_left_before_it_was_refused_is_let_go_without_a_failure_of_ours(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_: object) -> None:
        raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    monkeypatch.setattr(connection, "FIRST_LINE_S", 0.05)
    monkeypatch.setattr(connection, "LINGER_S", 0.05)
    monkeypatch.setattr("asyncio.selector_events._SelectorSocketTransport.write_eof", gone)
    failures = list[dict[str, Any]]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    served = await serve(sockets="token")
    silent = await served.connect()
    assert "nothing came" in (await silent.frame())["message"]
    assert await silent.line() == b"" and not failures


# what is asked directly is reported


class _Backend:
    """A platform's end of a connection, with a verdict to give."""

    def __init__(self, verdict: str = "") -> None:
        self.verdict, self.turns, self.came = verdict, list[DirectTurn](), asyncio.Event()
        self.acknowledges = True

    def __call__(self, client: WorkerClient, report: DirectReply) -> None:
        if isinstance(report, DirectAsk):
            client.answer_direct(Request(type="verdict", request_id=report.request_id, content=self.verdict))
            return
        self.turns.append(report)
        self.came.set()
        if self.acknowledges:
            client.answer_direct(Request(type="counted", request_id=report.request_id))

    async def join(self, served: Any) -> WorkerClient:
        client = await WorkerClient.open("127.0.0.1", served.spec.port, token="worker-secret", on_direct=self)
        await client.call(Request(type="ping"), timeout_s=20)
        return client


def _silent(client: WorkerClient, report: DirectReply) -> None:
    """Give no verdict."""


async def test_a_direct_question_is_reported_with_what_it_used(serve: Any) -> None:
    served, backend = await serve(), _Backend()
    joined = await backend.join(served)
    client = await served.connect()
    client.send(content="quick")
    assert (await client.frame())["content"] == "w0 w1 w2 "
    await asyncio.wait_for(backend.came.wait(), 60)
    [turn] = backend.turns
    assert turn.usage is not None and (turn.usage.input_tokens, turn.usage.output_tokens) == (7, 3)
    assert turn.model == "scripted:tiny-1" and turn.code is None and turn.client.startswith("127.0.0.1:")
    joined.close()


async def test_a_direct_question_over_the_budget_is_refused_and_asks_nobody(serve: Any) -> None:
    served, backend = await serve(), _Backend("over budget: apollo has used 10 of 10 tokens today.")
    joined = await backend.join(served)
    client = await served.connect()
    client.send(content="quick", request_id="r1")
    refused = await client.frame()
    assert refused["code"] == "budget_exceeded" and "10 of 10" in refused["message"]
    assert served.provider.calls == []
    await asyncio.wait_for(backend.came.wait(), 60)
    assert backend.turns[0].code == "budget_exceeded" and backend.turns[0].usage is None
    joined.close()


async def test_a_client_that_leaves_in_the_middle_still_pays(serve: Any) -> None:
    served, backend = await serve(), _Backend()
    joined = await backend.join(served)
    client = await served.connect()
    client.send(content="hang", stream=True, request_id="r1")
    assert [frame["type"] for frame in await client.until("stream_chunk")][-1] == "stream_chunk"
    await client.close()
    await asyncio.wait_for(backend.came.wait(), 60)
    usage = backend.turns[0].usage
    assert usage is not None and usage.estimated and usage.input_tokens and usage.output_tokens
    joined.close()


async def test_without_a_backend_uses_are_kept_until_one_counts_them(serve: Any, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    served = await serve(home=str(tmp_path))
    client = await served.connect()
    client.send(content="quick")
    await client.frame()
    kept = tmp_path / "run" / "direct-apollo-ai.jsonl"
    assert kept.stat().st_mode & 0o077 == 0
    kept.write_bytes(kept.read_bytes() + b'{"cut')
    await served.stop()
    forgetful, backend = _Backend(), _Backend()
    forgetful.acknowledges = False
    again = await serve(home=str(tmp_path))
    (await forgetful.join(again)).close()
    assert [turn.ai_id for turn in forgetful.turns] == ["apollo-ai"], "the next worker reports for the last"
    joined = await backend.join(again)
    while kept.exists():  # until the acknowledgement has arrived
        await joined.call(Request(type="ping"), timeout_s=20)
    assert [turn.request_id for turn in backend.turns] == [turn.request_id for turn in forgetful.turns]
    joined.close()


async def test_where_a_budget_is_set_nobody_is_asked_without_the_backend_that_holds_it(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = await serve(budgeted=True)
    client = await served.connect()
    client.send(content="quick")
    assert (await client.frame())["code"] == "budget_exceeded"
    silent = await WorkerClient.open("127.0.0.1", served.spec.port, token="worker-secret", on_direct=_silent)
    await silent.call(Request(type="ping"), timeout_s=20)
    client.send(content="quick")
    client.send(type="ping", request_id="p")
    assert (await client.frame())["type"] == "pong"  # it waits for the verdict now
    silent.close()
    assert (await client.frame())["code"] == "budget_exceeded", "and not longer than the backend is there"
    monkeypatch.setattr("backend.worker.direct_use.VERDICT_S", VERDICT_S / 1000)
    silent = await WorkerClient.open("127.0.0.1", served.spec.port, token="worker-secret", on_direct=_silent)
    await silent.call(Request(type="ping"), timeout_s=20)
    client.send(content="quick")
    assert (await client.frame())["code"] == "timeout"
    assert served.provider.calls == []
    silent.close()


if sys.platform != "linux":
    pytestmark = pytest.mark.skip("the owner of a connection is known on Linux only")
