"""What is said of a change in a file: nothing that changes is left out unsaid."""

from __future__ import annotations

import msgspec
import pytest

from backend.acp.messages import Location, ToolUpdate
from backend.schema.edits import MAX_COMPARED, MAX_TEXT, unified
from backend.worker.agent.tool_calls import ToolRun

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


@pytest.mark.parametrize(
    ("given", "shown", "path"),
    [
        ({}, ["/w/a"], "/w/a"),
        ({"file_path": "/w/a"}, ["/w/a"], "/w/a"),
        ({"path": "a"}, ["/w/a"], "/w/a"),
        ({"filePath": "./b/a"}, ["/w/b/a"], "/w/b/a"),
        ({"path": "/w/a"}, [], "/w/a"),
        ({"file_path": "/etc/passwd"}, ["/w/a"], ["/w/a", "/etc/passwd"]),
        ({"path": "/w/a", "notebook_path": "/etc/passwd"}, ["/w/a"], ["/w/a", "/etc/passwd"]),
        ({"path": "../etc/a"}, ["/w/a"], ["/w/a", "../etc/a"]),
        ({"path": ["/w/b"]}, ["/w/a", "/w/b"], ["/w/a", "/w/b"]),
    ],
)
def test_the_paths_of_a_call_are_those_it_names_and_those_it_shows(
    given: dict[str, object], shown: list[str], path: object
) -> None:
    run = ToolRun(0, "c")
    run.merge(ToolUpdate("c", kind="edit", locations=[Location(one) for one in shown], raw_input=given))
    assert msgspec.json.decode(run.arguments())["path"] == path
