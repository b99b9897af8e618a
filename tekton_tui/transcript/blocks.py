"""Splits Markdown source into blocks as it arrives; never looks at what is inside one, and draws nothing.

A block is what can be drawn without its neighbours: a fenced code block, or text up to a blank line (a list
item keeps its indented continuation). Cutting depends only on the text, never on how it was chopped into chunks,
so a streamed message and a loaded one have the same blocks. Blocks are bounded in size: the cost of drawing the
block that is still growing must not follow the length of the message.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

MAX_BLOCK_CHARS: Final = 4_000
"""Text longer than this is cut at its next line, a list at its next item."""
MAX_LINE_CHARS: Final = 4_000
"""A line longer than this is cut at its last space, or through the word."""
MAX_TABLE_CHARS: Final = 16_000
"""A table longer than this goes on as a second table with the same head."""

_fence_open: Final = re.compile(r" {0,3}(`{3,}|~{3,})\s*([^`\n]*)$").match
_nested_fence: Final = re.compile(r"\s*(`{3,}|~{3,})").match
_list_item: Final = re.compile(r" {0,3}(?:[-+*]|\d{1,9}[.)])(?:[ \t]|$)").match
_table_rule: Final = re.compile(r" {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-*:?[ \t]*)*$").match


@dataclass(slots=True)
class Block:
    """A piece of source that is drawn on its own.

    Attributes:
        lines: Source lines; each ends with LF except where a long line was cut or the text ends.
        info: Language of a fenced code block, `None` for Markdown text.
        settled: No more text will come.
    """

    lines: list[str] = field(default_factory=list[str])
    info: str | None = None
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
        self._fence = ""
        self._nested = ""
        self._in_list = False
        self._blank = False
        self._size = 0

    def feed(self, text: str) -> None:
        """Take more text."""
        self._hide_partial()
        lines = (self._partial + text).split("\n")
        self._partial = lines.pop()
        for line in lines:
            while len(line) >= MAX_LINE_CHARS:
                line = self._long(line)
            self._line(line, "\n")
        while len(self._partial) >= MAX_LINE_CHARS:
            self._partial = self._long(self._partial)
        self._show_partial()

    def finish(self) -> None:
        """Take the end of the text: the last block is settled."""
        self._hide_partial()
        if self._partial:
            self._line(self._partial, "")
            self._partial = ""
        self._flush()

    def _long(self, line: str) -> str:
        """Take the head of an overlong line, return the rest."""
        at = line.rfind(" ", 0, MAX_LINE_CHARS) + 1 or MAX_LINE_CHARS
        self._line(line[:at], "")
        if self._fence == "":
            self._flush()
        return line[at:]

    def _line(self, line: str, end: str) -> None:
        """Take one complete line."""
        if self._fence:
            self._code_line(line, end)
            return
        if not self._nested:
            if not line or line.isspace():
                self._blank = self._open is not None
                return
            if self._begins_block(line):
                self._flush()
            if not self._in_list or not line[0].isspace():
                fence = _fence_open(line)
                if fence is not None:
                    self._flush()
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
            self._flush()
        elif self._open is not None:
            self._open.lines.append(line + end)

    def _text_line(self, line: str, end: str) -> None:
        block = self._open
        if block is not None and not self._nested and self._size + len(line) > MAX_BLOCK_CHARS:
            block = self._cut(block, line)
        if block is None:
            block = self._start(Block())
        if self._blank:
            block.lines.append("\n")
            self._blank = False
        block.lines.append(line + end)
        self._size += len(line) + 1
        if _list_item(line):
            self._in_list = True
        if self._in_list:
            self._watch_nested_fence(line)

    def _watch_nested_fence(self, line: str) -> None:
        """A blank line inside a list item's code block ends nothing."""
        if self._nested:
            stripped = line.strip()
            if stripped.startswith(self._nested) and not stripped.strip(self._nested[0]):
                self._nested = ""
            return
        fence = _nested_fence(line) or _nested_fence(re.sub(r"^\s*(?:[-+*]|\d{1,9}[.)])\s", "", line))
        if fence is not None:
            self._nested = fence[1]

    def _cut(self, block: Block, line: str) -> Block | None:
        """End a block that has grown too long, if this line allows it; return the block that goes on."""
        if len(block.lines) > 1 and _table_rule(block.lines[1].rstrip("\n")) and "|" in block.lines[0]:
            if self._size + len(line) <= MAX_TABLE_CHARS:
                return block
            head = block.lines[:2]
            self._flush()
            self._size = sum(map(len, head))
            return self._start(Block(lines=head))
        if self._in_list and not _list_item(line) and self._size < 2 * MAX_BLOCK_CHARS:
            return block
        in_list = self._in_list
        self._flush()
        self._in_list = in_list
        return None

    def _start(self, block: Block) -> Block:
        self._open = block
        self.blocks.append(block)
        return block

    def _flush(self) -> None:
        """Settle the open block."""
        if self._open is not None:
            self._open.settled = True
        self._open = None
        self._fence = self._nested = ""
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
            self._flush()
        if _may_become_fence(line) and not (self._in_list and line[0].isspace()):
            return
        if self._open is None:
            self._start(Block())
        assert self._open is not None
        if self._blank:
            line = "\n" + line
        self._open.lines.append(line)
        self._shown_partial = True

    def _hide_partial(self) -> None:
        if not self._shown_partial:
            return
        self._shown_partial = False
        if self._open is not None:
            self._open.lines.pop()
            if not self._open.lines and not self._fence:
                self.blocks.pop()
                self._open = None


def _may_become_fence(line: str) -> bool:
    """Whether an unfinished line could still turn into the opening line of a code block."""
    head = line.strip()
    return len(line) < 40 and (head.startswith(("```", "~~~")) or head in ("`", "``", "~", "~~"))


def split(text: str) -> list[Block]:
    """Split a whole message."""
    splitter = Splitter()
    splitter.feed(text)
    splitter.finish()
    return splitter.blocks
