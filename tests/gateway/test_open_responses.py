"""The cases of Open Responses' compliance suite, and what its schema demands of a response and of each event.

Written after the specification's documents: every key of a response is there, events come in the order in which an item
grows, and what an item ended with is what the whole response holds. What is not offered is refused by name.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal

import httpx
import msgspec
import pytest
import websockets
from msgspec import Struct
from websockets.asyncio.client import connect

from tests.gateway.serving import Backend
from tests.gateway.test_dialects import PICTURE

Status = Literal["in_progress", "completed", "incomplete", "failed"]


class Text(Struct, tag="output_text"):
    text: str
    annotations: list[Any]
    logprobs: list[Any]


class Refusal(Struct, tag="refusal"):
    refusal: str


class Message(Struct, tag="message"):
    id: str
    status: Status
    role: Literal["assistant"]
    content: list[Text | Refusal]
    phase: Literal["commentary", "final_answer"] | None = None


class Call(Struct, tag="function_call"):
    id: str
    call_id: str
    name: str
    arguments: str
    status: Status


class Summary(Struct, tag="summary_text"):
    text: str


class Reasoning(Struct, tag="reasoning"):
    id: str
    summary: list[Summary]
    encrypted_content: str | None = None


class Tool(Struct, tag="function"):
    name: str
    description: str | None
    parameters: dict[str, Any] | None
    strict: bool | None


class Details(Struct):
    reason: Literal["max_output_tokens", "content_filter"]


class Failure(Struct):
    code: str
    message: str


class Cached(Struct):
    cached_tokens: int


class Thought(Struct):
    reasoning_tokens: int


class Usage(Struct):
    input_tokens: int
    input_tokens_details: Cached
    output_tokens: int
    output_tokens_details: Thought
    total_tokens: int


class Response(Struct):
    """A response; no key may be missing."""

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: Status
    incomplete_details: Details | None
    model: str
    previous_response_id: str | None
    instructions: str | None
    output: list[Message | Call | Reasoning]
    error: Failure | None
    tools: list[Tool]
    tool_choice: str | dict[str, Any]
    truncation: Literal["auto", "disabled"]
    parallel_tool_calls: bool
    text: dict[str, Any]
    top_p: float
    presence_penalty: float
    frequency_penalty: float
    top_logprobs: int
    temperature: float
    reasoning: dict[str, Any] | None
    usage: Usage | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    store: bool
    background: bool
    service_tier: str
    metadata: dict[str, Any]
    safety_identifier: str | None
    prompt_cache_key: str | None


def said(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": content, **more}


WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "Get the current weather for a location",
    "parameters": {
        "type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"],
    },
}  # fmt: skip
CALL = '[[call get_weather {"location": "San Francisco, CA"}]] What is the weather like?'
ANSWERED = [
    said("user", "What is the weather?"),
    {"type": "function_call", "call_id": "c1", "name": "get_weather", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c1", "output": "21 degrees"},
]
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "basic-response": ({"input": [said("user", "Say hello in exactly 3 words.")]}, "message"),
    "assistant-phase": (
        {"input": [said("user", "Hi."), said("assistant", "Hello.", phase="final_answer"), said("user", "And?")]},
        "message",
    ),
    "system-prompt": ({"input": [said("system", "You are a pirate."), said("user", "Say hello.")]}, "message"),
    "tool-calling": ({"input": [said("user", CALL)], "tools": [WEATHER]}, "function_call"),
    "image-input": (
        {"input": [said("user", [
            {"type": "input_text", "text": "What do you see?"}, {"type": "input_image", "image_url": PICTURE},
        ])]},
        "message",
    ),
    "multi-turn": (
        {"input": [said("user", "I am Alice."), said("assistant", "Hello Alice!"), said("user", "Who am I?")]},
        "message",
    ),
    "function-call-roundtrip": ({"input": ANSWERED, "tools": [WEATHER]}, "message"),
    "file-input": (
        {"input": [said("user", [
            {"type": "input_text", "text": "What is in it?"},
            {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="},
        ])]},
        "message",
    ),
    "reasoning": ({"input": "[[think I look it up]] [[sign 40]] hello"}, "reasoning"),
    "parallel-calls": ({"input": f"{CALL} [[call get_weather {{}}]]", "tools": [WEATHER]}, "function_call"),
    "length": ({"input": "[[repeat 9]]", "max_output_tokens": 2}, "message"),
}  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("case", CASES)
async def test_a_case_of_the_compliance_suite(backend: Backend, case: str, stream: bool) -> None:
    body, kind = CASES[case]
    async with backend.http() as http:
        answer = await http.post("/v1/responses", json={"model": "apollo", "stream": stream, **body})
    assert answer.status_code == 200, answer.text
    whole = followed(answer) if stream else answer.json()
    response = msgspec.convert(whole, Response)
    assert response.status == ("incomplete" if case == "length" else "completed")
    assert (response.incomplete_details is not None) == (case == "length")
    assert kind in [item.__struct_config__.tag for item in response.output]
    assert response.usage is not None
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
    assert (response.completed_at is not None) == (response.status == "completed")
    assert len(response.tools) == len(body.get("tools", []))


async def test_a_response_goes_on_from_another_and_an_unknown_one_is_named(backend: Backend) -> None:
    async with backend.http() as http:
        first = (await http.post("/v1/responses", json={"model": "apollo", "input": "I am Alice."})).json()
        more = {"model": "apollo", "input": "Who am I?", "previous_response_id": first["id"]}
        second = msgspec.convert((await http.post("/v1/responses", json=more)).json(), Response)
        assert second.previous_response_id == first["id"]
        lost = await http.post("/v1/responses", json={**more, "previous_response_id": "resp_nobody"})
    assert lost.status_code == 400, lost.text
    assert lost.json()["error"]["code"] == "previous_response_not_found", lost.text


async def test_a_failure_in_a_stream_is_told_by_both_events_and_a_whole_failed_response(
    new_backend: Callable[..., Backend],
) -> None:
    backend = new_backend(launch=("apollo",))
    body = {"model": "apollo", "stream": True, "input": "[[cut provider_unavailable]] a b c d e"}
    async with backend.http() as http:
        answer = await http.post("/v1/responses", json=body)
    told = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    assert [event["type"] for event in told[-2:]] == ["error", "response.failed"]
    failed = msgspec.convert(told[-1]["response"], Response)
    assert failed.status == "failed" and failed.error is not None and failed.error.message


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("/v1/responses", {"input": "x", "background": True}, "background"),
        ("/v1/responses", {"input": "x", "conversation": "conv_1"}, "conversation"),
        ("/v1/responses", {"input": "x", "prompt": {"id": "pmpt_1"}}, "prompt"),
        ("/v1/responses/compact", {"input": "x"}, "compact"),
    ],
)
async def test_what_is_not_offered_is_refused_by_name(
    backend: Backend, path: str, body: dict[str, Any], named: str
) -> None:
    async with backend.http() as http:
        refused = await http.post(path, json={"model": "apollo", **body})
    assert refused.status_code == 400, refused.text
    assert (
        named in refused.json()["error"]["message"] and refused.json()["error"]["code"] == "invalid_request"
    )


async def test_a_websocket_for_responses_is_refused_by_name(backend: Backend) -> None:
    address = f"{backend.url.replace('http', 'ws')}/v1/responses"
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with connect(address, additional_headers=backend.auth(), proxy=None):
            pass
    assert refused.value.response.status_code == 400
    assert b"WebSocket" in refused.value.response.body


def followed(answer: httpx.Response) -> Any:
    """Return the response at the end of a stream whose events keep their order, numbers and promises."""
    assert answer.headers["content-type"].startswith("text/event-stream")
    blocks = [block for block in answer.text.split("\n\n") if block and not block.startswith(":")]
    assert blocks.pop() == "data: [DONE]"
    items: dict[int, dict[str, Any]] = {}
    pieces: dict[int, list[str]] = {}
    done: dict[int, Any] = {}
    last: Any = None
    for number, block in enumerate(blocks):
        named, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert named == f"event: {event['type']}" and event["sequence_number"] == number
        place = event.get("output_index", -1)
        match event["type"].removeprefix("response."):
            case "created" | "in_progress":
                assert number == ("created", "in_progress").index(event["type"].removeprefix("response."))
                assert msgspec.convert(event["response"], Response).status == "in_progress"
            case "output_item.added":
                assert place == len(items), "items are numbered as they begin"
                items[place], pieces[place] = event["item"], []
                assert event["item"].get("content", []) == [] and event["item"].get("arguments", "") == ""
            case "content_part.added" | "reasoning_summary_part.added":
                assert event["item_id"] == items[place]["id"] and event["part"]["text"] == ""
            case "output_text.delta" | "function_call_arguments.delta" | "reasoning_summary_text.delta":
                assert event["item_id"] == items[place]["id"] and place not in done
                pieces[place].append(event["delta"])
            case "output_text.done" | "reasoning_summary_text.done":
                assert event["text"] == "".join(pieces[place])
            case "function_call_arguments.done":
                assert event["arguments"] == ("".join(pieces[place]) or "{}")
            case "content_part.done" | "reasoning_summary_part.done":
                assert event["part"]["text"] == "".join(pieces[place])
            case "output_item.done":
                assert event["item"]["id"] == items[place]["id"]
                done[place] = event["item"]
            case "completed" | "incomplete":
                assert number == len(blocks) - 1
                last = event["response"]
            case other:
                raise AssertionError(f"an event nobody announced: {other}")
    assert last is not None and last["output"] == [done[place] for place in sorted(items)]
    return last
