"""The newline-delimited JSON codec of our sockets, without I/O: bytes in, lines out, with a limit on their length.

Knows neither sockets nor what the frames mean.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from backend.schema.frames import Reply, Request

MAX_LINE_BYTES = 8 * 1024 * 1024
"""Longest accepted line, newline not counted."""
# a model without streaming gives its answer in one piece, of any length
MAX_PIECE_CHARS = 128 * 1024
"""Characters of one piece of an answer: as JSON, at six bytes each, well below a mebibyte."""

encoder = msgspec.json.Encoder()
_replies = msgspec.json.Decoder(Reply)
_SURROGATE = re.compile("[\ud800-\udfff]")
decode_reply = _replies.decode
decode_request = msgspec.json.Decoder(Request).decode


class LineTooLong(Exception):
    """A line is longer than the limit. What follows it in the stream cannot be split any more."""


class LineSplitter:
    """Split a byte stream at newlines, scanning each byte once.

    `feed` returns the complete lines without newline and trailing carriage return, empty lines left out; `feed_block`
    returns them as one block, as they came. Use one of the two on a stream.

    Raises:
        LineTooLong: From both, when a line, complete or not, is longer than `max_line_bytes`.
    """

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self.limit = max_line_bytes
        self._parts: list[bytes] = []
        self._pending = 0

    @property
    def pending(self) -> int:
        """How many bytes of a line that is not complete are held."""
        return self._pending

    def feed(self, data: bytes) -> list[bytes]:
        """Add what was read and return the lines it completes."""
        return split_lines(self.feed_block(data))

    def feed_block(self, data: bytes) -> bytes:
        """Add what was read and return the lines it completes unchanged, without the last one's newline."""
        end = data.rfind(b"\n")
        # only up to the first newline: what is pending belongs to that line alone
        self._pending += len(data) if end < 0 else data.find(b"\n")
        if self._pending > self.limit:
            raise LineTooLong
        if end < 0:
            self._parts.append(data)
            return b""
        block = b"".join((*self._parts, data[:end]))
        tail = data[end + 1 :]
        # a block over the limit may be many short lines: split only then, which hardly ever happens
        too_long = len(block) > self.limit and any(len(line) > self.limit for line in block.split(b"\n"))
        if too_long or len(tail) > self.limit:
            raise LineTooLong
        self._parts, self._pending = [tail], len(tail)
        return block


def encodable(text: str) -> str:
    """Return a text with the halves of split characters joined; a half alone, which no line can hold, is U+FFFD."""
    if text.isascii() or not _SURROGATE.search(text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def in_pieces(text: str) -> Sequence[str]:
    """Return a text in pieces that fit a line; nearly all are one."""
    if len(text) <= MAX_PIECE_CHARS:
        return (text,)
    return [text[at : at + MAX_PIECE_CHARS] for at in range(0, len(text), MAX_PIECE_CHARS)]


def split_lines(block: bytes) -> list[bytes]:
    """Return the lines of a block without trailing carriage returns, empty lines left out."""
    return [line for raw in block.split(b"\n") if (line := raw.rstrip(b"\r"))]


def decode_replies(block: bytes) -> list[Reply] | None:
    """Decode a block in one go; `None` if a reply is wrong or the block does not hold exactly one reply on each line.

    The counts below prove one reply a line: inside a JSON value, `}` newline `{` cannot occur.
    """
    try:
        replies = _replies.decode_lines(block)
    except msgspec.MsgspecError:
        return None
    between = len(replies) - 1
    plain = between == block.count(b"\n") == block.count(b"}\n{") and block[:1] == b"{" and block[-1:] == b"}"
    return replies if plain else None


def encode_line(value: object) -> bytes:
    """Return `value` as one JSON line, newline included."""
    return encoder.encode(value) + b"\n"
