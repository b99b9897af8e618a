"""The Markdown parser: CommonMark with tables and strikethrough, set up to lose nothing; imported with the first message.

Beyond CommonMark: emphasis works beside Chinese, Japanese and Korean text, whose words have no spaces around them; TeX
between `$`, `$$`, `\\( \\)`, `\\[ \\]` or `\\begin \\end` is kept as written; blocks nested too deep and cells beyond a
table's head are kept as text.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final
from unicodedata import east_asian_width

from markdown_it import MarkdownIt
from markdown_it.common.utils import isWhiteSpace
from markdown_it.parser_inline import ParserInline
from markdown_it.rules_block import StateBlock
from markdown_it.rules_block.table import escapedSplit, getLine, table
from markdown_it.rules_inline import StateInline
from markdown_it.rules_inline.state_inline import Scanned
from markdown_it.token import Token
from markdown_it.utils import EnvType

MAX_LEVEL: Final = 60
"""Levels of quotes, lists and items; parser and painter recurse for each."""

_math: Final = re.compile(
    r"\$\$(?=[^$]).+?\$\$"
    # An amount of money is no formula: no space within, and no digit after the closing sign.
    r"|\$(?=[^\s$])(?:\\.|[^\\$])*?(?<=[^\s\\])\$(?!\d)"
    r"|\\\(.+?\\\)"
    # `\[` is also how a bracket is escaped: only what looks like a formula is one.
    r"|\\\[(?:(?!\\\]).)*?(?:[\^_={]|\\[A-Za-z])(?:(?!\\\]).)*\\\]"
    r"|\\begin\{([A-Za-z]+\*?)\}.+?\\end\{\1\}",
    re.DOTALL,
).match
_math_opening: Final = re.compile(r"\$\$|\\\[|\\begin\{([A-Za-z]+\*?)\}").match


class _State(StateInline):
    def scanDelims(self, start: int, canSplitWord: bool) -> Scanned:
        """Let emphasis open after, and close before, a wide character whatever punctuation it begins or ends with."""
        scanned = super().scanDelims(start, canSplitWord)
        if not canSplitWord or (scanned.can_open and scanned.can_close):
            return scanned
        end = start + scanned.length
        before = self.src[start - 1] if start else " "
        after = self.src[end] if end < self.posMax else " "
        can_open = scanned.can_open or (_is_wide(before) and not isWhiteSpace(ord(after)))
        can_close = scanned.can_close or (_is_wide(after) and not isWhiteSpace(ord(before)))
        return Scanned(can_open, can_close, scanned.length)


class _Inline(ParserInline):
    def parse(self, src: str, md: MarkdownIt, env: EnvType, tokens: list[Token]) -> list[Token]:
        state = _State(src, md, env, tokens)
        self.tokenize(state)
        for rule in self.ruler2.getRules(""):
            rule(state)
        return state.tokens


@cache
def parser() -> MarkdownIt:
    """Return the one parser.

    A reference definition stays visible text: blocks are drawn alone, so it could not be resolved. HTML is text.
    """
    markdown = MarkdownIt()
    markdown.inline = _Inline()
    markdown.configure("commonmark", options_update={"html": False, "maxNesting": 2 * MAX_LEVEL})
    # a definition of a link would vanish from the text, and it may be what was asked for
    markdown.enable(["table", "strikethrough"]).disable("reference")
    markdown.block.ruler.at("table", _table_with_all_cells, {"alt": ["paragraph", "reference"]})
    markdown.block.ruler.before("table", "too_deep", _too_deep)
    alternatives = ["paragraph", "blockquote", "list"]
    markdown.block.ruler.before("fence", "math_block", _math_block, {"alt": alternatives})
    markdown.inline.ruler.before("escape", "math", _math_inline)
    markdown.block.ruler.enable(["too_deep", "math_block"])
    markdown.inline.ruler.enable("math")
    return markdown


def _is_wide(character: str) -> bool:
    return east_asian_width(character) in "WF"


def _too_deep(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Keep what is nested too deep as plain lines, where markdown-it would drop it."""
    if state.level < MAX_LEVEL or silent:
        return False
    line = start
    while line < end and (state.isEmpty(line) or state.sCount[line] >= state.blkIndent):
        line += 1
    token = state.push("plain", "", 0)
    token.content = state.getLines(start, line, state.blkIndent, False)
    state.line = line
    return True


def _table_with_all_cells(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Add cells beyond the head to the last one of their row, where markdown-it would drop them."""
    first = len(state.tokens)
    if not table(state, start, end, silent):
        return False
    cells: list[Token] = []
    for token in state.tokens[first:]:
        if token.type == "tr_open":
            cells = []
        elif token.type == "inline":
            cells.append(token)
        elif token.type == "tr_close" and cells and cells[0].map is not None:
            columns = escapedSplit(
                getLine(state, cells[0].map[0]).strip().removeprefix("|").removesuffix("|")
            )
            more = [column.strip() for column in columns[len(cells) :]]
            cells[-1].content = " | ".join([cells[-1].content, *more])
    return True


def _math_block(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Keep lines between `$$` and `$$`, `\\[` and `\\]`, `\\begin` and `\\end` as written."""
    first = getLine(state, start)
    opening = _math_opening(first)
    if opening is None or state.is_code_block(start):
        return False
    closing = "$$" if opening[0] == "$$" else r"\]" if opening[1] is None else rf"\end{{{opening[1]}}}"
    line = start
    text = first[opening.end() :]
    while not text.rstrip().endswith(closing):
        line += 1
        if line >= end or state.isEmpty(line) or state.sCount[line] < state.blkIndent:
            return False
        text = getLine(state, line)
    if not silent:
        token = state.push("math_block", "", 0)
        token.content = state.getLines(start, line + 1, state.blkIndent, False)
        state.line = line + 1
    return True


def _math_inline(state: StateInline, silent: bool) -> bool:
    """Keep a formula in a line as written."""
    if state.src[state.pos] not in "$\\":
        return False
    found = _math(state.src, state.pos, state.posMax)
    if found is None:
        return False
    if not silent:
        state.push("math", "", 0).content = found[0]
    state.pos = found.end()
    return True
