"""A console behind lines as people have them: what is lost, what comes twice, what is called gone, how late it is.

    python bench/links.py [--seconds 20] [--cuts 5,40] [--delays 0,150,600] [--only 600:5:256] [--lanes 19] [--rate 20] [--share 1/2]

Gateway and client stand in network namespaces of their own (root, or the right to make them), and a router of ours between
them delays, loses, narrows and cuts: 0, 150 and 600 ms there and back, 0, 1 and 5 % of the packets, no limit, 1 Mbit/s and
256 kbit/s. `--seconds 60 --cuts 5,40,180` is the long version; `--share 1/2` and `--share 2/2`, side by side, each take every
second cell (their namespaces do not touch, and a cell mostly waits). Each piece carries the clock of its worker, by which it is
seen how late it comes, and after a cut when the first came that was made after the mending. Ends with 1 if something was lost,
came twice, was called gone while the line was there, or was not live again in time.
"""

from __future__ import annotations

import asyncio
import fcntl
import heapq
import itertools
import os
import random
import select
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from options import parser_for

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from backend.client import Client, ConnectionChanged
from backend.schema.events import Snapshot, TurnText
from backend.schema.frames import StreamChunk, StreamEnd, StreamError
from tests.cluster.hosts import standing
from tests.gateway.serving import Backend, start_backend

GATE, DESK = f"tkg{os.getpid()}", f"tkd{os.getpid()}"
ADDRESSES = {GATE: "10.78.0.1", DESK: "10.78.0.2"}
CONFIG = f'[gateway]\nhost = "{ADDRESSES[GATE]}"\nwithout_tls = true\n'
QUEUE_S = 0.5
"""What a narrow line queues before it drops packets, in seconds of its speed."""
LATE_S = 60.0
"""How long after the last piece left the last ends may come."""
GOAL_BACK_S = 2.0
"""How soon after a cut is mended comes what happens then, whatever was missed."""
MTU = 1_500
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


def ip(*words: str, **options: Any) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=30, **options)


class Router(threading.Thread):
    """Carries packets between the two namespaces. What it does to them may be changed at any time."""

    def __init__(self, seed: int) -> None:
        super().__init__(daemon=True)
        self._dice = random.Random(seed)
        self.delay_s = self.loss = 0.0
        self.bits_per_s = 0
        """Of each direction; 0 is no limit."""
        self.cut = False
        self.carried = 0
        self._ends = [self._interface(name) for name in (GATE, DESK)]
        self._on_way: list[tuple[float, int, int, bytes]] = []
        self._numbers = itertools.count()
        self._free = [0.0, 0.0]
        self.ended = False

    def _interface(self, name: str) -> int:
        ip("netns", "add", name)
        with standing(name):
            end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(end, TUNSETIFF, struct.pack("16sH", b"line", IFF_TUN | IFF_NO_PI))
        ip("-n", name, "link", "set", "lo", "up")
        ip("-n", name, "addr", "add", f"{ADDRESSES[name]}/24", "dev", "line")
        ip("-n", name, "link", "set", "line", "up", "mtu", str(MTU))
        return end

    def set(self, delay_s: float, loss: float, bits_per_s: int) -> None:
        self.delay_s, self.loss, self.bits_per_s, self.carried = delay_s, loss, bits_per_s, 0

    def run(self) -> None:
        while not self.ended:
            wait_s = min(0.05, max(0.0, self._on_way[0][0] - time.monotonic())) if self._on_way else 0.05
            for end in select.select(self._ends, [], [], wait_s)[0]:
                try:
                    while packet := os.read(end, MTU + 100):
                        self._take(self._ends.index(end), packet)
                except BlockingIOError:
                    pass
            now = time.monotonic()
            while self._on_way and self._on_way[0][0] <= now:
                _, _, target, packet = heapq.heappop(self._on_way)
                if not self.cut:
                    os.write(target, packet)
        for end in self._ends:
            os.close(end)

    def _take(self, side: int, packet: bytes) -> None:
        now = time.monotonic()
        if self.cut or self._dice.random() < self.loss:
            return
        leaves = now
        if self.bits_per_s:
            leaves = max(now, self._free[side])
            if leaves - now > QUEUE_S:
                return
            leaves += len(packet) * 8 / self.bits_per_s
            self._free[side] = leaves
        self.carried += len(packet)
        heapq.heappush(
            self._on_way, (leaves + self.delay_s, next(self._numbers), self._ends[1 - side], packet)
        )


class Watch:
    """What one client sees of the lanes: pieces by number, how late each came, what was said of the link."""

    def __init__(self, client: Client, router: Router) -> None:
        self.client, self._router = client, router
        self.expected: dict[str, int] = {}
        self.pieces: dict[str, Counter[int]] = {}
        self.late: list[float] = []
        self.ended = set[str]()
        self.failed: list[str] = []
        self.lost: list[str] = []
        """Why the link was called lost, each time."""
        self.resyncs = -1
        self.slow_s = 0.0
        self.mended = float("inf")
        self.came_at = self.live_at = self.attached_at = self.whole_at = 0.0
        """When first after the mending: an event came, one that happened after it, the client was attached, and all texts
        that the snapshot left out had come."""
        self.owed: dict[str, int] = {}
        """Characters that snapshots left out, by turn."""

    async def read(self) -> None:
        async for batch in self.client.events():
            now = time.monotonic()
            for seq, event in batch:
                self._see(event, now)
                if seq and now > self.mended:
                    self.came_at = self.came_at or now
            self.slow_s = max(self.slow_s, self.client.pace.delay_s)
            if self.expected and self.ended >= self.expected.keys():
                return

    def _see(self, event: object, now: float) -> None:
        match event:
            case StreamChunk():
                last = event.chunk_index + event.pieces
                self.pieces.setdefault(event.request_id, Counter()).update(range(event.chunk_index, last))
                digits = len(event.content) // event.pieces
                made = [
                    int(event.content[at : at + digits]) / 1e9 for at in range(0, len(event.content), digits)
                ]
                self.late += (now - at for at in made)
                if made[-1] > self.mended:
                    self.live_at = self.live_at or now
            case StreamEnd():
                self.ended.add(event.request_id)
            case StreamError():
                self.ended.add(event.request_id)
                self.failed.append(event.message)
            case Snapshot():  # holds what came before
                self.resyncs += 1
                self.owed = {turn.request_id: turn.left_out for turn in event.turns if turn.left_out}
                for turn in event.turns:
                    self.pieces.setdefault(turn.request_id, Counter()).update(
                        {n: 1 for n in range(turn.chunks) if not self.pieces[turn.request_id][n]}
                        if turn.request_id in self.pieces
                        else range(turn.chunks)
                    )
            case TurnText():
                if self.owed.pop(event.request_id) != len(event.content):
                    self.failed.append(f"{event.request_id}: {len(event.content)} characters came later")
                if not self.owed:
                    self.whole_at = now
            case ConnectionChanged(state="lost"):
                self.lost.append(event.reason)
            case ConnectionChanged(state="attached"):
                self.attached_at = now
            case _:
                pass

    @property
    def missing(self) -> int:
        return len(self.owed) + sum(
            sum(not self.pieces.get(name, Counter[int]())[n] for n in range(count))
            for name, count in self.expected.items()
        )

    @property
    def doubled(self) -> int:
        return sum(times - 1 for got in self.pieces.values() for times in got.values())

    @property
    def live_s(self) -> float:
        return self.live_at - self.mended if self.live_at else float("inf")

    def lateness(self) -> str:
        late = sorted(self.late) or [0.0]
        p50, p95 = (late[int(len(late) * share)] for share in (0.5, 0.95))
        return f"late p50 {p50:5.2f} p95 {p95:5.2f} max {late[-1]:5.2f} s, told {self.slow_s:5.2f}"


class Lanes:
    """Turns side by side in sessions of one specialist, each `rate` pieces a second."""

    def __init__(self, backend: Backend, router: Router, lanes: int, rate: int) -> None:
        self._backend, self._router, self._lanes, self._rate = backend, router, lanes, rate

    async def run(self, seconds: float, cut_s: float = 0.0) -> Watch:
        """Watch the lanes over the line as it is; after a few seconds cut it for `cut_s`, mend it, and watch on."""
        pieces = int(self._rate * (seconds + cut_s))
        client = await Client.connect((self._backend.url, self._backend.token), timeout_s=30)
        watch = Watch(client, self._router)
        reading = asyncio.create_task(watch.read())
        try:
            await client.subscribe(["chat"], condensed=True)
            began = await asyncio.gather(*(self._ask(client, pieces) for _ in range(self._lanes)))
            watch.expected = dict.fromkeys(began, pieces)
            if cut_s:
                await asyncio.sleep(seconds / 2)
                self._router.cut = True
                await asyncio.sleep(cut_s)
                self._router.cut, watch.mended = False, time.monotonic()
            async with asyncio.timeout(seconds + LATE_S):
                await reading
        except TimeoutError:
            watch.failed.append(f"{len(watch.expected.keys() - watch.ended)} lanes did not end")
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await client.close()
        return watch

    async def _ask(self, client: Client, pieces: int) -> str:
        session = (await client.request("create_session", {"owner": "apollo"}))["id"]
        question = f"[[clock]] [[repeat {pieces}]] [[rate {self._rate}]]"
        begun = await client.request(
            "chat", {"ai_id": "apollo", "content": question, "session_id": session, "wait": False}
        )
        return begun["request_id"]


def matrix(lanes: Lanes, router: Router, seconds: float, only: str, share: slice) -> int:
    bad = 0
    cells = list(itertools.product((0, 150, 600), (0, 1, 5), (0, 1_000, 256)))
    chosen = [cell for cell in cells if only == ":".join(map(str, cell))] if only else cells[share]
    for delay_ms, percent, kbits in chosen:
        router.set(delay_ms / 2_000, percent / 100, kbits * 1_000)
        watch = asyncio.run(lanes.run(seconds))
        wrong = watch.missing + watch.doubled + len(watch.lost) + len(watch.failed)
        bad += bool(wrong)
        print(
            f"{delay_ms:3} ms {percent} % {f'{kbits:4} kbit/s' if kbits else '   no limit'}: "
            f"{sum(watch.expected.values()):,} pieces, {watch.missing} missing, {watch.doubled} doubled, "
            f"{len(watch.lost)} false lost, {watch.resyncs} resyncs, {watch.lateness()}, {router.carried / 1000:.0f} kB"
            + "".join(f"\n    {text}" for text in (*watch.failed[:3], *watch.lost[:3])),
            flush=True,
        )
    return bad


def cuts(lanes: Lanes, router: Router, delays: list[int], each_s: list[float], share: slice) -> int:
    bad = 0
    for delay_ms, cut_s in list(itertools.product(delays, each_s))[share]:
        router.set(delay_ms / 2_000, 0.0, 1_000_000)
        watch = asyncio.run(lanes.run(8.0, cut_s))
        bad += bool(watch.missing + watch.doubled + len(watch.failed)) or watch.live_s > GOAL_BACK_S
        print(
            f"cut of {cut_s:g} s at {delay_ms} ms: {watch.missing} missing, {watch.doubled} doubled, {watch.resyncs} resyncs, "
            f"after the mending attached {watch.attached_at - watch.mended:.2f} s, events {watch.came_at - watch.mended:.2f} s, "
            f"live {watch.live_s:.2f} s (goal {GOAL_BACK_S:g})"
            + (
                f", texts whole {watch.whole_at - watch.mended:.2f} s"
                if watch.whole_at > watch.mended
                else ""
            )
            + "".join(f"\n    {text}" for text in (*watch.failed[:3], *watch.lost[:2])),
            flush=True,
        )
    return bad


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each lane writes in each cell")
    parser.add_argument("--cuts", default="5,40", help="seconds of each cut; empty for none")
    parser.add_argument("--delays", default="0,150,600", help="milliseconds of the lines that are cut")
    parser.add_argument("--only", default="", help="one cell: milliseconds:percent:kbit/s")
    parser.add_argument("--lanes", type=int, default=19)
    parser.add_argument("--rate", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--share", default="1/1", help="which share of the cells, as 2/3 is the second of three"
    )
    options = parser.parse_args()
    number, shares = map(int, options.share.split("/"))
    share = slice(number - 1, None, shares)
    router, bad = Router(options.seed), 0
    with tempfile.TemporaryDirectory() as root:
        router.start()
        try:
            with standing(GATE):
                backend = start_backend(Path(root) / "home", config=CONFIG, launch=("apollo",))
            try:
                with standing(DESK):
                    lanes = Lanes(backend, router, options.lanes, options.rate)
                    if options.only != "none":
                        bad += matrix(lanes, router, options.seconds, options.only, share)
                    delays = [int(one) for one in options.delays.split(",")]
                    each_s = [float(one) for one in options.cuts.split(",") if one]
                    bad += cuts(lanes, router, delays, each_s, share)
            finally:
                router.set(0.0, 0.0, 0)
                with standing(GATE):
                    backend.stop()
        finally:
            router.ended = True
            router.join()
            for name in (GATE, DESK):
                ip("netns", "del", name)
    print(f"{bad} of the lines failed" if bad else "nothing lost, nothing doubled, nothing called gone")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
