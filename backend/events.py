"""The event stream (Hermes): one numbered log that every client reads at its own pace.

There is no queue per client. Events lie once in a bounded log; a subscription is a cursor into it, so live
delivery and replay after a drop are the same code, and a slow client costs nothing but its own lateness.
A cursor that falls off the tail of the log raises `ReplayLost`; its owner starts again from a snapshot.

The log holds blocks: the events that came in one go, numbered, a newline between them. Tokens come many at a time and
mostly leave so, and what is done once a block instead of once a token is most of what relaying costs.

Knows no transport and not what the events mean. Used from one event loop only.
"""

from __future__ import annotations

import asyncio
import math
import time
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterable, Sequence
from operator import attrgetter
from secrets import token_hex
from typing import NamedTuple

import msgspec

from backend.schema.events import TOPICS, Topic
from backend.wire import encoder

MAX_EVENTS = 65_536
MAX_BYTES = 48 * 1024 * 1024
BATCH_BYTES = 256 * 1024
"""Most bytes handed out at once, so that one late client does not hold the loop."""
LOOK_EVERY = 1 / 32
"""Share of the log that fills, in events or in bytes, between two looks at how far readers are behind."""
# longer than a laptop takes from one network to the next
INTEREST_S = 120.0
"""How long a topic nobody reads any more is still recorded, so that a dropped client can resume."""

KEPT: frozenset[Topic] = frozenset({"fleet", "errors"})
"""Topics recorded whether anybody reads them or not; they are rare."""


_THOUSAND = 1_000
_LAST_DIGITS = tuple(b"%03d," % number for number in range(_THOUSAND))


class _Block(NamedTuple):
    """So many events, numbered from `first` on; `lines` are their JSON objects, a newline between.

    `bytes_before` are those of all lines before them in this life of the backend.
    """

    first: int
    events: int
    topic: Topic
    key: str
    lines: bytes
    bytes_before: int


_first_of = attrgetter("first")


class ReplayLost(Exception):
    """The events after a number are no longer held: begin again from a snapshot."""


class EventStream:
    """The log of one run of the backend. `epoch` identifies the run: numbers of different runs cannot be compared."""

    def __init__(self, *, max_events: int = MAX_EVENTS, max_bytes: int = MAX_BYTES) -> None:
        self.epoch = token_hex(8)
        self.seq = 0
        """Number of the newest event; the first is 1."""
        self._max_events, self._max_bytes = max_events, max_bytes
        self._log: list[_Block] = []
        self._first = 1
        self._bytes = 0
        self._bytes_ever = 0
        self._readers: dict[Topic, int] = dict.fromkeys(TOPICS, 0)
        self._interest_until: dict[Topic, float] = dict.fromkeys(TOPICS, 0.0)
        self._unrecorded: dict[Topic, int] = dict.fromkeys(TOPICS, 0)
        self.sleepers: set[Subscription] = set()
        self._keys: dict[str, int] = {}
        self._attended: dict[str, int] = {}
        self.skipped = 0
        """Events not recorded because nobody subscribed to them."""
        self.trimmed = 0
        """Events dropped from the old end of the log, read by all or not."""
        self.lost_replays = 0
        """Readers that fell too far behind and had to begin again from a snapshot."""
        self.open: set[Subscription] = set()
        self.on_lag: tuple[float, Callable[[], None]] | None = None
        """Called while a reader is behind by more than this share of the log, at every `LOOK_EVERY` of it."""
        self._next_look = (0, 0)
        self.settle: Callable[[], Awaitable[None]] | None = None
        """Waits until what was published so far has its numbers, where these are not given at once."""

    @property
    def held(self) -> tuple[int, int]:
        """Return how many events the log holds and how many bytes they take."""
        return self.seq + 1 - self._first, self._bytes

    def share_behind(self, cursor: int) -> float:
        """Return how much of the log lies behind a cursor, in events or bytes, whichever is more; past 1 it is lost."""
        if cursor + 1 < self._first:
            return math.inf
        if cursor >= self.seq:
            return 0.0
        block = self._log[bisect_right(self._log, cursor + 1, key=_first_of) - 1]
        return max(
            (self.seq - cursor) / self._max_events, (self._bytes_ever - block.bytes_before) / self._max_bytes
        )

    def wanted(self, topic: Topic, key: str = "") -> bool:
        """Return whether anybody reads the topic, or that one conversation, or did a short while ago."""
        return (
            topic in KEPT
            or self._readers[topic] > 0
            or (bool(key) and key in self._keys)
            or self._interest_until[topic] > time.monotonic()
        )

    def watched(self, topic: Topic, key: str) -> bool:
        """Return whether anybody who may act on what is published is subscribed to the topic, or attends to that conversation."""
        return key in self._attended or any(reader.acts and topic in reader.topics for reader in self.open)

    def attend(self, key: str) -> None:
        """Count somebody who acts on what is published under a key, whatever is read of it, until as many `leave` it."""
        self._attended[key] = self._attended.get(key, 0) + 1

    def leave(self, key: str) -> None:
        """Count one fewer."""
        self._attended[key] -= 1
        if not self._attended[key]:
            del self._attended[key]

    def publish(self, topic: Topic, event: msgspec.Struct, *, key: str = "") -> int:
        """Number an event and put it into the log; return its number, or 0 when nobody wants it."""
        if not self._admitted(topic, key, 1):
            return 0
        self._append(topic, key, encoder.encode(event), 1)
        return self.seq

    def publish_block(self, topic: Topic, block: bytes, count: int, *, key: str = "") -> None:
        """Number JSON objects that came encoded from elsewhere, one a line, and put them into the log as they are.

        `block` is `count` lines with a newline between and none at the end, each beginning with its brace.
        """
        if count and self._admitted(topic, key, count):
            self._append(topic, key, block, count)

    def publish_lines(self, topic: Topic, lines: Sequence[bytes], *, key: str = "") -> None:
        """As `publish_block`, with separate lines."""
        self.publish_block(topic, b"\n".join(lines), len(lines), key=key)

    def subscribe(
        self, topics: Iterable[Topic] = (), *, after: int | None = None, acts: bool = True
    ) -> Subscription:
        """Return a cursor behind event number `after`, by default behind the newest.

        `acts` says whether its reader may act on what it reads, or only looks on.

        Raises:
            ReplayLost: Events after that number are no longer held, or were not recorded for these topics.
        """
        wanted = frozenset(topics)
        if after is not None:
            floor = max([self._first - 1, *(self._unrecorded[topic] for topic in wanted)])
            if not floor <= after <= self.seq:
                self.lost_replays += 1
                raise ReplayLost(f"events after {after} are not held; the log begins behind {floor}")
        return Subscription(self, wanted, self.seq if after is None else after, acts)

    async def reached(self, seq: int) -> None:
        """Wait a moment for the log to hold a number that a reader has seen; here it does, or never will."""

    def read(self, cursor: int, topics: frozenset[Topic], keys: set[str]) -> tuple[int, list[bytes]]:
        """Return the wanted events behind a cursor in blocks, at most about `BATCH_BYTES`, and the new cursor.

        Raises:
            ReplayLost: The event behind the cursor was dropped already.
        """
        if cursor + 1 < self._first:
            self.lost_replays += 1
            raise ReplayLost(f"events after {cursor} were dropped; the log begins behind {self._first - 1}")
        batch: list[bytes] = []
        size = 0
        for index in range(max(0, bisect_right(self._log, cursor + 1, key=_first_of) - 1), len(self._log)):
            block = self._log[index]
            read, cursor = cursor + 1 - block.first, block.first + block.events - 1
            if block.topic in topics or block.key in keys:
                lines = block.lines if read <= 0 else b"\n".join(block.lines.split(b"\n")[read:])
                batch.append(lines)
                size += len(lines)
                if size >= BATCH_BYTES:
                    break
        return cursor, batch

    def _admitted(self, topic: Topic, key: str, count: int) -> bool:
        if self.wanted(topic, key):
            return True
        # Whoever resumes from before this number would not notice that something is missing.
        self._unrecorded[topic] = self.seq
        self.skipped += count
        return False

    def _append(self, topic: Topic, key: str, block: bytes, count: int) -> None:
        before, self.seq = self.seq, self.seq + count
        stamped = _stamp(block, before + 1, count)
        self._log.append(_Block(before + 1, count, topic, key, stamped, self._bytes_ever))
        self._bytes += len(stamped)
        self._bytes_ever += len(stamped)
        if self.seq - self._first >= self._max_events or self._bytes > self._max_bytes:
            self._trim(before)
        if self.seq >= self._next_look[0] or self._bytes_ever >= self._next_look[1]:
            self._look()
        if self.sleepers:
            for sleeper in [s for s in self.sleepers if s.reads(topic, key)]:
                sleeper.wake()

    def _look(self) -> None:
        self._next_look = (
            self.seq + int(self._max_events * LOOK_EVERY),
            self._bytes_ever + int(self._max_bytes * LOOK_EVERY),
        )
        if self.on_lag is not None and any(reader.share_behind > self.on_lag[0] for reader in self.open):
            self.on_lag[1]()

    def _trim(self, before: int) -> None:
        """Drop the oldest quarter at once, so that the cost of moving the rest is spread, and more if that is too little.

        The newest block stays. A reader that sleeps has read all it wanted up to `before`, where the newest batch begins:
        it moves on to there and loses nothing.
        """
        for sleeper in self.sleepers:
            sleeper.skip_to(before)
        end = self._first + max(1, (self.seq + 1 - self._first) // 4)
        gone = 0
        while gone < len(self._log) - 1 and (self._log[gone].first < end or self._bytes > self._max_bytes):
            self._bytes -= len(self._log[gone].lines)
            gone += 1
        self.trimmed += self._log[gone].first - self._first
        self._first = self._log[gone].first
        del self._log[:gone]

    def retain(self, topics: Iterable[Topic], keys: Iterable[str]) -> None:
        """Register a reader for the topics and conversations it reads."""
        for topic in topics:
            self._readers[topic] += 1
        for key in keys:
            self._keys[key] = self._keys.get(key, 0) + 1

    def release(self, topics: Iterable[Topic], keys: Iterable[str]) -> None:
        """Unregister a reader; its topics stay recorded for `INTEREST_S`."""
        for topic in topics:
            self._readers[topic] -= 1
            self._interest_until[topic] = time.monotonic() + INTEREST_S
        for key in keys:
            self._keys[key] -= 1
            if not self._keys[key]:
                del self._keys[key]


class Subscription:
    """One reader's place in the log. Close it, so that topics nobody reads cost nothing.

    `keys` are conversations (request ids of whole calls) read beside the topics.
    """

    def __init__(self, stream: EventStream, topics: frozenset[Topic], cursor: int, acts: bool = True) -> None:
        self.topics, self.acts = topics, acts
        self.keys: set[str] = set()
        self.cursor = cursor
        self.aside: list[bytes] = []
        """Lines without a number that only who is connected now gets, such as that no numbers can be had."""
        self._stream = stream
        self._waiter: asyncio.Future[None] | None = None
        stream.open.add(self)
        stream.retain(topics, ())

    @property
    def lag(self) -> int:
        """Events between this reader and the newest; 0 while it sleeps, because it wants none of them."""
        return 0 if self._asleep else self._stream.seq - self.cursor

    @property
    def share_behind(self) -> float:
        """The same as a share of the log, in events or bytes, whichever is more; infinite once it is lost."""
        return self._stream.share_behind(self.cursor) if self.lag else 0.0

    @property
    def _asleep(self) -> bool:
        return self in self._stream.sleepers and self._waiter is not None and not self._waiter.done()

    def go_on(self) -> None:
        """Go on behind the newest event, after `ReplayLost`."""
        self.cursor = self._stream.seq

    def skip_to(self, seq: int) -> None:
        """Advance a sleeping reader; it subscribed to nothing up to there."""
        if self._asleep:
            self.cursor = max(self.cursor, seq)

    def reads(self, topic: Topic, key: str) -> bool:
        return topic in self.topics or key in self.keys

    def follow(self, key: str) -> None:
        """Also read one conversation."""
        if key not in self.keys:
            self.keys.add(key)
            self._stream.retain((), (key,))

    def pending(self) -> list[bytes]:
        """Return what is there now, each event one JSON object, perhaps nothing, and move on.

        Raises:
            ReplayLost: The reader was too slow for the log.
        """
        return _lines(self.pending_blocks())

    async def next(self) -> list[bytes]:
        """Wait until there is something and return it, each event one JSON object, in order of `seq`.

        Raises:
            ReplayLost: The reader was too slow for the log.
        """
        return _lines(await self.next_blocks())

    async def next_blocks(self) -> list[bytes]:
        """Wait as `next` does; each item may be several events with a newline between, as they came.

        Raises:
            ReplayLost: The reader was too slow for the log.
        """
        while True:
            if batch := self.pending_blocks():
                return batch
            self._waiter = asyncio.get_running_loop().create_future()
            self._stream.sleepers.add(self)
            try:
                await self._waiter
            finally:
                self._stream.sleepers.discard(self)

    def pending_blocks(self) -> list[bytes]:
        """Return what is there now as `pending` does; each item may be several events with a newline between, as they came.

        Raises:
            ReplayLost: The reader was too slow for the log.
        """
        batch, self.aside = self.aside, []
        while not batch and self.cursor < self._stream.seq:
            self.cursor, batch = self._stream.read(self.cursor, self.topics, self.keys)
        return batch

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def close(self) -> None:
        """Close the subscription. Safe to call twice."""
        self._stream.open.discard(self)
        self._stream.release(self.topics, self.keys)
        # Emptied, so that a second call releases nothing twice.
        self.topics = frozenset[Topic]()
        self.keys = set[str]()


def _lines(blocks: list[bytes]) -> list[bytes]:
    return b"\n".join(blocks).split(b"\n") if blocks else []


def _stamp(block: bytes, first: int, count: int) -> bytes:
    """Return a block with `seq` as the first key of each line.

    A few calls a thousand events instead of one each: the digits that change are a table, the rest is joined.
    """
    if count == 1:
        return b'{"seq":%d,%b' % (first, block[1:])
    bodies = block[1:].split(b"\n{")
    stamped: list[bytes] = []
    while bodies:
        thousand, offset = divmod(first, _THOUSAND)
        part = bodies[: _THOUSAND - offset]
        if thousand:
            pieces = [b'\n{"seq":%d' % thousand] * (3 * len(part))
            pieces[1::3] = _LAST_DIGITS[offset : offset + len(part)]
            pieces[2::3] = part
            stamped += pieces
        else:
            stamped += [b'\n{"seq":%d,%b' % pair for pair in enumerate(part, first)]
        bodies = bodies[len(part) :]
        first += len(part)
    return b"".join(stamped)[1:]
