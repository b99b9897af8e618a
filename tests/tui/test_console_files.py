"""How the console's files are kept: none too long to be read, and colours in one place."""

from __future__ import annotations

import re
from pathlib import Path

import tekton_tui

ROOT = Path(tekton_tui.__file__).parent
MOST_LINES = 500
COLOURS = {"runtime/themes.py", "runtime/tokens.py"}
"""The two themes, and what every widget draws with."""


def test_no_file_is_too_long_to_be_read() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in ROOT.rglob("*")
        if path.suffix in (".py", ".tcss") and (lines := path.read_text("utf-8").count("\n")) > MOST_LINES
    }
    assert long == {}


def test_every_colour_is_a_token() -> None:
    named = {
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*")
        if path.suffix in (".py", ".tcss") and re.search(r"#[0-9a-fA-F]{6}\b|rgb\(", path.read_text("utf-8"))
    }
    assert named - COLOURS == set()
