"""The text of a composer: folded pastes, marks, completion, and how a line will be understood when sent. No widgets."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

FOLD_PASTE_CHARS: Final = 1_000
FOLD_PASTE_LINES: Final = 8
MAX_CHOICES: Final = 50

PIPE_VERB: Final = "/pipe "
MAX_PARSED_CHARS: Final = 20_000
BUILT_IN: Final = ("echo", "cat", "team")
"""Words a pipeline may begin with besides a name."""
_pipe: Final = re.compile(
    r"^\s*(?:\{[^}]*\}|@?([A-Za-z][\w-]*)(?:\[[^\]]*\])?)[^|]*\|\s*(?:\{|[A-Za-z@])"
).match

MarkKind = Literal["pipe", "brace", "name", "verb", "chip", "error"]

_chip: Final = re.compile(r"\[pasted [\d,]+ characters(?: #\d+)?\]")
_word_at_end: Final = re.compile(r"(?:^|(?<=[\s{,]))@([\w.-]*)$")
_path_at_end: Final = re.compile(r"(?:(?:^|(?<=\s))@|^/attach\s+)((?:\\ |\S)*/(?:\\ |[^\s/])*|~)$")
"""What begins with `@` and has a slash; behind `/attach` too."""
_verb_at_end: Final = re.compile(r"^/(/?[\w:.-]*)$")
_stage_at_end: Final = re.compile(r"\|\s*\{?(?:[\w.-]+,\s*)*([\w.-]+)$")
_mention: Final = re.compile(r"(?:^|(?<=[\s{,]))@[\w.-]+")
_verb: Final = re.compile(r"^//?[\w:.-]+")


class Choice(NamedTuple):
    """Something that can be completed.

    Attributes:
        value: What is written, without its `@` or `/`.
        hint: A few words beside it.
    """

    value: str
    hint: str = ""


class Query(NamedTuple):
    """What is being completed: `typed` characters before the cursor, among names, verbs or the files of a folder."""

    kind: Literal["name", "verb", "path"]
    typed: str


class Mark(NamedTuple):
    """A range of characters in one line that means something."""

    start: int
    end: int
    kind: MarkKind


class Preview(NamedTuple):
    """How a text will be understood when it is sent.

    Attributes:
        words: Said below the field.
        position: Where a mistake is, in characters from 0; `None` when there is none.
    """

    words: str
    position: int | None = None


@dataclass(slots=True)
class Pastes:
    """Long pasted texts, each shown as a chip."""

    texts: dict[str, str] = field(default_factory=dict[str, str])

    def fold(self, text: str) -> str:
        """Return what to insert for a pasted text: itself, or a chip that stands for it."""
        if len(text) <= FOLD_PASTE_CHARS and text.count("\n") < FOLD_PASTE_LINES:
            return text
        chip, copies = f"[pasted {len(text):,} characters]", 1
        while chip in self.texts:
            copies += 1
            chip = f"[pasted {len(text):,} characters #{copies}]"
        self.texts[chip] = text
        return chip

    def expand(self, text: str) -> str:
        """Return the text with every chip replaced by what it stands for."""
        return _chip.sub(lambda match: self.texts.get(match[0], match[0]), text)

    def chip_before(self, line: str, column: int) -> int:
        """Return how many characters before a column belong to a chip that ends there, 0 if none does."""
        for match in _chip.finditer(line, 0, column):
            if match.end() == column and match[0] in self.texts:
                return match.end() - match.start()
        return 0


def query_at(before: str) -> Query | None:
    """Return what is being completed, given the text before the cursor."""
    verb = _verb_at_end.search(before)
    if verb is not None:
        return Query("verb", verb[1])
    line = before.rpartition("\n")[2]
    path = _path_at_end.search(line)
    if path is not None:
        return Query("path", path[1])
    word = _word_at_end.search(line)
    if word is not None:
        return Query("name", word[1])
    stage = _stage_at_end.search(line)
    if stage is not None and any(mark.kind == "pipe" for mark in marks_of(before)[-1]):
        return Query("name", stage[1])
    return None


def matching(choices: Sequence[Choice], typed: str) -> list[Choice]:
    """Return the choices that fit: those that begin with what was typed, then those that contain it."""
    wanted = typed.casefold()
    starts = [choice for choice in choices if choice.value.casefold().startswith(wanted)]
    inside = [
        choice for choice in choices if wanted in choice.value.casefold() and choice not in starts and wanted
    ]
    return (starts + inside)[:MAX_CHOICES]


def place_in(text: str, position: int) -> tuple[int, int]:
    """Return row and column of a position; of one past the end the last character's."""
    before = text[: max(0, min(position, len(text.rstrip()) - 1))]
    return before.count("\n"), len(before) - before.rfind("\n") - 1


def marks_of(text: str) -> list[list[Mark]]:
    """Return the marks of each line; quotes hide pipes and braces and may span lines."""
    marks: list[list[Mark]] = []
    quote = ""
    for number, line in enumerate(text.split("\n")):
        found: list[Mark] = []
        for column, character in enumerate(line):
            if quote:
                quote = "" if character == quote else quote
            elif character == '"':
                quote = character
            elif character == "|":
                found.append(Mark(column, column + 1, "pipe"))
            elif character in "{}":
                found.append(Mark(column, column + 1, "brace"))
        found.extend(_words(line, first=number == 0))
        marks.append(found)
    return marks


def _words(line: str, *, first: bool) -> Iterator[Mark]:
    for match in _mention.finditer(line):
        yield Mark(*match.span(), "name")
    for match in _chip.finditer(line):
        yield Mark(*match.span(), "chip")
    verb = _verb.match(line) if first else None
    if verb is not None:
        yield Mark(*verb.span(), "verb")


def looks_like_pipeline(text: str, known: Container[str]) -> bool:
    """Return whether it begins with a `known` name, or what else a pipeline begins with, and has a stage after `|`."""
    if "\n" in text.strip():
        return False
    match = _pipe(re.sub(r'"[^"]*"|\'[^\']*\'', '""', text))
    return match is not None and (
        match[1] is None or match[1].lower() in BUILT_IN or match[1].lower() in known
    )


def preview_pipeline(text: str) -> Preview | None:
    """Return the stages of a pipeline, or what is wrong with it and where."""
    if not text.strip() or len(text) > MAX_PARSED_CHARS:
        return None
    from backend.grammar import GrammarError, parse, show

    try:
        pipeline = parse(text)
    except GrammarError as error:
        return Preview(error.problem, error.position)
    count = len(pipeline.stages)
    return Preview(f"{count} stage{'s' * (count != 1)}: {show(pipeline)}")


def preview_line(text: str, known: Container[str]) -> Preview | None:
    """Return how a line typed to a specialist will be understood, `None` when it is a plain question."""
    if text.startswith(PIPE_VERB):
        preview = preview_pipeline(text.removeprefix(PIPE_VERB))
        if preview is None or preview.position is None:
            return preview
        return preview._replace(position=preview.position + len(PIPE_VERB))
    return preview_pipeline(text) if looks_like_pipeline(text, known) else None
