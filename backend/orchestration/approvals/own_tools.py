"""The platform's own tools: search one's conversations, ask another specialist, the platform's state. They change nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from backend.catalog import Catalog
from backend.memory import MessageStore, SessionStore
from backend.orchestration.turns.manager import TurnManager
from backend.orchestration.turns.request import ChatRequest
from backend.schema.content import ToolResult, read_arguments
from backend.schema.errors import TektonError
from backend.schema.frames import StreamToolUse, TurnContext

HITS = 10


class _Arguments(msgspec.Struct):
    words: str = ""
    specialist: str = ""
    question: str = ""


class OwnTools:
    """Runs the platform's own tools for the specialist that called them."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        messages: MessageStore,
        sessions: SessionStore,
        turns: TurnManager,
        facts: Callable[[], Awaitable[str]],
    ) -> None:
        self._catalog, self._messages, self._sessions = catalog, messages, sessions
        self._turns, self._facts = turns, facts

    async def run(self, use: StreamToolUse, asked: ChatRequest) -> ToolResult:
        """Run a tool for a turn; what fails is a result that says so."""
        try:
            given = msgspec.convert(read_arguments(use.arguments), _Arguments)
        except ValueError as error:
            return ToolResult("", f"the arguments do not fit: {error}", is_error=True)
        try:
            match use.tool.partition(":")[2]:
                case "search":
                    text = await self._search(use.ai_id, given.words)
                case "ask":
                    text = await self._ask(use, asked, given)
                case "facts":
                    text = await self._facts()
                case name:
                    return ToolResult("", f"the platform has no tool {name!r}", is_error=True)
        except TektonError as error:
            return ToolResult("", error.message, is_error=True)
        return ToolResult("", text)

    async def _search(self, ai_id: str, words: str) -> str:
        page = await self._messages.search(words, owner=ai_id, limit=HITS)
        lines = [f"{hit.message.author}: {_plain(hit.snippet)}" for hit in page.hits]
        return "\n".join(lines) or f"nothing was said about {words!r}"

    async def _ask(self, use: StreamToolUse, asked: ChatRequest, given: _Arguments) -> str:
        target = self._catalog.get(given.specialist).id
        trail = [*(asked.context.trail if asked.context else []), use.ai_id]
        # a conversation of its own: one that waited behind the operator's question could wait for its own end
        session = await self._sessions.create(target, f"asked by {use.ai_id.removesuffix('-ai')}")
        outcome = await self._turns.ask(
            ChatRequest(
                ai_id=target,
                content=given.question,
                session_id=session.id,
                request_id=f"{use.request_id}/{use.index}",
                context=TurnContext(trail=trail),
                asked_by=asked.asked_by or asked.conversation,
                rules=asked.rules,
            )
        )
        if outcome.code:
            raise TektonError(f"{given.specialist}: {outcome.error}", code=outcome.code)
        return outcome.content


def _plain(snippet: str) -> str:
    return snippet.replace("\x02", "").replace("\x03", "")
