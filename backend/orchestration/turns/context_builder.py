"""What a specialist is sent with a prompt: the history that fits, memories for its hints, live facts for its role.

Builds the worker's request; asks nothing upstream but token counts where the provider has a tokenizer.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from hashlib import blake2b
from math import ceil

import msgspec

from backend.catalog import Catalog
from backend.config import Settings
from backend.memory import TEAM, MessageStore, TokenEstimator, choose_window, with_tools
from backend.memory.records import Conversation
from backend.memory.windowing import MESSAGE_TOKENS, Window
from backend.orchestration.turns.history import as_heard, conversation_of
from backend.orchestration.turns.request import ChatRequest
from backend.orchestration.turns.sent import Sending, taken_apart
from backend.providers.embedded.platform_answers import asks_about_platform
from backend.providers.embedded.weights import MODEL_NAME as STAND_IN_MODEL
from backend.schema.branches import START, Branches
from backend.schema.content import Abilities, texts_of
from backend.schema.errors import TektonError
from backend.schema.frames import CountTokensResponse, InfoResponse, Request, TurnContext
from backend.schema.records import Session, StoredMessage, TurnOutcome
from backend.schema.sent import SentTurn
from backend.specialists.worker_client import Channel
from backend.wire import MAX_LINE_BYTES

CALL_TIMEOUT_S = 3.0
INFO_TIMEOUT_S = 10.0
"""How long a worker may take to say what its model is. It waits for its provider for some seconds itself, and begins with the
import of libraries: a turn must not fail because the machine is busy with that."""
LEAST_MESSAGES, MOST_MESSAGES, TOKENS_A_MESSAGE = 240, 2_000, 32
"""Newest messages that are looked at: one for so many tokens of the model's window, within these bounds."""
MAX_INFOS = 500
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
MAX_SENT = 256
"""Prompts under way whose texts are kept to compare them with the provider's count."""
MAX_HINTS = 16
"""Memory hints that are looked up for one turn."""
BESIDE = "the agent keeps this conversation itself: it still knows what was said beside this branch"
MAX_TRAIL = 12
"""Specialists an answer may pass through before the loop guard ends it."""

Count = Callable[[str], int]
Facts = Callable[[], Awaitable[str]]


async def _no_facts() -> str:
    return ""


class LoopRefused(TektonError):
    """An answer has passed through too many specialists already."""

    code = "invalid_request"


class OldWorker(TektonError):
    """The worker knows no parts, tools or options: it would leave them out without a word."""

    code = "invalid_request"


class ContextBuilder:
    """Build requests. `learn` calibrates the estimates with what providers counted."""

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        messages: MessageStore,
        own_model: Callable[[str], tuple[str, str]],
        own_tools: Callable[[str], Sequence[str]] = lambda _: (),
    ) -> None:
        self._settings, self._catalog, self._messages = settings, catalog, messages
        self._own_model, self._own_tools = own_model, own_tools
        self.estimator = TokenEstimator()
        self._infos: OrderedDict[tuple[str, str, str], tuple[Channel, InfoResponse]] = OrderedDict()
        """What workers said of models, by specialist, provider and model."""
        self._windows: dict[str, int] = {}
        self._counts: OrderedDict[tuple[str, bytes], int] = OrderedDict()
        self._sent: dict[str, Sending] = {}
        """The prompts under way, by request id."""
        self._facts: dict[str, Facts] = {}
        self.facts_for_stand_in: Facts = _no_facts
        """The platform's facts, for the stand-in of any role: it answers questions about the platform by them."""

    def give_facts(self, ai_id: str, facts: Facts) -> None:
        """Let a specialist see live facts computed by code, read-only, with every turn."""
        self._facts[ai_id] = facts

    async def build(self, request: ChatRequest, session: Session, link: Channel) -> Request:
        """Return the request for a turn.

        Raises:
            LoopRefused: The trail of the context is too long, or comes back to a specialist a third time.
        """
        if self._catalog.get(request.ai_id).transport == "acp":
            return await self._for_agent(request, session)
        provider = request.provider or session.provider or None
        model = request.model or session.model or None
        info = await self._info(request.ai_id, link, provider, model)
        self._windows[request.ai_id] = info.context_window
        context = await self._context(request, session)
        sent = Request(
            content=request.content,
            stream=True,
            request_id=request.request_id,
            temperature=request.temperature,
            max_tokens=request.max_tokens,
            phases=True,
            instruction=request.instruction,
            # The one it is built for: the specialist's own may be changed before this is read, to one with less room.
            provider=info.model_provider or provider,
            model=info.model_name or model,
            context=context,
            parts=request.parts,
            options=request.options,
            system=request.system,
            persona=request.persona,
            tools=request.may_use_tools,
            prefill=request.prefill,
        )
        if not request.is_plain and info.abilities is msgspec.UNSET:
            raise OldWorker(
                f"{request.ai_id} was started by an older version, which knows plain text only: "
                f"`tekton restart {request.ai_id.removesuffix('-ai')}`"
            )
        window = None
        if request.messages is not None:
            sent.messages = request.messages
        elif request.history:
            window = await self._add_history(sent, request, session, link, info)
        self._sent[request.request_id] = Sending(
            sent,
            request.ai_id,
            session.id,
            self._catalog.get(request.ai_id).persona if info.persona is msgspec.UNSET else info.persona,
            info.model,
            info.context_window,
            time.time(),
            self.estimator.counter(info.model),
            window,
            self._own_tools(request.ai_id),
        )
        while len(self._sent) > MAX_SENT:
            self._sent.pop(next(iter(self._sent)))
        return sent

    async def _for_agent(self, request: ChatRequest, session: Session) -> Request:
        """Return the request for an external agent, which keeps the conversation itself.

        Raises:
            TektonError: `invalid_request` for another provider or model: an agent has its own.
        """
        if request.provider or request.model:
            raise TektonError(
                f"{request.ai_id} is an agent with models of its own: change it with `tekton models set`",
                code="invalid_request",
            )
        context = await self._context(request, session)
        if request.after and request.reads_session:
            context = context or TurnContext()
            context.notes = [*context.notes, BESIDE]
        return Request(
            content=request.content,
            stream=True,
            request_id=request.request_id,
            phases=True,
            instruction=request.instruction,
            context=context,
            parts=request.parts,
            options=request.options,
            system=request.system,
            persona=request.persona,
            messages=request.messages,
            session=session.id if request.reads_session else "",
        )

    def learn(self, request: ChatRequest, outcome: TurnOutcome) -> None:
        """Calibrate the estimates by what the provider counted for a prompt."""
        sending = self._sent.pop(request.request_id, None)
        several = outcome.context_tokens > 0  # prompts of a turn with tools, of which the first is known here
        if (
            sending
            and outcome.usage
            and not several
            and not outcome.usage.estimated
            and outcome.usage.input_tokens
        ):
            total = outcome.usage.input_tokens + outcome.usage.cached_tokens
            self.estimator.learn(outcome.model, sending.texts(), total)

    def estimated_prompt(self, request_id: str) -> int:
        """Return about how many tokens a prompt under way took; 0 when it is not known."""
        sending = self._sent.get(request_id)
        return sum(map(sending.count, filter(None, sending.texts()))) if sending else 0

    def sent(self, request_id: str, outcome: TurnOutcome | None = None) -> SentTurn | None:
        """Return what a turn under way, or one that ends with `outcome` now, sent its model; `None` when it is not known."""
        sending = self._sent.get(request_id)
        if sending is None:
            return None
        usage = outcome.usage if outcome is not None else None
        several = outcome is not None and outcome.context_tokens > 0
        if usage is None or usage.estimated or several:
            return taken_apart(sending, 0)
        return taken_apart(sending, usage.input_tokens + usage.cached_tokens)

    async def _add_history(
        self, sent: Request, request: ChatRequest, session: Session, link: Channel, info: InfoResponse
    ) -> Window:
        tokens = info.context_window or UNKNOWN_WINDOW
        limit = min(max(LEAST_MESSAGES, tokens // TOKENS_A_MESSAGE), MOST_MESSAGES)
        conversation = await self._messages.conversation(session.id, limit, for_ai=request.ai_id)
        conversation.pinned = [as_heard(request.ai_id, message) for message in conversation.pinned]
        asking = (request.group or request.request_id, request.request_id)
        conversation.messages = conversation_of(
            request.ai_id,
            _on_way([m for m in conversation.messages if m.request_id not in asking], request.after),
            asking=asking,
            prompt=request.content,
        )
        taken = request.may_use_tools and bool(self._catalog.get(request.ai_id).tools) and _takes_tools(info)
        conversation.messages = [with_tools(message, taken=taken) for message in conversation.messages]
        conversation.pinned = [with_tools(message, taken=False) for message in conversation.pinned]
        persona = self._catalog.get(request.ai_id).persona
        fixed = [persona, *_last_turn(request, sent.context)]
        stored = [*conversation.messages, *conversation.pinned]
        texts = [*fixed, *(text for message in stored for text in texts_of(message.content, message.parts))]
        count = await self._counter(info, link, texts)
        # An answer as long as the window would leave no room for the conversation.
        answer = min(request.max_tokens or info.max_tokens, tokens // 2)
        room = max(0, tokens - answer - SAFETY_TOKENS - sum(count(text) for text in fixed if text))
        count = _within_line(count, room=room, fixed=fixed, conversation=conversation)
        window = choose_window(conversation, room=room, count=count)
        sent.messages = window.messages
        if window.summary or window.notes:
            context = sent.context or TurnContext()
            context.summary = window.summary
            context.notes = [*context.notes, *window.notes]
            sent.context = context
        return window

    async def _context(self, request: ChatRequest, session: Session) -> TurnContext | None:
        """Complete a turn's context: memories for its hints, facts for its specialist."""
        context = msgspec.structs.replace(request.context) if request.context else None
        if context is not None:
            if not request.named:
                _guard_loops(request.ai_id, context)
            if context.memory_hints:
                if (given := len(context.memory_hints)) > MAX_HINTS:
                    note = f"of {given:,} memory hints the first {MAX_HINTS} were looked up"
                    context.notes = [*context.notes, note]
                context.memories = await self._messages.recall(
                    context.memory_hints[:MAX_HINTS],
                    limit=self._settings.memory.hint_results,
                    owners=(request.ai_id, TEAM),
                    exclude_session=session.id,
                )
        if (facts := self._facts.get(request.ai_id)) and request.persona:
            context = context or TurnContext()
            context.facts = await facts()
        elif request.persona and self._counts_for(request):
            context = context or TurnContext()
            context.facts = await self.facts_for_stand_in()
        return context

    def _counts_for(self, request: ChatRequest) -> bool:
        """Return whether figures are to answer this question: it asks for them, and the stand-in would be asked."""
        provider, model = self._own_model(request.ai_id)
        provider, model = request.provider or provider, request.model or model
        return provider == "embedded" and model == STAND_IN_MODEL and asks_about_platform(request.content)

    async def _info(
        self, ai_id: str, link: Channel, provider: str | None = None, model: str | None = None
    ) -> InfoResponse:
        """Return what a worker says of the model of a turn; asked once a connection, provider and model.

        Without `provider` and `model` it is the specialist's own, which may be changed while it runs.
        """
        own_provider, own_model = self._own_model(ai_id)
        model = model or ("" if provider else own_model)
        provider = provider or own_provider
        key = ai_id, provider, model
        known = self._infos.get(key)
        # Another connection may be another process, of another version.
        if known is not None and known[0] is link:
            return known[1]
        # By name, so that a change under way cannot have one model's answer kept as another's.
        asked = Request(type="info", phases=True, provider=provider or None, model=model or None)
        reply = await link.call(asked, timeout_s=INFO_TIMEOUT_S)
        if not isinstance(reply, InfoResponse):
            raise TektonError(f"{ai_id} answered `info` with {type(reply).__name__}")
        # A provider that is not ready yet does not know its window: it is asked again at the next turn.
        if reply.context_window:
            self._infos[key] = (link, reply)
            while len(self._infos) > MAX_INFOS:
                self._infos.popitem(last=False)
        return reply

    def window(self, ai_id: str) -> int:
        """Return how many tokens a specialist's model takes, as it said at its last turn; 0 when it did not."""
        return self._windows.get(ai_id, 0)

    async def abilities(self, ai_id: str, link: Channel) -> tuple[Abilities, int]:
        """Return what the model of a running specialist takes beside text, and its window in tokens."""
        info = await self._info(ai_id, link)
        return (Abilities() if info.abilities is msgspec.UNSET else info.abilities), info.context_window

    async def count(self, ai_id: str, link: Channel, texts: list[str]) -> int:
        """Return the tokens of texts by the provider's own tokenizer where it has one, else about how many they are."""
        info = await self._info(ai_id, link)
        asked = Request(type="count_tokens", texts=texts, provider=info.model_provider, model=info.model_name)
        reply = await link.call(asked, timeout_s=CALL_TIMEOUT_S)
        if isinstance(reply, CountTokensResponse) and reply.counts is not None:
            return sum(reply.counts)
        return sum(map(self.estimator.counter(info.model), texts))

    async def _counter(self, info: InfoResponse, link: Channel, texts: list[str]) -> Count:
        """Return a counter for these texts: the provider's own tokenizer where there is one, else an estimate."""
        estimate = self.estimator.counter(info.model)
        if sum(map(len, texts)) < (info.context_window or UNKNOWN_WINDOW):
            return estimate  # it fits however it is counted: a token is at least a character, mostly
        keys = {text: (info.model, _digest(text)) for text in texts if text}
        missing = [text for text, key in keys.items() if key not in self._counts]
        if missing:
            try:
                asked = Request(
                    type="count_tokens", texts=missing, provider=info.model_provider, model=info.model_name
                )
                reply = await link.call(asked, timeout_s=CALL_TIMEOUT_S)
            except TektonError:
                return estimate  # a count is a convenience; the turn itself will say what is wrong
            if isinstance(reply, CountTokensResponse) and reply.counts is not None:
                self._counts.update(
                    (keys[text], number) for text, number in zip(missing, reply.counts, strict=True)
                )
        known = {
            text: self._counts[key] + MESSAGE_TOKENS for text, key in keys.items() if key in self._counts
        }
        while len(self._counts) > COUNTED_TEXTS:
            self._counts.popitem(last=False)
        return lambda text: found if (found := known.get(text)) is not None else estimate(text)


def _takes_tools(info: InfoResponse) -> bool:
    return info.abilities is not msgspec.UNSET and info.abilities.tools is not False


def _guard_loops(ai_id: str, context: TurnContext) -> None:
    if len(context.trail) > MAX_TRAIL or context.trail.count(ai_id) > 1:
        path = " → ".join(name.removesuffix("-ai") for name in [*context.trail, ai_id])
        raise LoopRefused(f"this answer goes in circles: {path}")


def _last_turn(request: ChatRequest, context: TurnContext | None) -> list[str]:
    """Return the texts that enter the last message of a prompt."""
    text = msgspec.json.encode(context).decode() if context else ""
    return [request.content, (request.instruction or "") + (request.system or ""), text]


def _on_way(messages: list[StoredMessage], after: str) -> list[StoredMessage]:
    """Return the messages on the way to the question that a new one stands behind, by default the newest.

    Raises:
        TektonError: `not_found`: there is no such question in the part of the session that is read.
    """
    branches = Branches(messages)
    if after == START:
        return []
    if after and after not in branches:
        raise TektonError(
            f"after: {after!r} is no question among the newest of this conversation", code="not_found"
        )
    return branches.on_way(messages, after or branches.newest)


def _within_line(count: Count, *, room: int, fixed: list[str], conversation: Conversation) -> Count:
    """Return a counter by which `room` tokens of history also fit the one line that a worker takes.

    A model may count megabytes as few tokens: each text costs at least the share of the room that its bytes take of
    what the fixed texts leave of the line.
    """
    stored = [*conversation.pinned, *conversation.messages]
    texts = [*fixed, *(text for m in stored for text in texts_of(m.content, m.parts))]
    if MOST_ESCAPED * sum(map(len, texts)) < MAX_LINE_BYTES:
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
