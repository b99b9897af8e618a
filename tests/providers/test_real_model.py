"""The real model behind the real server: asked by our provider, and by both vendors' libraries as we use them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from backend import catalog
from backend.config import Providers, Settings
from backend.home import Home, write_private
from backend.providers import create
from backend.providers.base import (
    Completed,
    ContextOverflow,
    Logprobs,
    Provider,
    ProviderAuth,
    Queued,
    StreamItem,
    Text,
)
from backend.providers.embedded import PROVIDER, weights
from backend.schema.content import AnswerOptions
from backend.schema.frames import ChatMessage
from tests.model_server import model_server
from tests.providers.rigs import asking

pytestmark = [pytest.mark.e2e, pytest.mark.model, pytest.mark.timeout(180)]
BOUND_S = 60.0
SLOTS = 2
EMBEDDED: dict[str, object] = {"slots": SLOTS, "max_tokens": 24}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """The embedded server as a process of its own, with two slots; its facts lie in the home."""
    home = Home(tmp_path_factory.mktemp("real") / "home").prepare()
    settings = Settings(providers=Providers(tables={"embedded": EMBEDDED}))
    try:
        weights.find(PROVIDER.own(settings), home)
    except weights.ModelNotFound as missing:
        pytest.skip(missing.message)
    with model_server(home, settings):
        yield home


def facts_of(home: Home) -> dict[str, Any]:
    return json.loads(home.embedded_facts.read_text())


def settings_for(home: Home, kind: str) -> tuple[Settings, dict[str, str]]:
    """Return settings and environment that lead a kind of provider to the embedded server."""
    facts = facts_of(home)
    tables: dict[str, dict[str, object]] = {
        "embedded": EMBEDDED,
        "openai": {"base_url": f"{facts['url']}/v1", "model": "embedded"},
        "anthropic": {"base_url": facts["url"], "model": "embedded"},
    }
    return Settings(providers=Providers(tables=tables)), {f"{kind.upper()}_API_KEY": facts["api_key"]}


@pytest.fixture(params=["embedded", "openai", "anthropic"])
async def provider(request: pytest.FixtureRequest, server: Home) -> AsyncGenerator[Provider]:
    settings, environment = settings_for(server, request.param)
    made = create(request.param, settings, server, environment)
    await made.prepare()
    yield made
    await made.aclose()


async def take(stream: AsyncGenerator[StreamItem]) -> list[StreamItem]:
    async with asyncio.timeout(BOUND_S):
        return [item async for item in stream]


async def test_the_model_answers_in_pieces_with_true_counts_and_lives(provider: Provider) -> None:
    items = await take(provider.stream(asking("Tell me a story.", model="embedded", max_tokens=8)))
    texts = [item.content for item in items if isinstance(item, Text)]
    last = items[-1]
    assert isinstance(last, Completed)
    assert len(texts) > 1 and 1 < last.usage.output_tokens <= 8 and not last.usage.estimated
    assert last.usage.input_tokens + last.usage.cached_tokens > 15
    assert (await provider.health("embedded")).ok
    if provider.kind == "openai":
        assert await provider.context_window("embedded") == 2048
    if provider.kind != "openai":
        counts = await provider.count_tokens(["one two three", ""], "embedded")
        assert counts is not None and counts[0] >= 3


async def test_log_probabilities_of_the_model_stand_beside_their_text(provider: Provider) -> None:
    if provider.kind == "anthropic":
        return  # its protocol has none
    wanted = asking("Hi.", model="embedded", max_tokens=4, options=AnswerOptions(logprobs=2))
    items = await take(provider.stream(wanted))
    text = "".join(item.content for item in items if isinstance(item, Text))
    tokens = [token for item in items if isinstance(item, Logprobs) for token in item.tokens]
    assert "".join(token.token for token in tokens).strip() == text.strip()
    assert all(token.logprob <= 0 and len(token.top) == 2 for token in tokens)


async def test_a_prompt_longer_than_the_models_window_is_an_overflow(provider: Provider) -> None:
    long = asking("word " * 4000, model="embedded", max_tokens=4)
    with pytest.raises(ContextOverflow) as caught:
        await take(provider.stream(long))
    assert "2048" in caught.value.evidence


async def test_a_wrong_key_is_told_as_such(server: Home, tmp_path: Path) -> None:
    settings, _ = settings_for(server, "openai")
    for kind in ("openai", "anthropic", "embedded"):
        home = Home(tmp_path / kind).prepare()
        wrong = {**facts_of(server), "api_key": "wrong"}
        write_private(home.embedded_facts, json.dumps(wrong).encode())
        made = create(kind, settings, home, {f"{kind.upper()}_API_KEY": "wrong"})
        await made.prepare()
        with pytest.raises(ProviderAuth):
            await take(made.stream(asking(model="embedded")))
        await made.aclose()


async def embedded(home: Home) -> Any:
    made = create("embedded", settings_for(home, "embedded")[0], home, {})
    await made.prepare()
    return made


async def test_the_second_turn_reads_only_what_is_new(server: Home) -> None:
    made = await embedded(server)
    persona = "You are Athena, the Knowledge Specialist. " * 6
    await made.prewarm(persona, 1)
    request = asking("Hi.", max_tokens=4, slot=1)
    request.system, request.messages = persona, [ChatMessage("user", "Hi.")]
    last = (await take(made.stream(request)))[-1]
    await made.aclose()
    assert isinstance(last, Completed) and last.usage.cached_tokens > 40 > last.usage.input_tokens


@contextlib.asynccontextmanager
async def busy_slot(home: Home, number: int) -> AsyncGenerator[None]:
    """Hold a slot with an answer that does not end by itself."""
    facts = facts_of(home)
    body = {
        "messages": [{"role": "user", "content": "Go on."}],
        "stream": True,
        "ignore_eos": True,
        "id_slot": number,
    }
    headers = {"Authorization": f"Bearer {facts['api_key']}"}
    async with (
        httpx.AsyncClient(base_url=facts["url"], headers=headers, trust_env=False, timeout=BOUND_S) as http,
        http.stream("POST", "/v1/chat/completions", json={**body, "max_tokens": 1900}) as answer,
    ):
        lines = cast(AsyncGenerator[str], answer.aiter_lines())
        while '"content":"' not in await anext(lines):
            pass
        yield
        await lines.aclose()


async def test_when_all_slots_are_full_the_place_in_line_is_shown(server: Home) -> None:
    made = await embedded(server)
    waiting = made.stream(asking("Me too.", max_tokens=4, slot=0))
    async with asyncio.timeout(BOUND_S):
        async with busy_slot(server, 0), busy_slot(server, 1):
            first = await anext(waiting)
            assert isinstance(first, Queued) and first.position == 1
        rest = [item async for item in waiting]  # whoever held the slots is gone: who waits begins
    await made.aclose()
    assert isinstance(rest[-1], Completed)


async def test_the_shipped_model_answers_in_role_and_ends_by_itself(server: Home) -> None:
    made = await embedded(server)
    request = asking(slot=1)
    request.system = catalog.load(Settings()).get("apollo").persona
    request.messages = [ChatMessage("user", "What is your role?")]
    items = await take(made.stream(request))
    await made.aclose()
    last = items[-1]
    assert isinstance(last, Completed) and last.finish_reason == "stop"
    assert "".join(item.content for item in items if isinstance(item, Text)).strip()


async def test_a_temperature_held_down_is_told_only_to_who_asked_for_more(server: Home) -> None:
    made = await embedded(server)
    noted = {
        by_role: (
            await take(
                made.stream(asking(temperature=0.5, temperature_by_role=by_role, max_tokens=2, slot=1))
            )
        )[-1]
        for by_role in (False, True)
    }
    await made.aclose()
    asked, by_role = noted[False], noted[True]
    assert isinstance(asked, Completed) and "0.2 was used instead of 0.5" in asked.notes[0]
    assert isinstance(by_role, Completed) and by_role.notes == []
