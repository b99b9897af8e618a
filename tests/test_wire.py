"""The line codec, with byte literals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.schema.frames import ChatResponse, Pong, Request, StreamChunk, Usage
from backend.wire import LineSplitter, LineTooLong, decode_replies, decode_reply, decode_request, encode_line


def test_lines_come_whole_however_they_are_cut() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b'{"a"') == []
    assert splitter.feed(b':1}\n{"b":2}\r\n\n{"c"') == [b'{"a":1}', b'{"b":2}']
    assert splitter.feed(b":3}\n") == [b'{"c":3}']


@given(st.lists(st.binary(max_size=20).filter(lambda b: b"\n" not in b and b"\r" not in b)), st.data())
def test_any_cut_gives_the_same_lines(lines: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    splitter = LineSplitter()
    got = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        got += splitter.feed(stream[start:end])
    assert got == [line for line in lines if line]


@pytest.mark.parametrize(
    "pieces", [[b"x" * 11], [b"x" * 6, b"x" * 6], [b"ok\n" + b"x" * 11], [b"x" * 11 + b"\n"]]
)
def test_a_line_over_the_limit_is_refused(pieces: list[bytes]) -> None:
    splitter = LineSplitter(max_line_bytes=10)
    with pytest.raises(LineTooLong):
        for piece in pieces:
            splitter.feed(piece)


def test_a_line_at_the_limit_passes() -> None:
    assert LineSplitter(max_line_bytes=3).feed(b"abc\n") == [b"abc"]


def test_requests_without_a_type_and_with_unknown_keys_are_chats() -> None:
    request = decode_request(b'{"content":"Hello","colour":"red"}')
    assert (request.type, request.prompt) == ("chat", "Hello")
    assert decode_request(b'{"type":"message","message":"Hi"}').prompt == "Hi"


def test_replies_go_out_without_keys_that_are_unset() -> None:
    assert encode_line(Pong("apollo-ai", 1.5)) == b'{"type":"pong","ai_id":"apollo-ai","timestamp":1.5}\n'


@pytest.mark.parametrize(
    "reply",
    [Pong("a-ai", 1.0, "r1"), StreamChunk("r1", "é\n", 3), ChatResponse("a-ai", "x", "m", Usage(1, 2))],
)
def test_replies_survive_the_wire(reply: object) -> None:
    assert decode_reply(encode_line(reply)) == reply


def test_a_request_survives_the_wire() -> None:
    request = Request(content="Hi", stream=True, request_id="r1", temperature=0.2)
    assert decode_request(encode_line(request)) == request


CHUNK = b'{"type":"stream_chunk","request_id":"r","content":"a","chunk_index":0}'


def test_a_block_of_one_reply_a_line_is_decoded_at_once() -> None:
    replies = decode_replies(b"\n".join([CHUNK] * 3))
    assert replies is not None and replies == [decode_reply(CHUNK)] * 3


@pytest.mark.parametrize(
    "block",
    [
        CHUNK + b"\r\n" + CHUNK,
        CHUNK + b"\n\n" + CHUNK,
        CHUNK + CHUNK,
        CHUNK + CHUNK + b"\n\n" + CHUNK,
        b" " + CHUNK,
        CHUNK.replace(b",", b",\n", 1),
        CHUNK[:-1] + b',"more":{}\n}' + CHUNK,
        CHUNK[:-1] + b',"more":[{}\n,{}]}' + b"\n" + CHUNK + CHUNK,
        CHUNK + b"\nnothing",
        CHUNK + b"\n{}",
    ],
)
def test_a_block_that_is_not_one_reply_a_line_is_left_to_be_taken_line_by_line(block: bytes) -> None:
    assert decode_replies(block) is None
