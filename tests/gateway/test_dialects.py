"""Tools, structure, pictures and thought through each dialect, as the vendors' own libraries see them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import ollama
import openai
import pytest
import websockets
from pydantic import BaseModel

from tests.gateway.serving import Backend

PICTURE = "data:image/png;base64," + base64.b64encode(b"\x89PNG").decode()
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
CHAT_TOOL: Any = {"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}}
ASK = '[[call get_weather {"city" : "Z\u00fcrich"}]] how is it?'


class Weather(BaseModel):
    """What an answer is to hold."""

    city: str
    degrees: int


@pytest.fixture
async def chat(backend: Backend) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        api_key=backend.tokens["chat"],
        base_url=f"{backend.url}/v1",
        max_retries=0,
        http_client=openai.DefaultAsyncHttpxClient(trust_env=False),
    ) as client:
        yield client


async def test_openai_a_tool_is_asked_for_run_by_the_client_and_its_result_answered(
    chat: openai.AsyncOpenAI,
) -> None:
    messages: list[Any] = [{"role": "user", "content": ASK}]
    asked = await chat.chat.completions.create(model="apollo", messages=messages, tools=[CHAT_TOOL])
    choice = asked.choices[0]
    assert choice.finish_reason == "tool_calls" and choice.message.content is None
    [call] = choice.message.tool_calls or []
    assert call.type == "function"
    assert (call.function.name, call.function.arguments) == ("get_weather", '{"city" : "Z\u00fcrich"}')
    messages += [choice.message, {"role": "tool", "tool_call_id": call.id, "content": "21 degrees"}]
    told = await chat.chat.completions.create(model="apollo", messages=messages, tools=[CHAT_TOOL])
    assert told.choices[0].message.content == "The tool said: 21 degrees"
    assert told.choices[0].finish_reason == "stop"


async def test_openai_calls_stream_interleaved_and_whole(chat: openai.AsyncOpenAI) -> None:
    five = "".join("[[call get_weather]]" for _ in range(5)) + "[[arguments 64000]] [[pieces 500]]"
    stream = chat.chat.completions.stream(
        model="apollo", messages=[{"role": "user", "content": five}], tools=[CHAT_TOOL]
    )
    order: list[int] = []
    async with stream as events:
        async for event in events:
            if event.type == "chunk" and event.chunk.choices:
                order += [call.index for call in event.chunk.choices[0].delta.tool_calls or []]
        final = await events.get_final_completion()
    calls = final.choices[0].message.tool_calls or []
    assert [len(call.function.arguments) for call in calls] == [64_000] * 5
    assert all(json.loads(call.function.arguments)["fill"].strip("x") == "" for call in calls)
    assert order[:10] == [0, 1, 2, 3, 4] * 2, "all at once, not one behind the other"
    assert final.choices[0].finish_reason == "tool_calls"


async def test_openai_an_answer_is_parsed_into_a_model_of_the_client(chat: openai.AsyncOpenAI) -> None:
    said = '[[say {"city": "Paris", "degrees": 21}]]'
    answer = await chat.chat.completions.parse(
        model="apollo", messages=[{"role": "user", "content": said}], response_format=Weather
    )
    assert answer.choices[0].message.parsed == Weather(city="Paris", degrees=21)


async def test_openai_wishes_and_pictures_reach_the_model(chat: openai.AsyncOpenAI) -> None:
    wishes = await chat.chat.completions.create(
        model="apollo",
        messages=[{"role": "user", "content": "[[options]]"}],
        tools=[CHAT_TOOL],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
        parallel_tool_calls=False,
        reasoning_effort="high",
        seed=7,
        top_p=0.5,
        stop=["\x01"],
        response_format={"type": "json_object"},
    )
    seen = json.loads(wishes.choices[0].message.content or "")
    assert seen["choice"] == {"mode": "named", "name": "get_weather", "parallel": False}
    assert (seen["effort"], seen["seed"], seen["top_p"], seen["stops"]) == ("high", 7, 0.5, ["\x01"])
    assert seen["format"] == {"kind": "json"} and seen["tools"][0]["parameters"] == WEATHER
    content: Any = [
        {"type": "text", "text": "[[messages]]"},
        {"type": "image_url", "image_url": {"url": PICTURE, "detail": "low"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}},
    ]
    told = await chat.chat.completions.create(model="apollo", messages=[{"role": "user", "content": content}])
    [message] = json.loads(told.choices[0].message.content or "")
    assert [part["type"] for part in message["parts"]] == ["text", "image", "file"]
    assert message["parts"][1] == {
        "type": "image", "media_type": "image/png", "data": PICTURE.partition(",")[2], "detail": "low",
    }  # fmt: skip


async def test_openai_several_choices_are_several_answers(chat: openai.AsyncOpenAI) -> None:
    messages: Any = [{"role": "user", "content": "[[repeat 3]]"}]
    answer = await chat.chat.completions.create(model="apollo", messages=messages, n=3)
    assert [(c.index, c.message.content) for c in answer.choices] == [
        (number, "token0 token1 token2") for number in range(3)
    ]
    assert answer.usage is not None and answer.usage.completion_tokens == 9
    stream = await chat.chat.completions.create(model="apollo", messages=messages, n=3, stream=True)
    texts, ends = {0: "", 1: "", 2: ""}, 0
    async for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            ends += choice.finish_reason == "stop"
    assert texts == dict.fromkeys(range(3), "token0 token1 token2") and ends == 3


@pytest.mark.parametrize("results", [False, True])
async def test_a_system_message_behind_the_prompt_comes_before_it_and_parts_no_call_from_its_result(
    chat: openai.AsyncOpenAI, results: bool
) -> None:
    called: list[Any] = [
        {"role": "user", "content": "how is it?"},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "21 degrees"},
    ]  # fmt: skip
    asked: Any = {"role": "user", "content": "[[messages]]"}
    messages = [*called, asked] if results else [asked]
    late: Any = {"role": "system", "content": "Mind the gap."}
    answer = await chat.chat.completions.create(model="apollo", messages=[*messages, late])
    sent = json.loads(answer.choices[0].message.content or "")
    roles = [message["role"] for message in sent]
    assert roles == (["user", "system", "assistant", "user"] if results else ["system", "user"])


async def test_openai_the_persona_stands_before_the_client_s_system_prompt_unless_raw(
    chat: openai.AsyncOpenAI,
) -> None:
    messages: Any = [
        {"role": "system", "content": "Answer in French."},
        {"role": "user", "content": "[[system]]"},
        {"role": "assistant", "content": "Bon"},
    ]
    whole = (await chat.chat.completions.create(model="apollo", messages=messages)).choices[0].message.content
    assert whole is not None and whole.startswith("You are Apollo")
    assert whole.endswith('<instructions from="the caller">\nAnswer in French.\n</instructions>')
    raw = await chat.chat.completions.create(model="apollo:raw", messages=messages)
    assert raw.choices[0].message.content == "Answer in French."
    messages[1]["content"] = "[[messages]]"
    begun = await chat.chat.completions.create(model="apollo", messages=messages)
    assert json.loads(begun.choices[0].message.content or "")[-1] == {"role": "assistant", "content": "Bon"}


async def test_what_a_model_lacks_is_refused_by_name_and_nobody_is_asked(new_backend: Any) -> None:
    config = '[providers.scripted]\nlacks = ["tools", "images"]'
    backend = new_backend(config=config, launch=("apollo",))
    async with backend.http("chat") as http:
        body = {"model": "apollo", "messages": [{"role": "user", "content": "x"}], "tools": [CHAT_TOOL]}
        answer = await http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 400 and answer.json()["error"]["code"] == "invalid_request"
    assert "scripted:scripted takes no tools" in answer.json()["error"]["message"]
    async with backend.http() as http:
        assert (await http.get("/api/v1/errors")).json()["errors"] == []


async def test_a_specialists_own_tools_are_run_for_a_caller_and_never_mixed_with_his(
    new_backend: Any,
) -> None:
    backend = new_backend(config='[specialists.apollo]\ntools = ["tekton"]', launch=("apollo",))
    async with openai.AsyncOpenAI(
        api_key=backend.tokens["chat"],
        base_url=f"{backend.url}/v1",
        max_retries=0,
        http_client=openai.DefaultAsyncHttpxClient(trust_env=False),
    ) as client:
        messages: list[Any] = [{"role": "user", "content": "[[call tekton__facts {}]]"}]
        own = (await client.chat.completions.create(model="apollo", messages=messages)).choices[0]
        assert own.finish_reason == "stop" and own.message.tool_calls is None
        assert "Platform at" in (own.message.content or "")
        messages[0]["content"] = "[[options]]"
        wished = await client.chat.completions.create(model="apollo", messages=messages, tools=[CHAT_TOOL])
        offered = json.loads(wished.choices[0].message.content or "")["tools"]
        assert [tool["name"] for tool in offered] == ["get_weather"]


RESPONSE_TOOL: Any = {"type": "function", "name": "get_weather", "parameters": WEATHER, "strict": True}


async def test_responses_think_ask_for_tools_and_go_on_from_what_is_kept(chat: openai.AsyncOpenAI) -> None:
    asked = "[[think I look it up]] [[sign 20000]]" + ASK + "[[call get_weather {}]]"
    async with chat.responses.stream(model="apollo", input=asked, tools=[RESPONSE_TOOL]) as stream:
        streamed = await stream.get_final_response()
    plain = await chat.responses.create(model="apollo", input=asked, tools=[RESPONSE_TOOL])
    for response in (streamed, plain):
        assert [item.type for item in response.output] == ["reasoning", "function_call", "function_call"]
        thought, first, second = response.output
        assert thought.type == "reasoning" and thought.summary[0].text == "I look it up"
        assert len(thought.encrypted_content or "") == 20_000
        assert first.type == second.type == "function_call" and first.call_id != second.call_id
        assert (first.name, first.arguments) == ("get_weather", '{"city" : "Z\u00fcrich"}')
        assert response.status == "completed" and response.usage and response.usage.output_tokens
    calls = [item for item in streamed.output if item.type == "function_call"]
    results: Any = [
        {"type": "function_call_output", "call_id": call.call_id, "output": f"result {number}"}
        for number, call in enumerate(calls)
    ]
    told = await chat.responses.create(model="apollo", input=results, previous_response_id=streamed.id)
    assert told.output_text == "The tool said: result 0; result 1"
    whole = await chat.responses.create(
        model="apollo", input="[[messages]]", previous_response_id=told.id, instructions="Be brief."
    )
    seen = json.loads(whole.output_text)
    assert [message["role"] for message in seen] == ["user", "assistant", "user", "assistant", "user"]
    signed, *asked_for = seen[1]["parts"]
    assert len(signed["signature"]) == 20_000 and [part["id"] for part in asked_for] == [
        c.call_id for c in calls
    ]
    assert [part["content"] for part in seen[2]["parts"]] == ["result 0", "result 1"]
    by_hand: Any = [{"role": "user", "content": asked}, *[i.to_dict() for i in plain.output]]
    by_hand += [
        {"type": "function_call_output", "call_id": i.call_id, "output": "x"}
        for i in plain.output
        if i.type == "function_call"
    ]
    stateless = await chat.responses.create(model="apollo", input=by_hand, store=False)
    assert stateless.output_text == "The tool said: x; x" and stateless.store is False
    with pytest.raises(openai.BadRequestError, match="nothing is kept"):
        await chat.responses.create(model="apollo", input="x", previous_response_id=stateless.id)


async def test_responses_are_read_again_as_they_were_answered_and_deleted_for_good(
    chat: openai.AsyncOpenAI,
) -> None:
    made = await chat.responses.create(
        model="apollo", input=f"[[think Hm.]] [[sign 40]] {ASK}", tools=[RESPONSE_TOOL], metadata={"run": "7"},
        instructions="Be brief.",
    )  # fmt: skip
    again = await chat.responses.retrieve(made.id)
    ours = {"created_at", "completed_at"}  # a second may lie between asking and storing
    assert again.model_dump(exclude=ours) == made.model_dump(exclude=ours)
    assert [item.type for item in again.output] == ["reasoning", "function_call"]
    await chat.responses.delete(made.id)
    for gone in (made.id, "resp_never", "never"):
        with pytest.raises(openai.NotFoundError):
            await chat.responses.retrieve(gone)
        with pytest.raises(openai.NotFoundError):
            await chat.responses.delete(gone)
    with pytest.raises(openai.BadRequestError, match="previous_response_id"):
        await chat.responses.create(model="apollo", input="x", previous_response_id=made.id)


@pytest.mark.parametrize("values", [{"store": False}, {"model": "team"}])
async def test_responses_that_are_not_stored_say_so_and_cannot_be_read_again(
    chat: openai.AsyncOpenAI, values: dict[str, Any]
) -> None:
    made = await chat.responses.create(**{"model": "apollo", "input": "[[say ok]]", **values})
    assert made.model_dump()["store"] is False
    with pytest.raises(openai.NotFoundError, match="not stored"):
        await chat.responses.retrieve(made.id)


async def test_responses_stream_their_events_in_order_each_in_one_piece(
    chat: openai.AsyncOpenAI, backend: Backend
) -> None:
    stream = await chat.responses.create(model="apollo", input="[[repeat 3]]", stream=True)
    events = [event async for event in stream]
    assert [event.type.removeprefix("response.") for event in events] == [
        "created", "in_progress", "output_item.added", "content_part.added", *["output_text.delta"] * 3,
        "output_text.done", "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    assert [event.sequence_number for event in events] == list(range(11))
    async with backend.http("chat") as http:
        body = {"model": "apollo", "input": "[[think hm]] hi", "stream": True}
        text = (await http.post("/v1/responses", json=body)).text
    assert text.endswith("data: [DONE]\n\n")
    for block in text.split("\n\n")[:-2]:
        event, data = block.split("\n")
        assert json.loads(data.removeprefix("data: "))["type"] == event.removeprefix("event: ")


async def test_responses_hold_structure_wishes_and_limits(chat: openai.AsyncOpenAI) -> None:
    said = '[[say {"city": "Paris", "degrees": 21}]]'
    parsed = await chat.responses.parse(model="apollo", input=said, text_format=Weather)
    assert parsed.output_parsed == Weather(city="Paris", degrees=21)
    cut = await chat.responses.create(model="apollo", input="[[repeat 50]]", max_output_tokens=3)
    assert (
        cut.status == "incomplete"
        and cut.incomplete_details
        and cut.incomplete_details.reason == "max_output_tokens"
    )
    wishes = await chat.responses.create(
        model="apollo",
        input=[{"role": "developer", "content": "d"}, {"role": "user", "content": "[[options]]"}],
        tools=[RESPONSE_TOOL, {"type": "web_search"}],
        tool_choice="required",
        parallel_tool_calls=False,
        reasoning={"effort": "minimal"},
        metadata={"a": "b"},
    )
    seen = json.loads(wishes.output_text)
    assert seen["choice"] == {"mode": "required", "parallel": False} and seen["effort"] == "minimal"
    assert len(seen["tools"]) == 1 and wishes.metadata == {"a": "b"}
    raw = await chat.responses.with_raw_response.create(
        model="apollo", input="x", tools=[RESPONSE_TOOL, {"type": "web_search"}]
    )
    assert raw.headers["x-tekton-unused"] == "tools[1]"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"background": True}, "background"),
        ({"extra_body": {"conversation": "c"}}, "conversation"),
        ({"previous_response_id": "resp_nothing"}, "nothing is kept"),
        ({"input": []}, "last message"),
        (
            {"input": [{"type": "function_call_output", "call_id": "", "output": "x"}]},
            "needs the id of the call",
        ),
        ({"model": "team", "tools": [RESPONSE_TOOL]}, "several specialists"),
    ],
)
async def test_responses_refuse_by_name(chat: openai.AsyncOpenAI, values: dict[str, Any], words: str) -> None:
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match=words):
            await chat.responses.create(**{"model": "apollo", "input": "x", "stream": stream, **values})


async def test_responses_say_a_failure_in_the_stream_so_that_every_client_hears_it(
    chat: openai.AsyncOpenAI,
) -> None:
    stream = await chat.responses.create(
        model="apollo", input="[[repeat 9]] [[cut provider_auth]]", stream=True
    )
    with pytest.raises(openai.APIError, match="scripted failure"):
        async for _ in stream:
            pass


@pytest.fixture
async def claude(backend: Backend) -> AsyncIterator[anthropic.AsyncAnthropic]:
    """The vendor's library with the token in its own header."""
    async with anthropic.AsyncAnthropic(
        api_key=backend.tokens["chat"],
        base_url=backend.url,
        max_retries=0,
        default_headers={"x-api-key": backend.tokens["chat"]},
        http_client=anthropic.DefaultAsyncHttpxClient(trust_env=False),
    ) as client:
        yield client


MESSAGE_TOOL: Any = {"name": "get_weather", "description": "the weather", "input_schema": WEATHER}


async def test_anthropic_thinks_asks_for_tools_and_is_told(claude: anthropic.AsyncAnthropic) -> None:
    asked = (
        '[[think I look it up]] [[sign 20000]] [[call get_weather {"city": "Paris"}]] [[call get_weather {}]]'
    )
    messages: list[Any] = [{"role": "user", "content": asked}]
    async with claude.messages.stream(
        model="apollo",
        max_tokens=1000,
        messages=messages,
        tools=[MESSAGE_TOOL],
        thinking={"type": "adaptive"},
    ) as stream:
        streamed = await stream.get_final_message()
    plain = await claude.messages.create(
        model="apollo", max_tokens=1000, messages=messages, tools=[MESSAGE_TOOL]
    )
    for message in (streamed, plain):
        assert message.stop_reason == "tool_use" and message.model == "apollo"
        assert [block.type for block in message.content] == ["thinking", "tool_use", "tool_use"]
        thought, first, second = message.content
        assert thought.type == "thinking" and thought.thinking == "I look it up"
        assert len(thought.signature) == 20_000
        assert first.type == second.type == "tool_use" and first.id != second.id
        assert (first.name, first.input, second.input) == ("get_weather", {"city": "Paris"}, {})
        assert message.usage.output_tokens > 0
    assert streamed.content[0] == plain.content[0], "the signature is the same, byte for byte"
    results = [
        {"type": "tool_result", "tool_use_id": streamed.content[1].id, "content": "21 degrees"},
        {
            "type": "tool_result",
            "tool_use_id": streamed.content[2].id,
            "is_error": True,
            "content": [{"type": "text", "text": "where?"}],
        },
    ]
    messages += [{"role": "assistant", "content": streamed.content}, {"role": "user", "content": results}]
    told = await claude.messages.create(
        model="apollo", max_tokens=1000, messages=messages, tools=[MESSAGE_TOOL]
    )
    assert told.content[0].type == "text" and told.content[0].text == "The tool said: 21 degrees; where?"
    assert told.stop_reason == "end_turn"
    messages[-1]["content"] = [*results, {"type": "text", "text": "[[messages]]"}]
    seen = await claude.messages.create(
        model="apollo", max_tokens=9000, messages=messages, tools=[MESSAGE_TOOL]
    )
    assert seen.content[0].type == "text"
    parts = json.loads(seen.content[0].text)[1]["parts"]
    assert (
        parts[0]["signature"] == streamed.content[0].signature and parts[0]["origin"] == "scripted:scripted"
    )


async def test_anthropic_streams_text_stops_counts_and_lists(claude: anthropic.AsyncAnthropic) -> None:
    said = "[[repeat 50]]"
    async with claude.messages.stream(
        model="apollo",
        max_tokens=1000,
        system=[{"type": "text", "text": "Be brief."}],
        messages=[{"role": "user", "content": said}],
        stop_sequences=["n7 tok"],
    ) as stream:
        text = "".join([piece async for piece in stream.text_stream])
        message = await stream.get_final_message()
    assert text.endswith("token6 toke") and (message.stop_reason, message.stop_sequence) == (
        "stop_sequence",
        "n7 tok",
    )
    assert message.usage.input_tokens > 0
    cut = await claude.messages.create(
        model="apollo", max_tokens=3, messages=[{"role": "user", "content": said}]
    )
    assert cut.stop_reason == "max_tokens"
    counted = await claude.messages.count_tokens(
        model="apollo", messages=[{"role": "user", "content": "one two"}], tools=[MESSAGE_TOOL]
    )
    more = await claude.messages.count_tokens(
        model="apollo", messages=[{"role": "user", "content": "one two three"}], tools=[MESSAGE_TOOL]
    )
    assert more.input_tokens == counted.input_tokens + 1
    models = (await claude.models.list()).data
    assert {model.type for model in models} == {"model"} and "apollo-ai" in [model.id for model in models]


async def test_anthropic_pictures_effort_and_structure_reach_the_model(
    claude: anthropic.AsyncAnthropic,
) -> None:
    content: Any = [
        {"type": "text", "text": "[[messages]]"},
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": PICTURE.partition(",")[2]},
        },
        {"type": "document", "source": {"type": "url", "url": "https://example.org/a.pdf"}, "title": "a"},
    ]
    seen = await claude.messages.create(
        model="apollo", max_tokens=1000, messages=[{"role": "user", "content": content}]
    )
    assert seen.content[0].type == "text"
    [message] = json.loads(seen.content[0].text)
    assert [part["type"] for part in message["parts"]] == ["text", "image", "file"]
    wishes = await claude.messages.create(
        model="apollo",
        max_tokens=1000,
        messages=[{"role": "user", "content": "[[options]]"}],
        output_config={"effort": "xhigh", "format": {"type": "json_schema", "schema": WEATHER}},
        extra_body={"context_management": {"edits": []}},
    )
    assert wishes.content[0].type == "text"
    options = json.loads(wishes.content[0].text)
    assert (options["effort"], options["format"]["schema"]) == ("xhigh", WEATHER)


@pytest.mark.parametrize(
    ("values", "kind", "words"),
    [
        ({"model": "nobody"}, anthropic.NotFoundError, "nobody"),
        ({"messages": []}, anthropic.BadRequestError, "last message"),
        ({"max_tokens": 0}, anthropic.BadRequestError, "max_tokens"),
        ({"tool_choice": {"type": "any"}}, anthropic.BadRequestError, "tool_choice"),
        ({"messages": [{"role": "user", "content": "[[fail provider_rate_limited]]"}]}, anthropic.APIStatusError, "scripted"),
        ({"messages": [{"role": "user", "content": "[[fail context_overflow]]"}]}, anthropic.BadRequestError, "prompt is too long"),
        ({"extra_body": {"thread": {"type": "create"}}}, anthropic.BadRequestError, "thread_unsupported_request"),
    ],
)  # fmt: skip
async def test_anthropic_errors_are_the_library_s_own(
    claude: anthropic.AsyncAnthropic, values: dict[str, Any], kind: type[anthropic.APIStatusError], words: str
) -> None:
    given: dict[str, Any] = {
        "model": "apollo",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "x"}],
    }
    for stream in (False, True):
        with pytest.raises(kind, match=words) as caught:
            await claude.messages.create(**{**given, **values}, stream=stream)
        assert caught.value.response.headers["x-should-retry"] == "false"
        assert isinstance(caught.value.body, dict) and caught.value.body["type"] == "error"


async def test_anthropic_a_failure_in_the_stream_is_raised_with_its_words(
    claude: anthropic.AsyncAnthropic,
) -> None:
    with pytest.raises(anthropic.APIStatusError, match="scripted failure"):
        async with claude.messages.stream(
            model="apollo",
            max_tokens=99,
            messages=[{"role": "user", "content": "[[repeat 9]] [[cut internal]]"}],
        ) as stream:
            assert await stream.get_final_message()


async def test_a_token_comes_in_by_each_dialect_s_own_header(backend: Backend) -> None:
    async with backend.http("chat") as http:
        del http.headers["Authorization"]
        body = {"model": "apollo", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
        assert (await http.post("/v1/messages", json=body)).status_code == 401
        wrong = await http.post("/v1/messages", json=body, headers={"x-api-key": "wrong"})
        assert (wrong.status_code, wrong.json()["error"]["type"]) == (401, "authentication_error")
        key = {"x-api-key": backend.tokens["chat"]}
        assert (await http.post("/v1/messages", json=body, headers=key)).status_code == 200
        twice = [("x-api-key", backend.tokens["chat"]), ("x-api-key", "other")]
        assert (await http.post("/v1/messages", json=body, headers=twice)).status_code == 401


@pytest.fixture
async def llama(backend: Backend) -> AsyncIterator[ollama.AsyncClient]:
    client = ollama.AsyncClient(
        host=backend.url, headers={"Authorization": f"Bearer {backend.tokens['chat']}"}, trust_env=False
    )
    yield client
    await client.close()


async def test_ollama_chats_asks_for_tools_and_is_told(llama: ollama.AsyncClient) -> None:
    messages: list[Any] = [{"role": "user", "content": "[[think hm]]" + ASK + "[[call get_weather {}]]"}]
    asked = await llama.chat(model="apollo", messages=messages, tools=[CHAT_TOOL], think="low")
    calls = asked.message.tool_calls or []
    assert [(call.function.name, call.function.arguments) for call in calls] == [
        ("get_weather", {"city": "Z\u00fcrich"}), ("get_weather", {}),
    ]  # fmt: skip
    assert asked.message.thinking == "hm" and asked.done and asked.done_reason == "stop"
    messages += [asked.message]
    messages += [{"role": "tool", "tool_name": "get_weather", "content": f"result {n}"} for n in range(2)]
    told = await llama.chat(model="apollo:latest", messages=messages, tools=[CHAT_TOOL])
    assert told.message.content == "The tool said: result 0; result 1"
    messages += [{"role": "user", "content": "[[messages]]", "images": [PICTURE.partition(",")[2]]}]
    seen = json.loads((await llama.chat(model="apollo", messages=messages)).message.content or "")
    called = [part["id"] for part in seen[1]["parts"] if part["type"] == "tool_call"]
    assert [part.get("call_id") for part in seen[2]["parts"][:2]] == called
    assert seen[2]["parts"][-1]["media_type"] == "image/png"


async def test_ollama_streams_generates_holds_structure_and_lists(llama: ollama.AsyncClient) -> None:
    pieces = [part async for part in await llama.chat(
        model="apollo", messages=[{"role": "user", "content": "[[repeat 4]]"}], stream=True
    )]  # fmt: skip
    assert "".join(part.message.content or "" for part in pieces) == "token0 token1 token2 token3"
    assert [part.done for part in pieces] == [False] * 4 + [True] and pieces[-1].eval_count == 4
    said = await llama.generate(model="apollo", prompt="hello", system="s", options={"num_predict": 2})
    assert said.response == "You said: " and said.done_reason == "length"
    wishes = await llama.chat(
        model="apollo",
        messages=[{"role": "user", "content": "[[options]]"}],
        format=WEATHER,
        think=False,
        options={"seed": 3},
    )
    options = json.loads(wishes.message.content or "")
    assert (options["format"]["schema"], options["effort"], options["seed"]) == (WEATHER, "none", 3)
    assert "apollo:latest" in [model.model for model in (await llama.list()).models]
    shown = await llama.show("apollo:latest")
    assert set(shown.capabilities or []) == {"completion", "tools", "vision", "thinking"}
    with pytest.raises(ollama.ResponseError, match="nobody") as unknown:
        await llama.chat(model="nobody", messages=[{"role": "user", "content": "x"}])
    assert unknown.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match="scripted failure"):
        async for _ in await llama.generate(
            model="apollo", prompt="[[repeat 9]] [[cut internal]]", stream=True
        ):
            pass


async def test_our_own_api_takes_parts_and_wishes_keeps_them_and_streams_calls(backend: Backend) -> None:
    """Consoles of before subscribe to no topic `tools`, so nothing comes to them that they do not know."""
    tool = {"name": "get_weather", "parameters": WEATHER}
    body: dict[str, Any] = {
        "content": "[[sign 30]]" + ASK,
        "parts": [
            {"type": "text", "text": "[[sign 30]]" + ASK},
            {"type": "image", "media_type": "image/png", "data": PICTURE.partition(",")[2]},
        ],
        "options": {"tools": [tool], "effort": "low"},
        "request_id": "r-own-parts",
    }
    uri, token = backend.url.replace("http", "ws") + "/ws", backend.tokens["chat"]
    kinds: dict[str, set[str]] = {}
    opened: dict[str, Any] = {}
    async with backend.http("chat") as http, contextlib.AsyncExitStack() as sockets:
        for name, topics in (("old", ["chat"]), ("new", ["chat", "tools"])):
            socket = await sockets.enter_async_context(
                websockets.connect(uri, additional_headers={"Authorization": f"Bearer {token}"}, proxy=None)
            )
            await socket.recv()
            await socket.send(json.dumps({"type": "subscribe", "topics": topics, "request_id": f"s-{name}"}))
            kinds[name] = set()
            while not any(b'"s-' in line for line in (await _lines(socket))):
                pass
            opened[name] = socket
        answer = await http.post("/api/v1/chat/apollo", json=body)
        for name in ("old", "new"):
            ended = False
            while not ended:
                for line in await _lines(opened[name]):
                    event = json.loads(line)
                    kinds[name].add(event["type"])
                    ended = ended or (event["type"] == "message" and event["message"]["role"] == "assistant")
                    if event["type"] == "message" and event["message"]["role"] == "user":
                        picture = event["message"]["parts"][1]
                        assert "data" not in picture and picture["size"] == 4
    outcome = answer.json()
    assert outcome["finish_reason"] == "tool_calls"
    signed, call = outcome["parts"]
    assert (signed["origin"], len(signed["signature"])) == ("scripted:scripted", 30)
    assert (call["name"], call["arguments"]) == ("get_weather", '{"city" : "Z\u00fcrich"}')
    assert kinds["new"] - kinds["old"] == {"stream_tool_call", "stream_signature"}
    async with backend.http() as http:
        messages = (await http.get(f"/api/v1/sessions/{outcome['session_id']}/messages")).json()["messages"]
        whole = (await http.get(f"/api/v1/sessions/{outcome['session_id']}/export?format=json")).json()
    assert messages[-1]["parts"] == outcome["parts"]
    kept = json.loads(whole["content"])["messages"][-2]["parts"][1]
    assert kept["data"] == PICTURE.partition(",")[2], "the store has the bytes, lists do not"


async def _lines(socket: Any) -> list[bytes]:
    async with asyncio.timeout(60):
        return (await socket.recv(decode=False)).split(b"\n")
