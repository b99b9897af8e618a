"""What makes the shipped 135M model answer in role: how it is sampled, a short exchange shown before each talk, and
the platform's facts in a form it can use.

Pure. The exchange is made from the persona's own words, stands between persona and conversation, and is the same on
every turn, so that the prompt cache holds it. A larger model needs none of this and gets none.
"""

from __future__ import annotations

import re
from typing import Any, cast

from backend.providers.embedded.platform_answers import answer as answer_from
from backend.providers.embedded.platform_answers import asks_about_platform
from backend.schema.content import ChatMessage

SAMPLING = {
    "min_p": 0.1, "top_p": 0.9, "repeat_penalty": 1.02, "repeat_last_n": 200,
    "dry_multiplier": 1.5, "dry_allowed_length": 16,
}  # fmt: skip
"""What keeps it from rambling and from saying a sentence over and over. A strong penalty on single words would forbid
it the very name it is to say, which stands in the prompt; one on long runs of words does not."""
LONGEST_TEXT, MOST_ITEMS = 400, 16
"""Bounds of what a JSON schema leaves open: the model would go on until the cap on its answer, and end in the middle."""
TEMPERATURE = 0.2
"""It loses its thread above this, whatever its specialist's temperature."""
EXCHANGE_TOKENS = 230
"""At most what the exchange and the tasks behind it take of the model's window, for any persona of the catalogue."""
_PERSONA = re.compile(
    r"You are (?P<who>[A-Z][\w ]*, [^.]+?)(?: of (?:the )?Tekton(?: platform)?)?\. You (?P<does>[^.]+)\."
)
_PERSON = (
    (re.compile(r"\byours?elf\b"), "myself"),
    (re.compile(r"\byour\b"), "my"),
    (re.compile(r"\byou are\b"), "I am"),
    (re.compile(r"\byou\b"), "I"),
)


def exchange(persona: str) -> list[ChatMessage]:
    """Return what is shown as said before: that an answer is short, that not knowing is one, who it is and what it does.

    Empty for a persona that does not begin `You are NAME, TITLE. You …`.
    """
    found = _PERSONA.match(persona)
    if found is None:
        return []
    who, does = f"I am {found['who']}.", found["does"]
    for pattern, word in _PERSON:
        does = pattern.sub(word, does)
    said = [
        ("What is two plus two?", "Two plus two is four."),
        ("How much was spent in 1999?", "I do not know that: I was given no figures."),
        ("What is your role?", f"{who} I {does}."),
        ("What is your name?", who),
        ("Who are you?", who),
    ]
    return [
        message
        for asked, told in said
        for message in (ChatMessage("user", asked), ChatMessage("assistant", told))
    ]


_NO_TASK = re.compile(
    r"\b(?:you(?:r|rs|rself)?|hello|hi|hey|thanks?)\b"  # to it, or about it
    r"|\b(?:how (?:many|much)|spen[dt]|last (?:year|month|week)|right now)\b"  # for figures it does not have
    r"|[^\x00-\x7f]|\b(?:qui|vous|wer|bist|du|hei(?:ß|ss)t|quien|eres|llamas|chi|sei|chiami)\b",  # in another language
    re.IGNORECASE,
)
_TASKS = (
    ("Give me one reason to sleep.", "Sleep gives the body rest and the mind time to sort what it learned."),
    ("Write a title for a text about trees.", "Trees: Slow Giants of the Forest"),
)


def tasks(asked: str) -> list[ChatMessage]:
    """Return what is shown behind the exchange before a question that is not about the specialist itself.

    Without it the model answers every second of them with its name, which it has just read.
    """
    if _NO_TASK.search(asked.rpartition("</material>\n")[2]):
        return []
    return [
        one for said, told in _TASKS for one in (ChatMessage("user", said), ChatMessage("assistant", told))
    ]


_FACTS_BEGIN, _FACTS_END = '<facts from="the platform">\n', "\n</facts>\n"
_NOTHING_ELSE = re.compile(r"\A[^\n]*\n<material>\n</material>\n+")
_ABOUT_ITSELF = re.compile(
    r"\b(?:who|what|how) (?:are|can|do|is) you(?:r|rself)?\b|\byour (?:name|role|job)\b|\A\W*(?:hello|hi|hey|thanks?)\b",
    re.IGNORECASE,
)
FACTS_LINES = 6
"""Of the platform's facts, the first: more confuse it."""
_SICK = "vulcan is unhealthy: it stopped by itself 5 min ago: exited with code 1: no such file."
_WELL = "No component is unhealthy."
_SPENT = "Today juno used 120 tokens. Of its budget 80 tokens are left."


def with_facts(messages: list[ChatMessage]) -> list[ChatMessage]:
    """Return messages whose last turn tells the platform's facts in a few plain sentences close to the question.

    Their first paragraph, with one answered example of the same shape before the talk: without it the model repeats the
    delimiters and makes facts up. Left out of questions that do not ask for them, which it would answer with them too.
    """
    found = _parted(messages)
    if found is None:
        return messages
    told, before, mark, asked = found
    if _ABOUT_ITSELF.search(asked) or not asks_about_platform(asked, told):
        return [*messages[:-1], ChatMessage("user", before + mark + asked)]
    facts = "\n".join(_nearest(told.partition("\n\n")[0].splitlines(), asked))
    shown, question, answer = _example(facts)
    return [
        ChatMessage("user", _facts_turn(shown, question)),
        ChatMessage("assistant", answer),
        *messages[:-1],
        ChatMessage("user", before + mark + _facts_turn(facts, asked.strip())),
    ]


def counted_answer(messages: list[ChatMessage]) -> str:
    """Return the answer to the last turn that the platform's facts in it give by themselves; empty when they do not."""
    found = _parted(messages)
    if found is None or found[1].strip() or _ABOUT_ITSELF.search(found[3]):
        return ""
    return answer_from(found[0], found[3])


def _parted(messages: list[ChatMessage]) -> tuple[str, str, str, str] | None:
    """Return the facts of the last turn, what stands before its question in two parts, and the question."""
    last = messages[-1] if messages else ChatMessage("user", "")
    before, begun, behind = last.content.partition(_FACTS_BEGIN)
    told, ended, after = behind.partition(_FACTS_END)
    if not (begun and ended):
        return None
    before, mark, asked = _NOTHING_ELSE.sub("", before + after).rpartition("</material>\n")
    return told, before, mark, asked


def bounded(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON schema whose texts and lists have an end."""
    kind = schema.get("type")
    limits: dict[str, Any] = {}
    if kind == "string" and not schema.keys() & {"enum", "const", "format", "pattern"}:
        limits = {"maxLength": LONGEST_TEXT}
    elif kind == "array":
        limits = {"maxItems": max(MOST_ITEMS, schema.get("minItems", 0))}
    return {**limits, **{name: _bounded(value) for name, value in schema.items()}}


def _bounded(value: Any) -> Any:
    if isinstance(value, dict):
        return bounded(cast(dict[str, Any], value))
    return [_bounded(one) for one in cast(list[Any], value)] if isinstance(value, list) else value


def _example(facts: str) -> tuple[str, str, str]:
    """Return facts of the same shape, a question and its answer; details of an example can turn up in the answer."""
    if facts.startswith(_WELL):
        return _WELL, "Which component is unhealthy?", _WELL
    if "unhealthy" in facts:
        return _SICK, "Which component is unhealthy?", _SICK
    return _SPENT, "How many tokens did juno use?", "juno used 120 tokens today."


def _nearest(lines: list[str], asked: str) -> list[str]:
    """Return the facts about whom the question names, all of them when it names nobody; it takes one for another."""
    words = set(re.findall(r"\w+", asked.lower())) - {"today", "the", "is", "no", "component"}
    named = [line for line in lines if words & set(re.findall(r"\w+", line.lower())[:3])]
    return (named or lines)[:FACTS_LINES]


def _facts_turn(facts: str, asked: str) -> str:
    return f"Facts:\n{facts}\n\nAnswer from the facts: {asked}"
