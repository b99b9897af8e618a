"""Text as it comes in pieces: characters that were cut in two, thinking that stands in the middle of text. Pure."""

from __future__ import annotations

import re

from backend.wire import encodable

THINKING_TAGS = {
    "<think>": "</think>", "<thinking>": "</thinking>", "<thought>": "</thought>", "<reasoning>": "</reasoning>",
    "[THINK]": "[/THINK]", "◁think▷": "◁/think▷",
}  # fmt: skip
_SURROGATE = re.compile("[\ud800-\udfff]")
_HIGH = re.compile("[\ud800-\udbff]\\Z")


class SurrogateJoiner:
    """Joins characters that were split over two JSON strings; half of one is replaced by U+FFFD.

    Servers that cut their text at UTF-16 units send such halves, and no encoder after us accepts them.
    """

    def __init__(self) -> None:
        self._half = ""

    def feed(self, text: str) -> str:
        """Return what can be shown now; may be empty."""
        if not self._half and (text.isascii() or not _SURROGATE.search(text)):
            return text
        text, self._half = self._half + text, ""
        if _HIGH.search(text):
            text, self._half = text[:-1], text[-1]
        return encodable(text)

    def rest(self) -> str:
        """Return U+FFFD for a half whose other half never came."""
        half, self._half = self._half, ""
        return "\ufffd" if half else ""


class ThinkingTags:
    """Separates thinking from text where a server sends both in one: in `<think>` and the like, at the answer's start.

    Later in an answer a tag is text: people ask about tags.
    """

    def __init__(self) -> None:
        self._held = ""
        self._close = ""
        self._begun = False
        self.separated = False
        """Whether a block of thinking has ended."""

    def feed(self, text: str) -> list[tuple[bool, str]]:
        """Return what is decided now, as pairs of whether it is thinking and the text."""
        if self._begun:
            return [(False, text)]
        self._held += text
        decided: list[tuple[bool, str]] = []
        while not self._begun:
            before = self._held
            if self._close:
                self._inside(decided)
            else:
                self._at_start(decided)
            if self._held == before:
                break
        return [(thinking, piece) for thinking, piece in decided if piece]

    def rest(self) -> list[tuple[bool, str]]:
        """Return what was held back until more came."""
        held, self._held = self._held, ""
        return [(bool(self._close), held)] if held and not (self.separated and not held.strip()) else []

    def _at_start(self, decided: list[tuple[bool, str]]) -> None:
        start = self._held.lstrip()
        tag = next((tag for tag in THINKING_TAGS if start.startswith(tag)), "")
        if tag:
            self._close, self._held = THINKING_TAGS[tag], start[len(tag) :]
        elif start and not any(tag.startswith(start) for tag in THINKING_TAGS):
            decided.append((False, start if self.separated else self._held))
            self._held, self._begun = "", True

    def _inside(self, decided: list[tuple[bool, str]]) -> None:
        thinking, closed, after = self._held.partition(self._close)
        if closed:
            decided.append((True, thinking))
            self._held, self._close, self.separated = after, "", True
            return
        kept = next(
            (size for size in range(min(len(self._close) - 1, len(thinking)), 0, -1)
             if self._close.startswith(thinking[-size:])),
            0,
        )  # fmt: skip
        decided.append((True, thinking[: len(thinking) - kept]))
        self._held = thinking[len(thinking) - kept :]
