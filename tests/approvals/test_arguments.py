"""Arguments that are no JSON object, or one that cannot be read: every reader of them says so, and no turn waits for ever."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio

from backend.orchestration.approvals.forms import filled
from backend.orchestration.approvals.preview import diff_of
from backend.orchestration.approvals.rules import values_of
from backend.orchestration.platform import Platform
from backend.providers.chat_messages import arguments_object
from backend.schema.content import ToolCall, ToolSpec
from backend.schema.errors import TektonError
from backend.schema.tools import Ask, ToolsSpec
from backend.worker.tools.questions import Question
from backend.worker.tools.toolbox import Tool, Toolbox
from tests.orchestration.running import BOUND_S, do, running

pytestmark = pytest.mark.asyncio(loop_scope="module")
DEEP = '{"words": ' + '{"a": ' * 3_000 + "1" + " }" * 3_000 + "}"
UNREADABLE = [
    '{"a": ' * 30_000 + "1" + "}" * 30_000,  # deeper than any Python reads
    '{"a": ' + "[" * 5_000,
    "[]",
    "null",
    "{",
    '{"a": "\\ud800"}',
    '{"path": 1e999}',
    "\ud800",
    "nonsense",
    "3",
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Platform]:
    folder = tmp_path_factory.mktemp("arguments")
    config = '[specialists.apollo]\ntools = ["tekton"]\n'
    async with running(folder / "home", "apollo", config=config) as platform:
        yield platform


async def nothing(question: Question) -> None:
    raise AssertionError(question)


@pytest.mark.parametrize("text", UNREADABLE, ids=range(len(UNREADABLE)))
async def test_every_reader_of_arguments_says_what_it_cannot_read(text: str, tmp_path: Path) -> None:
    assert values_of(text) == {} and diff_of(text, roots=[str(tmp_path)], hidden=tmp_path) == ""
    assert arguments_object(ToolCall("c", "f", text)) == {"invalid_arguments": text}
    box = Toolbox(ToolsSpec(), {}, lambda: None)
    result = await box.run(Tool("files:read", ToolSpec("files__read")), text, print, nothing)  # pyright: ignore[reportArgumentType]
    assert result.is_error and "no JSON object" in result.content
    if text.startswith("{"):
        ask = Ask("t-1", "a-ai", "r", "s", "files:question", "{}", 0.0, 0.0, form=[])
        with pytest.raises(TektonError, match=r"JSON object|no field"):
            filled(ask, "", text)


@pytest.mark.parametrize("tool", ["search", "ask", "facts"])
async def test_a_call_of_the_platforms_own_with_such_arguments_ends_its_turn_with_words(
    shared: Platform, tool: str
) -> None:
    for text in (DEEP, "{", '{"words": 3}'):
        asked = do(shared, "chat", ai_id="apollo", content=f"[[call tekton__{tool} {text}]]")
        outcome = await asyncio.wait_for(asked, BOUND_S)
        assert "The tool said: the arguments do not fit" in outcome.content, outcome.content[:300]


async def test_a_tool_of_the_platforms_own_that_fails_gives_its_failure_to_the_model(
    shared: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken() -> str:
        raise ZeroDivisionError("by nought")

    assert shared.approvals.own is not None
    monkeypatch.setattr(shared.approvals.own, "_facts", broken)
    asked = do(shared, "chat", ai_id="apollo", content="[[call tekton__facts {}]]")
    outcome = await asyncio.wait_for(asked, BOUND_S)
    assert "tekton:facts failed: ZeroDivisionError: by nought" in outcome.content


async def test_an_edit_is_shown_where_it_stands_in_its_file_and_without_numbers_where_nobody_knows(
    tmp_path: Path,
) -> None:
    (tmp_path / "shop").mkdir()
    file, hidden = tmp_path / "shop" / "a.py", tmp_path / "home"
    file.write_text("".join(f"line {at}\n" for at in range(1, 41)) + "twice\ntwice\n")

    def shown(path: str, *edits: tuple[str, str]) -> str:
        given = {"path": path, "edits": [{"oldText": old, "newText": new} for old, new in edits]}
        return diff_of(json.dumps(given), roots=[str(tmp_path / "shop")], hidden=hidden)

    assert "@@ -18,6 +18,7 @@" in shown(str(file), ("line 20\n", "line 20\nand more\n"))
    assert " line 19\n-line 20\n+twenty\n line 21" in shown(str(file), ("line 20\n", "twenty\n"))
    for path, edit in (
        (str(file), ("twice", "thrice")), (str(file), ("not there", "x")), ("/etc/a", ("a", "b")), ("a.py", ("a", "b")),
    ):  # fmt: skip
        assert shown(path, edit).endswith(f"@@ -0,1 +0,1 @@\n-{edit[0]}\n+{edit[1]}")
