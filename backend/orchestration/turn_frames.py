"""A turn's frames on their way: accounted for and passed on to the event stream as the worker wrote them.

Knows nothing of how a turn begins or what is kept of it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import groupby
from typing import cast

from backend.events import EventStream
from backend.orchestration.ledger import Ledger
from backend.orchestration.turn import Turn
from backend.schema.frames import (
    Phase,
    StreamChunk,
    StreamEnd,
    StreamError,
    StreamPhase,
    StreamReasoning,
    StreamReply,
)
from backend.specialists.link import Frames
from backend.specialists.supervisor import Supervisor

Ending = tuple[StreamEnd | StreamError, bytes]
"""A turn's last frame and its line."""


class FrameRelay:
    """Takes the read batches of all turns."""

    def __init__(self, *, fleet: Supervisor, events: EventStream, ledger: Ledger) -> None:
        self._fleet, self._events, self._ledger = fleet, events, ledger

    def take(self, turn: Turn, batch: Frames) -> Ending | None:
        """Account for what one read brought and pass it on; return the turn's ending, not passed on yet, if it came."""
        frames, block = batch
        last, ending = frames[-1], None
        if isinstance(last, StreamEnd | StreamError):
            block, _, line = block.rpartition(b"\n")
            ending = last, line
            frames = frames[:-1]
        for kind, run in groupby(frames, type):  # nearly always one run, of text
            if kind is StreamChunk:
                self._on_texts(turn, [frame.content for frame in cast(Iterable[StreamChunk], run)])
            else:
                for frame in run:
                    self._on_other(turn, frame)
        self._events.publish_block("chat", block, len(frames), key=turn.key)
        return ending

    def _on_other(self, turn: Turn, frame: StreamReply) -> None:
        if isinstance(frame, StreamReasoning):
            turn.reasoning.append(frame.content)
        elif isinstance(frame, StreamPhase):
            self._set_phase(turn, frame.phase, frame.detail, frame.position)

    def _on_texts(self, turn: Turn, texts: list[str]) -> None:
        if turn.first_token_ms is None:
            turn.first_token_ms = (time.monotonic() - turn.started) * 1000
        if turn.phase != "streaming":
            self._set_phase(turn, "streaming", "", 0)
        turn.parts += texts
        self._fleet.turn_progressed(turn.ai_id, turn.request_id, len(texts))
        if turn.on_text is not None:
            for text in texts:
                turn.on_text(text)

    def _set_phase(self, turn: Turn, phase: Phase, detail: str, position: int) -> None:
        turn.phase, turn.phase_since = phase, time.time()
        if phase == "stalled":
            self._ledger.record(
                turn.ai_id,
                "stalled",
                detail or "no token for a while",
                phase=phase,
                request_id=turn.request_id,
            )
        self._fleet.turn_phase(turn.ai_id, turn.request_id, phase, detail=detail, position=position)
