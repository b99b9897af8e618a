"""A specialist calls tools of a real MCP server: asked, allowed or denied, run, written down; and all of it while things end."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
import pytest_asyncio

from backend.orchestration.platform import Platform
from backend.schema.content import ToolCall, ToolResult
from backend.schema.errors import TektonError
from backend.schema.events import AskClosed, AskOpened, SpecialistEvent
from backend.schema.frames import StreamError, StreamToolResult
from backend.schema.records import Budget, TurnOutcome
from tests.orchestration.running import BOUND_S, Watcher, disk_full, do, running, upstream_calls

SERVER = str(Path(__file__).with_name("server.py"))
CONFIG = f"""
[tools.files]
command = [{sys.executable!r}, {SERVER!r}]

[tools.drafts]
command = [{sys.executable!r}, {SERVER!r}]
cwd = "DRAFTS"

[tools.doomed]
command = [{sys.executable!r}, {SERVER!r}]

[tools.gone]
command = ["/nonexistent/server"]

[rules]
allow = ["files:read"]
deny = ["files:write path=*/secret*"]

[specialists.apollo]
tools = ["files", "drafts", "doomed:sleep", "gone", "tekton"]

[specialists.athena]
tools = ["files:read"]
"""


FLOOD = 25_000_000
"""Characters of a result that is far too long; its server says them twice."""
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Platform]:
    folder = tmp_path_factory.mktemp("tools")
    (folder / "drafts").mkdir()
    config = CONFIG.replace("DRAFTS", str(folder / "drafts"))
    async with running(folder / "home", "apollo", "athena", config=config) as platform:
        watcher = Watcher(platform, "fleet")
        for name, servers in (("apollo-ai", 4), ("athena-ai", 1)):
            while len(platform.fleet.status(name).tools) < servers or any(
                not (row.tools or row.failed) for row in platform.fleet.status(name).tools
            ):
                await asyncio.wait_for(watcher.until(SpecialistEvent), BOUND_S)
                watcher.seen.clear()
        watcher.close()
        yield platform


@pytest_asyncio.fixture(loop_scope="module")
async def desk(shared: Platform) -> AsyncGenerator[Watcher]:
    watcher = Watcher(shared, "asks", "tools", "chat")
    yield watcher
    watcher.close()


def asks_for(tool: str, **arguments: Any) -> str:
    return f"[[call files__{tool} {json.dumps(arguments)}]]"


async def chat(platform: Platform, text: str, **values: Any) -> TurnOutcome:
    return await do(platform, "chat", ai_id=values.pop("ai_id", "apollo"), content=text, **values)


async def records(platform: Platform, outcome: TurnOutcome) -> list[Any]:
    found = (await do(platform, "list_tool_calls")).calls
    return [row for row in found if row.request_id == outcome.request_id]


async def test_what_a_rule_allows_runs_unasked_and_its_result_goes_back_to_the_model(
    shared: Platform, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("forty-two")
    outcome = await chat(shared, asks_for("read", path=str(tmp_path / "a.txt")))
    assert outcome.content.endswith("The tool said: forty-two") and outcome.finish_reason == "stop"
    assert [part.__struct_config__.tag for part in outcome.parts] == ["tool_call", "tool_result", "text"]
    result = outcome.parts[1]
    assert (
        isinstance(result, ToolResult)
        and (result.content, result.size) == ("forty-two", 9)
        and result.took_ms > 0
    )
    [record] = await records(shared, outcome)
    assert (record.tool, record.by, record.state) == ("files:read", "rule", "done")
    assert record.rule == "allow files:read" and record.result_bytes == 9


async def test_what_no_rule_covers_waits_for_a_person_and_runs_once_when_allowed(
    shared: Platform, desk: Watcher, tmp_path: Path
) -> None:
    path = tmp_path / "b.txt"
    asked = asyncio.create_task(chat(shared, asks_for("write", path=str(path), text="hello")))
    ask = (await desk.until(AskOpened)).ask
    assert (ask.tool, json.loads(ask.arguments)["text"], ask.ai_id) == ("files:write", "hello", "apollo-ai")
    assert not path.exists() and shared.snapshot().asks == [ask]
    [active] = [turn for turn in shared.snapshot().turns if turn.request_id == ask.request_id]
    assert [part.name for part in active.parts if isinstance(part, ToolCall)] == ["files__write"]
    answered = await do(shared, "answer_ask", id=ask.id, answer="allow")
    assert answered.answer == "allow" and "The tool said: wrote 5" in (await asked).content
    assert path.read_text() == "hello\n"
    with pytest.raises(TektonError, match="already allowed by"):
        await do(shared, "answer_ask", id=ask.id, answer="deny")
    assert (await desk.until(AskClosed)).verdict == "allow" and shared.snapshot().asks == []


async def test_what_would_change_is_shown_of_the_servers_own_folder_and_of_no_other_file(
    shared: Platform, desk: Watcher, tmp_path: Path
) -> None:
    own = shared.home.root.parent / "drafts"
    (own / "a.txt").write_text("old words\n")
    (tmp_path / "id_key").write_text("a private key\n")
    (own / "way-out").symlink_to(tmp_path / "id_key")
    for path, shown in ((own / "a.txt", "-old words"), (tmp_path / "id_key", ""), (own / "way-out", "")):
        call = f"[[call drafts__write {json.dumps({'path': str(path), 'text': 'new'})}]]"
        asked = asyncio.create_task(chat(shared, call))
        ask = (await desk.until(AskOpened)).ask
        desk.seen.clear()
        assert shown in ask.diff if shown else not ask.diff, (path, ask.diff)
        await do(shared, "answer_ask", id=ask.id, answer="deny")
        await asked


async def test_a_denied_call_does_not_run_and_the_model_goes_on_with_the_reason(
    shared: Platform, desk: Watcher, tmp_path: Path
) -> None:
    path = tmp_path / "c.txt"
    asked = asyncio.create_task(chat(shared, asks_for("write", path=str(path), text="x")))
    ask = (await desk.until(AskOpened)).ask
    await do(shared, "answer_ask", id=ask.id, answer="deny", words="not on a Friday")
    outcome = await asked
    assert "denied: not on a Friday" in outcome.content and not path.exists()
    assert [row.state for row in await records(shared, outcome)] == ["denied"]


async def test_always_makes_a_rule_of_exactly_that_call_which_can_be_removed(
    shared: Platform, desk: Watcher, tmp_path: Path
) -> None:
    text = asks_for("write", path=str(tmp_path / "d.txt"), text="again")
    asked = asyncio.create_task(chat(shared, text))
    ask = (await desk.until(AskOpened)).ask
    await do(shared, "answer_ask", id=ask.id, answer="allow", always=ask.always)
    await asked
    assert "wrote" in (await chat(shared, text)).content
    [rule] = [row for row in (await do(shared, "list_rules")).rules if row.id]
    assert rule.scope == "apollo-ai" and rule.at and rule.by
    await do(shared, "remove_rule", id=rule.id)
    assert [row for row in (await do(shared, "list_rules")).rules if row.id] == []


async def test_a_rule_that_cannot_be_stored_is_not_in_force(shared: Platform) -> None:
    n = 0
    async with disk_full(shared):
        with pytest.raises(TektonError, match="disk space"):
            for n in range(100):  # until a page more is needed; the last one is refused
                await do(shared, "add_rule", verdict="allow", pattern=f"files:write text={n}{'x' * 1_900}")
    rules = [row for row in (await do(shared, "list_rules")).rules if row.id]
    assert len(rules) == n
    for rule in rules:
        await do(shared, "remove_rule", id=rule.id)


async def test_with_nobody_to_ask_a_call_is_denied_at_once(shared: Platform, tmp_path: Path) -> None:
    outcome = await chat(shared, asks_for("write", path=str(tmp_path / "e.txt"), text="x"))
    assert "no console is attached" in outcome.content and not (tmp_path / "e.txt").exists()


async def test_deny_stands_before_everything(shared: Platform, desk: Watcher, tmp_path: Path) -> None:
    outcome = await chat(shared, asks_for("write", path=str(tmp_path / "secret.txt"), text="x"))
    assert "denied: deny" in outcome.content and not (tmp_path / "secret.txt").exists()
    assert shared.snapshot().asks == []


async def test_several_calls_are_asked_for_together_and_each_has_its_own_answer(
    shared: Platform, desk: Watcher, tmp_path: Path
) -> None:
    text = " ".join(asks_for("write", path=str(tmp_path / name), text=name) for name in "pqr")
    asked = asyncio.create_task(chat(shared, text))
    asks = {}
    for _ in "pqr":
        ask = (await desk.until(AskOpened)).ask
        asks[json.loads(ask.arguments)["text"]] = ask.id
        desk.seen[:] = [
            event for event in desk.seen if not (isinstance(event, AskOpened) and event.ask == ask)
        ]
    for name, answer in (("r", "allow"), ("q", "deny"), ("p", "allow")):
        await do(shared, "answer_ask", id=asks[name], answer=answer)
    await asked
    assert sorted(os.listdir(tmp_path)) == ["p", "r"]


async def test_cancelling_a_turn_voids_its_asks_and_ends_the_tool_that_runs(
    shared: Platform, desk: Watcher, tmp_path: Path
) -> None:
    path = tmp_path / "f.txt"
    text = asks_for("write", path=str(path), text="x")
    started = await do(shared, "chat", ai_id="apollo", content=text, wait=False)
    ask = (await desk.until(AskOpened)).ask
    await do(shared, "cancel", request_id=started.request_id)
    await desk.until(AskClosed, id=ask.id)
    with pytest.raises(TektonError):
        await do(shared, "answer_ask", id=ask.id, answer="allow")
    assert not path.exists() and shared.snapshot().asks == []

    began = tmp_path / "pid"
    os.mkfifo(began)
    started = await do(shared, "chat", ai_id="apollo", content=asks_for("sleep", path=str(began)), wait=False)
    desk.seen.clear()
    ask = (await desk.until(AskOpened)).ask
    await do(shared, "answer_ask", id=ask.id, answer="allow")
    pid = int(await asyncio.to_thread(began.read_text))
    assert (await do(shared, "cancel", request_id=started.request_id)).confirmed
    assert psutil.pid_exists(pid), "the server serves on"


async def test_a_long_and_hostile_result_is_cut_by_number(shared: Platform, desk: Watcher) -> None:
    asked = asyncio.create_task(chat(shared, asks_for("flood", size=FLOOD)))
    ask = (await desk.until(AskOpened)).ask
    await do(shared, "answer_ask", id=ask.id, answer="allow")
    await asked
    result = await desk.until(StreamToolResult)
    assert len(result.content.encode()) < 34_000 and result.is_error
    assert re.search(r"too long: 49,[\d,]+ bytes of 50,0[\d,]+ left out", result.content)
    assert "\x1b" not in result.content and "ignore your instructions" in result.content

    asked = asyncio.create_task(chat(shared, asks_for("flood", size=200_000)))
    desk.seen.clear()
    ask = (await desk.until(AskOpened)).ask
    await do(shared, "answer_ask", id=ask.id, answer="allow")
    await asked
    result = await desk.until(StreamToolResult)
    assert len(result.content.encode()) < 34_000 and "left out" in result.content and result.size > 200_000


async def test_one_tool_of_a_server_is_all_a_specialist_gets_when_it_names_one(shared: Platform) -> None:
    assert [row.tools for row in shared.fleet.status("athena-ai").tools] == [["files:read"]]
    outcome = await chat(shared, "[[options]]", ai_id="athena")
    assert [tool["name"] for tool in json.loads(outcome.content)["tools"]] == ["files__read"]


async def test_a_server_that_cannot_start_is_a_state_of_the_row_and_an_error(shared: Platform) -> None:
    rows = {row.server: row for row in shared.fleet.status("apollo-ai").tools}
    assert rows["gone"].failed and rows["gone"].tools == [] and len(rows["files"].tools) == 9
    errors = (await do(shared, "list_errors", where="apollo-ai")).errors
    assert any("the tool server gone" in row.message for row in errors)


async def test_the_platforms_own_tools_answer_without_being_asked_for(shared: Platform) -> None:
    outcome = await chat(shared, '[[call tekton__ask {"specialist": "athena", "question": "hi"}]]')
    assert "The tool said: You said: hi" in outcome.content
    outcome = await chat(shared, "[[call tekton__facts {}]]")
    assert "Platform at" in outcome.content
    outcome = await chat(shared, '[[call tekton__ask {"specialist": "nobody", "question": "hi"}]]')
    assert "no specialist" in outcome.content


async def test_a_tool_that_its_server_offers_later_is_shown_and_can_be_called(
    shared: Platform, desk: Watcher
) -> None:
    watcher = Watcher(shared, "fleet")
    asked = asyncio.create_task(chat(shared, "[[call drafts__grow {}]]"))
    await do(shared, "answer_ask", id=(await desk.until(AskOpened)).ask.id, answer="allow")
    assert "The tool said: grew" in (await asked).content
    async with asyncio.timeout(BOUND_S):
        while not any("drafts:grown" in row.tools for row in shared.fleet.status("apollo-ai").tools):
            watcher.seen.clear()
            await watcher.until(SpecialistEvent)
    watcher.close()
    desk.seen.clear()
    asked = asyncio.create_task(chat(shared, "[[call drafts__grown {}]]"))
    await do(shared, "answer_ask", id=(await desk.until(AskOpened)).ask.id, answer="allow")
    assert "The tool said: ripe" in (await asked).content


async def test_a_rule_is_explained_without_calling_anything(shared: Platform) -> None:
    decision = await do(
        shared, "explain_rule", tool="files:write", arguments='{"path": "/tmp/secret"}', ai_id="apollo"
    )
    assert decision.verdict == "deny" and decision.rule.pattern == "files:write path=*/secret*"
    assert (await do(shared, "explain_rule", tool="files:sleep")).verdict == "ask"


async def test_calls_of_earlier_turns_are_sent_again_with_their_results(
    shared: Platform, tmp_path: Path
) -> None:
    session = (await do(shared, "create_session", owner="athena")).id
    long = tmp_path / "long.txt"
    long.write_text("begin " + "x" * 20_000 + " end")
    await chat(shared, asks_for("read", path=str(long)), ai_id="athena", session_id=session)
    outcome = await chat(shared, "[[messages]]", ai_id="athena", session_id=session)
    messages = json.loads(outcome.content)
    assert [message["role"] for message in messages] == ["user", "assistant", "user", "assistant", "user"]
    [call] = [part for part in messages[1]["parts"] if part["type"] == "tool_call"]
    [result] = messages[2]["parts"]
    assert call["name"] == "files__read" and json.loads(call["arguments"])["path"] == str(long)
    assert (result["type"], result["call_id"]) == ("tool_result", call["id"])
    assert result["content"].startswith("begin") and result["content"].endswith("end")
    assert "left out" in result["content"] and len(result["content"]) < 5_000

    aside = await chat(
        shared,
        "[[messages]]",
        ai_id="athena",
        session_id=session,
        options={"tools": [{"name": "mine"}]},
    )
    assert all("tool" not in part["type"] for m in json.loads(aside.content) for part in m.get("parts", []))


async def test_a_prompt_that_is_no_part_of_the_conversation_is_offered_no_tools(shared: Platform) -> None:
    judged = await chat(shared, "[[options]]", ai_id="athena", group="a-merge")
    assert "tools" not in json.loads(judged.content)
    assert json.loads((await chat(shared, "[[options]]", ai_id="athena")).content)["tools"]


async def test_tools_of_a_caller_and_of_the_specialist_do_not_mix(shared: Platform) -> None:
    outcome = await chat(shared, "[[options]]", ai_id="apollo", options={"tools": [{"name": "mine"}]})
    assert [tool["name"] for tool in json.loads(outcome.content)["tools"]] == ["mine"]


async def test_the_context_of_a_turn_with_tools_is_its_newest_prompt_and_not_their_sum(
    shared: Platform, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("word " * 50)
    text = f"{asks_for('read', path=str(tmp_path / 'a.txt'))} {'word ' * 1_000}"
    outcome = await chat(shared, text, ai_id="athena")
    assert outcome.usage is not None and outcome.usage.input_tokens > 2_000
    assert 1_000 < outcome.context_tokens < 1_500
    assert shared.fleet.status("athena-ai").context_used == outcome.context_tokens


async def left_today(platform: Platform, tokens: int) -> None:
    """Set how many tokens apollo may still use today."""
    used = [row for row in (await do(platform, "usage")).specialists if row.ai_id == "apollo-ai"]
    spent = sum(row.tokens_in + row.tokens_out for row in used)
    specialists = {**platform.settings.specialists}
    specialists["apollo"] = msgspec.structs.replace(
        specialists["apollo"], budget=Budget(tokens_per_day=spent + tokens)
    )
    platform.budgets.reconfigure(msgspec.structs.replace(platform.settings, specialists=specialists))


async def test_a_turn_over_its_budget_is_ended_before_its_model_is_called_again(
    shared: Platform, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("forty-two")
    text = f"{asks_for('read', path=str(tmp_path / 'a.txt'))} {'word ' * 1_000}"
    calls = upstream_calls(shared)
    await left_today(shared, 500)
    try:
        with pytest.raises(TektonError, match="over budget: apollo has used") as cut:
            await chat(shared, text)
        assert cut.value.code == "budget_exceeded" and upstream_calls(shared) == calls + 1
        with pytest.raises(TektonError, match="over budget") as refused:
            await chat(shared, "hello")
        assert refused.value.code == "budget_exceeded" and upstream_calls(shared) == calls + 1
        await left_today(shared, 10_000)
        assert (await chat(shared, asks_for("read", path=str(tmp_path / "a.txt")))).code is None
    finally:
        shared.budgets.reconfigure(shared.settings)


async def test_a_call_that_was_allowed_when_others_had_used_the_budget_up_does_not_run(
    shared: Platform, desk: Watcher, tmp_path: Path
) -> None:
    path = tmp_path / "late.txt"
    try:
        here, there = [(await do(shared, "create_session", owner="apollo")).id for _ in range(2)]
        await left_today(shared, 10_000)
        text = asks_for("write", path=str(path), text="late")
        asked = asyncio.create_task(chat(shared, text, session_id=here))
        ask = (await desk.until(AskOpened)).ask
        await chat(shared, "word " * 12_000, session_id=there)
        await do(shared, "answer_ask", id=ask.id, answer="allow")
        with pytest.raises(TektonError, match="over budget"):
            await asked
        assert not path.exists()
        [row] = (await do(shared, "session_messages", id=ask.session_id, limit=1)).messages
        assert row.error_code == "budget_exceeded" and row.usage is not None and row.usage.input_tokens > 0
    finally:
        shared.budgets.reconfigure(shared.settings)


async def test_rules_a_question_brings_along_make_the_platforms_narrower_and_never_wider(
    shared: Platform, desk: Watcher, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("forty-two")
    read = asks_for("read", path=str(tmp_path / "a.txt"))
    for rules in (
        {"deny": ["files:read"]},
        {"allow": ["files:write"]},
        {"allow": ["files:read path=/etc/*"]},
    ):
        assert "denied" in (await chat(shared, read, rules=rules)).content, rules
    assert "forty-two" in (await chat(shared, read, rules={"allow": ["files:*"]})).content
    secret = asks_for("write", path=str(tmp_path / "secret"), text="x")
    assert "denied: deny" in (await chat(shared, secret, rules={"allow": ["files:*"]})).content

    asked = asyncio.create_task(chat(shared, read, rules={"ask": ["files:read"]}))
    ask = (await desk.until(AskOpened)).ask
    await do(shared, "answer_ask", id=ask.id, answer="deny")
    assert "denied" in (await asked).content

    run = await do(shared, "pipeline", pipeline="apollo", input=read, rules={"deny": ["files:read"]})
    assert "denied" in run.output
    with pytest.raises(TektonError, match="expected SERVER:TOOL"):
        await chat(shared, "x", rules={"deny": ["a b"]})


async def test_narrower_rules_hold_for_whom_a_specialist_asks_in_turn(
    shared: Platform, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("forty-two")
    question = asks_for("read", path=str(tmp_path / "a.txt"))
    ask = json.dumps({"specialist": "athena", "question": question}).replace("\\", "\\\\")
    ask = ask.replace("[[", "\\u005b[").replace("]]", "]\\u005d")
    text = f"[[call tekton__ask {ask}]]"
    assert "forty-two" in (await chat(shared, text)).content
    assert "denied" in (await chat(shared, text, rules={"deny": ["files:read"]})).content


async def test_a_server_killed_in_a_running_tool_ends_the_call_visibly_and_is_not_started_again(
    shared: Platform, desk: Watcher, tmp_path: Path
) -> None:
    began = tmp_path / "pid"
    os.mkfifo(began)
    text = asks_for("sleep", path=str(began)).replace("files__", "doomed__")
    asked = asyncio.create_task(chat(shared, text))
    ask = (await desk.until(AskOpened)).ask
    await do(shared, "answer_ask", id=ask.id, answer="allow")
    os.kill(int(await asyncio.to_thread(began.read_text)), 9)
    outcome = await asked
    assert "doomed" in outcome.content and outcome.finish_reason == "stop"
    assert [row.state for row in await records(shared, outcome)] == ["failed"]
    watcher = Watcher(shared, "fleet")
    while not (
        row := next(row for row in shared.fleet.status("apollo-ai").tools if row.server == "doomed")
    ).failed:
        watcher.seen.clear()
        await watcher.until(SpecialistEvent)
    watcher.close()
    assert row.tools == []
    errors = (await do(shared, "list_errors", where="apollo-ai")).errors
    assert any("the tool server doomed" in error.message for error in errors)
    again = await chat(shared, text)
    assert "there is no tool 'doomed__sleep'" in again.content
    assert any("doomed does not serve" in note for note in again.notes)


async def test_a_killed_worker_leaves_no_server_and_no_ask(
    shared: Platform, desk: Watcher, tmp_path: Path
) -> None:
    began = tmp_path / "pid"
    os.mkfifo(began)
    started = await do(shared, "chat", ai_id="apollo", content=asks_for("sleep", path=str(began)), wait=False)
    ask = (await desk.until(AskOpened)).ask
    await do(shared, "answer_ask", id=ask.id, answer="allow")
    pid = int(await asyncio.to_thread(began.read_text))
    server = psutil.Process(pid)
    os.kill(shared.fleet.status("apollo-ai").pid, 9)
    _, left = await asyncio.to_thread(psutil.wait_procs, [server], 20)
    assert not left
    await desk.until(StreamError, request_id=started.request_id)
    rows = (await do(shared, "list_tool_calls")).calls
    assert [row.state for row in rows if row.request_id == started.request_id] == ["ended"]
    assert shared.snapshot().asks == []
