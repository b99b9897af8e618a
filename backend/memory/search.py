"""How messages are found, the same in every store: the terms of a query looked up, hits compared, ranked and shown.

A store brings a `MessageIndex`: which messages have a word. An index may return too many messages, so each candidate is compared
with the query here; it must not return too few. What a word is, `memory.terms` says.
"""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from backend.memory.terms import WORD, Group, Term, fold, fold_with_origin, terms, topic_terms
from backend.memory.values import MEMORY_CHARS, check_integers
from backend.schema.frames import MemoryHit
from backend.schema.records import SearchHit, SearchPage, Session, StoredMessage

HIT_START, HIT_END = "\x02", "\x03"
SNIPPET_WORDS, WORDS_BEFORE_HIT = 16, 4
SNIPPET_CHARS, CHARS_BEFORE_HIT = 200, 40
MAX_LOOKED_AT_CHARS = 50_000
"""Only the beginning of a very long message is searched for its best part."""
MAX_COMPARED = 600
"""Candidates that one search compares with the query; what is older is left to the next page."""
MAX_LISTED, LISTED_AT_ONCE = 1_000, 250
"""Newest messages whose sessions a search for sessions lists, and how many are read before it is looked whether these do."""
PARTIAL_CANDIDATES = 60
"""Newest messages with one word that a search for some of the words looks at."""


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


class Searched:
    """The two methods of a `MessageStore` that find messages. An index each, as a store may do them in threads of their own."""

    def __init__(self, searching: MessageIndex, recalling: MessageIndex) -> None:
        self._searching, self._recalling = searching, recalling

    async def search(
        self,
        query: str,
        *,
        owner: str | None = None,
        session_id: str | None = None,
        before_id: int | None = None,
        limit: int = 20,
    ) -> SearchPage:
        check_integers(before_id=before_id, limit=limit)
        return await search(
            self._searching, query, owner=owner, session_id=session_id, before_id=before_id, limit=limit
        )

    async def recall(
        self, hints: Sequence[str], *, limit: int = 3, owners: Sequence[str] = (), exclude_session: str = ""
    ) -> list[MemoryHit]:
        check_integers(limit=limit)
        return await recall(
            self._recalling, hints, limit=limit, owners=owners, exclude_session=exclude_session
        )


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
        if not ids:
            before_id = None  # no older one, though the index may not hold all, or not stand for all words
            break
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
    asked = topic_terms(query)
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
    folded, origin = fold_with_origin(text[:MAX_LOOKED_AT_CHARS])
    spans = sorted(
        (origin[start], origin[end - 1] + 1)
        for term in asked
        for start, end in term.spans(folded)
        if end > start
    )
    words = [match.start() for match in WORD.finditer(text[:MAX_LOOKED_AT_CHARS])]
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
