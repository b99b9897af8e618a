"""What is asked of one specialist. A value; knows nothing of how it is done."""

from __future__ import annotations

from msgspec import Struct

from backend.schema.frames import ChatMessage, TurnContext


class ChatOrder(Struct, omit_defaults=True):
    """What is asked of one specialist. Unset options are the specialist's own.

    `history` false asks without the session's earlier messages; `record_prompt` false when the caller stored the
    prompt already (a team stores it once for all). `named` when the operator himself named the specialist for this
    very turn: no loop guard holds it. `messages` are the conversation so far where the caller keeps it himself: they
    stand for the session's, of which then nothing is read. `key` names the conversation whose events the turn's are, by
    default its group, or itself.
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
