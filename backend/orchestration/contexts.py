"""What a specialist is sent with a prompt: the history that fits, memories for its hints, live facts for its role.

Builds the worker's request; asks nothing upstream but token counts where the provider has a tokenizer.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import cache
from hashlib import blake2b
from math import ceil

import msgspec

from backend.catalog import Catalog
from backend.config import Settings
from backend.memory import MemoryStore, TokenEstimator, choose_window
from backend.memory.store import Conversation
from backend.orchestration.orders import ChatOrder
from backend.schema.errors import TektonError
from backend.schema.frames import CountTokensResponse, InfoResponse, Request, TurnContext
from backend.schema.records import Session, TurnOutcome
from backend.specialists.link import Channel
from backend.wire import MAX_LINE_BYTES

CALL_TIMEOUT_S = 3.0
HISTORY_MESSAGES = 240
COUNTED_TEXTS = 4_000
"""Token counts of texts that are kept."""
SAFETY_TOKENS = 48
"""Left free for what a chat template adds around the prompt."""
UNKNOWN_WINDOW = 4_096
"""Tokens a model is taken to have while nobody can say: its provider is not ready yet."""
LINE_MARGIN_BYTES = 64 * 1024
"""Of a worker's longest line, what is kept for names, numbers and the summary around the texts."""
MOST_ESCAPED = 6
"""Bytes that a character takes in JSON at most."""
MAX_TRAIL = 12
"""Specialists an answer may pass through before the loop guard ends it."""

Count = Callable[[str], int]
Facts = Callable[[], Awaitable[str]]


class LoopRefused(TektonError):
    """An answer has passed through too many specialists already."""

    code = "invalid_request"


class ContextBuilder:
    """Build requests. `learn` calibrates the estimates with what providers counted."""

    def __init__(self, settings: Settings, catalog: Catalog, memory: MemoryStore) -> None:
        self._settings, self._catalog, self._memory = settings, catalog, memory
        self.estimator = TokenEstimator()
        self._infos: dict[str, tuple[Channel, InfoResponse]] = {}
        self._counts: OrderedDict[tuple[str, bytes], int] = OrderedDict()
        self._sent: dict[str, list[str]] = {}
        self._facts: dict[str, Facts] = {}

    def give_facts(self, ai_id: str, facts: Facts) -> None:
        """Let a specialist see live facts computed by code, read-only, with every turn."""
        self._facts[ai_id] = facts

    async def build(self, order: ChatOrder, session: Session, link: Channel) -> Request:
        """Return the request for a turn.

        Raises:
            LoopRefused: The trail of the context is too long, or comes back to a specialist a third time.
        """
        info = await self._info(order.ai_id, link)
        context = await self._context(order, session)
        request = Request(
            content=order.content,
            stream=True,
            request_id=order.request_id,
            temperature=order.temperature,
            max_tokens=order.max_tokens,
            phases=True,
            instruction=order.instruction,
            provider=order.provider or session.provider or None,
            model=order.model or session.model or None,
            context=context,
        )
        if order.messages is not None:
            request.messages = order.messages
        elif order.history:
            await self._add_history(request, order, session, link, info)
        return request

    def learn(self, order: ChatOrder, outcome: TurnOutcome) -> None:
        """Take in what the provider counted for a prompt."""
        texts = self._sent.pop(order.request_id, None)
        if texts and outcome.usage and not outcome.usage.estimated and outcome.usage.input_tokens:
            total = outcome.usage.input_tokens + outcome.usage.cached_tokens
            self.estimator.learn(outcome.model, texts, total)

    async def _add_history(
        self, request: Request, order: ChatOrder, session: Session, link: Channel, info: InfoResponse
    ) -> None:
        conversation = await self._memory.conversation(session.id, HISTORY_MESSAGES, for_ai=order.ai_id)
        _leave_out(conversation, order)
        persona = self._catalog.get(order.ai_id).persona
        fixed = [persona, order.content, order.instruction or "", _context_text(request.context)]
        texts = [*fixed, *(m.content for m in (*conversation.messages, *conversation.pinned))]
        count = await self._counter(info, link, texts)
        tokens = info.context_window or UNKNOWN_WINDOW
        answer = min(order.max_tokens or info.max_tokens, tokens // 2)
        room = max(0, tokens - answer - SAFETY_TOKENS - sum(count(text) for text in fixed if text))
        count = _within_line(count, room=room, fixed=fixed, conversation=conversation)
        window = choose_window(conversation, room=room, count=count)
        request.messages = window.messages
        if window.summary or window.notes:
            context = request.context or TurnContext()
            context.summary = window.summary
            context.notes = [*context.notes, *window.notes]
            request.context = context
        self._sent[order.request_id] = [persona, *(m.content for m in window.messages), *fixed[1:]]
        while len(self._sent) > 256:
            self._sent.pop(next(iter(self._sent)))

    async def _context(self, order: ChatOrder, session: Session) -> TurnContext | None:
        """Complete a turn's context: memories for its hints, facts for its specialist."""
        context = msgspec.structs.replace(order.context) if order.context else None
        if context is not None:
            if not order.named:
                _guard_loops(order.ai_id, context)
            if context.memory_hints:
                context.memories = await self._memory.recall(
                    context.memory_hints, limit=self._settings.memory.hint_results, exclude_session=session.id
                )
        if facts := self._facts.get(order.ai_id):
            context = context or TurnContext()
            context.facts = await facts()
        return context

    async def _info(self, ai_id: str, link: Channel) -> InfoResponse:
        """Return what a worker says of its model; asked once a connection and model."""
        known = self._infos.get(ai_id)
        if known is not None and known[0] is link:
            return known[1]
        reply = await link.call(Request(type="info"), timeout_s=CALL_TIMEOUT_S)
        if not isinstance(reply, InfoResponse):
            raise TektonError(f"{ai_id} answered `info` with {type(reply).__name__}")
        if reply.context_window:
            self._infos[ai_id] = (link, reply)
        return reply

    def forget(self, ai_id: str) -> None:
        """Ask the worker anew for its model: it was changed."""
        self._infos.pop(ai_id, None)

    async def _counter(self, info: InfoResponse, link: Channel, texts: list[str]) -> Count:
        """Return a counter for these texts: the provider's own tokenizer where there is one, else an estimate."""
        estimate = self.estimator.counter(info.model)
        if sum(map(len, texts)) < (info.context_window or UNKNOWN_WINDOW):
            return estimate  # it fits however it is counted: a token is at least a character, mostly
        keys = {text: (info.model, _digest(text)) for text in texts if text}
        missing = [text for text, key in keys.items() if key not in self._counts]
        if missing:
            try:
                reply = await link.call(Request(type="count_tokens", texts=missing), timeout_s=CALL_TIMEOUT_S)
            except TektonError:
                return estimate  # a count is a convenience; the turn itself will say what is wrong
            if isinstance(reply, CountTokensResponse) and reply.counts is not None:
                self._counts.update(
                    (keys[text], number) for text, number in zip(missing, reply.counts, strict=True)
                )
        known = {text: self._counts[key] + 5 for text, key in keys.items() if key in self._counts}
        while len(self._counts) > COUNTED_TEXTS:
            self._counts.popitem(last=False)
        return lambda text: found if (found := known.get(text)) is not None else estimate(text)


def _leave_out(conversation: Conversation, order: ChatOrder) -> None:
    """Drop the prompt itself, which a team stored before its members are asked, and what the team said to it already."""
    group = order.group or order.request_id
    conversation.messages = [
        m
        for m in conversation.messages
        if m.request_id not in (group, order.request_id) and (order.record_prompt or m.lane != group)
    ]


def _guard_loops(ai_id: str, context: TurnContext) -> None:
    if len(context.trail) > MAX_TRAIL or context.trail.count(ai_id) > 1:
        path = " → ".join(name.removesuffix("-ai") for name in [*context.trail, ai_id])
        raise LoopRefused(f"this answer goes in circles: {path}")


def _context_text(context: TurnContext | None) -> str:
    return msgspec.json.encode(context).decode() if context else ""


def _within_line(count: Count, *, room: int, fixed: list[str], conversation: Conversation) -> Count:
    """Return a counter by which `room` tokens of history also fit the one line that a worker takes.

    A model may count megabytes as few tokens: each text costs at least the share of the room that its bytes take of
    what the fixed texts leave of the line.
    """
    stored = [*conversation.pinned, *conversation.messages]
    if MOST_ESCAPED * (sum(map(len, fixed)) + sum(len(m.content) for m in stored)) < MAX_LINE_BYTES:
        return count
    free = MAX_LINE_BYTES - LINE_MARGIN_BYTES - sum(_line_bytes(text) for text in fixed)

    @cache
    def cost(text: str) -> int:
        return max(count(text), ceil(_line_bytes(text) * room / free)) if free > 0 else room + 1

    return cost


def _line_bytes(text: str) -> int:
    return len(msgspec.json.encode(text))


def _digest(text: str) -> bytes:
    """Stand for a text in the store of counts: texts may be megabytes long."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
