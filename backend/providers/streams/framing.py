"""Bytes of a streamed answer cut into what a server sent: lines, or server-sent events. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol, cast

MAX_FRAME_BYTES = 8 << 20
"""The longest line or event that is read."""
BOM = b"\xef\xbb\xbf"


class Malformed(Exception):
    """What came does not have the shape it should have; the text says what is wrong and quotes it."""


def member(holder: dict[str, Any], name: str) -> dict[str, Any]:
    """Return an object that has to be there. Raises `Malformed`."""
    found = holder.get(name)
    if not isinstance(found, dict):
        raise Malformed(f"{name} should be an object, not {found!r:.60}")
    return cast(dict[str, Any], found)


class Frame(NamedTuple):
    """A line, or the data of an event; `event` is its name, empty where the server gives none."""

    event: str
    data: bytes


class Framing(Protocol):
    """How a stream is cut into frames; fed bytes as they arrive, however the network cut them."""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that are complete. Raises `Malformed` for one longer than `MAX_FRAME_BYTES`."""
        ...

    def end(self) -> Iterator[Frame]:
        """Yield what the end of the stream completes."""
        ...


class _LineSplitter:
    """Lines that end at newline bytes and nowhere else; each byte is looked at once."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            self._held += data[start:end]
            line = bytes(self._held)
            self._held.clear()
            start = end + 1
            yield line
        self._held += data[start:]
        if len(self._held) > MAX_FRAME_BYTES:
            raise Malformed(f"a line of more than {MAX_FRAME_BYTES >> 20} MiB")

    def end(self) -> bytes:
        line = bytes(self._held)
        self._held.clear()
        return line


class JsonLines:
    """A JSON document a line, as Ollama streams. U+2028 and its like are text, blank lines are nothing."""

    def __init__(self) -> None:
        self._lines = _LineSplitter()

    def feed(self, data: bytes) -> Iterator[Frame]:
        for line in self._lines.feed(data):
            if line.strip():
                yield Frame("", line)

    def end(self) -> Iterator[Frame]:
        if line := self._lines.end().strip():
            yield Frame("", line)


class ServerSentEvents:
    """Events as the HTML standard defines them, with three habits of servers on top.

    An object alone on a line is an event, and so is `error: {…}` (llama.cpp until late 2025); the last event needs no
    blank line behind it. Lines end as the standard allows: with LF, with CR, or with both.
    """

    def __init__(self) -> None:
        self._lines = _LineSplitter()
        self._returned = False
        """Whether the last byte was a CR, whose LF may still come."""
        self._event = ""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> Iterator[Frame]:
        if self._returned and data:
            data, self._returned = data.removeprefix(b"\n"), False
        if b"\r" in data:
            self._returned = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        for line in self._lines.feed(data):
            yield from self._line(line)

    def end(self) -> Iterator[Frame]:
        yield from self._line(self._lines.end())
        yield from self._line(b"")

    def _line(self, line: bytes) -> Iterator[Frame]:
        line = line.removeprefix(BOM)
        if not line:
            data = b"\n".join(self._data)
            # by the standard an event without data is none; behind a colon stands what was a comment on its way
            if data.strip() and not data.lstrip().startswith(b":"):
                yield Frame(self._event, data)
            self._event, self._data, self._size = "", [], 0
            return
        if line.startswith(b"{"):
            yield Frame(self._event, line)
            return
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match name:
            case b"data":
                self._data.append(value)
                self._size += len(value)
                if self._size > MAX_FRAME_BYTES:
                    raise Malformed(f"an event of more than {MAX_FRAME_BYTES >> 20} MiB")
            case b"event":
                self._event = value.decode(errors="replace")
            case b"error":
                yield Frame("error", value)
            case _:
                pass  # a comment, `id`, `retry`, or a field nobody defined
