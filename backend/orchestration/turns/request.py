"""What is asked of one specialist. A value; knows nothing of how it is done."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import msgspec
from msgspec import Struct

from backend.schema.branches import KEPT
from backend.schema.content import AnswerOptions, ChatMessage, OpaquePart, Part, TextPart
from backend.schema.frames import TurnContext
from backend.schema.tools import CallRules

_encoder = msgspec.json.Encoder(order="deterministic")
"""Two bodies that differ in the order of their keys ask the same."""


class ChatRequest(Struct, omit_defaults=True):
    """One question to one specialist. Unset options are the specialist's own.

    `group` is the team turn or pipeline run it belongs to, `key` the conversation its events are published under: by
    default the group, or the turn itself. Whatever has one key works in a session together; other questions there wait.

    `owners` may own the session: by default the specialist. `history` false asks without the session's earlier
    messages, and then without waiting for its turn there. `messages` are the conversation so far where the caller keeps
    it himself: they stand for the session's. `record_prompt` is false when the caller stored the prompt (a team stores
    it once for all members), `aside` true when the prompt is no part of the conversation (a judge's).

    `named` when the operator named the specialist for this very turn: no loop guard holds it.

    `parts` are the prompt where it is more than text, `content` their text. `system` is the caller's own system prompt
    behind the persona, which `persona` false leaves out. `prefill` is how the answer is to begin. `kept` is stored with
    the question, sent to nobody, for whoever goes on from it.
    """

    ai_id: str
    content: str
    session_id: str = ""
    request_id: str = ""
    group: str = ""
    temperature: float | None = None
    max_tokens: int | None = None
    context: TurnContext | None = None
    instruction: str | None = None
    provider: str | None = None
    model: str | None = None
    history: bool = True
    record_prompt: bool = True
    named: bool = False
    messages: list[ChatMessage] | None = None
    key: str = ""
    timeout_s: float | None = None
    owners: tuple[str, ...] = ()
    aside: bool = False
    attend: bool = False
    """Whether nobody waits for the answer, so that it waits for somebody once it has come."""
    parts: list[Part] | None = None
    options: AnswerOptions | None = None
    system: str | None = None
    persona: bool = True
    prefill: str | None = None
    kept: dict[str, Any] | None = None
    after: str = ""
    """Behind which question of its session it stands; by default the newest."""
    tools: bool = True
    """Whether it may call its own tools; what is `aside` never does."""
    is_new: bool = False
    """Whether its id was made for it just now: nothing is stored under it."""
    asked_by: str = ""
    """The conversation of the turn that asks this one by a tool: who answers its questions, answers these too."""
    rules: CallRules | None = None
    """Narrows the platform's rules over tools for this question and all it leads to."""
    digest: bytes = b""
    """Stands for what came beside the content, once the question is only remembered."""

    @property
    def conversation(self) -> str:
        """Under which name its events are published: that of the call that started it."""
        return self.key or self.group or self.request_id

    @property
    def may_use_tools(self) -> bool:
        """Whether the specialist is offered its own tools."""
        return self.tools and not self.aside and self.persona and not (self.options and self.options.tools)

    @property
    def stored_parts(self) -> list[Part]:
        """The parts its question is stored with."""
        kept = {**(self.kept or {}), "after": self.after} if self.after else self.kept
        if kept is None:
            return self.parts or []
        return [*(self.parts or [TextPart(self.content)]), OpaquePart(KEPT, kept)]

    @property
    def is_plain(self) -> bool:
        """Whether a worker of before parts were known can answer it as well."""
        return (
            not (self.parts or self.options or self.system or self.prefill)
            and self.persona
            and not any(message.parts for message in self.messages or ())
        )

    @property
    def reads_session(self) -> bool:
        """Whether earlier messages of the session are sent along."""
        return self.history and self.messages is None

    def saying(self, content: str) -> ChatRequest:
        """Return the question in other words: of its parts, those that are text change and what is attached stays."""
        parts = self.parts
        if parts:
            attached = [part for part in parts if not isinstance(part, TextPart)]
            parts = [TextPart(content), *attached]
        return msgspec.structs.replace(self, content=content, parts=parts)

    def asks_the_same(self, other: ChatRequest) -> bool:
        """Return whether two requests are one question to one specialist; how it is answered may differ."""
        return (
            self.ai_id == other.ai_id
            and self.content == other.content
            and self.after == other.after
            and (self.session_id == other.session_id or not (self.session_id and other.session_id))
            and self._brought_digest() == other._brought_digest()
        )

    @property
    def brought_bytes(self) -> int:
        """How many bytes came beside the content, about: conversation, files, tools and what else a caller sends."""
        return 0 if self.digest else len(_encoder.encode(self._brought())) + len(_encoder.encode(self.kept))

    def remembered(self) -> ChatRequest:
        """Return what is kept of the question once it was answered.

        An agent sends its tools and the whole conversation along with every question; of a thousand questions that
        would be gigabytes, and only whether somebody asks the same again is ever looked up.
        """
        return msgspec.structs.replace(
            self,
            digest=self._brought_digest(),
            instruction=None,
            messages=None,
            parts=None,
            options=None,
            system=None,
            context=None,
            prefill=None,
            kept=None,
        )

    def _brought(self) -> tuple[object, ...]:
        return self.instruction, self.messages, self.parts, self.options, self.system, self.context

    def _brought_digest(self) -> bytes:
        return self.digest or blake2b(_encoder.encode(self._brought()), digest_size=16).digest()
