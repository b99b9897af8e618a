"""Two things at once: what arrives, goes or breaks while keys are typed. By bytes, with a backend that does it when told to."""

from __future__ import annotations

import pytest

from tests.tui.staged import PASTE, READ_S, Staged

SWITCH = "\x0f"


def ready(*orders: tuple[object, ...]) -> Staged:
    console = Staged(*orders, ("connect",))  # type: ignore[arg-type]
    console.wait_for("14 stopped")
    console.rest(READ_S)
    console.calls()
    return console


def chat(console: Staged, name: str) -> None:
    console.type(f":chat {name}\r")
    console.wait_for(f"to {name}")
    console.rest()


def transcript(console: Staged) -> list[str]:
    """Return the rows of the conversation, without the scroll bar."""
    return [row[:96] for row in console.emulator.rows[3:20]]


def test_who_reads_further_up_stays_there_while_answers_come_and_when_the_backend_comes_back() -> None:
    with ready(("history", "rhetor", 40)) as console:
        chat(console, "rhetor")
        console.type("\x1b")
        console.rest(0.2)
        console.type("\x1b[5~\x1b[5~")
        console.rest()
        read = transcript(console)
        assert any("word" in row for row in read) and "word80" not in "".join(read)
        console.tell("turn", "tui-new", "rhetor", "next?", "x ")
        console.tell("text", "tui-new", "more words\n\n" * 20)
        console.rest()
        assert transcript(console) == read
        console.tell("end", "tui-new", "rhetor")
        console.tell("lost")
        console.tell("back")
        console.rest()
        assert transcript(console) == read


def test_a_draft_found_late_takes_nothing_of_what_is_written_and_is_not_lost() -> None:
    with ready(("draft", "rhetor-ai", "of yesterday"), ("hold", "GetPreference")) as console:
        chat(console, "rhetor")
        console.type("of today")
        console.rest()
        console.tell("release")
        console.wait_for("↑ in the empty field")
        assert "of today" in console.text and "of yesterday" not in console.text
        console.type("\x15\x1b[A")
        console.wait_for("of yesterday")


def test_an_ask_that_comes_while_something_is_written_is_answered_by_no_letter_of_it() -> None:
    with ready(("asks",)) as console:
        chat(console, "apollo")
        console.tell("turn", "tui-new", "apollo", "do it")
        console.type("half a ")
        console.order("ask", 0)
        console.type("axA ")
        console.rest(1.2)
        console.type("xaA")
        console.wait_for("half a axA xaA")
        assert console.calls("AnswerAsk", "Cancel", "Chat") == []


def test_an_ask_that_another_console_answers_first_closes_and_says_who() -> None:
    with ready(("asks", "t-00")) as console:
        console.type("e")
        console.wait_for("a once")
        console.rest(0.6)
        console.order("answered", 0, "deny", "athena-2")
        console.type("a")
        console.wait_for("apollo: denied by athena-2")
        console.rest(1.2)
        assert "a once" not in console.text and console.process.poll() is None


def test_a_conversation_that_another_console_deleted_first_leaves_the_list_and_is_said_once() -> None:
    with ready() as console:
        console.type(":sessions\r")
        console.wait_for("talk 0")
        console.rest()
        console.type("D")
        console.wait_for("for good")
        console.rest(READ_S)
        console.tell("deleted")
        console.type("\x1b[D")
        console.rest()
        console.type("\r")
        console.wait_for("No conversation yet")
        console.rest()
        assert console.text.count("There is no session") == 1


@pytest.mark.keys
def test_a_question_survives_the_loss_of_the_backend_and_hits_what_it_named() -> None:
    with ready() as console:
        for opens, title in (("X", "Kill ergon"), ("S", "Launch plan")):
            console.type(opens)
            console.wait_for(title)
            console.tell("lost")
            console.tell("row", "rhetor", "stopped")
            console.tell("back")
            console.rest(READ_S)
            for size in ((40, 10), (120, 40), (100, 30)):
                console.resize(*size)
                console.rest(0.1)
                assert title[:4] in console.text
            console.type("\x1b")
            console.wait_for(lambda text, title=title: title not in text)
        assert console.calls("Kill", "Launch") == []


@pytest.mark.keys
def test_a_draft_and_a_paste_stay_with_whom_they_were_written_to() -> None:
    with ready() as console:
        chat(console, "rhetor")
        console.type("for rhetor \x1b[200~pas")
        console.tell("lost")
        console.tell("back")
        console.type(f"ted\x1b[201~{SWITCH}numa\r")
        console.wait_for("to numa")
        console.type("for numa" + PASTE.format("!"))
        console.wait_for("for numa!")
        console.type(f"{SWITCH}rhetor\r")
        console.wait_for("for rhetor pasted")
        assert console.calls("Chat") == []


@pytest.mark.keys
def test_a_kill_hits_whom_it_named_although_the_filter_lets_the_row_go() -> None:
    with ready() as console:
        console.type("/rhe\r")
        console.wait_for(lambda text: "rhetor" in text and "athena" not in text)
        console.rest(READ_S)
        console.type("X")
        console.wait_for("Kill rhetor")
        console.tell("gone", "rhetor")
        console.rest(READ_S)
        console.type("\x1b[D\r")
        console.rest(READ_S)
        assert [call for call in console.calls("Kill") if "rhetor-ai" not in call] == []
        console.type("\x1b")
        console.rest()
        console.type("\x15/num\r")
        console.wait_for("numa")
        console.rest(READ_S)
        console.order("gone", "numa")
        console.type("X")
        console.rest(READ_S)
        assert "Kill apollo" not in console.text and "Kill athena" not in console.text
        console.type("\x1b[D\r")
        console.rest()
        assert [call for call in console.calls("Kill") if "numa-ai" not in call] == []


@pytest.mark.keys
def test_words_are_found_while_an_answer_grows_and_the_reader_stays_at_the_hit() -> None:
    with ready(("history", "rhetor", 40)) as console:
        chat(console, "rhetor")
        console.type("\x1b")
        console.rest(READ_S)
        console.tell("turn", "tui-new", "rhetor", "next?", "x ")
        console.type("/wor")
        console.tell("text", "tui-new", "more words\n\n" * 20)
        console.type("d12")
        console.wait_for("word12")
        console.rest()
        console.type("\r")
        console.rest()
        read = transcript(console)
        assert any("word12" in line for line in read)
        console.tell("text", "tui-new", "and more\n\n" * 20)
        console.tell("end", "tui-new", "rhetor")
        console.rest()
        assert transcript(console) == read
        assert console.calls("Chat", "Cancel") == []


def test_a_terminal_that_shrinks_and_grows_in_one_moment_is_painted_anew() -> None:
    """It forgets what it cut off, and the console hears of the size it had before."""
    with ready() as console:
        before = console.settled
        for size in ((90, 20), (100, 30)):
            console.resize(*size)
        console.rest(READ_S)
        assert console.settled == before
