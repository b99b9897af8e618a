"""On a terminal: tables that fit, colours where they are wanted, nothing hostile, and the shell itself."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from backend.cli.terminal import fitted
from tests.cli.commandline import Line
from tests.cli.terminals import Terminal

HOSTILE = ("\x1b]0;", "\x1b]52", "\x1b[2J", "\x1b[31m", "\x07", "\x9b", "\u202e")


def test_hostile_text_is_harmless_on_a_terminal_and_whole_in_a_pipe(line: Line) -> None:
    piped = line("aish", "--session", "hostile", "apollo", "[[hostile]]")
    assert "\x1b" in piped.stdout, "a pipe gets what the model said"
    for words in (
        ("apollo", "[[hostile]]"),
        ("-c", 'echo x | apollo "[[hostile]]"'),
        ("--direct", "apollo", "[[hostile]]"),
    ):
        with Terminal(line, "aish", *words) as terminal:
            assert terminal.ended() == 0
            drawn = terminal.raw.decode(errors="replace")
            assert "␛" in drawn and not any(code in drawn for code in HOSTILE), drawn


@pytest.mark.parametrize(
    "words",
    [("status",), ("launch", "greek-chorus", "--dry-run"), ("errors",), ("sessions",), ("usage",), ("models",), ("gateway",),
     ("discover",), ("match", "our", "cloud", "bill"), ("doctor",), ("pipe", "--history")],
)  # fmt: skip
def test_no_row_is_wider_than_the_terminal(line: Line, words: tuple[str, ...]) -> None:
    with Terminal(line, "tekton", *words) as terminal:
        terminal.ended()
        rows = terminal.text.splitlines()
    assert rows and max(map(len, rows)) <= 80, max(rows, key=len)


def test_colours_are_on_a_terminal_and_not_where_they_are_refused(line: Line) -> None:
    with Terminal(line, "tekton", "status") as terminal:
        terminal.ended()
        assert "\x1b[32mready" in terminal.raw.decode()
    with Terminal(line, "tekton", "status", NO_COLOR="1") as terminal:
        terminal.ended()
        assert "ready" in terminal.text and "\x1b" not in terminal.raw.decode()


def test_a_watched_fleet_is_drawn_again_in_place(line: Line) -> None:
    with Terminal(line, "tekton", "status", "--watch") as terminal:
        terminal.until("NAME", times=2)
        assert terminal.raw.count(b"\x1b[H") >= 2 and b"\x1b[2J" not in terminal.raw
        terminal.type("\x03")
        assert terminal.ended() == 130


def test_a_watched_fleet_as_json_is_a_row_a_second(line: Line) -> None:
    with Terminal(line, "tekton", "status", "--watch", "--json") as terminal:
        terminal.until('{"', times=2)
        assert not terminal.text.startswith("{\n")
        terminal.process.send_signal(signal.SIGINT)


def test_long_last_cells_wrap_inside_their_column_or_are_told_below() -> None:
    wide = ["ID", "WHAT"], [["1", "a long sentence that cannot stand in one row of it"]]
    drawn = fitted(*wide, 40, wrap=True, tones=[""], tone_column=None, colours=False).splitlines()
    assert len(drawn) == 3 and drawn[1].startswith("1   a long") and drawn[2].startswith("    ")
    cut = fitted(*wide, 20, wrap=False, tones=[""], tone_column=None, colours=False).splitlines()
    assert len(cut) == 2 and cut[1].endswith("…")
    rows = [["apollo", "m" * 20, "it went wrong in a way that is told"], ["numa", "x", ""]]
    drawn = fitted(
        ["NAME", "MODEL", "ERROR"], rows, 40, wrap=True, tones=["", ""], tone_column=None, colours=False
    ).splitlines()
    assert drawn[0].split() == ["NAME", "MODEL"] and drawn[3] == "apollo: it went wrong in a way that is"
    assert max(map(len, drawn)) <= 40


def test_wide_characters_take_two_cells_and_markup_is_text() -> None:
    rows = [["[red]", "知識の専門家"], ["b", "plain"]]
    drawn = fitted(["NAME", "TITLE"], rows, 80, wrap=False, tones=["", ""], tone_column=None, colours=False)
    assert drawn.splitlines()[1] == "[red]  知識の専門家"


def test_the_shell_answers_live_and_remembers_what_was_typed(line: Line) -> None:
    with Terminal(line, "aish") as shell:
        assert "apollo" in shell.until("listen")
        shell.until("aish>")
        shell.raw = b""
        shell.type("apo\t")
        shell.until("llo")
        shell.type("hello there\r")
        shell.until("You said: hello there\n")
        shell.until("aish>", times=1)
        shell.type('echo "x" | apollo | athena\r')
        shell.until("You said: You said: x\n")
        shell.type("nobody there\r")
        shell.until("unknown_specialist")
        shell.type("apollo | | athena\r")
        shell.until("^")
        shell.type('echo "two\r')
        shell.type('lines" | apollo\r')
        shell.until("You said: two\nlines")
        shell.type("exit\r")
        assert shell.ended() == 0
    assert "hello there" in (line.home / "state" / "aish_history").read_text()


def test_ctrl_c_ends_an_answer_at_the_specialist_and_not_the_shell(line: Line) -> None:
    with Terminal(line, "aish") as shell:
        shell.until("aish>")
        for endless in (
            "apollo [[repeat 9999]] [[rate 50]]",
            'echo x | apollo "[[repeat 9999]] [[rate 50]]"',
        ):
            shell.type(f"{endless}\r")
            shell.until("token3 ")
            shell.type("\x03")
            shell.until("aish: cancelled")
            shell.raw = b""
            shell.type("apollo still there?\r")
            shell.until("You said: still there?\n")
            shell.until("aish>", times=2)
        shell.type("half a line")
        shell.until("half a line")
        shell.raw = b""
        shell.type("\x03")
        shell.until("aish>")
        shell.type("\x04")
        assert shell.ended() == 0


def test_a_conversation_is_deleted_on_a_terminal_only_when_a_person_says_so(line: Line) -> None:
    session = line("tekton", "sessions", "new", "apollo", "to be deleted").stdout.strip()
    for answer, code, told in (("n", 1, "nothing was deleted"), ("y", 0, f"deleted {session}")):
        with Terminal(line, "tekton", "sessions", "delete", session) as shown:
            shown.until("“to be deleted” with 0 messages for good? [y/N]")
            shown.type(f"{answer}\n")
            shown.until(told)
            assert shown.ended() == code
    assert session not in line("tekton", "sessions").stdout


def test_a_resized_terminal_is_used_as_it_is(line: Line) -> None:
    for columns in (60, 140):
        with Terminal(line, "tekton", "discover", columns=columns) as terminal:
            terminal.ended()
            longest = max(map(len, terminal.text.splitlines()))
            assert longest <= columns and (longest > 100) == (columns == 140)


def test_a_failed_answer_on_a_terminal_stands_on_its_own_line(line: Line) -> None:
    with Terminal(line, "aish", "apollo", "[[repeat 9]] [[cut internal]]") as terminal:
        assert terminal.ended() == 1
        assert "token2 \naish: apollo: internal: " in terminal.text


def test_output_goes_where_a_shell_says_even_without_a_home(line: Line, tmp_path: Path) -> None:
    done = line.shell("aish apollo one > a.txt; aish -c 'echo two | apollo >> a.txt'; cat a.txt", tmp_path)
    assert done.stdout == "You said: one\nYou said: two\n" and os.listdir(tmp_path) == ["a.txt"]
