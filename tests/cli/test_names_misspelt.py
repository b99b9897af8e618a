"""A word that is none is refused with the one that was meant; a model that cannot answer is never told as set and done."""

from __future__ import annotations

import pytest

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
