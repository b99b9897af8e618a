"""Reads a line that was typed behind `:`. Pure: it knows the table of verbs and who there is, no screen and no backend."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Final, NamedTuple

from backend.schema.records import SpecialistStatus
from tekton_tui.safe_text import safe_inline
from tekton_tui.verbs import BY_WORD, Verb

MAX_CANDIDATES: Final = 5
LAUNCHABLE: Final = ("starter", "all")


class Known(NamedTuple):
    """What a line may name. `places` are names of places by all they are called; `here` is who is meant without a name."""

    rows: Mapping[str, SpecialistStatus]
    marked: frozenset[str]
    here: tuple[str, ...]
    places: Mapping[str, str]
    themes: tuple[str, ...]


class Line(NamedTuple):
    """What was typed: a place to go to, or a verb with the ids it names and the text behind them."""

    verb: Verb | None
    place: str = ""
    ids: tuple[str, ...] = ()
    text: str = ""


class Candidate(NamedTuple):
    """A line that would be understood, and what it hits."""

    text: str
    hint: str


class NotUnderstood(ValueError):
    """A line that names nothing, or more than one thing; the words say which there are."""


def read(text: str, known: Known) -> Line:
    """Return what a line means. A word with an argument is a verb, whatever place has its name.

    Raises:
        NotUnderstood: A word or name is not known, or one is missing.
    """
    word, _, rest = text.strip().partition(" ")
    rest = rest.strip()
    verb = BY_WORD.get(word)
    # `chat` alone is a place, `chat apollo` a verb
    if word in known.places and not rest:
        return Line(None, known.places[word])
    if verb is None:
        raise NotUnderstood(_unknown(word, known))
    if rest and not verb.takes:
        raise NotUnderstood(f"{word} takes nothing behind it: {rest!r}")
    match verb.takes:
        case "who":
            return Line(verb, ids=_who(rest.split(), known))
        case "who text":
            name, _, words = rest.partition(" ")
            return Line(verb, ids=_who([name] if name else [], known), text=words.strip())
        case "names":
            return Line(verb, ids=tuple(_launchable(rest.split(), known)))
        case "theme" if rest and rest not in known.themes:
            raise NotUnderstood(f"no theme {rest!r}. There are: {', '.join(known.themes)}")
        case _:
            return Line(verb, text=rest)


def _unknown(word: str, known: Known) -> str:
    words = sorted({*BY_WORD, *known.places})
    near = [each for each in words if each.startswith(word)] or get_close_matches(word, words, 3)
    if near:
        return f"not understood: {word!r}. Did you mean {', '.join(near[:MAX_CANDIDATES])}?"
    return f"not understood: {word!r}. ? lists all there is"


def _who(words: Sequence[str], known: Known) -> tuple[str, ...]:
    """Return ids of names, `@group`, `marked`, `all` and `is:state`; without any, none."""
    found: dict[str, None] = {}
    for word in words:
        ids = _ids(word, known)
        if not ids:
            raise NotUnderstood(_nobody(word, known))
        found.update(dict.fromkeys(ids))
    return tuple(found)


def _ids(word: str, known: Known) -> list[str]:
    rows = known.rows.values()
    lower = word.lower()
    if lower == "all":
        return [row.id for row in rows if row.pid]
    if lower == "marked":
        return sorted(known.marked)
    if lower.startswith("@"):
        return [row.id for row in rows if lower[1:] in map(str.lower, row.groups)] or _named(lower[1:], known)
    if lower.startswith("is:"):
        return [row.id for row in rows if lower[3:] in (row.state, row.phase)]
    return _named(lower, known)


def _named(name: str, known: Known) -> list[str]:
    return [row.id for row in known.rows.values() if name in (row.name.lower(), row.id.lower())]


def _nobody(word: str, known: Known) -> str:
    """Say that a name is nobody's, and whose names begin so: a name is never guessed."""
    if word.lower() == "marked":
        return "nobody is marked"
    if word.lower().startswith("is:"):
        return f"nobody is {word[3:]}"
    names = [row.name for row in known.rows.values()]
    near = [name for name in names if name.lower().startswith(word.lower())] or get_close_matches(
        word, names, 3
    )
    return f"no specialist {word!r}" + (f": {', '.join(near)}? tab completes" if near else "")


def _launchable(words: Sequence[str], known: Known) -> Iterator[str]:
    groups = {group for row in known.rows.values() for group in row.groups}
    for word in words:
        name = word.removeprefix("@")
        if word in LAUNCHABLE or name in groups:
            yield name
        else:
            yield from _who([word], known)


def candidates(text: str, known: Known) -> list[Candidate]:
    """Return lines that begin with what is typed, the likeliest first."""
    before, space, _ = text.rpartition(" ")
    if not space:
        found = (Candidate(word, hint) for word, hint in _words(known))
    else:
        verb = BY_WORD.get(before.partition(" ")[0])
        names = _arguments(verb, before, known) if verb is not None else ()
        found = (Candidate(f"{before} {name}", hint) for name, hint in names)
    wanted = text.lower()
    return [each for each in found if each.text.lower().startswith(wanted)][:MAX_CANDIDATES]


def _words(known: Known) -> Iterator[tuple[str, str]]:
    for word, place in known.places.items():
        yield word, f"go to {place}"
    for word, verb in BY_WORD.items():
        if word not in known.places:
            yield word, verb.help


def _arguments(verb: Verb, before: str, known: Known) -> Iterable[tuple[str, str]]:
    if verb.takes == "theme":
        return ((theme, "") for theme in known.themes)
    if verb.takes not in ("who", "names", "who text") or (verb.takes == "who text" and " " in before):
        return ()
    return _names(verb, known)


def _typable(row: SpecialistStatus) -> str:
    """Return the name, or the id of one whose name has characters that nobody types."""
    return row.name if safe_inline(row.name) == row.name else row.id


def _names(verb: Verb, known: Known) -> Iterator[tuple[str, str]]:
    rows = list(known.rows.values())
    starts = verb.takes == "names"
    for row in sorted(rows, key=lambda row: bool(row.pid) == starts):
        yield _typable(row), f"{row.title} · {row.phase or row.state}"
    if starts:
        yield "starter", "those named in fleet.starter"
    yield "all", "all there are" if starts else f"the {sum(bool(row.pid) for row in rows)} that run"
    if known.marked:
        yield "marked", f"the {len(known.marked)} marked"
    for state in dict.fromkeys(row.phase or row.state for row in rows):
        ids = [row.name for row in rows if state in (row.state, row.phase)]
        yield f"is:{state}", f"{len(ids)}: {', '.join(ids)}"
    for group in dict.fromkeys(group for row in rows for group in row.groups):
        yield f"@{group}", "the group"
