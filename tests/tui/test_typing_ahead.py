"""What is typed faster than a screen opens, and what is pasted, never runs a verb. By bytes, through a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from tests.tui.pty_fleet import TOLD
from tests.tui.terminal import Terminal

PASTE = "\x1b[200~{}\x1b[201~"
READ_S = 0.4
"""After this long what came by itself could be read: keys act on it."""


class Console(Terminal):
    """A console over scripted specialists, with the calls it made."""

    def __init__(
        self,
        size: tuple[int, int] = (100, 30),
        program: str = "tests.tui.pty_console",
        *,
        first: bool = False,
    ) -> None:
        """`first`: over a fleet of which nobody runs; `answer_launch` then ends a launch."""
        self._calls, end = os.pipe()
        answers, self._launch = os.pipe()
        os.set_blocking(self._calls, False)
        super().__init__(
            [sys.executable, "-m", program],
            size=size,
            env={"CALLS_FD": str(end), **({"FIRST": str(answers)} if first else {})},
            pass_fds=[end, answers],
        )
        os.close(end)
        os.close(answers)
        self.wait_for("numa")

    def answer_launch(self, good: bool = True) -> None:
        os.write(self._launch, b"y" if good else b"n")

    def calls(self) -> list[str]:
        """Return what was asked of the backend since the last time, as far as it does something."""
        try:
            lines = os.read(self._calls, 1_000_000).decode().splitlines()
        except BlockingIOError:
            return []
        return [line for line in lines if line.lstrip("!").partition(" ")[0] in TOLD]


@pytest.fixture
def fresh() -> Iterator[Console]:
    """Give a console whose fleet is empty, with the first form on the screen."""
    with Console((100, 30), first=True) as console:
        console.wait_for("then ⏎ asks")
        console.calls()
        yield console


def done(fresh: Console) -> list[str]:
    return [call.lstrip("!").partition(" ")[0] for call in fresh.calls()]


def begin(fresh: Console) -> str:
    """Press Enter on the first form; return the question that was offered there."""
    offered = fresh.text.partition("asks")[2].partition("“")[2].partition("”")[0]
    fresh.drain(READ_S)
    fresh.type("\r")
    fresh.wait_for("starting")
    return offered


@pytest.fixture
def console() -> Iterator[Console]:
    with Console() as console:
        console.calls()
        yield console


def test_a_sentence_behind_the_key_of_a_place_goes_to_its_composer(console: Console) -> None:
    console.type("3What breaks first under load? xXsR")
    console.wait_for("What breaks first under load? xXsR")
    assert console.calls() == []


def test_a_sentence_behind_enter_on_a_row_goes_to_that_conversation(console: Console) -> None:
    console.drain(READ_S)
    console.type("\rIs it the queue? x")
    console.wait_for("Is it the queue? x")
    assert console.calls() == []
    console.type("\x15")


def test_a_word_behind_the_colon_is_a_command_line(console: Console) -> None:
    console.type(":gateway\r")
    console.wait_for("To copy")
    assert console.calls() == []


def test_a_sentence_on_the_fleet_is_a_filter(console: Console) -> None:
    console.type("rhetor\rXs")
    console.wait_for(lambda text: "rhetor" in text and "harmonia" not in text, "the filtered fleet")
    console.drain()
    assert console.calls() == []


@pytest.mark.parametrize("place", ["1", "2", "3", "4", "5", "6"])
def test_a_paste_runs_no_verb_wherever_it_goes(console: Console, place: str) -> None:
    console.type(place)
    console.drain(0.5)
    console.type(PASTE.format("\x1b[0;1mXjkjkjkj\r\x1b[0m\x1b\x1bsR\rmD\r"))
    console.drain(0.5)
    assert "Cancel" not in console.text and console.calls() == []


def test_a_paste_into_a_composer_is_kept_whole(console: Console) -> None:
    console.type("3")
    console.wait_for("Ask the team")
    console.type(PASTE.format("see \x1b[31mERROR\x1b[0m failed\rsecond line"))
    console.wait_for("second line")
    console.wait_for("see ␛[31mERROR␛[0m failed")  # the field has grown by then
    assert console.calls() == []
    console.type("\x1b[200~" + "long \x1b[A\r" * 100_000 + "\x1b[201~")
    console.wait_for("pasted")
    assert console.calls() == []


def test_a_question_does_not_hear_what_was_typed_before_it_could_be_read(console: Console) -> None:
    console.drain(READ_S)
    console.type("X\x1b[D\r\r")
    console.wait_for("Cancel")
    console.drain(0.5)
    assert "Cancel" in console.text and console.calls() == []
    console.type(PASTE.format("\r\r\ry"))
    console.drain(0.5)
    assert console.calls() == []
    console.type("\x1b[D")
    console.drain(0.2)
    console.type("\r")
    console.wait_for(lambda text: "Cancel" not in text, "the question is gone")
    assert [call.partition(" ")[0] for call in console.calls()] == ["Kill"]


@pytest.mark.parametrize(
    "pieces", [("What are the 3 risks? xXsR",), ("Wh", "at are the 3 risks? xXsR"), ("",)]
)
def test_what_is_written_while_the_first_team_starts_is_in_its_composer_whole(
    fresh: Console, pieces: tuple[str, ...]
) -> None:
    offered = begin(fresh)
    fresh.type(pieces[0])
    fresh.drain()
    fresh.answer_launch()
    for piece in pieces[1:]:
        fresh.type(piece)
    wanted = "".join(pieces) or offered
    fresh.wait_for(lambda text: "to numa" in text and wanted in text, wanted)
    fresh.drain()
    assert "hidden by filter" not in fresh.text and wanted in fresh.text
    assert (offered in fresh.text) == (wanted == offered), (
        "what is written takes the place of what was offered"
    )
    assert done(fresh) == ["Launch"]


def test_letters_typed_one_by_one_while_the_first_team_starts_run_no_verb(fresh: Console) -> None:
    begin(fresh)
    for letter in "sXa tRx":
        fresh.type(letter)
        fresh.drain(0.06)
    assert "Cancel" not in fresh.text
    fresh.answer_launch()
    fresh.wait_for("sXa tRx")
    assert done(fresh) == ["Launch"]


def test_enter_again_and_again_sends_no_question_that_nobody_could_read(fresh: Console) -> None:
    offered = begin(fresh)
    fresh.type("\r\r")
    fresh.answer_launch()
    fresh.type("\r\r")
    fresh.wait_for(lambda text: "to numa" in text and offered in text, "the question in the composer")
    fresh.type("\r")
    fresh.drain(0.6)
    assert done(fresh) == ["Launch"] and offered in fresh.text
    fresh.type("\r")
    fresh.wait_for(lambda text: offered not in text, "the question was sent")
    assert done(fresh) == ["Chat"]


def test_whoever_goes_elsewhere_while_the_first_team_starts_is_left_there(fresh: Console) -> None:
    begin(fresh)
    fresh.type("3")
    fresh.wait_for("Ask the team")
    fresh.type("And all of you?")
    fresh.drain()
    fresh.answer_launch()
    fresh.wait_for("a first question waits")
    fresh.type(" Soon?")
    fresh.wait_for("And all of you? Soon?")
    assert done(fresh) == ["Launch"]


def test_what_was_written_for_a_team_that_does_not_start_goes_nowhere_and_that_is_said(
    fresh: Console,
) -> None:
    begin(fresh)
    fresh.type("sXsR and more\r")
    fresh.drain()
    fresh.answer_launch(good=False)
    fresh.wait_for("14 keys dropped")
    fresh.drain()
    assert "Cancel" not in fresh.text and "hidden by filter" not in fresh.text
    assert done(fresh) == ["Launch"]
