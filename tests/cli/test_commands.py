"""`tekton` against a real backend: what each command prints, plain when piped, and how it exits."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.cli.commandline import BOUND_S, Line


def test_status_is_a_plain_table_when_piped_and_json_when_asked(line: Line) -> None:
    done = line("tekton", "status")
    assert done.returncode == 0 and "\x1b" not in done.stdout
    rows = {row.split()[0]: row for row in done.stdout.splitlines()}
    assert " ready " in rows["apollo"] and " stopped " in rows["terma"]
    snapshot = json.loads(line("tekton", "status", "--json").stdout)
    states = {row["name"]: row.get("state", "stopped") for row in snapshot["specialists"]}
    assert states["apollo"] == "ready" and states["terma"] == "stopped"


def test_status_without_a_backend_reads_the_registry_and_launch_says_what_serves(quiet: Line) -> None:
    assert "no backend runs" in quiet("tekton", "status").stdout
    launched = quiet("tekton", "launch", "apollo", "nobody")
    assert (launched.returncode, launched.stdout) == (3, "") and "nobody" in launched.stderr
    launched = quiet("tekton", "launch", "apollo")
    assert launched.returncode == 0 and launched.stdout.startswith("apollo: serves")
    pid = quiet.backend_pid()
    os.kill(pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=BOUND_S)
    done = quiet("tekton", "status")
    [row] = [row for row in done.stdout.splitlines() if row.startswith("apollo")]
    assert done.returncode == 0 and " ready " in row
    assert quiet("aish", "--direct", "apollo", "alone").stdout == "You said: alone\n"
    assert "serves on" in quiet("tekton", "logs", "apollo").stdout
    killed = quiet("tekton", "kill", "--all")
    assert killed.returncode == 0 and "apollo" in killed.stdout and not quiet.processes()
    assert quiet("tekton", "kill", "--all").stdout == "nothing runs\n"
    refused = quiet("tekton", "kill", "apollo")
    assert (refused.returncode, refused.stdout) == (4, "") and "no backend runs" in refused.stderr


def test_a_plan_starts_nothing_and_says_what_could(line: Line) -> None:
    done = line("tekton", "launch", "apollo", "terma", "--dry-run")
    rows = {row.split()[0]: row for row in done.stdout.splitlines()}
    assert "cannot" in rows["apollo"] and "runs already" in rows["apollo"] and "can start" in rows["terma"]
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("tekton", "statuss"), "there is no 'statuss'; did you mean 'status'?"),
        (("tekton", "launch", "--grup", "x"), "--grup; did you mean --group?"),
        (("tekton", "status", "--jsn=1"), "--jsn=1; did you mean --json?"),
        (("tekton", "config", "shwo"), "did you mean 'show'?"),
        (("tekton", "completion", "bsh"), "did you mean 'bash'?"),
        (("aish", "--sesion", "x", "apollo", "hi"), "did you mean --session?"),
    ],
)
def test_a_misspelt_command_or_option_is_refused_with_the_one_that_was_meant(
    line: Line, words: tuple[str, ...], told: str
) -> None:
    done = line(*words)
    assert (done.returncode, done.stdout) == (2, "") and told in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("launch", 'ids=["metis"]', "dry-run=true"), "dry_run"),
        (("launch", 'ids=["metis"]', "dryrun=true"), "dry_run"),
        (("team_chat", "content=hi", 'target_id=["apollo"]'), "target_ids"),
        (("chat", "ai_id=apollo", "content=hi", "max_token=1"), "max_tokens"),
        (("launch", 'ids=["metis"]', "dry_run"), "parameter 2"),
        (("launch", "ids=1", "ids=2"), "twice"),
        (("no_such_action",), "unknown type"),
        (("lauch",), "did you mean 'launch'?"),
    ],
)
def test_a_misspelt_parameter_of_an_action_is_refused_and_nothing_starts(
    line: Line, words: tuple[str, ...], told: str
) -> None:
    done = line("tekton", "call", *words)
    assert (done.returncode, done.stdout) == (2, "") and told in done.stderr, done.stderr
    rows = json.loads(line("tekton", "status", "--json").stdout)["specialists"]
    assert {row["name"] for row in rows if row.get("pid")} == {"apollo", "athena"}


def test_actions_are_listed_with_their_parameters(quiet: Line) -> None:
    listed = quiet("tekton", "call").stdout
    assert "launch ids [dry_run]\n" in listed and "get_orchestration\n" in listed
    assert not quiet.processes()


@pytest.mark.parametrize(
    "words", [("errors", "ack", "0"), ("pipe", "--limit", "1e3"), ("team", "--timeout", "nan", "x")]
)
def test_a_number_out_of_range_is_a_usage_error(quiet: Line, words: tuple[str, ...]) -> None:
    done = quiet("tekton", *words)
    assert (done.returncode, done.stdout) == (2, "") and "invalid" in done.stderr
    assert not quiet.processes()


def test_a_launch_says_at_once_that_a_key_is_missing_and_what_to_set(quiet: Line) -> None:
    quiet.home.mkdir(parents=True)
    (quiet.home / "config.toml").write_text(
        '[specialists.apollo]\nprovider = "anthropic"\n[specialists.athena]\nprovider = "openai"\n'
        '[providers.anthropic]\napi_key_env = "NO_SUCH_KEY"\n[providers.openai]\napi_key_env = "NO_KEY_EITHER"\n'
    )
    planned = quiet("tekton", "launch", "apollo", "athena", "--dry-run").stdout
    assert "no key for Anthropic: set NO_SUCH_KEY" in planned and "set NO_KEY_EITHER" in planned
    launched = quiet("tekton", "launch", "apollo", "athena", "metis")
    lines = {line.split(":")[0]: line for line in launched.stdout.splitlines()}
    assert "serves, but cannot answer: no key for Anthropic: set NO_SUCH_KEY" in lines["apollo"]
    assert "serves, but cannot answer: no key for OpenAI: set NO_KEY_EITHER" in lines["athena"]
    assert lines["metis"].startswith("metis: serves, port") and launched.returncode == 5
    assert quiet("tekton", "launch", "metis").returncode == 0, "who runs already is no failure"


def test_errors_are_listed_with_evidence_and_acknowledged(line: Line) -> None:
    line("aish", "apollo", "[[fail provider_auth]]")
    listed = line("tekton", "errors", "--evidence")
    assert "provider_auth" in listed.stdout and "the upstream's own words" in listed.stdout
    assert any(
        row["code"] == "provider_auth"
        for row in json.loads(line("tekton", "errors", "--json").stdout)["errors"]
    )
    assert "0 errors remain" in line("tekton", "errors", "ack", "--all").stdout
    assert line("tekton", "errors").stdout == "no unacknowledged errors\n"
    assert "provider_auth" in line("tekton", "errors", "--all").stdout


def test_a_conversation_is_begun_shown_pinned_found_renamed_exported_and_deleted(
    line: Line, tmp_path: Path
) -> None:
    session = line("tekton", "sessions", "new", "harvest", "--owner", "apollo").stdout.strip()
    assert line("aish", "--session", "harvest", "apollo", "quinces are ripe").returncode == 0
    shown = line("tekton", "sessions", "show", session).stdout
    assert "quinces are ripe" in shown and "You said: quinces are ripe" in shown
    number = next(row.rsplit("#", 1)[1] for row in shown.splitlines() if "#" in row)
    assert line("tekton", "sessions", "pin", number).stdout == f"pinned {number}\n"
    assert f"#{number}  pinned" in line("tekton", "sessions", "show", session).stdout
    assert session in line("tekton", "sessions", "search", "quinces").stdout
    assert line("tekton", "sessions", "rename", session, "the harvest").returncode == 0
    assert "the harvest" in line("tekton", "sessions").stdout
    target = tmp_path / "talk.md"
    assert line("tekton", "export", session, "-o", str(target)).returncode == 0
    assert "quinces are ripe" in target.read_text()
    again = line("tekton", "export", session, "-o", str(target))
    assert (again.returncode, again.stdout) == (6, "") and "not written" in again.stderr
    assert json.loads(line("tekton", "export", session, "--format", "json").stdout)
    unasked = line("tekton", "sessions", "delete", session)
    assert unasked.returncode == 2 and "--yes" in unasked.stderr
    assert line("tekton", "sessions", "delete", session, "--yes").returncode == 0
    gone = line("tekton", "sessions", "show", session)
    assert (gone.returncode, gone.stdout) == (3, "")


def test_logs_models_usage_gateway_and_matches_are_told(line: Line) -> None:
    line("aish", "apollo", "hello")
    assert "serves on" in line("tekton", "logs", "apollo", "--tail", "2000").stdout
    assert "tekton serves http" in line("tekton", "logs", "backend", "--tail", "50").stdout
    missing = line("tekton", "logs", "nobody")
    assert (missing.returncode, missing.stdout) == (3, "")
    models = line("tekton", "models").stdout
    assert "scripted" in models or "embedded" in models
    assert "apollo" in line("tekton", "usage").stdout
    assert "list_models" in line("tekton", "gateway").stdout
    first = line("tekton", "match", "debug the failing unit tests").stdout.splitlines()[1]
    assert first.startswith("apollo")
    found = json.loads(line("tekton", "discover", "--capability", "planning", "--json").stdout)
    assert any(row["name"] == "prometheus" for row in found["specialists"])


def test_what_a_log_gains_is_followed(line: Line) -> None:
    process = subprocess.Popen(
        line.argv("tekton", "logs", "apollo", "-f", "--tail", "1"),
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=line.environment, bufsize=0,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        first = os.read(process.stdout.fileno(), 65_536)
        line("aish", "apollo", "[[fail internal]] followed")
        assert select.select([process.stdout], [], [], BOUND_S)[0], "nothing followed"
        told = os.read(process.stdout.fileno(), 65_536)
        process.send_signal(signal.SIGINT)
        process.wait(BOUND_S)
    finally:
        process.kill()
        process.communicate()
    assert first.count(b"\n") == 1 and b"scripted failure: internal" in told and process.returncode == 130


def test_many_requests_are_answered_in_their_order(line: Line) -> None:
    rows = [
        {"specialist_id": name, "message": f"to {name}"} for name in ("apollo", "athena", "terma", "apollo")
    ]
    done = line("tekton", "bulk", given="\n".join(json.dumps(row) for row in rows))
    answers = [json.loads(row) for row in done.stdout.splitlines()]
    assert [answer["ok"] for answer in answers] == [True, True, False, True]
    assert answers[1]["outcome"]["content"] == "You said: to athena"
    assert done.returncode == 1 and "3 answered, 1 failed" in done.stderr
    broken = line("tekton", "bulk", given='{"specialist_id"')
    assert (broken.returncode, broken.stdout) == (2, "") and "line 1 is not a request" in broken.stderr


def test_a_team_discusses_what_it_answered(line: Line) -> None:
    rows = [json.loads(row) for row in line("tekton", "team", "--json", "name", "one").stdout.splitlines()]
    assert {row["ai_id"] for row in rows if row["type"] == "answer"} == {"apollo-ai", "athena-ai"}
    [team] = [row["request_id"] for row in rows if row["type"] == "team"]
    done = line("tekton", "team", "--discuss", team)
    assert done.returncode == 0 and "apollo:" in done.stdout and "athena:" in done.stdout, done.stderr


def test_rhetors_settings_are_changed_and_checked(line: Line) -> None:
    assert "synthesis" in line("tekton", "config", "orchestration", "moderation_mode=synthesis").stdout
    assert line("tekton", "config", "orchestration", "moderation_mode=pass_through").returncode == 0
    for words in (["moderation_mode=loud"], ["nonsense=1"], ["moderation_mode"]):
        refused = line("tekton", "config", "orchestration", *words)
        assert (refused.returncode, refused.stdout) == (2, ""), refused.stderr
    assert line("tekton", "config", "set", "notes", "night").returncode == 0
    assert line("tekton", "config", "get", "notes").stdout == '"night"\n'


@pytest.mark.parametrize("words", [("launch", "apollo"), ("discover",), ("sessions",), ("serve",), ("config", "check"), ("completion", "bash")])  # fmt: skip
def test_a_broken_configuration_is_an_error_of_its_own_class(quiet: Line, words: tuple[str, ...]) -> None:
    quiet.home.mkdir(parents=True)
    (quiet.home / "config.toml").write_text('[gateway]\nmax_streams = "many"\n')
    done = quiet("tekton", *words)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert (
        "config.toml" in done.stderr
        and "gateway.max_streams" in done.stderr
        and "Traceback" not in done.stderr
    )
    asked = quiet("aish", "apollo", "x") if words == ("sessions",) else done
    assert asked.returncode == 2


def test_two_commands_that_start_the_backend_at_once_share_it(quiet: Line) -> None:
    both = [
        subprocess.Popen(quiet.argv("aish", "list"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=quiet.environment)
        for _ in range(2)
    ]  # fmt: skip
    told = [process.communicate(timeout=BOUND_S)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0] and told[0] == told[1] and b"apollo" in told[0]


def test_a_rule_that_was_added_says_by_whom_and_not_that_it_stands_in_the_file(line: Line) -> None:
    added = line("tekton", "rules", "add", "deny", "shell:run command=rm *")
    number = added.stdout.split()[1].rstrip(":")
    shown = next(row for row in line("tekton", "rules").stdout.splitlines() if row.startswith(number))
    assert "config.toml" not in shown and "platform" in shown
    assert line("tekton", "rules", "remove", number).returncode == 0


def test_status_says_of_a_specialist_that_its_file_has_changed_or_is_gone_and_it_can_be_stopped(
    line: Line,
) -> None:
    new = line("tekton", "specialists", "new", "critic", "--persona", "You are the critic.")
    assert new.returncode == 0, new.stderr
    skill = line.home / "specialists" / "critic" / "SKILL.md"

    def until(words: str) -> None:
        deadline = time.monotonic() + BOUND_S
        while words not in (shown := line("tekton", "status").stdout):
            assert time.monotonic() < deadline, shown

    until("critic")
    assert line("tekton", "launch", "critic").returncode == 0
    skill.write_text(skill.read_text().replace("the critic", "the kind critic"))
    until("changed: restart to take it")
    skill.unlink()
    until("no longer configured: it runs until it is stopped")
    stopped = line("tekton", "kill", "critic")
    assert stopped.returncode == 0 and stopped.stdout.startswith("critic: stopped")
