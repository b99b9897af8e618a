"""A paste is one thing, whatever is in it and wherever the reads cut it."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from textual import events
from textual.message import Message

from tekton_tui.runtime.bracketed_paste import END, MAX_PASTE_BYTES, START, PasteSplitter
from tekton_tui.runtime.drivers import InputReader

HARM = "see \x1b[31mERROR\x1b[0m \x1b[I\x1b[<0;5;5M failed\x1b\x1b second \x1b[200~ ü 👩‍👩‍👧"


def split(*reads: bytes) -> list[bytes | str]:
    splitter = PasteSplitter()
    parts = [part for read in reads for part in splitter.feed(read)]
    return parts + splitter.flush()


@given(cuts=st.lists(st.integers(1, 200), max_size=12))
def test_a_paste_is_whole_wherever_it_is_cut(cuts: list[int]) -> None:
    data = b"jk" + START + HARM.encode() + END + b"x\x1b" + START + b"2" + END + b"l"
    edges = sorted({0, *(cut for cut in cuts if cut < len(data)), len(data)})
    parts = split(*(data[a:b] for a, b in pairwise(edges)))
    assert [part for part in parts if isinstance(part, str)] == [HARM, "2"]
    assert b"".join(part for part in parts if isinstance(part, bytes)) == b"jkx\x1bl"


def test_line_ends_are_newlines_and_bad_bytes_do_no_harm() -> None:
    assert split(START + b"a\rb\r\nc\x00\xff" + END) == ["a\nb\nc\ufffd"]


def test_a_paste_without_an_end_is_a_paste_and_half_a_bracket_is_keys() -> None:
    assert split(START + b"abc") == ["abc"]
    assert split(b"a\x1b[20") == [b"a", b"\x1b[20"]


def test_a_paste_has_a_bound() -> None:
    body = b"y" * (MAX_PASTE_BYTES + 1000)
    reads = [body[at : at + 65_536] for at in range(0, len(body), 65_536)]
    parts = split(START, *reads, END + b"q")
    assert [len(part) for part in parts] == [MAX_PASTE_BYTES, 1] and parts[1] == b"q"


def test_a_megabyte_in_small_reads_is_one_paste_event_and_keys_around_it_are_keys() -> None:
    told: list[Message] = []
    reader = InputReader(told.append)
    data = b"a" + START + b"w\x1b[A " * 200_000 + END + b"\x1b[B"
    for at in range(0, len(data), 4096):
        reader.feed(data[at : at + 4096])
    keys = [message.key for message in told if isinstance(message, events.Key)]
    [paste] = [message for message in told if isinstance(message, events.Paste)]
    assert keys == ["a", "down"] and paste.text == "w\x1b[A " * 200_000
