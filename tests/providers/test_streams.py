"""What is made of an upstream's bytes: of streams that were seen, and of streams that nobody wrote."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend.providers import streams as streams_module
from backend.providers.base import (
    Completed,
    Logprobs,
    ProviderError,
    Reasoning,
    StreamItem,
    Text,
    ToolPiece,
)
from backend.providers.http import Upstream
from backend.providers.streams import (
    JsonLines,
    ServerSentEvents,
    StreamReader,
    anthropic,
    ollama,
    openai,
    responses,
)
from backend.providers.streams import read as read_stream
from backend.providers.streams.answer import ENDINGS, FAILURES, MAX_TOKENS, Answer, Malformed
from backend.schema.frames import StreamEnd, StreamMetadata, Usage
from tests.providers.vendor_streams import BAD, DONE, GOOD, Bad, Good, chunk, event, line, message, said, text

UPSTREAM = Upstream("a server", "http://127.0.0.1")
CALLING: list[tuple[Any, list[tuple[str, dict[str, Any]]]]] = [
    (
        openai,
        [("", {"choices": [{"delta": {"tool_calls": [
            {"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}
        ]}}]})],
    ),
    (
        responses,
        [
            ("response.output_item.added", {"type": "response.output_item.added", "output_index": 0, "item":
                {"type": "function_call", "call_id": "c", "name": "f", "arguments": ""}}),
            ("response.function_call_arguments.delta",
                {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": "{}"}),
        ],
    ),
    (
        anthropic,
        [
            ("content_block_start", {"type": "content_block_start", "index": 0, "content_block":
                {"type": "tool_use", "id": "c", "name": "f", "input": {}}}),
            ("content_block_delta", {"type": "content_block_delta", "index": 0, "delta":
                {"type": "input_json_delta", "partial_json": "{}"}}),
        ],
    ),
    (ollama, [("", {"message": {"content": "", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}})]),
]  # fmt: skip
"""A tool call in each dialect, object by object."""
ODD: list[Any] = [[], {}, None, True, -1, 1.5, float("inf"), "", [[]], [None], {"a": []}]

STREAMS = int(os.environ.get("TEKTON_STREAMS", "300"))
"""How many streams that nobody wrote are read of each vendor."""
VENDORS = {
    "openai": (openai.take, ServerSentEvents),
    "anthropic": (anthropic.take, ServerSentEvents),
    "ollama": (ollama.take, JsonLines),
    "responses": (responses.take, ServerSentEvents),
}


class Read(msgspec.Struct):
    """What a stream was read as; `error` is code and message of its failure."""

    text: str = ""
    thinking: str = ""
    completed: Completed | None = None
    error: tuple[str, str] | None = None
    evidence: str = ""


def read(vendor: str, pieces: list[bytes]) -> Read:
    """Read a stream that arrives in pieces, as a connection would bring them."""
    take, framing = VENDORS[vendor]
    reader = StreamReader(
        Upstream("the upstream", "http://there", "m", setting="the address"), take, framing()
    )
    reader.answered(200, "text/event-stream; charset=utf-8")
    found = Read()

    def keep(items: Iterator[StreamItem]) -> None:
        for item in items:
            assert found.completed is None, "something came after the last item"
            match item:
                case Text(content=text):
                    assert text
                    found.text += text
                case Reasoning(content=text):
                    assert text
                    found.thinking += text
                case Completed():
                    found.completed = item
                case _:
                    pass

    try:
        for piece in pieces:
            if reader.over:
                break
            keep(reader.feed(piece))
        keep(reader.end())
    except ProviderError as error:
        found.error, found.evidence = (error.code, error.message), error.evidence
    assert (found.completed is None) is (found.error is not None)
    return found


def singly(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


@pytest.mark.parametrize("case", GOOD.values(), ids=GOOD.keys())
def test_an_answer_is_read_whole_with_its_true_ending(case: Good) -> None:
    found = read(case.vendor, [case.data])
    assert found.error is None, found.error
    last = found.completed
    assert last is not None
    assert (found.text, found.thinking, last.finish_reason) == (case.text, case.thinking, case.finish)
    assert case.note in " ".join(last.notes) and bool(last.notes) is bool(case.note)
    if case.usage is not None:
        counted = last.usage
        assert (
            counted.input_tokens,
            counted.output_tokens,
            counted.cached_tokens,
            counted.estimated,
        ) == case.usage
    assert read(case.vendor, singly(case.data)) == found, "it matters how the network cut it"


@pytest.mark.parametrize("case", BAD.values(), ids=BAD.keys())
def test_a_failure_keeps_its_own_words_its_class_and_what_came_before(case: Bad) -> None:
    found = read(case.vendor, [case.data])
    assert found.error is not None
    code, message = found.error
    assert (code, found.text) == (case.code, case.text)
    assert case.words in f"{message}\n{found.evidence}"
    again = read(case.vendor, singly(case.data))
    assert (again.error and again.error[0], again.text) == (code, case.text)


def test_an_error_object_is_classified_by_its_code_and_not_by_an_echo_of_the_prompt() -> None:
    echo = "You asked: the context length, a model not found, quota exceeded, invalid api key. Our server is confused."
    for data in (f'data: {{"error":{{"message":"{echo}"}}}}\n\n', f'{{"error":"{echo}"}}', f"<p>{echo}</p>"):
        found = read("openai", [data.encode()])
        assert found.error is not None and found.error[0] == "internal", data


@pytest.mark.parametrize(
    ("response", "text", "finish"),
    [
        ({"status": "completed"}, "", "stop"),
        ({}, "", "stop"),
        (
            {"output": [{"type": "message", "content": [{"type": "output_text", "text": "whole"}]}]},
            "whole",
            "stop",
        ),
        ({"status": "in_progress"}, "", "other"),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "", "length"),
        ({"status": "incomplete"}, "", "other"),
        ({"status": "cancelled"}, "", ""),
        ({"status": "failed"}, "", ""),
    ],
)
@pytest.mark.parametrize("streamed", [True, False])
def test_a_response_ends_as_its_status_says_and_its_text_is_taken_where_no_delta_came(
    streamed: bool, response: dict[str, Any], text: str, finish: str
) -> None:
    data = event({"type": "response.completed", "response": response})
    found = read("responses", [data if streamed else encoded({"object": "response", **response})])
    assert found.text == text
    assert (found.completed.finish_reason if found.completed else "") == finish
    assert bool(found.error) is not bool(finish)


@pytest.mark.parametrize("late", [1, 2])
async def test_pieces_behind_an_ending_are_waited_for_and_taken(
    monkeypatch: pytest.MonkeyPatch, late: int
) -> None:
    """Some servers mark each piece as the last: what comes later than the wait for one piece is still the answer."""
    monkeypatch.setattr(streams_module, "AFTER_END_S", 0.2)
    pieces = [
        chunk({"content": "a"}, "stop"),
        chunk({"content": "b"}, "stop"),
        chunk({"content": "c"}, "stop"),
        DONE,
    ]

    async def arriving() -> AsyncIterator[bytes]:
        for place, piece in enumerate(pieces):
            if place == late:  # longer than is waited for the usage behind an ending
                await asyncio.sleep(0.3)
            yield piece

    reader = StreamReader(UPSTREAM, openai.take, ServerSentEvents())
    items = [item async for item in read_stream(arriving(), reader)]
    assert "".join(item.content for item in items if isinstance(item, Text)) == "abc"


# streams that nobody wrote

WORDS = st.text(st.characters(exclude_characters="\x00"), max_size=12)
TEXTS = st.one_of(
    WORDS,
    st.sampled_from(
        ["<think>", "</think>", "<thi", "nk>", "\u2028", "\ud83e", "\udd89", "data: [DONE]", "\n\n", ""]
    ),
)
NUMBERS = st.one_of(
    st.integers(),
    st.floats(),
    st.booleans(),
    st.none(),
    st.text(max_size=3),
    st.just(10**25),
    st.just([]),
    st.just({}),
)
JUNK: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
ENDS = st.one_of(
    st.sampled_from([*ENDINGS, *FAILURES, "STOP", "End_Turn", "sunset", "", "null", "eos_token "]),
    st.none(),
    JUNK,
    WORDS,
)
THOUGHTS = st.one_of(TEXTS, st.lists(st.fixed_dictionaries({"text": TEXTS}), max_size=2))
PARTS = st.one_of(
    TEXTS,
    st.none(),
    st.lists(
        st.one_of(
            TEXTS,
            st.fixed_dictionaries({"type": st.sampled_from(["text", "refusal", "image_url"]), "text": TEXTS}),
            st.fixed_dictionaries({"type": st.just("thinking"), "thinking": THOUGHTS}),
        ),
        max_size=3,
    ),
    JUNK,
)


def objects(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return objects with any of these fields; each may hold something else than it should."""
    return st.fixed_dictionaries(
        {}, optional={name: st.one_of(kind, kind, kind, JUNK) for name, kind in fields.items()}
    )


CALLS = st.lists(objects(index=st.integers(0, 3), function=objects(name=WORDS, arguments=WORDS)), max_size=2)
DELTAS = objects(
    content=PARTS, reasoning_content=TEXTS, reasoning=TEXTS, reasoning_details=st.lists(objects(text=TEXTS), max_size=2),
    refusal=TEXTS, tool_calls=CALLS, function_call=objects(name=WORDS), thought=st.booleans(), role=WORDS,
)  # fmt: skip
DETAILS = objects(cached_tokens=NUMBERS, reasoning_tokens=NUMBERS, thinking_tokens=NUMBERS)
USAGES = objects(
    prompt_tokens=NUMBERS, completion_tokens=NUMBERS, prompt_tokens_details=DETAILS, completion_tokens_details=DETAILS,
    input_tokens=NUMBERS, output_tokens=NUMBERS, cache_read_input_tokens=NUMBERS, cache_creation_input_tokens=NUMBERS,
    output_tokens_details=DETAILS,
)  # fmt: skip
ERRORS = st.one_of(
    st.none(), st.none(), TEXTS, objects(message=TEXTS, code=st.one_of(NUMBERS, TEXTS), type=TEXTS), JUNK
)
CHOICES = objects(
    index=st.sampled_from([0, 0, 0, 1, None]),
    delta=DELTAS,
    message=DELTAS,
    text=TEXTS,
    finish_reason=st.one_of(st.none(), ENDS),
)
MESSAGES = objects(
    content=st.lists(
        objects(
            type=st.sampled_from(["text", "thinking", "tool_use"]), text=TEXTS, thinking=TEXTS, name=WORDS
        ),
        max_size=2,
    ),
    usage=USAGES,
)
ITEMS = objects(
    type=st.sampled_from(["message", "reasoning", "function_call", "web_search_call"]), content=PARTS, summary=PARTS,
    name=WORDS, arguments=WORDS, call_id=WORDS, encrypted_content=WORDS,
)  # fmt: skip
RESPONSES = objects(
    output=st.lists(ITEMS, max_size=2), usage=USAGES, error=ERRORS, incomplete_details=objects(reason=ENDS),
    status=st.one_of(st.sampled_from(["completed", "incomplete", "failed", "cancelled", "in_progress"]), ENDS),
)  # fmt: skip
OBJECTS: dict[str, st.SearchStrategy[Any]] = {
    "openai": objects(choices=st.lists(CHOICES, max_size=2), usage=USAGES, error=ERRORS, object=TEXTS, prompt_progress=objects(total=NUMBERS, processed=NUMBERS)),
    "anthropic": objects(
        type=st.sampled_from(
            ["message_start", "content_block_start", "content_block_delta", "content_block_delta", "message_delta", "message_stop",
             "ping", "error", "message", "later"]
        ),
        message=MESSAGES, content=PARTS, stop_reason=ENDS, usage=USAGES, error=ERRORS,
        content_block=objects(type=st.sampled_from(["text", "thinking", "tool_use"]), text=TEXTS, thinking=TEXTS, name=WORDS),
        delta=objects(type=st.sampled_from(["text_delta", "thinking_delta", "input_json_delta"]), text=TEXTS, thinking=TEXTS, stop_reason=ENDS),
    ),
    "ollama": objects(
        message=objects(content=PARTS, thinking=TEXTS, tool_calls=CALLS), response=TEXTS, done=st.sampled_from([False, False, True]),
        done_reason=ENDS, prompt_eval_count=NUMBERS, eval_count=NUMBERS, error=ERRORS,
    ),
    "responses": objects(
        type=st.sampled_from(
            ["response.created", "response.output_text.delta", "response.output_text.delta", "response.reasoning_text.delta", "response.refusal.delta",
             "response.output_item.added", "response.output_item.done", "response.completed", "response.incomplete", "response.cancelled", "response.failed", "error", "later"]
        ),
        delta=PARTS, item=ITEMS, response=RESPONSES, output_index=NUMBERS, error=ERRORS, object=st.sampled_from(["response", "x"]),
        output=st.lists(ITEMS, max_size=2), status=ENDS,
    ),
}  # fmt: skip
ENDED = {
    "openai": st.builds(lambda word: {"choices": [{"index": 0, "delta": {}, "finish_reason": word}]}, ENDS),
    "anthropic": st.builds(lambda word: {"type": "message_delta", "delta": {"stop_reason": word}}, ENDS),
    "ollama": st.builds(lambda word: {"message": {"content": ""}, "done": True, "done_reason": word}, ENDS),
    "responses": st.builds(lambda word: {"type": "response.completed", "response": {"status": word}}, ENDS),
}


def encoded(value: object) -> bytes:
    return json.dumps(value).encode()


@st.composite
def streams(draw: st.DrawFn, vendor: str) -> list[bytes]:
    """Build a stream of a vendor, in which any part may be wrong, cut anywhere."""
    values = draw(st.lists(OBJECTS[vendor], max_size=6))
    if draw(st.booleans()):
        values.append(draw(ENDED[vendor]))
    frames: list[bytes] = []
    for value in values:
        data = encoded(value)
        if draw(st.integers(0, 19)) == 0:
            data = draw(
                st.sampled_from(
                    [data[: len(data) // 2], b"\xff\xfe", b"[DONE]", b"{", b"<html>", encoded(draw(JUNK))]
                )
            )
        end = draw(st.sampled_from([b"\n", b"\n", b"\n", b"\r\n", b"\n\n"]))
        if vendor == "ollama":
            frames.append(data + end)
        else:
            head = draw(
                st.sampled_from(
                    [
                        b"data: ",
                        b"data: ",
                        b"data: ",
                        b"data:",
                        b"event: error\ndata: ",
                        b"event: x\ndata: ",
                        b"error: ",
                        b": ",
                        b"",
                    ]
                )
            )
            frames.append(head + data + end + end)
    if vendor == "openai" and draw(st.booleans()):
        frames.append(b"data: [DONE]\n\n")
    whole = b"".join(frames)
    if draw(st.integers(0, 9)) == 0:
        whole = whole[: draw(st.integers(0, len(whole)))]
    cuts = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    return [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]


def check(vendor: str, pieces: list[bytes]) -> None:
    """Hold a stream against what is true of every stream."""
    found = read(vendor, pieces)
    found.text.encode()
    found.thinking.encode()
    whole = b"".join(pieces)
    at_once = read(vendor, [whole])
    assert (at_once.text, at_once.thinking, at_once.completed) == (
        found.text,
        found.thinking,
        found.completed,
    )
    assert (at_once.error and at_once.error[0]) == (found.error and found.error[0])
    if found.completed is None:
        return
    last, counted = found.completed, found.completed.usage
    for number in (getattr(counted, name) for name in Usage.__struct_fields__ if name != "estimated"):
        assert type(number) is int and 0 <= number <= 3 * MAX_TOKENS
    facts = StreamMetadata(
        1, counted.output_tokens, 0.1, "a-ai", "m", last.finish_reason, counted, notes=last.notes
    )
    msgspec.json.decode(msgspec.json.encode(StreamEnd("r1", facts)), type=StreamEnd)
    if last.finish_reason == "stop":
        words = [word for word, finish in ENDINGS.items() if finish == "stop"]
        unsaid = vendor == "responses" or (
            vendor == "ollama"
            and any(b'"done": true' in part and b"done_reason" not in part for part in whole.splitlines())
        )  # as older versions end, and by the event's name
        assert unsaid or any(word.encode() in whole.lower() for word in words)
        assert found.text or last.notes, "an empty answer is not named"
    else:
        assert last.notes or last.finish_reason == "length", "an ending that is not a stop is not named"


COMPLETE = {
    "stop",
    "end_turn",
    "stop_sequence",
    "eos",
    "eos_token",
    "end_of_text",
    "end",
    "complete",
    "completed",
}
"""The words that say that an answer is whole; no other may."""


@pytest.mark.parametrize("vendor", VENDORS)
@settings(max_examples=STREAMS, deadline=None)
@given(word=ENDS)
def test_only_the_endings_on_the_list_say_that_an_answer_is_whole(vendor: str, word: object) -> None:
    data = {
        "openai": text("a") + chunk({}, word) + DONE,
        "anthropic": message(deltas=(said("a"),), end=word),
        "ollama": line("a") + line(done=True, done_reason=word),
        "responses": event({"type": "response.output_text.delta", "delta": "a"})
        + event({"type": "response.completed", "response": {"status": word}}),
    }[vendor]
    found = read(vendor, [data])
    name = word.strip().lower() if isinstance(word, str) else ""
    if vendor == "responses" and name == "incomplete":
        name = ""  # the reason stands elsewhere
    whole = found.completed is not None and found.completed.finish_reason == "stop"
    assert whole is (name in COMPLETE), word
    assert found.text == "a"
    if name in FAILURES:
        assert found.error is not None
    elif found.completed is not None and name not in ENDINGS:
        assert found.completed.finish_reason == "other" and found.completed.notes


@pytest.mark.parametrize("vendor", VENDORS)
@settings(max_examples=STREAMS, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_stream_that_nobody_wrote_is_an_answer_or_a_failure(vendor: str, data: st.DataObject) -> None:
    check(vendor, data.draw(streams(vendor)))


def piece(**call: Any) -> dict[str, Any]:
    """Return a chunk with a piece of a call in it."""
    return {"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}


def begun(place: int, name: str, given: object) -> dict[str, Any]:
    block = {"type": "tool_use", "id": f"t{place}", "name": name, "input": given}
    return {"type": "content_block_start", "index": place, "content_block": block}


def more(place: int, text: str) -> dict[str, Any]:
    return {
        "type": "content_block_delta",
        "index": place,
        "delta": {"type": "input_json_delta", "partial_json": text},
    }


ONE, TWO = ("f", '{"a":1}'), ("g", '{"b":2}')
SPOKEN: dict[str, tuple[Any, list[dict[str, Any]], list[tuple[str, str]]]] = {
    "two whole calls, neither number nor id": (openai, [
        piece(function={"name": "f", "arguments": '{"a":1}'}), piece(function={"name": "g", "arguments": '{"b":2}'}),
    ], [ONE, TWO]),
    "two of one name, the id empty": (openai, [
        piece(index=0, id="", function={"name": "f", "arguments": '{"a":1}'}),
        piece(index=0, id="", function={"name": "f", "arguments": '{"b":2}'}),
    ], [ONE, ("f", '{"b":2}')]),
    "the name with every piece": (openai, [
        piece(index=0, function={"name": "f", "arguments": text}) for text in ("", '{"a"', ":", "1}", "")
    ], [ONE]),
    "one id and one number for two": (openai, [
        piece(index=0, id="x", function={"name": "f", "arguments": '{"a":1}'}),
        piece(index=0, id="x", function={"name": "g", "arguments": '{"b":2}'}),
    ], [ONE, TWO]),
    "one id for two numbers, interleaved": (openai, [
        piece(index=0, id="x", function={"name": "f", "arguments": '{"a"'}),
        piece(index=1, id="x", function={"name": "g", "arguments": '{"b"'}),
        piece(index=0, id="x", function={"arguments": ":1}"}), piece(index=1, id="x", function={"arguments": ":2}"}),
    ], [ONE, TWO]),
    "a call that is said again whole": (openai, [
        piece(index=0, id="x", function={"name": "f", "arguments": '{"a"'}), piece(index=0, function={"arguments": ":1}"}),
        piece(index=0, id="x", function={"name": "f", "arguments": '{"a":1}'}),
    ], [ONE]),
    "two blocks of one id": (anthropic, [
        {**begun(0, "f", {"a": 1}), "content_block": {"type": "tool_use", "id": "x", "name": "f", "input": {"a": 1}}},
        {**begun(1, "g", {"b": 2}), "content_block": {"type": "tool_use", "id": "x", "name": "g", "input": {"b": 2}}},
    ], [ONE, TWO]),
    "numbers that are texts, interleaved": (openai, [
        piece(index="0", id="x", function={"name": "f", "arguments": '{"a"'}),
        piece(index="1", id="y", function={"name": "g", "arguments": '{"b"'}),
        piece(index="0", function={"arguments": ":1}"}), piece(index="1", function={"arguments": ":2}"}),
    ], [ONE, TWO]),
    "the input whole at the start": (anthropic, [
        begun(0, "f", {"a": 1}), {"type": "content_block_stop", "index": 0}, begun(1, "g", {"b": 2}),
        {"type": "content_block_stop", "index": 1},
    ], [ONE, TWO]),
    "the input at the start and behind": (anthropic, [
        begun(0, "f", {"a": 1}), more(0, '{"a"'), more(0, ":1}"), {"type": "content_block_stop", "index": 0},
    ], [ONE]),
    "the input at the start, and no stop": (anthropic, [begun(0, "f", {"a": 1})], [ONE]),
    "no input": (anthropic, [begun(0, "f", {}), {"type": "content_block_stop", "index": 0}], [("f", "")]),
}  # fmt: skip


@pytest.mark.parametrize(("vendor", "stream", "calls"), SPOKEN.values(), ids=SPOKEN.keys())
def test_calls_are_told_apart_and_whole_however_a_server_numbers_them(
    vendor: Any, stream: list[dict[str, Any]], calls: list[tuple[str, str]]
) -> None:
    answer = Answer(UPSTREAM, True)
    items = [item for value in stream for item in vendor.take("", value, answer)]
    answer.end("tool_calls")
    items += answer.completed()
    ids = [item.id for item in items if isinstance(item, ToolPiece) and item.name]
    assert all(ids) and len(set(ids)) == len(calls), "no two calls have one id"
    named: dict[int, list[str]] = {}
    for item in items:
        if isinstance(item, ToolPiece):
            found = named.setdefault(item.index, ["", ""])
            found[0] += item.name
            found[1] += item.arguments
    assert [tuple(found) for _, found in sorted(named.items())] == calls


@pytest.mark.parametrize(
    "choice",
    [
        {"index": "0", "delta": {"content": "a"}},
        {"index": 0, "delta": {"content": [{"type": "text", "text": {"value": "a", "annotations": []}}]}},
        {"index": 0, "delta": {"content": {"type": "output_text", "value": "a"}}},
    ],
)
def test_text_is_taken_wherever_servers_put_it(choice: dict[str, Any]) -> None:
    found = read("openai", [event({"choices": [choice]}) + chunk({}, "stop") + DONE])
    assert found.text == "a" and found.error is None


def of_text(place: int, part: dict[str, Any], kind: str) -> bytes:
    return event({"type": f"response.output_text.{kind}", "output_index": place, "content_index": 0, **part})


def item(place: int, value: dict[str, Any], kind: str = "done") -> bytes:
    return event({"type": f"response.output_item.{kind}", "output_index": place, "item": value})


def spoken(text: str) -> dict[str, Any]:
    return {"type": "message", "content": [{"type": "output_text", "text": text}]}


def over(kind: str = "completed", *output: Any) -> bytes:
    return event({"type": f"response.{kind}", "response": {"status": "completed", "output": list(output)}})


WHOLE: dict[str, tuple[str, bytes]] = {
    "text at its end alone": ("responses", of_text(0, {"text": "a"}, "done") + over()),
    "text of two items at their ends": ("responses", item(0, spoken("a")) + item(1, spoken("")) + over()),
    "text three times": ("responses", of_text(0, {"delta": "a"}, "delta") + of_text(0, {"text": "a"}, "done")
        + item(0, spoken("a")) + over("completed", spoken("a"))),
    "an end that is called done": ("responses", of_text(0, {"delta": "a"}, "delta") + over("done")),
    "events without data": ("openai", b"data:\n\ndata: \n\nevent: x\n\n" + text("a") + b"data:\n\n" + chunk({}, "stop") + DONE),
    "a comment as data": ("openai", b"data: : PROCESSING\n\n" + text("a") + chunk({}, "stop") + DONE),
    "null as data": ("openai", b"data: null\n\n" + text("a") + chunk({}, "stop") + DONE),
    "an ending with its kind in front": ("openai", text("a") + chunk({}, "FINISH_REASON_STOP") + DONE),
    "deltas of no kind": ("anthropic", event({"type": "content_block_delta", "index": 0, "delta": {"text": "a"}})
        + event({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}) + event({"type": "message_stop"})),
    "the reason in the very end": ("anthropic", event({"type": "content_block_delta", "index": 0, "delta": {"text": "a"}})
        + event({"type": "message_stop", "stop_reason": "end_turn"})),
}  # fmt: skip


@pytest.mark.parametrize(("vendor", "stream"), WHOLE.values(), ids=WHOLE.keys())
def test_an_answer_of_odd_shape_is_read_whole_and_once(vendor: str, stream: bytes) -> None:
    found = read(vendor, [stream])
    assert found.text == "a" and found.completed is not None, found.error
    assert (found.completed.finish_reason, found.completed.notes) == ("stop", [])
    assert read(vendor, singly(stream)) == found


def test_an_error_in_a_choice_keeps_its_words_and_what_cannot_be_shown_is_noted() -> None:
    failed = {
        "index": 0,
        "delta": {},
        "finish_reason": "error",
        "error": {"message": "too many", "code": 429},
    }
    found = read("openai", [text("a") + event({"choices": [failed]}) + DONE])
    assert (
        found.error is not None and found.error[0] == "provider_rate_limited" and "too many" in found.evidence
    )
    found = read("openai", [chunk({"content": "a", "images": [{"url": "x"}]}) + chunk({}, "stop") + DONE])
    assert found.completed is not None and found.completed.notes == [
        "the upstream sent images, which cannot be shown"
    ]


@pytest.mark.parametrize(
    "ways",
    [
        ("done",),
        ("arguments",),
        ("added", "done"),
        ("added", "arguments", "done"),
        ("added", "delta", "arguments", "done"),
    ],
)
def test_a_call_of_a_response_is_taken_once_wherever_its_arguments_stand(ways: tuple[str, ...]) -> None:
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"a":1}'}
    answer = Answer(UPSTREAM, True)
    events: dict[str, dict[str, Any]] = {
        "added": {"type": "response.output_item.added", "output_index": 0, "item": {**call, "arguments": ""}},
        "delta": {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": '{"a":1}'},
        "arguments": {
            "type": "response.function_call_arguments.done",
            "output_index": 0,
            "arguments": '{"a":1}',
        },
        "done": {"type": "response.output_item.done", "output_index": 0, "item": call},
    }
    items = [one for way in ways for one in responses.take("", events[way], answer)]
    pieces = [one for one in items if isinstance(one, ToolPiece)]
    if ways == ("arguments",):  # nobody said whose they are
        assert pieces == []
    else:
        assert "".join(one.arguments for one in pieces) == '{"a":1}' and {one.index for one in pieces} == {0}
        assert "".join(one.name for one in pieces) == "f"


def with_odd_values(value: object) -> Iterator[Any]:
    """Yield an object once for each value in it and each odd one put there instead."""
    yield from ODD
    if isinstance(value, dict):
        mapping = cast(dict[str, Any], value)
        for name, held in mapping.items():
            yield from ({**mapping, name: other} for other in with_odd_values(held))
    elif isinstance(value, list):
        rows = cast(list[Any], value)
        for place, held in enumerate(rows):
            yield from ([*rows[:place], other, *rows[place + 1 :]] for other in with_odd_values(held))


@pytest.mark.parametrize(
    ("vendor", "stream"), CALLING, ids=[vendor.__name__.rpartition(".")[2] for vendor, _ in CALLING]
)
async def test_a_call_for_a_tool_of_any_shape_is_read_or_refused_by_name(
    vendor: Any, stream: list[tuple[str, dict[str, Any]]]
) -> None:
    read = 0
    for place, (_, value) in enumerate(stream):
        for odd in with_odd_values(value):
            if not isinstance(odd, dict):
                continue
            answer = Answer(UPSTREAM, True)
            for number, (name, whole) in enumerate(stream):
                try:
                    list(vendor.take(name, odd if number == place else whole, answer))
                except (Malformed, ProviderError):
                    break
            else:
                read += 1
    assert read > 10


async def test_alternatives_within_alternatives_are_left_out_however_deep() -> None:
    row: dict[str, Any] = {"token": "x", "logprob": -1.0}
    for _ in range(5_000):
        row = {"token": "x", "logprob": -1.0, "top_logprobs": [row]}
    [read] = list(Answer(UPSTREAM).logprobs([row]))
    assert isinstance(read, Logprobs) and [token.top for token in read.tokens[0].top] == [[]]
