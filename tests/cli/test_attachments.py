"""Files that go along with a question."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.client.attachments import MAX_ATTACHED_BYTES, NotAttached, attach_files
from backend.schema.content import FilePart, ImagePart, TextPart


def test_pictures_and_pdfs_go_as_they_are_and_text_as_text(tmp_path: Path) -> None:
    files = {"a.png": b"\x89PNG..", "b.pdf": b"%PDF-1.7", "c.txt": "gr\u00fcn".encode()}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    picture, document, text = attach_files([tmp_path / name for name in files])
    assert picture == ImagePart("image/png", "iVBORy4u", name="a.png", size=6)
    assert document == FilePart("b.pdf", "application/pdf", "JVBERi0xLjc=", size=8)
    assert text == TextPart("File c.txt:\ngr\u00fcn")


def test_what_cannot_go_along_is_named_with_its_number_and_read_no_further(tmp_path: Path) -> None:
    large, binary = tmp_path / "large.png", tmp_path / "x.bin"
    with large.open("wb") as file:
        file.write(b"\x89PNG")
        file.truncate(1 << 30)
    binary.write_bytes(b"\x80\xff")
    with pytest.raises(NotAttached, match=f"1,073,741,824 bytes.*{MAX_ATTACHED_BYTES:,}"):
        attach_files([large])
    with pytest.raises(NotAttached, match="neither text"):
        attach_files([binary])
    with pytest.raises(NotAttached, match="No such file"):
        attach_files([tmp_path / "nowhere"])
