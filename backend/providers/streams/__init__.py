"""What upstreams stream, read: bytes in, items out, one small reader a vendor over one set of rules.

`framing` cuts bytes into frames, `answer` holds the rules, `openai`, `anthropic` and `ollama` say what a frame of their
vendor holds. All of it is pure but `read`, which takes the bytes from a connection.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any, cast

import msgspec

from backend.providers.base import Completed, ProviderFault, StreamItem
from backend.providers.http import Upstream, from_error
from backend.providers.streams.answer import MAX_TOKENS, Answer
from backend.providers.streams.framing import (
    BOM,
    MAX_FRAME_BYTES,
    Frame,
    Framing,
    JsonLines,
    Malformed,
    ServerSentEvents,
)

AFTER_END_S = 1.0
"""How long what comes behind an ending is waited for: the usage, the end of the connection."""
AFTER_EARLY_END_S = 4.0
"""The same where the very first piece came marked as the last: it is a short answer, or such an upstream marks each piece.

Its vendor's client would read until the connection ends, which some servers leave open for ever: this is longer than a model
pauses between two tokens, and short enough to wait for.
"""
AFTER_FALSE_END_S = 15.0
"""The same where more came behind an ending: such an upstream may mark each piece as the last."""
AFTER_LAST_S = 0.1
"""How long the end of the body is waited for after the last frame: a connection that was read to its end can be kept."""
FIRST_BYTES = 500
_SPACE = b" \t\r\n"
_BETWEEN = re.compile(r"(?:[\s,]|data:)+")
"""What may stand between objects that a server put into one frame."""

Take = Callable[[str, dict[str, Any], Answer], Iterator[StreamItem]]
"""Takes one frame, by its event's name and its object; yields what it holds and puts the rest into the answer.

Raises:
    Malformed: The object has another shape than the vendor's.
"""


class StreamReader:
    """Reads one streamed answer. Fed bytes however the network cut them; yields the same items for each way.

    An answer that is no stream is read as well: a whole completion is taken, an error object keeps its words, and
    anything else is a failure that shows status, type and first bytes. `offered`: tools were, see `Answer`.
    """

    def __init__(self, upstream: Upstream, take: Take, framing: Framing, *, offered: bool = False) -> None:
        self._upstream, self._take, self._framing = upstream, take, framing
        self._offered = offered
        self.notes: list[str] = []
        """What the provider says of its call; stands before what the answer brings."""
        self._answer = Answer(upstream, offered)
        self._head = "200"
        self._start = bytearray()
        """What came while nothing of it was a frame."""
        self._whole = self._framed = False
        self._early = False
        """Whether the first piece of the answer came with its ending."""
        self._unread = b""
        """The beginning of the latest frame that brought nothing."""
        self._next_try = 0
        """From which size on a body that is a document is looked at again."""

    @property
    def settled(self) -> bool:
        """Whether nothing more is needed: the upstream said how the answer ended, or what came is a page."""
        return self._answer.ended or (self._whole and self._start.lstrip().startswith(b"<"))

    @property
    def over(self) -> bool:
        """Whether nothing will follow."""
        return self._answer.over

    @property
    def patience_s(self) -> float:
        """How long what comes behind the ending is waited for."""
        if self.over:
            return AFTER_LAST_S
        if self._answer.went_on:
            return AFTER_FALSE_END_S
        return AFTER_EARLY_END_S if self._early else AFTER_END_S

    @property
    def pieces(self) -> int:
        """How many frames brought something."""
        return self._answer.pieces

    @property
    def begun(self) -> bool:
        """Whether a byte of the answer's body has come."""
        return self._framed or bool(self._start)

    def answered(self, status: int, media: str) -> None:
        """Take the head of the response; it is shown where the body is no stream."""
        self._head = f"{status} {media.partition(';')[0].strip()}".strip()

    def feed(self, data: bytes) -> Iterator[StreamItem]:
        """Yield what bytes bring.

        Raises:
            ProviderError: The upstream says that it failed, or what came is no answer; items yielded before stand.
        """
        if not self._framed:
            self._start += data
            if len(self._start) > MAX_FRAME_BYTES:
                raise self._no_stream()
            if not self._whole and self._is_document():
                self._whole = True
            if self._whole:
                if len(self._start) >= self._next_try and self._start.rstrip().endswith((b"}", b"]")):
                    yield from self._document()
                return
        try:
            for frame in self._framing.feed(data):
                yield from self._frame(frame)
        except Malformed as error:
            self._refuse(error)

    def end(self) -> Iterator[StreamItem]:
        """Yield what is left, and the last item of the answer.

        Raises:
            ProviderError: The answer is not complete, or there was none.
        """
        if self._whole and not self._framed:
            yield from self._document(final=True)
        if not self._framed or not self._whole:
            try:
                if self._whole:  # no document after all: objects a line, in one piece
                    for frame in self._framing.feed(bytes(self._start)):
                        yield from self._frame(frame)
                for frame in self._framing.end():
                    yield from self._frame(frame)
            except Malformed as error:
                self._refuse(error)
        if not self._framed:
            raise self._no_stream()
        for item in self._answer.completed(self._unread.decode(errors="replace")):
            if isinstance(item, Completed):
                item.notes = [*self.notes, *item.notes]
            yield item

    def _frame(self, frame: Frame) -> Iterator[StreamItem]:
        if self.over:
            return
        if frame.data.strip() in (b"[DONE]", b"[done]"):
            self._framed = self._answer.over = True
            return
        try:
            value = decode(frame.data)
        except Malformed:
            if frame.event == "error":
                value = frame.data.decode(errors="replace")
            elif values := several(frame.data):
                for data in values:
                    yield from self._frame(Frame(frame.event, data))
                return
            else:
                raise
        self._framed = True
        self._start.clear()
        if frame.event == "error":
            raise from_error(self._upstream, value)
        if value is None:
            return
        if not isinstance(value, dict):
            raise Malformed(f"an object was expected, not {frame.data[:FIRST_BYTES]!r}")
        before = self._answer.pieces
        yield from self._object(frame.event, cast(dict[str, Any], value), self._answer)
        self._early = self._early or (before == 0 and self._answer.pieces > 0 and self._answer.ended)
        if self._answer.pieces == before:
            self._unread = frame.data[:FIRST_BYTES]

    def _object(self, event: str, value: dict[str, Any], answer: Answer) -> Iterator[StreamItem]:
        if value.get("error") or "error" in (value.get("object"), value.get("type")):
            raise from_error(self._upstream, value)
        yield from self._take(event, value, answer)

    def _is_document(self) -> bool:
        """Return whether the body begins as no stream of this framing does."""
        start = bytes(self._start[:FIRST_BYTES]).lstrip(_SPACE + b"\xef\xbb\xbf")
        if isinstance(self._framing, ServerSentEvents):
            return start[:1] in (b"{", b"[", b"<")
        return start[:1] in (b"[", b"<") or (
            start[:1] == b"{" and start[1:].lstrip(b" \t")[:1] in (b"\r", b"\n")
        )

    def _document(self, *, final: bool = False) -> Iterator[StreamItem]:
        """Take a body that is one JSON document and a whole answer, as soon as it is complete.

        It is looked at when it looks complete and has doubled, and at its end: each byte twice at most. One that is no
        answer is refused at its end alone: it may be the first of many that stand without their framing.
        """
        body = bytes(self._start).strip()
        self._next_try = 2 * len(body)
        try:
            value = decode(body)
        except Malformed:
            return  # more of it will come
        if not isinstance(value, dict):
            return
        try:
            trial = Answer(self._upstream, self._offered)
            items = list(self._object("", cast(dict[str, Any], value), trial))
        except Malformed:
            if final:
                raise self._no_stream() from None
            return
        if trial.ended:
            self._answer = trial
            self._framed = trial.over = True
            yield from items
        elif final:
            raise self._no_stream()

    def _no_stream(self) -> ProviderFault:
        """Return the failure for a body that is no answer of this vendor."""
        first = bytes(self._start[:FIRST_BYTES]).decode(errors="replace")
        shown = self._upstream.quoted(first)
        said = f"{self._upstream.who} answered {self._head}, which is no stream of answers"
        return ProviderFault(
            f"{said}: {shown or 'nothing came'}: check {self._upstream.setting}",
            evidence=self._upstream.evidence(
                f"HTTP {self._head}\n{bytes(self._start).decode(errors='replace')}"
            ),
        )

    def _refuse(self, error: Malformed) -> None:
        """Fail for a malformed frame, unless the answer is complete without it."""
        if self._answer.ended:
            return
        if not self._framed:
            raise self._no_stream() from error
        who, where, setting = self._upstream.who, self._upstream.where, self._upstream.setting
        text = f"{who} sent something that is not its format: is {where} really one? Else correct {setting}"
        raise ProviderFault(text, evidence=self._upstream.evidence(str(error))) from error


def decode(data: bytes) -> object:
    """Return a JSON document's value. Half characters, NaN and numbers of any length are read: rules judge them later.

    Raises:
        Malformed: It is no JSON.
    """
    data = data.removeprefix(BOM)
    with suppress(msgspec.MsgspecError, ValueError, RecursionError):
        return msgspec.json.decode(data)
    try:
        return json.loads(data.decode("utf-8", "replace"), parse_int=_integer)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"{data[:FIRST_BYTES]!r}: {error}") from error


def several(data: bytes) -> list[bytes]:
    """Return the objects, and the last word of a stream, that stand in one frame where their server forgot to end each.

    Empty where anything else stands between them, or there are not two.
    """
    text, found, place = data.decode("utf-8", "replace"), list[bytes](), 0
    while place < len(text):
        start = _BETWEEN.match(text, place)
        place = start.end() if start else place
        if text.startswith(("[DONE]", "[done]"), place):
            found.append(b"[DONE]")
            place += len("[DONE]")
            continue
        if not text.startswith("{", place):
            return []
        try:
            _, end = _DECODER.raw_decode(text, place)
        except (ValueError, RecursionError):
            return []
        found.append(text[place:end].encode("utf-8", "replace"))
        rest = _BETWEEN.match(text, end)
        place = rest.end() if rest else end
    return found if len(found) > 1 else []


def _integer(digits: str) -> float | int:
    """Return a number; one that is too long to be a count is only a large number."""
    return int(digits) if len(digits) < 30 else float(MAX_TOKENS + 1)


_DECODER = json.JSONDecoder(parse_int=_integer)


async def read(chunks: AsyncIterator[bytes], reader: StreamReader) -> AsyncGenerator[StreamItem]:
    """Yield the items of a streamed answer as its bytes arrive, ending with `Completed`.

    Once the upstream said how the answer ended, the rest is waited for `AFTER_END_S` at most, once it said that nothing
    follows for `AFTER_LAST_S`; a connection that breaks then takes nothing away.

    Raises:
        ProviderError: The answer failed or is not complete.
        Exception: What the connection broke with, before the answer had ended.
    """
    loop = asyncio.get_running_loop()
    deadline: float | None = None
    pieces = 0
    while True:
        if not (reader.over or reader.settled):
            deadline = None
        elif reader.over or deadline is None or reader.pieces > pieces:
            latest = loop.time() + reader.patience_s
            deadline = min(deadline or latest, latest) if reader.over else latest
        pieces = reader.pieces
        try:
            if deadline is None:
                data = await anext(chunks, None)
            else:
                async with asyncio.timeout_at(deadline):
                    data = await anext(chunks, None)
        except Exception:
            if reader.settled:
                break
            raise
        if data is None:
            break
        for item in reader.feed(data) if not reader.over else ():
            yield item
        if deadline is not None and loop.time() > deadline:
            break
    for item in reader.end():
        yield item


__all__ = ["JsonLines", "ServerSentEvents", "StreamReader", "Take", "read"]
