"""Turns the inline part of Markdown into runs of text; links are shown as text and address, nothing is clickable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from tekton_tui.safe_text import safe_inline
from tekton_tui.transcript.rows import BOLD, CODE, DIM, ITALIC, LINK, STRIKE, Ink, Run

if TYPE_CHECKING:
    from markdown_it.token import Token

_MARKS: Final[dict[str, Ink]] = {"strong_open": BOLD, "em_open": ITALIC, "s_open": STRIKE}
_MARK_ENDS: Final[dict[str, Ink]] = {"strong_close": BOLD, "em_close": ITALIC, "s_close": STRIKE}


def inline_lines(tokens: Sequence[Token], ink: Ink) -> list[list[Run]]:
    """Return the runs of each line of an inline token's children; a line break in the source stays one.

    Args:
        tokens: Children of an inline token.
        ink: Ink of the surrounding block.
    """
    lines: list[list[Run]] = [[]]
    marks = ink
    depths: dict[Ink, int] = {}
    links: list[tuple[str, int]] = []
    for token in tokens:
        kind = token.type
        if kind == "text":
            if token.content:
                lines[-1].append((safe_inline(token.content), marks))
        elif kind in ("softbreak", "hardbreak"):
            lines.append([])
        elif kind == "code_inline":
            lines[-1].append((safe_inline(token.content), marks | CODE))
        elif kind in _MARKS:
            mark = _MARKS[kind]
            depths[mark] = depths.get(mark, 0) + 1
            marks |= mark
        elif kind in _MARK_ENDS:
            mark = _MARK_ENDS[kind]
            depths[mark] = depths.get(mark, 1) - 1
            if not depths[mark] and not ink & mark:
                marks &= ~mark
        elif kind == "link_open":
            links.append((str(token.attrs.get("href", "")), len(lines[-1])))
            marks |= LINK
        elif kind == "link_close":
            address, first = links.pop()
            marks &= ~LINK
            _add_address(lines[-1], address, first, marks)
        elif kind == "image":
            label = safe_inline(token.content) or "image"
            lines[-1].append((f"[{label}]", marks | LINK))
            _add_address(lines[-1], str(token.attrs.get("src", "")), len(lines[-1]) - 1, marks)
        elif token.content:
            lines[-1].append((safe_inline(token.content), marks))
    return lines


def _add_address(line: list[Run], address: str, first: int, ink: Ink) -> None:
    """Show where a link leads, unless its text says it already."""
    shown = "".join([text for text, _ink in line[first:]])
    address = safe_inline(address)
    if address and shown not in (address, address.removeprefix("mailto:")):
        line.append((f" ({address})", ink | DIM))
