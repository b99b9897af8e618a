"""What every store does to a value before it keeps it: texts made storable, cut, packed; numbers kept within bounds.

Pure; knows no store.
"""

from __future__ import annotations

import math
import zlib

import msgspec

from backend.memory.errors import OutOfRange
from backend.schema.content import Part, ToolResult
from backend.schema.records import MAX_INTEGER, ErrorRecord, StoredMessage, UsageRow

TITLE_CHARS = 200
AUTO_TITLE_CHARS = 60
PREVIEW_CHARS = 120
ERROR_MESSAGE_CHARS = 4_000
EVIDENCE_CHARS = 16_000
MEMORY_CHARS = 1_200
"""A memory is cut to this length before it enters a prompt."""
PACK_MIN_CHARS = 200
"""Shorter texts gain nothing by packing."""
MAX_TOKENS = 2**53
"""Most tokens one answer is counted for; a provider that reports more is wrong, and a sum must not overflow."""


def check_integers(**values: int | None) -> None:
    """Check ids and limits by name.

    Raises:
        OutOfRange: One is below 0 or above `MAX_INTEGER`.
    """
    for name, value in values.items():
        if value is not None and not 0 <= value <= MAX_INTEGER:
            raise OutOfRange(f"{name}: expected a whole number from 0 to {MAX_INTEGER}; found {value}")


def storable(text: str) -> str:
    """Return the text without what no encoding can hold: each lone surrogate becomes a question mark."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def one_line(text: str, chars: int) -> str:
    """Return the beginning of a text on one line, at most `chars` long, with an ellipsis where it was cut."""
    flat = " ".join(storable(text[: chars * 4]).split())
    return flat if len(flat) <= chars else flat[: chars - 1].rstrip() + "…"


def storable_message(message: StoredMessage) -> StoredMessage:
    """Return a copy of a message whose texts can be stored."""
    return msgspec.structs.replace(
        message,
        content=storable(message.content),
        error=storable(message.error),
        reasoning=storable(message.reasoning),
        parts=[storable_part(part) for part in message.parts],
    )


def storable_part(part: Part) -> Part:
    """Return a part whose texts can be stored; one that already can is returned as it is."""
    try:
        msgspec.json.encode(part)
    except UnicodeEncodeError:
        texts = {name: getattr(part, name) for name in part.__struct_fields__}
        changes: dict[str, object] = {
            name: storable(text) for name, text in texts.items() if isinstance(text, str)
        }
        if isinstance(part, ToolResult):
            changes["parts"] = [storable_part(inner) for inner in part.parts]
        return msgspec.structs.replace(part, **changes)
    return part


def auto_title(message: StoredMessage) -> str:
    """Return the title a message gives to a session that has none; empty unless the operator wrote it."""
    return one_line(message.content, AUTO_TITLE_CHARS) if message.role == "user" else ""


def storable_error(error: ErrorRecord) -> ErrorRecord:
    """Return a copy of a failure whose texts can be stored: of its message the beginning, of its evidence the end."""
    return msgspec.structs.replace(
        error,
        message=storable(error.message[:ERROR_MESSAGE_CHARS]),
        evidence=storable(error.evidence[-EVIDENCE_CHARS:]),
        count=max(error.count, 1),
    )


def storable_usage(row: UsageRow) -> UsageRow:
    """Return a copy of a usage row whose figures can be stored and added up."""
    return msgspec.structs.replace(
        row,
        tokens_in=min(max(row.tokens_in, 0), MAX_TOKENS),
        tokens_out=min(max(row.tokens_out, 0), MAX_TOKENS),
        cost=row.cost if math.isfinite(row.cost) else 0.0,
    )


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
