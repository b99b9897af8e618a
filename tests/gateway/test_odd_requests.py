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
