"""A specialist behind a remote OpenAI-compatible endpoint, asked like any other: same calls, same frames.

There is no process of ours: the same specialist code runs in the backend and its provider goes out.
"""

from __future__ import annotations

import asyncio
from itertools import count

from msgspec import Struct

from backend.schema.errors import TektonError
from backend.schema.frames import Reply, Request, StreamReply
from backend.specialists.desk import MakeProvider
from backend.specialists.link import Frames, FrameSink, LinkBroken, NoAnswer
from backend.specialists.spec import WorkerSpec
from backend.specialists.specialist import Specialist
from backend.specialists.turn import Turn
from backend.wire import encoder


class ApiChannel:
    """The channel to one endpoint. `closed` resolves to the reason when the specialist is let go."""

    def __init__(self, spec: WorkerSpec, make: MakeProvider | None = None) -> None:
        self.closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.specialist = Specialist(spec, make)
        self._turns: dict[str, Turn] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._numbers = count(1)

    async def call(self, request: Request, *, timeout_s: float) -> Reply:
        """Answer a request that is no chat. Raises as `Link.call`."""
        if self.closed.done():
            raise LinkBroken(f"{self.specialist.ai_id}: {self.closed.result()}")
        try:
            async with asyncio.timeout(timeout_s):
                return await self.specialist.answer(request)
        except TimeoutError as error:
            text = f"{self.specialist.ai_id} did not answer {request.type} within {timeout_s:g} s"
            raise NoAnswer(text) from error

    def start_turn(self, request: Request, sink: FrameSink) -> None:
        """Start a streamed chat; see `Link.start_turn`."""
        name = request.request_id
        if not name or name in self._turns:
            raise ValueError(f"a turn needs a request id of its own, not {name!r}")
        request.type, request.stream = "chat", True
        turn = self._turns[name] = self.specialist.turn(request, name, _Gatherer(sink))
        if self.closed.done():
            turn.cancel(TektonError(self.closed.result(), code="worker_lost"))
        task = asyncio.create_task(self._run(name, turn), name=f"turn {name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def cancel(self, request_id: str, timeout_s: float) -> bool:
        """End a turn; return whether it was cut in time."""
        turn = self._turns.get(request_id)
        if turn is None:
            return False
        turn.cancel()
        try:
            async with asyncio.timeout(timeout_s):
                return await turn.was_cancelled()
        except TimeoutError:
            return False

    def close(self, reason: str = "closed by us") -> None:
        """End every turn as an error and let the endpoint go. Safe to call twice."""
        if self.closed.done():
            return
        self.closed.set_result(reason)
        for turn in self._turns.values():
            turn.cancel(TektonError(f"{self.specialist.ai_id}: {reason}", code="worker_lost"))
        closing = asyncio.create_task(self._let_go())
        self._tasks.add(closing)
        closing.add_done_callback(self._tasks.discard)

    async def _let_go(self) -> None:
        while self._turns:
            await asyncio.wait([task for task in self._tasks if task is not asyncio.current_task()])
        await self.specialist.desk.aclose()

    async def _run(self, name: str, turn: Turn) -> None:
        try:
            await turn.run()
        finally:
            del self._turns[name]


class _Gatherer:
    """A turn's sink: hands on, in one go, all frames that one moment brought."""

    full = False

    def __init__(self, sink: FrameSink) -> None:
        self._sink = sink
        self._frames: list[StreamReply] = []
        self._loop = asyncio.get_running_loop()

    def send(self, frame: Struct) -> None:
        if not self._frames:
            self._loop.call_soon(self._flush)
        assert isinstance(frame, StreamReply)
        self._frames.append(frame)

    async def drain(self) -> None:
        """Nothing here can be full: the backend's own log is bounded elsewhere."""

    def _flush(self) -> None:
        frames, self._frames = self._frames, []
        self._sink(Frames(frames, b"\n".join(map(encoder.encode, frames))))
