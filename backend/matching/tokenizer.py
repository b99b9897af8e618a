"""Requests as words: split, cut to their stems, misspelt ones corrected.

Pure. Knows English and its fill words; nothing of specialists.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import snowballstemmer

_snowball: Any = snowballstemmer  # its types say nothing of what a stemmer returns

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
_FILL_WORDS = """
a above again am an and any are as at b be been being below but by can cannot could did do does doing done during
each else ever few from further had has have having he her here hers him his how i if in into is it its itself just
kind let like lot made make makes making many may maybe me might more most much must my myself no nor not of off ok
okay on or our ours out own please put quite rather really s same shall she should so some such sure t take than that
the their them then there these they thing things this those though through to too under until us use very was we
were what when where whether which while who whom whose why will wish with within without would yes yet you your
yours teh hello hi hey thanks thank greetings
"""
FILL_WORDS = frozenset(_FILL_WORDS.split())
_SHORT_FORMS = {
    "n't": " not",
    "'re": " are",
    "'ve": " have",
    "'ll": " will",
    "'m": " am",
    "'d": " would",
    "'s": " s",
}
LEAST_TYPO_CHARS = 5
"""Shorter words are too near to each other to be corrected."""
SHORTEST_STEMMED = 3
"""Shorter words are their own stems."""
LONGEST_WORD = 64
"""Longer ones are no words of a language: they are their own stems and are not corrected."""


def words(text: str) -> list[str]:
    """Return the words of a text in order, small letters, short forms spelled out, hyphens as spaces."""
    plain = text.lower().replace("’", "'").replace("can't", "cannot").replace("won't", "will not")
    for short, spelled in _SHORT_FORMS.items():
        plain = plain.replace(short, spelled)
    return _WORD.findall(plain)


def stem(word: str) -> str:
    """Return the stem of a word of small letters, so that related forms meet (Porter's rules of 1980)."""
    return _stem(word) if SHORTEST_STEMMED <= len(word) <= LONGEST_WORD else word


@lru_cache(maxsize=20_000)
def _stem(word: str) -> str:
    # a stemmer holds the word it works on, so each call takes its own: threads share nothing
    return str(_snowball.stemmer("porter").stemWord(word))


class Speller:
    """Find the known word a misspelt one was meant to be: one letter wrong, missing, too many, or two swapped."""

    def __init__(self, known: Iterable[str]) -> None:
        self._known = {word for word in known if len(word) >= LEAST_TYPO_CHARS - 1}
        self._shortened: dict[str, list[str]] = {}
        for word in sorted(self._known):
            for variant in _shortenings(word):
                self._shortened.setdefault(variant, []).append(word)

    def nearest(self, word: str) -> str:
        """Return the nearest known word, empty when none is near; reads only the word's own letters."""
        if not LEAST_TYPO_CHARS <= len(word) <= LONGEST_WORD or not word.isalpha():
            return ""
        near = {other for variant in _shortenings(word) for other in self._shortened.get(variant, ())}
        near |= self._known & _shortenings(word)
        near |= set(self._shortened.get(word, ()))
        # the first letter is seldom wrong, and without this short words are near to everything
        alike = [other for other in near if other[0] == word[0] and _one_slip(word, other)]
        return min(alike, key=lambda other: (abs(len(other) - len(word)), other), default="")


def _shortenings(word: str) -> set[str]:
    """Return the word with one letter left out, each way."""
    return {word[:index] + word[index + 1 :] for index in range(len(word))}


def _one_slip(word: str, other: str) -> bool:
    """Return whether one insertion, deletion, substitution or swap of neighbours makes the words equal."""
    if abs(len(word) - len(other)) == 1:
        longer, shorter = (word, other) if len(word) > len(other) else (other, word)
        return shorter in _shortenings(longer)
    different = [index for index, (a, b) in enumerate(zip(word, other, strict=False)) if a != b]
    if len(word) != len(other) or len(different) > 2:
        return False
    if len(different) < 2:
        return True
    first, second = different
    return second == first + 1 and word[first] == other[second] and word[second] == other[first]
