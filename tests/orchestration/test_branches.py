"""A question asked anew is a branch: what it takes the place of stays readable, and is sent to no model."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.schema.branches import KEPT, START, Branches
from backend.schema.content import OpaquePart, TextPart
from backend.schema.errors import TektonError
from backend.schema.records import StoredMessage
from tests.orchestration.running import do, running, sent


def question(number: int, request_id: str, after: str = "") -> StoredMessage:
    parts = [TextPart(request_id), OpaquePart(KEPT, {"after": after})] if after else []
    return StoredMessage(number, "s", "you", "user", request_id, number, request_id=request_id, parts=parts)


def answer(number: int, request_id: str) -> StoredMessage:
    return StoredMessage(number, "s", "a", "assistant", f"to {request_id}", number, request_id=request_id)


TALK = [
    question(1, "a"), answer(2, "a"), question(3, "b"), answer(4, "b"), question(5, "c"), answer(6, "c"),
    question(7, "b2", "a"), answer(8, "b2"), question(9, "d"), answer(10, "d"), question(11, "c2", "b"), answer(12, "c2"),
]  # fmt: skip
"""a → b → c, beside b: b2 → d, beside c: c2."""


@pytest.mark.parametrize(
    ("tip", "way"),
    [("c", ["a", "b", "c"]), ("d", ["a", "b2", "d"]), ("c2", ["a", "b", "c2"]), ("a", ["a"]), ("absent", [])],
)
def test_a_way_holds_its_questions_with_their_answers_and_no_others(tip: str, way: list[str]) -> None:
    kept = Branches(TALK).on_way(TALK, tip)
    assert [message.request_id for message in kept] == [request_id for request_id in way for _ in range(2)]


def test_branches_know_what_stands_beside_them_and_how_they_go_on() -> None:
    branches = Branches(TALK)
    assert branches.newest == "c2" and branches.before("b2") == "a" and branches.before("a") == ""
    assert (
        branches.beside("b2") == ["b", "b2"]
        and branches.beside("c") == ["c", "c2"]
        and branches.beside("a") == ["a"]
    )
    assert branches.tip_of("b2") == "d" and branches.tip_of("b") == "c2"


def test_a_first_question_asked_anew_begins_the_conversation_anew() -> None:
    talk = [question(1, "a"), answer(2, "a"), question(3, "a2", START), answer(4, "a2")]
    branches = Branches(talk)
    assert branches.beside("a2") == ["a", "a2"]
    assert [message.id for message in branches.on_way(talk, "a2")] == [3, 4]


def test_circles_and_strange_words_do_no_harm() -> None:
    talk = [question(1, "a", "b"), question(2, "b", "a"), question(3, "c", "nowhere")]
    assert Branches(talk).way("a") == {"a", "b"} and Branches(talk).way("c") == {"c"}
    odd = StoredMessage(4, "s", "you", "user", "x", 4, request_id="x", parts=[OpaquePart(KEPT, {"after": 7})])
    assert Branches([*TALK, odd]).before("x") == "c2"


def test_messages_without_a_request_stay_with_the_question_before_them() -> None:
    note = StoredMessage(13, "s", "a", "assistant", "imported", 13)
    first = StoredMessage(0, "s", "system", "system", "first", 0)
    talk = [first, *TALK[:8], note]
    branches = Branches(talk)
    assert note in branches.on_way(talk, "b2") and note not in branches.on_way(talk, "c")
    assert first in branches.on_way(talk, "b2")


async def test_a_model_is_sent_the_way_it_is_on_and_everything_stays_readable(tmp_path: Path) -> None:
    async with running(tmp_path / "home", "apollo") as platform:

        async def ask(text: str, request_id: str, after: str = "") -> list[str]:
            outcome = await do(
                platform,
                "chat",
                ai_id="apollo",
                content=f"{text} [[messages]]",
                request_id=request_id,
                after=after,
            )
            return [words.partition(" ")[0] for role, words in sent(outcome.content) if role == "user"]

        assert await ask("one", "q1") == ["one"]
        assert await ask("two", "q2") == ["one", "two"]
        assert await ask("three", "q3") == ["one", "two", "three"]
        assert await ask("two-anew", "q4", "q1") == ["one", "two-anew"]
        assert await ask("four", "q5") == ["one", "two-anew", "four"]
        assert await ask("beside", "q6", "q3") == ["one", "two", "three", "beside"]
        assert await ask("anew", "q7", "start") == ["anew"]
        with pytest.raises(TektonError, match="is no question among the newest"):
            await ask("lost", "q8", "absent")
        history = await do(platform, "conversation_history", specialist_id="apollo", limit=100)
        asked = [message.content.partition(" ")[0] for message in history.messages if message.role == "user"]
        assert asked[:7] == ["one", "two", "three", "two-anew", "four", "beside", "anew"]
