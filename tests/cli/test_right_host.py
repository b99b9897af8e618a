"""Commands for a gateway elsewhere: none answers for this machine instead, and each failure names the address."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from backend.cli.commands.status import _of_other_versions
from backend.schema.events import Snapshot
from tests.cli.commandline import Line
from tests.gateway.serving import environment_of

NOBODY = "http://127.0.0.1:9"
BOUND_S = 60.0


@pytest.fixture
def token(tmp_path: Path) -> str:
    file = tmp_path / "gateway.token"
    file.touch(mode=0o600)
    file.write_text("t" * 43)
    return str(file)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("status",), 4), (("status", "--json"), 4), (("stop",), 4), (("errors",), 4), (("kill", "--all"), 4),
        (("launch", "athena"), 4), (("sessions",), 4), (("logs", "apollo"), 4), (("logs", "backend"), 4), (("models",), 4),
        (("config", "orchestration"), 4), (("doctor",), 2), (("config", "show"), 2), (("config", "check"), 2),
        (("config", "path"), 2), (("specialists",), 2), (("models", "fetch"), 2), (("serve",), 2),
    ],
)  # fmt: skip
def test_no_command_for_a_gateway_elsewhere_answers_for_this_machine(
    line: Line, token: str, words: tuple[str, ...], code: int
) -> None:
    done = line("tekton", "--connect", NOBODY, "--token-file", token, *words)
    assert done.returncode == code and not done.stdout, done
    assert NOBODY in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_the_shell_for_a_gateway_elsewhere_says_that_it_cannot_be_reached(line: Line, token: str) -> None:
    there = Line(line.home, TEKTON_CONNECT=NOBODY, TEKTON_TOKEN_FILE=token)
    done = there("aish", "apollo", "hello")
    assert done.returncode == 4 and not done.stdout
    assert f"the gateway at {NOBODY} cannot be reached: connection refused" in done.stderr


@pytest.mark.parametrize("url", ["https://h:99999", "http://127.0.0.1:abc", "https://h:0", "http://[::1"])
def test_an_address_with_an_impossible_port_is_refused_before_anything_is_sent(
    quiet: Line, token: str, url: str
) -> None:
    done = quiet("tekton", "--connect", url, "--token-file", token, "status")
    assert done.returncode == 2 and "is no address of a gateway" in done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


def test_a_token_that_others_can_read_is_refused(quiet: Line, token: str) -> None:
    Path(token).chmod(0o644)
    done = quiet("tekton", "--connect", NOBODY, "--token-file", token, "status")
    assert done.returncode == 6 and f"chmod 600 {token}" in done.stderr, done


def test_an_address_for_other_machines_without_tls_has_to_be_said_twice(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "backend.cli.tekton", "serve", "--host", "0.0.0.0"]
    environment = environment_of(tmp_path / "home")
    refused = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=BOUND_S, check=False
    )
    assert refused.returncode == 2 and "--without-tls" in refused.stderr and "Traceback" not in refused.stderr
    with subprocess.Popen(
        [*command, "--without-tls"], env=environment, stderr=subprocess.PIPE, text=True
    ) as serving:
        try:
            assert serving.stderr is not None
            assert "can be read on the way" in serving.stderr.readline()
            assert "tekton serves" in serving.stderr.readline()
            one = Line(tmp_path / "home")
            assert " · without TLS · " in one("tekton", "status").stdout
            assert "reached from other machines without TLS" in one("tekton", "doctor").stdout
        finally:
            serving.terminate()


def test_a_conversation_is_found_again_by_the_name_it_was_given(line: Line) -> None:
    for name in ("my  chat", "t" * 250, "  ends  "):
        for text in ("one", "two"):
            assert line("aish", "--session", name, "athena", text).returncode == 0
    assert line("tekton", "sessions").stdout.count("my chat") == 1
    assert line("tekton", "sessions").stdout.count("ttttttttt…") == 1


def test_specialists_are_launched_though_the_folder_of_logs_was_moved_away(quiet: Line) -> None:
    assert quiet("tekton", "launch", "apollo").returncode == 0
    (quiet.home / "logs").rename(quiet.home / "logs.before")
    done = quiet("tekton", "launch", "athena")
    assert done.returncode == 0, done.stderr
    assert (quiet.home / "logs" / "athena-ai.log").exists()


def test_specialists_whose_processes_run_other_code_are_named_with_how_to_restart_them(
    line: Line,
) -> None:
    known = json.loads(line("tekton", "status", "--json").stdout)
    versions = {row["name"]: row.get("version", "") for row in known["specialists"]}
    assert versions["apollo"] == known["platform"]["version"], (
        "who was launched by this gateway runs its code"
    )
    for row in known["specialists"]:
        if row["name"] in ("apollo", "athena"):
            row["version"] = "0.1.7"
    words = "\n".join(_of_other_versions(msgspec.convert(known, Snapshot)))
    assert words.startswith("version 0.1.7, the gateway is") and "`tekton restart apollo athena`" in words
