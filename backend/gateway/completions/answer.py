"""What comes of a request, piece by piece: from one specialist, the team or a pipeline.

One generator serves plain and streamed answers. Closing it early ends what it asked for. What a caller says is no part
of any specialist's own conversation: it is recorded in sessions of the owner `api`, which no turn reads.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from backend.assembly import PartsBuilder
from backend.gateway.completions.asked import Asked, refused
from backend.gateway.completions.interleave import Voices
from backend.gateway.context import Gateway
from backend.gateway.sse import own_events, turn_events
from backend.orchestration.approvals.rules import check
from backend.orchestration.platform import Platform
from backend.orchestration.teams.team_turn import TeamRequest
from backend.orchestration.turns.manager import TurnManager
from backend.orchestration.turns.request import ChatRequest
from backend.schema import frames
from backend.schema.content import ChatMessage, Part, ReasoningPart, TextPart, TokenLogprob
from backend.schema.errors import ErrorCode, TektonError
from backend.schema.events import Event, PipelineEnd, StageEvent, StageText, TeamEnd, TurnStarted
from backend.schema.params import RunPipeline
from backend.tasks import Background

log = logging.getLogger(__name__)

OWNER = "api"
TEAM_MODEL, AUTO_MODEL = "team", "auto"
_endings = Background()


@dataclass(slots=True)
class Piece:
    """Some text of the answer, or of the thinking before it; the end of a block of thinking; a piece of a call.

    `logprobs` are of the text that comes next.
    """

    text: str = ""
    reasoning: str = ""
    call: frames.StreamToolCall | None = None
    signature: frames.StreamSignature | None = None
    logprobs: list[TokenLogprob] | None = None
    choice: int = 0


@dataclass(slots=True)
class Finish:
    """The end. `backing` names the model that answered, where it was one; `stop` the stop text that ended it."""

    reason: frames.FinishReason
    usage: frames.Usage
    backing: str = ""
    stop: str = ""
    notes: Sequence[str] = ()
    choice: int = 0


Batch = list[Piece | Finish]
Pieces = AsyncGenerator[Batch]
"""What came together, never empty; the very last item is a `Finish`."""


@dataclass
class Answered:
    """A whole answer. `parts` are set where it is more than text."""

    text: str
    reasoning: str
    parts: list[Part]
    finish: Finish
    logprobs: list[TokenLogprob] = field(default_factory=list[TokenLogprob])

    @property
    def as_parts(self) -> list[Part]:
        """The answer in parts, also where it is plain text, with its thinking in front."""
        thought = [ReasoningPart(self.reasoning)] if self.reasoning else []
        return self.parts or [*thought, TextPart(self.text)]


class Collector:
    """Puts an answer together from its pieces."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._other = PartsBuilder()
        self._logprobs: list[TokenLogprob] = []

    def add(self, piece: Piece) -> None:
        self._text.append(piece.text)
        self._reasoning.append(piece.reasoning)
        self._logprobs += piece.logprobs or ()
        if piece.call is not None:
            self._other.call(piece.call, sum(map(len, self._text)))
        elif piece.signature is not None:
            self._other.sign(piece.signature, sum(map(len, self._text)), "".join(self._reasoning))

    def done(self, finish: Finish) -> Answered:
        text, reasoning = "".join(self._text), "".join(self._reasoning)
        parts = self._other.parts(text, reasoning, finish.backing)
        return Answered(text, reasoning, parts, finish, self._logprobs)


def answer(gateway: Gateway, asked: Asked, ai_id: str, request_id: str) -> Pieces:
    """Return the pieces of an answer by whoever the model's name means; nothing is asked before the first `anext`.

    Raises:
        TektonError: Several are asked for what they cannot do together, or a rule cannot be read.
    """
    check(asked.rules)
    if ai_id:
        return _chat(gateway, asked, ai_id, request_id)
    _refuse_for_many(asked)
    if asked.target.lower() == TEAM_MODEL:
        return _team(gateway, asked, request_id)
    return _pipeline(gateway, asked, request_id)


def is_pipeline(model: str) -> bool:
    # of the signs of the pipeline language these two cannot stand in a name
    return "|" in model or model.startswith("{")


def of_many(model: str) -> bool:
    """Return whether a model's name means the team, a pipeline, or whoever suits best: no one specialist."""
    return model.lower().lstrip("@") in (TEAM_MODEL, AUTO_MODEL) or is_pipeline(model)


def find_target(platform: Platform, asked: Asked) -> str:
    """Return the specialist a model's name means; empty for the team and pipelines.

    Raises:
        TektonError: `model_not_found`, with what there is.
    """
    model = asked.target
    if model.lower() == TEAM_MODEL or is_pipeline(model):
        return ""
    if model.lower().lstrip("@") == AUTO_MODEL:
        return platform.selector.pick(asked.talk.prompt.content)[0]
    return find_model(platform, model)


def find_model(platform: Platform, model: str) -> str:
    """Return the specialist of a name.

    Raises:
        TektonError: `model_not_found`, with what there is.
    """
    try:
        return platform.catalog.get(model.removesuffix(":raw")).id
    except TektonError as error:
        raise TektonError(error.message, code="model_not_found", detail={"param": "model"}) from error


def _refuse_for_many(asked: Asked) -> None:
    """Refuse what several specialists cannot do together.

    Raises:
        InvalidRequest: With the parameter.
    """
    options, who = asked.options, f"the model {asked.target!r} is several specialists"
    if options.tools:
        raise refused("tools", f"tools: {who}, who cannot own one tool call; name one of them")
    if options.format is not None and options.format.kind != "text":
        raise refused("response_format", f"response_format: {who}, who answer in one text; name one of them")
    if options.logprobs is not None:
        raise refused("logprobs", f"logprobs: {who}, whose tokens have no common measure; name one of them")
    if any(not isinstance(part, TextPart) for part in asked.talk.prompt.parts):
        raise refused("messages", f"messages: {who}, who take text alone; name one of them")


def _order(asked: Asked, ai_id: str, origin: str, request_id: str) -> ChatRequest:
    talk = asked.talk
    return ChatRequest(
        ai_id=ai_id,
        content=talk.prompt.content,
        parts=talk.prompt.parts or None,
        kept=asked.kept,
        messages=[_owned(message, origin) for message in talk.history],
        system=talk.system or None,
        persona=not asked.raw,
        prefill=talk.prefill or None,
        options=asked.options if asked.options != type(asked.options)() else None,
        request_id=request_id,
        temperature=asked.temperature,
        max_tokens=asked.max_tokens,
        owners=(OWNER,),
        rules=asked.rules,
        is_new=True,
    )


def _owned(message: ChatMessage, origin: str) -> ChatMessage:
    """Return a message whose signed thinking goes back to the model that is asked: nobody else signs for a caller."""
    for part in message.parts:
        if isinstance(part, ReasoningPart) and not part.origin:
            part.origin = origin
    return message


async def _chat(gateway: Gateway, asked: Asked, ai_id: str, request_id: str) -> Pieces:
    platform = gateway.platform
    status = platform.fleet.status(ai_id)
    order = _order(asked, ai_id, f"{status.provider}:{status.model}", request_id)
    subscription = platform.events.subscribe()
    subscription.follow(request_id)
    running, offered = False, bool(asked.options.offered)
    try:
        turn = await platform.turns.start(order)
        running = True
        # of calls that were missed nothing else would tell
        async for events in (
            own_events(subscription) if offered else turn_events(turn, subscription, whole=True)
        ):
            batch: Batch = []
            for event in events:
                if isinstance(event, frames.StreamChunk):
                    batch.append(Piece(event.content))
                elif isinstance(event, frames.StreamEnd | frames.StreamError):
                    running = False
                    batch.append(_ended(event))
                    break
                elif (piece := _other(event, offered)) is not None:
                    batch.append(piece)
            if batch:
                yield batch
            if not running:
                return
    finally:
        subscription.close()
        if running:
            platform.turns.cancel_soon(request_id)


def _other(event: Event, offered: bool) -> Piece | None:
    """Return what an event adds to the answer. Calls are the caller's where it offered tools, else the specialist's own."""
    match event:
        case frames.StreamReasoning():
            return Piece(reasoning=event.content)
        case frames.StreamToolCall() if offered:
            return Piece(call=event)
        case frames.StreamSignature():
            return Piece(signature=event)
        case frames.StreamLogprobs():
            return Piece(logprobs=event.tokens)
        case _:
            return None


def _ended(event: frames.StreamEnd | frames.StreamError) -> Finish:
    """Return how a turn ended.

    Raises:
        TektonError: It failed, or was cancelled.
    """
    if isinstance(event, frames.StreamError):
        raise TektonError(event.message, code=event.code, evidence=event.evidence, detail=event.detail)
    facts = event.metadata
    if facts.finish_reason == "cancelled":
        raise TektonError("the answer was cancelled", code="cancelled")
    return Finish(facts.finish_reason, facts.usage, facts.model, facts.stop, facts.notes)


async def _team(gateway: Gateway, asked: Asked, request_id: str) -> Pieces:
    platform, talk = gateway.platform, asked.talk
    order = TeamRequest(
        content="\n\n".join(filter(None, (talk.system, talk.prompt.content))),
        messages=talk.history,
        session_id=(await platform.memory.sessions.default(OWNER)).id,
        request_id=request_id,
        temperature=asked.temperature,
        max_tokens=asked.max_tokens,
        owners=(OWNER,),
        rules=asked.rules,
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
                    case frames.StreamChunk():
                        text = voices.say(event.request_id, event.content)
                    case frames.StreamEnd() | frames.StreamError():
                        text = voices.end(event.request_id)
                    case TeamEnd():
                        # shielded: a client that goes away ends its own wait, not the future that others wait for
                        outcome = await asyncio.shield(run.done)
                        if not outcome.answers:
                            raise _nobody([(f.ai_id, f.code, f.error) for f in outcome.failures])
                        text = voices.rest()
                        for failure in outcome.failures:
                            text += voices.failed(failure.ai_id, failure.code or "internal", failure.error)
                        members = [*outcome.answers, *outcome.failures]
                        cut = any(answer.finish_reason == "length" for answer in outcome.answers)
                        usage = frames.summed([m.usage for m in members if m.usage])
                        yield [Piece(text), Finish("length" if cut else "stop", usage)]
                        return
                    case _:
                        pass
                if text:
                    yield [Piece(text)]
    finally:
        subscription.close()
        if run is not None and not run.done.done():
            _end_soon(platform.teams.cancel(request_id))


async def _pipeline(gateway: Gateway, asked: Asked, request_id: str) -> Pieces:
    platform = gateway.platform
    subscription = platform.events.subscribe()
    subscription.follow(request_id)
    turns: list[str] = []
    streamed = ended = False
    try:
        params = RunPipeline(
            asked.target, asked.as_one_text(), request_id=request_id, wait=False, rules=asked.rules
        )
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
                        yield [Piece(event.content)]
                    case PipelineEnd():
                        ended = True
                        if not event.ok:
                            words = f"stage {event.failed_stage}: {event.error}"
                            raise TektonError(words, code=cast(ErrorCode, event.code or "internal"))
                        said: Batch = [] if streamed else [Piece(event.output)]
                        yield [*said, Finish("stop", _usage_of(platform.turns, turns))]
                        return
                    case _:
                        pass
    finally:
        subscription.close()
        if not ended and platform.pipelines.find(request_id) is not None:
            _end_soon(platform.pipelines.cancel(request_id))


def _nobody(failures: list[tuple[str, ErrorCode | None, str]]) -> TektonError:
    words = "; ".join(f"{ai_id}: {code}: {error}" for ai_id, code, error in failures)
    code = failures[0][1] if failures else None
    return TektonError(f"nobody of the team answered: {words}", code=code or "internal")


def _usage_of(known: TurnManager, request_ids: list[str]) -> frames.Usage:
    turns = [turn for name in dict.fromkeys(request_ids) if (turn := known.find(name))]
    outcomes = [turn.done.result() for turn in turns if turn.done.done()]
    return frames.summed([outcome.usage for outcome in outcomes if outcome.usage])


def _end_soon(ending: Coroutine[Any, Any, Any]) -> None:
    """End what a caller walked away from, without waiting for it."""

    async def end() -> None:
        try:
            await ending
        except TektonError as error:
            log.warning("ending an abandoned answer: %s", error)

    _endings.start(end(), "end an abandoned answer")
