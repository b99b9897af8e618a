"""What the documents print can be used as it stands: settings are accepted, commands exist, programs compile."""

from __future__ import annotations

import ast
import configparser
import contextlib
import io
import json
import re
import shlex
import textwrap
import tomllib
from pathlib import Path

import pytest
import yaml

from backend import config
from backend.cli.aish import build_parser as aish_parser
from backend.cli.tekton import build_parser as tekton_parser
from backend.home import Home

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "SECURITY.md",
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("examples/**/*.md")),
]
FENCE = re.compile(r"^ *```(\w*)[^\n]*\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
SHELLS = {"sh", "bash", "console", ""}
COMMANDS = ("tekton", "aish")


def snippets(*languages: str) -> list[object]:
    found: list[object] = []
    for page in PAGES:
        for number, match in enumerate(FENCE.finditer(page.read_text(encoding="utf-8"))):
            if match[1] in languages:
                name = f"{page.relative_to(ROOT)}:{number}"
                found.append(pytest.param(match[2], id=name))
    return found


@pytest.mark.parametrize("text", snippets("toml"))
def test_settings_are_accepted(text: str, tmp_path: Path) -> None:
    tomllib.loads(text)
    if any(word in text for word in ("[project", "[providers.toy]", "$CODEX_HOME")):
        return  # of a package that brings a provider, or of another program
    home = Home(tmp_path / "home").prepare()
    home.config.write_text(text, encoding="utf-8")
    config.load(home, {})


def inline_settings() -> list[object]:
    """Return the code within lines that is a table of settings with keys."""
    found: list[object] = []
    for page in PAGES:
        for text in re.findall(
            r"`(\[[a-z_.]+\] [a-z_]+ = [^`]*|[a-z_]+\.[a-z_.]+ = [^`]*)`", page.read_text(encoding="utf-8")
        ):
            found.append(pytest.param(text, id=f"{page.name}:{text[:30]}"))
    return found or [pytest.param("", id="none")]


@pytest.mark.parametrize("text", inline_settings())
def test_settings_within_a_line_are_toml(text: str) -> None:
    tomllib.loads(text.replace("…", "x"))


@pytest.mark.parametrize("text", snippets("python"))
def test_programs_compile(text: str) -> None:
    ast.parse(textwrap.dedent(text))


@pytest.mark.parametrize("text", snippets("yaml"))
def test_yaml_can_be_read(text: str) -> None:
    assert yaml.safe_load(text)


@pytest.mark.parametrize("text", snippets("json"))
def test_json_can_be_read(text: str) -> None:
    assert json.loads(text)


@pytest.mark.parametrize("text", snippets("ini"))
def test_units_can_be_read(text: str) -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    assert "ExecStart" in parser["Service"]


def commands_of(text: str) -> list[list[str]]:
    """Return the calls of our programs in lines of a shell, each with its arguments."""
    calls: list[list[str]] = []
    joined = text.replace("\\\n", " ")
    for line in re.split(r"\n|(?<=\S) {3,}(?=tekton|aish)", joined):
        line = line.strip().removeprefix("$ ")
        if re.match(r"\w+ /", line) or not re.match(
            rf"(?:{'|'.join(COMMANDS)}|echo|printf|cat|eval|git|curl)\b(?!-)", line
        ):
            continue
        try:
            lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>()")
            lexer.whitespace_split = True
            words = list(lexer)
        except ValueError:
            continue  # a quote that goes on in the next line
        call: list[str] | None = None
        for word in words:
            if re.fullmatch(r"[|&;<>()]+", word):
                call = None
            elif call is not None:
                call.append(word)
            elif word in COMMANDS and not (calls and calls[-1] and calls[-1][-1] == "install"):
                call = [word]
                calls.append(call)
    return calls


CALLS = [
    pytest.param(call, id=f"{page.relative_to(ROOT)}: {' '.join(call)[:60]}")
    for page in PAGES
    for match in FENCE.finditer(page.read_text(encoding="utf-8"))
    if match[1] in SHELLS
    for call in commands_of(match[2])
]


@pytest.mark.parametrize("call", CALLS)
def test_commands_and_their_options_exist(call: list[str]) -> None:
    program, *words = call
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            if program == "aish":
                aish_parser().parse_args(words)
            else:
                tekton_parser().parse_args(words)
        except SystemExit as ended:
            assert ended.code in (0, None), said.getvalue()


def test_enough_is_looked_at() -> None:
    assert len(CALLS) > 45 and len(snippets("toml")) > 8
