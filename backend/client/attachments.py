"""Files that go along with a question: pictures and PDFs as they are, text as text. Reads files; sends nothing."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

from backend.schema.content import FILE_HEAD, FilePart, ImagePart, TextPart
from backend.schema.errors import TektonError

MAX_ATTACHED_BYTES = 5 * 1024 * 1024
"""Of all files of one question: in base64 they must fit the one line that a worker takes."""
PICTURES = {
    b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif", b"RIFF": "image/webp",
}  # fmt: skip
"""What a picture's file begins with, and its type."""
PDF = b"%PDF-"


class NotAttached(TektonError):
    """A file cannot go along; the message names it and says why."""

    code = "invalid_request"


def attach_files(paths: Sequence[str | Path]) -> list[TextPart | ImagePart | FilePart]:
    """Return files as parts of a message, in order.

    Raises:
        NotAttached: One cannot be read, is neither text nor picture nor PDF, or they are too large together.
    """
    parts: list[TextPart | ImagePart | FilePart] = []
    left = MAX_ATTACHED_BYTES
    for path in map(Path, paths):
        data = _read(path, left)
        left -= len(data)
        parts.append(_part(path, data))
    return parts


def _read(path: Path, left: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(left + 1)
    except OSError as error:
        raise NotAttached(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) > left:
        size = path.stat().st_size
        raise NotAttached(
            f"{path} has {size:,} bytes: the files of a question may have {MAX_ATTACHED_BYTES:,} together"
        )
    return data


def _part(path: Path, data: bytes) -> TextPart | ImagePart | FilePart:
    kind = next((kind for start, kind in PICTURES.items() if data.startswith(start)), "")
    if kind:
        return ImagePart(kind, b64encode(data).decode(), name=path.name, size=len(data))
    if data.startswith(PDF):
        return FilePart(path.name, "application/pdf", b64encode(data).decode(), size=len(data))
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise NotAttached(f"{path} is neither text in UTF-8 nor a picture nor a PDF") from error
    return TextPart(f"{FILE_HEAD}{path.name}:\n{text}")
