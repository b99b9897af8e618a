"""The event stream of gateways that share a fleet: the store gives the numbers, this log holds what it gave.

What is published here waits for the end of this turn of the loop, goes to the store in one piece, and reaches readers
once it was read back, in the same order and under the same numbers at every gateway. Knows no event's meaning.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Sequence
from itertools import groupby

import msgspec

from backend.events import MAX_BYTES, EventStream
from backend.memory.errors import MemoryFault
from backend.memory.shared_log import Entry, EpochChanged, Fenced, SharedLog
from backend.schema.events import Topic
from backend.wire import encoder

log = logging.getLogger(__name__)

Line = tuple[Topic, str, bytes]
"""Topic, conversation and the event as it was encoded."""
APPEND_BYTES = 256 * 1024
MAX_WAITING_BYTES = 32 * 1024 * 1024
"""What waits for a store that is away; beyond it is thrown away and clients begin again from a snapshot."""
RETRY_S = 0.2
STEADY_S = 0.6
"""For how long nothing may have failed before a store that was away counts as back."""
READ_WAIT_S = 2.0
FLUSH_S = 3.0
SETTLE_S = 2.0

_lines = msgspec.msgpack.Decoder(list[Line])
_packer = msgspec.msgpack.Encoder()


class ReplicatedLog(EventStream):
    """`on_lines` and `on_note` are called in the order of the log, here as at every other gateway.

    `on_away` is called with the reason when the store cannot be reached, and with nothing when it is back; `on_epoch` when the
    numbers begin anew, by which what was handed over last, and not read yet, may be lost.
    """

    def __init__(self, shared_log: SharedLog, *, max_bytes: int = MAX_BYTES) -> None:
        super().__init__(max_bytes=max_bytes)
        self.epoch = shared_log.epoch
        self.on_lines: Callable[[str, Topic, Sequence[bytes], bool], None] | None = None
        self.on_note: Callable[[str, bytes], None] | None = None
        self.on_away: Callable[[str], None] | None = None
        self.on_epoch: Callable[[], None] | None = None
        self.away = ""
        """Why the store cannot be reached; empty while it can."""
        self._failed_at = 0.0
        self._shared_log = shared_log
        self._waiting: deque[Line | bytes] = deque()
        self._waiting_bytes = 0
        self._due = asyncio.Event()
        self._gap = False
        self._batch = 0
        self._after = "0-0"
        self._newest: Entry | None = None
        self._begun = False
        self._tasks: list[asyncio.Task[None]] = []
        self._idle = asyncio.Event()
        self._idle.set()
        self._given = self._returned = 0
        """What was put in, and how much of it came back from the store."""
        self._came_back = asyncio.Event()
        self.settle = self._settle

    async def begin(self) -> None:
        """Read what the log holds, then begin to write and to follow."""
        while self.seq < self._shared_log.first_seq or not self._begun:
            entries = await self._shared_log.read(self._after, wait_s=0.01)
            if not entries:
                break
            self._take(entries)
        # The log is cut at its front: numbers go on where it ends, even if all of it was cut.
        self._rebase(max(self.seq, self._shared_log.first_seq))
        for work in (self._write(), self._follow()):
            self._tasks.append(asyncio.create_task(work, name="shared events"))

    async def end(self) -> None:
        """Hand over what waits, as far as the store takes it in `FLUSH_S`, then stop."""
        if not self.away:
            try:
                await asyncio.wait_for(self._idle.wait(), FLUSH_S)
            except TimeoutError:
                log.warning("%d events could not be handed to the store", len(self._waiting))
        # What is left in the queue is lost with this process; the others end its turns when they find it gone.
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def wanted(self, topic: Topic, key: str = "") -> bool:
        """Return true: a reader at another gateway may want it."""
        return True

    def publish(self, topic: Topic, event: msgspec.Struct, *, key: str = "") -> int:
        """Take an event in; the store numbers it a moment later, so what is returned is 0.

        A failure that happens while the store is unreachable is published at once, without a number.
        """
        # The queue stands still while the store is away, and this is when an operator needs to see errors.
        if self.away and topic == "errors":
            self.announce(topic, event)
            return 0
        self._put((topic, key, encoder.encode(event)))
        return 0

    def publish_block(self, topic: Topic, block: bytes, count: int, *, key: str = "") -> None:
        """Take in what came encoded, `count` JSON objects with a newline between."""
        if count:
            for line in block.split(b"\n"):
                self._put((topic, key, line))

    def note(self, data: bytes) -> None:
        """Send something to the other gateways, in order with the events; it has no number."""
        self._put(data)

    def announce(self, topic: Topic, event: msgspec.Struct) -> None:
        """Send an event, without a number, to this gateway's readers of the topic: what must be seen while the store is away."""
        line = encoder.encode(event)
        for reader in [reader for reader in self.open if topic in reader.topics]:
            reader.aside.append(line)
            reader.wake()

    def _put(self, item: Line | bytes) -> None:
        if self._gap:
            return
        self._waiting.append(item)
        self._given += 1
        self._waiting_bytes += _size(item)
        if self._waiting_bytes > MAX_WAITING_BYTES:
            # Not the oldest alone: a hole anywhere makes the numbers useless, so the epoch ends and readers
            # begin anew.
            self._waiting.clear()
            self._waiting_bytes, self._gap = 0, True
        self._idle.clear()
        self._due.set()

    async def _settle(self) -> None:
        """Wait until what was published so far can be read here; not for a store that is away."""
        until = self._given
        await self._until(lambda: self._returned >= until)

    async def reached(self, seq: int) -> None:
        """Wait until a number was read from the store here, too: a client that comes from another gateway may have seen it.

        Not for a store that is away, and for `SETTLE_S` at most.
        """
        await self._until(lambda: self.seq >= seq)

    async def _until(self, there: Callable[[], bool]) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                while not there() and not self.away:
                    self._came_back.clear()
                    await self._came_back.wait()

    # to the store

    async def _write(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            while self._waiting or self._gap:
                if self._gap:
                    await self._begin_anew()
                    self._gap = False
                else:
                    await self._hand_over(*self._next_batch())
            self._idle.set()

    def _next_batch(self) -> tuple[int, bytes]:
        """Take what goes together: one note, or the events up to the next note."""
        if isinstance(first := self._waiting[0], bytes):
            self._waiting.popleft()
            self._waiting_bytes -= _size(first)
            return 0, first
        lines: list[Line] = []
        size = 0
        while self._waiting and size < APPEND_BYTES and not isinstance(item := self._waiting[0], bytes):
            self._waiting.popleft()
            lines.append(item)
            size += _size(item)
        self._waiting_bytes -= size
        return len(lines), _packer.encode(lines)

    async def _hand_over(self, count: int, data: bytes) -> None:
        """Append one batch, trying until the store has it: its own number sees to it that it has it once."""
        # The store keeps the newest number of each gateway and takes none twice: an append whose answer was
        # lost is safe to repeat.
        self._batch += 1
        while True:
            try:
                await self._shared_log.append(self._batch, self.seq, count, data)
            except EpochChanged:
                await self._begin_anew()
            except MemoryFault as error:
                # Nothing of ours counts any more: another gateway has ended what we had.
                if isinstance(error, Fenced):
                    return
                self._set_away(error.message)
                await asyncio.sleep(RETRY_S)
            else:
                self._set_away("")
                return

    async def _begin_anew(self) -> None:
        """End the epoch: the log has a hole, and whoever reads it must begin from a snapshot."""
        while True:
            try:
                self.begin_epoch(await self._shared_log.rotate_epoch(self.seq))
                return
            except MemoryFault as error:
                self._set_away(error.message)
                await asyncio.sleep(RETRY_S)

    # from the store

    async def _follow(self) -> None:
        doubt = False
        while True:
            try:
                # after a failure the store may have come back from an older copy, which lacks the newest entry we read
                if doubt and self._newest is not None and not await self._shared_log.contains(self._newest):
                    await self._begin_anew()
                doubt = False
                entries = await self._shared_log.read(
                    self._after, wait_s=RETRY_S if self.away else READ_WAIT_S
                )
            except MemoryFault as error:
                doubt = True
                self._set_away(error.message)
                await asyncio.sleep(RETRY_S)
                continue
            self._set_away("")
            try:
                self._take(entries)
            except Exception:  # one entry nobody understands must not end the stream
                log.exception("taking entries of the shared log")

    def _take(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            old = entry.seq <= self._shared_log.first_seq
            if entry.origin.endswith(f" {self._shared_log.incarnation}"):
                self._returned += max(1, entry.count)
            self._after, self._newest = entry.id, entry
            # a note has no number. One that comes before this gateway follows the log was for an earlier one
            if not entry.count:
                if self.on_note is not None and self._tasks:
                    self.on_note(entry.origin, entry.data)
                continue
            # an entry's number is that of its last event; at the first read, or behind trimmed ones, there is a gap
            if not self._begun or entry.seq - entry.count != self.seq:
                self._rebase(entry.seq - entry.count)
            for (topic, key), group in groupby(_lines.decode(entry.data), key=_topic_and_key):
                lines = [line for _, _, line in group]
                if self.on_lines is not None:
                    self.on_lines(entry.origin, topic, lines, old)
                self._append(topic, key, b"\n".join(lines), len(lines))
        self._came_back.set()

    def _rebase(self, seq: int) -> None:
        """Go on behind a number; what the log held before it does not connect and is let go."""
        if self._begun and seq == self.seq:
            return
        self._begun = True
        self._log.clear()
        self._bytes = 0
        self.seq = seq
        self._first = seq + 1

    def begin_epoch(self, epoch: str) -> None:
        """Begin to count anew under another epoch: every reader gets a snapshot. Nothing happens if it is ours."""
        if epoch == self.epoch:
            return
        self.epoch = self._shared_log.epoch = epoch
        self._after, self._newest, self._begun = "0-0", None, False
        # what was handed over in the old epoch never comes back: `_settle` must not wait for it
        self._returned = self._given - len(self._waiting)
        self._log.clear()
        self._bytes, self._first = 0, self.seq + 1
        for reader in list(self.open):
            reader.cursor = -1
            reader.wake()
        if self.on_epoch is not None:
            self.on_epoch()

    def _set_away(self, reason: str) -> None:
        now = asyncio.get_running_loop().time()
        if reason:
            self._failed_at = now
        elif self.away and now - self._failed_at < STEADY_S:
            return  # one connection works while another has just failed: the state must not flicker
        changed, self.away = bool(reason) != bool(self.away), reason
        if changed and self.on_away is not None:
            self.on_away(reason)


def _topic_and_key(line: Line) -> tuple[Topic, str]:
    return line[0], line[1]


def _size(item: Line | bytes) -> int:
    return len(item) if isinstance(item, bytes) else len(item[2]) + 64
