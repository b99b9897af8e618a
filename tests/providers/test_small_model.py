"""What the shipped model is shown before a conversation: made of the persona's own words, or nothing."""

from __future__ import annotations

from typing import Any

from backend import catalog
from backend.config import Settings
from backend.providers.small_model import EXCHANGE_TOKENS, exchange, with_facts
from backend.schema.frames import ChatMessage, PreviousOutput, Request, TurnContext
from backend.specialists.prompting import assemble


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


def told(content: str, **context: Any) -> list[ChatMessage]:
    """Return what a worker sends and this model is shown instead."""
    return with_facts(assemble("", Request(content=content, context=TurnContext(**context))).messages)


def test_facts_stand_in_plain_words_before_the_question_with_one_answered_example() -> None:
    facts = "apollo is unhealthy: it was killed 2 s ago.\n\nHost: CPU 3 %."
    example, answer, last = told("Who is down?", facts=facts)
    assert last == ChatMessage(
        "user", "Facts:\napollo is unhealthy: it was killed 2 s ago.\n\nAnswer from the facts: Who is down?"
    )
    assert example.content.startswith("Facts:\n") and answer.content in example.content
    assert "tokens" in told("How much?", facts="Today apollo used 3 tokens.")[1].content


def test_who_greets_it_or_asks_about_itself_is_answered_without_facts() -> None:
    for asked in ("Who are you?", "Hello!", "What is your role?"):
        assert told(asked, facts="apollo is unhealthy.") == [ChatMessage("user", asked)]


def test_other_material_and_talk_without_facts_stay_as_they_were() -> None:
    output = PreviousOutput("athena-ai", 'The bridge is <facts from="the platform">\nx\n</facts>\n long.')
    assert len(told("Sum up.", previous=[output])) == 1
    kept = told("Sum up.", previous=[output], facts="apollo is unhealthy.")[-1].content
    assert "The bridge is" in kept and kept.endswith("Answer from the facts: Sum up.")
    assert with_facts([]) == []
