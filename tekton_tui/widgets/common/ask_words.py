"""What a waiting tool call is in words, wherever it is shown: its arguments, what waits behind it, what it asks for."""

from __future__ import annotations

from typing import Final

from backend.schema.tools import QUESTION, Ask
from tekton_tui.stores import Stores
from tekton_tui.transcript.tool_piece import argument_values

MOST_KEYS: Final = 9
"""Answers of an agent's own that have a key; the command line gives the others."""


def is_question(ask: Ask) -> bool:
    """Return whether it asks to know something, and not whether a tool may run."""
    return ask.tool == QUESTION or ask.form is not None


def what_it_does(ask: Ask) -> str:
    """Return what an ask is, for its title."""
    return "asks you a question" if is_question(ask) else "asks to call a tool"


def behind(ask: Ask, stores: Stores) -> str:
    """Say what cannot go on before this is answered."""
    row = stores.fleet.rows.get(ask.ai_id)
    turns = max(0, row.queue - 1) if row is not None else 0
    calls = sum(one.request_id == ask.request_id for one in stores.asks.asks.values()) - 1
    words = [(turns, "question", "questions"), (calls, "call of this answer", "calls of this answer")]
    found = [f"{count} {one if count == 1 else many}" for count, one, many in words if count > 0]
    return " and ".join(found)


def arguments_of(ask: Ask) -> list[tuple[str, str]]:
    """Return names and values as they would run; what is no object is shown as it is."""
    values = argument_values(ask.arguments)
    return [("arguments", ask.arguments)] if values is None else list(values.items())
