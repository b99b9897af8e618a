"""Characters to tokens, with positions. Strict for the parser, tolerant for highlighting.

Outside quotes `|`, `<`, `>`, `{`, `}`, `,` (inside braces), `;`, newline and `#` (at a word's start) mean
something; a backslash takes the next character as it is. Inside single quotes nothing is special; inside double
quotes a backslash makes `\\n`, `\\t`, `\\"`, `\\\\`. `{input}` is plain text wherever a text may stand.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

from backend.schema.errors import TektonError

MAX_CHARS = 256 * 1024
"""Longest text that is parsed. A longer text belongs into the input (`<`, a pipe), not into the pipeline."""
MAX_TOKENS = 20_000
"""Most words and signs of a script outside quotes; a text in quotes is one."""
MAX_PIPELINE_TOKENS = 5_000
"""Most of them in one pipeline: the gateway reads it while others wait."""
INPUT = "{input}"

Kind = Literal["word", "pipe", "less", "greater", "append", "open", "close", "comma", "options", "end"]
SpanKind = Literal["name", "verb", "text", "string", "operator", "options", "comment", "error"]


class GrammarError(TektonError):
    """A text that is no pipeline. `position` counts characters from 0; the message shows the place."""

    code = "invalid_request"

    def __init__(self, problem: str, text: str, position: int) -> None:
        self.problem = problem
        self.position = min(position, len(text))
        super().__init__(f"{problem}\n{_picture(text, self.position)}", detail={"position": self.position})


class Token(NamedTuple):
    """A piece of the text. `quoted` when any part of a word was; `start` and `end` are positions."""

    kind: Kind
    text: str
    start: int
    end: int
    quoted: bool = False


@dataclass(frozen=True)
class Span:
    """A stretch of a text and what it is, for highlighting."""

    start: int
    end: int
    kind: SpanKind


_SINGLE: dict[str, Kind] = {"|": "pipe", "<": "less", "{": "open", "}": "close", ";": "end", "\n": "end"}
_ESCAPES = {"n": "\n", "t": "\t"}
_BREAKS = frozenset("|<>{};\n \t\r")
_PLAIN = re.compile(r"[^|<>{};\n \t\r,\[\"'\\]+")
"""A run of characters that mean nothing to the lexer."""
_QUOTED = {"'": re.compile(r"'([^']*+)'"), '"': re.compile(r'"((?:[^"\\]++|\\.)*+)"', re.DOTALL)}
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_OPTION_TEXT = re.compile(r"[^\]\"'\n|]+")
"""A run of characters inside an options' bracket that neither end it nor begin a quote."""


class Lexer:
    """Cut one text into tokens."""

    def __init__(self, text: str, max_tokens: int = MAX_TOKENS) -> None:
        if len(text) > MAX_CHARS:
            problem = f"a pipeline is at most {MAX_CHARS:,} characters long; pass a longer text as its input"
            raise GrammarError(problem, text[:80], 80)
        self.text, self._max_tokens = text, max_tokens
        self._at = 0
        self._depth = 0

    def tokens(self) -> list[Token]:
        """Return all tokens.

        Raises:
            GrammarError: A quote or a bracket is not closed.
        """
        found: list[Token] = []
        while (token := self._next(found[-1] if found else None)) is not None:
            found.append(token)
            if len(found) > self._max_tokens:
                problem = f"more than {self._max_tokens:,} words and signs: put a long text into quotes"
                raise GrammarError(problem, self.text, token.start)
        return found

    def _next(self, before: Token | None) -> Token | None:
        text = self.text
        while self._at < len(text) and text[self._at] in " \t\r":
            self._at += 1
        if self._at >= len(text):
            return None
        start, char = self._at, text[self._at]
        # only at a word's start: `issue#12` is one word
        if char == "#" and (before is None or before.end < start or before.kind == "end"):
            newline = text.find("\n", start)
            self._at = len(text) if newline < 0 else newline
            return self._next(before)
        if text.startswith(INPUT, start) and self._depth == 0:
            return self._word(start)
        if char == ">":
            double = text.startswith(">>", start)
            return self._take("append" if double else "greater", 2 if double else 1)
        if char == "," and self._depth:
            return self._take("comma", 1)
        if char == "[" and before is not None and before.end == start and not before.quoted:
            return self._options(start)
        if char in _SINGLE:
            self._depth += (char == "{") - (char == "}")
            return self._take(_SINGLE[char], 1)
        return self._word(start)

    def _take(self, kind: Kind, length: int) -> Token:
        start = self._at
        self._at += length
        return Token(kind, self.text[start : self._at], start, self._at)

    def _word(self, start: int) -> Token:
        text, parts, quoted = self.text, list[str](), False
        while self._at < len(text):
            if plain := _PLAIN.match(text, self._at):
                parts.append(plain[0])
                self._at = plain.end()
                continue
            char = text[self._at]
            if char == "{" and self._depth == 0 and text.startswith(INPUT, self._at):
                parts.append(INPUT)
                self._at += len(INPUT)
            elif char in _BREAKS or (char == "," and self._depth > 0):
                break
            elif char == "[" and not quoted and len(parts) == 1 and _is_name(parts[0]):
                break  # options follow
            elif char in "\"'":
                quoted = True
                parts.append(self._quoted(char))
            elif char == "\\":
                if self._at + 1 >= len(text):
                    raise GrammarError("a backslash at the end has nothing to escape", text, self._at)
                parts.append(text[self._at + 1])
                quoted = True
                self._at += 2
            else:
                parts.append(char)
                self._at += 1
        return Token("word", "".join(parts), start, self._at, quoted)

    def _quoted(self, mark: str) -> str:
        found = _QUOTED[mark].match(self.text, self._at)
        if found is None:
            hint = r" (an apostrophe is written \')" if mark == "'" else ""
            raise GrammarError(f"the quote {mark} is not closed{hint}", self.text, self._at)
        self._at = found.end()
        if mark == "'" or "\\" not in found[1]:
            return found[1]
        pieces = _ESCAPED.split(found[1])
        pieces[1::2] = [_ESCAPES.get(follower, follower) for follower in pieces[1::2]]
        return "".join(pieces)

    def _options(self, start: int) -> Token:
        """Take `[…]` as one token; quotes inside may hold brackets."""
        text = self.text
        self._at += 1
        while self._at < len(text) and text[self._at] != "]":
            if plain := _OPTION_TEXT.match(text, self._at):
                self._at = plain.end()
            elif text[self._at] in "\"'":
                self._quoted(text[self._at])
            else:
                break
        if self._at >= len(text) or text[self._at] != "]":
            raise GrammarError("the options' bracket [ is not closed", text, start)
        self._at += 1
        return Token("options", text[start : self._at], start, self._at)


def spans(text: str) -> list[Span]:
    """Return what each stretch of a text is, whether or not it parses; for highlighting while it is typed."""
    try:
        tokens = Lexer(text).tokens()
    except GrammarError as error:
        # what stands before the mistake keeps its colours while somebody types
        good = spans(text[: error.position]) if error.position else []
        return [*good, Span(error.position, len(text), "error")]
    found: list[Span] = []
    fresh, braces = True, False
    for token in tokens:
        kind: SpanKind = "operator"
        if token.kind == "word":
            kind = _word_kind(token, fresh or braces)
        elif token.kind == "options":
            kind = "options"
        found.append(Span(token.start, token.end, kind))
        braces = token.kind == "open" or (braces and token.kind != "close")
        fresh = token.kind in ("pipe", "end", "open", "comma")
    return found


def _word_kind(token: Token, at_head: bool) -> SpanKind:
    if token.quoted:
        return "string"
    if not at_head:
        return "text"
    return "verb" if token.text in ("echo", "cat", "team") else "name"


def _is_name(text: str) -> bool:
    return text.replace("_", "").replace("-", "").replace("@", "").isalnum()


def _picture(text: str, position: int) -> str:
    """Show the line of a position with a caret below it."""
    begin = text.rfind("\n", 0, position) + 1
    end = text.find("\n", position)
    line = text[begin : len(text) if end < 0 else end]
    column = position - begin
    left = max(0, column - 60)
    shown = "".join(char if char.isprintable() else " " for char in line[left : left + 100])
    return f"  {shown}\n  {' ' * (column - left)}^"
