"""Providers that installed packages bring by an entry point: used like ours, and named when they are broken."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from backend.config.provider_kinds import BUILT_IN, GROUP
from tests.cli.commandline import ROOT, Line

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

TOY = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "extending.md").read_text(), re.DOTALL)[0]
"""The provider that the guide shows."""


def package(folder: Path, name: str, module: str, code: str, entry_points: str) -> Path:
    """Lay a package out as an installer does: a module, and metadata with its entry points."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{module}.py").write_text(code)
    metadata = folder / f"{name}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[{GROUP}]\n{entry_points}\n")
    return folder


@pytest.fixture
def toys(tmp_path: Path) -> Iterator[Line]:
    """A home on a machine where a package with a provider `toy` is installed."""
    folder = package(tmp_path / "site", "toy_provider", "toy_provider", TOY, "toy = toy_provider:PROVIDER")
    one = Line(
        tmp_path / "home", PYTHONPATH=f"{ROOT}:{folder}", TOY_API_KEY="plumtree", OPENAI_API_KEY="other"
    )
    (tmp_path / "home").mkdir(mode=0o700)
    try:
        yield one
    finally:
        if one.processes():
            one.shell("tekton stop --fleet", tmp_path)
            one.end()


def configure(line: Line, toml: str) -> None:
    (line.home / "config.toml").write_text(toml)


def said(line: Line, script: str) -> tuple[int, str]:
    """Run a line in processes of their own, which alone see the package; return exit code and all it wrote."""
    done = line.shell(f"{script} 2>&1", line.home.parent)
    return done.returncode, " ".join(done.stdout.split())


def test_pyproject_declares_the_providers_that_are_ours() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"][GROUP] == BUILT_IN


def test_a_foreign_provider_is_planned_launched_asked_listed_and_looked_at(toys: Line) -> None:
    configure(toys, '[specialists.apollo]\nprovider = "toy"\n[providers.toy]\ngreeting = "Good day"\n')
    code, plan = said(toys, "tekton launch apollo --dry-run")
    assert code == 0 and "toy toy-1" in plan and "16 MiB" in plan
    assert said(toys, "tekton launch apollo")[0] == 0
    assert said(toys, "aish apollo world") == (0, "Good day, world")
    row = json.loads(said(toys, "tekton status --json")[1])["specialists"]
    apollo = next(one for one in row if one["name"] == "apollo")
    assert (apollo["provider"], apollo["model_display"]) == ("toy", "Toy-1")
    held = psutil.Process(apollo["pid"]).environ()
    assert held["TOY_API_KEY"] == "plumtree" and "OPENAI_API_KEY" not in held
    assert "Toy One" in said(toys, "tekton models --provider toy")[1]
    assert "provider toy of the package toy_provider 1.0" in said(toys, "tekton doctor")[1]


def test_a_running_specialist_changes_to_it_and_is_lent_its_key(toys: Line) -> None:
    assert said(toys, "tekton launch athena")[0] == 0
    code, text = said(toys, "tekton models set athena --provider toy")
    assert (code, text) == (0, "athena: Toy-1")
    assert said(toys, "TOY_GREETING=x aish athena world") == (0, "Hello, world")


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        (
            "[providers.toy]\ngreting = 1",
            "key 'providers.toy.greting': no such key; did you mean 'greeting'?",
        ),
        ("[providers.toy]\ngreeting = 1", "key 'providers.toy.greeting': expected text; found 1"),
        (
            "[providers.toy.timeouts]\nconnect = 0",
            "key 'providers.toy.timeouts.connect': expected a number > 0",
        ),
        ("[providers.tov]\n", "key 'providers.tov': no such key; did you mean 'toy'?"),
        ('[providers]\ndefault = "tov"', "openai, embedded, scripted, toy; found 'tov'"),
        ('[specialists.apollo]\nprovider = "tov"', "openai, embedded, scripted, toy; found 'tov'"),
    ],
)
def test_mistakes_in_its_settings_are_named(toys: Line, toml: str, expected: str) -> None:
    del toys.environment["TEKTON_PROVIDER"]
    configure(toys, toml)
    code, text = said(toys, "tekton config check")
    assert code != 0 and expected in text and "Traceback" not in text


def test_its_variable_sets_its_key_and_the_settings_in_force_are_shown(toys: Line) -> None:
    configure(toys, "[providers.toy]\nmax_concurrency = 2\n")
    toys.environment["TOY_GREETING"] = "Hi"
    shown = json.loads(said(toys, "tekton config show")[1])
    assert shown["providers"]["toy"]["greeting"] == "Hi"
    assert shown["providers"]["toy"]["max_concurrency"] == 2


BROKEN = {
    "cannot be imported": ("import nosuch_vendor_sdk", "toy = bad:PROVIDER", "nosuch_vendor_sdk"),
    "is no descriptor": ("PROVIDER = 3", "toy = bad:PROVIDER", "it is int, not"),
    "has no descriptor": ("", "toy = bad:PROVIDER", "has no attribute 'PROVIDER'"),
    "ends the process": ("import sys; sys.exit('gone')", "toy = bad:PROVIDER", "gone"),
    "is of another name": (TOY, "tov = bad:PROVIDER", "its descriptor is of 'toy'"),
    "takes one of our names": (TOY, "ollama = bad:PROVIDER", "a name of our own"),
    "names no module": ("", "toy = :", "cannot be used"),
}


@pytest.mark.parametrize(("code", "entry", "why"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_package_is_a_sentence_that_names_it(
    tmp_path: Path, code: str, entry: str, why: str
) -> None:
    folder = package(tmp_path / "site", "bad_provider", "bad", code, entry)
    one = Line(tmp_path / "home", PYTHONPATH=f"{ROOT}:{folder}")
    for command in ("tekton config check", "tekton doctor"):
        done, text = said(one, command)
        assert done != 0 and "bad_provider 1.0" in text and why in text, text
        assert "uninstall the package" in text and "Traceback" not in text


def test_two_packages_with_one_name_are_both_named_and_neither_is_used(tmp_path: Path) -> None:
    first = package(tmp_path / "one", "toy_one", "toy_one", TOY, "toy = toy_one:PROVIDER")
    second = package(tmp_path / "two", "toy_two", "toy_two", TOY, "toy = toy_two:PROVIDER")
    one = Line(tmp_path / "home", PYTHONPATH=f"{ROOT}:{first}:{second}")
    code, text = said(one, "tekton config check")
    assert code != 0 and "toy_one 1.0" in text and "toy_two 1.0" in text


def test_who_uses_a_broken_package_is_told_and_the_others_work(tmp_path: Path) -> None:
    folder = package(
        tmp_path / "site", "bad_provider", "bad", "import nosuch_vendor_sdk", "toy = bad:PROVIDER"
    )
    one = Line(tmp_path / "home", PYTHONPATH=f"{ROOT}:{folder}")
    (tmp_path / "home").mkdir(mode=0o700)
    configure(one, '[specialists.apollo]\nprovider = "toy"\n[providers.toy]\nanything = 1\n')
    try:
        code, plan = said(one, "tekton launch apollo athena --dry-run")
        assert "nosuch_vendor_sdk" in plan, plan
        code, text = said(one, "tekton launch apollo athena")
        assert code != 0 and "nosuch_vendor_sdk" in text and "athena: serves" in text, text
        assert said(one, "aish athena hi") == (0, "You said: hi")
        code, text = said(one, "tekton models set athena --provider toy")
        assert code != 0 and "nosuch_vendor_sdk" in text
        assert said(one, "aish athena hi") == (0, "You said: hi")
        assert "nosuch_vendor_sdk" in said(one, "tekton models --provider toy")[1]
    finally:
        one.shell("tekton stop --fleet", tmp_path)
        one.end()
