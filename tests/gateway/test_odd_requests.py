"""Requests that are odd and within the dialects: pictures that are none, a model that is only to be loaded, what is gone on from."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

from tests.gateway.serving import Backend

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WRAPPED = base64.encodebytes(base64.b64decode(PNG)).decode()


def chat(kind: str, data: str) -> dict[str, Any]:
    picture = {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{data}"}}
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}, picture]}]}


def responses(kind: str, data: str) -> dict[str, Any]:
    picture = {"type": "input_image", "image_url": f"data:{kind};base64,{data}"}
    return {"input": [{"role": "user", "content": [{"type": "input_text", "text": "x"}, picture]}]}


def messages(kind: str, data: str) -> dict[str, Any]:
    source = {"type": "base64", "media_type": kind, "data": data}
    content = [{"type": "image", "source": source}, {"type": "text", "text": "x"}]
    return {"max_tokens": 9, "messages": [{"role": "user", "content": content}]}


def in_result(kind: str, data: str) -> dict[str, Any]:
    source = {"type": "base64", "media_type": kind, "data": data}
    call = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image", "source": source}]}
    asked = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result]},
    ]
    return {"max_tokens": 9, "messages": asked}


def ollama(kind: str, data: str) -> dict[str, Any]:
    return {
        "stream": False,
        "messages": [{"role": "user", "content": "x", "images": [f"data:{kind};base64,{data}"]}],
    }


def generate(kind: str, data: str) -> dict[str, Any]:
    return {"stream": False, "prompt": "x", "images": [f"data:{kind};base64,{data}"]}


def native(kind: str, data: str) -> dict[str, Any]:
    return {
        "message": "x",
        "parts": [{"type": "text", "text": "x"}, {"type": "image", "media_type": kind, "data": data}],
    }


def native_result(kind: str, data: str) -> dict[str, Any]:
    picture = {"type": "image", "media_type": kind, "data": data}
    return {"message": "x", "parts": [{"type": "tool_result", "call_id": "t", "parts": [picture]}]}


DIALECTS = [
    ("/api/v1/chat/apollo", native),
    ("/api/v1/chat/apollo", native_result),
    ("/v1/chat/completions", chat),
    ("/v1/responses", responses),
    ("/v1/messages", messages),
    ("/v1/messages", in_result),
    ("/api/chat", ollama),
    ("/api/generate", generate),
]


def asked(path: str, body: dict[str, Any]) -> dict[str, Any]:
    return body if path.startswith("/api/v1") else {"model": "apollo", **body}


@pytest.mark.parametrize(("path", "body"), DIALECTS)
async def test_a_picture_that_is_none_is_refused_before_anybody_is_asked(
    backend: Backend, path: str, body: Any
) -> None:
    async with backend.http("chat") as http:
        for kind, data, why in [
            ("text/html", PNG, "a picture is of a type image/…, not 'text/html'"),
            ("image/png", "!!!", "the bytes are not base64"),
            ("image/png", PNG[:-3], "the bytes are not base64"),
            ("image/png", PNG + "é", "the bytes are not base64"),
        ]:
            refused = await http.post(path, json=asked(path, body(kind, data)))
            assert (refused.status_code, why in refused.text) == (400, True), refused.text
        for data in (PNG,) if path.startswith("/api/v1") else (PNG, WRAPPED):
            taken = await http.post(path, json=asked(path, body("image/png", data)))
            assert "bytes are not base64" not in taken.text and taken.status_code < 500, taken.text


@pytest.mark.parametrize(
    ("path", "empty"),
    [
        ("/api/chat", {}),
        ("/api/chat", {"messages": []}),
        ("/api/generate", {}),
        ("/api/generate", {"prompt": ""}),
    ],
)
async def test_a_model_that_is_only_to_be_loaded_is_there_or_not_and_nobody_is_asked(
    backend: Backend, path: str, empty: dict[str, Any]
) -> None:
    async with backend.http("chat") as http:
        before = len((await http.get("/api/v1/sessions", params={"query": "nothing"})).text)
        loaded = await http.post(path, json={"model": "apollo:latest", **empty, "keep_alive": "5m"})
        told = loaded.json()
        assert (told["done"], told["done_reason"], told["model"]) == (True, "load", "apollo:latest")
        assert told["message"]["content"] == "" if path.endswith("chat") else told["response"] == ""
        for model, more, status, why in [
            ("nobody", {}, 404, "no specialist or group 'nobody'"),
            ("telos", {}, 400, "telos is stopped"),
            ("apollo", {"keep_alive": 0}, 400, "`tekton kill`"),
        ]:
            refused = await http.post(path, json={"model": model, **empty, **more})
            assert refused.status_code == status and why in refused.json()["error"], refused.text
        assert len((await http.get("/api/v1/sessions", params={"query": "nothing"})).text) == before


async def test_a_response_that_is_still_answered_says_so_to_whoever_goes_on_from_it(backend: Backend) -> None:
    name = ""
    async with backend.http("chat") as http:
        body = {"model": "apollo", "input": "[[repeat 2000]] [[rate 25]]", "stream": True}
        async with http.stream("POST", "/v1/responses", json=body) as stream:
            async for line in stream.aiter_lines():
                if line.startswith("data: "):
                    name = json.loads(line[6:])["response"]["id"]
                    break
            async with asyncio.timeout(30):
                while True:
                    asked = {"model": "apollo", "input": "and?", "previous_response_id": name}
                    refused = await http.post("/v1/responses", json=asked)
                    assert refused.status_code == 400
                    if "still being answered" in refused.text:
                        break
        wrong = await http.post(
            "/v1/responses", json={"model": "apollo", "input": "x", "truncation": "perhaps"}
        )
        assert wrong.status_code == 400 and wrong.json()["error"]["param"] == "truncation"


CHAT, RESPONSES, MESSAGES, OLLAMA = "/v1/chat/completions", "/v1/responses", "/v1/messages", "/api/chat"
USER = {"role": "user", "content": "hi"}


def function(call_id: str, name: str, **more: Any) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": "{}", **more}}


def called(*calls: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(calls)}


def blocks(role: str, *content: dict[str, Any]) -> dict[str, Any]:
    return {"role": role, "content": list(content)}


def use(call_id: str, name: str = "f") -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": name, "input": {}}


def result(call_id: str, content: Any = "ok") -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": call_id, "content": content}


def item(call_id: str, name: str = "f", **more: Any) -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": "{}", **more}


TOOL: dict[str, Any] = {"name": "f", "parameters": {"type": "object"}}
CHAT_TOOL: dict[str, Any] = {"type": "function", "function": TOOL}
WORDS = "'ultra'; expected one of none, minimal, low, medium, high, xhigh, max"
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    (CHAT, {"messages": [USER], "reasoning_effort": "ultra"}, WORDS),
    (RESPONSES, {"input": "x", "reasoning": {"effort": "ultra"}}, WORDS),
    (MESSAGES, {"messages": [USER], "output_config": {"effort": "ultra"}}, WORDS),
    (MESSAGES, {"messages": [USER], "tool_choice": {"type": "maybe"}}, "'maybe'; expected one of auto, any, tool, none"),
    ("/api/v1/rules", {"verdict": "perhaps", "pattern": "a:b"}, "'perhaps'; expected one of"),
    (MESSAGES, {"messages": [USER], "thinking": {"type": "enabled", "budget_tokens": -5}}, "budget_tokens"),
    (CHAT, {"messages": [{"role": "user", "contents": "x"}, USER]}, "messages[0]: its content is missing"),
    (RESPONSES, {"input": [{"role": "user", "contents": "x"}, USER]}, "input[0]: its content is missing"),
    (OLLAMA, {"messages": [{"role": "user"}, USER]}, "messages[0]: its content is missing"),
    (CHAT, {"messages": [USER, called(function("", "f"))]}, "messages[1]: a call of a tool needs its id and its name"),
    (CHAT, {"messages": [USER, called(function("a", ""))]}, "messages[1]: a call of a tool needs its id and its name"),
    (RESPONSES, {"input": [USER, item("")]}, "input[1]: a call of a tool needs its id and its name"),
    (MESSAGES, {"messages": [USER, blocks("assistant", use(""))]}, "messages[1].content[0]: a call of a tool needs"),
    (OLLAMA, {"messages": [USER, called(function("", ""))]}, "arguments"),
    (MESSAGES, {"messages": [USER, blocks("assistant", use("a")), blocks("user", result(""))]}, "a result needs the id"),
    (MESSAGES, {"messages": [USER, blocks("assistant", use("a")), blocks("user", result("a", [use("b")]))]}, "a result holds text"),
    (CHAT, {"messages": [USER], "tools": [{"function": {"name": "f", "paramters": {}}}]}, "'paramters'; did you mean 'parameters'?"),
    (RESPONSES, {"input": "x", "tools": [{"type": "function", "name": "f", "descripton": ""}]}, "did you mean 'description'?"),
    (MESSAGES, {"messages": [USER], "tools": [{"name": "f", "inputSchema": {}}]}, "did you mean 'input_schema'?"),
    (OLLAMA, {"messages": [USER], "tools": [{"function": {"name": "f", "parameter": {}}}]}, "did you mean 'parameters'?"),
    (CHAT, {"messages": [USER], "tools": [CHAT_TOOL], "tool_choice": {"type": "custom", "custom": {"name": "f"}}}, "expected a function"),
    (CHAT, {"messages": [USER], "tools": [CHAT_TOOL], "tool_choice": {"type": "allowed_tools", "allowed_tools": {
        "mode": "auto", "tools": [{"type": "function", "function": {"name": "g"}}]}}}, "there is no tool 'g'"),
    (RESPONSES, {"input": "x", "tools": [{"type": "function", **TOOL}], "tool_choice": {"type": "allowed_tools", "mode": "auto",
        "tools": []}}, "allowed_tools names no tool"),
    (RESPONSES, {"input": "x", "metadata": [1]}, "metadata: expected an object"),
    (OLLAMA, {"messages": [USER], "options": {"seed": 10**30}}, "options.seed"),
    (f"{RESPONSES}/resp_x/cancel", {}, "only answers in the background"),
    (f"{RESPONSES}/input_tokens", {"input": "x"}, "count_tokens"),
    ("/v1/completions", {"prompt": "x"}, "use /v1/chat/completions"),
    ("/api/pull", {}, "`tekton models pull`"),
    ("/api/embeddings", {"prompt": "x"}, "use /api/embed"),
    (f"{MESSAGES}/count_tokens", {"model": "team", "messages": [USER]}, "several specialists"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "why"), REFUSED)
async def test_what_is_wrong_within_a_body_is_refused_by_name_with_what_is_right(
    backend: Backend, path: str, body: dict[str, Any], why: str
) -> None:
    more = {"max_tokens": 9} if path == MESSAGES else {}
    async with backend.http("control" if path.startswith("/api/v1") else "chat") as http:
        refused = await http.post(
            path, json=body if path.startswith("/api/v1") else {"model": "apollo", **more, **body}
        )
    assert refused.status_code == 400, refused.text
    assert why in json.dumps(refused.json(), ensure_ascii=False), refused.text
    if path.startswith("/api/") and not path.startswith("/api/v1"):
        assert isinstance(refused.json()["error"], str), "in the shape that clients of the dialect read"


SEARCHED = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
TAKEN: list[tuple[str, dict[str, Any], str, str]] = [
    (CHAT, {"messages": [USER], "max_tokens": -1}, "You said: hi", ""),
    (CHAT, {"messages": [USER], "stream": True, "stream_options": {"include_usage": None}}, "said:", ""),
    (CHAT, {"messages": [USER, called(function("a", "f", arguments=None)), {"role": "tool", "tool_call_id": "a", "content": "21"}]},
        "The tool said: 21", ""),
    (CHAT, {"messages": [USER, called(function("a", "f"), function("a", "f")), *[
        {"role": "tool", "tool_call_id": "a", "content": text} for text in ("one", "two")]]}, "The tool said: one; two", ""),
    (RESPONSES, {"input": [USER, item("a", arguments=None), {"type": "function_call_output", "call_id": "a", "output": "21"}]},
        "The tool said: 21", ""),
    (RESPONSES, {"input": [{"type": "reasoning", "summary": None}, USER]}, "You said: hi", ""),
    (MESSAGES, {"messages": [USER, blocks("assistant", SEARCHED, {"type": "text", "text": "found"}), USER]}, "You said: hi",
        "messages[1].content[0]"),
    (CHAT, {"messages": [{"role": "user", "content": "[[options]]"}], "tools": [CHAT_TOOL, {"function": {**TOOL, "name": "g"}}],
        "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [
            {"type": "function", "function": {"name": "g"}}]}}}, '\\"mode\\":\\"required\\"', ""),
    (RESPONSES, {"input": "[[options]]", "tools": [{"type": "function", **TOOL}, {"type": "function", **TOOL, "name": "g"}],
        "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "g"}]}},
        '\\"mode\\":\\"required\\"', ""),
    ("/api/show", {"model": "team"}, '"capabilities":["completion"]', ""),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "said", "unused"), TAKEN)
async def test_what_is_odd_and_has_a_meaning_is_taken(
    backend: Backend, path: str, body: dict[str, Any], said: str, unused: str
) -> None:
    more = {"max_tokens": 9} if path == MESSAGES else {}
    async with backend.http("chat") as http:
        taken = await http.post(path, json={"model": "apollo", **more, **body})
    assert taken.status_code == 200 and said in taken.text, taken.text
    assert taken.headers.get("x-tekton-unused", "") == unused
    if "allowed_tools" in str(body):
        assert '\\"name\\":\\"g\\"' in taken.text and '{\\"name\\":\\"f\\"' not in taken.text
