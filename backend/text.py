"""Characters in foreign text that steer a terminal, reorder a line or hide: one table for every surface that shows text.

Foreign is whatever a model, an upstream, a log, a client, a file or an argument says. Hidden here means that Unicode calls
it default-ignorable, a control or a format character. A few of these belong to graphemes people write: a variation
selector behind an emoji, a joiner in Arabic or Hindi, the tags of the flag of Scotland. They stay there, one for each
grapheme, and are hostile anywhere else. Sources: Unicode 16, DerivedCoreProperties (Default_Ignorable_Code_Point),
emoji-variation-sequences, UTS 51 (tag sequences).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Final

_HOSTILE: Final = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 without tab and line feed, DEL, C1: 8-bit CSI, OSC, DCS …
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    "\ud800-\udfff"  # lone surrogates cannot be encoded for a terminal
)
_BLANK_BRAILLE: Final = "\u2800"
"""Looks like a space and is none; becomes one, so that drawings in Braille keep their shape."""
_FLAG: Final = "\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{2,6}\U000e007f"
_found: Final = re.compile(f"{_FLAG}|[{_BLANK_BRAILLE}{_HOSTILE}]")
_found_inline: Final = re.compile(f"{_FLAG}|[\t\n{_BLANK_BRAILLE}{_HOSTILE}]")

CONTEXT: Final = 2
"""Characters before a text that decide whether its first one stays."""
_EMOJI: Final = re.compile(
    "[#*0-9\u00a9\u00ae\u203c\u2049\u2122\u2139\u2190-\u21ff\u2300-\u23ff\u24c2\u25a0-\u27bf\u2900-\u297f\u2b00-\u2bff"
    "\u3030\u303d\u3297\u3299\U0001f000-\U0001faff]"
)
# ranges and no expressions: to compile sets of so many characters takes two milliseconds of every start
_JOINING: Final = (
    ("\u0590", "\u1fff"), ("\ua800", "\uabff"), ("\ufb1d", "\ufdff"), ("\ufe70", "\ufefc"), ("\U00010800", "\U00011fff"),
)  # fmt: skip
"""Blocks of the scripts in which joiners shape letters: Hebrew and Arabic to Khmer and Mongolian, and their extensions."""
_IDEOGRAPH: Final = (("\u3400", "\u9fff"), ("\uf900", "\ufaff"), ("\U00020000", "\U0003ffff"))


def safe(text: str, before: str = "") -> str:
    """Return text with every hostile character as a symbol that is seen; line feed and tab stay.

    `before` is what the same text said before, at least its last `CONTEXT` characters: pieces of a stream are made safe
    one by one. Text without such characters is returned as it is; doing it twice changes nothing.
    """
    return _replaced(_found, text, before, symbol)


def safe_line(text: str) -> str:
    """Return `safe` text that is certain to stay on one line: line feed becomes `↵`, tab a space."""
    return _replaced(_found_inline, text, "", symbol)


def escaped(text: str) -> str:
    """Return text with every hostile character as its JSON escape (`\\u202e`); line feed and tab stay.

    JSON stays the same JSON by it.
    """
    return _replaced(_found, text, "", _escape)


def escaped_line(text: str) -> str:
    """Return `escaped` text that is certain to stay on one line: line feed becomes `\\n`, tab stays."""
    return escaped(text).replace("\n", "\\n")


def symbol(character: str) -> str:
    """Return what stands for one hostile character: a control's picture, `⟨U+202E⟩`, a blank for a blank."""
    code = ord(character)
    if character in " \t" or character == _BLANK_BRAILLE:
        return " "
    if character == "\n":
        return "↵"
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"⟨U+{code:04X}⟩"


def _escape(character: str) -> str:
    if character == _BLANK_BRAILLE:
        return character  # seen in JSON between its quotes, and a program may want it
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def _replaced(pattern: re.Pattern[str], text: str, before: str, shown: Callable[[str], str]) -> str:
    if (text.isascii() and text.isprintable()) or pattern.search(text) is None:
        return text
    start = len(before[-CONTEXT:])
    whole = before[-CONTEXT:] + text

    def replace(found: re.Match[str]) -> str:
        character = found[0]
        if len(character) > 1 or _belongs(character, whole, start + found.start()):
            return character
        return shown(character)

    return pattern.sub(replace, text)


def _belongs(character: str, whole: str, at: int) -> bool:
    """Return whether a hidden character at a place is one that the grapheme before it needs."""
    base = whole[at - 1] if at else ""
    if not base:
        return False
    match ord(character):
        case 0xFE0E | 0xFE0F:
            return _EMOJI.match(base) is not None
        case code if 0xFE00 <= code < 0xFE0E:
            return _within(base, _IDEOGRAPH) or unicodedata.category(base) == "Sm"
        case code if 0xE0100 <= code < 0xE01F0:
            return _within(base, _IDEOGRAPH)
        case 0x200C:
            return _shapes(base)
        case 0x200D:
            emoji = base >= "\u2190" and _EMOJI.match(base) is not None
            selected = base == "\ufe0f" and at > 1 and _EMOJI.match(whole[at - 2]) is not None
            return emoji or selected or base == "\U000e007f" or _shapes(base)
        case 0x180B | 0x180C | 0x180D | 0x180F:
            return "\u1820" <= base <= "\u18aa"
        case _:
            return False


def _shapes(base: str) -> bool:
    return _within(base, _JOINING) and unicodedata.category(base)[0] in "LM" and not _found.match(base)


def _within(character: str, ranges: tuple[tuple[str, str], ...]) -> bool:
    return any(first <= character <= last for first, last in ranges)
