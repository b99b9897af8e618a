"""A line that is slow, or that is cut: slow is shown and is not gone, gone is noticed, nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backend.client import Client, ConnectionChanged, RemoteError, link
from backend.schema.events import Snapshot, TurnText
from backend.schema.frames import StreamChunk, StreamEnd
from tests.client.gateway import Gateway
from tests.client.slow_line import SlowLine
from tests.gateway.serving import Backend, start_backend

BOUND_S = 60.0
LANES, TOKENS = 6, 60
CONNECTIONS = Path("/proc/net/tcp")


@pytest.fixture(autouse=True)
def far(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count gateways on this machine as far away."""
    monkeypatch.setattr(link, "is_loopback", lambda host: False)


async def test_bytes_of_one_large_frame_are_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "FAR_SILENCE_S", 0.8)  # the frame takes three times as long
    monkeypatch.setattr(link, "FAR_PING_S", 0.05)
    async with Gateway() as gateway, SlowLine(gateway.url, delay_s=0.0, bytes_per_s=100_000) as line:
        client = await Client.connect((line.url, "token"))
        await client.subscribe(["errors"])
        large = b'{"seq":1,"type":"hologram","beam":"%s"}' % bytes(range(33, 34)) * 1
        large = large.replace(b"!", b"".join(b"%d" % (n * n) for n in range(30_000)))
        await gateway.send(large)
        async with asyncio.timeout(BOUND_S):
            while not client.skipped:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert client.state == "attached" and line.connections == 1
        await client.close()


async def test_a_line_that_carries_nothing_any_more_is_cut_and_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link, "FAR_SILENCE_S", 0.3)
    monkeypatch.setattr(link, "FAR_PING_S", 0.05)
    async with Gateway() as gateway, SlowLine(gateway.url, delay_s=0.0, bytes_per_s=1e9) as line:
        client = await Client.connect((line.url, "token"))
        await client.subscribe(["errors"])
        line.stopped.set()
        seen = list[str]()
        async with asyncio.timeout(BOUND_S):
            async for batch in client.events():
                changes = [event for _, event in batch if isinstance(event, ConnectionChanged)]
                seen += [change.state for change in changes]
                if changes and changes[-1].state == "lost":
                    assert "nothing came for" in changes[-1].reason
                    line.stopped.clear()
                if seen[-2:] == ["lost", "attached"]:
                    break
        await client.close()


async def test_the_silence_itself_is_no_delay_that_is_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The longer nothing came, the longer nothing was allowed to come: a cut was noticed after half a minute."""
    monkeypatch.setattr(link, "FAR_SILENCE_S", 0.3)
    monkeypatch.setattr(link, "FAR_PING_S", 0.05)
    monkeypatch.setattr(link, "MOST_SILENCE_S", 2 * BOUND_S)
    async with Gateway() as gateway, SlowLine(gateway.url, delay_s=0.0, bytes_per_s=1e9) as line:
        client = await Client.connect((line.url, "token"))
        await client.subscribe(["errors"])
        for _ in range(2):  # neither did a cut make the next one slower to notice
            line.stopped.set()
            async with asyncio.timeout(BOUND_S):
                while str(client.state) != "lost":  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            reason = client.lost_reason
            assert float(reason.removeprefix("nothing came for ").split(" s")[0]) < 5
            line.stopped.clear()
            async with asyncio.timeout(BOUND_S):
                while str(client.state) != "attached":  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        await client.close()


async def test_a_host_that_is_silent_is_asked_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "SILENT_S", 0.2)
    full = socket.create_server(("127.0.0.1", 0), backlog=0)
    asked = list[float]()
    with full, contextlib.ExitStack() as held:
        async with Gateway() as gateway:
            port = full.getsockname()[1]
            for _ in range(4):  # a backlog that is full answers no further connection, as a cut host does
                waiting = held.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(("127.0.0.1", port))
            places = [gateway.url, *[f"http://127.0.0.1:{port}"] * 3]

            def place() -> tuple[str, str]:
                asked.append(time.monotonic())
                return places.pop(0) if places else gateway.url, "token"

            client = await Client.connect(place)
            await client.drop()
            async with asyncio.timeout(BOUND_S):
                while len(asked) < 5 or client.state != "attached":  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert "gave no answer in 0.2 s" in client.lost_reason
            await client.close()
    assert asked[4] - asked[1] < BOUND_S / 2


async def test_of_several_addresses_the_one_that_accepts_is_taken_whatever_the_others_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    full, gone = (socket.create_server(("127.0.0.1", 0), backlog=0) for _ in range(2))
    refusing = gone.getsockname()
    gone.close()
    looked_up: list[str] = []
    with full, contextlib.ExitStack() as held:
        for _ in range(4):  # as above: it answers no further connection
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        async with Gateway() as gateway:
            here = ("127.0.0.1", int(gateway.url.rpartition(":")[2]))

            async def getaddrinfo(host: str, *_: Any, **__: Any) -> Any:
                looked_up.append(host)
                places = (refusing, full.getsockname(), here)
                return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", place) for place in places]

            client = await Client.connect((gateway.url, "token"))
            monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
            await client.drop()
            async with asyncio.timeout(BOUND_S):
                while not looked_up or client.state != "attached":  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            await client.close()
    assert len(looked_up) == 1, "at the first attempt"


@pytest.mark.skipif(not CONNECTIONS.exists(), reason="this system does not list its connections there")
async def test_a_silent_host_is_asked_again_before_the_kernel_would_and_nothing_is_left_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link, "KNOCK_S", 0.01)
    full = socket.create_server(("127.0.0.1", 0), backlog=0)
    port = full.getsockname()[1]

    def asking() -> int:
        """Count the connections to the port that were asked for and are not answered."""
        rows = [row.split() for row in CONNECTIONS.read_text().splitlines()[1:]]
        return sum(row[2].endswith(f":{port:04X}") and row[3] == "02" for row in rows)

    with full, contextlib.ExitStack() as held:
        async with Gateway() as gateway:
            for _ in range(4):
                waiting = held.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(("127.0.0.1", port))
            of_ours, places = asking(), [gateway.url]
            client = await Client.connect(
                lambda: (places.pop() if places else f"http://127.0.0.1:{port}", "token")
            )
            await client.drop()
            async with asyncio.timeout(BOUND_S):
                while asking() < of_ours + 5:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            await client.close()
            assert asking() <= of_ours


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Any:
    one = start_backend(tmp_path_factory.mktemp("slow") / "home", launch=("apollo",))
    yield one
    one.ask("POST", "/api/v1/shutdown", json={"stop_fleet": True})
    one.process.wait(BOUND_S)


async def test_over_a_narrow_line_no_token_is_lost_and_what_is_slow_is_not_called_gone(
    backend: Backend,
) -> None:
    async with SlowLine(backend.url, delay_s=0.3, bytes_per_s=12_000) as line:
        client = await Client.connect((line.url, backend.token))
        await client.subscribe(["chat"])
        question = f"[[repeat {TOKENS}]] [[rate 40]]"
        calls = [
            asyncio.create_task(
                client.request("chat", {"ai_id": "apollo", "content": question, "session_id": session})
            )
            for session in [
                (await client.request("create_session", {"owner": "apollo"}))["id"] for _ in range(LANES)
            ]
        ]
        pieces: dict[str, list[int]] = {}
        ended, paces = 0, list[float]()
        async with asyncio.timeout(3 * BOUND_S):
            async for batch in client.events():
                for _, event in batch:
                    assert not (isinstance(event, ConnectionChanged) and event.state == "lost"), event
                    if isinstance(event, StreamChunk):
                        pieces.setdefault(event.request_id, []).append(event.chunk_index)
                    ended += isinstance(event, StreamEnd)
                paces.append(client.pace.delay_s)
                if ended == LANES:
                    break
        await asyncio.gather(*calls)
        assert all(got == list(range(TOKENS)) for got in pieces.values()) and len(pieces) == LANES
        assert line.connections == 1 and max(paces) >= 0.3
        print(
            f"{line.carried:,} bytes for {LANES * TOKENS:,} tokens, delay up to {max(paces):.1f} s",
            file=sys.stderr,
        )
        assert line.carried < LANES * TOKENS * 100, "a token takes less than a hundred bytes on the line"
        await client.close()


class Reading:
    """What a client that asks for less on a slow line has of each turn: its text, by snapshots, chunks and what comes later."""

    def __init__(self) -> None:
        self.early: dict[str, str] = {}
        self.text: dict[str, str] = {}
        self.pieces: dict[str, int] = {}
        self.joined = 0
        """Pieces that came with others in one chunk."""
        self.ended = set[str]()
        self.order: list[str] = []
        """`snapshot`, `text` for what was left out of one, `live` for an event, `joined` for one of several chunks."""

    def see(self, number: int, event: object) -> None:
        match event:
            case Snapshot():
                self.order.append("snapshot")
                self.early = dict.fromkeys((turn.request_id for turn in event.turns if turn.left_out), "")
                self.text |= {turn.request_id: turn.content for turn in event.turns}
                self.pieces |= {turn.request_id: turn.chunks for turn in event.turns}
            case TurnText():
                assert number == 0 and event.request_id in self.early and not self.early[event.request_id]
                self.order.append("text")
                self.early[event.request_id] = event.content
            case StreamChunk():
                assert event.chunk_index == self.pieces.get(event.request_id, 0), (
                    "nothing lost, nothing doubled"
                )
                self.order.append("joined" if event.pieces > 1 else "live")
                self.joined += event.pieces * (event.pieces > 1)
                self.pieces[event.request_id] = event.chunk_index + event.pieces
                self.text[event.request_id] = self.text.get(event.request_id, "") + event.content
            case StreamEnd():
                self.ended.add(event.request_id)
            case _:
                pass

    def whole(self, request_id: str) -> str:
        return self.early.get(request_id, "") + self.text[request_id]


async def _ask(client: Client, question: str) -> tuple[str, str]:
    """Begin a turn in a session of its own; return its request id and the session's."""
    session = (await client.request("create_session", {"owner": "apollo"}))["id"]
    values = {"ai_id": "apollo", "content": f"[[clock]] {question}", "session_id": session, "wait": False}
    return (await client.request("chat", values))["request_id"], session


async def _cancel(client: Client, *turns: str) -> None:
    """Cancel turns. Where the machine is busy one may be said to be unconfirmed: it ends all the same."""
    for name in turns:
        try:
            await client.request("cancel", {"request_id": name})
        except RemoteError as error:
            if "did not confirm" not in str(error):
                raise


async def _read_until(client: Client, reading: Reading, done: Callable[[], bool]) -> None:
    async with asyncio.timeout(3 * BOUND_S):
        async for batch in client.events():
            for number, event in batch:
                reading.see(number, event)
            if done():
                return


async def _answer(client: Client, session: str) -> str:
    """Return the answer in a session as memory has it."""
    listed = await client.request("session_messages", {"id": session})
    return listed["messages"][-1]["content"]


async def test_what_happens_now_does_not_wait_for_the_texts_of_a_snapshot(backend: Backend) -> None:
    """Also where the line is cut while they come: what had come by then is not taken for the whole."""
    near, written = await Client.connect((backend.url, backend.token)), Reading()
    await near.subscribe(["chat"])
    long, session = await _ask(near, "[[repeat 60010]] [[stall 600]] [[after 60000]]")
    await _read_until(near, written, lambda: written.pieces.get(long, 0) >= 60_000)
    short, _ = await _ask(near, "[[repeat 5000]] [[rate 20]]")
    await _read_until(near, written, lambda: written.pieces.get(short, 0) > 0)
    async with SlowLine(backend.url, delay_s=0.05, bytes_per_s=50_000, queue_bytes=2_048) as line:
        client, reading = await Client.connect((line.url, backend.token)), Reading()
        await client.subscribe(["chat"], condensed=True)
        await _read_until(client, reading, lambda: reading.order.count("live") >= 5)
        assert set(reading.order[1:]) == {"live"} and reading.early == {long: ""}
        await client.drop()
        await _read_until(client, reading, lambda: "text" in reading.order)
        again = reading.order[1:].index("snapshot") + 2
        assert "live" in reading.order[again : reading.order.index("text")]
        await _cancel(client, long, short)
        await _read_until(client, reading, lambda: reading.ended >= {long, short})
        assert reading.whole(long) == await _answer(client, session)
        await client.close()
    await near.close()


@pytest.mark.parametrize(
    ("missed", "snapshots"),
    [(60, 1), (500, 2)],
    ids=["one round trip's", "more than the state of everything"],
)
async def test_pieces_missed_during_a_cut_come_joined_and_in_order_or_with_the_state(
    backend: Backend, missed: int, snapshots: int
) -> None:
    near, written = await Client.connect((backend.url, backend.token)), Reading()
    await near.subscribe(["chat"])
    async with SlowLine(backend.url, delay_s=0.05, bytes_per_s=100_000) as line:
        client, reading = await Client.connect((line.url, backend.token)), Reading()
        await client.subscribe(["chat"], condensed=True)
        begun = dict([await _ask(client, "[[repeat 100000]] [[rate 100]]") for _ in range(LANES)])
        await _read_until(client, reading, lambda: reading.pieces.keys() >= begun.keys())
        line.stopped.set()
        before = dict(reading.pieces)
        await client.drop()
        await _read_until(
            near,
            written,
            lambda: all(written.pieces.get(name, 0) > before[name] + missed for name in begun),
        )
        line.stopped.clear()
        await _read_until(
            client,
            reading,
            lambda: all(reading.pieces[name] > before[name] + missed for name in begun),
        )
        await _cancel(client, *begun)
        await _read_until(
            client, reading, lambda: reading.ended >= begun.keys() and all(reading.early.values())
        )
        assert reading.order.count("snapshot") == snapshots
        if snapshots == 1:
            assert reading.joined > LANES * missed / 2
            assert 5 * reading.order.count("joined") < reading.joined
        for name, session in begun.items():
            assert reading.whole(name) == await _answer(client, session)
        await client.close()
    await near.close()
