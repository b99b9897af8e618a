"""What waits for a person, put to the client of its call by elicitation: an ask as a question with a form, a reply as an answer.

Pure. A model's words are data: they are made safe, and what does not fit is cut by number. Nothing is allowed that was not
said in so many words; a client that dismisses a question leaves it waiting for whoever else may answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from backend.schema.content import read_arguments
from backend.schema.tools import QUESTION, Ask, AskField
from backend.text import safe, safe_line

MAX_SHOWN = 8_000
"""Characters of a call's arguments, and of its diff, that a question shows."""
FIELD = "answer"
ALLOW, DENY = "allow", "deny"
Reply = Literal["accept", "decline", "cancel"]


class Question(NamedTuple):
    """What a client shows: some lines, and the JSON schema of the flat object that answers them."""

    message: str
    schema: dict[str, Any]


def question_of(ask: Ask, problem: str = "") -> Question:
    """Return an ask as a question; `problem` says what was wrong with the answer before."""
    who, tool = safe_line(ask.ai_id.removesuffix("-ai")), safe_line(ask.tool)
    lines = [f"That was no answer: {safe_line(problem)}"] if problem else []
    lines.append(f"{who} asks by {tool}:" if _is_question(ask) else f"{who} wants to call {tool}:")
    lines += [_cut(text) for text in (_asked_by(ask) or ask.arguments, ask.diff) if text]
    if ask.reason and not _is_question(ask):
        lines.append(f"You are asked because: {safe_line(ask.reason)}")
    if ask.why:
        lines.append(f"It answers: {safe_line(ask.why)}")
    if ask.form is not None:
        required = [field.name for field in ask.form if field.required]
        properties = {field.name: _property(field) for field in ask.form}
        return Question("\n".join(lines), _object(properties, required))
    chosen = {"type": "string", "title": "Your answer", "enum": list(_answers(ask))}
    return Question("\n".join(lines), _object({FIELD: chosen}, [FIELD]))


def answer_of(ask: Ask, reply: Reply, content: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the values of `answer_ask`; `None` where the client dismissed the question, which goes on waiting.

    Raises:
        ValueError: What was accepted is none of the answers that were offered.
    """
    if reply == "cancel":
        return None
    if reply == "decline":
        return {"id": ask.id, "answer": DENY}
    said = {name: value for name, value in (content or {}).items() if value is not None}
    if ask.form is not None:
        return {"id": ask.id, "answer": ALLOW, "words": msgspec.json.encode(said).decode()}
    answers = _answers(ask)
    if (chosen := said.get(FIELD)) not in answers:
        raise ValueError(f"{FIELD} has to be one of {', '.join(answers)}")
    return {"id": ask.id, **answers[chosen]}


def _is_question(ask: Ask) -> bool:
    return ask.form is not None or ask.tool == QUESTION


def _asked_by(ask: Ask) -> str:
    """Return the words of a question, whose fields its form shows; empty for a call."""
    if not _is_question(ask):
        return ""
    try:
        return str(read_arguments(ask.arguments).get("question", ""))
    except ValueError:
        return ""


def _answers(ask: Ask) -> dict[str, dict[str, str]]:
    """Return what may be chosen, by the words that are shown for it."""
    answers: dict[str, dict[str, str]] = {}
    if ask.tool != QUESTION:
        answers[ALLOW] = {"answer": ALLOW}
        if ask.always:
            answers[f"always allow {safe_line(ask.always)}"] = {"answer": ALLOW, "always": ask.always}
    for number, one in enumerate(ask.options, 1):
        said = {"answer": ALLOW if one.allows else DENY, "option": one.id}
        answers[f"{number}. {safe_line(one.name)}"] = said
    answers[DENY] = {"answer": DENY}
    return answers


def _property(field: AskField) -> dict[str, Any]:
    value: dict[str, Any] = {"type": field.kind}
    if field.title:
        value["title"] = field.title
    if field.choices:
        value["enum"] = field.choices
    return value


def _object(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required}


def _cut(text: str) -> str:
    left = len(text) - MAX_SHOWN
    return safe(text) if left <= 0 else f"{safe(text[:MAX_SHOWN])}\n… {left:,} more characters are not shown"
