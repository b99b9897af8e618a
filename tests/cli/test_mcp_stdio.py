"""`tekton mcp` and the two streams of its client: what was accepted is answered, and who left is not worked for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commandline import BOUND_S, Line

ENDLESS = "[[repeat 9999]] [[rate 50]]"


def _call(number: int, tool: str, **arguments: str) -> dict[str, Any]:
    params = {"name": tool, "arguments": arguments}
    return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}


def _ask(number: int, message: str) -> dict[str, Any]:
    return _call(number, "SendMessageToSpecialist", specialist_id="apollo", message=message)


def _lines(*messages: dict[str, Any]) -> str:
    hello = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    }
    first = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
    ]
    return "".join(json.dumps(message) + "\n" for message in (*first, *messages))


def test_what_was_accepted_before_stdin_closed_is_answered(line: Line, tmp_path: Path) -> None:
    given = _lines(
        _ask(2, "slow [[first 1]]"), _call(3, "ListAISpecialists"), _call(4, "NoSuchTool"), _ask(5, "quick")
    )
    (tmp_path / "in.jsonl").write_text(given)
    for shell in (
        "cat in.jsonl | tekton mcp | cat",
        "tekton mcp < in.jsonl > out.jsonl; code=$?; cat out.jsonl; exit $code",
    ):
        done = line.shell(shell, tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        answers = {row["id"]: row for row in map(json.loads, done.stdout.splitlines())}
        assert sorted(answers) == [1, 2, 3, 4, 5]
        assert answers[2]["result"]["content"][0]["text"] == "You said: slow"
        assert answers[5]["result"]["content"][0]["text"] == "You said: quick"
        assert not answers[3]["result"].get("isError") and "error" in json.dumps(answers[4]).lower()


def test_a_cancelled_request_is_not_waited_for(line: Line, tmp_path: Path) -> None:
    given = _lines(
        _ask(2, ENDLESS), {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 2}}
    )
    done = line("tekton", "mcp", given=given)
    assert done.returncode == 0 and [json.loads(row)["id"] for row in done.stdout.splitlines()][:1] == [1]
    line.until("apollo", "ready")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_a_sentence(line: Line, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(_lines(_ask(2, "x")))
    done = line.shell("tekton mcp < in.jsonl > /dev/full", tmp_path)
    assert done.returncode == 1
    assert done.stderr == "tekton: cannot write the output: No space left on device\n"


@pytest.mark.parametrize("by", ["streams", signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_client_that_left_ends_its_turns(line: Line, by: str | signal.Signals) -> None:
    process = subprocess.Popen(
        line.argv("tekton", "mcp"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=line.environment
    )  # fmt: skip
    try:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(_lines(_ask(2, ENDLESS)).encode())
        process.stdin.flush()
        line.until("apollo", "busy")
        if isinstance(by, signal.Signals):
            process.send_signal(by)
        else:
            process.stdin.close()
            process.stdout.close()
        process.wait(BOUND_S)
        assert b"Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                stream.close()
    line.until("apollo", "ready")
