"""Message texts as they lie in the database: plain, or packed when old.

Knows no table.
"""

from __future__ import annotations

import zlib

PACK_MIN_CHARS = 200
"""Shorter texts gain nothing by packing."""


def pack(text: str) -> str | bytes:
    """Return the text compressed, or unchanged where that would not make it smaller."""
    if len(text) < PACK_MIN_CHARS:
        return text
    plain = text.encode("utf-8", "surrogatepass")
    packed = zlib.compress(plain, 6)
    return packed if len(packed) < len(plain) else text


def unpack(stored: str | bytes) -> str:
    """Return the text of a stored value."""
    if isinstance(stored, str):
        return stored
    return zlib.decompress(stored).decode("utf-8", "surrogatepass")


def storable(text: str) -> str:
    """Return the text without what SQLite cannot keep: lone surrogates become U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text
