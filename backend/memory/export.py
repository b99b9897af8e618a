"""A session written out for people (Markdown) or programs (JSON).

Control characters of the texts become visible, so that printing an export drives no terminal.
"""

from __future__ import annotations

import asyncio
import re
import time
import unicodedata
from collections.abc import Sequence
from typing import Literal, TypeVar

import msgspec

from backend.log import redact
from backend.memory.store import MessageStore, SessionStore
from backend.schema import content
from backend.schema.records import Export, Session, StoredMessage
from backend.text import escaped, safe

ExportFormat = Literal["md", "json"]
FILENAME_CHARS = 60
PAGE_MESSAGES = 2_000
"""Messages read at once."""
R = TypeVar("R", Session, StoredMessage)


async def export_session(
    sessions: SessionStore,
    messages: MessageStore,
    session_id: str,
    format: ExportFormat = "md",
    *,
    secrets: Sequence[str] = (),
) -> Export:
    """Return a whole session as text; what looks like a key is masked, and so is each of `secrets`.

    Raises:
        UnknownSession: No session has this id.
    """
    session = await sessions.get(session_id)
    read: list[StoredMessage] = []
    while page := await messages.read(session_id, after_id=read[-1].id if read else 0, limit=PAGE_MESSAGES):
        read += page
    return await asyncio.to_thread(_write, session, read, format, secrets)


def _write(
    session: Session, messages: list[StoredMessage], format: ExportFormat, secrets: Sequence[str]
) -> Export:
    """Write a session out; messages are given oldest first."""
    session = _masked(session, ("title", "preview"), secrets)
    messages = [_masked_message(message, secrets) for message in messages]
    base = _filename(session)
    if format == "json":
        document = {"session": session, "messages": messages}
        text = msgspec.json.format(msgspec.json.encode(document), indent=2).decode()
        return Export(f"{base}.json", f"{escaped(text)}\n")
    return Export(f"{base}.md", "\n".join(_markdown(session, messages)))


def _masked(record: R, fields: Sequence[str], secrets: Sequence[str]) -> R:
    """Return a copy whose texts hold no secret."""
    changes = {name: redact(getattr(record, name), *secrets) for name in fields}
    return msgspec.structs.replace(record, **changes)


def _masked_message(message: StoredMessage, secrets: Sequence[str]) -> StoredMessage:
    masked = _masked(message, ("content", "reasoning", "error"), secrets)
    masked.parts = [_masked_part(part, secrets) for part in message.parts]
    return masked


def _masked_part(part: content.Part, secrets: Sequence[str]) -> content.Part:
    """Return a copy of a part whose words hold no secret; bytes and signatures stay as they are."""
    match part:
        case content.TextPart() | content.ReasoningPart() | content.RefusalPart():
            return msgspec.structs.replace(part, text=redact(part.text, *secrets))
        case content.ToolCall():
            return msgspec.structs.replace(part, arguments=redact(part.arguments, *secrets))
        case content.ToolResult():
            inner = [_masked_part(one, secrets) for one in part.parts]
            return msgspec.structs.replace(part, content=redact(part.content, *secrets), parts=inner)
        case _:
            return part


def visible(text: str) -> str:
    """Return the text with what is hostile or hidden in it as symbols; line ends stay."""
    return safe(text.replace("\r\n", "\n"))


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
        for part in message.parts:
            lines += _part_lines(part)
        if message.error_code:
            lines += [f"> **{message.error_code}**: {visible(message.error)}".replace("\n", "\n> "), ""]
    return lines


def _part_lines(part: content.Part) -> list[str]:
    """Return what a part is beside the message's text."""
    match part:
        case content.ImagePart() | content.FilePart():
            kind = "image" if isinstance(part, content.ImagePart) else "file"
            where = f", {visible(part.url)[:200]}" if part.url else ""
            named = f" {visible(part.name)}" if part.name else ""
            size = part.size or content.size_of(part.data)
            return [
                f"*{kind}{named} ({visible(part.media_type) or 'type unknown'}, {size:,} bytes{where})*",
                "",
            ]
        case content.ToolCall():
            return [f"*asked for the tool {visible(part.name)}:*", "", *_fenced(part.arguments), ""]
        case content.ToolResult():
            how = "failed" if part.is_error else "gave"
            text = part.content or "(no text)"
            return [f"*the tool {visible(part.name or part.call_id)} {how}:*", "", *_fenced(text), ""]
        case _:
            return []


def _fenced(text: str) -> list[str]:
    """Return a text as an indented block, which nothing inside it can end."""
    return [f"    {line}" for line in visible(text).split("\n")]


def _when(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(moment))


def _filename(session: Session) -> str:
    plain = unicodedata.normalize("NFKD", session.title).encode("ascii", "ignore").decode().lower()
    words = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:FILENAME_CHARS].strip("-")
    day = time.strftime("%Y-%m-%d", time.gmtime(session.created_at))
    return "-".join(part for part in (session.owner.removesuffix("-ai"), day, words or session.id) if part)
