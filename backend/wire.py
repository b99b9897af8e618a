"""Newline-JSON codec without I/O: bytes in, lines out, with a limit on the line.

Knows neither sockets nor what the frames mean.
"""

from __future__ import annotations

import msgspec

from backend.schema.frames import Reply, Request

MAX_LINE_BYTES = 8 * 1024 * 1024
"""Longest accepted line, newline not counted."""

encoder = msgspec.json.Encoder()
decode_reply = msgspec.json.Decoder(Reply).decode
decode_request = msgspec.json.Decoder(Request).decode


class LineTooLong(Exception):
    """A line passed the limit before its newline came. The stream cannot be trusted after it."""


class LineSplitter:
    """Split a byte stream at newlines, scanning each byte once.

    `feed` returns the complete lines, without newline and a trailing carriage return, empty lines left out.

    Raises:
        LineTooLong: From `feed`, when an unfinished or finished line is longer than `max_line_bytes`.
    """

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._limit = max_line_bytes
        self._parts: list[bytes] = []
        self._pending = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Take what was read from the socket and return the lines it completes."""
        head, newline, rest = data.partition(b"\n")
        self._pending += len(head)
        if self._pending > self._limit:
            raise LineTooLong
        if not newline:
            self._parts.append(head)
            return []
        first = b"".join([*self._parts, head])
        *middle, tail = rest.split(b"\n")
        if any(len(line) > self._limit for line in middle) or len(tail) > self._limit:
            raise LineTooLong
        self._parts = [tail]
        self._pending = len(tail)
        return [line for raw in (first, *middle) if (line := raw.rstrip(b"\r"))]


def encode_line(value: object) -> bytes:
    """Return `value` as one JSON line, newline included."""
    return encoder.encode(value) + b"\n"
