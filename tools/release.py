"""Make a release in `dist/` and try it as a stranger would: `make release`.

Checked are the version, its section of the changelog and that all is committed; built are the source distribution and, out of
it, the wheel. The wheel is installed in an empty environment, and its console is drawn on a terminal, started in a folder
of its own with a home of its own; `dist/console.svg` is its picture. What is left to do by hand is printed at the end.
Publishes nothing.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

import backend
from bench.terminal import Terminal

ROOT = Path(__file__).parent.parent
SHIPPED = (
    "backend/catalog.toml",
    "backend/matching/model.json",
    "backend/matching/vocabulary.toml",
    "backend/providers/prices.toml",
    "backend/py.typed",
    "tekton_tui/app.tcss",
    "tekton_tui/py.typed",
)
"""Data files without which the product does not work."""
SOURCES = ("constraints.txt", "Makefile", "tests/conftest.py", "CHANGELOG.md")
SHOWN_LIMIT_S = 60.0
ESCAPE = "\x1b"
PICTURE_AFTER_S = 15
"""Textual draws the picture so long after the start, and ends the console."""


def check_version(version: str, changelog: str, tags: list[str]) -> None:
    """Refuse a version that is no release's or whose changelog is not written.

    Raises:
        SystemExit: With a sentence that says what to do.
    """
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise SystemExit(f"backend.__version__ is {version!r}: a release is MAJOR.MINOR.PATCH")
    if f"v{version}" in tags:
        raise SystemExit(f"version {version} is tagged already: raise backend.__version__")
    first = re.search(r"^## (.+)\n+(.*)$", changelog, re.MULTILINE)
    if first is None or not re.fullmatch(rf"{re.escape(version)} · \d{{4}}-\d\d-\d\d", first[1]):
        raise SystemExit(f"CHANGELOG.md must begin with the section `## {version} · YYYY-MM-DD`")
    if not first[2].startswith("- "):
        raise SystemExit(f"the section of {version} in CHANGELOG.md says nothing")


def build(into: Path) -> tuple[Path, Path]:
    """Build the source distribution and the wheel out of it; return their paths."""
    constraints = str(ROOT / "constraints.txt")
    environment = {**os.environ, "PIP_CONSTRAINT": constraints, "PIP_BUILD_CONSTRAINT": constraints}
    subprocess.run([sys.executable, "-m", "build", "--outdir", into, ROOT], check=True, env=environment)
    return next(into.glob("*.tar.gz")), next(into.glob("*.whl"))


def check_contents(source: Path, wheel: Path) -> None:
    """Raise `SystemExit` when a file is missing from what was built, or the wheel holds more than the product."""
    with tarfile.open(source) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    if missing := [name for name in (*SHIPPED, *SOURCES) if name not in inside]:
        raise SystemExit(f"{source.name} lacks {', '.join(missing)}")
    names = zipfile.ZipFile(wheel).namelist()
    if missing := [name for name in SHIPPED if name not in names]:
        raise SystemExit(f"{wheel.name} lacks {', '.join(missing)}")
    tops = {name.partition("/")[0] for name in names}
    if stray := {top for top in tops if not top.endswith(".dist-info")} - {"backend", "tekton_tui"}:
        raise SystemExit(f"{wheel.name} holds {', '.join(sorted(stray))}, which is no part of the product")


def try_wheel(wheel: Path, version: str, place: Path, picture: Path) -> str:
    """Install the wheel in an environment of its own, open its console, draw a picture of it, and return its text."""
    venv.create(place / "env", with_pip=True)
    programs = place / "env" / "bin"
    constraints = ["-c", str(ROOT / "constraints.txt")]
    quiet = ["--quiet", "--disable-pip-version-check"]
    subprocess.run([programs / "pip", "install", *quiet, *constraints, str(wheel)], check=True)
    work, home = place / "work", place / "home"
    work.mkdir()
    environment = {
        "TEKTON_HOME": str(home),
        "TEKTON_GATEWAY_PORT": "0",  # a fleet of this user may hold the usual one
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HOME": str(place),
    }
    said = subprocess.run(
        [programs / "tekton", "--version"], capture_output=True, text=True, cwd=work, check=True
    )
    if said.stdout.split() != ["tekton", version]:
        raise SystemExit(f"the installed command says {said.stdout.strip()!r}, not {version}")
    os.chdir(work)  # whoever starts the console is seldom in this repository
    try:
        return paint([str(programs / "tekton-tui")], environment, picture)
    finally:
        os.chdir(ROOT)
        subprocess.run(
            [programs / "tekton", "stop", "--fleet"], cwd=work, env={**os.environ, **environment}, check=True
        )


def paint(command: list[str], environment: dict[str, str], picture: Path | None = None) -> str:
    """Open a console for the first time, go to its grid, have it draw a picture where one is wanted, and return its text."""
    if picture is not None:
        environment = environment | {
            "TEXTUAL_SCREENSHOT": str(PICTURE_AFTER_S),
            "TEXTUAL_SCREENSHOT_LOCATION": str(picture.parent),
            "TEXTUAL_SCREENSHOT_FILENAME": picture.name,
        }
    with Terminal(command, columns=100, rows=30, environment=environment) as terminal:
        terminal.until("Who should answer?", SHOWN_LIMIT_S)
        terminal.send(ESCAPE)
        terminal.until("harmonia", SHOWN_LIMIT_S)  # a row of the grid: the catalogue was read
        shown = terminal.screen()
        if picture is not None:
            terminal.until(lambda _: picture.exists(), PICTURE_AFTER_S + SHOWN_LIMIT_S)
        return shown


def main() -> None:
    version = backend.__version__
    tags = subprocess.run(["git", "tag"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    check_version(version, (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), tags)
    changed = subprocess.run(
        ["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    if changed.stdout:
        raise SystemExit(f"commit first, a release is made of what is committed:\n{changed.stdout}")
    dist = ROOT / "dist"
    for old in dist.glob("tekton_tui-*"):
        old.unlink()
    source, wheel = build(dist)
    check_contents(source, wheel)
    picture = dist / "console.svg"
    picture.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as place:
        print(try_wheel(wheel, version, Path(place), picture))
    print(
        f"\nLook at dist/{picture.name}. {source.name} and {wheel.name} are in dist/. Tag the commit v{version} and publish them."
    )


if __name__ == "__main__":
    main()
