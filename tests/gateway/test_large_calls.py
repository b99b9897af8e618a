"""Large calls side by side, in every dialect and over a link that drops: equal at the client to the last byte."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import anthropic
import ollama
import openai

from tests.gateway.serving import Backend
from tests.gateway.test_websocket import talking

NAMES = [f"write_{number}" for number in range(5)]
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"text": {"type": "string"}}}
FUNCTIONS: list[Any] = [
    {"type": "function", "function": {"name": name, "parameters": SCHEMA}} for name in NAMES
]
TEXT = 'a "quoted" \u00fc\u20ac\U0001f600 \\n line, \t tab; '
ARGUMENTS = [json.dumps({"text": f"{number} " + TEXT * 1_600}, ensure_ascii=False) for number in range(5)]
ASK = "[[pieces 997]]" + "".join(
    f"[[call {name} {text}]]" for name, text in zip(NAMES, ARGUMENTS, strict=True)
)
"""The pieces end within characters of several bytes, escapes and words alike; the calls come a piece of each in turn."""


def _client(backend: Backend) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        api_key=backend.tokens["chat"],
        base_url=f"{backend.url}/v1",
        max_retries=0,
        http_client=openai.DefaultAsyncHttpxClient(trust_env=False),
    )


async def test_the_calls_are_large_and_the_script_says_them_as_they_are(backend: Backend) -> None:
    assert all(len(text.encode()) > 40_000 for text in ARGUMENTS) and all(
        json.loads(text) for text in ARGUMENTS
    )


async def test_chat_completions_and_responses_give_five_large_calls_as_they_were_written(
    backend: Backend,
) -> None:
    async with _client(backend) as client:
        stream = await client.chat.completions.create(
            model="apollo", messages=[{"role": "user", "content": ASK}], tools=FUNCTIONS, stream=True
        )
        heard: dict[int, str] = defaultdict(str)
        async for chunk in stream:
            for call in (chunk.choices[0].delta.tool_calls or ()) if chunk.choices else ():
                heard[call.index] += (call.function.arguments or "") if call.function else ""
        assert list(heard.values()) == ARGUMENTS
        tools: list[Any] = [
            {"type": "function", "name": name, "parameters": SCHEMA, "strict": False} for name in NAMES
        ]
        async with client.responses.stream(model="apollo", input=ASK, tools=tools) as events:
            done = await events.get_final_response()
        assert [item.arguments for item in done.output if item.type == "function_call"] == ARGUMENTS


async def test_messages_and_ollama_give_five_large_calls_as_they_were_written(backend: Backend) -> None:
    tools: list[Any] = [{"name": name, "input_schema": SCHEMA} for name in NAMES]
    async with anthropic.AsyncAnthropic(
        auth_token=backend.tokens["chat"],
        base_url=backend.url,
        max_retries=0,
        http_client=anthropic.DefaultAsyncHttpxClient(trust_env=False),
    ) as client:
        heard: dict[int, str] = defaultdict(str)
        stream = await client.messages.create(
            model="apollo",
            max_tokens=100_000,
            messages=[{"role": "user", "content": ASK}],
            tools=tools,
            stream=True,
        )
        async for event in stream:
            if event.type == "content_block_delta" and event.delta.type == "input_json_delta":
                heard[event.index] += event.delta.partial_json
        assert list(heard.values()) == ARGUMENTS
    async with ollama.AsyncClient(backend.url, headers=backend.auth("chat"), trust_env=False) as local:
        answer = await local.chat(
            model="apollo", messages=[{"role": "user", "content": ASK}], tools=FUNCTIONS
        )
    assert [call.function.arguments for call in answer.message.tool_calls or ()] == [
        json.loads(a) for a in ARGUMENTS
    ]


async def test_calls_and_a_signature_are_whole_through_a_link_that_drops_in_the_middle(
    backend: Backend,
) -> None:
    options = {"tools": [{"name": name, "parameters": SCHEMA} for name in NAMES]}
    frames: list[dict[str, Any]] = []
    session = backend.ask("POST", "/api/v1/sessions", json={"owner": "apollo"})["id"]
    async with talking(backend) as one:
        await one.send("subscribe", request_id="s", topics=["chat", "tools"])
        await one.until("snapshot")
        await one.send(
            "chat", ai_id="apollo", content=f"[[think hm]] [[sign 20000]] {ASK}", options=options,
            request_id="ws-large", session_id=session, wait=False,
        )  # fmt: skip
        for _ in range(60):
            last = await one.until("stream_tool_call", request_id="ws-large")
        frames += one.came
    async with talking(backend) as two:
        await two.send(
            "subscribe",
            request_id="s",
            topics=["chat", "tools"],
            after_seq=last["seq"],
            epoch=one.came[0]["epoch"],
        )
        resumed = await two.until("result", request_id="s")
        assert resumed["result"]["resumed"] is True
        await two.until("stream_end", request_id="ws-large")
        frames += two.came
    heard: dict[int, str] = defaultdict(str)
    for frame in frames:
        if frame["type"] == "stream_tool_call" and frame["request_id"] == "ws-large":
            heard[frame["index"]] += frame.get("arguments", "")
    assert [heard[number] for number in range(5)] == ARGUMENTS
    [signed] = [f for f in frames if f["type"] == "stream_signature" and f["request_id"] == "ws-large"]
    assert len(signed["signature"]) == 20_000
