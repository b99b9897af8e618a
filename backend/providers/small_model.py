"""What makes the shipped 135M model answer in role: how it is sampled, and a short exchange shown before each talk.

Pure. The exchange is made from the persona's own words, stands between persona and conversation, and is the same on
every turn, so that the prompt cache holds it. A larger model needs none of this and gets none.
"""

from __future__ import annotations

import re

from backend.schema.frames import ChatMessage

SAMPLING = {
    "min_p": 0.1,
    "top_p": 0.9,
    "repeat_penalty": 1.0,
    "dry_multiplier": 0.8,
    "dry_allowed_length": 12,
}
"""What keeps it from rambling and from saying a sentence over and over. A penalty on single words would forbid it the
very name it is to say, which stands in the prompt; one on long runs of words does not."""
TEMPERATURE = 0.1
"""It loses its thread above this, whatever its specialist's temperature."""
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
    """Return what is shown as said before: who it is, what it does, that an answer is short.

    Empty for a persona that does not begin `You are NAME, TITLE. You …`.
    """
    found = _PERSONA.match(persona)
    if found is None:
        return []
    who, does = f"I am {found['who']}.", found["does"]
    for pattern, word in _PERSON:
        does = pattern.sub(word, does)
    name = found["who"].partition(",")[0]
    said = [
        ("What is two plus two?", "Two plus two is four."),
        ("How much was it last Friday?", "I do not know. I was given no figures for that."),
        ("What do you do?", f"{who} I {does}."),
        ("What is your name?", f"My name is {name}. {who}"),
    ]
    return [
        message
        for asked, told in said
        for message in (ChatMessage("user", asked), ChatMessage("assistant", told))
    ]


def shortened(persona: str) -> str:
    """Return what of a persona the model can hold: who it is, what it does, how long to answer."""
    found = _PERSONA.match(persona)
    return f"{found[0]} You answer in one or two short sentences." if found else persona
