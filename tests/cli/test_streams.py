"""The streams, arguments and signals a shell may give a command: one sentence and an exit code, never a traceback."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.commandline import BOUND_S, Line

ENDLESS = "[[repeat 9999]] [[rate 50]]"
FLOOD = "[[repeat 99999]] [[rate 5000]]"
COMMANDS = (
    "tekton --help",
    "tekton launch --help",
    "tekton --version",
    "tekton status",
    "tekton status --json",
    "tekton call platform",
    "tekton call",
    "tekton config show",
    "tekton completion bash",
    "tekton doctor",
    "tekton logs backend",
    "tekton discover",
    "tekton gateway",
    "aish --help",
    "aish list",
    "aish apollo hello",
    "aish --json apollo hello",
    "aish team-chat hello",
    "aish -c 'echo x | apollo'",
    "aish --direct apollo hello",
)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_is_a_sentence_and_an_exit_code(line: Line, tmp_path: Path, command: str) -> None:
    done = line.shell(f"{command} > /dev/full", tmp_path)
    program = command.split()[0]
    assert done.stderr.strip() == f"{program}: cannot write the output: No space left on device"
    assert done.returncode == 1
    both = line.shell(f"{command} > /dev/full 2> /dev/full", tmp_path)
    assert both.returncode == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_a_closed_stdout_is_refused_before_anything_is_done(line: Line, tmp_path: Path, command: str) -> None:
    calls = line.home.parent / "calls"
    before = calls.read_text() if calls.exists() else ""
    done = line.shell(f"{command} >&-", tmp_path)
    assert done.returncode == 1 and "stdout is closed" in done.stderr and done.stderr.count("\n") == 1
    assert (calls.read_text() if calls.exists() else "") == before, (
        "a model was asked for an answer with no place"
    )


@pytest.mark.parametrize(
    "command", ["tekton --help", "tekton logs backend", "aish apollo hello", "tekton call"]
)
def test_a_reader_that_left_is_no_error(line: Line, tmp_path: Path, command: str) -> None:
    done = line.shell(f"set -o pipefail; {command} | true", tmp_path)
    assert done.returncode in (0, 141) and done.stderr == ""


def test_closed_stdin_and_stderr_do_no_harm(line: Line, tmp_path: Path) -> None:
    done = line.shell("aish apollo hello <&-", tmp_path)
    assert (done.returncode, done.stdout) == (0, "You said: hello\n"), done.stderr
    assert line.shell("aish nobody hello 2>&-", tmp_path).returncode == 3
    assert line.shell("aish apollo hello 2>&- <&-", tmp_path).stdout == "You said: hello\n"
    assert line.shell("tekton lunch 2>&-", tmp_path).returncode == 2


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8:strict"])
def test_a_narrow_encoding_escapes_what_it_lacks(line: Line, tmp_path: Path, encoding: str) -> None:
    line.environment["PYTHONIOENCODING"] = encoding
    try:
        # ascii lacks what the others lack, and more: with it each command is tried
        for command in (
            *(COMMANDS if encoding == "ascii" else ("tekton --help", "tekton status", "aish list")),
            "aish apollo 'naïve — 日本 😀'",
            "tekton call chat ai_id=apollo content='naïve 😀'",
        ):
            done = line.shell(command, tmp_path)
            assert done.returncode == 0 and "Traceback" not in done.stderr, (command, done.stderr)
        assert json.loads(done.stdout)["content"] == "You said: naïve 😀"
    finally:
        del line.environment["PYTHONIOENCODING"]


@pytest.mark.parametrize("program", ["tekton", "aish"])
def test_an_argument_that_is_not_text_is_refused(line: Line, program: str) -> None:
    words = [b"apollo", b"\xff\xfe"]
    argv = [os.fsencode(word) for word in line.argv(program)]
    done = subprocess.run([*argv, *words], capture_output=True, env=line.environment, timeout=BOUND_S)
    assert done.returncode == 2 and b"argument 2 is not valid UTF-8" in done.stderr
    assert b"Traceback" not in done.stderr


def test_odd_arguments_are_answered_or_refused(line: Line, tmp_path: Path) -> None:
    for words, codes in (
        ((), (2,)),
        (("",), (2,)),
        (("--", "status"), (0, 2)),
        (("call", "=", "x"), (2,)),
        (("logs", "../token"), (3,)),
        (("logs", "x" * 5000), (3,)),
        (("sessions", "show", "x" * 5000), (3,)),
        (("sessions", "pin", "9" * 40), (2,)),
        (("sessions", "pin", "³"), (2,)),
        (("errors", "ack", "9" * 40), (2,)),
        (("models", "set"), (2,)),
        (("export", "none", "-o", str(tmp_path)), (3,)),
        (("bulk", str(tmp_path)), (3,)),
        (("config", "set", "", "1"), (2,)),
        (("config", "get", "x" * 5000), (2,)),
        (("call", "chat", "ai_id=apollo", "content=x", "request_id=" + "9" * 5000), (2,)),
        (("call", "chat", "ai_id=apollo", "content=x", "request_id=5"), (2,)),
        (("--connect", "nonsense", "status"), (2,)),
        (("--connect", "http://", "status"), (2,)),
        (("--connect", "http://127.0.0.1:1", "--token-file", str(tmp_path), "status"), (6,)),
    ):
        done = line("tekton", *words)
        assert done.returncode in codes and "Traceback" not in done.stderr, (words, done)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)]
)
@pytest.mark.parametrize(
    "words",
    [
        ("aish", "apollo", ENDLESS),
        ("aish", "--json", "team-chat", ENDLESS),
        ("aish", "-c", f'echo x | apollo "{ENDLESS}"'),
        ("tekton", "team", ENDLESS),
        ("tekton", "pipe", f'{{apollo,athena}} "{ENDLESS}"'),
    ],
)
def test_a_signal_ends_the_command_and_its_turns(
    line: Line, words: tuple[str, ...], number: signal.Signals, code: int
) -> None:
    with subprocess.Popen(
        line.argv(*words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=line.environment
    ) as process:  # fmt: skip
        line.until("apollo", "busy")
        process.send_signal(number)
        _, told = process.communicate(timeout=BOUND_S)
    assert process.returncode == code and b"Traceback" not in told, told
    line.until("apollo", "ready")


@contextlib.contextmanager
def with_nobody_reading(line: Line, *words: str, both: bool = False) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command until its output fills a pipe that nobody reads, `both` its errors as well."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    try:
        with subprocess.Popen(
            line.argv(*words), stdin=subprocess.DEVNULL, stdout=writing, stderr=writing if both else subprocess.PIPE,
            env=line.environment,
        ) as process:  # fmt: skip
            deadline = time.monotonic() + BOUND_S
            while select.select([], [writing], [], 0)[1]:
                assert process.poll() is None and time.monotonic() < deadline, "the pipe was never full"
                select.select([], [], [], 0.01)
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.skipif(sys.platform != "linux", reason="sets the size of a pipe")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)]
)
@pytest.mark.parametrize(
    "words",
    [
        ("aish", "apollo", FLOOD),
        ("aish", "--json", "apollo", FLOOD),
        ("aish", "-c", f'echo x | apollo "{FLOOD}"'),
        ("tekton", "pipe", "--json", f'apollo "{FLOOD}"'),
    ],
)
@pytest.mark.parametrize("both", [False, True])
def test_a_signal_ends_a_command_whose_output_nobody_reads(
    line: Line, words: tuple[str, ...], number: signal.Signals, code: int, both: bool
) -> None:
    with with_nobody_reading(line, *words, both=both) as process:
        process.send_signal(number)
        assert process.wait(BOUND_S) == code
    line.until("apollo", "ready")


@pytest.mark.skipif(sys.platform != "linux", reason="sets the size of a pipe")
@pytest.mark.parametrize("words", [("completion", "bash"), ("completion", "zsh")])
def test_ctrl_c_ends_a_listing_that_nobody_reads(line: Line, words: tuple[str, ...]) -> None:
    with with_nobody_reading(line, "tekton", *words) as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(BOUND_S) == 130


def test_a_signal_ends_a_bulk(line: Line) -> None:
    request = json.dumps({"specialist_id": "apollo", "message": ENDLESS})
    with subprocess.Popen(
        line.argv("tekton", "bulk"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=line.environment
    ) as process:  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(request.encode())
        process.stdin.close()
        process.stdin = None
        line.until("apollo", "busy")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=BOUND_S)
    assert process.returncode == 143
    line.until("apollo", "ready")


def test_under_nohup_a_hangup_changes_nothing(line: Line) -> None:
    def ignore_hangup() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with subprocess.Popen(
        line.argv("aish", "apollo", "[[repeat 20]] [[rate 20]]"),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=line.environment, preexec_fn=ignore_hangup,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        process.stdout.read(1)
        process.send_signal(signal.SIGHUP)
        out, _ = process.communicate(timeout=BOUND_S)
    assert process.returncode == 0 and out.endswith(b"token19\n")
