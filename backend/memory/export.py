"""A session written out for people (Markdown) or programs (JSON).

A pure function of session and messages. Control characters of the texts become visible, so that printing an
export drives no terminal.
"""

from __future__ import annotations

import re
import time
import unicodedata
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from backend.memory.store import Export, ExportFormat
from backend.providers.redact import redact
from backend.schema.records import Session, StoredMessage

FILENAME_CHARS = 60
R = TypeVar("R", Session, StoredMessage)
_HOSTILE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def export(
    session: Session, messages: list[StoredMessage], format: ExportFormat, secrets: Sequence[str] = ()
) -> Export:
    """Write a session out; messages are given oldest first. What looks like a key, and `secrets`, is masked."""
    session = _masked(session, ("title", "preview"), secrets)
    messages = [_masked(message, ("content", "reasoning", "error"), secrets) for message in messages]
    base = _filename(session)
    if format == "json":
        document = {"session": session, "messages": messages}
        text = msgspec.json.format(msgspec.json.encode(document), indent=2).decode()
        return Export(f"{base}.json", _HOSTILE.sub(lambda m: f"\\u{ord(m[0]):04x}", text) + "\n")
    return Export(f"{base}.md", "\n".join(_markdown(session, messages)))


def _masked(record: R, fields: Sequence[str], secrets: Sequence[str]) -> R:
    """Return a copy whose texts hold no secret."""
    changes = {name: redact(getattr(record, name), *secrets) for name in fields}
    return msgspec.structs.replace(record, **changes)


def visible(text: str) -> str:
    """Return the text with control and direction characters replaced by visible ones; line ends stay."""
    return _HOSTILE.sub(_symbol, text.replace("\r\n", "\n"))


def _symbol(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"⟨{code:04X}⟩"


def _markdown(session: Session, messages: list[StoredMessage]) -> list[str]:
    lines = [
        f"# {visible(session.title) or 'Untitled session'}",
        "",
        f"Session {session.id} of {session.owner}, begun {_when(session.created_at)}, "
        f"last used {_when(session.updated_at)}, {len(messages)} messages.",
        "",
    ]
    for message in messages:
        facts = [_when(message.created_at)]
        if message.model:
            facts.append(visible(message.model))
        if message.pinned:
            facts.append("pinned")
        lines += [f"## {visible(message.author)} · {' · '.join(facts)}", ""]
        if message.content:
            lines += [visible(message.content).rstrip(), ""]
        if message.error_code:
            lines += [f"> **{message.error_code}**: {visible(message.error)}".replace("\n", "\n> "), ""]
    return lines


def _when(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(moment))


def _filename(session: Session) -> str:
    plain = unicodedata.normalize("NFKD", session.title).encode("ascii", "ignore").decode().lower()
    words = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:FILENAME_CHARS].strip("-")
    day = time.strftime("%Y-%m-%d", time.gmtime(session.created_at))
    return "-".join(part for part in (session.owner.removesuffix("-ai"), day, words or session.id) if part)
