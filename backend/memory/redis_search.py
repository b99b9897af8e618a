"""Search over messages in Redis: sets of message ids by word, met in the server, ranked here.

A plain Redis server has no full-text search; what differs from the embedded store is told in `docs/cluster.md`.
Knows nothing of who asks.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from backend.memory import redis_messages as messages
from backend.memory import redis_scripts as scripts
from backend.memory import redis_sessions as sessions
from backend.memory.redis_link import RedisLane
from backend.memory.redis_sessions import PREFIX
from backend.memory.redis_terms import has_phrase, rarity, score, snippet, words
from backend.memory.search import COMMON_WORDS, HIT_CHARS, terms
from backend.schema.frames import MemoryHit
from backend.schema.records import SearchHit, StoredMessage

CANDIDATES = 300
"""Ranked are the newest so many matches; older ones are not looked at."""
LOOKED_AT = 3_000
"""So many of the newest messages with the rarest word are compared with the other words."""
EXPANSIONS = 40
"""The last word of a query stands for so many words that begin with it."""


@dataclass(frozen=True)
class _Found:
    message: StoredMessage
    score: float


async def search(
    lane: RedisLane, query: str, owner: str | None, session_id: str | None, limit: int
) -> list[SearchHit]:
    """Return hits best first: messages with all the words, then, if too few, those with some of them."""
    scope = _scope(owner, session_id)
    found, marks = await _with_all(lane, query, scope)
    found = found[:limit]
    if len(found) < limit and len(terms(query)) > 1:
        seen = {hit.message.id for hit in found}
        more = await _with_any(lane, query, scope, limit)
        found += [hit for hit in more if hit.message.id not in seen][: limit - len(found)]
    there = await sessions.titles(lane, [hit.message.session_id for hit in found])
    return [
        SearchHit(
            hit.message, there[hit.message.session_id].title, snippet(hit.message.content, marks), hit.score
        )
        for hit in found
        if hit.message.session_id in there
    ]


async def sessions_with(lane: RedisLane, query: str) -> set[str]:
    """Return the ids of the sessions whose newest matches have all the words."""
    found, _ = await _with_all(lane, query, [])
    return {hit.message.session_id for hit in found}


async def recall(lane: RedisLane, hints: list[str], limit: int, exclude_session: str) -> list[MemoryHit]:
    """Return memories for the hints, each hint's best first in turn, equal texts once."""
    lists = [await _with_any(lane, hint, [], limit * 3 + 3) for hint in hints]
    there = await sessions.titles(lane, [hit.message.session_id for found in lists for hit in found])
    chosen: dict[str, MemoryHit] = {}
    for rank in range(max(map(len, lists), default=0)):
        for found in lists:
            if rank >= len(found) or len(chosen) == limit:
                continue
            message = found[rank].message
            if message.session_id == exclude_session or message.session_id not in there:
                continue
            if text := message.content.strip() and message.content:
                cut = text if len(text) <= HIT_CHARS else text[:HIT_CHARS].rstrip() + " […]"
                hit = MemoryHit(message.author, cut, message.created_at, message.session_id)
                chosen.setdefault(text, hit)
    return list(chosen.values())


def _scope(owner: str | None, session_id: str | None) -> list[list[str]]:
    groups: list[list[str]] = []
    if owner is not None:
        groups.append([f"om:{owner}"])
    if session_id is not None:
        groups.append([f"sm:{session_id}"])
    return groups


async def _with_all(lane: RedisLane, query: str, scope: list[list[str]]) -> tuple[list[_Found], list[str]]:
    """Return the newest messages that have every term, best first, and what to mark in them.

    The last term is met by its beginning, unless the query ends with a quote.
    """
    asked = [words(term) for term in terms(query)]
    asked = [term for term in asked if term]
    if not asked:
        return [], []
    groups = [[word] for term in asked for word in term]
    marks = [group[0] for group in groups]
    if not query.rstrip().endswith('"'):
        groups[-1] = await _expanded(lane, marks[-1])
        marks[-1] += "*"
    if not groups[-1]:
        return [], marks
    ids = await _meet(lane, [*([f"w:{word}" for word in group] for group in groups), *scope])
    phrases = [term for term in asked if len(term) > 1]
    open_end = asked[-1] if marks[-1].endswith("*") else None
    rarities = await _rarities(lane, [word for group in groups for word in group])
    found: list[_Found] = []
    for message in await messages.read(lane, ids):
        text = words(message.content)
        if all(phrase is open_end or has_phrase(text, phrase) for phrase in phrases):
            found.append(_Found(message, score(text, rarities)))
    return sorted(found, key=lambda hit: (-hit.score, -hit.message.id)), marks


async def _with_any(lane: RedisLane, query: str, scope: list[list[str]], limit: int) -> list[_Found]:
    """Return messages that have one term or more, best first; very common words do not count."""
    telling = [term for term in terms(query) if term not in COMMON_WORDS]
    asked = list(dict.fromkeys(word for term in telling for word in words(term)))
    if not asked or limit < 1:
        return []
    rarities = await _rarities(lane, asked)
    weights: dict[int, float] = {}
    for word in asked:
        for number in await _meet(lane, [[f"w:{word}"], *scope]):
            weights[number] = weights.get(number, 0.0) + rarities[word]
    likely = sorted(weights, key=lambda number: (-weights[number], -number))[: max(CANDIDATES, limit)]
    found = [_Found(m, score(words(m.content), rarities)) for m in await messages.read(lane, likely)]
    return sorted(found, key=lambda hit: (-hit.score, -hit.message.id))[:limit]


async def _meet(lane: RedisLane, groups: list[list[str]]) -> list[int]:
    """Return the newest ids that are in one set of each group at least, newest first."""
    names = msgspec.json.encode(groups)
    command = lane.script(scripts.FIND, PREFIX, names, CANDIDATES, LOOKED_AT)
    return [int(number) for number in await lane.call(*command)]


async def _expanded(lane: RedisLane, word: str) -> list[str]:
    low, high = b"[" + word.encode("utf-8", "replace"), b"(" + word.encode("utf-8", "replace") + b"\xff"
    found = await lane.call("ZRANGE", f"{PREFIX}words", low, high, "BYLEX", "LIMIT", 0, EXPANSIONS)
    return [word.decode() for word in found]


async def _rarities(lane: RedisLane, asked: list[str]) -> dict[str, float]:
    counts = await lane.batch([("ZCARD", f"{PREFIX}w:{word}") for word in asked] + [("HLEN", f"{PREFIX}m")])
    return {word: rarity(int(n), int(counts[-1])) for word, n in zip(asked, counts[:-1], strict=True)}
