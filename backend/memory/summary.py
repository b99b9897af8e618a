"""A summary of pruned messages, drawn from their own sentences by code.

Pure and deterministic: the same messages give the same text. Asks no model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from msgspec import Struct

from backend.schema.records import StoredMessage

HEADING = "Earlier in this conversation:"
LINE_CHARS = 160
LOOKED_AT_CHARS = 2_000
"""Only the beginning of a long message is searched for its telling sentence."""
REMEMBERED_TEXTS = 2_048
FIRST_SENTENCE = 1.0
FACT_WORD = 1.5
FIGURE = 0.7
NAME = 0.5
QUESTION = -0.5
FILLER = -2.0
ASKED_BY_YOU = 1.0
"""What the operator told weighs more than what a model said."""

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
_FACT = re.compile(
    r"\b(my|our|i am|i'm|we are|is called|named|decided|agreed|must|never|always|remember|prefer|use[sd]?|because|"
    r"deadline|version|need|want|conclusion|found|cause|fix|result|todo|next step)\b",
    re.IGNORECASE,
)
_FIGURE = re.compile(r"\d")
_NAME = re.compile(r"(?<=[a-z,] )[A-Z]\w+")
_FILLER = re.compile(
    r"^(hi|hello|hey|thanks|thank you|ok|okay|sure|great|yes|no|please|of course)\b\W*$", re.IGNORECASE
)


class _Line(Struct):
    index: int
    text: str
    score: float


def summarise_pruned(pruned: Sequence[StoredMessage], room: int, count: Callable[[str], int]) -> str:
    """Return the most telling sentence of each of the most telling messages, in their order, within `room` tokens.

    Empty when nothing fits or nothing tells.
    """
    room -= count(HEADING)
    kept: list[_Line] = []
    lines = [line for index, message in enumerate(pruned) if (line := _line(index, message))]
    for line in sorted(lines, key=lambda line: (-line.score, -line.index)):
        cost = count(line.text)
        if cost <= room:
            room -= cost
            kept.append(line)
    if not kept:
        return ""
    return "\n".join([HEADING, *(line.text for line in sorted(kept, key=lambda line: line.index))])


def _line(index: int, message: StoredMessage) -> _Line | None:
    """Return the line of one message: who, and the sentence that tells most."""
    who = "you" if message.role == "user" else message.author.removesuffix("-ai")
    extra = ASKED_BY_YOU if message.role == "user" else 0.0
    score, sentence = _most_telling(message.content[:LOOKED_AT_CHARS])
    if score + extra <= 0:
        return None
    return _Line(index, f"- {who}: {_cut(sentence)}", score + extra)


@lru_cache(maxsize=REMEMBERED_TEXTS)
def _most_telling(text: str) -> tuple[float, str]:
    """Return the best sentence of a text and its score. Remembered: a conversation is summarised at every turn."""
    best = (FILLER, "")
    for place, sentence in enumerate(_sentences(text)):
        score = _score(sentence) + (FIRST_SENTENCE if place == 0 else 0.0)
        best = max(best, (score, sentence), key=lambda scored: scored[0])
    return best


def _sentences(text: str) -> list[str]:
    flat = (" ".join(part.split()) for part in _SENTENCE_END.split(text))
    return [sentence for sentence in flat if sentence]


def _score(sentence: str) -> float:
    if _FILLER.match(sentence):
        return FILLER
    score = FACT_WORD if _FACT.search(sentence) else 0.0
    score += FIGURE if _FIGURE.search(sentence) else 0.0
    score += NAME if _NAME.search(sentence) else 0.0
    return score + (QUESTION if sentence.endswith("?") else 0.0)


def _cut(sentence: str) -> str:
    if len(sentence) <= LINE_CHARS:
        return sentence
    return sentence[:LINE_CHARS].rsplit(" ", 1)[0] + " …"
