"""`tekton acp`, as editors meet it: the client of the protocol's own library, a real process, a real backend."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import acp
import psutil
import pytest
from acp import schema
from acp.client.connection import ClientSideConnection

from backend.acp.messages import Block, Resource
from backend.acp.peer import RpcFailure
from backend.cli.editor.updates import read_blocks
from tests.gateway.serving import Backend, start_backend

SERVER = str(Path(__file__).parent.parent / "approvals" / "server.py")
CONFIG = f"""
[tools.files]
command = [{sys.executable!r}, {SERVER!r}]
[specialists.apollo]
tools = ["files"]
"""
BOUND_S = 60.0
PICTURE = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(40)).decode()


class Editor:
    """An editor's side: keeps what it is sent, and answers permission requests with the option of this kind."""

    def __init__(self) -> None:
        self.updates: list[Any] = []
        self.requests: list[Any] = []
        self.answer = "allow_once"
        self.changed = asyncio.Event()
        self.holds: asyncio.Event | None = None

    async def session_update(self, session_id: str, update: Any, **_: Any) -> None:
        self.updates.append(update)
        self.changed.set()

    async def request_permission(
        self, session_id: str, tool_call: Any, options: list[Any], **_: Any
    ) -> schema.RequestPermissionResponse:
        self.requests.append((tool_call, options))
        self.changed.set()
        if self.holds is not None:
            await self.holds.wait()
        chosen = next((one for one in options if one.kind == self.answer), None)
        if chosen is None:
            return schema.RequestPermissionResponse(outcome=schema.DeniedOutcome(outcome="cancelled"))
        outcome = schema.AllowedOutcome(outcome="selected", option_id=chosen.option_id)
        return schema.RequestPermissionResponse(outcome=outcome)

    def on_connect(self, conn: Any) -> None:
        """Take that it is connected."""

    def text(self, kind: str = "agent_message_chunk") -> str:
        return "".join(one.content.text for one in self.updates if one.session_update == kind)

    def of(self, kind: str) -> list[Any]:
        return [one for one in self.updates if one.session_update == kind]

    async def until(self, fits: Callable[[], object]) -> None:
        async with asyncio.timeout(BOUND_S):
            while not fits():
                self.changed.clear()
                await self.changed.wait()


class Served:
    """A `tekton acp` process and its editor."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process, self.editor = process, Editor()
        self.agent = ClientSideConnection(cast(Any, self.editor), process.stdin, process.stdout)

    async def session(self) -> str:
        await self.agent.initialize(protocol_version=1)
        return (await self.agent.new_session(cwd="/tmp", mcp_servers=[])).session_id

    async def ask(self, session: str, *blocks: Any) -> schema.PromptResponse:
        prompt = [acp.text_block(one) if isinstance(one, str) else one for one in blocks]
        return await asyncio.wait_for(self.agent.prompt(session_id=session, prompt=prompt), BOUND_S)


@asynccontextmanager
async def serving(backend: Backend, name: str) -> AsyncGenerator[Served]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "backend.cli.tekton", "acp", name, env=backend.environment(),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, limit=1 << 24,
    )  # fmt: skip
    served = Served(process)
    try:
        yield served
    finally:
        await served.agent.close()
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    backend = start_backend(
        tmp_path_factory.mktemp("editor") / "home", config=CONFIG, launch=("apollo", "athena")
    )
    for _ in range(2_000):  # until the server of tools is there
        rows = backend.ask("GET", "/api/v1/snapshot")["specialists"]
        if any(server["tools"] for row in rows for server in row.get("tools", [])):
            break
    yield backend
    backend.stop()


def contents(path: str) -> list[str]:
    return Path(path).read_text().split()


def calls(tool: str, **arguments: Any) -> str:
    return f"[[call files__{tool} {json.dumps(arguments)}]]"


async def its_turns_end(backend: Backend) -> None:
    """Wait until athena is at rest: what an editor left behind was cancelled, and its end takes its way through the worker."""
    async with asyncio.timeout(BOUND_S):
        while True:
            rows = await asyncio.to_thread(backend.ask, "GET", "/api/v1/snapshot")
            row = next(row for row in rows["specialists"] if row["name"] == "athena")
            if row["state"] == "ready" and not row.get("queue"):
                return


async def test_an_editor_streams_cancels_lists_and_loads(fleet: Backend) -> None:
    async with serving(fleet, "athena") as first:
        told = await first.agent.initialize(protocol_version=1)
        assert told.agent_capabilities is not None and told.agent_capabilities.load_session
        session = await first.session()
        ended = await first.ask(session, "[[think hm]] [[repeat 5]]")
        assert ended.stop_reason == "end_turn" and len(first.editor.of("agent_message_chunk")) > 1
        assert first.editor.text() == "token0 token1 token2 token3 token4"
        assert ended.usage is not None and ended.usage.output_tokens
        prompting = asyncio.create_task(first.ask(session, "[[repeat 5000]] [[rate 50]]"))
        seen = len(first.editor.updates)
        await first.editor.until(lambda: len(first.editor.updates) > seen + 3)
        await first.agent.cancel(session_id=session)
        assert (await prompting).stop_reason == "cancelled"
        assert session in [row.session_id for row in (await first.agent.list_sessions(cwd="/tmp")).sessions]
    async with serving(fleet, "athena") as second:
        await second.agent.initialize(protocol_version=1)
        with pytest.raises(acp.RequestError, match="not open here"):
            await second.ask(session, "too early")
        await second.agent.load_session(cwd="/tmp", session_id=session, mcp_servers=[])
        await second.editor.until(lambda: "token4" in second.editor.text())
        assert "[[repeat 5]]" in second.editor.text("user_message_chunk")
        assert (await second.ask(session, "hello")).stop_reason == "end_turn"
        assert "You said: hello" in second.editor.text()
        with pytest.raises(acp.RequestError, match="unknown_session"):
            await second.agent.load_session(cwd="/tmp", session_id="s-none", mcp_servers=[])


async def test_errors_come_in_the_protocols_form_and_the_process_goes_on(fleet: Backend) -> None:
    async with serving(fleet, "athena") as one:
        session = await one.session()
        for fault in ("provider_auth", "provider_rate_limited", "internal"):
            with pytest.raises(acp.RequestError, match=fault):
                await one.ask(session, f"[[fail {fault}]]")
        with pytest.raises(acp.RequestError, match="nothing to ask"):
            await one.ask(session, " ")
        with pytest.raises(acp.RequestError, match="absolute"):
            await one.agent.new_session(cwd="here", mcp_servers=[])
        assert (await one.ask(session, "still there?")).stop_reason == "end_turn"


async def test_a_permission_is_asked_for_in_the_editor_and_the_first_answer_counts(fleet: Backend) -> None:
    target = str(fleet.home.root / "written.txt")
    async with serving(fleet, "apollo") as one:
        session, editor = await one.session(), one.editor
        await one.ask(session, calls("write", path=target, text="yes"))
        [(tool, options)] = editor.requests
        assert tool.title == "files:write" and tool.raw_input["path"] == target
        assert [option.kind for option in options] == ["allow_once", "allow_always", "reject_once"]
        assert editor.of("tool_call")[0].title == "files:write"
        assert editor.of("tool_call_update")[-1].status == "completed"
        assert contents(target) == ["yes"]
        editor.answer = "reject_once"
        await one.ask(session, calls("write", path=target, text="no"))
        assert contents(target) == ["yes"] and editor.of("tool_call_update")[-1].status == "failed"
        editor.holds = asyncio.Event()  # the editor waits, and a console answers
        prompting = asyncio.create_task(one.ask(session, calls("write", path=target, text="elsewhere")))
        await editor.until(lambda: len(editor.requests) == 3)
        async with fleet.http() as http:
            [ask] = (await http.get("/api/v1/asks")).json()["asks"]
            await http.post(f"/api/v1/asks/{ask['id']}/answer", json={"answer": "allow"})
        assert (await prompting).stop_reason == "end_turn"
        assert contents(target) == ["yes", "elsewhere"]
        prompting = asyncio.create_task(one.ask(session, calls("write", path=target, text="never")))
        await editor.until(lambda: len(editor.requests) == 4)
        await one.agent.cancel(session_id=session)
        assert (await prompting).stop_reason == "cancelled"
        editor.holds.set()
    assert contents(target) == ["yes", "elsewhere"]


async def test_a_team_and_a_pipeline_show_who_says_what_and_a_plan(fleet: Backend) -> None:
    async with serving(fleet, "team") as team:
        session = await team.session()
        assert (await team.ask(session, "hello")).stop_reason == "end_turn"
        assert {"**apollo**", "**athena**"} <= set(team.editor.text().splitlines())
        assert {entry.status for entry in team.editor.of("plan")[-1].entries} == {"completed"}
        with pytest.raises(acp.RequestError, match="one specialist only"):
            await team.ask(session, "look", acp.image_block(PICTURE, "image/png"))
    async with serving(fleet, "apollo | athena") as pipeline:
        session = await pipeline.session()
        assert (await pipeline.ask(session, "hello")).stop_reason == "end_turn"
        assert pipeline.editor.text() == "You said: You said: hello"
        assert [entry.status for entry in pipeline.editor.of("plan")[-1].entries] == ["completed"] * 2
        with pytest.raises(acp.RequestError, match="stage 1"):
            await pipeline.ask(session, "[[fail provider_auth]]")


@pytest.mark.parametrize("how", ["TERM", "closed stdin", "closed stdout"])
async def test_an_editor_that_goes_ends_its_turns_and_the_process(fleet: Backend, how: str) -> None:
    async with serving(fleet, "athena") as one:
        session = await one.session()
        prompting = asyncio.create_task(one.ask(session, "[[repeat 5000]] [[rate 20]]"))
        await one.editor.until(lambda: one.editor.text())
        assert one.process.stdin is not None
        if how == "TERM":
            one.process.send_signal(signal.SIGTERM)
        elif how == "closed stdin":
            one.process.stdin.close()
        else:
            cast(Any, one.process)._transport.get_pipe_transport(1).close()
        assert await asyncio.wait_for(one.process.wait(), BOUND_S) == 0
        prompting.cancel()
        await asyncio.wait([prompting])
    await its_turns_end(fleet)


async def test_stdout_is_protocol_only_and_a_wrong_name_is_told_before_it(fleet: Backend) -> None:
    async def run(name: str, given: bytes) -> tuple[int | None, bytes, bytes]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "backend.cli.tekton", "acp", name, env=fleet.environment(),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, told = await asyncio.wait_for(process.communicate(given), BOUND_S)
        return process.returncode, out, told

    start = b'{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":1}}\n'
    code, out, told = await run(
        "athena", b"garbage\n" + start + b'{"jsonrpc":"2.0","id":1,"method":"no/such"}\n'
    )
    first, second = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and first["result"]["protocolVersion"] == 1 and second["error"]["code"] == -32601
    assert b"garbage" in told
    code, out, told = await run("nobody-of-this-name", start)
    assert (code, out) == (3, b"") and b"nobody-of-this-name" in told
    code, out, told = await run("apollo | |", start)
    assert (code, out) == (2, b"") and b"^" in told


async def test_a_backend_that_dies_is_said(tmp_path: Path) -> None:
    backend = start_backend(tmp_path / "home", launch=("athena",))
    try:
        async with serving(backend, "athena") as one:
            session = await one.session()
            prompting = asyncio.create_task(one.ask(session, "[[repeat 5000]] [[rate 20]]"))
            await one.editor.until(lambda: one.editor.text())
            os.kill(backend.process.pid, signal.SIGKILL)
            await one.editor.until(
                lambda: "connection to the backend is lost" in one.editor.text("agent_thought_chunk")
            )
            prompting.cancel()
            await asyncio.wait([prompting])
            with pytest.raises(acp.RequestError, match="backend_lost"):
                await one.ask(session, "anybody there?")
    finally:
        backend.process.kill()
        backend.process.wait(BOUND_S)
        from backend.specialists.killall import kill_all

        kill_all(backend.home, grace_s=0.5)


def test_what_a_prompt_brings_along_is_text_under_its_name_or_a_picture() -> None:
    text, pictures = read_blocks(
        [
            Block("text", "What is this?"),
            Block("resource_link", uri="file:///a/b.py", name="b.py"),
            Block("resource", resource=Resource("file:///c.md", "```\ncode\n```")),
            Block("image", data=PICTURE, mime_type="image/png"),
        ]
    )
    assert text == "What is this?\n\n[b.py](file:///a/b.py)\n\nfile:///c.md\n````\n```\ncode\n```\n````"
    [picture] = pictures
    assert (picture.media_type, picture.data) == ("image/png", PICTURE)  # type: ignore[union-attr]
    for wrong in (
        [],
        [Block("text", "  ")],
        [Block("audio", data="x")],
        [Block("resource", resource=Resource("x", blob="/+8="))],
    ):
        with pytest.raises(RpcFailure):
            read_blocks(wrong)


async def test_an_editor_that_does_not_read_is_left_with_a_reason_and_its_turns_end(fleet: Backend) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "backend.cli.tekton", "acp", "athena", env=fleet.environment(),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None

    def send(number: int, method: str, **params: Any) -> None:
        line = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        cast(Any, process.stdin).write(json.dumps(line).encode() + b"\n")

    try:
        send(0, "initialize", protocolVersion=1)
        send(1, "session/new", cwd="/tmp", mcpServers=[])
        lines = [json.loads(await asyncio.wait_for(process.stdout.readline(), BOUND_S)) for _ in range(2)]
        session = next(one["result"]["sessionId"] for one in lines if one["id"] == 1)
        stdout = cast(Any, process)._transport.get_pipe_transport(1)
        stdout.pause_reading()  # from now on nobody reads
        for number in range(4):  # an answer is 3.5 MB
            prompt = [{"type": "text", "text": "[[repeat 300000]] [[pieces 20000]]"}]
            send(number + 2, "session/prompt", sessionId=session, prompt=prompt)
        most, asking = 0, asyncio.create_task(process.stderr.read())
        async with asyncio.timeout(2 * BOUND_S):
            while not asking.done():
                with contextlib.suppress(psutil.Error):
                    most = max(most, psutil.Process(process.pid).memory_info().rss)
                await asyncio.wait([asking], timeout=0.1)
            said = asking.result().decode()
            stdout.resume_reading()
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
        cast(Any, process)._transport.close()
    assert process.returncode == 7 and "the editor does not read what it is sent" in said, said
    assert most < 250 * 1024 * 1024, f"{most:,} bytes"
    await its_turns_end(fleet)
