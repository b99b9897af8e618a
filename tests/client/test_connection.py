"""The client's link: what it does not know, what is lost, what may be sent again, and that no call waits for ever."""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from backend.client import Client, ConnectionChanged, RemoteError, connection
from backend.client.link import refusal
from backend.schema.events import ErrorsAcknowledged
from backend.schema.params import Chat
from tests.client.gateway import Gateway

BOUND_S = 60.0
KNOWN = b'{"seq":%d,"type":"errors_acknowledged","ids":[],"timestamp":1.0,"unacknowledged":%d}'


async def attached(gateway: Gateway) -> Client:
    return await Client.connect((gateway.url, "token"))


async def failed(call: asyncio.Task[Any]) -> RemoteError:
    with pytest.raises(RemoteError) as error:
        await asyncio.wait_for(call, BOUND_S)
    return error.value


async def until(true: Callable[[], Any]) -> None:
    async with asyncio.timeout(BOUND_S):
        while not true():  # noqa: ASYNC110 - what the other side read has no event here
            await asyncio.sleep(0)


async def asked(gateway: Gateway, count: int) -> None:
    await until(lambda: len(gateway.asked) >= count)


async def state(client: Client, wanted: str) -> ConnectionChanged:
    async with asyncio.timeout(BOUND_S):
        async for batch in client.events():
            for _, event in batch:
                if isinstance(event, ConnectionChanged) and event.state == wanted:
                    return event
    raise AssertionError(f"never {wanted}")


async def read_up_to(client: Client, seq: int) -> None:
    async with asyncio.timeout(BOUND_S):
        async for batch in client.events():
            if any(number == seq for number, _ in batch):
                return


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        (b'{"seq":2,"type":"hologram","beam":1}', "hologram"),
        (
            b'{"seq":2,"type":"errors_acknowledged","ids":[],"timestamp":1.0,"unacknowledged":"many"}',
            "errors_acknowledged",
        ),
        (b'{"seq":2,"type":"errors_acknowledged"}', "errors_acknowledged"),
        (b'{"type":7}', ""),
        (b"[1]", ""),
        (b"no json", ""),
        (b"", ""),
        (b'{"seq":', ""),
        (b"[" * 100_000, ""),
        (b'{"type":"\xff"}', ""),
    ],
)
async def test_what_is_not_known_is_skipped_and_counted(frame: bytes, kind: str) -> None:
    async with Gateway() as gateway:
        client = await attached(gateway)
        await client.subscribe(["errors"])
        later = KNOWN[:-1] % (3, 5) + b',"of_a_newer_version":[1]}'
        await gateway.send(KNOWN % (1, 4), frame, later)
        seen = list[int]()
        async with asyncio.timeout(BOUND_S):
            async for batch in client.events():
                seen += [event.unacknowledged for _, event in batch if isinstance(event, ErrorsAcknowledged)]
                if len(seen) == 2:
                    break
        assert seen == [4, 5] and client.state == "attached" and dict(client.skipped) == {kind: 1}
        await client.close()


async def test_what_was_skipped_is_not_asked_for_again_after_a_drop() -> None:
    async with Gateway() as gateway:
        client = await attached(gateway)
        await client.subscribe(["errors"])
        await gateway.send(b'{"seq":7,"type":"hologram"}')
        await until(lambda: client.skipped)
        wish = msgspec.json.decode(client._subscription()[1])  # pyright: ignore[reportPrivateUsage]
        assert wish["after_seq"] == 7
        await client.close()


@pytest.mark.parametrize("reads_heads", [True, False], ids=["a gateway that reads heads", "an older one"])
async def test_who_comes_back_subscribes_once_in_the_head_where_the_gateway_reads_it(
    reads_heads: bool,
) -> None:
    async with Gateway() as gateway:
        gateway.reads_heads = reads_heads
        client = await attached(gateway)
        await client.subscribe(["errors"])
        await gateway.send(KNOWN % (7, 1))
        await read_up_to(client, 7)
        call = asyncio.create_task(client.request("chat", {"request_id": "r1"}))
        await asked(gateway, 1)
        await client.drop()
        await asked(gateway, 2)  # calls come behind the subscription
        first, again = gateway.wishes
        assert "after_seq" not in first and ("request_id" in again) is not reads_heads
        assert (again["topics"], again["after_seq"], again["epoch"], again["batch"]) == (
            ["errors"],
            7,
            "first",
            True,
        )
        await client.close()
        await failed(call)


@pytest.mark.parametrize("reads_heads", [True, False], ids=["a gateway that reads heads", "an older one"])
async def test_a_number_is_never_asked_for_as_one_of_another_life(reads_heads: bool) -> None:
    """The next life's log may be longer than the last one's: its events behind that number are others."""
    async with Gateway() as gateway:
        gateway.reads_heads = reads_heads
        client = await attached(gateway)
        await client.subscribe(["errors"])
        await gateway.send(KNOWN % (7, 1))
        await read_up_to(client, 7)
        for life in ("second", "third"):  # dropped before any snapshot came, it still does not
            gateway.epoch, before = life, len(gateway.wishes)
            await client.drop()
            await until(lambda before=before: len(gateway.wishes) > before)
            assert (gateway.wishes[-1]["after_seq"], gateway.wishes[-1]["epoch"]) == (7, "first")
            await until(lambda: client.state == "attached")
        await client.close()


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (
            b'{"type":"error","request_id":"ID","ai_id":"g","code":"of_tomorrow","message":"no rain"}',
            "no rain",
        ),
        (b'{"type":"error","request_id":"ID"}', "another version"),
    ],
)
async def test_a_call_whose_answer_is_not_understood_fails(answer: bytes, told: str) -> None:
    async with Gateway() as gateway:
        gateway.answers = [answer]
        client = await attached(gateway)
        error = await failed(asyncio.create_task(client.request("get_errors", {})))
        assert error.code == "internal" and told in error.message
        await client.close()


async def test_a_state_that_cannot_be_read_ends_the_link_and_every_call_and_says_so() -> None:
    async with Gateway() as gateway:
        client = await attached(gateway)
        call = asyncio.create_task(client.request("chat", {"request_id": "r1"}))
        await asked(gateway, 1)
        await gateway.send(b'{"type":"snapshot","epoch":"first"}')
        error = await failed(call)
        assert error.code == "backend_lost" and "cannot be read" in error.message
        assert "cannot be read" in (await state(client, "closed")).reason
        assert "cannot be read" in (await failed(asyncio.create_task(client.request("x", {})))).message
        await client.close()


async def test_any_failure_of_the_link_itself_ends_all_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise LookupError("a fault of ours")

    async with Gateway() as gateway:
        client = await attached(gateway)
        call = asyncio.create_task(client.request("chat", {"request_id": "r1"}))
        await asked(gateway, 1)
        monkeypatch.setattr(client, "_sort", broken)
        await gateway.send(KNOWN % (1, 1))
        assert "a fault of ours" in (await failed(call)).message and client.state == "closed"
        await client.close()


async def test_a_call_fails_once_the_link_was_lost_for_the_set_time_and_is_never_sent_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "LOST_CALLS_S", 0.1)
    async with Gateway() as gateway:
        client = await attached(gateway)
        call = asyncio.create_task(client.request("chat", {"request_id": "r1"}))
        await asked(gateway, 1)
        await gateway.end()
        error = await failed(call)
        assert error.code == "backend_lost" and "lost for 0.1 s" in error.message
        await gateway.begin()
        await until(lambda: client.state == "attached")
        await client.subscribe(["errors"])
        assert len(gateway.asked) == 1
        await client.close()


async def test_a_call_is_sent_again_to_the_same_life_and_joins_there() -> None:
    async with Gateway() as gateway:
        client = await attached(gateway)
        call = asyncio.create_task(client.request("chat", {"request_id": "r1"}))
        await asked(gateway, 1)
        gateway.answers = [b'{"type":"result","request_id":"ID","result":"joined"}']
        await client.drop()
        assert await asyncio.wait_for(call, BOUND_S) == "joined"
        assert [one["request_id"] for one in gateway.asked] == ["r1", "r1"]
        await client.close()


async def test_a_link_that_came_back_in_time_fails_no_call_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "LOST_CALLS_S", 0.2)
    async with Gateway() as gateway:
        client = await attached(gateway)
        call = asyncio.create_task(client.request("chat", {"request_id": "r1"}))
        await asked(gateway, 1)
        await client.drop()
        await asked(gateway, 2)
        await asyncio.wait([call], timeout=0.4)  # past the moment at which it would have failed
        assert not call.done()
        await gateway.send(b'{"type":"result","request_id":"r1","result":"late"}')
        assert await asyncio.wait_for(call, BOUND_S) == "late"
        await client.close()


async def test_a_call_that_failed_with_its_backend_is_not_asked_of_the_next_one() -> None:
    async with Gateway() as gateway:
        client = await attached(gateway)
        call = asyncio.create_task(client.request("chat", {"request_id": "r1"}))
        await asked(gateway, 1)
        await gateway.end()
        gateway.epoch = "second"
        await gateway.begin()
        assert "another one" in (await failed(call)).message
        await client.subscribe(["errors"])  # answered behind all that was sent before
        assert len(gateway.asked) == 1
        await client.close()


async def test_calls_end_at_once_when_no_backend_serves_any_more() -> None:
    places = list[tuple[str, str]]()

    def locate() -> tuple[str, str]:
        if not places:
            raise RemoteError("no backend runs for this home", code="backend_lost")
        return places.pop()

    async with Gateway() as gateway:
        places.append((gateway.url, "token"))
        client = await Client.connect(locate)
        call = asyncio.create_task(client.request("chat", {"request_id": "r1"}))
        await asked(gateway, 1)
        await client.drop()
        error = await failed(call)
        assert (error.code, error.message) == ("backend_lost", "no backend runs for this home")
        await client.close()


async def test_a_connect_that_is_cancelled_leaves_no_link_behind() -> None:
    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    connecting = asyncio.create_task(Client.connect((f"http://{host}:{port}", "token")))
    for _ in range(20):
        await asyncio.sleep(0)
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "client link"]
    server.close()


async def test_a_gateway_of_another_version_is_told_in_a_sentence() -> None:
    async with Gateway() as gateway:
        client = await attached(gateway)
        assert client.gateway_version == "9.9"
        assert "the gateway is version 9.9, this program" in client.version_note
        await client.close()


@pytest.mark.parametrize(
    ("differs_s", "told"),
    [
        (-10_860, "this machine's clock is 3 h 1 min ahead of the gateway's, by which ages are shown"),
        (63_072_000, "this machine's clock is 17520 h 0 min behind the gateway's"),
        (2.0, ""),
    ],
)
async def test_a_clock_that_differs_is_told_and_known_as_soon_as_attached(
    differs_s: float, told: str
) -> None:
    async with Gateway() as gateway:
        gateway.clock = lambda: time.time() + differs_s
        client = await attached(gateway)
        assert client.ahead_s == (pytest.approx(differs_s, abs=BOUND_S) if told else 0.0)
        assert told in client.note and ("clock" in client.note) == bool(told)
        gateway.clock = lambda: 0.0
        await gateway.end()
        await gateway.begin()
        await until(lambda: client.state == "attached" and client.ahead_s == 0.0)
        assert "clock" not in client.note, "one of an older version does not say"
        await client.close()


async def test_topics_that_an_older_gateway_does_not_know_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Gateway() as gateway:
        gateway.topics = frozenset({"fleet", "errors"})
        client = await attached(gateway)
        await client.subscribe(["asks", "fleet", "tools", "errors"])
        assert gateway.subscribed == ["fleet", "errors"]
        await client.drop()
        gateway.subscribed = []
        await until(lambda: gateway.subscribed)
        assert gateway.subscribed == ["fleet", "errors"], "nor are they asked for when the link comes back"
        monkeypatch.setattr("backend.__version__", "9.9")  # of our own version a gateway knows all of them
        with pytest.raises(RemoteError, match="Invalid enum value 'asks'"):
            await client.subscribe(["asks", "fleet"])
        await client.close()


async def test_a_call_waits_for_its_whole_result_and_a_start_does_not() -> None:
    async with Gateway() as gateway:
        gateway.answers = [
            b'{"type":"error","request_id":"ID","ai_id":"x","code":"internal","error":"e","message":"e"}'
        ]
        client = await Client.connect((gateway.url, "token"))
        for ask, given in ((client.call, False), (client.start, True)):
            with pytest.raises(RemoteError):
                await ask(Chat(ai_id="apollo", content="hello", wait=given))
        assert [call.get("wait", True) for call in gateway.asked] == [True, False]
        await client.close()


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"error":{"message":"90 clients are connected already"}}', "90 clients"),
        (b"", "HTTP 429"),
        (b"<p>", "HTTP 429"),
    ],
)
async def test_a_gateway_that_refuses_is_quoted(body: bytes, told: str) -> None:
    def refuse(connection: ServerConnection, request: Request) -> Response:
        return Response(429, "Too Many Requests", Headers({"content-length": str(len(body))}), body)

    async with serve(lambda _: asyncio.sleep(0), "127.0.0.1", 0, process_request=refuse) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(RemoteError, match=told) as refused:
            await Client.connect((url, "token"))
    assert refused.value.code == "too_many"


async def test_a_request_id_names_one_call_of_a_client_and_not_another_one() -> None:
    async with Gateway() as gateway:
        client = await attached(gateway)
        first = asyncio.create_task(client.call(Chat("apollo", "alpha", request_id="k")))
        await asked(gateway, 1)
        for other in (Chat("apollo", "beta", request_id="k"), Chat("athena", "alpha", request_id="k")):
            error = await failed(asyncio.create_task(client.call(other)))
            assert error.code == "conflict" and "another call" in error.message
        assert len(gateway.asked) == 1 and not first.done()
        await client.close()
        assert (await failed(first)).code == "backend_lost"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
            "name or service not known; is its",
        ),
        (
            socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
            "temporary failure in name",
        ),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed"), "connection refused"),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "network is unreachable"),
    ],
)
def test_why_a_gateway_cannot_be_reached_is_words_without_numbers(error: OSError, told: str) -> None:
    message = refusal(error, "http://h:1").message
    assert message.startswith("the gateway at http://h:1 cannot be reached: ") and told in message
    assert "Errno" not in message


EVENTS = 3 * connection.QUEUED_BATCHES


@pytest.mark.parametrize("reader", ["none", "left", "asks"])
async def test_a_call_is_answered_though_nobody_takes_the_events_before_it_and_none_of_them_is_lost(
    reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "READER_S", 0.05)

    async def ask() -> None:
        call = asyncio.create_task(client.request("list_sessions", {}))
        await asked(gateway, 1)
        await gateway.send(*gateway.log.values())
        await gateway.send(
            b'{"type":"result","request_id":"%s","result":{}}' % gateway.asked[0]["request_id"].encode()
        )
        assert await asyncio.wait_for(call, BOUND_S) == {}

    async with Gateway() as gateway:
        client = await attached(gateway)
        await client.subscribe(["errors"])
        gateway.log = {number: KNOWN % (number, number) for number in range(1, EVENTS + 1)}
        numbers = list[int]()
        if reader != "asks":
            if reader == "left":
                await state(client, "attached")
            await ask()
        async with asyncio.timeout(BOUND_S):
            async for batch in client.events():
                if reader == "asks" and not gateway.asked:
                    await ask()
                numbers += [number for number, _ in batch if number]
                if numbers and numbers[-1] == EVENTS:
                    break
        await client.close()
    assert numbers == list(range(1, EVENTS + 1))


async def test_what_was_joined_into_an_event_that_nobody_took_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A joined chunk has the number of its last piece: those before it are behind the number of the event before it."""
    monkeypatch.setattr(connection, "READER_S", 0.05)
    chunk = b'{"seq":%d,"type":"stream_chunk","request_id":"%s","content":"x","chunk_index":%d,"pieces":%d}'
    last = connection.QUEUED_BATCHES - 1  # with its state, which comes first, they are as many as are held
    async with Gateway() as gateway:
        client = await attached(gateway)
        await client.subscribe(["errors"])
        call = asyncio.create_task(client.request("list_sessions", {}))
        await asked(gateway, 1)
        await gateway.send(*(KNOWN % (number, number) for number in range(1, last + 1)))
        # of a: last + 1, last + 3, last + 5; of b: last + 2, last + 4
        await gateway.send(
            b"\n".join((chunk % (last + 4, b"b", 0, 2), chunk % (last + 5, b"a", 0, 3))),
            b'{"type":"result","request_id":"%s","result":{}}' % gateway.asked[0]["request_id"].encode(),
        )
        assert await asyncio.wait_for(call, BOUND_S) == {}
        gateway.log = {last + 6: KNOWN % (last + 6, 0)}
        async with asyncio.timeout(BOUND_S):
            async for batch in client.events():
                if batch[-1][0] == last + 6:
                    break
        await client.close()
    assert gateway.wishes[-1]["after_seq"] == last
