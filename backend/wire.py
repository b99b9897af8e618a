"""Newline-JSON codec without I/O: bytes in, lines out, with a limit on the line.

Knows neither sockets nor what the frames mean.
"""

from __future__ import annotations

import msgspec

from backend.schema.frames import Reply, Request

MAX_LINE_BYTES = 8 * 1024 * 1024
"""Longest accepted line, newline not counted."""

encoder = msgspec.json.Encoder()
_replies = msgspec.json.Decoder(Reply)
decode_reply = _replies.decode
decode_request = msgspec.json.Decoder(Request).decode


class LineTooLong(Exception):
    """A line passed the limit before its newline came. The stream cannot be trusted after it."""


class LineSplitter:
    """Split a byte stream at newlines, scanning each byte once.

    `feed` returns the complete lines, without newline and a trailing carriage return, empty lines left out; `take`
    returns them as they came.

    Raises:
        LineTooLong: From both, when an unfinished or finished line is longer than `max_line_bytes`.
    """

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._limit = max_line_bytes
        self._parts: list[bytes] = []
        self._pending = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Take what was read from the socket and return the lines it completes."""
        return split_lines(self.take(data))

    def take(self, data: bytes) -> bytes:
        """Take what was read and return the lines it completes as they are, without the last one's newline."""
        end = data.rfind(b"\n")
        self._pending += len(data) if end < 0 else data.find(b"\n")
        if self._pending > self._limit:
            raise LineTooLong
        if end < 0:
            self._parts.append(data)
            return b""
        block = b"".join((*self._parts, data[:end]))
        tail = data[end + 1 :]
        too_long = len(block) > self._limit and any(len(line) > self._limit for line in block.split(b"\n"))
        if too_long or len(tail) > self._limit:
            raise LineTooLong
        self._parts, self._pending = [tail], len(tail)
        return block


def split_lines(block: bytes) -> list[bytes]:
    """Return the lines of a block without trailing carriage returns, empty lines left out."""
    return [line for raw in block.split(b"\n") if (line := raw.rstrip(b"\r"))]


def decode_replies(block: bytes) -> list[Reply] | None:
    """Return the replies of a block at once, or `None` when one is wrong or they are not exactly one a line.

    The counts say so for certain: inside one JSON value no newline stands between braces that close and open.
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
