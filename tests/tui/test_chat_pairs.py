"""What waits, is written anew, is deleted or renamed while an answer is written: by bytes, with a backend that does it when told."""

from __future__ import annotations

from tekton_tui.commands.drafts import SAVE_DELAY_S
from tests.tui.staged import READ_S, Staged
from tests.tui.test_two_at_once import SWITCH, chat, ready

UP, LEFT, ESC = "\x1b[A", "\x1b[D", "\x1b"


def switch(console: Staged, name: str) -> None:
    console.type(f"{SWITCH}{name}\r")
    console.wait_for(f"to {name}")
    console.rest()


def escape(console: Staged) -> None:
    console.type(ESC)
    console.rest(READ_S)


def open_talk(console: Staged) -> None:
    """Open the newest conversation of the list."""
    console.type(":sessions\r")
    console.wait_for("talk 0")
    console.rest(READ_S)
    console.type("\r")
    console.wait_for("to apollo")
    console.rest()


def asked_twice(console: Staged) -> None:
    """Apollo answers, and a second question of this console waits behind that."""
    chat(console, "apollo")
    console.tell("turn", "tui-1", "apollo", "first", "it ")
    console.tell("queue", "tui-2", "apollo", "second")
    console.wait_for("1 queued")
    console.rest()
    console.calls()


def test_what_waits_goes_on_when_the_console_is_closed_and_what_is_held_comes_back() -> None:
    with ready() as console:
        asked_twice(console)
        console.type("\x11")
        console.wait_for("Leave running")
        console.rest(READ_S)
        console.type(f"{LEFT}{LEFT}\r")
        console.wait()
        assert console.calls("Cancel", "Kill") == []
    with ready() as console:
        asked_twice(console)
        escape(console)
        assert "1 held" in console.text and "second" in console.text
        console.rest(SAVE_DELAY_S)
        calls = console.calls("Cancel", "PutPreference")
        stopped = [call.partition("tui-")[2][:1] for call in calls if call.startswith("Cancel")]
        assert stopped == ["2", "1"]
        assert any("held:apollo" in call and "second" in call for call in calls)


def test_what_is_held_for_one_is_neither_shown_nor_sent_to_another() -> None:
    with ready() as console:
        asked_twice(console)
        escape(console)
        console.tell("end", "tui-2", "apollo", "cancelled")
        console.tell("end", "tui-1", "apollo", "cancelled")
        switch(console, "rhetor")
        console.rest(READ_S)
        assert "held" not in console.text
        console.type("\r")
        console.rest()
        assert console.calls("Chat") == []
        switch(console, "apollo")
        assert "1 held" in console.text
        console.type("\r")
        console.rest()
        [sent] = console.calls("Chat")
        assert '"apollo-ai"' in sent and '"second"' in sent and "held" not in console.text


def rewrite(console: Staged) -> None:
    """Write the second of two questions anew."""
    chat(console, "apollo")
    console.wait_for("word4")
    escape(console)
    console.type("i")
    console.wait_for("a branch")
    console.rest(READ_S)


def test_a_question_written_anew_stays_a_branch_when_it_is_refused_or_waited_and_was_held() -> None:
    with ready(("history", "apollo", 2)) as console:
        rewrite(console)
        console.type(" again")
        console.tell("refused", "its budget is used up")
        console.type("\r")
        console.wait_for("its budget is used up")
        [refused] = console.calls("Chat")
        assert '"after":"' in refused
        console.wait_for("a branch")
        console.tell("refused", "")
        console.tell("turn", "tui-1", "apollo", "of another console", "it ")
        console.rest(READ_S)
        console.type("\r")
        console.rest()
        [sent] = console.calls("Chat")
        after = sent.partition('"after":"')[2].partition('"')[0]
        assert after and after in refused
        console.tell("queue", "tui-2", "apollo", "word3 of the talk again", after)
        console.wait_for("1 queued")
        console.rest()
        escape(console)
        console.wait_for("1 held")
        assert len(console.calls("Cancel")) == 2
        console.tell("end", "tui-2", "apollo", "cancelled")
        console.tell("end", "tui-1", "apollo", "cancelled")
        console.rest()
        console.type("\r")
        console.rest()
        [again] = console.calls("Chat")
        assert f'"after":"{after}"' in again


def test_a_waiting_branch_that_is_taken_back_is_written_as_a_branch() -> None:
    with ready(("history", "apollo", 2)) as console:
        chat(console, "apollo")
        console.tell("turn", "tui-1", "apollo", "first", "it ")
        console.tell("queue", "tui-2", "apollo", "second", "tui-1")
        console.wait_for("1 queued")
        console.rest(READ_S)
        console.type(UP)
        console.wait_for("a branch")
        assert [call.partition("tui-")[2][:1] for call in console.calls("Cancel")] == ["2"]


def test_escape_leaves_what_is_written_anew_and_stops_nothing() -> None:
    with ready(("history", "apollo", 2)) as console:
        rewrite(console)
        escape(console)
        assert console.calls("Cancel", "Chat") == []
        assert "of the talk" in console.text and "a branch" in console.text


def test_a_conversation_that_is_deleted_while_it_is_answered_makes_room_for_the_next() -> None:
    with ready(("history", "apollo", 2)) as console:
        chat(console, "apollo")
        console.wait_for("word4")
        console.tell("turn", "tui-1", "apollo", "first", "it ")
        console.type("a draft")
        console.tell("end", "tui-1", "apollo", "cancelled")
        console.tell("history", "nobody", 0)
        console.tell("removed", "s-apollo-ai")
        console.wait_for("was deleted")
        console.rest()
        assert "word4" not in console.text and "a draft" in console.text
        console.type("\r")
        console.rest()
        [sent] = console.calls("Chat")
        assert '"a draft"' in sent


def test_what_was_held_of_a_conversation_that_is_deleted_is_held_of_the_next() -> None:
    with ready() as console:
        asked_twice(console)
        escape(console)
        assert "1 held" in console.text
        console.tell("end", "tui-1", "apollo", "cancelled")
        console.tell("removed", "s-apollo-ai", "s-new")
        console.wait_for("was deleted")
        console.rest(READ_S)
        assert "1 held" in console.text and "second" in console.text
        console.type("\r")
        console.rest(READ_S)
        (sent,) = console.calls("Chat")
        assert '"second"' in sent and '"s-new"' in sent and "held" not in console.text


def test_a_deleted_conversation_of_earlier_gives_way_to_the_one_there_is() -> None:
    with ready(("history", "apollo", 2)) as console:
        open_talk(console)
        console.tell("removed", "s0")
        console.wait_for("was deleted")
        console.type("go on\r")
        console.rest()
        [sent] = console.calls("Chat")
        assert '"s0"' not in sent and '"go on"' in sent


def test_a_new_title_is_shown_at_once_and_nothing_of_the_answer_is_lost() -> None:
    with ready(("history", "apollo", 2)) as console:
        open_talk(console)
        escape(console)
        console.type(":sessions\r")
        console.wait_for("USED")
        console.rest(READ_S)
        console.type("r")
        console.rest(READ_S)
        console.tell("turn", "tui-1", "apollo", "first", "it ")
        escape(console)
        assert console.calls("Cancel", "PatchSession") == []
        console.tell("renamed", "s0", "apollo", "a better name")
        console.tell("end", "tui-1", "apollo")
        console.type(":chat apollo\r")
        console.wait_for("a better name")


def test_escape_stops_the_answer_of_whom_one_writes_to_and_drafts_stay() -> None:
    with ready() as console:
        chat(console, "rhetor")
        console.tell("turn", "tui-1", "rhetor", "first", "one ")
        console.type("for rhetor")
        switch(console, "numa")
        console.type("for numa")
        console.tell("text", "tui-1", "two")
        console.rest()
        escape(console)
        escape(console)
        assert console.calls("Cancel") == []
        chat(console, "numa")
        assert "for numa" in console.text and "one two" not in console.text
        switch(console, "rhetor")
        console.wait_for("one two")
        assert "for rhetor" in console.text and "for numa" not in console.text
        escape(console)
        [stopped] = console.calls("Cancel")
        assert "tui-1" in stopped and console.calls("Chat") == []
        assert "for rhetor" in console.text
