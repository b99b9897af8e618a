"""Help: every command explains itself, and every example in it runs against a real backend."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from commandline import BOUND_S, Line

from backend.cli.help_texts import DESCRIPTIONS, EXAMPLES, WIDTH
from backend.cli.tekton import COMMANDS
from backend.orchestration.actions import ACTIONS

NEEDS_A_FLEET_OF_ITS_OWN = ("restart", "kill", "launch")


@pytest.mark.parametrize(
    "command", [name for name in EXAMPLES if name not in NEEDS_A_FLEET_OF_ITS_OWN and name != "tekton"]
)
def test_every_example_of_a_command_runs(line: Line, tmp_path: Path, command: str) -> None:
    if command == "sessions":
        line("aish", "apollo", "hello")  # somebody must have said what is searched for
    for example, _ in EXAMPLES[command]:
        done = line.shell(example, tmp_path)
        assert done.returncode == 0, f"{example}: {done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr


def test_the_examples_that_change_the_fleet_run_one_after_another(quiet: Line, tmp_path: Path) -> None:
    quiet("tekton", "launch", "metis")
    for command in ("tekton", "launch", "restart", "kill"):
        for example, _ in EXAMPLES[command]:
            if command == "launch":
                quiet("tekton", "kill", "apollo", "athena")  # a plan to launch what runs is refused
            done = quiet.shell(example, tmp_path)
            assert done.returncode == 0, f"{example}: {done.stdout}{done.stderr}"


def test_every_command_has_a_description_and_help_fits_the_width(quiet: Line) -> None:
    assert set(COMMANDS) <= set(DESCRIPTIONS)
    quiet.environment["COLUMNS"] = str(WIDTH)
    overview = quiet("tekton", "--help").stdout
    assert all(f"\n  {name} " in overview for name in COMMANDS)
    helps = [overview, quiet("aish", "--help").stdout, quiet("tekton", "pipe", "--help").stdout]
    assert all("exit codes:" in text and "examples:" in text for text in helps)
    assert max((row for text in helps for row in text.splitlines()), key=len)[WIDTH:] == ""
    assert not quiet.processes(), "asking for help starts nothing"


def test_every_action_names_a_command_there_is() -> None:
    for verb in ACTIONS.values():
        words = verb.cli.split()
        if words[:1] == ["tekton"]:
            assert words[1] in COMMANDS, f"{verb.name}: {verb.cli}"


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
def test_completion_scripts_are_good_and_know_commands_and_names(
    quiet: Line, shell: str, tmp_path: Path
) -> None:
    script = quiet("tekton", "completion", shell).stdout
    assert all(word in script for word in ("launch", "doctor", "apollo", "greek-chorus", "team-chat"))
    if shutil.which(shell) is not None:
        (tmp_path / "script").write_text(script)
        subprocess.run([shell, "-n", str(tmp_path / "script")], check=True, timeout=BOUND_S)


def test_bash_completes_a_command_a_name_and_a_verb(quiet: Line) -> None:
    script = quiet("tekton", "completion", "bash").stdout
    for words, wanted in (
        (["tekton", "lau"], "launch"),
        (["tekton", "launch", "apo"], "apollo"),
        (["aish", "team-"], "team-chat"),
    ):
        ask = f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; _{words[0]}; echo ${{COMPREPLY[*]}}"
        done = subprocess.run(
            ["bash", "-c", f"{script}\n{ask}"], capture_output=True, text=True, timeout=BOUND_S, check=True
        )
        assert done.stdout.split() == [wanted]
