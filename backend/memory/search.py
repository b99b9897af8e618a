"""Full-text search over messages (FTS5), and the memories that fit a hint.

The query is text, never syntax: words are quoted before SQLite sees them. Knows nothing of who asks.
"""

from __future__ import annotations

import re
import sqlite3
from typing import Any

from backend.memory import messages
from backend.schema.frames import MemoryHit
from backend.schema.records import SearchHit

HIT_START, HIT_END = "\x02", "\x03"
SNIPPET_WORDS = 16
CANDIDATES = 1_000
"""Ranked are the newest so many matches of a word that stands everywhere; older ones are not looked at."""
MAX_TERMS = 16
HIT_CHARS = 1_200
"""A memory is cut to this length before it enters a prompt."""

_TERMS = re.compile(r'"([^"]*)"|([^\W_]+)')
_COMMON_WORDS = """
a about after all also am an and any are as at be been but by can could did do does for from had has have he
her hers him his how i if in into is it its just like me mine more most my no nor not of on or our ours out
please s she should so some t tell than that the their theirs them then there these they this those to too
us was we were what when where which who whom why will with would you your yours
"""
COMMON_WORDS = frozenset(_COMMON_WORDS.split())


def terms(query: str) -> list[str]:
    """Return the words and quoted phrases of a query, each once, in order, at most `MAX_TERMS`."""
    found: dict[str, None] = {}
    for phrase, word in _TERMS.findall(query):
        text = " ".join(re.findall(r"[^\W_]+", phrase)) if phrase else word
        if text:
            found[text.casefold()] = None
    return list(found)[:MAX_TERMS]


def all_words(query: str) -> str:
    """Return the FTS5 expression for messages that have every term, the last one as the beginning of a word."""
    quoted = [f'"{term}"' for term in terms(query)]
    if quoted and not query.rstrip().endswith('"'):
        quoted[-1] += " *"
    return " AND ".join(quoted)


def any_word(query: str) -> str:
    """Return the FTS5 expression for messages that have one term or more; very common words do not count."""
    telling = [term for term in terms(query) if term not in COMMON_WORDS]
    return " OR ".join(f'"{term}"' for term in telling)


def search(
    connection: sqlite3.Connection, query: str, owner: str | None, session_id: str | None, limit: int
) -> list[SearchHit]:
    """Return hits best first: messages with all the words, then, if too few, those with some of them."""
    hits = _hits(connection, all_words(query), owner, session_id, limit)
    if len(hits) < limit and len(terms(query)) > 1:
        seen = {hit.message.id for hit in hits}
        more = _hits(connection, any_word(query), owner, session_id, limit)
        hits += [hit for hit in more if hit.message.id not in seen][: limit - len(hits)]
    return hits


def sessions_with(connection: sqlite3.Connection, query: str) -> list[int]:
    """Return the row numbers of the sessions whose newest matches have all the words."""
    expression = all_words(query)
    if not expression:
        return []
    rows = connection.execute(
        "SELECT DISTINCT m.session FROM (SELECT rowid FROM found WHERE found MATCH ? ORDER BY rowid DESC LIMIT ?) f "
        "JOIN messages m ON m.id = f.rowid LIMIT 500",
        (expression, CANDIDATES),
    )
    return [int(row[0]) for row in rows]


def recall(
    connection: sqlite3.Connection, hints: list[str], limit: int, exclude_session: str
) -> list[MemoryHit]:
    """Return memories for the hints, each hint's best first in turn, equal texts once."""
    lists = [_best(connection, any_word(hint), None, None, limit * 3 + 3) for hint in hints]
    chosen: dict[str, MemoryHit] = {}
    for rank in range(max(map(len, lists), default=0)):
        for found in lists:
            if rank >= len(found) or len(chosen) == limit:
                continue
            message = messages.get(connection, found[rank][0])
            if message.session_id == exclude_session or not message.content.strip():
                continue
            text = message.content
            cut = text if len(text) <= HIT_CHARS else text[:HIT_CHARS].rstrip() + " […]"
            chosen.setdefault(text, MemoryHit(message.author, cut, message.created_at, message.session_id))
    return list(chosen.values())


def _best(
    connection: sqlite3.Connection, expression: str, owner: str | None, session_id: str | None, limit: int
) -> list[tuple[int, float]]:
    """Return ids and scores, best first; among equals the newest."""
    if not expression or limit < 1:
        return []
    joins, where, values = "", "", list[Any]()
    if owner is not None or session_id is not None:
        joins = "JOIN messages m ON m.id = found.rowid JOIN sessions s ON s.number = m.session"
        for column, value in (("s.owner", owner), ("s.id", session_id)):
            if value is not None:
                where += f" AND {column} = ?"
                values.append(value)
    rows = connection.execute(
        f"SELECT id, score FROM (SELECT found.rowid AS id, bm25(found) AS score FROM found {joins} "
        f"WHERE found MATCH ?{where} ORDER BY found.rowid DESC LIMIT ?) ORDER BY score, id DESC LIMIT ?",
        (expression, *values, CANDIDATES, limit),
    )
    return [(int(row[0]), -float(row[1])) for row in rows]


def _hits(
    connection: sqlite3.Connection, expression: str, owner: str | None, session_id: str | None, limit: int
) -> list[SearchHit]:
    hits: list[SearchHit] = []
    for message_id, score in _best(connection, expression, owner, session_id, limit):
        title, snippet = connection.execute(
            "SELECT s.title, snippet(found, 0, ?, ?, '…', ?) FROM found "
            "JOIN messages m ON m.id = found.rowid JOIN sessions s ON s.number = m.session "
            "WHERE found MATCH ? AND found.rowid = ?",
            (HIT_START, HIT_END, SNIPPET_WORDS, expression, message_id),
        ).fetchone()
        hits.append(SearchHit(messages.get(connection, message_id), title, snippet, score))
    return hits
