"""What makes the shipped 135M model answer in role: how it is sampled, and a short exchange shown before each talk.

Pure. The exchange is made from the persona's own words, stands between persona and conversation, and is the same on
every turn, so that the prompt cache holds it. A larger model needs none of this and gets none.
"""

from __future__ import annotations

import re

from backend.schema.frames import ChatMessage

SAMPLING = {
    "min_p": 0.1, "top_p": 0.9, "repeat_penalty": 1.02, "repeat_last_n": 200,
    "dry_multiplier": 1.5, "dry_allowed_length": 16,
}  # fmt: skip
"""What keeps it from rambling and from saying a sentence over and over. A strong penalty on single words would forbid
it the very name it is to say, which stands in the prompt; one on long runs of words does not."""
TEMPERATURE = 0.2
"""It loses its thread above this, whatever its specialist's temperature."""
EXCHANGE_TOKENS = 160
"""At most what the exchange takes of the model's window, for any persona of the catalogue."""
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
