"""Questions about the platform that its own figures answer: who runs, what failed, what is slow, what it cost.

The shipped model reads figures badly, so code answers what code has counted, and says so. Pure: the text of the facts
(`backend.monitor.platform_summary`, `Budgets.facts`) and the question in, an answer or nothing out.
"""

from __future__ import annotations

import re
from collections.abc import Callable

SOURCE = "From the platform's own figures:"
"""Stands before such an answer, so that nobody takes it for the model's."""
NOTE = "counted by the platform; the model was not asked"
LONGEST_QUESTION = 120
"""Characters; what is longer brings something along that it is about."""
MOST_LINES = 6

_SUBJECT = re.compile(
    r"\b(?:who|anybody|anyone|somebody|someone|everybody|everyone|everything|anything|components?|specialists?|platform|fleet"
    r"|tekton|workers?|services?|machine|host|right now|today|so far|which of you|budgets?)\b",
    re.IGNORECASE,
)
_BESIDE = re.compile(
    r"[\W]*\b(?:right now|now|at the moment|currently|today|so far|on this machine|please)\W*\Z",
    re.IGNORECASE,
)
"""What may stand behind a short question and changes nothing of it."""
_SHORT = re.compile(
    r"\A\W*(?:what|which(?: one)?|anything|something)(?: is| was|'s| has| went)?(?: the)? (?:broken|wrong"
    r"|(?:failed|slow|slowest|down|running|runs|stalled|crashed)(?: here)?)\W*\Z"
    r"|\A\W*what should i look at\b.*|\A\W*(?:are there|any|is there)(?: any| an)? errors?\W*\Z"
    r"|\A\W*how much (?:memory|cpu|money|did it cost)\b.*|\A\W*what did (?:it|this|that|all) cost\b.*|\A\W*status\W*\Z",
    re.IGNORECASE,
)
_OTHER_MATTER = re.compile(
    r"\b(?:my(?! attention)|our|this(?! machine| platform| fleet)|these|that|plan|code|project|build|deploy\w*|tests?)\b",
    re.IGNORECASE,
)
"""Says that a question is about something else, unless it names the platform."""
_RUNNING = re.compile(r"(?P<name>[\w-]+): (?:ready|busy|starting)\b.*\bup ")


def _running(lines: list[str]) -> list[str]:
    names = [found["name"] for line in lines if (found := _RUNNING.match(line))]
    if not names:
        return [line for line in lines if re.match(r"\d+ specialists:", line)]
    return [f"{len(names)} run{'s' * (len(names) == 1)}: {', '.join(names)}."]


def _kept(pattern: str) -> Callable[[list[str]], list[str]]:
    wanted = re.compile(pattern)
    return lambda lines: [line for line in lines if wanted.search(line)]


_INTENTS: tuple[tuple[re.Pattern[str], Callable[[list[str]], list[str]]], ...] = tuple(
    (re.compile(words, re.IGNORECASE), lines)
    for words, lines in (
        (
            r"\b(?:costs?|spen[dt]|tokens?|budgets?|money|price|expensive|left)\b",
            _kept(r"^Today |^No tokens were used"),
        ),
        (
            r"\b(?:slow|slowest|slower|fast|fastest|latency|quick|quickest)\b",
            _kept(r"^Slowest|^No answers? yet"),
        ),
        (r"\b(?:memory|cpu|load|ram|machine|host)\b", _kept(r"^Host:")),
        (r"\berrors?\b", _kept(r"^Errors nobody|^No unacknowledged|^- [\w.-]+: ")),
        (
            r"\b(?:unhealthy|healthy|health|broken|wrong|crash\w*|down|fail\w*|dead|died|stall\w*|lost|attention|all right"
            r"|okay|ok|look at|not (?:answer|run\w*|start)|stop(?:ped)?|happened|status|problem\w*|could not start)\b",
            _kept(r"is unhealthy|^No component is unhealthy"),
        ),
        (r"\b(?:runs?|running|alive|ready|busy|up|active|work(?:s|ing)|available|here)\b", _running),
    )
)


def asks_about_platform(asked: str, facts: str = "") -> bool:
    """Return whether a question is about the platform and its figures would answer it.

    Whom the facts name counts as naming the platform.
    """
    text = " ".join(asked.split())
    if not text or len(text) > LONGEST_QUESTION or not any(words.search(text) for words, _ in _INTENTS):
        return False
    short = text
    while (less := _BESIDE.sub("", short)) != short:
        short = less
    if _SHORT.match(short):
        return True
    named = bool(_names(facts) & set(re.findall(r"[\w-]+", text.lower())))
    if (
        _OTHER_MATTER.search(text)
        and not named
        and not re.search(r"\b(?:specialist|component|fleet|platform)", text, re.I)
    ):
        return False
    return named or _SUBJECT.search(text) is not None


def answer(facts: str, asked: str) -> str:
    """Return what the facts say to a question, with where it comes from; empty when they do not answer it."""
    if not asks_about_platform(asked, facts):
        return ""
    lines = [line.strip() for line in facts.splitlines() if line.strip()]
    for words, pick in _INTENTS:
        if words.search(asked) and (found := pick(lines)):
            return f"{SOURCE} {' '.join(_nearest(found, asked)[:MOST_LINES])}"
    return ""


def _names(facts: str) -> set[str]:
    found = {match[1].lower() for match in re.finditer(r"^([\w-]+)(?:: | is unhealthy)", facts, re.MULTILINE)}
    found |= {name.lower() for name in re.findall(r"^Today ([\w-]+) used", facts, re.MULTILINE)}
    for stopped in re.findall(r"^Stopped: (.*)\.$", facts, re.MULTILINE):
        found |= {name.strip().lower() for name in stopped.split(",")}
    return found - {"host", "stopped"}


def _nearest(lines: list[str], asked: str) -> list[str]:
    """Return the lines about whom the question names, all of them when it names nobody."""
    words = set(re.findall(r"[\w-]+", asked.lower())) - {"today", "the", "is", "no", "component", "platform"}
    named = [line for line in lines if words & set(re.findall(r"[\w-]+", line.lower())[:3])]
    return named or lines
