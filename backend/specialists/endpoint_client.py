"""The channel to a specialist behind a remote OpenAI-compatible endpoint: same calls, same frames as a worker's.

There is no worker process: the specialist's code runs in the backend, and its provider calls the endpoint.
"""

from __future__ import annotations

import asyncio
from itertools import count

from msgspec import Struct

from backend.deadlines import loop_timeout
from backend.schema.errors import TektonError
from backend.schema.frames import Reply, Request, StreamReply
from backend.specialists.worker_client import ChannelClosed, Frames, FramesHandler, ReplyTimeout
from backend.tasks import Background
from backend.wire import encoder
from backend.worker.provider_pool import ProviderFactory
from backend.worker.spec import WorkerSpec
from backend.worker.specialist import Specialist
from backend.worker.turn import WorkerTurn


class EndpointClient:
    """The channel to one endpoint. `closed` resolves to the reason in words when it is closed."""

    def __init__(self, spec: WorkerSpec, make: ProviderFactory | None = None) -> None:
        self.closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.specialist = Specialist(spec, make)
        self._generations: dict[str, WorkerTurn] = {}
        self._tasks = Background()
        self._numbers = count(1)

    async def call(self, request: Request, *, timeout_s: float) -> Reply:
        """Answer a request that is no chat. Raises as `WorkerClient.call`."""
        if self.closed.done():
            raise ChannelClosed(f"{self.specialist.ai_id}: {self.closed.result()}")
        try:
            async with loop_timeout(timeout_s):
                return await self.specialist.answer(request)
        except TimeoutError as error:
            text = f"{self.specialist.ai_id} did not answer {request.type} within {timeout_s:g} s"
            raise ReplyTimeout(text) from error

    def answer_tool(self, verdict: Request) -> None:
        """Endpoints have no tools of ours."""

    def start_turn(self, request: Request, on_frames: FramesHandler) -> None:
        """Start a streamed chat; see `WorkerClient.start_turn`."""
        name = request.request_id
        if not name or name in self._generations:
            raise ValueError(f"a turn needs a request id of its own, not {name!r}")
        request.type, request.stream = "chat", True
        generation = self.specialist.generation(request, name, _FrameBatcher(on_frames))
        self._generations[name] = generation
        if self.closed.done():
            generation.cancel(TektonError(self.closed.result(), code="worker_lost"))
        self._tasks.start(self._run(name, generation), f"generation {name}")

    async def cancel(self, request_id: str, timeout_s: float) -> bool:
        """Cancel a turn; return whether that ended it within `timeout_s` seconds."""
        generation = self._generations.get(request_id)
        if generation is None:
            return False
        generation.cancel()
        try:
            async with loop_timeout(timeout_s):
                return await generation.wait_cancelled()
        except TimeoutError:
            return False

    def close(self, reason: str = "closed by us") -> None:
        """End every turn with an error frame and close the providers. Safe to call twice."""
        if self.closed.done():
            return
        self.closed.set_result(reason)
        for generation in self._generations.values():
            generation.cancel(TektonError(f"{self.specialist.ai_id}: {reason}", code="worker_lost"))
        self._tasks.start(self._close_providers(), f"close {self.specialist.ai_id}")

    async def _close_providers(self) -> None:
        # Turns still end over their providers, so these close last.
        while self._generations:
            await asyncio.wait([task for task in self._tasks if task is not asyncio.current_task()])
        await self.specialist.providers.aclose()

    async def _run(self, name: str, generation: WorkerTurn) -> None:
        try:
            await generation.run()
        finally:
            del self._generations[name]


class _FrameBatcher:
    """A `Sink` that passes on all frames of one step of the event loop together, as a read of a socket would."""

    full = False

    def __init__(self, on_frames: FramesHandler) -> None:
        self._on_frames = on_frames
        self._frames: list[StreamReply] = []
        self._loop = asyncio.get_running_loop()

    def send(self, frame: Struct) -> None:
        if not self._frames:
            self._loop.call_soon(self._flush)
        assert isinstance(frame, StreamReply)
        self._frames.append(frame)

    async def drain(self) -> None:
        """Return at once: the event log behind it is bounded by itself."""

    def _flush(self) -> None:
        frames, self._frames = self._frames, []
        self._on_frames(Frames(frames, b"\n".join(map(encoder.encode, frames))))
