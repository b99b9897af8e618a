"""What a model was sent for a turn, by parts: each text with its tokens, what was left out, what is new."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

SentKind = Literal[
    "persona",
    "instructions",
    "tools",
    "pinned",
    "history",
    "facts",
    "outputs",
    "input",
    "summary",
    "memories",
    "instruction",
    "prompt",
    "attachments",
    "prefill",
]
"""`instructions` are the caller's own system prompt, `outputs` and `input` what a pipeline or a team hands on,
`instruction` the platform's words before a prompt, `prefill` how the answer was to begin."""


class SentPart(Struct, omit_defaults=True):
    """One text of a request. `tokens` are an estimate unless the turn says otherwise.

    `role` and `message_id` are those of a message, `source` names who or what a text came from. `digest` stands for the
    text. `missing` says why there is none here.
    """

    kind: SentKind
    text: str = ""
    tokens: int = 0
    role: str = ""
    source: str = ""
    message_id: int = 0
    digest: str = ""
    missing: str = ""


class SentTurn(Struct, omit_defaults=True):
    """The request of one turn, its parts in the order in which the model reads them.

    `window` is how many tokens the model takes, `counted` how many of a prompt its provider counted; 0 where nobody
    said. `options` are the wishes that were sent along. `left_out` says in sentences what was not sent, and why.
    """

    request_id: str
    ai_id: str
    session_id: str
    at: float
    model: str = ""
    window: int = 0
    counted: int = 0
    options: dict[str, Any] = {}
    parts: list[SentPart] = []
    left_out: list[str] = []

    @property
    def tokens(self) -> int:
        """Tokens of all parts together, by the estimates."""
        return sum(part.tokens for part in self.parts)


class SentChange(Struct, omit_defaults=True):
    """How the parts of one kind differ from those of the turn before.

    `added` and `removed` count texts, `tokens` the difference. `lines` are those of a text that changed, each behind
    `+` or `-`, where one text stands for another.
    """

    kind: SentKind
    added: int = 0
    removed: int = 0
    tokens: int = 0
    lines: list[str] = []


class SentReport(Struct, omit_defaults=True):
    """What was sent for a turn, keys masked. `before` is the turn it is compared with, empty for a first one."""

    turn: SentTurn
    tokens: int
    before: str = ""
    changes: list[SentChange] = []
