"""Read what is readable of a damaged registry file. Pure: bytes in, entries out."""

from __future__ import annotations

import json
import re

import msgspec

from backend.schema.records import RegistryEntry

_KEY = re.compile(r'"([A-Za-z0-9_.@-]{1,80})"\s*:\s*(?=\{)')
_table = msgspec.json.Decoder(dict[str, RegistryEntry])


def decode(data: bytes) -> dict[str, RegistryEntry]:
    """Return the entries of an intact file.

    Raises:
        msgspec.MsgspecError: The file is damaged, or was written by something else.
    """
    return _table.decode(data)


def salvage(data: bytes) -> dict[str, RegistryEntry]:
    """Return every entry that can still be read from a truncated, overwritten or hand-mangled file."""
    text = data.decode("utf-8", "replace")
    found: dict[str, RegistryEntry] = {}
    decoder = json.JSONDecoder()
    position = 0
    while match := _KEY.search(text, position):
        position = match.end()
        try:
            value, end = decoder.raw_decode(text, position)
            found[match[1]] = msgspec.convert(value, RegistryEntry)
        except (ValueError, RecursionError, msgspec.ValidationError):
            continue  # the search goes on inside what could not be read
        position = end
    return found
