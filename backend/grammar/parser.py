"""Tokens to trees. Every error is a `GrammarError` that names the place and what was expected there."""

from __future__ import annotations

import re
from typing import NamedTuple

from backend.grammar.lexer import MAX_PIPELINE_TOKENS, MAX_TOKENS, GrammarError, Lexer, Token
from backend.grammar.tree import OPTION_TYPES, Ask, Cat, Echo, Pipeline, Script, Stage, Target
from backend.suggest import meant

# each stage is at least one call of a model
MAX_STAGES = 64
_RANGES: dict[str, tuple[float, float, str]] = {
    "temperature": (0, 2, "0 to 2"),
    "max_tokens": (1, 1e9, "a whole number from 1"),
    "timeout": (0.001, 1e9, "seconds above 0"),
}
"""Lowest and highest value of the options that are numbers, and how that is said."""
_NAME = re.compile(r"@?[A-Za-z][A-Za-z0-9_-]{0,63}")
_OPTION = re.compile(
    r"""\s*+([A-Za-z_]++)\s*+=\s*+(?:("(?:[^"\\]|\\.)*+"|'[^']*+')\s*+|([^,\]"']*+))(,|$)""", re.DOTALL
)
"""Name, quoted value, plain value, what follows. Possessive throughout: nothing is read twice."""


def parse(text: str) -> Pipeline:
    """Read exactly one pipeline.

    Raises:
        GrammarError: The text is empty, has more than one, or is none.
    """
    return _Parser(text, MAX_PIPELINE_TOKENS).only()


def parse_script(text: str) -> Script:
    """Read pipelines, one a line or separated by `;`; comments and empty lines are skipped.

    Raises:
        GrammarError: With the place of the first mistake.
    """
    return _Parser(text, MAX_TOKENS).script()


class _Redirects(NamedTuple):
    """Files of a pipeline and where they are named, empty when there is none."""

    source: str = ""
    source_at: int = 0
    target: str = ""
    target_at: int = 0
    append: bool = False


_NO_REDIRECTS = _Redirects()
_LATE_OUTPUT = "only the last stage's output goes to a file: move > to the end"


class _Parser:
    def __init__(self, text: str, max_tokens: int) -> None:
        self._text = text
        self._tokens = Lexer(text, max_tokens).tokens()
        self._at = 0

    def script(self) -> Script:
        pipelines: list[Pipeline] = []
        while (token := self._peek()) is not None:
            if token.kind == "end":
                self._at += 1
            else:
                pipelines.append(self._pipeline())
        return Script(tuple(pipelines))

    def only(self) -> Pipeline:
        self._skip_ends()
        if self._peek() is None:
            raise self._error("expected a pipeline such as: apollo | athena")
        pipeline = self._pipeline()
        self._skip_ends()
        if self._peek() is not None:
            raise self._error("expected one pipeline, found several")
        return pipeline

    def _skip_ends(self) -> None:
        while self._accept("end"):
            pass

    def _pipeline(self) -> Pipeline:
        stages = [self._stage(first=True)]
        early = self._redirects() if self._kind() == "less" else _NO_REDIRECTS
        while self._accept("pipe"):
            if early.target:
                raise GrammarError(_LATE_OUTPUT, self._text, early.target_at)
            while self._accept_newline():  # a line may end behind its pipe
                pass
            stages.append(self._stage(first=False))
            if len(stages) > MAX_STAGES:
                raise self._error(f"more than {MAX_STAGES} stages")
        paths = self._redirects(early)
        if self._kind() == "pipe":
            problem = _LATE_OUTPUT if paths.target else "< stands behind the first stage or at the end"
            raise GrammarError(problem, self._text, paths.target_at if paths.target else paths.source_at)
        if self._kind() not in ("", "end"):
            raise self._error("expected | or a redirect or the end here")
        if paths.source and isinstance(stages[0], Echo | Cat):
            problem = "the input comes from < and from the first stage: keep one"
            raise GrammarError(problem, self._text, paths.source_at)
        return Pipeline(tuple(stages), paths.source, paths.target, paths.append)

    def _redirects(self, found: _Redirects | None = None) -> _Redirects:
        """Read what redirects stand here, in addition to those `found` before."""
        paths = found or _NO_REDIRECTS
        while (token := self._peek()) is not None and token.kind in ("less", "greater", "append"):
            self._at += 1
            word = self._peek()
            if word is None or word.kind != "word" or not word.text:
                raise self._error(f"expected a file name after {token.text}")
            self._at += 1
            if token.kind == "less":
                if paths.source:
                    raise GrammarError("two inputs: only one < is possible", self._text, token.start)
                paths = paths._replace(source=word.text, source_at=token.start)
            else:
                if paths.target:
                    raise GrammarError("two outputs: only one > is possible", self._text, token.start)
                paths = paths._replace(target=word.text, target_at=token.start, append=token.kind == "append")
        return paths

    def _stage(self, *, first: bool) -> Stage:
        token = self._peek()
        if token is None or token.kind not in ("word", "open"):
            raise self._error("expected a specialist, {a,b}, team, echo or cat here")
        if token.kind == "open":
            return self._fan_out(token)
        if not token.quoted and token.text in ("echo", "cat"):
            return self._source(token, first=first)
        return Ask((self._target(),), self._words())

    def _source(self, verb: Token, *, first: bool) -> Stage:
        if not first:
            raise GrammarError(f"{verb.text} can only be the first stage", self._text, verb.start)
        self._at += 1
        text = self._words()
        if not text:
            raise self._error(
                f"expected {'a text' if verb.text == 'echo' else 'a file name'} after {verb.text}"
            )
        return Echo(text) if verb.text == "echo" else Cat(text)

    def _fan_out(self, brace: Token) -> Ask:
        self._at += 1
        targets = [self._target()]
        while self._accept("comma"):
            targets.append(self._target())
        if not self._accept("close"):
            token = self._peek()
            if token is None or token.kind == "end":
                raise GrammarError("the brace { is not closed", self._text, brace.start)
            raise self._error("expected , or } here")
        return Ask(tuple(targets), self._words(), fan_out=True)

    def _target(self) -> Target:
        token = self._peek()
        if token is None or token.kind != "word" or token.quoted or not _NAME.fullmatch(token.text):
            raise self._error("expected the name of a specialist here")
        self._at += 1
        options = self._peek()
        if options is not None and options.kind == "options":
            self._at += 1
            return Target(token.text, self._options(options))
        return Target(token.text)

    def _options(self, token: Token) -> tuple[tuple[str, float | int | str], ...]:
        body = token.text[1:-1]
        found: list[tuple[str, float | int | str]] = []
        at = 0
        while at < len(body) or not found:
            match = _OPTION.match(body, at)
            if match is None:
                raise GrammarError(
                    "expected options like [temperature=0.2,max_tokens=80]", self._text, token.start + 1 + at
                )
            name, place = match[1], token.start + 1 + at
            if name not in OPTION_TYPES:
                raise GrammarError(
                    f"there is no option {name!r}; {meant(name, OPTION_TYPES)}", self._text, place
                )
            if any(name == known for known, _ in found):
                raise GrammarError(f"the option {name} is given twice", self._text, place)
            found.append((name, self._value(name, match[2] or match[3].strip(), place)))
            at = match.end()
            if match[4] == "," and at >= len(body):
                raise GrammarError(
                    "expected another option after the comma", self._text, token.start + 1 + at
                )
        return tuple(found)

    def _value(self, name: str, raw: str, place: int) -> float | int | str:
        kind = OPTION_TYPES[name]
        if raw[:1] in ('"', "'"):
            raw = Lexer(raw).tokens()[0].text
        elif not raw:
            raise GrammarError(f"the option {name} has no value", self._text, place)
        if kind is str:
            return raw
        try:
            value = int(raw) if kind is int else float(raw)
        except ValueError:
            # below every range: it is refused below, with what was wanted
            value = -1
        lowest, highest, wanted = _RANGES[name]
        if not lowest <= value <= highest:
            raise GrammarError(f"the option {name}: expected {wanted}, found {raw!r}", self._text, place)
        return value

    def _words(self) -> str:
        words: list[str] = []
        while (token := self._peek()) is not None and token.kind == "word":
            words.append(token.text)
            self._at += 1
        if token is not None and token.kind in ("open", "close", "options", "comma"):
            raise self._error(f"a {token.text[:1]} inside a text must be quoted")
        return " ".join(words)

    def _peek(self) -> Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _kind(self) -> str:
        """Return the kind of the next token, empty at the end."""
        token = self._peek()
        return "" if token is None else token.kind

    def _accept(self, kind: str) -> bool:
        token = self._peek()
        if token is None or token.kind != kind:
            return False
        self._at += 1
        return True

    def _accept_newline(self) -> bool:
        token = self._peek()
        return token is not None and token.text == "\n" and self._accept("end")

    def _error(self, problem: str) -> GrammarError:
        token = self._peek()
        return GrammarError(problem, self._text, len(self._text) if token is None else token.start)
