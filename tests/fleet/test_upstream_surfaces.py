"""What upstreams were seen to send, through every surface: the class, the upstream's own words, an end, and a link that lives."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from backend.cli.exit_codes import exit_code
from tekton_tui.dispatch import dispatch
from tekton_tui.stores import Stores
from tekton_tui.stores.live_turn import LiveTurn
from tests.fleet.whole import Whole
from tests.providers.dialects import Answer, AnthropicWords, Dialect, OllamaWords, OpenAIWords
from tests.providers.rigs import ENVIRONMENT
from tests.providers.upstreams import Call, Upstream
from tests.providers.vendor_streams import BAD, GOOD, Bad, Good

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600 if os.environ.get("TEKTON_ALL_STREAMS") else 240)]

BOUND_S = 60.0
DIALECTS: dict[str, Dialect] = {
    "openai": OpenAIWords(),
    "anthropic": AnthropicWords(),
    "ollama": OllamaWords(),
}
WHO = {"openai": "oa", "anthropic": "an", "ollama": "oll"}
CONFIG = (
    "".join(
        f'[specialists.{name}]\nprovider = "{kind}"\nmodel = "test-model"\n' for kind, name in WHO.items()
    )
    + """
[providers.openai]
base_url = "{url}/v1"
[providers.ollama]
host = "{url}"
[providers.anthropic]
base_url = "{url}"
"""
)
CASES: dict[str, Good | Bad] = {**GOOD, **BAD}
FINISH = {"other": "length", "refusal": "content_filter", "tool_calls": "tool_calls"}
"""How `/v1` names an ending that the protocol of OpenAI has no word for."""
FEW = [
    "a cached part larger than the prompt", "a refusal", "an end by the filter", "a tool that is asked for", "an end nobody knows",
    "no reason of an older Ollama", "nothing at all", "an error as an event", "a quota that is used up", "a page", "a message cut off",
    "an error of Ollama",
]  # fmt: skip
"""One of each class; with `TEKTON_ALL_STREAMS` (`make fuzz`) all cases go through all surfaces."""
TRIED = {name: case for name, case in CASES.items() if name in FEW or os.environ.get("TEKTON_ALL_STREAMS")}
ON_A_COMMAND_LINE = ["a refusal", "nothing at all", "an error as an event", "a page"]
"""A process each takes its time."""


@asynccontextmanager
async def replaying() -> AsyncIterator[Upstream]:
    """Serve the cases of all three vendors: the prompt names the one to send; any other prompt is answered well."""

    async def answer(call: Call) -> None:
        for dialect in DIALECTS.values():
            if call.path == dialect.chat:
                await call.begin(dialect.media)
                case = CASES.get(_asked(call.json))
                await call.send(*([case.data] if case else dialect.wire(Answer()).parts))
                await call.end()
                return
        for dialect in DIALECTS.values():
            if (side := dialect.side(call.path)) is not None:
                await call.reply(200, side)
                return
        await call.reply(404, {"error": "not here"})

    server = await Upstream(answer).start()
    try:
        yield server
    finally:
        await server.stop()


def _asked(body: dict[str, Any]) -> str:
    said = body["messages"][-1]["content"]
    text = said if isinstance(said, str) else said[-1]["text"]
    return text.partition("Q:")[2].partition("\n")[0].strip()


async def test_what_upstreams_send_ends_the_same_on_every_surface(
    whole: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    async with replaying() as upstream:
        platform: Whole = await whole(CONFIG.format(url=upstream.url))
        await platform.launch(*WHO.values())
        headers = {"Authorization": f"Bearer {platform.home.token.read_text().strip()}"}
        wrong: list[str] = []
        async with httpx.AsyncClient(
            base_url=platform.client.url, headers=headers, trust_env=False, timeout=BOUND_S
        ) as http:
            for number, (name, case) in enumerate(TRIED.items()):
                try:
                    await _through_http(http, name, case, number)
                    await _through_the_console(platform, name, case, number)
                except (AssertionError, KeyError) as error:
                    wrong.append(f"{name}: {error!r}"[:420])
            assert not wrong, "\n".join(wrong)
        assert set(FEW) <= set(TRIED)
        for name in TRIED if len(TRIED) == len(CASES) else ON_A_COMMAND_LINE:
            await _through_a_shell(name)
        for name in WHO.values():
            row = await platform.row(name)
            assert (row["state"], row.get("queue", 0)) == ("ready", 0), row
            assert (await platform.ask(name, "still there?"))["content"] == "Hello there"


async def _through_http(http: httpx.AsyncClient, name: str, case: Good | Bad, number: int) -> None:
    who, prompt = WHO[case.vendor], f"Q:{name}"
    # the platform's own call
    plain = await http.post(f"/api/v1/chat/{who}", json={"message": prompt, "request_id": f"plain-{number}"})
    body = plain.json()
    if isinstance(case, Good):
        assert (plain.status_code, body["content"], body["finish_reason"]) == (200, case.text, case.finish)
        assert case.note in " ".join(body.get("notes", []))
    else:
        assert plain.status_code >= 400 and body["error"]["code"] == case.code, body
        assert case.words in json.dumps(body, ensure_ascii=False) or case.words in await _evidence(
            http, f"plain-{number}"
        )
    # events
    events = await http.post(f"/api/chat/{who}/stream", json={"message": prompt})
    frames = [json.loads(line[6:]) for line in events.text.split("\n") if line.startswith("data: ")]
    said = "".join(frame["content"] for frame in frames if frame["type"] == "chunk")
    assert said == case.text and frames[-1]["type"] == ("complete" if isinstance(case, Good) else "error"), (
        frames[-1]
    )
    if isinstance(case, Bad):
        assert frames[-1]["code"] == case.code, frames[-1]
    # a team, and a pipeline whose second stage gets the text of the first
    team = (await http.post("/api/v1/team-chat", json={"content": prompt, "target_ids": [who]})).json()
    run = (await http.post("/api/v1/pipelines", json={"pipeline": f"{who} | {who}", "input": prompt})).json()
    if isinstance(case, Good):
        assert [answer["content"] for answer in team["responses"]] == [case.text], team
        if case.finish == "stop" and case.text.strip():
            assert run["ok"] and run["output"], run
    else:
        assert (team["failures"][0]["code"], team["failures"][0]["partial"]) == (case.code, case.text), team
        assert run["error"]["code"] == case.code and "stage 1" in run["error"]["message"], run
    # OpenAI's words
    question = {"model": who, "messages": [{"role": "user", "content": prompt}]}
    whole = await http.post("/v1/chat/completions", json=question)
    streamed = await http.post("/v1/chat/completions", json={**question, "stream": True})
    lines = [line[6:] for line in streamed.text.split("\n") if line.startswith("data: ")]
    chunks = [json.loads(line) for line in lines if line != "[DONE]"]
    text = "".join(c["delta"].get("content") or "" for one in chunks for c in one.get("choices", []))
    assert text == case.text, text
    if isinstance(case, Good):
        choice = whole.json()["choices"][0]
        finish = FINISH.get(case.finish, case.finish)
        assert (choice["message"]["content"] or "", choice["finish_reason"]) == (case.text, finish), choice
        assert finish in [c["finish_reason"] for one in chunks for c in one.get("choices", [])]
    else:
        assert whole.status_code >= 400 and whole.json()["error"]["code"] == case.code, whole.text
        assert whole.headers["x-should-retry"] == "false"
        told = chunks[-1] if chunks else streamed.json()
        assert told["error"]["code"] == case.code, told


async def _evidence(http: httpx.AsyncClient, request_id: str) -> str:
    errors = (await http.get("/api/v1/errors")).json()["errors"]
    return " ".join(
        row["message"] + row.get("evidence", "") for row in errors if row["request_id"] == request_id
    )


async def _through_the_console(platform: Whole, name: str, case: Good | Bad, number: int) -> None:
    """Ask as a console does, and look at the turn that its store says has ended."""
    stores, ended, request_id = Stores(), list[LiveTurn](), f"console-{number}"
    stores.turns.ended.subscribe(ended.append)
    await platform.client.subscribe(["chat"])
    question = {"ai_id": WHO[case.vendor], "content": f"Q:{name}", "request_id": request_id}
    asking = asyncio.create_task(platform.client.request("chat", question))
    async with asyncio.timeout(BOUND_S):
        async for batch in platform.client.events():
            dispatch(stores, [event for _, event in batch])
            if request_id in {turn.request_id for turn in ended}:
                break
    await asyncio.wait([asking])
    [turn] = [turn for turn in ended if turn.request_id == request_id]
    assert turn.content == case.text, turn
    if isinstance(case, Good):
        assert (turn.code, turn.finish_reason) == ("", case.finish), turn
        assert case.note in " ".join(turn.notes)
    else:
        assert turn.code == case.code and turn.error, turn


async def _through_a_shell(name: str) -> None:
    case = CASES[name]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "backend.cli.aish", WHO[case.vendor], f"Q:{name}",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, told = await asyncio.wait_for(process.communicate(), BOUND_S)
    assert out.decode().strip() == case.text.strip(), (name, out, told)
    if isinstance(case, Good):
        assert process.returncode == 0, (name, told)
        assert case.note in told.decode()
    else:
        assert process.returncode == exit_code(case.code), (name, told)
        assert case.code in told.decode() and "Traceback" not in told.decode()
