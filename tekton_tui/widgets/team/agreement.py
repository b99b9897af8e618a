"""How much answers agree, by the words they share; pure, and honest about what it is.

Two answers *agree* here when their leading terms overlap. The terms of an answer are the first `MAX_TERMS` different words
of its prose, without those of the question (everybody repeats these), without common English words, and without a
plural's `s`; text without spaces between words counts by pairs of characters. Two answers agree when the smaller set of
terms shares at least `LEAST_SHARE` of it, and at least `LEAST_TERMS` terms, with the other. It is a measure of words:
it finds those who name the same thing, and cannot tell yes from no. No model is asked.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import takewhile
from typing import Final, Literal

MAX_TERMS: Final = 40
LEAST_SHARE: Final = 1 / 3
LEAST_TERMS: Final = 2
MAX_CHARS: Final = 4_000
"""Of an answer looked at."""

Stance = Literal["agrees", "objects", "no view"]
"""How a member stands to a joint answer, as whoever wrote that says."""
JOINT_ASKED: Final = (
    "Write one joint answer from the answers above. Then add three lines, each with names of their authors. "
    "Agree: who holds that view. Object: who contradicts it. No view: who says nothing of it."
)
"""What whoever writes a joint answer is told; `stances` reads the three lines."""

_STANCES: Final[dict[str, Stance]] = {"agree": "agrees", "object": "objects", "no view": "no view"}
_EXCEPT: Final = {"but", "except", "not"}
"""Words that turn who is named into who is not meant."""
_stance_words: Final = re.compile(r"\b(agree|object|no view)\w{0,4}\W{0,3}[:：]", re.IGNORECASE).split
_remarks: Final = re.compile(r"\([^()]*\)?").sub
_parts: Final = re.compile(r"[,;、，；/&:：]|\band\b").split
_item: Final = re.compile(r"\s*(?:[-*+•·]|\d+[.)])\s").match
_names: Final = re.compile(r"\w+(?:[-.]\w+)*").findall
_words: Final = re.compile(r"[^\W_]+(?:[-.'][^\W_]+)*").finditer
_code: Final = re.compile(r"```.*?(?:```|\Z)", re.DOTALL).sub
_COMMON: Final = frozenset(
    "a about after all also an and any are as at be because been before but by can could did do does each first for "
    "from had has have how i if in into is it its just like may more most must my no not of on one only or other our "
    "out over should so some such than that the their them then there these they this those to two under up was we "
    "were what when where which while who why will with would you your".split()
)


def terms(text: str, question: str = "") -> frozenset[str]:
    """Return the leading terms of an answer."""
    return _leading_terms(text[:MAX_CHARS], question)


# whenever one answers, the answers of all others are compared again
@lru_cache(maxsize=100)
def _leading_terms(text: str, question: str) -> frozenset[str]:
    asked = set(_terms(question))
    found: dict[str, None] = {}
    # code is full of words that everybody's code has
    for term in _terms(_code(" ", text)):
        if term not in asked:
            found[term] = None
            if len(found) == MAX_TERMS:
                break
    return frozenset(found)


def agrees(one: frozenset[str], other: frozenset[str]) -> bool:
    """Whether two answers share enough of their terms."""
    shared, smaller = len(one & other), min(len(one), len(other))
    return shared >= min(LEAST_TERMS, smaller) and smaller > 0 and shared >= LEAST_SHARE * smaller


def agreements(answers: Mapping[str, str], question: str) -> dict[str, set[str]]:
    """Return by name those whose answers agree with that answer."""
    sets = {name: terms(text, question) for name, text in answers.items()}
    return {
        name: {other for other in sets if other != name and agrees(own, sets[other])}
        for name, own in sets.items()
    }


def stances(joint: str, names: Iterable[str]) -> dict[str, Stance]:
    """Return how members stand to a joint answer, in their order, by the lines that `JOINT_ASKED` asks for.

    Named is who a part of such a line begins with: what is said of somebody may name others. A line without any text has
    its names in the list below it. Who stands on none of them is left out, and so is who stands on two: a small model
    writes all names on each.
    """
    known = {name.casefold(): name for name in names}
    found: dict[str, set[Stance]] = {}
    above: Stance | None = None  # what a list of names stands below
    for line in joint.splitlines():
        said: list[tuple[Stance, str]] = []
        item = _item(line)
        before, *rest = _stance_words(line)
        if rest and not any(map(str.isalpha, before)):
            said = [
                (_STANCES[word.casefold()], text) for word, text in zip(rest[::2], rest[1::2], strict=True)
            ]
            above = None if any(map(str.isalnum, said[-1][1])) else said[-1][0]
        elif item and above is not None:
            said = [(above, line[item.end() :])]
        elif line.strip():
            above = None
        for stance, text in said:
            for name in _named(text.casefold(), known):
                found.setdefault(known[name], set()).add(stance)
    return {name: found[name].pop() for name in known.values() if len(found.get(name, ())) == 1}


def _named(text: str, known: Collection[str]) -> Iterator[str]:
    """Return the names that parts of a text begin with; none where it says who is not meant."""
    if not _EXCEPT.isdisjoint(_names(text)):
        return
    for part in _parts(_remarks(" ", text)):
        yield from takewhile(known.__contains__, _names(part))


def _terms(text: str) -> Iterator[str]:
    """Return the terms of a text in their order, some more than once; read no further than they are taken."""
    for match in _words(text.casefold()):
        word = match[0]
        if _is_dense(word):
            yield from (word[at : at + 2] for at in range(len(word) - 1))
        elif word not in _COMMON and (len(word) > 2 or word.isdigit()):
            yield word[:-1] if len(word) > 3 and word.endswith("s") and word.isascii() else word


def _is_dense(word: str) -> bool:
    """Whether a word is of a script that puts no spaces between words."""
    return (
        "\u2e80" <= word[0] <= "\u9fff" or "\uac00" <= word[0] <= "\ud7af" or "\u0e00" <= word[0] <= "\u0eff"
    )
