"""Questions and pipelines from a shell: answers on stdout, failures on stderr with their exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from backend.cli.streams import MAX_INPUT_BYTES
from tests.cli.commandline import BOUND_S, Line


def test_a_question_is_answered_on_stdout(line: Line) -> None:
    done = line("aish", "apollo", "hello", "there")
    assert (done.returncode, done.stdout, done.stderr) == (0, "You said: hello there\n", "")


def test_what_is_piped_in_stands_behind_the_words(line: Line) -> None:
    done = line("aish", "apollo", "sum up:", given="one\ntwo\n")
    assert done.stdout == "You said: sum up:\n\none\ntwo\n"


def test_the_shells_own_pipes_carry_answers_into_files(line: Line, tmp_path: Path) -> None:
    done = line.shell('echo "x" | aish apollo | aish athena > out.txt', tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.txt").read_text() == "You said: You said: x\n"


def test_redirects_and_cat_read_and_write_here(line: Line, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("from a file")
    for script, wanted in [
        ("apollo < in.txt > out.txt", "You said: from a file\n"),
        (
            "cat in.txt | apollo | athena >> out.txt",
            "You said: from a file\nYou said: You said: from a file\n",
        ),
        ('echo "new" | athena > out.txt', "You said: new\n"),
    ]:
        done = line("aish", "-c", script, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        assert (tmp_path / "out.txt").read_text() == wanted


def test_a_script_file_runs_line_by_line_until_one_fails(line: Line, tmp_path: Path) -> None:
    (tmp_path / "work.ai").write_text(
        '# first\necho "one" | apollo\necho "x" | dionysus\necho "never" | apollo\n'
    )
    done = line("aish", "./work.ai", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (4, "You said: one\n")
    assert "stage 2" in done.stderr and "not_running" in done.stderr


def test_a_script_may_come_through_the_pipe(line: Line, tmp_path: Path) -> None:
    done = line.shell("aish <<'END'\necho \"here\" | apollo\nEND", tmp_path)
    assert (done.returncode, done.stdout) == (0, "You said: here\n"), done.stderr


def test_json_lines_hold_pieces_and_the_whole(line: Line) -> None:
    done = line("aish", "--json", "apollo", "a b")
    rows = [json.loads(row) for row in done.stdout.splitlines()]
    assert "".join(row["content"] for row in rows if row["type"] == "chunk") == rows[-1]["content"]
    assert rows[-1]["type"] == "answer" and rows[-1]["content"] == "You said: a b"
    assert rows[-1]["metadata"]["usage"]["output_tokens"] == 4
    failed = line("aish", "--json", "dionysus", "x")
    assert (failed.returncode, failed.stdout) == (4, "")
    assert json.loads(failed.stderr)["code"] == "not_running"


def test_json_lines_of_a_pipeline_end_with_the_run(line: Line) -> None:
    rows = [
        json.loads(row)
        for row in line("aish", "--json", "-c", "echo x | apollo | athena").stdout.splitlines()
    ]
    assert rows[-1]["content"] == "You said: You said: x"
    assert [stage["state"] for stage in rows[-1]["run"]["stages"]] == ["done", "done"]
    held = line("aish", "--json", "--no-stream", "-c", "echo x | apollo").stdout.splitlines()
    assert len(held) == 1 and json.loads(held[0])["content"] == "You said: x"


def test_no_stream_gives_the_same_text(line: Line) -> None:
    assert line("aish", "--no-stream", "apollo", "x").stdout == "You said: x\n"
    assert line("aish", "--no-stream", "-c", "echo x | apollo | athena").stdout == "You said: You said: x\n"


def test_a_named_session_goes_on(line: Line) -> None:
    for text in ("first", "second [[messages]]"):
        done = line("aish", "--session", "of its own", "apollo", text)
        assert done.returncode == 0, done.stderr
    told = [message["content"] for message in json.loads(done.stdout)]
    assert told[:2] == ["first", "You said: first"] and len(told) == 3
    other = line("aish", "--session", "others", "apollo", "[[messages]]")
    assert len(json.loads(other.stdout)) == 1
    assert "You said: first" in line("aish", "--session", "of its own", "history", "apollo").stdout


@pytest.mark.parametrize(
    ("title", "spelled"),
    [
        ("my  chat", "my chat"),
        ("  a lead ", "a lead"),
        ("t" * 260, "t" * 260),
        ("one\ttwo", "one two"),
        ("Strasse ß", "Strasse ß"),
    ],
    ids=["two blanks", "blanks around", "long", "a tab", "beyond ASCII"],
)
def test_a_session_goes_on_however_its_title_is_spelled(line: Line, title: str, spelled: str) -> None:
    """A title is kept in one line and cut: what is typed is brought into the same shape before it is looked for."""
    before = len(json.loads(line("tekton", "sessions", "--json").stdout)["sessions"])
    for name in (title, spelled, title):
        done = line("aish", "--session", name, "athena", "[[messages]]")
        assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) == 5
    assert len(json.loads(line("tekton", "sessions", "--json").stdout)["sessions"]) == before + 1


def test_the_socket_itself_can_be_asked(line: Line) -> None:
    done = line("aish", "--direct", "apollo", "straight")
    assert (done.returncode, done.stdout) == (0, "You said: straight\n"), done.stderr
    dead = line("aish", "--direct", "dionysus", "x")
    assert (dead.returncode, dead.stdout) == (4, "") and "not_running" in dead.stderr


def test_the_whole_team_answers_under_its_names(line: Line) -> None:
    done = line("aish", "team-chat", "all")
    assert done.returncode == 0
    assert "apollo:\nYou said: all\n" in done.stdout and "athena:\nYou said: all\n" in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["dionysus", "x"], 4, "dionysus: not_running"),
        (["nobody", "x"], 3, "unknown_specialist"),
        (["apolo", "x"], 3, "apollo"),
        (["@nobody", "x"], 3, "unknown_specialist"),
        (["--direct", "list"], 2, "NAME and a text"),
        (["--direct", "--session", "a", "apollo", "x"], 2, "--session"),
        (["--session", "none such", "history", "apollo"], 3, "none such"),
        (["apollo", "[[fail provider_auth]]"], 5, "apollo: provider_auth"),
        (["-c", "echo x | apollo | dionysus | athena"], 4, "stage 3 dionysus: not_running"),
        (["-c", 'echo x | apollo | athena "[[fail model_not_found]]"'], 3, "stage 3"),
        (["-c", 'echo x | apollo[timeout=0.2] "[[first 30]]"'], 7, "stage 2"),
        (["-c", "apollo | | athena"], 2, "  apollo | | athena\n           ^"),
        (["-c", "echo 'x' | apollo > /nowhere/out"], 2, "/nowhere/out"),
        (["-c", "cat missing.txt | apollo"], 3, "missing.txt"),
        (["apollo"], 2, "nothing to ask"),
    ],
)
def test_a_failure_leaves_stdout_empty_and_names_itself(
    line: Line, words: list[str], code: int, told: str
) -> None:
    done = line("aish", *words)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert told in done.stderr and "Traceback" not in done.stderr


def test_a_failed_pipeline_leaves_its_output_file_alone(line: Line, tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("kept")
    done = line("aish", "-c", "echo x | dionysus > kept.txt", cwd=tmp_path)
    assert done.returncode == 4 and (tmp_path / "kept.txt").read_text() == "kept"


def test_five_megabytes_pass_whole_and_the_conversation_goes_on(line: Line) -> None:
    text = "m" * 5_000_000
    long = ("--session", "long", "apollo")
    assert line("aish", *long, given=text).stdout == f"You said: {text}\n"
    done = line("aish", *long, "and now?")
    assert done.returncode == 0 and done.stdout.endswith("and now?\n"), done.stderr


def test_more_than_the_cap_is_refused_by_its_name(line: Line) -> None:
    done = line("aish", "apollo", given=b"m" * 9_000_000)
    assert (done.returncode, done.stdout) == (6, "")
    assert f"{MAX_INPUT_BYTES:,} bytes" in done.stderr


def test_bytes_that_are_no_text_are_refused(line: Line) -> None:
    done = line("aish", "apollo", given=b"\xff\xfe\x00")
    assert (done.returncode, done.stdout) == (2, "") and "not UTF-8" in done.stderr


def test_the_first_piece_is_out_long_before_the_answer_ends(line: Line) -> None:
    endless = "[[repeat 9999]] [[rate 20]]"
    for argv in (
        line.argv("aish", "apollo", endless),
        line.argv("aish", "-c", f'echo x | apollo "{endless}"'),
    ):
        with subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=line.environment,
        ) as process:
            assert process.stdout is not None
            first = os.read(process.stdout.fileno(), 64)
            running = process.poll() is None
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=BOUND_S)
            assert first.startswith(b"token0") and running, told
            assert process.returncode == 130


def test_a_reader_that_leaves_ends_the_answer(line: Line, tmp_path: Path) -> None:
    done = line.shell("aish apollo '[[repeat 9999]] [[rate 50]]' | head -c 6", tmp_path)
    assert done.stdout == "token0" and "Traceback" not in done.stderr
    rows = json.loads(line("tekton", "discover", "--active", "--json").stdout)["specialists"]
    assert {row["name"]: row["state"] for row in rows}["apollo"] == "ready"


@pytest.mark.parametrize(
    "words",
    [("--session", "slow", "apollo", "[[repeat 120000]]"), ("-c", 'echo x | apollo "[[repeat 120000]]"')],
)
def test_a_reader_that_pauses_gets_every_piece_once(line: Line, words: tuple[str, ...]) -> None:
    with subprocess.Popen(
        line.argv("aish", *words),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=line.environment,
    ) as process:
        assert process.stdout is not None
        began = os.read(process.stdout.fileno(), 64)
        for _ in range(15):  # others are served meanwhile, and the answer runs ahead of its reader
            assert line("tekton", "status").returncode == 0
        rest, told = process.communicate(timeout=BOUND_S)
    assert process.returncode == 0, told
    assert (began + rest).split() == [b"token%d" % number for number in range(120_000)]
