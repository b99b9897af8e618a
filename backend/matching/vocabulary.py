"""What specialists are known by: weighted word stems and phrases, out of the catalogue and the everyday vocabulary.

Reads data; ranks nobody.
"""

from __future__ import annotations

import tomllib
from collections import defaultdict
from importlib import resources

from msgspec import Struct

from backend.catalog import Component
from backend.matching.tokenizer import FILL_WORDS, stem, words

WORD_WEIGHTS = {"strong": 2.0, "words": 1.0, "weak": 0.35}
"""How much an everyday word of each kind says."""
FIELD_WEIGHTS = {"name": 6.0, "capabilities": 1.4, "title": 1.2, "description": 0.7, "persona": 0.25}
"""How much a word says by where it stands in a row of the catalogue."""
OWN_FIELD_WEIGHTS = {"name": 8.0, "capabilities": 6.0, "title": 5.0, "description": 4.0, "persona": 2.5}
"""The operator's own specialists have nothing but their texts, which therefore say more."""
PHRASE_BASE, PHRASE_CONTENT, PHRASE_FILL = 0.5, 0.9, 0.35
GAP = "*"
CODE = "</code>"
"""Stands for a piece of program text in a request; no word is spelled like it."""
CODE_WEIGHT = 2.5
CODE_READER = "apollo"


class Phrase(Struct, frozen=True):
    """A sequence of stems, `*` for a gap; `text` as written, `weight` by how much its words say."""

    stems: tuple[str, ...]
    text: str
    weight: float


class Profile(Struct):
    """All one specialist is known by. `spellings` are whole words, for the correction of misspelt ones."""

    weights: dict[str, float]
    phrases: list[Phrase]
    spellings: set[str]


class _Entry(Struct, forbid_unknown_fields=True):
    """A table of the vocabulary file."""

    strong: str = ""
    words: str = ""
    weak: str = ""
    phrases: list[str] = []


def everyday() -> dict[str, _Entry]:
    """Read the everyday vocabulary of the shipped specialists."""
    text = resources.files("backend.matching").joinpath("vocabulary.toml").read_text(encoding="utf-8")
    return {name: _Entry(**table) for name, table in tomllib.loads(text).items()}


def profile(component: Component, entry: _Entry | None) -> Profile:
    """Return what a specialist is known by; without an `entry`, through the texts of its row alone."""
    weights: defaultdict[str, float] = defaultdict(float)
    spellings: set[str] = set()

    def add(text: str, weight: float) -> None:
        for word in words(text):
            if word not in FILL_WORDS:
                spellings.add(word)
                weights[stem(word)] = max(weights[stem(word)], weight)

    for kind, weight in WORD_WEIGHTS.items():
        add(getattr(entry, kind) if entry else "", weight)
    fields = FIELD_WEIGHTS if entry else OWN_FIELD_WEIGHTS
    add(component.name.replace("_", " ") + " " + " ".join(component.aliases), fields["name"])
    add(" ".join([*component.capabilities, *component.roles]), fields["capabilities"])
    for field in ("title", "description", "persona"):
        add(getattr(component, field), fields[field])
    if entry and component.name == CODE_READER:
        weights[CODE] = CODE_WEIGHT
    texts = [*(entry.phrases if entry else []), *(c for c in component.capabilities if " " in c)]
    phrases = {phrase.stems: phrase for phrase in map(as_phrase, texts)}
    spellings |= {word for phrase in texts for word in words(phrase) if word not in FILL_WORDS}
    return Profile(dict(weights), list(phrases.values()), spellings)


def headline(component: Component) -> set[str]:
    """Return the stems of a specialist's name, title and capabilities: what it is for, in few words."""
    names = [component.name.replace("_", " "), *component.aliases, component.title, *component.capabilities]
    return {stem(word) for word in words(" ".join(names)) if word not in FILL_WORDS}


def as_phrase(text: str) -> Phrase:
    """Return a phrase of the data, its words cut to stems."""
    parts = [part for piece in text.lower().split() for part in ([GAP] if piece == GAP else words(piece))]
    content = sum(part not in FILL_WORDS and part != GAP for part in parts)
    fill = sum(part in FILL_WORDS for part in parts)
    weight = PHRASE_BASE + PHRASE_CONTENT * content + PHRASE_FILL * fill
    return Phrase(tuple(part if part == GAP else stem(part) for part in parts), text, weight)
