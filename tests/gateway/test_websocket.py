"""`/ws` as a client written from the protocol page meets it: calls, events with numbers, coming back, coming twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import Struct
from websockets.asyncio.client import ClientConnection, connect

from backend.events import EventStream
from backend.gateway import websocket
from backend.gateway.auth import Principal
from backend.gateway.protocols import FRAMES
from backend.schema.events import SpecialistGone, TurnText
from tests.gateway.serving import Backend

WAIT_S = 60.0


class Talk:
    """A connection and all that came on it."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.came: list[dict[str, Any]] = []

    async def send(self, type_: str, **values: Any) -> None:
        await self._socket.send(json.dumps({"type": type_, **values}))

    async def send_text(self, text: str) -> None:
        await self._socket.send(text)

    async def next(self) -> dict[str, Any]:
        """Return the next frame."""
        self.came.append(json.loads(await self._socket.recv()))
        return self.came[-1]

    async def until(self, type_: str, **values: Any) -> dict[str, Any]:
        """Read until a frame of this type with these values comes, and return it."""
        async with asyncio.timeout(WAIT_S):
            while True:
                frame = await self.next()
                if frame["type"] == type_ and values.items() <= frame.items():
                    return frame

    def tokens(self, request_id: str) -> list[int]:
        chunks = [f for f in self.came if f["type"] == "stream_chunk" and f["request_id"] == request_id]
        return [frame["chunk_index"] for frame in chunks]


@asynccontextmanager
async def talking(backend: Backend, head: object = None) -> AsyncIterator[Talk]:
    """Connect; `head` is what the request's own head subscribes to, as it is or as JSON."""
    address = f"{backend.url.replace('http', 'ws')}/ws"
    headers = backend.auth()
    if head is not None:
        headers["tekton-subscribe"] = head if isinstance(head, str) else json.dumps(head)
    async with connect(address, additional_headers=headers, proxy=None, max_queue=None) as socket:
        talk = Talk(socket)
        await talk.until("hello")
        yield talk


async def test_hello_says_which_life_of_the_backend_this_is_and_what_one_may(backend: Backend) -> None:
    async with talking(backend) as one, talking(backend) as two:
        assert one.came[0].keys() >= {"epoch", "seq", "version", "scopes"}
        assert one.came[0]["epoch"] == two.came[0]["epoch"]
        assert one.came[0]["scopes"] == ["control"]
        await one.send("ping", request_id="p")
        assert (await one.until("pong"))["request_id"] == "p"


async def test_a_chat_answers_with_the_frames_of_the_socket_each_with_a_number(backend: Backend) -> None:
    async with talking(backend) as talk:
        await talk.send("chat", ai_id="apollo", content="[[repeat 3]]", request_id="ws-1")
        result = await talk.until("result", request_id="ws-1")
        assert result["result"]["content"] == "token0 token1 token2"
        own = [frame for frame in talk.came if frame.get("request_id") == "ws-1" and "seq" in frame]
        kinds = [frame["type"] for frame in own if not frame["type"].startswith(("stream_phase", "turn_"))]
        assert kinds == ["stream_start", *["stream_chunk"] * 3, "stream_end"]
        numbers = [frame["seq"] for frame in talk.came if "seq" in frame and frame["type"] != "hello"]
        assert numbers == sorted(set(numbers))
        assert all(next(iter(frame)) == "seq" for frame in own)


async def test_a_request_sent_again_joins_the_turn_that_runs_or_gets_its_answer(backend: Backend) -> None:
    call = {"ai_id": "apollo", "content": "[[repeat 5]] [[first 0.3]]", "request_id": "ws-twice"}
    async with talking(backend) as one, talking(backend) as two:
        await one.send("chat", **call)
        await two.send("chat", **call)
        first = await one.until("result", request_id="ws-twice")
        second = await two.until("result", request_id="ws-twice")
        await two.send("chat", **call)
        third = await two.until("result", request_id="ws-twice")
        assert first == second == third
        await two.send("pipeline", pipeline="apollo", input="x", request_id="ws-twice")
        assert (await two.until("error", request_id="ws-twice"))["code"] == "conflict"
    session = first["result"]["session_id"]
    rows = backend.ask("GET", f"/api/v1/sessions/{session}/messages", params={"limit": 200})["messages"]
    assert [row["role"] for row in rows if row["request_id"] == "ws-twice"] == ["user", "assistant"]


async def test_coming_back_with_the_last_number_brings_what_was_missed_and_nothing_else(
    backend: Backend,
) -> None:
    async with talking(backend) as one:
        await one.send("subscribe", request_id="s", topics=["chat"])
        snapshot = await one.until("snapshot")
        assert {row["id"] for row in snapshot["specialists"]} >= {"apollo-ai", "athena-ai"}
        await one.send(
            "chat", ai_id="athena", content="[[repeat 40]] [[rate 80]]", request_id="ws-back", wait=False
        )
        last = await one.until("stream_chunk", request_id="ws-back", chunk_index=9)
    epoch = one.came[0]["epoch"]
    async with talking(backend) as two:
        await two.send("subscribe", request_id="s", topics=["chat"], after_seq=last["seq"], epoch=epoch)
        resumed = await two.until("result", request_id="s")
        assert resumed["result"]["resumed"] is True
        await two.until("stream_end", request_id="ws-back")
        assert one.tokens("ws-back") + two.tokens("ws-back") == list(range(40))
        assert "snapshot" not in [frame["type"] for frame in two.came]


async def test_a_number_of_another_life_or_too_old_gets_the_whole_state_as_a_resync(backend: Backend) -> None:
    async with talking(backend) as talk:
        epoch = talk.came[0]["epoch"]
        for values in ({"after_seq": 5, "epoch": "another"}, {"after_seq": 10**12, "epoch": epoch}):
            await talk.send("subscribe", request_id="s", topics=["chat"], **values)
            assert (await talk.until("result", request_id="s"))["result"]["resumed"] is False
            snapshot = await talk.until("snapshot")
            assert snapshot["resync"] is True
            assert snapshot["platform"]["gateway"] == backend.url


async def test_who_comes_back_may_say_so_in_the_head_and_gets_what_was_missed_behind_the_hello(
    backend: Backend,
) -> None:
    async with talking(backend, {"topics": ["chat"]}) as one:
        assert one.came[0]["subscribed"] is True
        await one.until("snapshot")
        await one.send(
            "chat", ai_id="athena", content="[[repeat 40]] [[rate 80]]", request_id="ws-head", wait=False
        )
        last = await one.until("stream_chunk", request_id="ws-head", chunk_index=9)
    wish = {"topics": ["chat"], "after_seq": last["seq"], "epoch": one.came[0]["epoch"]}
    async with talking(backend, wish) as two:
        await two.until("stream_end", request_id="ws-head")
        assert [frame["type"] for frame in two.came[:2]] == ["hello", "result"]
        assert two.came[1]["result"]["resumed"] is True
        assert one.tokens("ws-head") + two.tokens("ws-head") == list(range(40))
    async with talking(backend, {**wish, "epoch": "another"}) as three:
        assert (await three.until("snapshot"))["resync"] is True


async def test_a_head_that_is_none_is_named_and_takes_nothing_away(backend: Backend) -> None:
    for head in ("chat", '{"topics":["weather"]}', "[" * 5_000, '{"topics":"chat"}', "\xe9"):
        async with talking(backend, head) as talk:
            assert talk.came[0]["subscribed"] is False
            assert "tekton-subscribe" in (await talk.until("error"))["message"]
            await talk.send("subscribe", request_id="s", topics=["chat"])
            await talk.until("snapshot")


async def test_a_turn_that_runs_on_is_whole_in_the_snapshot_of_who_comes_later(backend: Backend) -> None:
    async with talking(backend) as one:
        await one.send("chat", ai_id="apollo", content="[[repeat 30]] [[rate 60]]", request_id="ws-late")
        await one.until("stream_chunk", request_id="ws-late", chunk_index=4)
        async with talking(backend) as two:
            await two.send("subscribe", request_id="s", topics=["chat"])
            snapshot = await two.until("snapshot")
            (turn,) = [row for row in snapshot["turns"] if row["request_id"] == "ws-late"]
            await two.until("stream_end", request_id="ws-late")
            assert list(range(turn["chunks"])) + two.tokens("ws-late") == list(range(30))


async def test_a_cancel_is_confirmed_and_ends_the_stream(backend: Backend) -> None:
    async with talking(backend) as talk:
        await talk.send("chat", ai_id="apollo", content="[[repeat 900]] [[rate 30]]", request_id="ws-end")
        await talk.until("stream_chunk", request_id="ws-end")
        await talk.send("cancel", request_id="ws-end")
        end = await talk.until("stream_end", request_id="ws-end")
        assert end["metadata"]["finish_reason"] == "cancelled"
        assert (await talk.until("result"))["result"]["confirmed"] is True


async def test_what_nobody_subscribed_to_is_not_sent_and_batches_are_only_for_who_asked(
    backend: Backend,
) -> None:
    async with talking(backend) as one, talking(backend) as two:
        await two.send("subscribe", request_id="s", topics=["errors"])
        await two.until("snapshot")
        await one.send("chat", ai_id="athena", content="[[repeat 50]]", request_id="ws-own")
        await one.until("result", request_id="ws-own")
        await two.send("ping", request_id="p")
        await two.until("pong")
        assert [frame["type"] for frame in two.came[-1:]] == ["pong"]
        assert two.tokens("ws-own") == []
        assert one.tokens("ws-own") == list(range(50))


async def test_half_of_a_character_is_named_on_either_way(backend: Backend) -> None:
    half = r'{"type":"chat","ai_id":"apollo","content":"\ud800 x"}'
    async with backend.http("chat") as http:
        answer = await http.post("/api/v1/chat/apollo", content=half)
        assert answer.status_code == 400 and "half of a character" in answer.json()["error"]["message"]
        for other in ('{"message":', '{"message":NaN}'):
            answer = await http.post("/api/v1/chat/apollo", content=other)
            assert answer.status_code == 400 and "half" not in answer.json()["error"]["message"]
    async with talking(backend) as talk:
        await talk.send_text(half)
        assert "half of a character" in (await talk.until("error"))["message"]


async def test_what_was_missed_comes_whole_and_in_order_in_frames_of_some_kilobytes() -> None:
    """Over a slow line a single frame of all that was missed showed nothing until its last byte was there."""
    events, written, all_of_them = EventStream(), list[bytes](), asyncio.Event()

    async def write(texts: Any) -> None:
        written.extend(texts)
        if connection._subscription.cursor == events.seq:
            all_of_them.set()

    gateway: Any = SimpleNamespace(platform=SimpleNamespace(events=events))
    socket: Any = SimpleNamespace(scope={"extensions": {FRAMES: write}})
    connection: Any = websocket._Connection(gateway, socket, Principal("reader", "read"), "here")  # pyright: ignore[reportPrivateUsage]
    connection._subscription, connection._batch = events.subscribe(["fleet"]), True
    sizes = [10] * 2_000 + [100_000, 10, 100_000] + [3_000] * 30
    for number, size in enumerate(sizes):
        events.publish("fleet", SpecialistGone("s" * size, float(number)))
    sender = asyncio.create_task(connection._forward())
    async with asyncio.timeout(WAIT_S):
        await all_of_them.wait()
    sender.cancel()
    await asyncio.gather(sender, return_exceptions=True)
    lines = [json.loads(line) for frame in written for line in frame.split(b"\n")]
    assert [line["seq"] for line in lines] == list(range(1, len(sizes) + 1))
    assert all(len(frame) <= 1.1 * websocket.FRAME_BYTES or b"\n" not in frame for frame in written)
    assert len(written) < len(sizes) / 20


async def test_an_answer_that_waits_for_events_is_sent_though_its_reader_fell_off_the_log() -> None:
    """The reader is given a snapshot instead, which holds them; nothing else may come for a long time."""

    class State(Struct, tag="snapshot"):
        at_seq: int

    events, written = EventStream(max_events=4), list[bytes]()

    async def write(texts: Any) -> None:
        written.extend(texts)

    def snapshot(resync: bool) -> State:
        return State(events.seq)

    gateway: Any = SimpleNamespace(platform=SimpleNamespace(events=events, snapshot=snapshot))
    socket: Any = SimpleNamespace(scope={"extensions": {FRAMES: write}})
    reader = Principal("reader", "read")
    connection: Any = websocket._Connection(gateway, socket, reader, "here")  # pyright: ignore[reportPrivateUsage]
    connection._subscription = events.subscribe(["fleet"])
    sender = asyncio.create_task(connection._forward())
    await asyncio.sleep(0)
    for number in range(20):  # in one step of the loop: the reader is woken, and too late
        events.publish("fleet", SpecialistGone(f"s{number}", 0.0))
    async with asyncio.timeout(WAIT_S):
        await connection._until_sent()
    assert [line for line in written if b'"snapshot"' in line] and events.lost_replays == 1
    sender.cancel()
    await asyncio.gather(sender, return_exceptions=True)


async def test_an_answer_that_waits_while_the_last_of_a_snapshots_texts_is_sent_comes_behind_it() -> None:
    """What happened meanwhile may be nothing that its reader wants, and nothing else may come for a long time."""
    events, began, may_go_on = EventStream(), asyncio.Event(), asyncio.Event()

    async def write(texts: Any) -> None:
        began.set()
        await may_go_on.wait()

    gateway: Any = SimpleNamespace(platform=SimpleNamespace(events=events))
    socket: Any = SimpleNamespace(scope={"extensions": {FRAMES: write}})
    connection: Any = websocket._Connection(gateway, socket, Principal("reader", "read"), "here")  # pyright: ignore[reportPrivateUsage]
    connection._left_out = iter([TurnText("r-1", "the last of them")])
    sender = asyncio.create_task(connection._forward())
    await began.wait()
    events.publish("fleet", SpecialistGone("apollo-ai", 0.0))
    answer = asyncio.create_task(connection._until_sent())
    await asyncio.sleep(0)
    may_go_on.set()
    async with asyncio.timeout(WAIT_S):
        await answer
    sender.cancel()
    await asyncio.gather(sender, return_exceptions=True)


@pytest.mark.parametrize(
    ("frame", "meant"),
    [
        ({"type": "subscribe", "topics": ["chat"], "after_sq": 1}, "did you mean 'after_seq'"),
        ({"type": "subscribe", "topcs": ["chat"]}, "did you mean 'topics'"),
        ({"type": "subscribe", "topics": ["chatt"]}, "topics[0]': invalid value 'chatt'; expected one of "),
        ({"type": "subscribe"}, "'topics' is missing"),
        ({"type": "attend", "conversaton": "c"}, "did you mean 'conversation'"),
        ({"type": "attend", "conversation": "c", "onn": False}, "there is no parameter 'onn'"),
        (
            {"type": "chat", "ai_id": "apollo", "content": "x", "options": {"efort": "low"}},
            "did you mean 'effort'",
        ),
        ({"type": "lunch", "ids": ["apollo"]}, "did you mean 'launch'"),
    ],
)
async def test_a_misspelt_name_in_a_frame_is_refused_with_what_was_meant(
    backend: Backend, frame: dict[str, Any], meant: str
) -> None:
    async with talking(backend) as talk:
        await talk.send(frame["type"], request_id="slip", **{k: v for k, v in frame.items() if k != "type"})
        assert meant in (await talk.until("error", request_id="slip"))["message"]


async def test_what_a_newer_client_may_say_beside_is_passed_over(backend: Backend) -> None:
    async with talking(backend) as talk:
        await talk.send("subscribe", request_id="new", topics=["chat"], compression="zstd")
        await talk.until("snapshot")
