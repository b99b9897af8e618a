"""Messages as the transcript takes them, from memory and from the stream."""

from __future__ import annotations

from typing import Any

from tekton_tui.stores import LiveTurn
from tekton_tui.transcript import Entry
from tekton_tui.wording import milliseconds, rate

TONES = ("specialist", "tone-1", "tone-3")


def tone_of(ai_id: str) -> str:
    """Return a specialist's colour; the same in every place, and never the operator's."""
    return TONES[sum(map(ord, ai_id)) % len(TONES)]


def stored_entry(message: dict[str, Any]) -> Entry:
    """Return a stored message (a `StoredMessage` as plain values)."""
    author = message["author"]
    if message["role"] == "user":
        key = f"ask:{message.get('request_id') or message['id']}"
        return Entry(
            key,
            "you",
            "user",
            message["content"],
            message["created_at"],
            "you",
            message_id=message["id"],
            pinned=message.get("pinned", False),
        )
    return Entry(
        message.get("request_id") or f"m{message['id']}",
        author.removesuffix("-ai"),
        "answer",
        message["content"],
        message["created_at"],
        tone_of(author),
        _footer(message),
        message.get("reasoning", ""),
        message.get("error_code") or "",
        error=message.get("error", ""),
        message_id=message["id"],
        pinned=message.get("pinned", False),
    )


def live_entry(turn: LiveTurn, *, of_user: bool = False) -> Entry:
    """Return a turn's prompt, or its answer as it begins."""
    if of_user:
        return Entry(f"ask:{turn.request_id}", "you", "user", turn.prompt, turn.started_at, "you")
    name = turn.ai_id.removesuffix("-ai")
    return Entry(turn.request_id, name, "answer", "", turn.started_at, tone_of(turn.ai_id))


def _footer(message: dict[str, Any]) -> str:
    parts: list[str] = []
    tokens = (message.get("usage") or {}).get("output_tokens", 0)
    first, total = message.get("first_token_ms"), message.get("total_time")
    if tokens:
        parts.append(f"{tokens} tok")
    if tokens > 1 and total and first is not None and total > first / 1000:
        parts.append(f"{rate((tokens - 1) / (total - first / 1000))} tok/s")
    if first is not None:
        parts.append(f"first {milliseconds(first)}")
    if message.get("finish_reason") == "length":
        parts.append("cut at its token limit")
    return " · ".join(parts)
