"""What a tool's server asks of a person while a call runs (MCP elicitation), as fields of a form. Pure.

A server's words are data: they are shown, never read as anything else. A form of fields we do not know is declined.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import msgspec

from backend.schema.frames import Request
from backend.schema.tools import AskField, AskOption
from backend.text import safe_line

MAX_FIELDS, MAX_CHOICES, MAX_TEXT, MAX_NAME = 12, 40, 2_000, 100
KINDS = ("string", "number", "integer", "boolean")
NOBODY = "nobody"
"""The option of a verdict that no person gave."""


class Question(NamedTuple):
    """A server's question with the form it wants filled; `options` are the answers of a form of one choice."""

    text: str
    form: list[AskField]
    options: list[AskOption]

    @property
    def arguments(self) -> str:
        """The question as what is shown of a call."""
        wanted = {field.name: _described(field) for field in self.form}
        return msgspec.json.encode({"question": self.text, "answer": wanted}).decode()


def question_of(text: str, schema: Mapping[str, Any]) -> Question | None:
    """Return a question; `None` where its form has more or other fields than can be put to a person."""
    properties = schema.get("properties")
    if not isinstance(properties, dict) or len(cast(dict[str, Any], properties)) > MAX_FIELDS:
        return None
    required: object = schema.get("required") or []
    if not isinstance(required, list):
        return None
    form = [
        _field(name, value, name in cast(list[object], required))
        for name, value in cast(dict[object, object], properties).items()
    ]
    known = [field for field in form if field is not None]
    if len(known) < len(form):
        return None
    return Question(safe_line(text)[:MAX_TEXT], known, _options(known))


def answer_of(verdict: Request) -> tuple[str, dict[str, Any] | None]:
    """Return the answer for the server: `accept` with the values, `decline`, or `cancel` where nobody answered."""
    if not verdict.allow:
        return ("cancel" if verdict.option == NOBODY else "decline"), None
    return "accept", msgspec.json.decode(verdict.content or "{}", type=dict[str, Any])


def _field(name: object, value: object, required: bool) -> AskField | None:
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or safe_line(name) != name:
        return None
    if not isinstance(value, dict):
        return None
    said = cast(dict[str, Any], value)
    named: object = said.get("oneOf") or []
    listed: object = said.get("enum") or []
    if not isinstance(named, list) or not isinstance(listed, list):
        return None
    rows = cast(list[object], named)
    consts = [cast(dict[str, object], one).get("const") if isinstance(one, dict) else None for one in rows]
    choices = consts or cast(list[object], listed)
    kind = said.get("type", "string")
    if kind not in KINDS or len(choices) > MAX_CHOICES or (choices and kind != "string"):
        return None
    if any(not isinstance(one, str) or safe_line(one) != one for one in choices):
        return None
    values = [one for one in choices if isinstance(one, str)]
    title = safe_line(str(said.get("title") or said.get("description") or ""))[:MAX_NAME]
    return AskField(name, kind, title, values, required)


def _options(form: list[AskField]) -> list[AskOption]:
    """Return the answers of a form that is one choice."""
    if len(form) > 1:
        return []
    if not form:
        return [AskOption("yes", "yes", "allow_once"), AskOption("no", "no", "reject_once")]
    [field] = form
    values = field.choices or (["true", "false"] if field.kind == "boolean" else [])
    options = [AskOption(str(place), value, "allow_once") for place, value in enumerate(values)]
    return [*options, AskOption("no", "no answer", "reject_once")] if options else []


def _described(field: AskField) -> str:
    words = f"one of {', '.join(field.choices)}" if field.choices else field.kind
    return (
        f"{words}{'' if field.required else ', may be left out'}{f': {field.title}' if field.title else ''}"
    )
