"""`/v1` as the `openai` library and `curl` see it: models, answers plain and streamed, errors, a client that leaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from backend.gateway.completions.interleave import Voices
from backend.gateway.completions.stop_sequences import Stopper
from tests.gateway.serving import Backend

BOUND_S = 60.0


@pytest.fixture
async def client(backend: Backend) -> AsyncIterator[openai.AsyncOpenAI]:
    """The real library against the real gateway, with a token that may chat."""
    async with _client(backend, backend.tokens["chat"]) as client:
        yield client


def _client(backend: Backend, token: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        api_key=token,
        base_url=f"{backend.url}/v1",
        max_retries=0,
        http_client=openai.DefaultAsyncHttpxClient(trust_env=False),
    )


def _say(text: str, *before: tuple[str, str]) -> Any:
    return [{"role": role, "content": said} for role, said in (*before, ("user", text))]


async def _turns_of(backend: Backend) -> list[dict[str, Any]]:
    async with backend.http() as http:
        return (await http.get("/api/v1/snapshot")).json()["turns"]


async def test_every_specialist_is_a_model_those_that_run_first(client: openai.AsyncOpenAI) -> None:
    models = (await client.models.list()).data
    ids = [model.id for model in models]
    assert len(ids) == len(set(ids)) >= 19
    assert set(ids[:2]) == {"apollo-ai", "athena-ai"}
    assert {"numa-ai", "team", "auto"} <= set(ids)
    assert {model.object for model in models} == {"model"}
    for name in ("apollo", "apollo-ai", "team", "apollo|athena"):
        assert (await client.models.retrieve(name)).object == "model"
    for name in ("nobody", "apollo|nobody"):
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve(name)


async def test_a_plain_answer_has_text_usage_and_the_model_that_was_asked(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="apollo", messages=_say("hello"))
    assert answer.choices[0].message.content == "You said: hello"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "apollo" and answer.object == "chat.completion"
    assert answer.usage is not None and answer.usage.completion_tokens > 0
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    cut = await client.chat.completions.create(model="apollo", messages=_say("[[repeat 3]] [[length]]"))
    assert cut.choices[0].finish_reason == "length"


async def test_the_messages_sent_are_the_whole_conversation_and_enter_nobody_s_memory(
    client: openai.AsyncOpenAI, backend: Backend
) -> None:
    async with backend.http() as http:
        before = (await http.get("/api/v1/specialists/athena/history")).json()["messages"]
        await client.chat.completions.create(model="athena", messages=_say("a stranger's call"))
        answer = await client.chat.completions.create(
            model="athena",
            messages=_say(
                "[[messages]]",
                ("system", "Answer in French."),
                ("user", "my name is Ada"),
                ("assistant", "Hello Ada"),
            ),
        )
        seen = json.loads(answer.choices[0].message.content or "")
        assert [(m["role"], m["content"]) for m in seen[:2]] == [
            ("user", "my name is Ada"),
            ("assistant", "Hello Ada"),
        ]
        assert len(seen) == 3 and seen[2]["content"] == "[[messages]]"
        after = (await http.get("/api/v1/specialists/athena/history")).json()["messages"]
        assert after == before
        recorded = (await http.get("/api/v1/memory/search", params={"q": "stranger"})).json()["hits"]
        assert [hit["message"]["author"] for hit in recorded].count("you") >= 1


async def test_a_stream_gives_its_pieces_then_why_it_ended_then_usage_if_wished(
    client: openai.AsyncOpenAI,
) -> None:
    stream = await client.chat.completions.create(
        model="apollo-ai",
        messages=_say("[[repeat 5]]"),
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    text = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert "".join(filter(None, text)) == "token0 token1 token2 token3 token4"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert len([piece for piece in text if piece]) == 5
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert not chunks[-1].choices and chunks[-1].usage is not None
    plain = await client.chat.completions.create(model="apollo", messages=_say("hi"), stream=True)
    assert all([chunk.usage is None and chunk.choices async for chunk in plain])


async def test_a_stop_text_ends_the_answer_and_the_turn_wherever_the_pieces_are_cut(
    client: openai.AsyncOpenAI, backend: Backend
) -> None:
    long = _say("[[repeat 100000]] [[rate 300]]")
    for stream in (False, True):
        answer: Any = await client.chat.completions.create(
            model="apollo", messages=long, stop=["n7 tok", "never"], stream=stream
        )
        if stream:
            chunks = [chunk.choices[0] async for chunk in answer]
            text, why = "".join(chunk.delta.content or "" for chunk in chunks), chunks[-1].finish_reason
        else:
            text, why = answer.choices[0].message.content, answer.choices[0].finish_reason
        assert text == "token0 token1 token2 token3 token4 token5 token6 toke" and why == "stop"
        await _until_idle(backend)
    whole = await client.chat.completions.create(
        model="apollo", messages=_say("[[repeat 2]]"), stop="1 never"
    )
    assert whole.choices[0].message.content == "token0 token1"


@pytest.mark.parametrize("model", ["apollo", "team", 'apollo | athena "{said}"'])
@pytest.mark.parametrize("said", ["[[repeat 50]]", "[[repeat 100000]] [[rate 300]]"])
async def test_an_answer_cut_at_a_stop_text_counts_its_prompts_whoever_gives_it_and_ended_or_not(
    client: openai.AsyncOpenAI, model: str, said: str
) -> None:
    prompt = "hello" if "said" in model else said
    answer = await client.chat.completions.create(
        model=model.format(said=said), messages=_say(prompt), stop="n7 tok"
    )
    assert answer.choices[0].finish_reason == "stop" and answer.usage
    assert answer.usage.prompt_tokens > 0 and answer.usage.completion_tokens > 0


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_a_stop_text_is_found_across_any_cut_and_nothing_else_is_lost(size: int) -> None:
    text = "aab aaab <st <sto <stop> behind"
    for stops, shown in ((["<stop>"], "aab aaab <st <sto "), (["aaab", "aab"], ""), (["zz", "hindx"], text)):
        stopper = Stopper(stops)
        out = ""
        for start in range(0, len(text), size):
            out += stopper.feed(text[start : start + size])
            if stopper.met:
                break
        assert out + stopper.rest() == shown


def test_of_many_voices_the_first_streams_and_the_others_follow_whole() -> None:
    voices = Voices()
    for lane in ("r/a-ai", "r/b-ai", "r/c-ai"):
        voices.begin(lane)
    said = [voices.say("r/b-ai", "B1 "), voices.say("r/a-ai", "A1 "), voices.say("r/b-ai", "B2")]
    assert said == ["b:\nB1 ", "", "B2"]
    said = [
        voices.say("r/c-ai", "C1"),
        voices.say("r/a-ai", "A2"),
        voices.end("r/c-ai"),
        voices.end("r/b-ai"),
    ]
    assert said == ["", "", "", "\n\nc:\nC1\n\na:\nA1 A2"]
    assert [voices.say("r/a-ai", " A3"), voices.end("r/a-ai"), voices.rest()] == [" A3", "", ""]
    assert voices.failed("d-ai", "stalled", "no token") == "\n\nd:\n(no full answer: stalled: no token)"


async def test_thinking_comes_apart_from_the_answer(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="apollo", messages=_say("[[think a hard one]] hello"))
    assert answer.choices[0].message.content == "You said: hello"
    assert (answer.choices[0].message.model_extra or {})["reasoning_content"].strip() == "a hard one"


async def test_the_team_answers_as_one_text_each_under_its_name(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="team", messages=_say("hello"))
    text = answer.choices[0].message.content or ""
    assert sorted(text.split("\n\n")) == ["apollo:\nYou said: hello", "athena:\nYou said: hello"]
    stream = await client.chat.completions.create(model="team", messages=_say("[[repeat 20]]"), stream=True)
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    said = " ".join(f"token{number}" for number in range(20))
    assert sorted(text.split("\n\n")) == [f"apollo:\n{said}", f"athena:\n{said}"]


async def test_a_pipeline_is_a_model_and_streams_its_last_stage(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="apollo|athena", messages=_say("hello"))
    assert answer.choices[0].message.content == "You said: You said: hello"
    assert answer.usage is not None and answer.usage.completion_tokens >= 7, "both stages count"
    stream = await client.chat.completions.create(
        model='apollo | athena "[[repeat 4]]"', messages=_say("hello"), stream=True
    )
    text = [chunk.choices[0].delta.content async for chunk in stream]
    assert [piece for piece in text if piece] == ["token0 ", "token1 ", "token2 ", "token3"]


async def _until_idle(backend: Backend) -> None:
    """Wait until no turn is under way; looks again after each event of the chat."""
    async with asyncio.timeout(BOUND_S):
        while await _turns_of(backend):
            pass


async def test_a_client_that_leaves_ends_its_answer_streamed_or_not(
    client: openai.AsyncOpenAI, backend: Backend
) -> None:
    long = _say("[[repeat 100000]] [[rate 50]]")
    stream = await client.chat.completions.create(model="apollo", messages=long, stream=True)
    async for chunk in stream:
        if chunk.choices[0].delta.content:
            break
    assert [turn["ai_id"] for turn in await _turns_of(backend)] == ["apollo-ai"]
    await stream.close()
    await _until_idle(backend)
    for model in ("athena", "team", "apollo|athena"):
        asking = asyncio.create_task(client.chat.completions.create(model=model, messages=long))
        async with asyncio.timeout(BOUND_S):
            while not await _turns_of(backend):
                assert not asking.done()
        asking.cancel()
        await asyncio.wait([asking])
        await _until_idle(backend)


async def test_an_answer_cancelled_elsewhere_ends_as_an_error_and_not_as_an_answer(
    client: openai.AsyncOpenAI, backend: Backend
) -> None:
    long = _say("[[repeat 100000]] [[rate 50]]")
    raw = await client.chat.completions.with_raw_response.create(model="apollo", messages=long, stream=True)
    request_id = raw.headers["x-request-id"]
    async with backend.http("chat") as http:
        assert (await http.post(f"/api/v1/turns/{request_id}/cancel")).json()["confirmed"]
    with pytest.raises(openai.APIError, match="cancelled"):
        async for _ in raw.parse():
            pass


@pytest.mark.parametrize(
    ("values", "kind", "param"),
    [
        ({"model": "nobody"}, openai.NotFoundError, "model"),
        ({"model": "apollo|nobody"}, openai.NotFoundError, "model"),
        ({"model": "apollo|"}, openai.BadRequestError, "model"),
        ({"model": "cat /etc/passwd | apollo"}, openai.BadRequestError, "model"),
        ({"model": ""}, openai.BadRequestError, "model"),
        ({"messages": []}, openai.BadRequestError, "messages"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, openai.BadRequestError, "messages"),
        ({"messages": [{"role": "user", "content": " "}]}, openai.BadRequestError, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, openai.BadRequestError, "messages"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            openai.BadRequestError,
            "messages",
        ),
        ({"messages": "hello"}, openai.BadRequestError, "messages"),
        ({"temperature": 3}, openai.BadRequestError, "temperature"),
        ({"max_tokens": 0}, openai.BadRequestError, "max_tokens"),
        ({"n": 99}, openai.BadRequestError, "n"),
        ({"tools": [{"type": "function", "function": {"name": ""}}]}, openai.BadRequestError, "tools"),
        ({"tool_choice": "required"}, openai.BadRequestError, "tool_choice"),
        (
            {"model": "team", "tools": [{"type": "function", "function": {"name": "f"}}]},
            openai.BadRequestError,
            "tools",
        ),
        ({"reasoning_effort": "huge"}, openai.BadRequestError, "reasoning_effort"),
        ({"logprobs": True, "top_logprobs": 99}, openai.BadRequestError, "top_logprobs"),
        ({"stop": ["a", "b", "c", "d", "e"]}, openai.BadRequestError, "stop"),
        ({"stop": ""}, openai.BadRequestError, "stop"),
        ({"response_format": {"type": "xml"}}, openai.BadRequestError, "response_format"),
        (
            {"model": "apollo|athena", "response_format": {"type": "json_object"}},
            openai.BadRequestError,
            "response_format",
        ),
    ],
)
async def test_a_wrong_parameter_is_named_in_the_error_the_library_raises(
    client: openai.AsyncOpenAI, values: dict[str, Any], kind: type[openai.APIStatusError], param: str
) -> None:
    for stream in (False, True):
        given: dict[str, Any] = {"model": "apollo", "messages": _say("hi"), "stream": stream, **values}
        with pytest.raises(kind) as caught:
            await client.chat.completions.create(**given)
        assert caught.value.param == param
        assert caught.value.type == "invalid_request_error"
        assert len(caught.value.message) > 10


async def test_a_failing_model_is_a_status_before_the_first_piece_and_an_error_event_behind_it(
    client: openai.AsyncOpenAI,
) -> None:
    cases = {
        "provider_rate_limited": openai.APIStatusError,
        "provider_unavailable": openai.APIStatusError,
        "context_overflow": openai.BadRequestError,
    }
    for code, kind in cases.items():
        for stream in (False, True):
            with pytest.raises(kind) as caught:
                await client.chat.completions.create(
                    model="apollo", messages=_say(f"[[fail {code}]]"), stream=stream
                )
            assert caught.value.code == code
    text = ""
    stream = await client.chat.completions.create(
        model="apollo", messages=_say("[[repeat 9]] [[cut provider_unavailable]]"), stream=True
    )
    with pytest.raises(openai.APIError) as broken:
        async for chunk in stream:
            text += chunk.choices[0].delta.content or ""
    assert (text, broken.value.code) == ("token0 token1 token2 ", "provider_unavailable")
    with pytest.raises(openai.BadRequestError) as off:
        await client.chat.completions.create(model="numa", messages=_say("hi"))
    assert (off.value.status_code, off.value.code) == (400, "not_running")


async def test_a_team_of_which_one_fails_answers_and_names_who_did_not(backend: Backend) -> None:
    body = {"model": "{apollo,numa}", "messages": _say("hello")}
    async with backend.http("chat") as http:
        answer = (await http.post("/v1/chat/completions", json=body)).json()
    text = answer["choices"][0]["message"]["content"]
    assert "apollo:\nYou said: hello" in text and "numa" in text and "not_running" in text


async def test_only_a_token_that_may_chat_comes_in(backend: Backend) -> None:
    async with _client(backend, "wrong") as client:
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()
    async with _client(backend, backend.tokens["read"]) as client:
        assert (await client.models.list()).data
        with pytest.raises(openai.PermissionDeniedError):
            await client.chat.completions.create(model="apollo", messages=_say("hi"))
    async with backend.http("chat") as http:
        assert (await http.get("/v1/models", headers={"Origin": "http://evil.example"})).status_code == 403
    async with backend.http() as http:
        calls = (await http.get("/api/v1/gateway")).json()["recent"]
    assert "openai" in {call["transport"] for call in calls}


async def test_curl_sees_the_stream_as_it_grows_up_to_done(backend: Backend) -> None:
    body = {"model": "apollo", "messages": _say("[[repeat 6]] [[rate 100]]"), "stream": True}
    curl = await asyncio.create_subprocess_exec(
        "curl", "-sN", "--noproxy", "*", "-H", "@-", "-H", "content-type: application/json",
        "-d", json.dumps(body), f"{backend.url}/v1/chat/completions",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(
        curl.communicate(f"Authorization: {backend.auth('chat')['Authorization']}\n".encode()), BOUND_S
    )
    lines = [line for line in out.decode().split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    assert sum(bool(chunk["choices"][0]["delta"].get("content")) for chunk in chunks) == 6


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"nonsense",
        b'{"model": "apollo", "messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"model": "apollo", "messages": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"model": 7, "messages": {}}',
        b'{"model": "apollo", "messages": [{"role": "user", "content": {"text": 1}}], "stream": "yes"}',
        b'{"model": "apollo", "messages": [{"role": "user", "content": "x"}], "response_format": 5}',
        b'{"model": "' + b"|" * 5000 + b'", "messages": [{"role": "user", "content": "x"}]}',
        b'{"model": "\\u0000|\\u001b[2J", "messages": [{"role": "user", "content": "x"}]}',
        b'{"model": "apollo", "messages": [], "max_tokens": 1e400}',
    ],
)
async def test_hostile_bodies_are_refused_in_words(backend: Backend, body: bytes) -> None:
    async with backend.http("chat") as http:
        answer = await http.post("/v1/chat/completions", content=body)
        assert answer.status_code in (400, 404), answer.text
        assert answer.json()["error"]["message"]


async def test_a_body_beyond_the_limit_is_refused_with_its_status(backend: Backend) -> None:
    async with backend.http("chat") as http:
        answer = await http.post("/v1/chat/completions", content=b"x" * (9 * 1024 * 1024))
        assert answer.status_code == 413
