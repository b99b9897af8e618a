"""How a line will be understood when it is sent: as a pipeline, with its stages or its mistake. Sends nothing."""

from __future__ import annotations

import re
from collections.abc import Container

from tekton_tui.widgets.composer_text import Reading

PIPE_VERB = "/pipe "
MAX_READ_CHARS = 20_000
BUILT_IN = ("echo", "cat", "team")
"""Words a pipeline may begin with besides a name."""
_PIPE = re.compile(r"^\s*(?:\{[^}]*\}|@?([A-Za-z][\w-]*)(?:\[[^\]]*\])?)[^|]*\|\s*(?:\{|[A-Za-z@])")


def looks_like_pipeline(text: str, known: Container[str]) -> bool:
    """Return whether it begins with a `known` name, or what else a pipeline begins with, and has a stage after `|`."""
    if "\n" in text.strip():
        return False
    match = _PIPE.match(re.sub(r'"[^"]*"|\'[^\']*\'', '""', text))
    return match is not None and (
        match[1] is None or match[1].lower() in BUILT_IN or match[1].lower() in known
    )


def reading_of_pipeline(text: str) -> Reading | None:
    """Return the stages of a pipeline, or what is wrong with it and where."""
    if not text.strip() or len(text) > MAX_READ_CHARS:
        return None
    from backend.grammar import GrammarError, parse, show

    try:
        pipeline = parse(text)
    except GrammarError as error:
        return Reading(error.problem, error.position)
    count = len(pipeline.stages)
    return Reading(f"{count} stage{'s' * (count != 1)}: {show(pipeline)}")


def reading_of_line(text: str, known: Container[str]) -> Reading | None:
    """Return how a line typed to somebody will be read, when it is more than a question."""
    if text.startswith(PIPE_VERB):
        reading = reading_of_pipeline(text.removeprefix(PIPE_VERB))
        if reading is None or reading.position is None:
            return reading
        return reading._replace(position=reading.position + len(PIPE_VERB))
    return reading_of_pipeline(text) if looks_like_pipeline(text, known) else None
