"""How what was sent for a turn is kept: texts once a session, those of its own messages not at all. Pure; knows no store."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from backend.memory.values import storable
from backend.schema.sent import SentTurn

GONE = "deleted since"
LATEST_USE_S = 3_600.0
"""How exactly it is known when a text was last used."""


def without_texts(turn: SentTurn) -> tuple[SentTurn, dict[str, str]]:
    """Return a turn without its texts, and those that are to be kept, by their digests."""
    texts = {part.digest: storable(part.text) for part in turn.parts if part.text and not part.message_id}
    parts = [msgspec.structs.replace(part, text="") for part in turn.parts]
    return msgspec.structs.replace(turn, parts=parts), texts


def own_texts(turn: SentTurn) -> list[str]:
    """Return the digests of the texts that are a turn's own words, and go with it: its prompt and how its answer begins."""
    return [part.digest for part in turn.parts if part.kind in ("prompt", "prefill") and not part.message_id]


def with_texts(turn: SentTurn, texts: Mapping[str, str], messages: Mapping[int, str]) -> SentTurn:
    """Return a turn with its texts again; a part whose text is nowhere any more says so."""
    for part in turn.parts:
        if not part.missing:
            text = messages.get(part.message_id) if part.message_id else texts.get(part.digest)
            part.text, part.missing = ("", GONE) if text is None else (text, "")
    return turn
