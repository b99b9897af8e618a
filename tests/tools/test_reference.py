"""The reference pages say what the code says."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from backend.config.settings import Settings
from tools.reference import pages

PAGES = pages()


@pytest.mark.parametrize("path", list(PAGES), ids=lambda path: Path(path).stem)
def test_a_page_is_current(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == PAGES[path], (
        "out of date: run `make docs` and commit docs/reference"
    )


def test_every_table_of_the_settings_has_its_section_and_every_key_its_row() -> None:
    text = next(text for path, text in PAGES.items() if path.stem == "configuration")
    for field in msgspec.structs.fields(Settings):
        if field.name == "files":
            assert "## [files]" not in text, "it stands in a folder"
        elif isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            section = text.partition(f"## [{field.name}]\n")[2].partition("\n## ")[0]
            keys = set(field.type.__struct_encode_fields__) - {"tables"}
            assert {key for key in keys if f"| `{key}` |" in section} == keys
