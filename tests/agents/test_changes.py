"""What is said of a change in a file: nothing that changes is left out unsaid."""

from __future__ import annotations

import pytest

from backend.worker.agent.tool_calls import MAX_COMPARED, MAX_TEXT, unified

LONG = "x" * 70 + "\n"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (LONG * 5_000, LONG * 5_000 + "rm -rf /\n"),
        ("y" * MAX_TEXT, "y" * MAX_TEXT + "z"),
        ("a" + "y" * MAX_TEXT, "b" + "y" * MAX_TEXT + "z"),
        ("one\ntwo\n", "one\r\ntwo\r\n"),
        ("one\n", "one"),
        ("one # \x85two\n", "one # \ntwo\n"),
        ("", LONG * (MAX_COMPARED + 1)),
    ],
)
def test_a_change_is_always_said(old: str, new: str) -> None:
    assert "@@" in unified("a.py", old, new)
    assert unified("a.py", new, new) == ""


def test_what_lies_behind_the_compared_part_is_said_beside_what_differs_in_it() -> None:
    said = unified("a.py", "old\n" + LONG * 5_000, "new\n" + LONG * 5_000 + "rm -rf /\n")
    assert "+new" in said and "not compared" in said
