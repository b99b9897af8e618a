"""Whatever reads a stranger's text where others wait must take a time that grows with the text and no faster.

Measured is the processor's time of this thread for a text and for one eight times as long, never the clock on the wall: what
grows with the square takes sixty-four times as much.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from backend import catalog, grammar, log, text
from backend.config import Settings
from backend.gateway.completions.asked import MAX_STOP_CHARS
from backend.gateway.completions.stop_sequences import Stopper
from backend.matching.matcher import Matcher
from backend.memory import summary, terms
from backend.orchestration.approvals import rules
from backend.orchestration.settings import matches
from backend.providers import http
from backend.providers.embedded.small_model import with_facts
from backend.schema.errors import TektonError
from backend.schema.frames import ChatMessage
from backend.schema.orchestration import RoutingRule
from backend.schema.params import unknown_parameter
from backend.schema.tools import Rule
from backend.wire import LineSplitter
from backend.worker import prompt

WHOLE = 256 * 1024
LONGER = 8
NOISE = 3.0
"""How much more than its length's share a longer text may take: caches, the garbage collector, neighbours."""
UNMEASURABLE_S = 0.004

known = catalog.load(Settings())
matcher = Matcher(known)
nested = RoutingRule("(a+)+(b+)+$|(x|x)*y", ["apollo"])


def _stops(content: str) -> None:
    stopper = Stopper([content[:MAX_STOP_CHARS], content[1 : MAX_STOP_CHARS - 1] + "x"])
    for start in range(0, len(content), 64):
        stopper.feed(content[start : start + 64])


def _lines(content: str) -> None:
    splitter, data = LineSplitter(), content.encode()
    for start in range(0, len(data), 512):
        splitter.feed(data[start : start + 512])


DENIED = Rule("deny", "files:write path=*" + "a*" * 250 + "b")


def _judged(content: str) -> None:
    for value in (content, [content[:2]] * (len(content) // 2)):
        rules.decide([DENIED], "files:write", json.dumps({"path": value}), [""])


PARSERS: dict[str, Callable[[str], object]] = {
    "a pipeline": grammar.parse,
    "a script": grammar.parse_script,
    "a stage's options": lambda content: grammar.parse(f"apollo[model={content}] hi"),
    "a fan-out": lambda content: grammar.parse(f"{{apollo,{content}}} hi"),
    "highlighting": grammar.spans,
    "matching": matcher.match,
    "a routing rule": lambda content: matches(nested, content),
    "a search": terms.terms,
    "redaction": log.redact,
    "cleaning": text.escaped,
    "cleaning one line": text.escaped_line,
    "delimiters of a prompt": lambda content: prompt._TAG.sub("&lt;", content),
    "facts in a prompt": lambda content: with_facts([ChatMessage("user", content)]),
    "a summary": lambda content: summary._sentences.__wrapped__(content[: summary.LOOKED_AT_CHARS]),
    "an upstream's words": lambda content: (http.OVERFLOW.search(content), http.PARAMETER.search(content)),
    "stop texts": _stops,
    "lines of a socket": _lines,
    "a call's arguments under a rule": _judged,
    "the rule for exactly a call": lambda content: rules.exact_pattern(
        "a:b", json.dumps({"text": f"a{content}b"})
    ),
    "a rule": lambda content: rules.read_pattern(f"a:b c={content}d"),
    "a glob": lambda content: rules.matches(content, content),
    "a parameter that is not there": lambda content: unknown_parameter("chat", content, ["temperature"] * 9),
    "a specialist that is not there": known.get,
}
PIECES = [
    "a", "A", "_", "0", "-", ".", ":", "/", "'", '"', " ", "\n", "[", "]", "{", "}", "<", ">", "|", ",", ";", "=", "#",
    "@", "\\", "A_KEY", "x-api-key", "http://", "Bearer ", "sk-", "eyJ", '<facts from="the platform">\n', "\u0300",
    "\u00df", "\u4e2d", "\U0001f600", "\u200d", "\ufe0f", "\x1b", "model=", "echo ", "input 1 tokens ", 'b"c"',
]  # fmt: skip
WORST = {
    "a stage's options": [("a", " ", 'b"c"'), ('"', '\\"', ""), ("", "a=", "")],
    "matching": [("", "\u4e2d", ""), ("", "a", "")],
    "a routing rule": [("", "a", "c"), ("", "x", "c")],
    "redaction": [("", "-eyJ", ""), ("", "A_KEY", ""), ("", "a-http://", "")],
    "facts in a prompt": [("", '<facts from="the platform">\n', "")],
    "a script": [("", "a;", ""), ("", "#\n", "")],
    "a search": [('"', "a ", ""), ("", '"\u4e2d', "")],
    "a call's arguments under a rule": [("", "a", ""), ("", "a;", ""), ("", "../", "")],
    "the rule for exactly a call": [("", " ", ""), ("", " a", "")],
    "a rule": [("", " ", ""), ("", " a=", "")],
    "a glob": [("", "a", ""), ("", "a*", "b"), ("", "\\", "")],
}


def _made(before: str, repeated: str, behind: str, size: int) -> str:
    return before + repeated * (size // len(repeated)) + behind


def _cost_s(parse: Callable[[str], object], content: str) -> float:
    started = time.thread_time()
    with suppress(TektonError):
        parse(content)
    return time.thread_time() - started


def _too_dear(parse: Callable[[str], object], pieces: tuple[str, str, str], size: int) -> str:
    """Return how much too much a text of `size` costs, empty when it grows with its length only."""
    for _ in range(3):  # a moment's noise does not come three times
        short_s = _cost_s(parse, _made(*pieces, size // LONGER))
        long_s = _cost_s(parse, _made(*pieces, size))
        if long_s <= LONGER * short_s * NOISE or long_s < UNMEASURABLE_S:
            return ""
    return f"{pieces}: {short_s * 1e3:.1f} ms, and for {LONGER} times as much {long_s * 1e3:.1f} ms"


@pytest.mark.parametrize("name", PARSERS)
def test_its_worst_256_kilobytes_cost_their_length_and_no_more(name: str) -> None:
    worst = WORST.get(name, [("", "a", "")])
    assert not [told for pieces in worst if (told := _too_dear(PARSERS[name], pieces, WHOLE))]


@pytest.mark.parametrize("name", PARSERS)
def test_no_text_of_repeated_pieces_costs_more_than_its_length(name: str) -> None:
    drawn = random.Random(name)
    texts = [
        (drawn.choice(["", *PIECES]), "".join(drawn.choices(PIECES, k=drawn.choice((1, 1, 2)))), drawn.choice(["", *PIECES]))
        for _ in range(60)
    ]  # fmt: skip
    assert not [told for pieces in texts if (told := _too_dear(PARSERS[name], pieces, 12_000))]
