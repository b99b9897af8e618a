"""How messages are found, the same in every store: texts folded to words, queries read as terms, hits ranked and shown.

A store brings a `MessageIndex`: which messages have a word. An index may return too many messages, so each candidate is compared
with the query here; it must not return too few. Latin and other spaced scripts are found by word, by word stem and by the
beginning of the last word; scripts written without spaces (Chinese, Japanese, Korean, Thai …) anywhere inside a text.
"""

from __future__ import annotations

import asyncio
import math
import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple, Protocol

import snowballstemmer

from backend.memory.values import MEMORY_CHARS
from backend.schema.frames import MemoryHit
from backend.schema.records import SearchHit, SearchPage, Session, StoredMessage

_snowball: Any = snowballstemmer  # its types say nothing of what a stemmer returns

INDEX_VERSION = 2
"""Raised when texts are folded or split in another way: stores then make their indexes anew."""
HIT_START, HIT_END = "\x02", "\x03"
SNIPPET_WORDS, WORDS_BEFORE_HIT = 16, 4
SNIPPET_CHARS, CHARS_BEFORE_HIT = 200, 40
MAX_LOOKED_AT_CHARS = 50_000
"""Only the beginning of a very long message is searched for its best part."""
MAX_TERMS = 16
MAX_QUERY_CHARS = 4_000
MAX_WORD_CHARS = 64
MAX_INDEXED_WORDS = 50_000
"""Different words of one message that are indexed; a longer text is found by its first ones."""
MAX_COMPARED = 600
"""Candidates that one search compares with the query; what is older is left to the next page."""
MAX_LISTED, LISTED_AT_ONCE = 1_000, 250
"""Newest messages whose sessions a search for sessions lists, and how many are read before it is looked whether these do."""
PARTIAL_CANDIDATES = 60
"""Newest messages with one word that a search for some of the words looks at."""

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
_WORD = re.compile(rf"(?:[^\W_]|[{_INDIC}{_UNSPACED}])+")
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


class MessageIndex(Protocol):
    """The inverted index of a store."""

    async def newest(
        self,
        groups: Sequence[Group],
        *,
        limit: int,
        before_id: int | None = None,
        owners: Sequence[str] = (),
        session_id: str = "",
        without_session: str = "",
    ) -> tuple[list[int], bool]:
        """Return the newest ids that have a key of every group, newest first, and whether there are no others.

        `before_id` leaves out that one and all after it; the sessions are those of the owners, if any are given.
        """
        ...

    async def messages(self, ids: Sequence[int]) -> list[StoredMessage]:
        """Return the messages of these ids that exist, in this order."""
        ...

    async def sessions(self, ids: Iterable[str]) -> dict[str, Session]:
        """Return the sessions of these ids that exist; one that is being removed does not."""
        ...

    async def total(self) -> int:
        """Return about how many messages there are."""
        ...


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
        for part in [phrase] if phrase else _WORD.findall(words):
            if pieces := tuple(_pieces(part)):
                found[pieces] = None
    pieces = list(found)[:MAX_TERMS]
    last = len(pieces) - 1 if not folded.rstrip().endswith('"') else -1
    return [Term(each, open=place == last) for place, each in enumerate(pieces)]


def _topic_terms(query: str) -> list[Term]:
    """Return the terms of a query that say what it is about, none of them open."""
    return [Term(term.pieces) for term in terms(query) if not COMMON_WORDS.issuperset(term.pieces)]


async def search(
    index: MessageIndex,
    query: str,
    *,
    owner: str | None,
    session_id: str | None,
    before_id: int | None,
    limit: int,
) -> SearchPage:
    """Return messages with all the terms, newest first; where there are too few of them, those with some, best first."""
    asked = terms(query)
    page = SearchPage([])
    if not asked or not limit:
        return page
    scope = _Scope([owner] if owner is not None else [], session_id or "")
    groups = [group for term in asked for group in term.groups()]
    first_page = before_id is None
    size, compared, complete = limit, 0, False
    matching: list[StoredMessage] = []
    while len(matching) < limit and compared < MAX_COMPARED and not complete:
        ids, complete = await scope.newest(index, groups, size, before_id)
        if ids:
            matching += await asyncio.to_thread(_with_all, await index.messages(ids), asked)
            compared, before_id = compared + len(ids), ids[-1]
        # Nearly all candidates are hits, so few are read first and more only where those were not enough.
        size = min(size * 3, MAX_COMPARED)
    if len(matching) > limit:
        matching, complete, before_id = matching[:limit], False, matching[limit - 1].id
    page.hits = await _hits(index, matching, asked)
    page.more, page.before_id = not complete, None if complete else before_id
    if first_page and complete and len(page.hits) < limit and len(asked) > 1:
        there = {hit.message.id for hit in page.hits}
        some, more = await _with_some(index, query, scope, limit)
        found = [message for message in some if message.id not in there]
        page.hits += await _hits(index, found[: limit - len(page.hits)], asked)
        page.more = more or len(page.hits) == limit
    return page


async def recall(
    index: MessageIndex, hints: Sequence[str], *, limit: int, owners: Sequence[str], exclude_session: str
) -> list[MemoryHit]:
    """Return memories for the hints: the best of each in turn, equal texts once."""
    scope = _Scope(owners, without_session=exclude_session)
    lists = [(await _with_some(index, hint, scope, limit * 3 + 3))[0] for hint in hints]
    there = await index.sessions({message.session_id for found in lists for message in found})
    chosen: dict[str, MemoryHit] = {}
    for rank in range(max(map(len, lists), default=0)):
        for message in (found[rank] for found in lists if rank < len(found)):
            text = message.content
            if len(chosen) < limit and text.strip() and message.session_id in there:
                cut = text if len(text) <= MEMORY_CHARS else text[:MEMORY_CHARS].rstrip() + " […]"
                hit = MemoryHit(message.author, cut, message.created_at, message.session_id)
                chosen.setdefault(text, hit)
    return list(chosen.values())


async def sessions_with(
    index: MessageIndex, query: str, *, owner: str | None, archived: bool, limit: int
) -> tuple[set[str], bool]:
    """Return the ids of the sessions whose newest messages have all the terms, and whether there are no others.

    Stops soon after `limit` of them were found.
    """
    asked = terms(query)
    found: set[str] = set()
    if not asked:
        return found, True
    groups = [group for term in asked for group in term.groups()]
    scope = _Scope([owner] if owner is not None else [])
    ids, complete = await scope.newest(index, groups, MAX_LISTED, None)
    for start in range(0, len(ids), LISTED_AT_ONCE):
        if len(found) > limit:
            return found, False
        read = await index.messages(ids[start : start + LISTED_AT_ONCE])
        new = [message for message in read if message.session_id not in found]
        matching = await asyncio.to_thread(_with_all, new, asked)
        sessions = await index.sessions({message.session_id for message in matching})
        found |= {one.id for one in sessions.values() if archived or not one.archived}
    return found, complete


class _Scope(NamedTuple):
    """Where a search looks: the sessions of some owners (none: of all), one session (empty: any), all but one."""

    owners: Sequence[str]
    session_id: str = ""
    without_session: str = ""

    async def newest(
        self, index: MessageIndex, groups: Sequence[Group], limit: int, before_id: int | None
    ) -> tuple[list[int], bool]:
        return await index.newest(
            groups,
            limit=limit,
            before_id=before_id,
            owners=self.owners,
            session_id=self.session_id,
            without_session=self.without_session,
        )


async def _with_some(
    index: MessageIndex, query: str, scope: _Scope, limit: int
) -> tuple[list[StoredMessage], bool]:
    """Return messages with one telling term or more, best first, and whether there are others."""
    asked = _topic_terms(query)
    if not asked or not limit:
        return [], False
    total = await index.total()
    weights: dict[int, float] = {}
    rarities: list[float] = []
    more = False
    for term in asked:
        ids, complete = await scope.newest(index, list(term.groups()), PARTIAL_CANDIDATES, None)
        more = more or not complete
        rarities.append(_rarity(ids, total, complete=complete))
        for number in ids:
            weights[number] = weights.get(number, 0.0) + rarities[-1]
    likely = sorted(weights, key=lambda number: (-weights[number], -number))
    compared = likely[: max(PARTIAL_CANDIDATES, limit)]
    messages = await index.messages(compared)

    def rank() -> list[StoredMessage]:
        scored = [(_score(message.content, asked, rarities), message) for message in messages]
        best = sorted((pair for pair in scored if pair[0] > 0), key=lambda pair: (-pair[0], -pair[1].id))
        return [message for _, message in best]

    best = await asyncio.to_thread(rank)
    return best[:limit], more or len(best) > limit or len(likely) > len(compared)


def _rarity(newest: Sequence[int], total: int, *, complete: bool) -> float:
    """Return how telling a term is: BM25's weight, its number of messages estimated from the span of the newest."""
    matches = len(newest)
    if not complete and newest:
        matches = max(matches, int(matches / (newest[0] - newest[-1] + 1) * total))
    return math.log(1 + (max(total - matches, 0) + 0.5) / (matches + 0.5))


def _score(text: str, asked: Sequence[Term], weights: Sequence[float]) -> float:
    """Return the BM25 score of a text (constants k1 1.2, b 0.75; a usual message has 400 characters)."""
    folded = fold(text)
    long = 1.2 * (0.25 + 0.75 * len(folded) / 400)
    counts = (term.count(folded) for term in asked)
    return sum(weight * 2.2 * n / (n + long) for weight, n in zip(weights, counts, strict=True) if n)


def _has_all(folded: str, asked: Iterable[Term]) -> bool:
    return all(any(True for _ in term.spans(folded)) for term in asked)


def _with_all(read: Iterable[StoredMessage], asked: Sequence[Term]) -> list[StoredMessage]:
    """Return the messages that have all the terms."""
    return [message for message in read if _has_all(fold(message.content), asked)]


async def _hits(
    index: MessageIndex, found: Sequence[StoredMessage], asked: Sequence[Term]
) -> list[SearchHit]:
    """Return messages as hits, with the titles of their sessions; those whose session is gone are left out."""
    sessions = await index.sessions({message.session_id for message in found})

    def shown() -> list[SearchHit]:
        return [
            SearchHit(
                message,
                sessions[message.session_id].title,
                snippet(message.content, asked),
                _score(message.content, asked, [1.0] * len(asked)),
            )
            for message in found
            if message.session_id in sessions
        ]

    return await asyncio.to_thread(shown) if found else []


def snippet(text: str, asked: Sequence[Term]) -> str:
    """Return the part of a text with most hits of the terms, each hit between U+0002 and U+0003.

    It has at most `SNIPPET_WORDS` words and `SNIPPET_CHARS` characters.
    """
    folded, origin = _fold_with_origin(text[:MAX_LOOKED_AT_CHARS])
    spans = sorted(
        (origin[start], origin[end - 1] + 1)
        for term in asked
        for start, end in term.spans(folded)
        if end > start
    )
    words = [match.start() for match in _WORD.finditer(text[:MAX_LOOKED_AT_CHARS])]
    left = _best_start(words, [start for start, _ in spans])
    last = bisect_right(words, left) - 1 + SNIPPET_WORDS
    right = words[last] if last < len(words) else len(text)
    if right - left > SNIPPET_CHARS:
        # long words, or a run without spaces: cut around the first hit
        first = next((start for start, _ in spans if start >= left), left)
        left = max(left, first - CHARS_BEFORE_HIT)
        right = min(right, left + SNIPPET_CHARS)
    parts, place = ["…" if left else ""], left
    for start, end in spans:
        if place <= start and end <= right:
            parts += [text[place:start], HIT_START, text[start:end], HIT_END]
            place = end
    return "".join([*parts, text[place:right].rstrip(), "…" if right < len(text) else ""])


def _best_start(words: Sequence[int], hits: Sequence[int]) -> int:
    """Return where the part with most hits begins, some words before its first one; the earliest such.

    Takes the places of all words and of all hits.
    """
    best, best_count = 0, 0
    for number, hit in enumerate(hits):
        first = max(0, bisect_right(words, hit) - 1 - WORDS_BEFORE_HIT)
        end = words[first + SNIPPET_WORDS] if first + SNIPPET_WORDS < len(words) else math.inf
        count = bisect_left(hits, end) - number
        if count > best_count:
            best, best_count = words[first] if first else 0, count
    return best


def _fold_with_origin(text: str) -> tuple[str, Sequence[int]]:
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
