"""Homes as they are found: shared, spelled in other ways, with something else where a file should be."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from backend.cli.commands import doctor
from backend.home import Home, HomeRefused
from tests.cli.commandline import Line


def _binary(path: Path) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_bytes(bytes(range(256)))


def _folder(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True)


def _pipe(path: Path) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    os.mkfifo(path)


def _nested(path: Path) -> None:
    path.write_text("a = " + "[" * 5000)


FAULTS: list[tuple[str, Callable[[Path], None]]] = [
    ("token", _binary),
    ("token", _folder),
    ("token", _pipe),
    ("run/worker.token", _binary),
    ("run/worker.token", _folder),
    ("run/backend.lock", _folder),
    ("run/backend.json", _folder),
    ("ai_registry/platform_ai_registry.json", _folder),
    ("ai_registry/platform_ai_registry.json", _pipe),
    ("ai_registry/ai_registry_audit.log", _folder),
    ("state/engram.sqlite3", _folder),
    ("config.toml", _nested),
    ("config.toml", _folder),
    ("config.toml", _pipe),
    (".env.tekton", _binary),
    ("logs", _binary),
    ("run", _binary),
    ("state", _binary),
    ("ai_registry", _binary),
]


@pytest.mark.parametrize(("name", "make"), FAULTS)
def test_what_stands_in_the_way_of_a_start_is_named_by_the_start_and_by_doctor(
    quiet: Line, name: str, make: Callable[[Path], None]
) -> None:
    quiet.home.mkdir(mode=0o700)
    make(quiet.home / name)
    done = quiet("tekton", "launch", "apollo")
    assert done.returncode != 0 and f"{quiet.home}/" in done.stderr, done
    assert "Traceback" not in done.stderr and done.stderr.count("\n") == 1
    found = quiet("tekton", "doctor")
    bad = [row for row in found.stdout.splitlines() if row.startswith("FAIL")]
    assert found.returncode == 1 and any(name in row for row in bad), (found.stdout, found.stderr)
    assert found.stderr == ""


@pytest.mark.parametrize(
    ("name", "make"),
    [("specialists", _binary), ("logs/control-audit.log", _folder), ("state/engram.sqlite3-wal", _folder)],
)
def test_what_is_of_the_wrong_kind_is_named_by_doctor_also_where_a_start_passes_over_it(
    quiet: Line, name: str, make: Callable[[Path], None]
) -> None:
    quiet.home.mkdir(mode=0o700)
    make(quiet.home / name)
    found = quiet("tekton", "doctor")
    assert found.returncode == 1 and f"FAIL {quiet.home / name} is not a " in found.stdout, found.stdout


def test_a_configuration_with_the_mark_of_windows_editors_is_read(quiet: Line) -> None:
    quiet.home.mkdir(mode=0o700)
    (quiet.home / "config.toml").write_bytes(b"\xef\xbb\xbf[gateway]\nmax_streams = 7\n")
    assert '"max_streams": 7' in quiet("tekton", "config", "show").stdout


@pytest.mark.parametrize(
    ("mode", "files", "refused"),
    [
        (0o1777, ["x"], True),
        (0o1777, [], True),
        (0o755, ["notes.txt"], True),
        (0o775, ["notes.txt"], True),
        (0o755, [], False),
        (0o775, [], False),
        (0o755, ["config.toml"], False),
        (0o700, ["notes.txt"], False),
    ],
)
def test_a_folder_that_others_use_is_refused_and_not_changed(
    quiet: Line, mode: int, files: list[str], refused: bool
) -> None:
    quiet.home.mkdir()
    for name in files:
        (quiet.home / name).write_text("")
    quiet.home.chmod(mode)
    done = quiet("tekton", "launch", "apollo")
    assert (done.returncode == 2) == refused, done.stderr
    if refused:
        assert "others use" in done.stderr and quiet.home.stat().st_mode & 0o7777 == mode
        assert sorted(path.name for path in quiet.home.iterdir()) == files
        found = quiet("tekton", "doctor")
        assert found.returncode == 1 and "others use" in " ".join(found.stdout.split())
    else:
        assert quiet.home.stat().st_mode & 0o7777 == 0o700


def test_a_home_that_cannot_be_is_a_sentence(quiet: Line, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for home, told in (
        (tmp_path / "file", "is not a folder"),
        (tmp_path / "file" / "below", "cannot be used"),
    ):
        quiet.environment["TEKTON_HOME"] = str(home)
        for words in (("launch", "apollo"), ("doctor",)):
            done = quiet("tekton", *words)
            assert done.returncode in (1, 2) and told in " ".join((done.stdout + done.stderr).split()), done
            assert "Traceback" not in done.stderr


def test_specialists_are_killed_through_any_spelling_of_their_home(quiet: Line, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(quiet.home)
    for spelling in (tmp_path / "link", tmp_path / "none" / ".." / "home", quiet.home):
        quiet.environment["TEKTON_HOME"] = str(quiet.home)
        assert quiet("tekton", "launch", "apollo").returncode == 0
        assert quiet("tekton", "stop").returncode == 0
        (tmp_path / "none").mkdir(exist_ok=True)
        quiet.environment["TEKTON_HOME"] = str(spelling)
        done = quiet("tekton", "kill", "--all")
        assert done.returncode == 0 and done.stdout.startswith("apollo: "), (spelling, done)


def test_a_home_that_nobody_can_write_to_is_one_finding_and_nothing_to_repair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path / "home").prepare()
    home.database.write_bytes(b"")
    monkeypatch.setenv("TEKTON_HOME", str(home.root))
    real = os.statvfs(home.root)
    facts = {name: getattr(real, name) for name in dir(real) if name.startswith("f_")}
    read_only = SimpleNamespace(**{**facts, "f_flag": real.f_flag | os.ST_RDONLY})
    monkeypatch.setattr(os, "statvfs", lambda path: read_only)
    with pytest.raises(HomeRefused, match="mounted read-only"):
        home.prepare()
    found = [finding for finding in doctor._local() if not finding.ok and str(home.root) in finding.what]
    assert len(found) == 1 and "read-only" in found[0].what and "--repair" not in found[0].fix


def test_a_copy_of_a_home_shares_its_conversations_and_none_of_its_processes(
    quiet: Line, tmp_path: Path
) -> None:
    """Copied while it runs, with all that names its backend and its specialists, as a backup or a trial would be."""
    copied = tmp_path / "copy"
    quiet.environment["TEKTON_GATEWAY_PORT"] = "0"
    assert quiet("tekton", "launch", "apollo").returncode == 0
    assert quiet("aish", "apollo", "hello").returncode == 0
    shutil.copytree(quiet.home, copied)
    try:
        quiet.environment["TEKTON_HOME"] = str(copied)
        done = quiet("tekton", "status")
        assert "no backend runs" in done.stdout and "apollo" not in done.stdout
        assert "nothing runs" in quiet("tekton", "kill", "--all").stdout
        assert quiet("tekton", "launch", "apollo").returncode == 0
        assert "hello" in quiet("tekton", "sessions").stdout
        assert "is a copy of" in quiet("tekton", "errors").stdout
    finally:
        quiet("tekton", "stop", "--fleet")
        quiet.environment["TEKTON_HOME"] = str(quiet.home)
    assert quiet("aish", "apollo", "still there?").stdout == "You said: still there?\n"


@pytest.mark.parametrize("its", ["of the table", "of its own"])
def test_a_gateway_port_of_another_home_is_refused_with_an_advice_that_helps(
    quiet: Line, tmp_path: Path, its: str
) -> None:
    assert quiet("tekton", "launch", "apollo").returncode == 0
    port = int(json.loads((quiet.home / "run" / "backend.json").read_text())["port"])
    second = Line(tmp_path / "second", TEKTON_PORT_PROFILE="default", TEKTON_GATEWAY_PORT=str(port))
    told, mend = "TEKTON_GATEWAY_PORT to another", {"TEKTON_GATEWAY_PORT": "0"}
    if its == "of the table":
        del second.environment["TEKTON_GATEWAY_PORT"]
        second.environment["TEKTON_PORT_BASE"] = str(port - 3)  # rhetor, whose port it is, is the fourth
        told, mend = "TEKTON_PORT_PROFILE=free", {"TEKTON_PORT_PROFILE": "free"}
    refused = second("tekton", "launch", "apollo")
    assert (
        refused.returncode != 0
        and f"port {port} is held by the gateway of the home {quiet.home}" in refused.stderr
    )
    assert told in refused.stderr
    # the ports of specialists are other tests' too
    second.environment |= {"TEKTON_PORT_PROFILE": "free", **mend}
    try:
        assert (done := second("tekton", "launch", "apollo")).returncode == 0, done.stderr
    finally:
        second("tekton", "stop", "--fleet")


@pytest.mark.parametrize("behind", ["\n# my note\n", " and more", "\n\n{}"])
def test_a_token_with_something_behind_it_is_refused_and_never_said(quiet: Line, behind: str) -> None:
    assert quiet("tekton", "launch", "apollo").returncode == 0
    file = quiet.home / "token"
    token = file.read_text().strip()
    file.write_text(token + behind.format(token))
    commands = [("tekton", *words) for words in (("status",), ("errors",), ("kill", "apollo"), ("doctor",))]
    for program, *words in [*commands, ("aish", "apollo", "hello"), ("aish", "list")]:
        done = quiet(program, *words)
        said = done.stdout + done.stderr
        assert token not in said and "Traceback" not in said, (program, words)
        assert done.returncode != 0 and f"{file}: expected a token and nothing else" in " ".join(said.split())
    file.write_text(f"{token}\n")
    assert quiet("aish", "apollo", "hello").stdout == "You said: hello\n"


@pytest.mark.parametrize("how", ["moved away", "removed", "a file in its place"])
def test_what_was_done_is_no_failure_when_the_folder_of_logs_is_gone(quiet: Line, how: str) -> None:
    assert quiet("tekton", "launch", "apollo").returncode == 0
    logs = quiet.home / "logs"
    if how == "moved away":
        logs.rename(quiet.home / "away")
    else:
        shutil.rmtree(logs)
        if how != "removed":
            logs.write_text("")
    done = quiet("tekton", "kill", "apollo")
    assert done.returncode == 0 and "apollo: " in done.stdout, done
    assert quiet("aish", "apollo", "hello").returncode != 0  # it is told as it is
    launched = quiet("tekton", "launch", "apollo")
    if how == "a file in its place":
        assert (
            launched.returncode != 0 and str(logs) in launched.stderr and "Traceback" not in launched.stderr
        )
        logs.unlink()
        launched = quiet("tekton", "launch", "apollo")
    assert launched.returncode == 0, launched
    assert quiet("aish", "apollo", "hello").stdout == "You said: hello\n"
