"""Log probabilities from the model to the caller, through each dialect and each provider that has them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ollama
import openai
import pytest

from backend.config import Providers, Settings
from backend.home import Home
from backend.providers import create
from backend.providers.base import Completed, CompletionRequest, Logprobs, Text
from backend.providers.streams.answer import NEVER, Answer, Upstream
from backend.schema.content import AnswerOptions, ChatMessage, TokenLogprob
from tests.gateway.serving import Backend

ASK = "[[repeat 4]]"
TOKENS = ["token0 ", "token1 ", "token2 ", "token3"]
LOGPROBS = [-0.25, -0.5, -0.75, -1.0]


def client(backend: Backend) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        api_key=backend.token,
        base_url=f"{backend.url}/v1",
        max_retries=0,
        http_client=openai.DefaultAsyncHttpxClient(trust_env=False),
    )


async def test_chat_completions_has_them_whole_and_beside_the_text_they_are_of(backend: Backend) -> None:
    wanted: Any = {
        "model": "apollo", "messages": [{"role": "user", "content": ASK}], "logprobs": True, "top_logprobs": 2, "n": 2,
    }  # fmt: skip
    async with client(backend) as vendor:
        whole = await vendor.chat.completions.create(**wanted)
        for choice in whole.choices:
            assert choice.logprobs is not None and choice.logprobs.content is not None
            rows = choice.logprobs.content
            assert [(row.token, row.logprob) for row in rows] == list(zip(TOKENS, LOGPROBS, strict=True))
            assert [len(row.top_logprobs) for row in rows] == [2] * 4
            assert rows[0].bytes == list(b"token0 ")
        seen: dict[int, list[tuple[str, float]]] = {0: [], 1: []}
        async for chunk in await vendor.chat.completions.create(stream=True, **wanted):
            for choice in chunk.choices:
                told = choice.logprobs.content if choice.logprobs and choice.logprobs.content else []
                assert "".join(row.token for row in told) == (choice.delta.content or "")
                seen[choice.index] += [(row.token, row.logprob) for row in told]
        assert seen == {number: list(zip(TOKENS, LOGPROBS, strict=True)) for number in (0, 1)}
        wanted |= {"top_logprobs": None}
        alone = await vendor.chat.completions.create(**wanted)
        assert alone.choices[0].logprobs and alone.choices[0].logprobs.content
        assert alone.choices[0].logprobs.content[0].top_logprobs == []
        wanted |= {"logprobs": None}
        plain = await vendor.chat.completions.create(**wanted)
        assert plain.choices[0].logprobs is None


async def test_responses_has_them_in_deltas_and_in_the_item(backend: Backend) -> None:
    async with client(backend) as vendor:
        wanted: Any = {
            "model": "apollo", "input": ASK, "include": ["message.output_text.logprobs"], "top_logprobs": 3,
        }  # fmt: skip
        whole = await vendor.responses.create(**wanted)
        async with vendor.responses.stream(**wanted) as events:
            deltas = [event async for event in events if event.type == "response.output_text.delta"]
            final = await events.get_final_response()
    for response in (whole, final):
        part: Any = next(item for item in response.output if item.type == "message").content[0]
        assert [(row.token, row.logprob) for row in part.logprobs] == list(zip(TOKENS, LOGPROBS, strict=True))
        assert [len(row.top_logprobs) for row in part.logprobs] == [3] * 4
    assert [[row.token for row in delta.logprobs] for delta in deltas] == [[token] for token in TOKENS]
    assert [delta.delta for delta in deltas] == TOKENS


async def test_ollama_has_them_whole_and_streamed(backend: Backend) -> None:
    host = ollama.AsyncClient(backend.url, headers=backend.auth(), trust_env=False)
    async with host._client:  # pyright: ignore[reportPrivateUsage]
        ask: Any = {"model": "apollo", "messages": [{"role": "user", "content": ASK}], "top_logprobs": 1}
        whole = await host.chat(logprobs=True, **ask)
        assert [(row.token, row.logprob) for row in whole.logprobs or ()] == list(
            zip(TOKENS, LOGPROBS, strict=True)
        )
        lines = [line async for line in await host.chat(logprobs=True, stream=True, **ask)]
        assert [row.token for line in lines for row in line.logprobs or ()] == TOKENS
        made = await host.generate("apollo", ASK, logprobs=True)
        assert [row.token for row in made.logprobs or ()] == TOKENS


PROVIDERS: list[tuple[str, dict[str, Any]]] = [
    ("openai", {"base_url": "{url}/v1", "api": "chat"}),
    ("openai", {"base_url": "{url}/v1", "api": "responses"}),
    ("ollama", {"host": "{url}"}),
]


@pytest.mark.parametrize(("kind", "own"), PROVIDERS, ids=["chat", "responses", "ollama"])
async def test_each_provider_asks_for_them_and_reads_them(
    backend: Backend, tmp_path: Path, kind: str, own: dict[str, Any]
) -> None:
    """Asked of a real server of the provider's protocol: another gateway."""
    own = {
        name: value.format(url=backend.url) if isinstance(value, str) else value
        for name, value in own.items()
    }
    settings = Settings(providers=Providers(kind, {kind: {**own, "model": "apollo"}}))
    keys = {"OPENAI_API_KEY": backend.token, "OLLAMA_API_KEY": backend.token}
    provider = create(kind, settings, Home(tmp_path / "home").prepare(), keys)
    await provider.prepare()
    try:
        items = [
            item
            async for item in provider.stream(
                CompletionRequest(
                    system="",
                    messages=[ChatMessage("user", ASK)],
                    model="apollo",
                    options=AnswerOptions(logprobs=2),
                )
            )
        ]
    finally:
        await provider.aclose()
    told = [item for item in items if isinstance(item, Logprobs | Text)]
    assert [type(item) for item in told] == [Logprobs, Text] * 4
    tokens = [token for item in told if isinstance(item, Logprobs) for token in item.tokens]
    assert [(token.token, token.logprob) for token in tokens] == list(zip(TOKENS, LOGPROBS, strict=True))
    assert [len(token.top) for token in tokens] == [2] * 4 and tokens[0].bytes == list(b"token0 ")
    assert isinstance(items[-1], Completed)


async def test_who_gives_none_refuses_by_name_and_nobody_is_asked(
    new_backend: Callable[..., Backend],
) -> None:
    backend = new_backend(config='[providers.scripted]\nlacks = ["logprobs"]', launch=("apollo", "athena"))
    talk = {"messages": [{"role": "user", "content": ASK}], "logprobs": True}
    async with backend.http() as http:
        for model, why in {"apollo": "gives no log probabilities", "team": "several specialists"}.items():
            refused = await http.post("/v1/chat/completions", json={"model": model, **talk})
            assert refused.status_code == 400 and why in refused.text, refused.text
        half = await http.post(
            "/v1/chat/completions", json={"model": "apollo", **talk, "logprobs": False, "top_logprobs": 3}
        )
        assert half.status_code == 400 and half.json()["error"]["param"] == "top_logprobs"
        many = await http.post("/v1/chat/completions", json={"model": "apollo", **talk, "top_logprobs": 21})
        assert many.status_code == 400 and "top_logprobs" in many.text


def test_what_upstreams_give_as_log_probabilities_is_read_or_left_out() -> None:
    answer = Answer(Upstream("it", "here", "m", "KEY", "setting", ()))
    good = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [{"token": "b", "logprob": -2}]}
    rows = [
        good, None, 3, {"token": 1, "logprob": -1}, {"token": "x"}, {"token": "x", "logprob": True},
        {"token": "z", "logprob": float("-inf"), "bytes": [300]}, {"token": "n", "logprob": float("nan")},
        {"token": "p", "logprob": 1e-7, "bytes": "no", "top_logprobs": [good] * 40},
    ]  # fmt: skip
    [item] = answer.logprobs(rows)
    assert isinstance(item, Logprobs)
    assert item.tokens[0] == TokenLogprob("a", -0.5, [97], [TokenLogprob("b", -2.0)])
    assert [(token.token, token.logprob, token.bytes) for token in item.tokens[1:]] == [
        ("z", NEVER, None), ("n", NEVER, None), ("p", 0.0, None),
    ]  # fmt: skip
    assert len(item.tokens[-1].top) == 20
    assert [*answer.logprobs("no")] == [*answer.logprobs(None)] == [*answer.logprobs([])] == []
