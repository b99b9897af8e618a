"""Splits Markdown source into blocks as it arrives; never looks at what is inside one, and draws nothing.

A block is what can be drawn without its neighbours: a fenced code block, or text up to a blank line (a list
item keeps its indented continuation). Cutting depends only on the text, never on how it was chopped into chunks,
so a streamed message and a loaded one have the same blocks. Blocks are bounded in size: the cost of drawing the
block that is still growing must not follow the length of the message. What is too long is cut into blocks that
continue each other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final

from tekton_tui.transcript.rows import HARD, SOFT_CUT, SOFT_SPACE

MAX_BLOCK_CHARS: Final = 4_000
"""Text longer than this is cut at its next line, a list at its next item."""
MAX_LINE_CHARS: Final = 4_000
"""A line longer than this is cut at the end of a sentence, at a space, or through the word."""
MAX_TABLE_CHARS: Final = 16_000
"""A table longer than this goes on as a second table with the same head."""
MAX_CODE_LINES: Final = 120
"""A code block with more lines is cut; a string of several lines over the cut loses its colour."""
CUT_SEARCHED: Final = 60
"""How many spaces before the limit are tried for the end of a sentence."""

ZERO_WIDTH_JOINER: Final = "\u200d"
JOINING: Final = tuple("\u200d\ufe0e\ufe0f\u0300\u0301\u0302\u0303\u0308🏻🏼🏽🏾🏿")
"""Characters that belong to the one before them: a word is not cut there."""

_fence_open: Final = re.compile(r" {0,3}(`{3,}|~{3,})\s*([^`\n]*)$").match
_item: Final = r"(?:[-+*]|\d{1,9}[.)])(?:[ \t]|$)"
_list_item: Final = re.compile(r" {0,3}" + _item).match
_item_of_any_depth: Final = re.compile(r"[ \t]*" + _item).match
_nested_fence: Final = re.compile(r"((?:\s|[-+*]\s|\d{1,9}[.)]\s)*)(`{3,}|~{3,})([^`\n]*)$").match
_table_rule: Final = re.compile(r" {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-*:?[ \t]*)*$").match


@dataclass(slots=True)
class Block:
    """A piece of source that is drawn on its own.

    Attributes:
        lines: Source lines; each ends with LF except where a long line was cut or the text ends.
        info: Language of a fenced code block, `None` for Markdown text.
        continued: It goes on where the block before was cut: no blank row stands between them.
        indent: Spaces that every line had and that were taken off: the cut went through a nested list.
        joint: What stands between this block and the next when they are copied (see `Row.joint`).
        settled: No more text will come.
    """

    lines: list[str] = field(default_factory=list[str])
    info: str | None = None
    continued: bool = False
    indent: int = 0
    joint: str = HARD
    settled: bool = False

    @property
    def source(self) -> str:
        """The source text, without the fences of a code block."""
        return "".join(self.lines)


class Splitter:
    """Takes a message's text chunk by chunk and keeps `blocks`: all settled but, while it streams, the last."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self._open: Block | None = None
        self._partial = ""
        self._shown_partial = False
        self._provisional = False
        """Whether the open block was begun for the unfinished line alone."""
        self._fence = ""
        self._nested = ""
        self._nested_opening = ""
        self._in_list = False
        self._blank = False
        self._next: Block | None = None
        """What the next text goes into when a line was cut and the rest of it has not come yet."""
        self._size = 0

    def feed(self, text: str) -> None:
        self._hide_partial()
        lines = (self._partial + text).split("\n")
        self._partial = lines.pop()
        for line in lines:
            while len(line) >= MAX_LINE_CHARS:
                line = self._long_line(line)
            self._line(line, "\n")
        while len(self._partial) >= MAX_LINE_CHARS:
            self._partial = self._long_line(self._partial)
        self._show_partial()

    def finish(self) -> None:
        """End the text: the last block is settled."""
        self._hide_partial()
        if self._partial:
            self._line(self._partial, "")
            self._partial = ""
        self._settle()

    def _long_line(self, line: str) -> str:
        """Add the head of a line that is too long as a block of its own; return the rest of the line."""
        at = MAX_LINE_CHARS if self._fence else _cut_place(line)
        self._line(line[:at], "")
        if not self._fence and self._open is not None:
            self._open.joint = SOFT_SPACE if line[at - 1] == " " else SOFT_CUT
            indent = self._open.indent or _indent(line)
            self._next = self._cut_here(indent if self._in_list and not self._nested else 0)
        return line[at:]

    def _line(self, line: str, end: str) -> None:
        if self._fence:
            self._code_line(line, end)
            return
        if not self._nested:
            if not line or line.isspace():
                self._blank = self._open is not None
                self._next = None
                return
            if self._begins_block(line):
                self._settle()
            if not self._in_list or not line[0].isspace():
                fence = _fence_open(line)
                if fence is not None:
                    self._settle()
                    self._fence = fence[1]
                    self._start(Block(info=fence[2].strip()))
                    return
        self._text_line(line, end)

    def _begins_block(self, line: str) -> bool:
        """Whether a line that is not blank starts a new block after a blank line."""
        if not self._blank:
            return False
        return not (self._in_list and line[:1] in " \t" and (line[:2].isspace() or line[0] == "\t"))

    def _code_line(self, line: str, end: str) -> None:
        stripped = line.strip()
        closes = stripped.startswith(self._fence) and not stripped.strip(self._fence[0])
        if closes and len(line) - len(line.lstrip()) < 4:
            self._settle()
            return
        block = self._open
        assert block is not None
        if len(block.lines) >= MAX_CODE_LINES or self._size > MAX_TABLE_CHARS:
            block.settled = True
            block.joint = HARD if block.lines[-1].endswith("\n") else SOFT_CUT
            block = self._start(Block(info=block.info, continued=True))
            self._size = 0
        block.lines.append(line + end)
        self._size += len(line) + 1

    def _text_line(self, line: str, end: str) -> None:
        block = self._open
        if block is not None and self._size + len(line) > MAX_BLOCK_CHARS:
            block = self._cut(block, line)
        elif block is not None and _indent(line) < block.indent and not self._nested:
            block = self._start(self._cut_here(_indent(line)))
        if block is None:
            block = self._start(self._next or Block())
            self._next = None
        if self._blank:
            block.lines.append("\n")
            self._blank = False
        block.lines.append(_dedented(line, block.indent) + end)
        self._size += len(line) + 1
        if _list_item(line):
            self._in_list = True
        if self._in_list:
            self._watch_nested_fence(line)

    def _watch_nested_fence(self, line: str) -> None:
        """Note whether a code block inside a list item is open: a blank line in it ends nothing."""
        if self._nested:
            stripped = line.strip()
            if stripped.startswith(self._nested) and not stripped.strip(self._nested[0]):
                self._nested = ""
            return
        if (fence := _nested_fence(line)) is not None:
            self._nested = fence[2]
            self._nested_opening = " " * len(fence[1]) + fence[2] + fence[3]

    def _cut(self, block: Block, line: str) -> Block | None:
        """Cut a block that has grown too long, if this line allows it; return the block that goes on."""
        if len(block.lines) > 1 and _table_rule(block.lines[1].rstrip("\n")) and "|" in block.lines[0]:
            if self._size + len(line) <= MAX_TABLE_CHARS:
                return block
            head = block.lines[:2]
            self._settle()
            self._size = sum(map(len, head))
            return self._start(Block(lines=head))
        if (
            self._in_list
            and self._size < 2 * MAX_BLOCK_CHARS
            and (self._nested or not _item_of_any_depth(line))
        ):
            return block
        return self._start(self._cut_here(_indent(line) if self._in_list else 0))

    def _cut_here(self, indent: int) -> Block:
        """Settle the open block; return the one that goes on, in the same list and the same nested code block."""
        in_list, nested, opening = self._in_list, self._nested, self._nested_opening
        self._settle()
        self._in_list, self._nested, self._nested_opening = in_list, nested, opening
        if not nested:
            return Block(continued=True, indent=indent)
        return Block(lines=[opening.lstrip(" ") + "\n"], continued=True, indent=_indent(opening))

    def _start(self, block: Block) -> Block:
        self._open = block
        self.blocks.append(block)
        return block

    def _settle(self) -> None:
        if self._open is not None:
            self._open.settled = True
        self._open = None
        self._fence = self._nested = self._nested_opening = ""
        self._in_list = self._blank = False
        self._size = 0

    def _show_partial(self) -> None:
        """Let the unfinished line be seen as part of the open block; it is taken back with the next chunk."""
        line = self._partial
        if not line or (line.isspace() and not self._fence):
            return
        if self._fence:
            if self._open is not None and not line.lstrip(" ").startswith(self._fence[:1]):
                self._open.lines.append(line)
                self._shown_partial = True
            return
        if not self._nested and self._begins_block(line):
            self._settle()
        # shown as text it would jump into a code block with the next character
        if _may_become_fence(line) and not (self._in_list and line[0].isspace()):
            return
        if self._open is None:
            # a copy: what is shown of an unfinished line is taken back, and the block itself is still to be begun
            self._start(replace(self._next, lines=list(self._next.lines)) if self._next else Block())
            self._provisional = True
        assert self._open is not None
        line = _dedented(line, self._open.indent)
        self._open.lines.append("\n" + line if self._blank else line)
        self._shown_partial = True

    def _hide_partial(self) -> None:
        if not self._shown_partial:
            return
        self._shown_partial = False
        if self._provisional:
            self._provisional = False
            self.blocks.pop()
            self._open = None
        elif self._open is not None:
            self._open.lines.pop()


def _cut_place(line: str) -> int:
    """Return where to cut a line that is too long: best after a sentence outside of emphasis, code and links."""
    spaces = list(islice(_spaces_before(line, MAX_LINE_CHARS), CUT_SEARCHED))
    for at in spaces:
        head = line[:at]
        if head.endswith((".", "!", "?", ":", ";")) and _is_closed(head):
            return at + 1
    if spaces:
        return spaces[0] + 1
    at = MAX_LINE_CHARS
    # an emoji made of several characters would be drawn as its parts
    while at > MAX_LINE_CHARS // 2 and (line[at : at + 1] in JOINING or line[at - 1] == ZERO_WIDTH_JOINER):
        at -= 1
    return at


def _is_closed(head: str) -> bool:
    """Whether no emphasis, code or link seems to be open at the end of a text."""
    return not any(head.count(mark) % 2 for mark in "*_`") and head.count("[") == head.count("]")


def _spaces_before(line: str, end: int) -> Iterator[int]:
    """Yield the positions of the spaces before `end`, the last first."""
    while (at := line.rfind(" ", 1, end)) > 0:
        yield at
        end = at


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _dedented(line: str, indent: int) -> str:
    """Return the line without up to `indent` leading spaces."""
    return line[min(indent, _indent(line)) :] if indent else line


def _may_become_fence(line: str) -> bool:
    """Whether an unfinished line could still turn into the opening line of a code block."""
    head = line.strip()
    return len(line) < 40 and (head.startswith(("```", "~~~")) or head in ("`", "``", "~", "~~"))


def split(text: str) -> list[Block]:
    splitter = Splitter()
    splitter.feed(text)
    splitter.finish()
    return splitter.blocks
