"""A tool's server asks a person while its tool runs (MCP elicitation): put to the desk, filled, declined, or nobody there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from backend.orchestration.approvals.forms import filled
from backend.orchestration.platform import Platform
from backend.schema.errors import TektonError
from backend.schema.events import AskClosed, AskOpened, SpecialistEvent
from backend.schema.tools import Ask, AskField
from backend.worker.tools.questions import question_of
from tests.approvals.test_tools import SERVER, asks_for, chat, records
from tests.orchestration.running import BOUND_S, Watcher, do, running

CONFIG = f"""
[tools.files]
command = {json.dumps([sys.executable, SERVER])}
call_timeout_s = 3.0
[rules]
allow = ["files:*"]
[specialists.apollo]
tools = ["files"]
"""
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Platform]:
    async with running(tmp_path_factory.mktemp("asks") / "home", "apollo", config=CONFIG) as platform:
        await until_tools(platform)
        yield platform


async def until_tools(platform: Platform) -> None:
    watcher = Watcher(platform, "fleet")
    while not any(row.tools for row in platform.fleet.status("apollo-ai").tools):
        await asyncio.wait_for(watcher.until(SpecialistEvent), BOUND_S)
        watcher.seen.clear()
    watcher.close()


@pytest_asyncio.fixture(loop_scope="module")
async def desk(shared: Platform) -> AsyncGenerator[Watcher]:
    watcher = Watcher(shared, "asks", "tools", "chat")
    yield watcher
    watcher.close()


ANSWERS: list[tuple[str, dict[str, Any], str]] = [
    ("name", {"answer": "allow", "words": "Ada"}, 'accept {"name":"Ada"}'),
    ("sure", {"answer": "allow", "option": "1"}, 'accept {"sure":false}'),
    (
        "order",
        {"answer": "allow", "words": "drink: tea\ncups: 2"},
        'accept {"drink":"tea","cups":2,"note":""}',
    ),
    (
        "order",
        {"answer": "allow", "words": '{"drink": "coffee", "cups": 1, "note": "a: b"}'},
        'accept {"drink":"coffee","cups":1,"note":"a: b"}',
    ),
    ("order", {"answer": "deny", "words": "not now"}, "decline"),
    ("sure", {"answer": "deny", "option": "no"}, "decline"),
]


@pytest.mark.parametrize(("kind", "answer", "told"), ANSWERS)
async def test_a_persons_answer_goes_back_to_the_tool_that_asked(
    shared: Platform, desk: Watcher, kind: str, answer: dict[str, Any], told: str
) -> None:
    """Although a rule allows every call of the server: a question is a person's to answer."""
    asked = asyncio.create_task(chat(shared, asks_for(kind)))
    ask = (await desk.until(AskOpened)).ask
    assert ask.tool == "files:question" and ask.form is not None and ask.always == ""
    shown = json.loads(ask.arguments)
    assert shown["question"].startswith("What will it be?") and not {"\x1b", "\u202e"} & set(ask.arguments)
    await do(shared, "answer_ask", id=ask.id, **answer)
    outcome = await asked
    assert f"The tool said: {told}" in outcome.content, outcome.content
    rows = {row.tool: row for row in await records(shared, outcome)}
    question = rows["files:question"]
    assert question.state == ("done" if answer["answer"] == "allow" else "denied") and question.by
    assert rows[f"files:{kind}"].state == "done"


async def test_an_answer_that_does_not_fill_the_form_is_refused_and_the_question_still_waits(
    shared: Platform, desk: Watcher
) -> None:
    asked = asyncio.create_task(chat(shared, asks_for("order")))
    ask = (await desk.until(AskOpened)).ask
    for words, why in [
        ("drink: tea", "'cups' is missing"), ("drink: milk\ncups: 1", "one of tea, coffee"),
        ("drink: tea\ncups: many", "integer"), ("drink: tea\ncups: 1\nsugar: 2", "no field 'sugar'"), ("{", "JSON"),
    ]:  # fmt: skip
        with pytest.raises(TektonError, match=why):
            await do(shared, "answer_ask", id=ask.id, answer="allow", words=words)
    with pytest.raises(TektonError, match="no rule answers it"):
        await do(
            shared, "answer_ask", id=ask.id, answer="allow", words="drink: tea\ncups: 1", always="files:*"
        )
    await do(shared, "answer_ask", id=ask.id, answer="allow", words="drink: tea\ncups: 1")
    assert "accept" in (await asked).content


async def test_with_nobody_there_the_tool_is_told_that_nobody_answered(shared: Platform) -> None:
    outcome = await chat(shared, asks_for("name"))
    assert "The tool said: cancel" in outcome.content


async def test_the_clock_of_a_call_stands_still_while_a_person_is_asked(
    shared: Platform, desk: Watcher
) -> None:
    """Longer than the call may take; time is not what is measured, only that the call outlives it."""
    asked = asyncio.create_task(chat(shared, asks_for("name")))
    ask = (await desk.until(AskOpened)).ask
    done, _ = await asyncio.wait([asked], timeout=3.5)
    assert not done
    await do(shared, "answer_ask", id=ask.id, answer="allow", words="Ada")
    assert 'accept {"name":"Ada"}' in (await asked).content


async def test_cancelling_the_turn_voids_the_question(shared: Platform, desk: Watcher) -> None:
    asked = asyncio.create_task(chat(shared, asks_for("name"), request_id="asked-then-gone"))
    ask = (await desk.until(AskOpened)).ask
    await do(shared, "cancel", request_id="asked-then-gone")
    closed = await desk.until(AskClosed)
    assert closed.id == ask.id and closed.verdict == "deny"
    with pytest.raises(TektonError, match="cancelled"):
        await asked
    with pytest.raises(TektonError, match="already denied"):
        await do(shared, "answer_ask", id=ask.id, answer="allow", words="Ada")
    # and the server goes on to serve
    desk.seen.clear()
    again = asyncio.create_task(chat(shared, asks_for("name")))
    ask = (await desk.until(AskOpened)).ask
    await do(shared, "answer_ask", id=ask.id, answer="allow", words="Bo")
    assert "Bo" in (await again).content


async def test_a_server_that_ends_while_it_asks_ends_its_call_and_its_question(
    shared: Platform, desk: Watcher
) -> None:
    asked = asyncio.create_task(chat(shared, asks_for("name")))
    ask = (await desk.until(AskOpened)).ask
    worker = psutil.Process(shared.fleet.status("apollo-ai").pid)
    [server] = [one for one in worker.children(recursive=True) if one.cmdline()[-1:] == [SERVER]][-1:]
    server.kill()
    assert "Connection closed" in (await asyncio.wait_for(asked, BOUND_S)).content
    closed = await desk.until(AskClosed, id=ask.id)
    assert (closed.verdict, closed.by) == ("deny", "nobody")
    with pytest.raises(TektonError, match="already denied by nobody"):
        await do(shared, "answer_ask", id=ask.id, answer="allow", words="Ada")
    [row] = shared.fleet.status("apollo-ai").tools
    assert row.problem == "it ended" and not row.tools
    said = (await do(shared, "list_errors")).errors
    assert [one.message for one in said if one.code == "tool_server"] == ["the tool server files: it ended"]


async def test_a_server_over_http_that_ends_while_it_asks_ends_its_question_before_anybody_answers(
    tmp_path: Path,
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = await asyncio.create_subprocess_exec(
        sys.executable, SERVER, str(port), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(BOUND_S):
            while not await answers(port):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        config = CONFIG.replace(
            f"command = {json.dumps([sys.executable, SERVER])}", f'url = "http://127.0.0.1:{port}/mcp"'
        )
        async with running(tmp_path / "home", "apollo", config=config) as platform:
            await until_tools(platform)
            desk = Watcher(platform, "asks", "tools", "chat")
            asked = asyncio.create_task(chat(platform, asks_for("name")))
            ask = (await desk.until(AskOpened)).ask
            server.kill()
            closed = await desk.until(AskClosed, id=ask.id)
            assert (closed.verdict, closed.by) == ("deny", "nobody")
            assert "The tool said:" in (await asyncio.wait_for(asked, BOUND_S)).content
            [row] = platform.fleet.status("apollo-ai").tools
            assert row.problem and not row.tools
            desk.close()
    finally:
        with contextlib.suppress(ProcessLookupError):
            server.kill()
        await server.wait()


async def answers(port: int) -> bool:
    """Return whether somebody listens at a port of this machine."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def test_of_two_answers_at_once_the_second_hears_of_the_first(shared: Platform, desk: Watcher) -> None:
    await do(shared, "restart", ids=["apollo"])
    await until_tools(shared)
    asked = asyncio.create_task(chat(shared, asks_for("name")))
    ask = (await desk.until(AskOpened)).ask
    answers = [do(shared, "answer_ask", id=ask.id, answer="allow", words=name) for name in ("Ada", "Bo")]
    first, second = await asyncio.gather(*answers, return_exceptions=True)
    assert (
        not isinstance(first, BaseException) and isinstance(second, TektonError) and second.code == "conflict"
    )
    assert "Ada" in (await asked).content


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": {"type": "object"}}},
        {"properties": {"a": {"type": "array", "items": {"type": "string"}}}},
        {"properties": {"a\x1b": {"type": "string"}}},
        {"properties": {"a": {"enum": ["\u202e"]}}},
        {"properties": {f"f{n}": {"type": "string"} for n in range(13)}},
        {"properties": []},
        {"properties": {"a": {"oneOf": [1]}}},
        {"properties": {"a": {"enum": [1, 2]}}},
        {"properties": {"a": {"enum": 5}}},
        {"properties": {"a": {"enum": "yes"}}},
        {"properties": {"a": {"oneOf": {"const": "x"}}}},
        {"properties": {"a": {"type": ["string"]}}},
        {"properties": {"a": {"type": "number", "enum": ["one", "two"]}}},
        {"properties": {"a": {}}, "required": 5},
        {"properties": {5: {}}},
        {},
    ],
)
async def test_a_form_that_cannot_be_put_to_a_person_is_none(schema: dict[str, Any]) -> None:
    assert question_of("x", schema) is None


async def test_a_form_without_fields_is_a_yes_or_no_and_long_words_are_cut() -> None:
    question = question_of("w" * 9_999, {"properties": {}})
    assert question is not None and len(question.text) == 2_000
    assert [one.allows for one in question.options] == [True, False]
    ask = Ask("t", "a", "r", "s", "x:question", "{}", 0, 1, options=question.options, form=[])
    assert filled(ask, "yes", "") == filled(ask, "", "") == "{}"
    number = Ask("t", "a", "r", "s", "x:question", "{}", 0, 1, form=[AskField("n", "number", required=True)])
    assert filled(number, "", "2.5") == '{"n":2.5}'
    with pytest.raises(TektonError, match="missing"):
        filled(number, "", "")
