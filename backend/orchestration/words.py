"""Words of plain English for matching: the ones that carry meaning, their stems, the nearest to a misspelt one."""

from __future__ import annotations

import re
from collections.abc import Collection
from difflib import get_close_matches
from functools import lru_cache

_WORD = re.compile(r"[a-z0-9][a-z0-9+#_-]*")
_STOP = frozenset(
    """
    a about above again all also am an and any anyone anything are as at be because been before being
    below between both but by can cannot could did do does doing don done down during each either else
    ever every everything few for from further get gets getting give go goes going got had has have
    having he her here hers him his how i if in into is it its itself just kind know let like look lot
    made make makes making many may maybe me might more most much must my myself need needs no nor not
    now of off ok on once one only or other our ours out over own please put quite rather really right s
    same see shall she should so some someone something soon still such sure t take tell than that the
    their them then there these they thing things this those though through to too u under until up us
    use very want wants was we well were what when where whether which while who whom why will wish with
    within without won would yes yet you your yours
    """.split()
)
_SUFFIXES = (
    ("ization", "ize"), ("isation", "ize"), ("ational", "ate"), ("iveness", "ive"), ("fulness", "ful"),
    ("ousness", "ous"),
    ("ations", "ate"), ("ation", "ate"), ("ments", ""), ("ment", ""), ("nesses", ""), ("ness", ""), ("ings", ""),
    ("ing", ""), ("edly", ""), ("ies", "y"), ("ied", "y"), ("ers", "er"), ("es", "e"), ("ed", ""), ("ly", ""),
    ("s", ""),
)  # fmt: skip
MIN_STEM = 3
MIN_TYPO_CHARS = 5


def content_words(text: str) -> list[str]:
    """Return the words of a text that carry meaning, small letters, in order."""
    words: list[str] = []
    for word in _WORD.findall(text.lower().replace("'", "")):
        words += [part for part in re.split(r"[_-]", word) if part and part not in _STOP]
    return words


@lru_cache(maxsize=20_000)
def stem(word: str) -> str:
    """Return a word without its English endings; related forms meet, rarely more."""
    for suffix, instead in _SUFFIXES:
        if (
            word.endswith(suffix)
            and len(word) - len(suffix) >= MIN_STEM
            and not (suffix == "s" and word.endswith("ss"))
        ):
            word = word[: -len(suffix)] + instead
            break
    if len(word) > MIN_STEM + 1 and word[-1] == word[-2] and word[-1] not in "lsz":
        word = word[:-1]
    if len(word) > MIN_STEM + 1 and word.endswith("e"):
        word = word[:-1]
    if len(word) > MIN_STEM and word.endswith("y"):
        word = word[:-1] + "i"
    return word


def nearest(word: str, known: Collection[str]) -> str:
    """Return the known word a longer one was probably meant to be; empty when none is near."""
    if len(word) < MIN_TYPO_CHARS:
        return ""
    return _nearest(word, frozenset(known) if len(known) <= 5_000 else frozenset())


@lru_cache(maxsize=4_000)
def _nearest(word: str, known: frozenset[str]) -> str:
    alike = [other for other in known if other[0] == word[0] and abs(len(other) - len(word)) <= 2]
    found = get_close_matches(word, alike, n=1, cutoff=0.82)
    return found[0] if found else ""
