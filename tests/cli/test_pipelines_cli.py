"""`tekton pipe` on the product: clocks and sizes of stages, pipefail, cancel from a stage, running again from one."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commandline import BOUND_S, Line


def _runs(line: Line) -> list[Any]:
    return json.loads(line("tekton", "pipe", "--history", "--json").stdout)["runs"]


def _table(text: str) -> list[list[str]]:
    return [row.split() for row in text.splitlines()[1:]]


def test_each_stage_has_its_clock_its_first_token_and_its_sizes(line: Line) -> None:
    done = line("tekton", "pipe", "--times", "echo 'abc' | apollo | athena")
    assert (done.returncode, done.stdout) == (0, "You said: You said: abc\n")
    rows = _table(done.stderr)
    assert [row[1] for row in rows] == ["done", "done"]
    assert all(row[3] == "s" and row[5] == "ms" for row in rows), done.stderr
    assert [(row[6], row[7]) for row in rows] == [("3", "13"), ("13", "23")]


def test_a_failed_stage_ends_the_run_and_the_later_ones_are_not_run(line: Line) -> None:
    done = line("tekton", "pipe", "--times", 'echo x | apollo "[[fail provider_auth]]" | athena')
    assert (done.returncode, done.stdout) == (5, "")
    assert "stage 2 apollo" in done.stderr and "provider_auth" in done.stderr
    rows = _table(done.stderr.partition("tekton:")[0])
    assert [row[1] for row in rows] == ["failed", "not"] and rows[1][2] == "run"


def test_a_run_is_kept_with_its_stages_and_can_be_looked_at(line: Line) -> None:
    line("tekton", "pipe", "apollo 'first' | athena 'second'", given="the input")
    run = _runs(line)[0]
    assert (
        run["ok"]
        and run["input"] == "the input"
        and [stage["state"] for stage in run["stages"]] == ["done"] * 2
    )
    assert run["stages"][1]["input"] == run["stages"][0]["output"]
    told = line("tekton", "pipe", "--show", run["request_id"]).stdout
    assert "1 apollo" in told and run["stages"][0]["output"] in told
    listed = line("tekton", "pipe", "--history", "--limit", "1").stdout.splitlines()
    assert len(listed) == 2 and listed[1].startswith(run["request_id"])
    missing = line("tekton", "pipe", "--show", "pipe-none")
    assert (missing.returncode, missing.stdout) == (3, "")


def test_a_stage_is_told_what_was_asked_first_and_who_answered_before(line: Line) -> None:
    done = line("tekton", "pipe", 'apollo | athena "[[messages]] judge"', given="the question")
    [message] = json.loads(done.stdout)
    assert '<output from="apollo-ai">\nYou said: the question' in message["content"]
    assert '<original_input from="the operator">\nthe question' in message["content"]


def test_a_run_goes_again_from_a_stage_on_what_came_before_it(line: Line, tmp_path: Path) -> None:
    calls = line.home.parent / "calls"
    line("tekton", "pipe", 'apollo "[[say kept]]" | athena', given="x")
    first = _runs(line)[0]
    before = len(calls.read_text().splitlines())
    again = line("tekton", "pipe", "--run", first["request_id"], "--from", "2")
    assert (again.returncode, again.stdout) == (0, first["output"] + "\n")
    assert len(calls.read_text().splitlines()) == before + 1, "the first stage was asked again"
    wrong = line("tekton", "pipe", "--run", first["request_id"], "--from", "7")
    assert (wrong.returncode, wrong.stdout) == (2, "") and "1 to 2" in wrong.stderr


def test_a_run_is_ended_from_a_stage_on_by_another_terminal(line: Line) -> None:
    with subprocess.Popen(
        line.argv("tekton", "pipe", "--json", 'echo x | apollo | athena "[[repeat 9999]] [[rate 20]]"'),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=line.environment,
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stdout.readline().startswith(b'{"type": "chunk"')
        [run] = [run for run in _runs(line) if run["stages"][-1].get("state") == "running"]
        ended = line("tekton", "pipe", "--cancel", f"{run['request_id']}/2")
        assert ended.returncode == 0 and "cancelled" in ended.stdout, ended.stderr
        _, told = process.communicate(timeout=BOUND_S)
    assert process.returncode == 130 and json.loads(told)["code"] == "cancelled"
    kept = _runs(line)[0]
    assert [stage["state"] for stage in kept["stages"]] == ["done", "cancelled"]


def test_interrupting_a_run_ends_its_turns(line: Line) -> None:
    with subprocess.Popen(
        line.argv("tekton", "pipe", 'echo x | {apollo,athena} "[[repeat 9999]] [[rate 20]]" | apollo'),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=line.environment,
    ) as process:  # fmt: skip
        while not any(
            run["stages"][0].get("first_token_ms") for run in _runs(line) if not run.get("total_time")
        ):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=BOUND_S)
    assert (process.returncode, out) == (130, b"")
    assert _runs(line)[0]["code"] == "cancelled"
    rows = json.loads(line("tekton", "status", "--json").stdout)["specialists"]
    assert {row["name"]: row.get("state") for row in rows if row.get("pid")} == {
        "apollo": "ready",
        "athena": "ready",
    }


def test_a_member_that_fails_is_told_beside_the_answers_of_the_others(line: Line) -> None:
    done = line("tekton", "pipe", "{apollo,terma}", given="x")
    assert done.returncode == 0 and "apollo:\nYou said: x" in done.stdout
    assert "terma" in done.stderr and "not_running" in done.stderr


SHAPES = {
    "one": 'apollo "say X"',
    "words before": 'echo "X" | apollo',
    "chain": 'apollo "say X" | athena | apollo "and now:"',
    "fan-out of one": '{apollo} "say X"',
    "fan-out": '{apollo,athena} "say X"',
    "one with two settings": '{apollo[temperature=0.1],apollo[temperature=0.9]} "say X"',
    "fan-out in the middle": 'apollo "say X" | {athena,apollo} "and you:" | athena',
    "judge": '{apollo,athena} "say X" | apollo "Which is better?"',
    "fan-out of one behind a chain": 'apollo "say X" | {athena}',
    "fan-out last": 'apollo "say X" | {athena,apollo}',
}
"""A pipeline for each shape that its last stage can have."""


@pytest.mark.parametrize("shape", SHAPES)
def test_the_shell_a_file_and_json_get_one_and_the_same_text(line: Line, tmp_path: Path, shape: str) -> None:
    words = SHAPES[shape]
    shown = line("aish", "-c", words)
    assert shown.returncode == 0 and "X" in shown.stdout, shown.stderr
    assert line("aish", "--no-stream", "-c", words).stdout == shown.stdout
    assert line("aish", "-c", f"{words} > out.txt", cwd=tmp_path).stdout == ""
    assert (tmp_path / "out.txt").read_text() == shown.stdout
    rows = [json.loads(row) for row in line("aish", "--json", "-c", words).stdout.splitlines()]
    answers = [row["content"] for row in rows if row["type"] == "answer"]
    assert [f"{answer.rstrip()}\n" for answer in answers] == [shown.stdout]
    streamed = "".join(row["content"] for row in rows if row["type"] == "chunk")
    assert answers[0].startswith(streamed)
