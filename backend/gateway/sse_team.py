"""The stream of a team turn: its members' answers as server-sent events, interleaved as they come."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from backend.events import Subscription
from backend.gateway.context import Gateway
from backend.gateway.sse import EventsMissed, frame, own_events, refused
from backend.orchestration.actions.chat import team_request
from backend.orchestration.teams.team_turn import TeamRun
from backend.orchestration.turns.manager import new_request_id
from backend.schema.errors import TektonError
from backend.schema.events import Event, TeamEnd, TurnStarted
from backend.schema.frames import StreamChunk, StreamEnd, StreamError
from backend.schema.params import TeamChat


async def team_frames(gateway: Gateway, params: TeamChat, ids: bool) -> AsyncGenerator[bytes]:
    """Yield the interleaved frames of a team turn as its members answer."""
    platform = gateway.platform
    params.request_id = params.request_id or new_request_id()
    subscription = platform.events.subscribe()
    subscription.follow(params.request_id)
    joined = platform.teams.is_known(params.request_id)
    run: TeamRun | None = None
    owners: dict[str, str] = {}
    number = itertools.count()

    def name(place: object) -> str:
        return f"{params.request_id}/{place}" if ids else ""

    try:
        run = await platform.teams.start(team_request(params))
        told: set[str] = set()
        async for events in _team_events(run, subscription):
            values = [
                value for event in events if (value := _team_value(event, owners, platform.fleet.status))
            ]
            told |= {
                value["specialist_id"]
                for value in values
                if value.get("is_final") or value["type"] == "specialist_error"
            }
            if values:
                yield b"".join(frame(value, name(next(number))) for value in values)
        # shielded: a client that goes away ends its own wait, not the future that others wait for
        outcome = await asyncio.shield(run.done)
        for failure in outcome.failures:
            if (
                failure.ai_id not in told
            ):  # it was never begun: cancelled while it waited, or the backend ended
                yield frame(_member_failed(failure.ai_id, failure.code, failure.error), name(next(number)))
        cancelled = sum(failure.code == "cancelled" for failure in outcome.failures)
        summary = {
            "total_ais": len(run.start.lanes),
            "completed_streams": len(outcome.answers),
            "failed": len(outcome.failures) - cancelled,
            "cancelled": cancelled,
            "total_time": outcome.elapsed,
            "synthesis": outcome.synthesis,
            "consensus": outcome.consensus,
        }
        yield frame({"type": "team_complete", "summary": summary}, name("end"))
    except TektonError as error:
        yield refused(error, name("end"))
    finally:
        subscription.close()
        if run is not None and not joined and not run.done.done():
            platform.teams.cancel_soon(run)


async def _team_events(run: TeamRun, subscription: Subscription) -> AsyncGenerator[Sequence[Event]]:
    """Yield what came of a team turn so far, and then its events to its end."""
    told = _Told()
    while True:
        over = run.done.done()
        if early := told.rest(run.so_far()):
            yield early
        if over:
            return
        with suppress(EventsMissed):  # the run has what they told
            async for events in own_events(subscription):
                yield told.fresh(events)
                if any(isinstance(event, TeamEnd) and event.request_id == run.request_id for event in events):
                    return


class _Told:
    """What was told of the members of a team turn: none of it comes twice."""

    def __init__(self) -> None:
        self._chunks: dict[str, int] = {}
        """Index of the newest chunk of each turn."""
        self._chars = Counter[str]()
        self._over = set[str]()

    def rest(self, so_far: Iterable[Event]) -> list[Event]:
        """Return what of a run, each text in one piece, was not told yet."""
        left: list[Event] = []
        for event in so_far:
            if isinstance(event, StreamChunk):
                event = StreamChunk(
                    event.request_id, event.content[self._chars[event.request_id] :], event.chunk_index
                )
            left.append(event)
        return self.fresh(left)

    def fresh(self, events: Iterable[Event]) -> list[Event]:
        """Return those of the events that were not told yet, and take note of them."""
        fresh: list[Event] = []
        for event in events:
            match event:
                case StreamChunk():
                    if event.chunk_index <= self._chunks.get(event.request_id, -1):
                        continue
                    self._chunks[event.request_id] = event.chunk_index
                    self._chars[event.request_id] += len(event.content)
                case StreamEnd(request_id=ended) | StreamError(request_id=ended):
                    if ended in self._over:
                        continue
                    self._over.add(ended)
                case _:
                    pass
            fresh.append(event)
        return fresh


def _team_value(event: Event, owners: dict[str, str], status: Callable[[str], Any]) -> dict[str, Any] | None:
    match event:
        case TurnStarted():
            owners[event.request_id] = event.ai_id
            return None
        case StreamChunk():
            ai_id = owners.get(event.request_id, "")
            return {
                "type": "team_chunk",
                "specialist_id": ai_id,
                "specialist_name": ai_id.removesuffix("-ai"),
                "content": event.content,
                "is_final": False,
                "metadata": {"chunk_index": event.chunk_index},
            }
        case StreamEnd(metadata=facts) if facts.finish_reason != "cancelled":
            return {
                "type": "team_chunk",
                "specialist_id": facts.ai_id,
                "specialist_name": facts.ai_id.removesuffix("-ai"),
                "content": "",
                "is_final": True,
                "metadata": {
                    "model": facts.model,
                    "total_tokens": facts.total_tokens,
                    "total_time": facts.total_time,
                },
            }
        case StreamEnd(metadata=facts):
            return _member_failed(facts.ai_id, "cancelled", "cancelled")
        case StreamError():
            return _member_failed(event.ai_id, event.code, event.message)
        case _:
            return None


def _member_failed(ai_id: str, code: str | None, text: str) -> dict[str, Any]:
    return {"type": "specialist_error", "specialist_id": ai_id, "code": code or "internal", "error": text}
