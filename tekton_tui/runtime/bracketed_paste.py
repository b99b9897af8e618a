"""Finds bracketed pastes in the bytes of a terminal, before anything in them is taken for keys. Does no I/O.

Textual's parser reads escape sequences inside a paste as keys: a pasted log with colours would be scrambled, its carriage
returns would act as Enter, and pasted on a list its letters would run verbs. So neither the brackets nor what lies between
them ever reach that parser.
"""

from __future__ import annotations

from typing import Final

START: Final = b"\x1b[200~"
END: Final = b"\x1b[201~"
MAX_PASTE_BYTES: Final = 16 * 1024 * 1024
"""What is pasted beyond this is left out."""


class PasteSplitter:
    """Splits reads of any length into what was typed (`bytes`) and what was pasted (`str`), in order."""

    def __init__(self) -> None:
        self._paste: bytearray | None = None
        """The paste that is being received."""
        self._searched = 0
        """How much of it holds no end bracket."""
        self._held = b""
        """The beginning of a start bracket whose rest has not been read."""

    @property
    def waiting(self) -> bool:
        """Whether something is held back: what may begin a bracket, or a paste whose end has not come."""
        return bool(self._held) or self._paste is not None

    @property
    def pasting(self) -> bool:
        """Whether the end of a paste has not come."""
        return self._paste is not None

    def feed(self, data: bytes) -> list[bytes | str]:
        parts: list[bytes | str] = []
        data, self._held = self._held + data, b""
        while data:
            data = (self._typed if self._paste is None else self._pasted)(data, parts)
        return parts

    def flush(self) -> list[bytes | str]:
        """Return what is held back as if no more came: a paste without an end is a paste, half a bracket is keys."""
        parts: list[bytes | str] = []
        if self._paste is not None:
            parts.append(_text(self._paste))
            self._paste = None
        if self._held:
            parts.append(self._held)
            self._held = b""
        return parts

    def _typed(self, data: bytes, parts: list[bytes | str]) -> bytes:
        before, bracket, rest = data.partition(START)
        if bracket:
            self._paste, self._searched = bytearray(), 0
        else:
            kept = _beginning_of_bracket(before)
            before, self._held = before[: len(before) - kept], before[len(before) - kept :]
        if before:
            parts.append(before)
        return rest

    def _pasted(self, data: bytes, parts: list[bytes | str]) -> bytes:
        paste = self._paste
        assert paste is not None
        paste += data
        end = paste.find(END, self._searched)
        if end < 0:
            # the end may be cut by the read: its first bytes are searched again
            self._searched = max(0, len(paste) - len(END) + 1)
            if len(paste) > MAX_PASTE_BYTES + len(END):
                # Keep what may be the beginning of the end bracket.
                del paste[MAX_PASTE_BYTES : len(paste) - len(END)]
                self._searched = MAX_PASTE_BYTES
            return b""
        rest = bytes(paste[end + len(END) :])
        parts.append(_text(paste[:end]))
        self._paste = None
        return rest


def _beginning_of_bracket(data: bytes) -> int:
    """Return how many of the last bytes may begin a start bracket."""
    return next((n for n in range(len(START) - 1, 0, -1) if data.endswith(START[:n])), 0)


def _text(paste: bytes | bytearray) -> str:
    """Return a paste's text. Terminals send line ends as CR; NUL is nobody's text."""
    text = paste[:MAX_PASTE_BYTES].decode("utf-8", errors="replace")
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "")
