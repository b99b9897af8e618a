"""Texts as words, the same for what is stored and what is asked: folded, split, stemmed; and the terms of a query. Pure.

Latin and other spaced scripts are found by word, by word stem and by the beginning of the last word; scripts written without
spaces (Chinese, Japanese, Korean, Thai …) anywhere inside a text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

import snowballstemmer

_snowball: Any = snowballstemmer  # its types say nothing of what a stemmer returns

INDEX_VERSION = 2
"""Raised when texts are folded or split in another way: stores then make their indexes anew."""
MAX_TERMS = 16
MAX_QUERY_CHARS = 4_000
MAX_WORD_CHARS = 64
MAX_INDEXED_WORDS = 50_000
"""Different words of one message that are indexed; a longer text is found by its first ones."""

_COMMON_WORDS = """
a about after all also am an and any are as at be been but by can could did do does for from had has have he
her hers him his how i if in into is it its just like me mine more most my no nor not of on or our ours out
please s she should so some t tell than that the their theirs them then there these they this those to too
us was we were what when where which who whom why will with would you your yours
"""
COMMON_WORDS = frozenset(_COMMON_WORDS.split())
"""Words that say nothing of what a message is about."""

_UNSPACED = (
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3041-\u3096\u3099\u309a\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\U0001b000-\U0001b16f\U00020000-\U0003ffff"
    "\u0e01-\u0e30\u0e32\u0e33\u0e40-\u0e46\u0e81-\u0eb0\u0eb2\u0eb3\u0ebd-\u0ec6\u0edc-\u0edf\u1000-\u103f\u1050-\u109f\u1780-\u17d3"
)
# vowel signs of Indian scripts are marks, which `\w` does not take for part of a word
_INDIC = "\u0900-\u0963\u0966-\u0df3"
_SPACED = rf"[^\W_{_UNSPACED}]|[{_INDIC}]"
_PIECE = re.compile(rf"[{_UNSPACED}]+|(?:{_SPACED})+")
_IS_SPACED = re.compile(_SPACED).match
WORD = re.compile(rf"(?:[^\W_]|[{_INDIC}{_UNSPACED}])+")
_ASCII_PIECE = re.compile(r"[a-z0-9]+")
_IS_UNSPACED = re.compile(rf"[{_UNSPACED}]").match
_CHUNK = re.compile(r'"([^"]*)"|([^"]+)')
_ACCENTS = re.compile(r"[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]")


class _Folding(dict[int, int | str | None]):
    """What `str.translate` makes of a decomposed, case-folded character: accents and invisible characters go."""

    def __missing__(self, code: int) -> int | str | None:
        char = chr(code)
        category = unicodedata.category(char)
        # from U+0900 on only marks that are accents go: vowel signs of Indian scripts and voicing marks of kana stay
        accent = category in ("Mn", "Me") and (code < 0x0900 or _ACCENTS.match(char))
        self[code] = None if accent or category == "Cf" else code
        return self[code]


_FOLDING = _Folding(
    str.maketrans(
        {"ø": "o", "đ": "d", "ð": "d", "ł": "l", "ħ": "h", "ı": "i", "æ": "ae", "œ": "oe", "þ": "th"}
    )
)


def fold(text: str) -> str:
    """Return a text without case, accents and forms of a letter: `Straße` and `STRASSE` are equal then."""
    if text.isascii():
        return text.lower()
    plain = unicodedata.normalize("NFKD", text).casefold().translate(_FOLDING)
    return unicodedata.normalize("NFC", plain)


def index_words(text: str) -> dict[str, str]:
    """Return the different words of a text with the stem of each, in order.

    Of a run of a script without spaces, each two neighbouring characters are a word, and so is its last one.
    """
    folded = fold(text)
    pieces = dict.fromkeys(_pieces(folded))
    if not folded.isascii():
        pieces = _apart(pieces)
    # cut after the repeated ones went: an answer is stored while its last tokens are shown, so this has to be quick
    found = dict.fromkeys(piece[:MAX_WORD_CHARS] for piece in islice(pieces, MAX_INDEXED_WORDS))
    return {word: _stem(word) for word in found}


def _apart(pieces: Iterable[str]) -> dict[str, None]:
    """Return pieces with each run of a script without spaces as its pairs of characters."""
    found: dict[str, None] = {}
    for piece in pieces:
        found.update(dict.fromkeys(_pairs(piece) if _IS_UNSPACED(piece) else (piece,)))
        if len(found) >= MAX_INDEXED_WORDS:
            break
    return found


def _pieces(folded: str) -> list[str]:
    """Return the words of a folded text; where a script without spaces begins or ends, a word ends."""
    return (_ASCII_PIECE if folded.isascii() else _PIECE).findall(folded)


class Key(NamedTuple):
    """What an index is asked for: the messages with a word or stem, or with a word that begins like this."""

    text: str
    prefix: bool = False


Group = Sequence[Key]
"""Alternatives: a message has to have one of the keys."""


class Term:
    """One word or quoted phrase of a query. `pieces` follow one another; of an `open` one the last may go on."""

    def __init__(self, pieces: Sequence[str], *, open: bool = False) -> None:
        self.pieces, self.open = pieces, open
        self._stems = [_stem(piece) for piece in pieces]
        self._pattern: re.Pattern[str] | None = None

    def groups(self) -> Iterator[Group]:
        """Yield what an index holds for this term."""
        for place, piece in enumerate(self.pieces):
            piece, stemmed = piece[:MAX_WORD_CHARS], self._stems[place]
            if _IS_UNSPACED(piece):
                pairs = [Key(pair) for pair in _pairs(piece)[:-1]]
                yield from ([pair] for pair in pairs or [Key(piece, prefix=True)])
            elif self.open and place == len(self.pieces) - 1:
                yield (
                    [Key(piece, prefix=True)]
                    if stemmed.startswith(piece)
                    else [Key(piece, prefix=True), Key(stemmed)]
                )
            else:
                yield [Key(stemmed)]

    def spans(self, folded: str) -> Iterator[tuple[int, int]]:
        """Yield where the term stands in a folded text."""
        self._pattern = self._pattern or re.compile("".join(self._expressions()))
        begins_a_word = not _IS_UNSPACED(self.pieces[0])
        for match in self._pattern.finditer(folded):
            start = match.start()
            if begins_a_word and start and _IS_SPACED(folded, start - 1):
                continue
            if all(self._is_meant(word, place) for place, word in enumerate(match.groups())):
                yield match.span()

    def count(self, folded: str) -> int:
        """Return how often the term stands in a folded text."""
        return sum(1 for _ in self.spans(folded))

    def _expressions(self) -> Iterator[str]:
        """Yield the parts of a pattern that is met by what may be the term, one group for each piece."""
        last = len(self.pieces) - 1
        for place, (piece, stemmed) in enumerate(zip(self.pieces, self._stems, strict=True)):
            if place:
                yield r"[\W_]*"
            if _IS_UNSPACED(piece):
                # a run of its own script goes on before the first piece and after the last, but not in between
                before, after = f"(?<![{_UNSPACED}])" * (place > 0), f"(?![{_UNSPACED}])" * (place < last)
                yield f"{before}({re.escape(piece)}){after}"
            else:
                # words of one stem differ in its last letter at most, as pony and ponies do
                start = _common_start(piece, stemmed)[: max(1, len(stemmed) - 1)]
                yield f"({re.escape(start)}(?:{_SPACED})*)"

    def _is_meant(self, word: str, place: int) -> bool:
        wanted = self.pieces[place]
        if self.open and place == len(self.pieces) - 1 and word.startswith(wanted):
            return True
        return _stem(word) == self._stems[place]


def terms(query: str) -> list[Term]:
    """Return the words and quoted phrases of a query, each once, in order, at most `MAX_TERMS` of its first characters.

    The last one is open, unless the query ends with a quote.
    """
    folded = fold(query[:MAX_QUERY_CHARS])
    found: dict[tuple[str, ...], None] = {}
    for phrase, words in _CHUNK.findall(folded):
        for part in [phrase] if phrase else WORD.findall(words):
            if pieces := tuple(_pieces(part)):
                found[pieces] = None
    pieces = list(found)[:MAX_TERMS]
    last = len(pieces) - 1 if not folded.rstrip().endswith('"') else -1
    return [Term(each, open=place == last) for place, each in enumerate(pieces)]


def topic_terms(query: str) -> list[Term]:
    """Return the terms of a query that say what it is about, none of them open."""
    return [Term(term.pieces) for term in terms(query) if not COMMON_WORDS.issuperset(term.pieces)]


def fold_with_origin(text: str) -> tuple[str, Sequence[int]]:
    """Return a folded text and, for each of its characters, the place of the one in the text it came from."""
    if text.isascii():
        return text.lower(), range(len(text))
    folded: list[str] = []
    origin: list[int] = []
    # an accent belongs to the letter before it: they are folded together
    for match in re.finditer(r"(?s).[\u0300-\u036f\u3099\u309a\uff9e\uff9f]*", text):
        part = fold(match[0])
        folded.append(part)
        origin += [match.start()] * (len(part) - 1) + [match.end() - 1] * bool(part)
    return "".join(folded), origin


def _pairs(run: str) -> list[str]:
    """Return each two neighbouring characters of a run, and its last one."""
    return [run[place : place + 2] for place in range(len(run))]


@lru_cache(maxsize=50_000)
def _stem(word: str) -> str:
    """Return the stem of a folded word by Porter's rules; words of other alphabets are their own stems."""
    word = word[:MAX_WORD_CHARS]
    if not word.isascii() or not word.isalpha():
        return word
    # a stemmer holds the word it works on, so each call takes its own: threads share nothing
    return str(_snowball.stemmer("porter").stemWord(word))


def _common_start(one: str, other: str) -> str:
    size = next(
        (n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
    return one[:size]
