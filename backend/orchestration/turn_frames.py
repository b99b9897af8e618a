"""A turn's frames on their way: accounted for and passed on to the event stream as the worker wrote them.

Knows nothing of how a turn begins or what is kept of it.
"""

from __future__ import annotations

import time

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
from backend.specialists.supervisor import Supervisor

Ending = tuple[StreamEnd | StreamError, bytes]
"""A turn's last frame and its line."""


class FrameRelay:
    """Takes the read batches of all turns."""

    def __init__(self, *, fleet: Supervisor, events: EventStream, ledger: Ledger) -> None:
        self._fleet, self._events, self._ledger = fleet, events, ledger

    def take(self, turn: Turn, frames: list[tuple[StreamReply, bytes]]) -> Ending | None:
        """Account for one read batch and pass it on; return the turn's ending, not passed on yet, when it came."""
        passed: list[bytes] = []
        texts: list[str] = []
        for frame, line in frames:
            if type(frame) is StreamChunk:  # nearly all frames are: noted together, once a batch
                texts.append(frame.content)
                passed.append(line)
                continue
            if texts:
                self._on_texts(turn, texts)
                texts = []
            match frame:
                case StreamReasoning():
                    turn.reasoning.append(frame.content)
                case StreamPhase():
                    self._set_phase(turn, frame.phase, frame.detail, frame.position)
                case StreamEnd() | StreamError():
                    self._events.publish_lines("chat", passed, key=turn.key)
                    return frame, line
                case _:
                    pass
            passed.append(line)
        if texts:
            self._on_texts(turn, texts)
        self._events.publish_lines("chat", passed, key=turn.key)
        return None

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
