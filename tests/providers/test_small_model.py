"""What the shipped model is shown before a conversation: made of the persona's own words, or nothing."""

from __future__ import annotations

from backend import catalog
from backend.config import Settings
from backend.providers.small_model import EXCHANGE_TOKENS, exchange
from backend.schema.frames import ChatMessage


def test_every_persona_of_the_catalogue_is_introduced_in_its_own_words() -> None:
    for component in catalog.load(Settings()):
        shown = exchange(component.persona)
        assert [message.role for message in shown] == ["user", "assistant"] * (len(shown) // 2)
        told = [message.content for message in shown if message.role == "assistant"]
        title = component.title.removeprefix("The ")
        assert title in told[-1] and component.name.replace("_", " ").title() in told[-1]
        assert " you" not in " ".join(told).lower()
        assert sum(len(message.content) // 4 + 6 for message in shown) < EXCHANGE_TOKENS


def test_a_persona_of_another_shape_is_left_alone() -> None:
    assert exchange("Answer in rhymes.") == [] == exchange("")


def test_the_second_person_becomes_the_first() -> None:
    shown = exchange("You are Zed, the Tester of the Tekton platform. You check your work yourself. More.")
    assert shown[-1] == ChatMessage("assistant", "I am Zed, the Tester.")
    assert shown[5].content == "I am Zed, the Tester. I check my work myself."
