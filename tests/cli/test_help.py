"""Help: every command explains itself, and every example in it runs against a real backend."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.cli import aish, tekton
from backend.cli.command import COMMANDS, WIDTH
from backend.orchestration.actions import ACTIONS
from tests.cli.commandline import BOUND_S, Line

EXAMPLES = {"aish": COMMANDS["aish"].examples} | {
    name: tekton.find(name).examples for group in tekton.GROUPS.values() for name in group
}
NEEDS_A_FLEET_OF_ITS_OWN = ("restart", "kill", "launch")
DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    """A fleet of this file alone: examples write rules, settings and specialists that other files do not expect."""
    one = Line(tmp_path_factory.mktemp("examples") / "home")
    try:
        assert one("tekton", "launch", "apollo", "athena").returncode == 0
        yield one
    finally:
        one.end()


@pytest.mark.parametrize("command", [name for name in EXAMPLES if name not in NEEDS_A_FLEET_OF_ITS_OWN])
def test_every_example_of_a_command_runs(changed: Line, tmp_path: Path, command: str) -> None:
    if command in ("sessions", "sent"):
        changed("aish", "apollo", "hello")  # somebody must have said what is searched for, or looked at
    for example, _ in EXAMPLES[command]:
        done = changed.shell(example, tmp_path)
        assert done.returncode == 0, f"{example}: {done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr


def test_the_examples_that_change_the_fleet_run_one_after_another(quiet: Line, tmp_path: Path) -> None:
    quiet("tekton", "launch", "metis")
    for command in ("tekton", "launch", "restart", "kill"):
        for example, _ in EXAMPLES.get(command, tekton.EXAMPLES):
            if command == "launch":
                quiet("tekton", "kill", "greek-chorus")  # a plan to launch what runs is refused
            done = quiet.shell(example, tmp_path)
            assert done.returncode == 0, f"{example}: {done.stdout}{done.stderr}"


@pytest.mark.parametrize("command", EXAMPLES)
def test_help_of_a_command_says_what_it_does_and_fits_the_width(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    parser = aish.build_parser() if command == "aish" else tekton.build_parser().commands[command]
    if command != "aish":
        parser.configure(tekton.find(command))
    text = parser.format_help()
    assert parser.description and "exit codes:" in text
    assert [argument for argument, _ in parser.values if not (argument.help or argument.choices)] == []
    assert max(text.splitlines(), key=len)[WIDTH:] == ""


def test_the_overview_names_every_command_and_starts_nothing(quiet: Line) -> None:
    overview = quiet("tekton", "--help").stdout
    assert all(f"\n  {name} " in overview for name in EXAMPLES if name != "aish")
    assert all(example in overview for example, _ in tekton.EXAMPLES)
    assert max(overview.splitlines(), key=len)[WIDTH:] == ""
    assert quiet("tekton", "help").stdout == overview
    assert quiet("tekton", "help", "kill").stdout == quiet("tekton", "kill", "--help").stdout != ""
    assert not quiet.processes()


def test_every_module_of_commands_is_in_the_table() -> None:
    folder = Path(tekton.__file__).with_name("commands")
    listed = {module for group in tekton.GROUPS.values() for module, _ in group.values()}
    assert {path.stem for path in folder.glob("*.py")} - {"__init__"} == listed
    assert set(COMMANDS) == set(EXAMPLES), (
        "a command that is registered and not in the table cannot be called"
    )


def test_the_table_in_the_documentation_is_the_table_of_the_program() -> None:
    rows = [
        f"| `tekton {name}` | {line} |"
        for group in tekton.GROUPS.values()
        for name, (_, line) in group.items()
    ]
    written = (DOCS / "command-line.md").read_text(encoding="utf-8").splitlines()
    assert [row for row in written if row.startswith("| `tekton ")] == rows, "\n".join(rows)


def test_every_action_names_a_command_there_is() -> None:
    for verb in ACTIONS.values():
        words = verb.cli.split()
        if words[:1] == ["tekton"]:
            assert words[1] in EXAMPLES, f"{verb.name}: {verb.cli}"


def test_wrong_words_are_refused_with_the_usage(quiet: Line) -> None:
    for program, *words in (
        ("tekton", "lunch"),
        ("tekton", "status", "--frobnicate"),
        ("aish", "--wat"),
        ("tekton",),
    ):
        done = quiet(program, *words)
        assert done.returncode == 2 and "usage" in done.stderr + done.stdout
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_valid_and_know_commands_options_and_specialists(
    quiet: Line, shell: str, tmp_path: Path
) -> None:
    script = quiet("tekton", "completion", shell).stdout
    wanted = (
        "launch",
        "dry-run",
        "apollo",
        "greek-chorus",
        "team-chat",
        "consensus",
        "token-file",
        "serve-port",
    )
    assert [word for word in wanted if word not in script] == []
    if shutil.which(shell) is not None:
        (tmp_path / "script").write_text(script)
        subprocess.run([shell, "-n", str(tmp_path / "script")], check=True, timeout=BOUND_S)


COMPLETED = [
    ("tekton lau", "launch"),
    ("tekton launch apo", "apollo"),
    ("tekton launch apollo --dr", "--dry-run"),
    ("tekton team --to athe", "athena"),
    ("tekton team --mode cons", "consensus"),
    ("tekton sessions sea", "search"),
    ("tekton --conn", "--connect"),
    ("aish team-", "team-chat"),
    ("aish apo", "apollo"),
    ("aish --sess", "--session"),
    ("tekton-tui --them", "--theme"),
]


def test_bash_completes_commands_options_choices_and_specialists(quiet: Line) -> None:
    script = quiet("tekton", "completion", "bash").stdout
    for typed, _ in COMPLETED:
        words = typed.split()
        script += (
            f"\nCOMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; COMPREPLY=()"
            f"\n$(complete -p {words[0]} | sed 's/.*-F \\([^ ]*\\).*/\\1/'); echo ${{COMPREPLY[*]}}"
        )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=BOUND_S, check=True)
    assert done.stdout.splitlines() == [wanted for _, wanted in COMPLETED]


@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish")
def test_fish_completes_the_same(quiet: Line, tmp_path: Path) -> None:
    (tmp_path / "script").write_text(quiet("tekton", "completion", "fish").stdout)
    for typed, wanted in COMPLETED:
        done = subprocess.run(
            ["fish", "--no-config", "-c", f"source {tmp_path}/script; complete -C '{typed}'"],
            capture_output=True, text=True, timeout=BOUND_S, check=True,
        )  # fmt: skip
        assert done.stdout.partition("\t")[0] == wanted, typed
