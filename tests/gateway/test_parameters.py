"""No parameter passes unread in silence: over all dialects, the names their vendors know, and those names misspelt."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any

import httpx
import ollama
import pytest
from anthropic.types import message_count_tokens_params, message_create_params
from anthropic.types.beta import message_count_tokens_params as beta_count_params
from anthropic.types.beta import message_create_params as beta_create_params
from ollama import _types as ollama_types
from openai.types import embedding_create_params
from openai.types.chat import completion_create_params
from openai.types.responses import response_create_params
from openai.types.responses.response_text_config_param import ResponseTextConfigParam
from openai.types.shared_params import Reasoning

from tests.gateway.serving import Backend
from tests.gateway.test_contracts import asked

MESSAGES: Any = [{"role": "user", "content": "[[repeat 1]]"}]
CODEX = {
    "client_metadata",
    "include",
    "prompt_cache_key",
    "store",
    "reasoning",
    "tool_choice",
    "parallel_tool_calls",
}
LLAMA_CPP = {
    "top_k",
    "min_p",
    "chat_template_kwargs",
    "cache_prompt",
    "repeat_penalty",
    "typical_p",
    "enable_thinking",
}


def named(*kinds: Any) -> set[str]:
    """Return the parameters that a vendor's library declares, with those of the classes it builds on."""
    found: set[str] = set()
    for kind in kinds:
        found |= set(getattr(kind, "model_fields", ()) or typing.get_type_hints(kind).keys())
    return found


class Dialect(typing.NamedTuple):
    """One surface: its smallest body, what its vendor and clients send, and the same for objects within it."""

    path: str
    body: dict[str, Any]
    names: set[str]
    inside: dict[str, set[str]]


DIALECTS = [
    Dialect(
        "/v1/chat/completions",
        {"model": "apollo", "messages": MESSAGES},
        named(completion_create_params.CompletionCreateParamsStreaming) | LLAMA_CPP,
        {"stream_options": {"include_usage"}, "response_format": {"json_schema"}},
    ),
    Dialect(
        "/v1/responses",
        {"model": "apollo", "input": "[[repeat 1]]"},
        named(response_create_params.ResponseCreateParamsStreaming) | CODEX,
        {"text": named(ResponseTextConfigParam), "reasoning": named(Reasoning)},
    ),
    Dialect(
        "/v1/messages",
        {"model": "apollo", "messages": MESSAGES, "max_tokens": 9},
        named(message_create_params.MessageCreateParamsStreaming, beta_create_params.MessageCreateParamsStreaming),
        {"output_config": {"effort", "format", "task_budget"}, "thinking": {"budget_tokens", "display"}},
    ),
    Dialect(
        "/v1/messages/count_tokens",
        {"model": "apollo", "messages": MESSAGES},
        named(message_count_tokens_params.MessageCountTokensParams, beta_count_params.MessageCountTokensParams),
        {},
    ),
    Dialect(
        "/api/chat",
        {"model": "apollo", "messages": MESSAGES, "stream": False},
        named(ollama_types.ChatRequest),
        {"options": named(ollama.Options)},
    ),
    Dialect(
        "/api/generate",
        {"model": "apollo", "prompt": "[[repeat 1]]", "stream": False},
        named(ollama_types.GenerateRequest),
        {"options": named(ollama.Options)},
    ),
    Dialect("/v1/embeddings", {"model": "apollo", "input": "x"}, named(embedding_create_params.EmbeddingCreateParams), {}),
    Dialect("/api/embed", {"model": "apollo", "input": "x"}, named(ollama_types.EmbedRequest), {}),
    Dialect("/api/show", {"model": "apollo"}, named(ollama_types.ShowRequest), {}),
]  # fmt: skip


def misspelt(name: str) -> Iterator[str]:
    """Yield a name as hands and other languages write it."""
    yield f"{name}{name[-1]}"
    yield name.upper()
    if len(name) > 3:
        yield name[:-1]
        yield name[0] + name[2:]
        yield name[:-2] + name[-1] + name[-2]
    if "_" in name:
        head, *rest = name.split("_")
        yield head + "".join(word.title() for word in rest)
        yield name.replace("_", "-")
        yield name.replace("_", "")


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda one: one.path)
async def test_a_misspelt_parameter_is_refused_with_the_name_meant_and_asks_nobody(
    backend: Backend, dialect: Dialect
) -> None:
    """A refusal names another parameter only where the misspelling lies between two."""
    before, wrong, total = asked(backend), 0, 0
    async with backend.http() as http:
        for where, names in {"": dialect.names, **dialect.inside}.items():
            for name in sorted(names):
                for bad in sorted(set(misspelt(name)) - names):
                    body = {**dialect.body, **({where: {bad: 1}} if where else {bad: 1})}
                    answer = await http.post(dialect.path, json=body)
                    assert answer.status_code == 400, (bad, answer.text)
                    said = answer.text
                    assert f"there is no parameter '{bad}'" in said, said
                    total += 1
                    wrong += len(name) > 2 and f"did you mean '{name}'" not in said
    assert total >= 5 and wrong <= total * 0.03, (wrong, total)
    assert asked(backend) == before


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda one: one.path)
async def test_every_parameter_a_vendor_knows_is_read_refused_by_name_or_named_in_the_answer(
    backend: Backend, dialect: Dialect
) -> None:
    async with backend.http() as http:
        for where, names in {"": dialect.names, **dialect.inside}.items():
            for name in sorted(names - dialect.body.keys()):
                body = {**dialect.body, **({where: {name: "x"}} if where else {name: "x"})}
                answer = await http.post(dialect.path, json=body)
                assert "there is no parameter" not in answer.text, answer.text
                assert answer.status_code in (200, 400), answer.text
                if answer.status_code == 400 and not where and "embed" not in dialect.path:
                    assert name in answer.text, answer.text


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda one: one.path)
async def test_no_kind_of_value_makes_a_parameter_fail_inside_the_backend(
    backend: Backend, dialect: Dialect
) -> None:
    async with backend.http() as http:
        for where, names in {"": dialect.names, **dialect.inside}.items():
            for name in sorted(names):
                for value in ([[]], [{}], {"type": {}}):
                    body = {**dialect.body, **({where: {name: value}} if where else {name: value})}
                    answer = await http.post(dialect.path, json=body)
                    assert answer.status_code < 500, (where, name, value, answer.text)


STREAMED = [
    ("/v1/chat/completions", {"top_k": 3}, "top_k"),
    ("/v1/responses", {"max_tool_calls": 3}, "max_tool_calls"),
    ("/v1/messages", {"top_k": 3}, "top_k"),
    ("/api/chat", {"options": {"top_k": 3, "temperature": 0}}, "options.top_k"),
    ("/api/generate", {"options": {"top_k": 3}}, "options.top_k"),
]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("path", "more", "unused"), STREAMED, ids=[row[0] for row in STREAMED])
async def test_what_is_not_passed_on_stands_in_the_answer_of_every_dialect(
    backend: Backend, path: str, more: dict[str, Any], unused: str, stream: bool
) -> None:
    body = next(one.body for one in DIALECTS if one.path == path)
    async with backend.http() as http:
        plain = await http.post(path, json={**body, "stream": stream})
        answer: httpx.Response = await http.post(path, json={**body, **more, "stream": stream})
    assert plain.status_code == answer.status_code == 200, answer.text
    assert '"warnings"' not in plain.text and "x-tekton-unused" not in plain.headers
    assert f'"warnings":["{unused} is not passed on to specialists"]' in answer.text, answer.text
    assert answer.headers["x-tekton-unused"] == unused
