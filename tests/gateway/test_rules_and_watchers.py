"""Tool calls from outside: rules that a body brings along, and who counts as somebody that watches."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from tests.approvals.test_tools import SERVER
from tests.gateway.serving import Backend, start_backend
from tests.gateway.test_websocket import Talk

WAIT_S = 60.0


@pytest.fixture(scope="module")
def tooled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """A backend whose apollo has a server of tools: reading is allowed, writing asks."""
    folder = tmp_path_factory.mktemp("tooled")
    config = (
        f"[tools.files]\ncommand = {json.dumps([sys.executable, SERVER])}\n"
        '[rules]\nallow = ["files:read"]\n[specialists.apollo]\ntools = ["files"]\n'
    )
    backend = start_backend(folder / "home", config=config, launch=("apollo",))
    yield backend
    backend.stop()


@asynccontextmanager
async def looking(backend: Backend, scope: str) -> AsyncGenerator[Talk]:
    """A console with a token of this scope that reads what is asked for."""
    address = f"{backend.url.replace('http', 'ws')}/ws"
    async with connect(address, additional_headers=backend.auth(scope), proxy=None, max_queue=None) as socket:
        talk = Talk(socket)
        await talk.until("hello")
        await talk.send("subscribe", request_id="s", topics=["asks"])
        await talk.until("snapshot")
        yield talk


def asking(tool: str, **arguments: Any) -> str:
    return f"[[call files__{tool} {json.dumps(arguments)}]]"


async def chat(backend: Backend, text: str, **more: Any) -> str:
    async with backend.http() as http:
        answer = await http.post("/api/v1/chat/apollo", json={"message": text, **more}, timeout=WAIT_S)
    assert answer.status_code == 200, answer.text
    return answer.json()["content"]


BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": 1},
    "/v1/responses": {"input": 1, "store": False},
    "/v1/messages": {"messages": 1, "max_tokens": 99},
    "/api/chat": {"messages": 1, "stream": False},
    "/api/generate": {"prompt": 1, "stream": False},
}


@pytest.mark.parametrize("model", ["apollo", "team", "apollo|apollo"])
@pytest.mark.parametrize("path", BODIES)
async def test_rules_of_a_body_make_the_platforms_narrower_and_never_wider(
    tooled: Backend, tmp_path: Path, path: str, model: str
) -> None:
    (tmp_path / "a.txt").write_text("forty-two")
    reads = asking("read", path=str(tmp_path / "a.txt"))
    writes = asking("write", path=str(tmp_path / "b.txt"), text="x")
    async with tooled.http("chat") as http:

        async def ask(text: str, **more: Any) -> str:
            said: Any = {"messages": [{"role": "user", "content": text}], "input": text, "prompt": text}
            body = {name: said.get(name, value) for name, value in BODIES[path].items()}
            answer = await http.post(path, json={"model": model, **body, **more}, timeout=WAIT_S)
            assert answer.status_code == 200, answer.text
            return answer.text

        assert "forty-two" in await ask(reads)
        assert "forty-two" in await ask(reads, rules={"allow": ["files:read"]})
        for rules in ({"deny": ["files:*"]}, {"allow": ["files:write"]}):
            told = await ask(reads, rules=rules)
            assert "denied" in told and "forty-two" not in told
        assert "denied" in await ask(writes, rules={"allow": ["files:write"]})  # nobody is there to be asked
        assert not (tmp_path / "b.txt").exists()
        for wrong, why in [({"denies": ["x"]}, "did you mean 'deny'"), ({"deny": ["a b"]}, "SERVER:TOOL")]:
            body = {"model": model, **BODIES[path], "rules": wrong}
            body |= {"messages": [{"role": "user", "content": "x"}]} if "messages" in body else {}
            body |= {name: "x" for name in ("input", "prompt") if name in body}
            refused = await http.post(path, json=body)
            assert refused.status_code == 400 and why in refused.text, refused.text


@pytest.mark.parametrize("scope", ["read", "chat"])
async def test_who_may_not_answer_does_not_count_as_watching(
    tooled: Backend, tmp_path: Path, scope: str
) -> None:
    writes = asking("write", path=str(tmp_path / "c.txt"), text="x")
    async with looking(tooled, scope):
        assert "no console is attached" in await chat(tooled, writes)
    assert not (tmp_path / "c.txt").exists()


@pytest.mark.parametrize("leaves", [False, True])
async def test_a_reader_that_comes_and_goes_while_an_ask_waits_changes_nothing_of_it(
    tooled: Backend, tmp_path: Path, leaves: bool
) -> None:
    writes = asking("write", path=str(tmp_path / "d.txt"), text="x")
    async with looking(tooled, "control") as desk:
        talking = asyncio.create_task(chat(tooled, writes))
        ask = (await desk.until("ask"))["ask"]
        async with looking(tooled, "read") as reader:
            snapshot = next(frame for frame in reader.came if frame["type"] == "snapshot")
            assert [one["id"] for one in snapshot["asks"]] == [ask["id"]], "who only looks on sees it"
            await reader.send("answer_ask", request_id="no", id=ask["id"], answer="allow")
            assert (await reader.until("error", request_id="no"))["code"] == "forbidden"
            if not leaves:
                await desk.send("answer_ask", request_id=ask["id"], id=ask["id"], answer="allow")
                await desk.until("result", request_id=ask["id"])
                assert (await reader.until("ask_closed"))["verdict"] == "allow"
        if leaves:
            assert not talking.done()
            await desk.send("answer_ask", request_id=ask["id"], id=ask["id"], answer="allow")
            await desk.until("result", request_id=ask["id"])
        assert "wrote 1 characters" in await talking
    assert (tmp_path / "d.txt").read_text() == "x\n"


async def test_an_ask_outlives_its_only_console_and_the_next_one_that_may_answers_it(
    tooled: Backend, tmp_path: Path
) -> None:
    writes = asking("write", path=str(tmp_path / "e.txt"), text="x")
    async with looking(tooled, "control") as desk:
        talking = asyncio.create_task(chat(tooled, writes))
        ask = (await desk.until("ask"))["ask"]
    async with tooled.http() as http:
        other = (await http.post("/api/v1/sessions", json={"owner": "apollo"})).json()["id"]
    async with looking(tooled, "read"):
        told = await chat(tooled, writes, session_id=other)
        assert "no console is attached" in told, "another call has nobody to wait for"
    async with looking(tooled, "control") as desk:
        await desk.send("answer_ask", request_id=ask["id"], id=ask["id"], answer="deny")
        await desk.until("result", request_id=ask["id"])
    assert "said no" in await talking
    assert not (tmp_path / "e.txt").exists()


async def test_of_answers_by_every_way_in_one_moment_one_counts_and_the_others_hear_whose(
    tooled: Backend, tmp_path: Path
) -> None:
    for turn in range(6):
        path = tmp_path / f"raced{turn}.txt"
        async with (
            looking(tooled, "control") as here,
            looking(tooled, "control") as there,
            tooled.http() as http,
        ):
            asked = asyncio.create_task(chat(tooled, asking("write", path=str(path), text="once")))
            ask = (await here.until("ask"))["ask"]["id"]
            answers = [("allow", "deny")[(turn + number) % 2] for number in range(5)]

            async def by_http(answer: str, ask: str = ask, http: Any = http) -> str:
                said = await http.post(f"/api/v1/asks/{ask}/answer", json={"answer": answer})
                return "" if said.status_code == 200 else said.json()["error"]["message"]

            async def by_socket(talk: Talk, answer: str, ask: str = ask) -> str:
                await talk.send("answer_ask", request_id=f"a-{answer}", id=ask, answer=answer)
                async with asyncio.timeout(WAIT_S):
                    while (said := await talk.next()).get("request_id") != f"a-{answer}":
                        pass
                return said["message"] if said["type"] == "error" else ""

            async def by_command(answer: str, ask: str = ask) -> str:
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "backend.cli.tekton", "asks", answer, ask,
                    env=tooled.environment(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
                )  # fmt: skip
                out, _ = await process.communicate()
                return out.decode() if process.returncode else ""

            told = await asyncio.gather(
                by_http(answers[0]), by_socket(here, answers[1]), by_socket(there, answers[2]), by_http(answers[3]),
                by_command(answers[4]),
            )  # fmt: skip
            won = [answer for answer, words in zip(answers, told, strict=True) if not words]
            assert len(won) == 1, told
            assert all("already" in words or "just answered" in words for words in told if words), told
            content = await asyncio.wait_for(asked, WAIT_S)
            assert (path.read_text() if path.exists() else "") == ("once\n" if won == ["allow"] else "")
            assert ("wrote" if won == ["allow"] else "denied") in content
