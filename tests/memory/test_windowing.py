"""What of a conversation is sent, what is told of the rest, and how tokens are guessed."""

from __future__ import annotations

import itertools
import re

import pytest

from backend.memory import Conversation, TokenEstimator, choose_window
from backend.memory.summary import HEADING, summarise_pruned
from backend.memory.windowing import MESSAGE_TOKENS
from backend.schema.records import Session, StoredMessage

SESSION = Session("s-1", "t", "apollo-ai", 0.0, 0.0)


def words(text: str) -> int:
    return len(text.split())


def exchanges(number: int, *, length: int = 10, first_id: int = 1) -> list[StoredMessage]:
    """Return questions and answers, each `length` words."""
    made: list[StoredMessage] = []
    for index in range(number * 2):
        role = "assistant" if index % 2 else "user"
        author = "apollo-ai" if index % 2 else "you"
        text = " ".join([f"m{first_id + index}", *["word"] * (length - 1)])
        made.append(StoredMessage(first_id + index, "s-1", author, role, text, float(index)))
    return made


def conversation(
    messages: list[StoredMessage], *, pinned: list[StoredMessage] | None = None, earlier: int = 0
) -> Conversation:
    return Conversation(SESSION, messages, pinned or [], earlier)


def test_ten_short_exchanges_are_sent_whole() -> None:
    window = choose_window(conversation(exchanges(10)), room=1000, count=words)
    assert [m.content.split()[0] for m in window.messages] == [f"m{n}" for n in range(1, 21)]
    assert (window.summary, window.notes) == ("", [])


def test_what_is_sent_never_exceeds_the_room() -> None:
    for room in (0, 5, 30, 31, 100, 333, 900):
        for earlier in (0, 500):
            window = choose_window(conversation(exchanges(60), earlier=earlier), room=room, count=words)
            sent = sum(words(m.content) for m in window.messages) + words(window.summary)
            assert sent <= max(room, 24 + 1)


def test_the_newest_come_without_gaps_and_begin_with_a_question() -> None:
    window = choose_window(conversation(exchanges(60)), room=300, count=words)
    numbers = [int(m.content.split()[0][1:]) for m in window.messages]
    assert numbers == list(range(numbers[0], 121))
    assert window.messages[0].role == "user"
    assert len(numbers) >= 10
    assert window.notes == [f"{numbers[0] - 1} earlier messages were pruned to fit the model's context"]


def test_the_cut_stays_where_it_is_for_many_turns_and_small_changes_of_the_room() -> None:
    starts = [
        choose_window(conversation(exchanges(turns)), room=600 - turns % 7, count=words).messages[0].content
        for turns in range(40, 140)
    ]
    assert sum(a != b for a, b in itertools.pairwise(starts)) <= 25


def test_the_cut_stays_too_when_the_history_itself_is_a_moving_window() -> None:
    everything = exchanges(400)
    starts = [
        choose_window(conversation(everything[end - 240 : end], earlier=end - 240), room=100_000, count=words)
        .messages[0]
        .content
        for end in range(240, 640, 2)
    ]
    assert sum(a != b for a, b in itertools.pairwise(starts)) <= 20


def test_pinned_messages_stay_however_old_and_are_not_sent_twice() -> None:
    old = StoredMessage(1, "s-1", "you", "user", "pinned of old", 0.0, pinned=True)
    messages = exchanges(60, first_id=10)
    messages[0].pinned = messages[-2].pinned = True
    window = choose_window(conversation(messages, pinned=[old], earlier=8), room=300, count=words)
    text = "\n".join(m.content for m in window.messages)
    assert text.startswith("pinned of old\n\nm10 ")
    assert text.count("m128 ") == 1
    assert "m11 " not in text


def test_pinned_messages_beyond_their_share_are_left_out_with_a_note() -> None:
    pinned = [StoredMessage(n, "s-1", "you", "user", "w " * 50, 0.0, pinned=True) for n in range(1, 9)]
    window = choose_window(conversation(exchanges(60, first_id=10), pinned=pinned), room=400, count=words)
    assert "6 pinned messages did not fit the model's context" in window.notes


def test_failed_answers_without_text_are_left_out_and_roles_alternate() -> None:
    messages = exchanges(3)
    messages[1].content = ""
    messages[1].error_code = "stalled"
    window = choose_window(conversation(messages), room=1000, count=words)
    assert [m.role for m in window.messages] == ["user", "assistant", "user", "assistant"]
    assert "m1" in window.messages[0].content and "m3" in window.messages[0].content


def test_a_summary_tells_the_telling_and_is_the_same_while_the_pruned_are() -> None:
    told = ["Hello!", "My name is Ines and the deadline is 3 May.", "Nice weather.", "What is a queue?"]
    pruned = [StoredMessage(n, "s-1", "you", "user", text, 0.0) for n, text in enumerate(told)]
    pruned.append(
        StoredMessage(9, "s-1", "apollo-ai", "assistant", "Sure. The cause was a race in Loader.", 0.0)
    )
    summary = summarise_pruned(pruned, 25, words)
    assert summary.splitlines()[0] == HEADING
    assert "- you: My name is Ines and the deadline is 3 May." in summary
    assert "- apollo: The cause was a race in Loader." in summary
    assert "Hello" not in summary
    assert summary.index("Ines") < summary.index("Loader")
    assert words(summary) <= 25
    assert summarise_pruned(list(pruned), 25, words) == summary
    assert summarise_pruned(pruned, 3, words) == ""
    assert summarise_pruned([], 100, words) == ""


FACTS = "My name is Ada, please tell me what you need. The deadline is 4 May. The budget is 12000 euro. Never call my mother."


def heard(*texts: str, author: str = "you") -> list[StoredMessage]:
    role = "user" if author == "you" else "assistant"
    return [StoredMessage(number, "s-1", author, role, text, 0.0) for number, text in enumerate(texts)]


def test_every_fact_of_a_message_is_in_the_summary() -> None:
    summary = summarise_pruned(heard(FACTS, "Thanks!", "Tell me more."), 90, words)
    assert summary.splitlines() == [HEADING, f"- you: {FACTS}"]


def test_what_is_said_again_with_other_figures_counts_once_as_it_was_said_last() -> None:
    asked = heard(FACTS, *(f"Tell me {number}." for number in range(12)))
    answered = heard(
        *(f"The cylinder holds numbers 0 to {n}. Anything else?" for n in range(12)), author="apollo-ai"
    )
    summary = summarise_pruned([*asked, *answered], 60, words)
    assert summary.count("cylinder") == 1 and "0 to 11" in summary
    for fact in ("Ada", "4 May", "12000", "Never call"):
        assert fact in summary
    assert "Tell me" not in summary


@pytest.mark.parametrize(
    ("told", "filler"),
    [
        ("Die Frist ist der 4. Mai. Wir dürfen nie nachts bauen.", "Danke! Ja."),
        ("Le budget est de 12000 euros. On ne doit jamais appeler ma mère.", "Merci! Oui."),
        ("预算是一万二千欧元。截止日期是五月四日。", "好的。谢谢。"),
    ],
)
def test_facts_count_in_any_language_and_fillers_in_none(told: str, filler: str) -> None:
    summary = summarise_pruned(heard(told, filler), 100, words)
    for sentence in re.split(r"(?<=。)|(?<!4)(?<=[.!]) ", told):
        assert sentence in summary
    for word in re.split(r"[。.! ]+", filler):
        assert not word or word not in summary


@pytest.mark.parametrize(
    ("telling", "other"),
    [
        ("It came to 17 in all.", "It came to nothing in all."),
        ("we met Ines there today.", "we met somebody there today."),
        ("The budget was small then.", "The garden was small then."),
        ("The garden was small then.", "Was the garden small then?"),
    ],
    ids=["a figure", "a name", "a word of deciding", "a statement"],
)
def test_where_one_sentence_fits_the_more_telling_one_is_kept(telling: str, other: str) -> None:
    room = words(HEADING) + words(f"- you: {telling}")
    for told in (heard(telling, other), heard(other, telling)):
        assert summarise_pruned(told, room, words).splitlines() == [HEADING, f"- you: {telling}"]


def test_a_pruned_fact_is_in_the_summary_of_the_window() -> None:
    messages = exchanges(60)
    messages[0].content = "Remember: the launch code is 7421."
    window = choose_window(conversation(messages), room=400, count=words)
    assert "7421" in window.summary


def test_the_estimate_starts_sane_and_learns_from_what_was_counted() -> None:
    estimator = TokenEstimator()
    english = "The quick brown fox jumps over the lazy dog and runs away. " * 10
    assert 120 <= estimator.count(english, "m") <= 200
    assert estimator.count("漢字" * 100) > 100
    assert estimator.count("") == MESSAGE_TOKENS
    for _ in range(20):
        estimator.learn("m", [english, english], 2 * 400)
    assert 380 <= estimator.count(english, "m") <= 460
    assert estimator.count(english, "other") < 200
    assert TokenEstimator(estimator.factors).count(english, "m") == estimator.count(english, "m")


def test_the_estimate_ignores_what_cannot_be_true() -> None:
    estimator = TokenEstimator({"m": 1000.0})
    assert estimator.factors["m"] <= 4.0
    estimator.learn("n", ["hi"], 500)
    estimator.learn("n", ["x" * 1000], 0)
    assert "n" not in estimator.factors
