"""What a release is refused for, and that the changelog tells of the version that is built."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import backend
from tools.release import check_version, paint

CHANGELOG = (Path(__file__).parents[2] / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_changelog_begins_with_the_version_that_would_be_released() -> None:
    check_version(backend.__version__, CHANGELOG, [])


@pytest.mark.parametrize(
    ("version", "changelog", "tags", "told"),
    [
        ("0.3", "## 0.3 · 2026-01-01\n\n- x", [], "MAJOR.MINOR.PATCH"),
        ("0.3.0", "## 0.3.0 · 2026-01-01\n\n- x", ["v0.3.0"], "tagged already"),
        ("0.3.0", "## Unreleased\n\n- x", [], "must begin with the section"),
        ("0.3.0", "## 0.2.0 · 2026-01-01\n\n- x", [], "must begin with the section"),
        ("0.3.0", "## 0.3.0\n\n- x", [], "must begin with the section"),
        ("0.3.0", "## 0.3.0 · 2026-01-01\n\n## 0.2.0 · 2025-01-01\n", [], "says nothing"),
        ("0.3.0", "# Changelog\n", [], "must begin with the section"),
    ],
)
def test_what_is_not_ready_is_refused_with_what_to_do(
    version: str, changelog: str, tags: list[str], told: str
) -> None:
    with pytest.raises(SystemExit, match=told):
        check_version(version, changelog, tags)


@pytest.mark.parametrize("package", ["backend", "tekton_tui"])
def test_every_data_file_of_a_package_is_in_its_wheel(package: str) -> None:
    root = Path(__file__).parents[2]
    patterns = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"][
        package
    ]
    shipped = {path for pattern in patterns for path in (root / package).glob(pattern)}
    there = {path for path in (root / package).rglob("*.*") if path.suffix not in (".py", ".pyc")}
    assert there and there <= shipped


def test_the_console_of_a_fresh_home_is_opened_for_a_release(tmp_path: Path) -> None:
    programs, home = Path(sys.executable).parent, tmp_path / "home"
    environment = {"TEKTON_HOME": str(home), "TEKTON_GATEWAY_PORT": "0", "HOME": str(tmp_path)}
    try:
        shown = paint([str(programs / "tekton-tui")], environment)
    finally:
        subprocess.run(
            [programs / "tekton", "stop", "--fleet"], env={**os.environ, **environment}, check=True
        )
    assert "harmonia" in shown
