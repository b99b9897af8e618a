"""A summary of pruned messages, drawn from their own sentences by code.

Pure and deterministic: the same messages give the same text. Asks no model. What counts is what says a fact in any
language: figures, names, words of deciding and demanding; what is said again, in other figures too, counts once, as it was
said last.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from msgspec import Struct

from backend.memory.terms import fold
from backend.schema.records import StoredMessage

HEADING = "Earlier in this conversation:"
SENTENCE_CHARS = 160
LOOKED_AT_CHARS = 2_000
"""Only the beginning of a long message is searched for telling sentences."""
REMEMBERED_TEXTS = 4_096
FIRST_SENTENCE = 0.3
FACT_WORD = 1.5
FIGURE = 1.0
NAME = 0.5
QUESTION = -1.0
WISH = -2.0
"""Asks for something to be said or done now, which is over."""
FILLER = -5.0
FACT_BY_YOU, SAID_BY_YOU = 1.0, 0.5
"""The operator's sentences weigh more than a model's, and more still where they say a fact."""

_SENTENCE_END = re.compile(r"(?<=[.!?…])(?<!\d\.)\s+|(?<=[。！？；])|\n+")
_FACT_WORDS = """
    my, our, i am, i'm, we are, is called, named, decided, agreed, must, never, always, remember, prefer, prefers, use, uses, used,
    because, deadline, due, version, budget, need, needs, want, wants, conclusion, found, cause, fix, fixed, result, todo, next step,
    mein, meine, meinen, unser, unsere, heisse, heisst, ich bin, wir sind, entschieden, vereinbart, muss, mussen, darf, durfen, nie,
    niemals, immer, merke, bevorzuge, nutze, nutzen, weil, frist, termin, fallig, brauche, brauchen, ergebnis, ursache, behoben,
    mon, ma, mes, notre, je suis, nous sommes, appelle, decide, convenu, doit, dois, jamais, toujours, rappelle, prefere, utilise,
    parce, echeance, besoin, veux, resultat, mi, mis, nuestro, nuestra, soy, somos, llamo, llama, decidido, acordado, debe, debo,
    nunca, siempre, recuerda, prefiero, uso, porque, plazo, presupuesto, necesito, quiero, resultado
"""
_FACT = re.compile(rf"\b({'|'.join(word.strip() for word in _FACT_WORDS.split(','))})\b")
_FACT_UNSPACED = re.compile(
    "[是叫为在要用]|必须|不要|不能|决定|记住|预算|截止|需要|版本|因为|です|ます|だ。|ない|必要|予算|締切|입니다|합니다|예산"
)
_WISH = re.compile(
    r"(please |can you |could you |would you |let us |let's )*(tell|give|show|write|explain|list|say|describe|make|bitte|"
    r"sag|sage|zeig|zeige|nenne|schreib|erklare|dis|donne|montre|ecris|explique|dime|muestra|escribe|explica)\b"
)
_FIGURE = re.compile(r"\d")
_FIGURES = re.compile(r"\d+")
_NAME = re.compile(r"(?<=[a-zß-ÿ,] )[A-ZÀ-Þ]\w+")
_WORDS = re.compile(r"\w+")
_FILLER = re.compile(
    r"(hi|hello|hey|thanks?|thank you|ok|okay|sure|great|yes|no|please|of course|welcome|you are welcome|here you go|hallo|"
    r"danke|gern|gerne|ja|nein|gut|klar|merci|oui|non|bonjour|gracias|hola|si|vale|你好|谢谢|好的?|はい|ありがとう)[\W_]*"
)


class _Said(Struct, frozen=True):
    """A sentence: how telling it is, and what it has in common with others that say the same."""

    score: float
    text: str
    likeness: str


class _Line(Struct):
    index: int
    who: str
    place: int
    score: float
    said: _Said


def summarise_pruned(pruned: Sequence[StoredMessage], room: int, count: Callable[[str], int]) -> str:
    """Return the most telling sentences of the pruned messages, in order, a line for each message, within `room` tokens.

    Empty when nothing fits or nothing is telling.
    """
    room -= count(HEADING)
    kept: list[_Line] = []
    newest: dict[str, _Line] = {}
    for line in (line for index, message in enumerate(pruned) for line in _lines(index, message)):
        newest.pop(line.said.likeness, None)
        newest[line.said.likeness] = line
    for line in sorted(newest.values(), key=lambda line: (-line.score, -line.index, line.place)):
        cost = count(f"- {line.who}: {line.said.text}")
        if cost <= room:
            room -= cost
            kept.append(line)
    if not kept:
        return ""
    lines: dict[int, str] = {}
    for line in sorted(kept, key=lambda line: (line.index, line.place)):
        before = lines.get(line.index, f"- {line.who}:")
        lines[line.index] = f"{before} {line.said.text}"
    return "\n".join([HEADING, *lines.values()])


def _lines(index: int, message: StoredMessage) -> list[_Line]:
    """Return the telling sentences of one message."""
    mine = message.role == "user"
    who = "you" if mine else message.author.removesuffix("-ai")
    lines: list[_Line] = []
    for place, said in enumerate(_sentences(message.content[:LOOKED_AT_CHARS])):
        extra = (FACT_BY_YOU if said.score > FIRST_SENTENCE else SAID_BY_YOU) if mine else 0.0
        if said.score + extra > 0:
            lines.append(_Line(index, who, place, said.score + extra, said))
    return lines


@lru_cache(maxsize=REMEMBERED_TEXTS)
def _sentences(text: str) -> tuple[_Said, ...]:
    """Return the sentences of a text. Remembered: a conversation is summarised at every turn."""
    sentences = [" ".join(part.split()) for part in _SENTENCE_END.split(text)]
    return tuple(_said(sentence, place) for place, sentence in enumerate(filter(None, sentences)))


def _said(sentence: str, place: int) -> _Said:
    folded = fold(sentence)
    words = _WORDS.findall(folded)
    score = FIRST_SENTENCE if place == 0 else 0.0
    if not words or _FILLER.fullmatch(folded):
        score = FILLER
    elif _WISH.match(folded):
        score += WISH
    else:
        score += FACT_WORD if _FACT.search(folded) or _FACT_UNSPACED.search(sentence) else 0.0
        score += FIGURE if _FIGURE.search(sentence) else 0.0
        score += NAME if _NAME.search(sentence) else 0.0
        score += QUESTION if sentence.endswith(("?", "？")) else 0.0
    return _Said(score, _cut(sentence), _FIGURES.sub("#", " ".join(words)))


def _cut(sentence: str) -> str:
    if len(sentence) <= SENTENCE_CHARS:
        return sentence
    return sentence[:SENTENCE_CHARS].rsplit(" ", 1)[0] + " …"
