"""Tokens guessed from text, calibrated by what providers really counted.

Pure arithmetic; knows no tokenizer and no model but by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

ASCII_CHARS_PER_TOKEN = 4.0
OTHER_TOKENS_PER_CHAR = 0.7
MESSAGE_TOKENS = 5
"""What a chat template adds to each message."""
SAFETY = 1.08
"""Windows are chosen with estimates this much too high: a prompt that is cut too early still works."""
LEAST, MOST = 0.4, 4.0
LEARNING_RATE = 0.2
TELLING_TOKENS = 40
"""A shorter prompt is mostly template and tells nothing of the text."""


def raw_tokens(text: str) -> float:
    """Return the uncalibrated guess: four ASCII characters a token, other scripts nearer one a character."""
    length = len(text)
    if text.isascii():
        return length / ASCII_CHARS_PER_TOKEN
    ascii_length = len(text.encode("ascii", "ignore"))
    return ascii_length / ASCII_CHARS_PER_TOKEN + (length - ascii_length) * OTHER_TOKENS_PER_CHAR


class TokenEstimator:
    """Guess tokens per model. `factors` maps a model to real tokens per guessed token and may be stored."""

    def __init__(self, factors: Mapping[str, float] | None = None) -> None:
        self.factors = {model: min(max(factor, LEAST), MOST) for model, factor in (factors or {}).items()}

    def learn(self, model: str, texts: list[str], tokens: int) -> None:
        """Take in that the provider counted `tokens` for a prompt made of these messages (persona included)."""
        guessed = sum(map(raw_tokens, texts))
        counted = tokens - MESSAGE_TOKENS * len(texts)
        if guessed < TELLING_TOKENS or counted <= 0:
            return
        seen = min(max(counted / guessed, LEAST), MOST)
        known = self.factors.get(model)
        self.factors[model] = seen if known is None else known + LEARNING_RATE * (seen - known)

    def count(self, text: str, model: str = "") -> int:
        """Return the tokens a text takes as one message, rather too many than too few."""
        return MESSAGE_TOKENS + int(raw_tokens(text) * self.factors.get(model, 1.0) * SAFETY + 0.999)

    def counter(self, model: str) -> Callable[[str], int]:
        """Return `count` for one model."""
        return lambda text: self.count(text, model)
