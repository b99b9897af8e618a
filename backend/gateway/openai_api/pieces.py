"""What comes of a chat completion, piece by piece: from one specialist, the team or a pipeline.

One generator serves plain and streamed answers. Closing it early ends what it asked for. What a caller says is no part
of any specialist's own conversation: it is recorded in sessions of the owner `api`, which no turn reads.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Coroutine
from dataclasses import dataclass
from typing import Any

from backend.gateway.context import Gateway
from backend.gateway.openai_api.asked import Asked, refused
from backend.gateway.openai_api.shapes import AUTO_MODEL, TEAM_MODEL, summed
from backend.gateway.openai_api.voices import Voices
from backend.gateway.sse import own_events
from backend.orchestration.actions.pipelines import PipelineParams
from backend.orchestration.orders import ChatOrder
from backend.orchestration.platform import Platform
from backend.orchestration.team_turn import TeamOrder
from backend.schema.errors import ErrorCode, TektonError
from backend.schema.events import PipelineEnd, StageEvent, StageText, TeamEnd, TurnStarted
from backend.schema.frames import FinishReason, StreamChunk, StreamEnd, StreamError, StreamReasoning, Usage

log = logging.getLogger(__name__)

OWNER = "api"
_endings: set[asyncio.Task[Any]] = set()


@dataclass
class Piece:
    """Some text of the answer, or of the thinking before it."""

    text: str = ""
    reasoning: str = ""


@dataclass
class Finish:
    """The end. `backing` names the model that answered, where it was one."""

    reason: FinishReason
    usage: Usage
    backing: str = ""


Pieces = AsyncGenerator[Piece | Finish]


def answer(gateway: Gateway, asked: Asked, request_id: str) -> Pieces:
    """Return the pieces of an answer by whoever the model's name means; nothing is asked before the first `anext`."""
    if asked.model.lower() == TEAM_MODEL:
        return _team(gateway, asked, request_id)
    if is_pipeline(asked.model):
        return _pipeline(gateway, asked, request_id)
    return _chat(gateway, asked, request_id)


def is_pipeline(model: str) -> bool:
    return "|" in model or model.startswith("{")


def find_model(platform: Platform, model: str) -> str:
    """Return the specialist a model's name means.

    Raises:
        TektonError: `model_not_found`, with what there is.
    """
    try:
        return platform.catalog.get(model).id
    except TektonError as error:
        raise TektonError(error.message, code="model_not_found", detail={"param": "model"}) from error


async def _chat(gateway: Gateway, asked: Asked, request_id: str) -> Pieces:
    platform = gateway.platform
    if asked.model.lower().lstrip("@") == AUTO_MODEL:
        ai_id, _ = platform.router.pick(asked.prompt)
    else:
        ai_id = find_model(platform, asked.model)
    order = ChatOrder(
        ai_id=ai_id,
        content=asked.prompt,
        messages=asked.history,
        instruction=asked.instruction or None,
        session_id=(await platform.memory.default_session(OWNER)).id,
        request_id=request_id,
        temperature=asked.temperature,
        max_tokens=asked.max_tokens,
    )
    subscription = platform.events.subscribe()
    subscription.follow(request_id)
    running = False
    try:
        await platform.turns.start(order)
        running = True
        async for events in own_events(subscription):
            for event in events:
                running = running and not isinstance(event, StreamEnd | StreamError)
                match event:
                    case StreamChunk():
                        yield Piece(event.content)
                    case StreamReasoning():
                        yield Piece(reasoning=event.content)
                    case StreamError():
                        raise _failed(event.code, event.message, event.evidence, event.detail)
                    case StreamEnd(metadata=facts):
                        if facts.finish_reason == "cancelled":
                            raise _failed("cancelled", "the answer was cancelled")
                        yield Finish(facts.finish_reason, facts.usage, facts.model)
                        return
                    case _:
                        pass
    finally:
        subscription.close()
        if running:
            platform.turns.cancel_soon(request_id)


async def _team(gateway: Gateway, asked: Asked, request_id: str) -> Pieces:
    platform = gateway.platform
    order = TeamOrder(
        content=f"{asked.instruction}\n\n{asked.prompt}" if asked.instruction else asked.prompt,
        messages=asked.history,
        session_id=(await platform.memory.default_session(OWNER)).id,
        request_id=request_id,
        temperature=asked.temperature,
        max_tokens=asked.max_tokens,
    )
    subscription = platform.events.subscribe()
    subscription.follow(request_id)
    run, voices = None, Voices()
    try:
        run = await platform.teams.start(order)
        async for events in own_events(subscription):
            for event in events:
                text = ""
                match event:
                    case TurnStarted():
                        voices.begin(event.request_id)
                    case StreamChunk():
                        text = voices.say(event.request_id, event.content)
                    case StreamEnd() | StreamError():
                        text = voices.end(event.request_id)
                    case TeamEnd():
                        outcome = await asyncio.shield(run.done)
                        if not outcome.answers:
                            raise _nobody([(f.ai_id, f.code, f.error) for f in outcome.failures])
                        text = voices.rest()
                        for failure in outcome.failures:
                            text += voices.failed(failure.ai_id, failure.code or "internal", failure.error)
                        yield Piece(text)
                        members = [*outcome.answers, *outcome.failures]
                        yield Finish("stop", summed([m.usage for m in members if m.usage]))
                        return
                    case _:
                        pass
                if text:
                    yield Piece(text)
    finally:
        subscription.close()
        if run is not None and not run.done.done():
            _end_soon(platform.teams.cancel(request_id))


async def _pipeline(gateway: Gateway, asked: Asked, request_id: str) -> Pieces:
    platform = gateway.platform
    if asked.temperature is not None or asked.max_tokens is not None:
        raise refused(
            "temperature" if asked.temperature is not None else "max_tokens",
            "a pipeline takes its options by stage, as in `apollo[temperature=0.2,max_tokens=100] | athena`",
        )
    subscription = platform.events.subscribe()
    subscription.follow(request_id)
    turns: list[str] = []
    streamed = ended = False
    try:
        params = PipelineParams(asked.model, asked.as_one_text(), request_id=request_id, wait=False)
        try:
            await platform.pipelines.run(params)
        except TektonError as error:
            error.detail = {"param": "model", **error.detail}
            raise
        async for events in own_events(subscription):
            for event in events:
                match event:
                    case StageEvent():
                        turns += event.request_ids
                    case StageText():
                        streamed = True
                        yield Piece(event.content)
                    case PipelineEnd():
                        ended = True
                        if not event.ok:
                            words = f"stage {event.failed_stage}: {event.error}"
                            raise _failed(event.code or "internal", words)
                        if not streamed:
                            yield Piece(event.output)
                        yield Finish("stop", _usage_of(platform, turns))
                        return
                    case _:
                        pass
    finally:
        subscription.close()
        if not ended and platform.pipelines.find(request_id) is not None:
            _end_soon(platform.pipelines.cancel(request_id))


def _failed(code: Any, text: str, evidence: str = "", detail: dict[str, object] | None = None) -> TektonError:
    return TektonError(text, code=code, evidence=evidence, detail=detail)


def _nobody(failures: list[tuple[str, ErrorCode | None, str]]) -> TektonError:
    words = "; ".join(f"{ai_id}: {code}: {error}" for ai_id, code, error in failures)
    code = failures[0][1] if failures else None
    return TektonError(f"nobody of the team answered: {words}", code=code or "internal")


def _usage_of(platform: Platform, request_ids: list[str]) -> Usage:
    turns = [turn for name in dict.fromkeys(request_ids) if (turn := platform.turns.find(name))]
    outcomes = [turn.done.result() for turn in turns if turn.done.done()]
    return summed([outcome.usage for outcome in outcomes if outcome.usage])


def _end_soon(ending: Coroutine[Any, Any, Any]) -> None:
    """End what a caller walked away from, without waiting for it."""

    async def end() -> None:
        try:
            await ending
        except TektonError as error:
            log.warning("ending an abandoned answer: %s", error)

    task = asyncio.create_task(end())
    _endings.add(task)
    task.add_done_callback(_endings.discard)
