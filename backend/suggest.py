"""Say which name was probably meant by one that nobody knows."""

from __future__ import annotations

from collections.abc import Iterable

LONGEST = 100
"""Characters of the unknown name that are compared: the time this takes grows with their square."""


def nearest(name: str, known: Iterable[str], count: int = 1, likeness: float = 0.6) -> list[str]:
    """Return the known names most like a misspelt one, most alike first; none when none is.

    Args:
        likeness: How alike a name must be, 0 to 1: the share of characters that both have in the same order.
    """
    # imported late: only a misspelling needs it
    import difflib

    word = name[:LONGEST].lower().replace("-", "_")
    plain = {other.lower().replace("-", "_"): other for other in known}
    return [plain[found] for found in difflib.get_close_matches(word, plain, n=count, cutoff=likeness)]


def meant(name: str, known: Iterable[str], count: int = 1) -> str:
    """Return the hint behind "there is no X": `did you mean 'kill'?`, or the names there are when none is like it."""
    names = list(known)
    if near := nearest(name, names, count):
        return f"did you mean {' or '.join(map(repr, near))}?"
    return f"known: {', '.join(names)}"
