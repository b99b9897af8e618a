"""What the shipped model is shown before a conversation: made of the persona's own words, or nothing."""

from __future__ import annotations

from typing import Any

import pytest

from backend import catalog
from backend.config import Settings
from backend.providers.embedded.platform_answers import SOURCE
from backend.providers.embedded.small_model import (
    EXCHANGE_TOKENS,
    counted_answer,
    exchange,
    tasks,
    with_facts,
)
from backend.schema.frames import ChatMessage, PreviousOutput, Request, TurnContext
from backend.worker.prompt import assemble


def test_every_persona_of_the_catalogue_is_introduced_in_its_own_words() -> None:
    for component in catalog.load(Settings()):
        shown = exchange(component.persona)
        assert [message.role for message in shown] == ["user", "assistant"] * (len(shown) // 2)
        told = [message.content for message in shown if message.role == "assistant"]
        title = component.title.removeprefix("The ")
        assert title in told[-1] and component.name.replace("_", " ").title() in told[-1]
        assert " you" not in " ".join(told).lower()
        shown += tasks("Name a risk.")
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
    assert "tokens" in told("What did it cost today?", facts="Today apollo used 3 tokens.")[1].content


def test_who_greets_it_or_asks_about_itself_is_answered_without_facts() -> None:
    for asked in ("Who are you?", "Hello!", "What is your role?"):
        assert told(asked, facts="apollo is unhealthy.") == [ChatMessage("user", asked)]


def test_other_material_and_talk_without_facts_stay_as_they_were() -> None:
    output = PreviousOutput("athena-ai", 'The bridge is <facts from="the platform">\nx\n</facts>\n long.')
    assert len(told("Sum up.", previous=[output])) == 1
    kept = told("Who is down?", previous=[output], facts="apollo is unhealthy.")[-1].content
    assert "The bridge is" in kept and kept.endswith("Answer from the facts: Who is down?")
    assert with_facts([]) == []


FACTS = """No component is unhealthy.

2 specialists: 2 ready
numa: ready, up 5 min, 3 answers
apollo: ready, up 5 min, 3 answers
Slowest to its first token: apollo, 2.4 s.
Host: CPU 12 % of 4 cores, load 0.40, memory 9.0 of 16.0 GiB available.
No unacknowledged errors.
Stopped: metis.

Today the platform used 320 tokens and spent 0.0010 USD."""


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("Who runs?", "2 run: numa, apollo."),
        ("Which specialists are running?", "2 run: numa, apollo."),
        ("What is slow?", "Slowest to its first token: apollo, 2.4 s."),
        ("what is slow here", "Slowest to its first token: apollo, 2.4 s."),
        ("which one is the slowest right now, please?", "Slowest to its first token: apollo, 2.4 s."),
        ("what's running here", "2 run: numa, apollo."),
        ("What has failed so far?", "No component is unhealthy."),
        ("status, please", "No component is unhealthy."),
        ("What did it cost today?", "Today the platform used 320 tokens and spent 0.0010 USD."),
        ("What failed?", "No component is unhealthy."),
        ("Are there any errors?", "No unacknowledged errors."),
        ("Who needs my attention?", "No component is unhealthy."),
        (
            "How busy is this machine?",
            "Host: CPU 12 % of 4 cores, load 0.40, memory 9.0 of 16.0 GiB available.",
        ),
    ],
)
def test_questions_about_the_platform_are_answered_by_what_code_counted_and_say_so(
    asked: str, said: str
) -> None:
    messages = assemble("", Request(content=asked, context=TurnContext(facts=FACTS))).messages
    assert counted_answer(messages) == f"{SOURCE} {said}"


@pytest.mark.parametrize(
    "asked",
    [
        "name one risk of this plan",
        "Name one risk of this plan.",
        "What could fail in this plan?",
        "What breaks first under load?",
        "Why does my build fail?",
        "How do I run the tests?",
        "What went wrong in our deployment?",
        "Is this code healthy?",
        "Tell me a joke",
        "What should I do first in a new project?",
        "Which database is fastest?",
        "What is wrong here?",
        "What is slow here in my code?",
        "What is a slow cooker?",
        "Who are you?",
        "Hello!",
        "Weigh these answers: " + "who runs? " * 20,
    ],
)
def test_no_other_question_is_answered_with_health_or_figures(asked: str) -> None:
    messages = assemble("", Request(content=asked, context=TurnContext(facts=FACTS))).messages
    assert counted_answer(messages) == ""
    assert "unhealthy" not in " ".join(message.content for message in with_facts(messages))


def test_a_question_about_what_another_said_is_not_taken_for_one_about_the_platform() -> None:
    output = PreviousOutput("athena-ai", "The bridge is long.")
    context = TurnContext(facts=FACTS, previous=[output])
    assert counted_answer(assemble("", Request(content="What failed?", context=context)).messages) == ""


def test_tasks_are_shown_before_a_task_and_not_before_a_question_to_itself() -> None:
    assert [message.role for message in tasks("Name one risk of this plan")] == ["user", "assistant"] * 2
    for asked in ("Who are you?", "Hello!", "Wer bist du?", "¿Cómo te llamas?", "How much did we spend?"):
        assert tasks(asked) == [], asked
