"""The first model of a fresh home: what a server on this machine has is taken, shown, asked; what comes later is offered."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from backend.schema.errors import TektonError
from tests.fleet.whole import BOUND_S, tekton
from tests.providers.dialects import Answer, OllamaWords, OpenAIWords
from tests.providers.upstreams import Call, Upstream

ANSWER = Answer(pieces=["Blue ", "whale."])


def config(ollama: str, *local: str) -> str:
    servers = ", ".join(f'"{address}"' for address in local)
    return f'[providers]\nlocal = [{servers}]\n[providers.ollama]\nhost = "{ollama}"\n'


def nowhere() -> str:
    """Return an address where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def ollama_with(*models: str) -> Upstream:
    words = OllamaWords()

    async def answer(call: Call) -> None:
        if call.path == words.chat:
            await call.begin(words.media)
            await call.send(*words.wire(ANSWER).parts)
            await call.end()
        elif call.path == "/api/ps":
            await call.reply(200, {"models": []})
        elif call.path == "/api/tags":
            rows = [{"name": name, "model": name, "size": 5_200_000_000, "details": {}} for name in models]
            await call.reply(200, {"models": rows})
        else:
            await call.reply(200, words.side(call.path) or {})

    return Upstream(answer)


def lm_studio_with(model: str) -> Upstream:
    words = OpenAIWords()

    async def answer(call: Call) -> None:
        if call.path == words.chat:
            await call.begin(words.media)
            await call.send(*words.wire(ANSWER).parts)
            await call.end()
        else:
            await call.reply(200, {"data": [{"id": model, "owned_by": "organization_owner"}]})

    return Upstream(answer)


@pytest.fixture
async def servers(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Upstream]]:
    """Servers that are stopped at the end; what answers is chosen as on a machine of somebody's own."""
    monkeypatch.setenv("TEKTON_PROVIDER", "auto")
    for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL", "OLLAMA_HOST"):
        monkeypatch.delenv(name, raising=False)
    started: list[Upstream] = []
    yield started
    for server in started:
        await server.stop()


async def plan_of(one: Any) -> dict[str, Any]:
    return (await one.client.request("launch", {"ids": ["apollo"], "dry_run": True}))["plan"]


async def test_the_plan_names_ollamas_only_model_and_the_answer_comes_from_it(
    whole: Any, servers: list[Upstream]
) -> None:
    servers.append(await ollama_with("qwen3:8b", "nomic-embed-text:latest").start())
    one = await whole(config(servers[0].url))
    plan = await plan_of(one)
    assert (plan["provider"]["provider"], plan["provider"]["display"]) == ("ollama", "Qwen3 8B")
    first = plan["candidates"][0]
    assert (first["model"], first["size"], first["usable"]) == ("qwen3:8b", 5_200_000_000, True)
    assert all("nomic" not in each["model"] for each in plan["candidates"])
    assert "stand_in" not in plan["provider"]
    assert {job["name"] for job in plan["jobs"]} >= {"review-change", "plan-project", "write-text"}
    await one.launch("apollo")
    assert (await one.ask("apollo", "Name the largest animal."))["content"] == "Blue whale."
    assert servers[0].to("/api/chat")[0].json["model"] == "qwen3:8b"


async def test_two_servers_are_listed_another_is_taken_by_hand_and_remembered(
    whole: Any, servers: list[Upstream]
) -> None:
    servers.append(await ollama_with("qwen3:8b").start())
    servers.append(await lm_studio_with("gemma-3-12b").start())
    one = await whole(config(servers[0].url, f"{servers[1].url}/v1"))
    plan = await plan_of(one)
    usable = [each["model"] for each in plan["candidates"] if each.get("usable") and not each.get("stand_in")]
    assert usable == ["qwen3:8b", "gemma-3-12b"]
    await one.client.request("use_model", {"provider": "openai", "model": "gemma-3-12b"})
    assert (await plan_of(one))["provider"]["model"] == "gemma-3-12b"
    await one.kill_backend()
    await one.reattach()
    assert (await plan_of(one))["provider"]["model"] == "gemma-3-12b", "it is remembered"
    await one.launch("apollo")
    assert (await one.ask("apollo", "Name the largest animal."))["content"] == "Blue whale."
    assert servers[0].to("/api/chat") == []


async def test_of_two_servers_with_the_same_model_either_can_be_taken(
    whole: Any, servers: list[Upstream]
) -> None:
    for _ in range(2):
        servers.append(await lm_studio_with("gemma-3-12b").start())
    places = [f"{server.url}/v1" for server in servers]
    one = await whole(config(nowhere(), *places))
    for place in (places[1], places[0], places[1]):
        wish = {"provider": "openai", "model": "gemma-3-12b", "address": f"{place}/"}
        choice = await one.client.request("use_model", wish)
        assert (choice["address"], choice["reason"]) == (place, f"chosen by you, at {place}")
    with pytest.raises(TektonError, match="answers at http://nowhere; known are http"):
        await one.client.request("use_model", {"provider": "openai", "address": "http://nowhere"})
    with pytest.raises(TektonError, match="has no 'other'; it has gemma-3-12b"):
        await one.client.request("use_model", {"provider": "openai", "model": "other", "address": places[1]})
    with pytest.raises(TektonError, match="auto takes the best"):
        await one.client.request("use_model", {"provider": "auto", "address": places[0]})
    await one.kill_backend()
    await one.reattach()
    await one.launch("apollo")
    assert (await one.ask("apollo", "Name the largest animal."))["content"] == "Blue whale."
    assert [len(server.to("/v1/chat/completions")) for server in servers] == [0, 1]


async def test_a_server_that_comes_later_is_offered_and_not_taken(
    whole: Any, servers: list[Upstream], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = nowhere()
    one = await whole(config(nowhere(), f"{place}/v1"))
    plan = await plan_of(one)
    assert plan["provider"]["provider"] == "embedded" and plan["provider"]["stand_in"]
    assert "Ollama not found" in plan["provider"]["reason"]

    server = lm_studio_with("gemma-3-12b")
    server.url, port = place, int(place.rpartition(":")[2])
    server._server = await asyncio.start_server(server._serve, "127.0.0.1", port)
    servers.append(server)
    await one.client.subscribe(["fleet"])
    assert (await plan_of(one))["provider"]["provider"] == "embedded", "not taken"
    async with asyncio.timeout(BOUND_S):
        async for batch in one.client.events():
            offers = [event.offer for _, event in batch if type(event).__name__ == "ProviderChanged"]
            if offers:
                break
    assert offers[0] is not None and offers[0].model == "gemma-3-12b"
    snapshot = await one.client.request("snapshot", {})
    assert snapshot["platform"]["offer"]["model"] == "gemma-3-12b"
    _, status, _ = await tekton("status")
    assert "Gemma-3-12b is there now: tekton models use auto" in status
    await one.client.request("use_model", {"provider": "auto"})
    assert (await plan_of(one))["provider"]["model"] == "gemma-3-12b"
