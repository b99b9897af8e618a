"""A turn's tool calls stand in its answer as rows: live, read back, after a reconnect, and whatever they hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from backend.schema.content import TextPart, ToolCall, ToolResult
from backend.schema.events import AskClosed, AskOpened
from backend.schema.frames import (
    StreamChunk,
    StreamEnd,
    StreamMetadata,
    StreamPhase,
    StreamToolCall,
    StreamToolResult,
    StreamToolUse,
    Usage,
)
from backend.schema.params import GetHistory
from backend.schema.records import ActiveTurn
from backend.schema.results import History
from backend.schema.tools import Ask
from tekton_tui.app import TektonApp
from tekton_tui.stores.tool_calls import calls_of
from tekton_tui.transcript import Entry, Look, ToolRow, Transcript
from tekton_tui.transcript.message import Message
from tekton_tui.transcript.tool_piece import edited_lines, short_arguments
from tests.tui.conftest import settle
from tests.tui.fake_client import NOW, FakeClient, answer, live, message
from tests.tui.test_console import screen_text
from tests.tui.transcript_app import HOSTILE

Maker = Callable[..., tuple[TektonApp, FakeClient]]
R, A = "r1", "apollo-ai"
ARGUMENTS = '{"path": "tests/test_queue.py"}'


def rows_of(entry: Entry, width: int = 78, *, raw: bool = False) -> list[str]:
    """Return the rows of a message that has ended."""
    made = Message(entry, Look(header=False, gap=0))
    made.set_raw(raw)
    return [row.text for piece in made.pieces for row in piece.rows(width)]


def answered(text: str, *tools: ToolRow) -> Entry:
    return Entry("k", "apollo", "answer", text, tools=list(tools))


def row(number: int = 0, at: int = 0, **facts: Any) -> ToolRow:
    usual = {
        "name": "files:read",
        "arguments": ARGUMENTS,
        "state": "done",
        "result": "a\nb\nc",
        "took_s": 0.1,
    }
    return ToolRow(number, at, **(usual | facts))


def test_a_row_says_name_arguments_and_what_came_of_it() -> None:
    assert rows_of(answered("", row())) == ["▸ ✓ files:read   tests/test_queue.py   3 lines · 0.1 s"]


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"result": "wrote 5 bytes"}, "wrote 5 bytes · 0.1 s"),
        ({"result": "x" * 5_000, "size": 9_000}, "9,000 bytes · 0.1 s"),
        ({"result": ""}, "gave nothing · 0.1 s"),
        ({"state": "denied", "result": "not on a Friday"}, "✖ files:read   tests/test_queue.py   denied: not on a Friday"),
        ({"state": "passed"}, "left to the caller's program"),
        ({"state": "ended"}, "○ files:read   tests/test_queue.py   ended with its turn"),
    ],
)  # fmt: skip
def test_each_ending_has_its_words(facts: dict[str, Any], words: str) -> None:
    [line] = rows_of(answered("", row(**facts)))
    assert words in line


def test_what_failed_is_unfolded_and_what_went_well_is_not() -> None:
    lines = rows_of(answered("", row(state="failed", result="no such file\nat line 3")))
    assert lines[0] == "▾ ✖ files:read   tests/test_queue.py   failed · 0.1 s"
    assert lines[1:] == ["    path: tests/test_queue.py", "    no such file", "    at line 3", ""]


def test_rows_stand_where_the_model_asked_for_them() -> None:
    text = "I look.\n\nIt reads the clock **twice**."
    lines = rows_of(answered(text, row(at=len("I look.\n\n"))))
    assert [line for line in lines if line] == [
        "I look.",
        "▸ ✓ files:read   tests/test_queue.py   3 lines · 0.1 s",
        "It reads the clock twice.",
    ]


def test_equal_calls_in_a_row_are_one_row_with_their_number() -> None:
    lines = rows_of(answered("", row(0), row(1), row(2), row(3, name="files:write")))
    assert lines[0].startswith("▸ ✓ files:read ×3 ") and lines[1].startswith("▸ ✓ files:write ")
    assert len(lines) == 2


def test_the_source_has_every_line_of_arguments_and_result() -> None:
    result = "\n".join(f"line {number}" for number in range(100))
    folded = Message(answered("", row(result=result)), Look(header=False, gap=0))
    folded.pieces[0].toggle()
    unfolded = [line.text for line in folded.pieces[0].rows(78)]
    assert len(unfolded) == 1 + 1 + 20 + 1 + 1 and "80 more lines" in unfolded[-2]
    assert [line for line in rows_of(answered("", row(result=result)), raw=True) if "line 99" in line]


@pytest.mark.parametrize("width", [12, 20, 40, 78, 100])
@pytest.mark.parametrize(
    "state", ["calling", "asking", "running", "done", "failed", "denied", "passed", "ended"]
)
def test_a_row_keeps_to_its_width_and_is_inert_whatever_it_holds(width: int, state: Any) -> None:
    held = f'{{"cmd": "{"中" * 40}", "x": [1, 2]}}'
    hostile = row(
        name=f"{HOSTILE}:{HOSTILE}",
        arguments=HOSTILE,
        result=f"{HOSTILE}\n{HOSTILE}",
        state=state,
        detail=HOSTILE,
    )
    for tool in (hostile, row(arguments=held, result="中" * 400, state=state)):
        made = Message(answered("", tool), Look(header=False, gap=0))
        for piece in made.pieces:
            for _fold in range(2):
                for drawn in piece.rows(width):
                    assert drawn.cells <= width
                    assert not set(drawn.text) & set("\x1b\x07\x9b\u202e\x00\n\r")
                piece.toggle()


def test_arguments_that_are_no_object_are_shown_as_they_are() -> None:
    assert short_arguments('{"a": "x", "b": [1, 2]}') == "a=x  b=[1, 2]"
    assert short_arguments('{"path": ') == '{"path":'
    assert short_arguments("") == ""


def test_results_find_their_calls_whatever_the_order() -> None:
    parts = [
        TextPart("one "), ToolCall("c1", "files__read", "{}"), ToolCall("", "files__write", "{}"), TextPart("two"),
        ToolResult("call_1", "denied: no", is_error=True), ToolResult("c1", "x", took_ms=20, size=1), ToolResult("?", "stray"),
    ]  # fmt: skip
    calls = calls_of(parts, "stop")
    assert [(call.name, call.at, call.state, call.result) for call in calls] == [
        ("files:read", 4, "done", "x"), ("files:write", 4, "denied", "no"), ("", 7, "done", "stray"),
    ]  # fmt: skip
    assert calls[0].took_s == 0.02


def begun(prompt: str = "Fix it.") -> list[Any]:
    return answer(R, A, "s-apollo-ai", prompt)[:2]


def ended(reason: Any = "stop") -> StreamEnd:
    return StreamEnd(R, StreamMetadata(2, 2, 4.0, A, "m", reason, Usage(20, 9), 210.0))


ASK = Ask("t-1", A, R, "s-apollo-ai", "files:write", '{"path": "a"}', NOW, NOW + 600)


async def test_a_call_is_followed_from_its_first_letter_to_its_result(console: Maker) -> None:
    app, client = console(live("apollo"))
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        app.commands.navigator.open_chat(A)
        await settle(pilot, 10)

        async def seen(*events: Any) -> str:
            client.send(*events)
            await settle(pilot)
            return screen_text(app)

        await seen(*begun(), StreamChunk(R, "I write it.", 0))
        assert "◐ files:write" in await seen(StreamToolCall(R, 0, "c1", "files__write", '{"path"'))
        assert "calls it" in await seen(
            StreamToolCall(R, 0, arguments=': "a"}'), StreamToolUse(R, A, 0, "files:write", '{"path": "a"}')
        )
        asking = await seen(AskOpened(ASK), StreamPhase(R, A, "waiting", 0, "files:write"))
        # The card of the call and the row below the composer both say it in full.
        assert "◆ apollo asks to call files:write" in asking and "path  a" in asking
        assert "tab answers" in asking
        assert "allowed by owner" in await seen(AskClosed("t-1", A, "allow", "owner"))
        assert "◐ files:write   a   half" in await seen(StreamPhase(R, A, "tool", 0, "files:write half"))
        done = await seen(StreamToolResult(R, 0, "files:write", "wrote 5 bytes", False, 13, 120.0))
        assert "▸ ✓ files:write   a   wrote 5 bytes · 0.1 s" in done
        last = await seen(StreamChunk(R, "Done.", 1), ended())
        assert last.index("I write it.") < last.index("✓ files:write") < last.index("Done.")


async def test_a_conversation_read_back_shows_the_rows_that_were_seen_live(console: Maker) -> None:
    parts = [
        TextPart("I look."), ToolCall("c1", "files__read", ARGUMENTS),
        ToolResult("c1", "a\nb", "files__read", took_ms=100.0, size=3), TextPart("Two lines."),
    ]  # fmt: skip
    stored = [
        message(1, "you", "Fix it.", request_id=R),
        message(
            2, A, "I look.Two lines.", request_id=R, parts=parts, finish_reason="stop", usage=Usage(20, 9)
        ),
    ]
    app, client = console(live("apollo"))
    client.answers[GetHistory] = History(A, "s-apollo-ai", stored)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        app.commands.navigator.open_chat(A)
        await settle(pilot, 10)
        text = screen_text(app)
        assert "▸ ✓ files:read   tests/test_queue.py   2 lines · 0.1 s" in text
        assert text.index("I look.") < text.index("files:read") < text.index("Two lines.")
        app.query_one(Transcript).focus()
        await pilot.press("up", "down", "enter")
        await settle(pilot)
        assert "▾ ✓ files:read" in screen_text(app) and "path: tests/test_queue.py" in screen_text(app)


async def test_a_console_that_attaches_in_the_middle_shows_what_was_called_and_what_waits(
    console: Maker,
) -> None:
    turn = ActiveTurn(
        R, A, "s-apollo-ai", "Fix it.", NOW, "waiting", NOW, "I look.", chunks=1, detail="files:write",
        parts=[
            TextPart("I look."), ToolCall("c1", "files__read", ARGUMENTS), ToolResult("c1", "a\nb", "files__read"),
            ToolCall("c2", "files__write", '{"path": "a"}'),
        ],
    )  # fmt: skip
    app, client = console(live("apollo", state="busy"), turns=[turn])
    client.first.asks = [ASK]
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        app.commands.navigator.open_chat(A)
        await settle(pilot, 10)
        text = screen_text(app)
        assert "▸ ✓ files:read" in text and "◆ apollo asks to call files:write" in text
        client.send(StreamToolResult(R, 1, "files:write", "denied: no", True), ended("cancelled"))
        await settle(pilot)
        assert "✖ files:write   a   denied: no" in screen_text(app)


async def test_a_call_that_its_turn_left_says_so(console: Maker) -> None:
    app, client = console(live("apollo"))
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        app.commands.navigator.open_chat(A)
        await settle(pilot, 10)
        client.send(*begun(), StreamToolCall(R, 0, "c1", "lookup", '{"word": "queue"}'), ended("tool_calls"))
        await settle(pilot)
        assert "▸ ◌ lookup   queue   left to the caller's program" in screen_text(app)


EDIT = '{"path": "src/queue.py", "edits": [{"oldText": "a\\nb\\nc", "newText": "a\\nB\\nc"}]}'
DIFF = "```diff\nIndex: src/queue.py\n===\n--- src/queue.py\toriginal\n+++ src/queue.py\tmodified\n@@ -40,4 +40,3 @@\n a\n-b\n-c\n+C\n d\n```\n"


def test_an_edit_that_was_done_is_a_card_with_what_it_changed() -> None:
    lines = rows_of(answered("", row(name="files:edit_file", arguments=EDIT, result=DIFF)), 60)
    assert lines == [
        "╭─ ✓ files:edit_file src/queue.py  +1  −2  0.1 s ──────────╮",
        "│   40   a                                                 │",
        "│   41 - b                                                 │",
        "│   42 - c                                                 │",
        "│   41 + C                                                 │",
        "│   42   d                                                 │",
        "╰───────────────────────────────────────────────── ⏎ fold ─╯",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "numbers"),
    [
        ({"arguments": EDIT, "result": "done"}, ["", "", "", ""]),
        ({"arguments": EDIT, "result": DIFF.replace("queue.py", "other.py")}, ["", "", "", ""]),
        ({"arguments": '{"file_path": "a", "old_string": "x", "new_string": "y"}'}, ["", ""]),
        ({"arguments": '{"path": ["a/x", "b/y"]}', "result": "--- b/y\n+++ b/y\n@@ -7 +7 @@\n-1\n+2"}, ["", "7", "7"]),
        ({"arguments": EDIT, "state": "failed"}, []),
        ({"arguments": EDIT, "state": "denied"}, []),
        ({"arguments": EDIT, "state": "running"}, []),
        ({"result": DIFF}, []),
        ({"name": "shell:run", "arguments": '{"command": "git diff"}', "result": DIFF}, []),
        ({"arguments": '{"path": 3}', "result": DIFF}, []),
        ({"arguments": "[]", "result": DIFF}, []),
        ({"arguments": '{"path": "a", "old": "same", "new": "same"}'}, []),
    ],
)  # fmt: skip
def test_only_what_changed_a_file_counts_as_an_edit(facts: dict[str, Any], numbers: list[str]) -> None:
    assert [line.number for line in edited_lines(row(**facts))] == numbers


def test_a_long_diff_shows_its_first_changes_until_it_is_unfolded() -> None:
    new = "".join(f"line {at}\n" for at in range(30))
    arguments = json.dumps({"path": "a.py", "old": "", "new": new})
    made = Message(answered("", row(arguments=arguments, result="ok")), Look(header=False, gap=0))
    [piece] = made.pieces
    few = [line.text for line in piece.rows(60)]
    assert len(few) == 8 and "24 more lines" in few[-1] and "+30  −0" in few[0]
    piece.toggle()
    whole = [line.text for line in piece.rows(60)]
    assert len(whole) == 32 and "fold" in whole[-1] and all(len(line) == 60 for line in whole)
    piece.toggle()
    assert [line.text for line in piece.rows(60)] == few


def test_a_short_one_folds_to_its_row() -> None:
    made = Message(
        answered("", row(name="files:edit", arguments=EDIT, result="ok")), Look(header=False, gap=0)
    )
    [piece] = made.pieces
    piece.toggle()
    title = piece.rows(78)[0].text
    assert title.startswith("▸ ✓ files:edit") and "+1 −1 · 0.1 s" in title


@given(
    st.text("ab+-@ \t\n漢👩‍👧\x1b‮…", max_size=80),
    st.text("ab-+@ \n漢\x1b", max_size=80),
    st.integers(8, 110),
    st.booleans(),
)
def test_every_row_of_such_a_card_has_its_width(old: str, new: str, width: int, unfolded: bool) -> None:
    arguments = json.dumps({"path": new[:9], "old": old, "new": new})
    [piece] = Message(answered("", row(arguments=arguments)), Look(header=False, gap=0)).pieces
    if unfolded:
        piece.toggle()
    rows = piece.rows(width)
    assert all(line.cells == cell_len(line.text) <= width for line in rows)
    assert not any(hostile in line.text for line in rows for hostile in "\x1b‮\n")
