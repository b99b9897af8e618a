"""The OpenAI provider over the Responses API, asked of a real server of that API: another gateway."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from backend.assembly import PartsBuilder
from backend.config import Providers, Settings
from backend.home import Home
from backend.providers import create
from backend.providers.base import (
    Completed,
    CompletionRequest,
    ModelNotFound,
    Provider,
    ProviderRateLimited,
    Reasoning,
    Signature,
    StreamItem,
    Text,
    ToolPiece,
)
from backend.schema.content import (
    AnswerOptions,
    ChatMessage,
    ImagePart,
    ReasoningPart,
    ResponseFormat,
    TextPart,
    ToolCall,
    ToolChoice,
    ToolResult,
    ToolSpec,
)
from backend.schema.frames import StreamSignature, StreamToolCall
from tests.gateway.serving import Backend

TOOL = ToolSpec("get_weather", "the weather", {"type": "object", "properties": {"city": {"type": "string"}}})
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
ORIGIN = "openai:apollo"


@pytest.fixture
async def provider(backend: Backend, tmp_path: Path) -> AsyncIterator[Provider]:
    own = {"openai": {"base_url": f"{backend.url}/v1", "model": "apollo", "api": "responses"}}
    settings = Settings(providers=Providers("openai", own))
    made = create("openai", settings, Home(tmp_path / "home").prepare(), {"OPENAI_API_KEY": backend.token})
    await made.prepare()
    yield made
    await made.aclose()


async def _ask(
    provider: Provider, *messages: ChatMessage | str, options: AnswerOptions | None = None, **more: Any
) -> list[StreamItem]:
    talk = [one if isinstance(one, ChatMessage) else ChatMessage("user", one) for one in messages]
    request = CompletionRequest("Be exact.", talk, "", options=options or AnswerOptions(), **more)
    return [item async for item in provider.stream(request)]


def _text(items: list[StreamItem]) -> str:
    return "".join(item.content for item in items if isinstance(item, Text))


def _parts(items: list[StreamItem]) -> list[Any]:
    """Return an answer's parts, put together as a turn does."""
    builder, text, thought = PartsBuilder(), "", ""
    for item in items:
        match item:
            case Text():
                text += item.content
            case Reasoning():
                thought += item.content
            case ToolPiece():
                builder.call(StreamToolCall("r", item.index, item.id, item.name, item.arguments), len(text))
            case Signature():
                builder.sign(StreamSignature("r", item.signature, item.id, item.redacted), len(text), thought)
            case _:
                pass
    return builder.parts(text, thought, ORIGIN)


async def test_signed_thinking_and_calls_come_whole_and_go_back_with_their_results(
    provider: Provider,
) -> None:
    question = '[[think Hm.]] [[sign 20000]] [[say I look.]] [[call get_weather {"city" : "Z\u00fcrich"}]] [[arguments 65536]]'
    items = await _ask(provider, question, options=AnswerOptions([TOOL]))
    assert isinstance(items[-1], Completed) and items[-1].finish_reason == "tool_calls"
    parts = _parts(items)
    thought = next(part for part in parts if isinstance(part, ReasoningPart))
    call = next(part for part in parts if isinstance(part, ToolCall))
    assert (thought.text, len(thought.signature), thought.origin) == ("Hm.", 20000, ORIGIN)
    assert len(call.arguments) == 65536 and json.loads(call.arguments)["fill"].strip("x") == ""
    seen = await _ask(
        provider, question, ChatMessage("assistant", "I look.", parts),
        ChatMessage("user", "[[messages]]", [ToolResult(call.id, "21 degrees"), TextPart("[[messages]]")]),
        options=AnswerOptions([TOOL]),
    )  # fmt: skip
    messages = json.loads(_text(seen))
    sent = [part for message in messages for part in message.get("parts", ())]
    assert [part["signature"] for part in sent if part["type"] == "reasoning"] == [thought.signature]
    assert [part["arguments"] for part in sent if part["type"] == "tool_call"] == [call.arguments]
    assert [part["content"] for part in sent if part["type"] == "tool_result"] == ["21 degrees"]


async def test_thinking_of_another_model_is_left_out(provider: Provider) -> None:
    foreign = [ReasoningPart("mine", signature="S", origin="anthropic:claude"), TextPart("Yes.")]
    items = await _ask(provider, "so?", ChatMessage("assistant", "Yes.", foreign), "[[messages]]")
    assert "mine" not in _text(items) and "Yes." in _text(items)


async def test_wishes_pictures_and_the_system_prompt_arrive(provider: Provider) -> None:
    wishes = AnswerOptions(
        [TOOL], ToolChoice("named", "get_weather", parallel=False), ResponseFormat("schema", "w", SCHEMA), "high", top_p=0.5
    )  # fmt: skip
    heard = json.loads(_text(await _ask(provider, "[[options]]", options=wishes, temperature=0.25)))
    assert heard["tools"][0]["name"] == "get_weather" and heard["choice"]["name"] == "get_weather"
    assert heard["choice"]["parallel"] is False and heard["format"]["schema"] == SCHEMA
    assert (heard["effort"], heard["top_p"]) == ("high", 0.5)
    assert "Be exact." in _text(await _ask(provider, "[[system]]"))
    look = ChatMessage("user", "[[messages]]", [TextPart("[[messages]]"), ImagePart("image/png", "iVBORw0K")])
    assert "iVBORw0K" in _text(await _ask(provider, look))


async def test_limits_and_failures_are_what_the_server_says(provider: Provider) -> None:
    items = await _ask(provider, "[[repeat 50]]", max_tokens=3)
    assert isinstance(items[-1], Completed) and items[-1].finish_reason == "length"
    assert items[-1].usage.output_tokens == 3
    with pytest.raises(ProviderRateLimited):
        await _ask(provider, "[[fail provider_rate_limited]]")
    with pytest.raises(ModelNotFound):
        request = CompletionRequest("", [ChatMessage("user", "x")], "nobody")
        _ = [item async for item in provider.stream(request)]
