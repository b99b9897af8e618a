"""One end of a connection: questions and answers, whatever the other end does."""

import asyncio

import msgspec
import pytest

from backend.acp import messages as m
from backend.acp import peer as peers
from backend.acp import wire
from backend.acp.peer import Peer, PeerClosed, RpcFailure, read_params, unknown


class Side:
    """A handler that notes what it gets."""

    def __init__(self):
        self.told_of, self.bad = [], []
        self.hold = asyncio.Event()

    async def on_request(self, method, params):
        match method:
            case "session/new":
                return m.SessionOpened(read_params(params, m.NewSession).cwd)
            case "session/prompt":
                await self.hold.wait()
                return m.Prompted("end_turn")
            case "broken":
                raise ZeroDivisionError("by zero")
            case _:
                raise unknown(method)

    def on_notification(self, method, params):
        self.told_of.append((method, msgspec.json.decode(params, type=m.SessionId)))

    def on_bad_line(self, line):
        self.bad.append(line.why)


@pytest.fixture
async def pair():
    ends = []

    def link(other):
        return lambda line: asyncio.get_running_loop().call_soon(lambda: ends[other].feed(line))

    ends += [Peer(link(1), Side()), Peer(link(0), Side())]
    yield ends
    for end in ends:
        end.close("over")
        await end.settled()


async def test_a_question_gets_its_answer_and_a_refusal_is_one(pair):
    ours, theirs = pair
    opened = await ours.call(m.SESSION_NEW, m.NewSession("/tmp"), m.SessionOpened)
    assert opened.session_id == "/tmp"
    for method, code in (("no/such", wire.METHOD_NOT_FOUND), ("broken", wire.INTERNAL_ERROR)):
        with pytest.raises(RpcFailure) as failure:
            await ours.call(method, m.Empty(), m.Empty)
        assert failure.value.code == code
    with pytest.raises(RpcFailure) as failure:
        await ours.call(m.SESSION_NEW, m.Empty(), m.SessionOpened)
    assert failure.value.code == wire.INVALID_PARAMS
    assert not theirs.closed


async def test_both_sides_number_their_questions_by_themselves(pair):
    both = await asyncio.gather(
        *(end.call(m.SESSION_NEW, m.NewSession(f"/{n}"), m.SessionOpened) for n in range(9) for end in pair)
    )
    assert [one.session_id for one in both] == [f"/{n}" for n in range(9) for _ in pair]


async def test_an_answer_to_no_question_and_one_that_comes_late_change_nothing():
    sent = []
    peer = Peer(sent.append, Side())
    with pytest.raises(TimeoutError):
        await peer.call("slow", m.Empty(), m.Empty, timeout_s=0.01)
    peer.feed(wire.result(1, m.Empty()) + wire.result(77, m.Empty()) + wire.result("x", m.Empty()))
    call = asyncio.create_task(peer.call("next", m.Empty(), m.Prompted))
    await asyncio.sleep(0)
    peer.feed(wire.result(2, m.Prompted("end_turn")) + wire.result(2, m.Prompted("refusal")))
    assert (await call).stop_reason == "end_turn"


async def test_the_end_of_the_connection_ends_every_call_and_every_answer():
    sent = []
    peer = Peer(sent.append, Side())
    peer.feed(wire.request(5, m.SESSION_PROMPT, m.Prompt("s", [])))
    call = asyncio.create_task(peer.call("x", m.Empty(), m.Empty))
    await asyncio.sleep(0)
    peer.close("it died")
    with pytest.raises(PeerClosed, match="it died"):
        await call
    await peer.settled()
    with pytest.raises(PeerClosed):
        await peer.call("y", m.Empty(), m.Empty)
    assert len(sent) == 1  # the question; nothing is written to who is gone


async def test_a_request_is_taken_back_and_answered_once():
    sent = []
    peer = Peer(sent.append, Side())
    peer.feed(
        wire.request("a", m.SESSION_PROMPT, m.Prompt("s", []))
        + wire.request("a", m.SESSION_PROMPT, m.Prompt("s", []))
        + wire.notification(wire.CANCEL_REQUEST, wire.CancelRequest("a"))
    )
    await peer.settled()
    [line] = sent
    assert msgspec.json.decode(line)["error"]["code"] == wire.REQUEST_CANCELLED


async def test_garbage_is_told_and_what_follows_is_read():
    side = Side()
    peer = Peer(lambda line: None, side)
    peer.feed(
        b"debug: hi\n{]\n"
        + wire.notification(m.SESSION_CANCEL, m.Empty())
        + wire.notification(m.SESSION_CANCEL, m.SessionId("s"))
    )
    assert len(side.bad) == 3
    assert side.told_of == [(m.SESSION_CANCEL, m.SessionId("s"))]


async def test_a_flood_of_requests_is_refused_beyond_a_limit():
    sent, side = [], Side()
    peer = Peer(sent.append, side)
    for number in range(peers.MAX_ASKED + 3):
        peer.feed(wire.request(number, m.SESSION_PROMPT, m.Prompt("s", [])))
    assert len(sent) == 3
    side.hold.set()
    await peer.settled()
    assert len(sent) == peers.MAX_ASKED + 3
