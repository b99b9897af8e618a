"""A word that is none is refused with the one that was meant; a model that cannot answer is never told as set and done."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import tekton_tui.__main__ as console
from backend.config import ConfigError, load
from backend.home import Home
from backend.schema.variables import PREFIX, VARIABLES, misspelt
from tests.cli.commandline import Line

NOBODY = "http://127.0.0.1:1"
"""An address where nothing listens."""


@pytest.fixture
def ollama_down(quiet: Line) -> Line:
    quiet.home.mkdir(parents=True, exist_ok=True)
    (quiet.home / "config.toml").write_text(f'[providers.ollama]\nhost = "{NOBODY}"\n')
    return quiet


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("lunch",), "did you mean 'launch'?"),
        (("models", "us"), "did you mean 'use'"),
        (("usage", "--jsn"), "--json"),
        (("models", "use", "olama"), "did you mean 'ollama'?"),
        (("models", "set", "apolo", "x"), "Did you mean apollo?"),
        (("call", "ListModls"), "did you mean 'list_models'"),
        (("launch", "--group", "revew-chang"), "Did you mean review-change?"),
        (("launch", "starterr"), "Did you mean starter?"),
        (("launch", "apollo", "al"), "Did you mean all?"),
        (("kill", "--al"), "did you mean --all?"),
        (("status", "--jso"), "did you mean --json?"),
        (("--conect", "http://127.0.0.1:1", "status"), "did you mean --connect?"),
        (("--token-fil=x", "status"), "did you mean --token-file?"),
        (("discover", "--state", "redy"), "did you mean 'ready'?"),
        (("logs", "backnd"), "did you mean 'backend'?"),
        (("config", "set", "orchestration.mod", "synthesis"), "tekton config orchestration"),
        (("config", "set", "providrs.ollama.model", "x"), "setting of [providers]"),
        (("config", "set", "thme", "tekton-light"), "setting of [console]"),
        (("config", "orchestration", "moderation_mod=synthesis"), "did you mean 'moderation_mode'?"),
        (("config", "orchestration", "moderation_mode=sythesis"), "expected one of pass_through, synthesis"),
        (("call", "chat", "ai_id=apollo", "content=x", 'options={"efort": "low"}'), "did you mean 'effort'?"),
    ],
)
def test_a_misspelt_word_is_refused_with_the_one_that_was_meant(
    line: Line, words: tuple[str, ...], meant: str
) -> None:
    done = line("tekton", *words)
    assert done.returncode in (2, 3) and meant in done.stderr


def test_a_model_whose_server_is_down_is_not_taken_and_one_that_is_set_says_so(ollama_down: Line) -> None:
    used = ollama_down("tekton", "models", "use", "ollama")
    assert used.returncode == 2 and "Ollama not found" in used.stderr and "nothing was changed" in used.stderr
    given = ollama_down("tekton", "models", "set", "apollo", "qwen3:8b", "--provider", "ollama")
    assert (
        given.returncode == 5 and "cannot answer now" in given.stderr and "connection refused" in given.stderr
    )
    gone = ollama_down("tekton", "models", "set", "apollo", "nosuch", "--provider", "embedded")
    assert gone.returncode == 1 and "embedded has no 'nosuch'" in gone.stderr


def test_a_setting_of_the_file_is_not_stored_where_nobody_reads_it(line: Line) -> None:
    done = line("tekton", "config", "set", "providers.ollama.model", "qwen3:8b")
    assert done.returncode == 2 and str(line.home / "config.toml") in done.stderr


def slips(name: str) -> Iterator[str]:
    """Yield a name with one slip of the fingers: a letter left out, twice, or two of them swapped."""
    for place in range(len(PREFIX), len(name)):
        yield name[:place] + name[place + 1 :]
        yield name[:place] + name[place] + name[place:]
        yield name[:place] + name[place : place + 2][::-1] + name[place + 2 :]


@pytest.mark.parametrize("name", VARIABLES)
def test_every_slip_in_a_variable_is_refused_with_a_name_of_ours(name: str) -> None:
    for slip in {*slips(name)} - {name}:
        wrong = misspelt(["PATH", slip])
        assert f"no variable {slip};" in wrong and wrong.endswith("?"), slip
        assert any(f"mean {ours}?" in wrong for ours in VARIABLES)


def test_variables_of_others_are_left_alone() -> None:
    others = (
        "PATH",
        "TEKTON_TOKEN",
        "TEKTON_SEED",
        "TEKTON_FUZZ",
        "TEKTON_STREAMS",
        "TEKTON_CLIENTS",
        "APOLLO_PORT",
    )
    assert misspelt([*others, *VARIABLES]) == ""


@pytest.mark.parametrize(
    "words",
    [
        ("tekton", "launch", "apollo"),
        ("tekton", "kill", "--all"),
        ("tekton", "serve"),
        ("aish", "apollo", "hi"),
    ],
)
def test_a_misspelt_variable_stops_a_command_before_anything_starts(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    line = Line(tmp_path / "home", TEKTON_REGISTR_AI="false")
    done = line(*words)
    assert done.returncode == 2 and "did you mean TEKTON_REGISTER_AI?" in done.stderr
    assert not line.home.exists()


@pytest.mark.parametrize("mode", [(), ("--plain",), ("--serve",)])
def test_a_misspelt_variable_stops_the_console(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], mode: tuple[str, ...]
) -> None:
    monkeypatch.setenv("TEKTON_CONECT", "http://10.0.0.5:8003")
    assert console.main([*mode]) == 2
    assert "did you mean TEKTON_CONNECT?" in capsys.readouterr().err


def test_a_misspelt_variable_in_the_file_of_variables_is_refused(tmp_path: Path) -> None:
    home = Home(tmp_path / "home").prepare()
    home.env_file.write_text("TEKTON_PROVIDR=scripted\n")
    with pytest.raises(ConfigError, match="did you mean TEKTON_PROVIDER"):
        load(home, {})


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("--conect", "http://127.0.0.1:1"), "did you mean --connect?"),
        (("--con=http://127.0.0.1:1",), "did you mean --connect?"),
        (("--plan",), "did you mean --plain?"),
        (("--serve-prot", "1"), "did you mean --serve-port?"),
    ],
)
def test_a_misspelt_option_of_the_console_is_refused_with_the_one_that_was_meant(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], meant: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        console.main([*words])
    assert ended.value.code == 2 and meant in capsys.readouterr().err
