"""Log files: read from the end, rotated while they are written to, secrets made unreadable."""

from __future__ import annotations

import os
from pathlib import Path

from backend.log import redact
from backend.specialists.logs import begin_log, log_path, rotate_if_large, tail


def test_the_newest_lines_come_oldest_first_however_long_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("".join(f"line {number}\n" for number in range(100_000)))
    assert tail(path, 3) == ["line 99997", "line 99998", "line 99999"]
    assert tail(tmp_path / "none.log", 3) == []


def test_bytes_that_are_no_text_do_not_stop_a_reader(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"fine\n\xff\xfe\x00bad\n")
    assert tail(path, 5)[0] == "fine" and len(tail(path, 5)) == 2


def test_a_new_run_keeps_the_last_one_as_previous(tmp_path: Path) -> None:
    for text in (b"first\n", b"second\n"):
        descriptor = begin_log(tmp_path, "apollo-ai")
        os.write(descriptor, text)
        os.close(descriptor)
    assert log_path(tmp_path, "apollo-ai").read_text() == "second\n"
    assert log_path(tmp_path, "apollo-ai", previous=True).read_text() == "first\n"
    assert log_path(tmp_path, "apollo-ai").stat().st_mode & 0o077 == 0


def test_a_file_too_large_is_moved_on_while_its_writer_goes_on(tmp_path: Path) -> None:
    descriptor = begin_log(tmp_path, "a")
    for number in range(4):
        os.write(descriptor, f"{number}".encode() * 100)
        assert rotate_if_large(tmp_path, "a", max_bytes=50, keep=2)
        os.write(descriptor, b"after\n")
    os.close(descriptor)
    assert (tmp_path / "a.log").read_text() == "after\n"
    assert (tmp_path / "a.log.1").read_text() == "3" * 50
    assert (tmp_path / "a.log.2").read_text() == "2" * 50
    assert not (tmp_path / "a.log.3").exists()
    assert not rotate_if_large(tmp_path, "a", max_bytes=50, keep=2)


def test_keys_and_bearer_tokens_are_unreadable() -> None:
    secrets = ["abcdefgh" * 3, "ijklmnop" * 3, "qrstuvwx" * 3]
    text = redact(f"key sk-{secrets[0]} and Authorization: Bearer {secrets[1]}, api_key={secrets[2]}")
    assert text.count("[redacted]") == 3
    for secret in secrets:
        assert secret not in text
