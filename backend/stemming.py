"""English words cut to their stems by Porter's rules of 1980, so that related forms meet.

Pure. Knows letters only.
"""

from __future__ import annotations

import re
from functools import lru_cache

_MEASURE = re.compile(r"[aeiouy]+[^aeiouy]+")
_HAS_VOWEL = re.compile(r"[aeiou]|(?<=.)y")
_DOUBLE = re.compile(r"([^aeiou])\1$")
_SHORT_END = re.compile(r"(?:^|[^aeiou])[aeiouy][^aeiouwxy]$")
_SECOND = {
    "ational": "ate", "tional": "tion", "enci": "ence", "anci": "ance", "izer": "ize", "iser": "ize", "abli": "able",
    "alli": "al", "entli": "ent", "eli": "e", "ousli": "ous", "ization": "ize", "isation": "ize", "ation": "ate",
    "ator": "ate", "alism": "al", "iveness": "ive", "fulness": "ful", "ousness": "ous", "aliti": "al", "iviti": "ive",
    "biliti": "ble",
}  # fmt: skip
_THIRD = {
    "icate": "ic", "ative": "", "alize": "al", "alise": "al", "iciti": "ic", "ical": "ic", "ful": "", "ness": "",
}  # fmt: skip
_FOURTH = (
    "ement", "ance", "ence", "able", "ible", "ment", "ant", "ent", "ism", "ate", "iti", "ous", "ive", "ize", "ise",
    "al", "er", "ic", "ou",
)  # fmt: skip
SHORTEST = 3
"""Shorter words are their own stems."""


@lru_cache(maxsize=20_000)
def stem(word: str) -> str:
    """Return the stem of a word of small letters."""
    if len(word) < SHORTEST or not word.isascii() or not word.isalpha():
        return word
    word = _plural(word)
    word = _past_and_progressive(word)
    if word.endswith("y") and _HAS_VOWEL.search(word[:-1]):
        word = word[:-1] + "i"
    word = _replaced(word, _SECOND)
    word = _replaced(word, _THIRD)
    word = _stripped(word)
    return _without_last_e(word)


def _measure(part: str) -> int:
    """Return how often vowels are followed by consonants: Porter's length of a word."""
    return len(_MEASURE.findall(part))


def _plural(word: str) -> str:
    if word.endswith(("sses", "ies")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us")) else word


def _past_and_progressive(word: str) -> str:
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    for ending in ("ed", "ing"):
        part = word.removesuffix(ending)
        if part == word or not _HAS_VOWEL.search(part):
            continue
        if part.endswith(("at", "bl", "iz", "is")):
            return part + "e"
        if _DOUBLE.search(part) and part[-1] not in "lsz":
            return part[:-1]
        return part + "e" if _measure(part) == 1 and _SHORT_END.search(part) else part
    return word


def _replaced(word: str, endings: dict[str, str]) -> str:
    for ending in sorted(endings, key=len, reverse=True):
        if word.endswith(ending):
            part = word[: -len(ending)]
            return part + endings[ending] if _measure(part) > 0 else word
    return word


def _stripped(word: str) -> str:
    if word.endswith(("sion", "tion")) and _measure(word[:-3]) > 1:
        return word[:-3]
    for ending in _FOURTH:
        if word.endswith(ending):
            part = word[: -len(ending)]
            return part if _measure(part) > 1 else word
    return word


def _without_last_e(word: str) -> str:
    if word.endswith("e"):
        part = word[:-1]
        length = _measure(part)
        if length > 1 or (length == 1 and not _SHORT_END.search(part)):
            word = part
    return word[:-1] if word.endswith("ll") and _measure(word) > 1 else word
