"""Tools, pictures, formats, effort and signatures: what each vendor is sent, and what is made of its bytes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from backend.home import Home
from backend.providers.abilities import check, needed
from backend.providers.anthropic_messages import closed_schema
from backend.providers.base import (
    Completed,
    CompletionRequest,
    ProviderError,
    ProviderFault,
    ProviderRateLimited,
    Reasoning,
    Signature,
    StreamItem,
    Text,
    ToolPiece,
    Unable,
)
from backend.providers.embedded.small_model import bounded
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
from backend.schema.content import (
    Abilities,
    AnswerOptions,
    ChatMessage,
    Effort,
    FilePart,
    ImagePart,
    ReasoningPart,
    ResponseFormat,
    TextPart,
    ToolCall,
    ToolChoice,
    ToolResult,
    ToolSpec,
)
from tests.providers.dialects import DIALECTS
from tests.providers.rigs import ServerRig
from tests.providers.vendor_streams import DONE, chunk, event, line

SCHEMA = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 9}}, "required": ["city"]}
TOOL = ToolSpec("get_weather", "the weather", SCHEMA)
VENDORS = {
    "openai": (openai.take, ServerSentEvents),
    "anthropic": (anthropic.take, ServerSentEvents),
    "ollama": (ollama.take, JsonLines),
    "responses": (responses.take, ServerSentEvents),
}
ORIGIN = {"openai": "openai:test-model", "anthropic": "anthropic:claude-sonnet-5-5"}


class Heard:
    """What a stream was read as, put together again."""

    def __init__(self, items: Iterable[StreamItem]) -> None:
        self.text = self.thinking = ""
        self.signatures: list[Signature] = []
        self.calls: dict[int, list[str]] = {}
        self.end: Completed | None = None
        for item in items:
            assert self.end is None
            match item:
                case Text(content=content):
                    self.text += content
                case Reasoning(content=content):
                    self.thinking += content
                case Signature():
                    self.signatures.append(item)
                case ToolPiece(index=index) if item.name:
                    assert item.id and index == len(self.calls)
                    self.calls[index] = [item.id, item.name, item.arguments]
                case ToolPiece():
                    assert not item.id
                    self.calls[item.index][2] += item.arguments
                case Completed():
                    self.end = item
                case _:
                    pass

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Heard) and vars(self) == vars(other)


def hear(vendor: str, data: bytes, size: int = 0, *, offered: bool = True) -> Heard:
    """Read a stream in pieces of `size` bytes, 0 for all at once."""
    take, framing = VENDORS[vendor]
    reader = StreamReader(Upstream("it", "http://there", "m", setting="x"), take, framing(), offered=offered)
    items: list[StreamItem] = []
    for start in range(0, len(data), size or len(data)):
        items += reader.feed(data[start : start + (size or len(data))])
    items += reader.end()
    return Heard(items)


def openai_calls(arguments: list[str]) -> bytes:
    """Return a stream with calls side by side, a character of each in turn."""
    events = [
        chunk({"tool_calls": [{"index": i, "id": f"c{i}", "function": {"name": f"f{i}", "arguments": ""}}]})
        for i in range(len(arguments))
    ]
    for place in range(max(map(len, arguments))):
        events += [
            chunk({"tool_calls": [{"index": index, "function": {"arguments": text[place]}}]})
            for index, text in enumerate(arguments)
            if place < len(text)
        ]
    return b"".join(events) + chunk({}, "tool_calls") + DONE


def anthropic_stream(*events: dict[str, Any], stop: str = "tool_use") -> bytes:
    begun = {"type": "message_start", "message": {"content": [], "usage": {"input_tokens": 3}}}
    ended = {"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": 5}}
    return b"".join(event(one, one["type"]) for one in (begun, *events, ended, {"type": "message_stop"}))


def block(index: int, content: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": content},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


SIGNED = anthropic_stream(
    *block(
        0,
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "hm"},
        {"type": "signature_delta", "signature": "S" * 10_000},
        {"type": "signature_delta", "signature": "T" * 10_000},
    ),
    *block(1, {"type": "redacted_thinking", "data": "hidden"}),
    *block(2, {"type": "text", "text": ""}, {"type": "text_delta", "text": "I look."}),
    *block(
        3,
        {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {}},
        {"type": "input_json_delta", "partial_json": ""},
        {"type": "input_json_delta", "partial_json": '{"city": "Z'},
        {"type": "input_json_delta", "partial_json": 'ürich"}'},
    ),
    *block(4, {"type": "tool_use", "id": "toolu_2", "name": "now", "input": {}}),
)


def responded(*events: dict[str, Any], status: str = "completed", **facts: Any) -> bytes:
    """Return a stream of the Responses API: these events between the frame."""
    usage = {"input_tokens": 9, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 5}
    last = {
        "type": f"response.{status}",
        "response": {"object": "response", "status": status, "usage": usage, **facts},
    }
    framed = (
        {"type": "response.created", "response": {"status": "in_progress", "error": None}},
        *events,
        last,
    )
    return b"".join(
        event({**one, "sequence_number": number}, one["type"]) for number, one in enumerate(framed)
    )


def call_item(place: int, arguments: str = "") -> dict[str, Any]:
    return {
        "type": "function_call",
        "id": f"fc_{place}",
        "call_id": f"c{place}",
        "name": f"f{place}",
        "arguments": arguments,
    }


RESPONDED = responded(
    {"type": "response.output_item.added", "output_index": 0, "item": {"type": "reasoning", "id": "rs_1", "summary": []}},
    {"type": "response.reasoning_summary_part.added", "output_index": 0, "summary_index": 0},
    {"type": "response.reasoning_summary_text.delta", "output_index": 0, "delta": "hm"},
    {"type": "response.reasoning_summary_part.added", "output_index": 0, "summary_index": 1},
    {"type": "response.reasoning_summary_text.delta", "output_index": 0, "delta": "so"},
    {"type": "response.output_item.done", "output_index": 0,
     "item": {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "S" * 20_000}},
    {"type": "response.output_item.done", "output_index": 1,
     "item": {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "hidden"}},
    {"type": "response.output_text.delta", "output_index": 2, "delta": "Look, Zürich"},
    {"type": "response.output_text.done", "output_index": 2, "text": "Look, Zürich"},
    *({"type": "response.output_item.added", "output_index": place, "item": call_item(place)} for place in (3, 4)),
    *({"type": "response.function_call_arguments.delta", "output_index": place, "delta": piece}
      for piece in ('{"a" :', '"ü"}') for place in (3, 4)),
    *({"type": "response.output_item.done", "output_index": place, "item": call_item(place, '{"a" :"ü"}')}
      for place in (3, 4)),
)  # fmt: skip


def test_a_response_is_read_with_its_signed_thinking_its_calls_and_its_counts() -> None:
    heard = hear("responses", RESPONDED)
    assert (heard.text, heard.thinking) == ("Look, Zürich", "hm\n\nso")
    assert [(one.id, one.redacted, len(one.signature)) for one in heard.signatures] == [
        ("rs_1", False, 20_000), ("rs_2", True, 6),
    ]  # fmt: skip
    assert list(heard.calls.values()) == [["c3", "f3", '{"a" :"ü"}'], ["c4", "f4", '{"a" :"ü"}']]
    assert heard.end is not None and heard.end.finish_reason == "tool_calls"
    usage = heard.end.usage
    assert (usage.input_tokens, usage.cached_tokens, usage.output_tokens) == (5, 4, 5)


@pytest.mark.parametrize(
    ("reason", "ending"), [("max_output_tokens", "length"), ("content_filter", "content_filter")]
)
def test_a_response_that_is_cut_says_why(reason: str, ending: str) -> None:
    said = {"type": "response.output_text.delta", "output_index": 0, "delta": "so"}
    heard = hear("responses", responded(said, status="incomplete", incomplete_details={"reason": reason}))
    assert heard.end is not None and (heard.text, heard.end.finish_reason) == ("so", ending)


def test_a_response_that_failed_is_a_failure_in_its_own_words_and_so_is_one_that_breaks_off() -> None:
    error = {"code": "rate_limit_exceeded", "message": "slow down, please"}
    with pytest.raises(ProviderRateLimited) as limited:
        hear("responses", responded(status="failed", error=error))
    assert "slow down" in limited.value.evidence
    said = {"type": "response.output_text.delta", "output_index": 0, "delta": "so"}
    with pytest.raises(ProviderFault, match="without saying"):
        hear("responses", event({"type": "response.created", "response": {}}) + event(said, said["type"]))


def test_a_response_in_one_piece_is_read_alike() -> None:
    whole = {
        "object": "response", "status": "completed", "error": None,
        "output": [
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "S"},
            {"type": "message", "content": [{"type": "output_text", "text": "Look"}]},
            call_item(2, '{"a":1}'),
        ],
    }  # fmt: skip
    heard = hear("responses", json.dumps(whole).encode())
    assert (heard.text, heard.thinking, [one.signature for one in heard.signatures]) == ("Look", "hm", ["S"])
    assert list(heard.calls.values()) == [["c2", "f2", '{"a":1}']]


@pytest.mark.parametrize(
    ("vendor", "data"),
    [
        ("openai", openai_calls(['{"city": "Zürich"}', "{}", '{"a":[1,2]}'])),
        ("anthropic", SIGNED),
        ("responses", RESPONDED),
        ("ollama", line("", message={"tool_calls": [{"function": {"name": "f", "arguments": {"a": "ü"}}}]}) + line(done=True)),
    ],
)  # fmt: skip
def test_calls_and_signatures_are_equal_however_the_network_cuts_them(vendor: str, data: bytes) -> None:
    whole = hear(vendor, data)
    minted = vendor == "ollama"
    for size in (1, 2, 3, 7, 64):
        cut = hear(vendor, data, size)
        if minted:
            cut.calls[0][0] = whole.calls[0][0]
        assert cut == whole
    assert whole.end is not None and whole.end.finish_reason == "tool_calls" and not whole.end.notes


def test_five_calls_side_by_side_of_64_kb_arrive_whole() -> None:
    arguments = [json.dumps({"fill": chr(97 + n) * (64_000 if n == 0 else 50)}) for n in range(5)]
    heard = hear("openai", openai_calls(arguments), 997)
    assert [call[2] for call in heard.calls.values()] == arguments
    assert [call[:2] for call in heard.calls.values()] == [[f"c{n}", f"f{n}"] for n in range(5)]


def test_a_signature_of_20_kb_and_hidden_thinking_come_as_they_were() -> None:
    heard = hear("anthropic", SIGNED)
    assert heard.signatures == [
        Signature("S" * 10_000 + "T" * 10_000),
        Signature("hidden", redacted=True),
    ]
    assert (heard.thinking, heard.text) == ("hm", "I look.")
    assert [call[1:] for call in heard.calls.values()] == [
        ["get_weather", '{"city": "Zürich"}'],
        ["now", ""],
    ]


def test_an_answer_in_one_piece_has_the_same_calls() -> None:
    calls = [{"id": "c0", "type": "function", "function": {"name": "f", "arguments": '{"a" :1}'}}]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    assert hear("openai", json.dumps(body).encode()).calls == {0: ["c0", "f", '{"a" :1}']}
    content = [
        {"type": "thinking", "thinking": "hm", "signature": "S"},
        {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
    ]
    whole = {"type": "message", "content": content, "stop_reason": "tool_use", "usage": {}}
    heard = hear("anthropic", json.dumps(whole).encode())
    assert heard.calls == {0: ["t", "f", '{"a":1}']} and heard.signatures == [Signature("S")]


@pytest.mark.parametrize(
    ("deltas", "calls"),
    [
        # all numbered 0, told apart by their ids
        ([{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}},
          {"index": 0, "id": "b", "function": {"name": "g", "arguments": "{}"}}], [("a", "f", "{}"), ("b", "g", "{}")]),
        # no id at all
        ([{"index": 0, "function": {"name": "f", "arguments": "{"}}, {"index": 0, "function": {"arguments": "}"}}],
         [("call_", "f", "{}")]),
        # arguments before the name; an object instead of text
        ([{"index": 0, "id": "a", "function": {"arguments": "{"}}, {"index": 0, "function": {"name": "f", "arguments": "}"}}],
         [("a", "f", "{}")]),
        ([{"index": 0, "id": "a", "function": {"name": "f", "arguments": {"b": 1}}}], [("a", "f", '{"b":1}')]),
        # a character cut in two, as servers that count in UTF-16 do
        ([{"index": 0, "id": "a", "function": {"name": "f", "arguments": "\ud83d"}},
          {"index": 0, "function": {"arguments": "\ude00"}}], [("a", "f", "\U0001f600")]),
        # halves that stay alone: in the text, in an object, in the name and the id
        ([{"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x":"\ud83d'}},
          {"index": 0, "function": {"arguments": '"}'}}], [("a", "f", '{"x":"\ufffd"}')]),
        ([{"index": 0, "id": "a", "function": {"name": "f", "arguments": {"x\ude00": ["\ud83d"]}}}],
         [("a", "f", '{"x\ufffd": ["\ufffd"]}')]),
        ([{"index": 0, "id": "a\ud83d", "function": {"name": "f\ude00", "arguments": "{}"}}], [("a", "f\ufffd", "{}")]),
    ],
)  # fmt: skip
def test_the_habits_of_servers_make_calls_all_the_same(
    deltas: list[Any], calls: list[tuple[str, str, str]]
) -> None:
    data = b"".join(chunk({"tool_calls": [delta]}) for delta in deltas) + chunk({}, "stop") + DONE
    heard = hear("openai", data)
    found = list(heard.calls.values())
    assert [(name, arguments) for _, name, arguments in found] == [(n, a) for _, n, a in calls]
    assert all(call[0].startswith(wanted[0]) for call, wanted in zip(found, calls, strict=True))
    assert heard.end is not None and heard.end.finish_reason == "tool_calls"


def test_a_tool_nobody_offered_is_a_note_and_no_call() -> None:
    heard = hear("openai", openai_calls(["{}"]), offered=False)
    assert heard.calls == {} and heard.end is not None and "f0" in heard.end.notes[0]


# what is sent

TALK = [
    ChatMessage("user", "look", [TextPart("look"), ImagePart("image/png", "QUJD", detail="low")]),
    ChatMessage(
        "assistant",
        "I look.",
        [
            ReasoningPart("hm", signature="SIG", origin="anthropic:claude-sonnet-5-5"),
            ReasoningPart("mine", origin="openai:test-model"),
            ReasoningPart("foreign", signature="NO", origin="other:m"),
            TextPart("I look."),
            ToolCall("c1", "get_weather", '{"city" : "Paris"}'),
            ToolCall("c2", "now", "not json"),
        ],
    ),
    ChatMessage(
        "user",
        "and this",
        [
            ToolResult("c1", "21"),
            ToolResult("c2", "no such time", is_error=True, parts=[ImagePart("image/png", "REVG")]),
            TextPart("and this"),
        ],
    ),
]
WISHES = AnswerOptions(
    [TOOL], ToolChoice("named", "get_weather", parallel=False), ResponseFormat("schema", "w", SCHEMA), "high", ["END"], 7, 0.5
)  # fmt: skip


async def sent_by(
    served: ServerRig, options: AnswerOptions, talk: list[ChatMessage] | None = None
) -> tuple[dict[str, Any], list[str]]:
    """Ask and return the body the server saw, and the notes of the answer."""
    before = len(served.upstream.to(served.dialect.chat))
    request = CompletionRequest("You are Apollo.", talk or [ChatMessage("user", "x")], "", options=options)
    items = [item async for item in served.provider.stream(request)]
    body = (await served.called(before)).json
    last = items[-1]
    assert isinstance(last, Completed)
    return body, last.notes


async def test_each_vendor_is_sent_the_conversation_with_its_tools_in_its_own_words(
    served: ServerRig,
) -> None:
    body, _ = await sent_by(served, WISHES, TALK)
    function = {"name": "get_weather", "description": "the weather", "parameters": SCHEMA}
    if served.kind in ("openai", "embedded"):
        messages = body["messages"] if served.kind == "openai" else body["messages"][-6:]
        own = {"reasoning_content": "mine"} if served.kind == "openai" else {}
        assert messages[-5:] == [
            {"role": "user", "content": [{"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD", "detail": "low"}}]},
            {"role": "assistant", "content": "I look.", "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city" : "Paris"}'}},
                {"id": "c2", "type": "function", "function": {"name": "now", "arguments": "not json"}}], **own},
            {"role": "tool", "tool_call_id": "c1", "content": "21"},
            {"role": "tool", "tool_call_id": "c2", "content": "Error: no such time"},
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,REVG"}},
                {"type": "text", "text": "and this"}]},
        ]  # fmt: skip
        assert body["tools"] == [{"type": "function", "function": function}]
        assert body["tool_choice"] == {"type": "function", "function": {"name": "get_weather"}}
        assert (body["parallel_tool_calls"], body["seed"], body["top_p"], body["stop"]) == (
            False,
            7,
            0.5,
            ["END"],
        )
        held = body["response_format"]["json_schema"]
        assert (held["name"], held["schema"]["required"], held["strict"]) == ("w", ["city"], True)
        assert body.get("reasoning_effort") == ("high" if served.kind == "openai" else None)
    elif served.kind == "anthropic":
        assert body["messages"] == [
            {"role": "user", "content": [{"type": "text", "text": "look"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}}]},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "SIG"},
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "c1", "name": "get_weather", "input": {"city": "Paris"}},
                {"type": "tool_use", "id": "c2", "name": "now", "input": {"invalid_arguments": "not json"}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "21"},
                {"type": "tool_result", "tool_use_id": "c2", "is_error": True, "content": [
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "REVG"}}]},
                {"type": "text", "text": "and this"}]},
        ]  # fmt: skip
        assert body["tools"] == [
            {"name": "get_weather", "description": "the weather", "input_schema": SCHEMA}
        ]
        assert body["tool_choice"] == {
            "type": "tool",
            "name": "get_weather",
            "disable_parallel_tool_use": True,
        }
        assert body["output_config"]["effort"] == "high"
        assert body["output_config"]["format"]["schema"] == {
            "type": "object", "additionalProperties": False, "required": ["city"],
            "properties": {"city": {"type": "string"}},
        }  # fmt: skip
        assert body["thinking"]["type"] == "adaptive" and body["stop_sequences"] == ["END"]
    else:
        assert body["messages"][1:] == [
            {"role": "user", "content": "look", "images": ["QUJD"]},
            {"role": "assistant", "content": "I look.", "tool_calls": [
                {"function": {"name": "get_weather", "arguments": {"city": "Paris"}}},
                {"function": {"name": "now", "arguments": {"invalid_arguments": "not json"}}}]},
            {"role": "tool", "tool_name": "get_weather", "content": "21"},
            {"role": "tool", "tool_name": "now", "content": "Error: no such time", "images": ["REVG"]},
            {"role": "user", "content": "and this"},
        ]  # fmt: skip
        assert body["tools"] == [{"type": "function", "function": function}] and body["format"] == SCHEMA
        assert (body["options"]["stop"], body["options"]["seed"], body["options"]["top_p"]) == (
            ["END"],
            7,
            0.5,
        )


async def test_without_wishes_the_request_is_what_it_was(served: ServerRig) -> None:
    body, notes = await sent_by(served, AnswerOptions())
    assert not body.keys() & {
        "tools", "tool_choice", "response_format", "format", "think", "thinking", "output_config", "seed",
        "stop", "stop_sequences", "reasoning_effort", "parallel_tool_calls",
    }  # fmt: skip
    assert notes == []


@pytest.fixture
async def ollamas(home: Home) -> AsyncIterator[ServerRig]:
    dialect = next(dialect for dialect in DIALECTS if dialect.kind == "ollama")
    rig = ServerRig("ollama", home, dialect=dialect)
    await rig.start()
    yield rig
    await rig.stop()


@pytest.mark.parametrize("effort", ["none", "minimal", "max"])
async def test_ollama_is_told_to_think_only_where_the_model_does(ollamas: ServerRig, effort: Effort) -> None:
    can = ["completion"]

    async def show(call: Any) -> None:
        await call.reply(200, {"model_info": {}, "capabilities": can})

    ollamas.others["/api/show"] = show
    body, notes = await sent_by(ollamas, AnswerOptions(effort=effort))
    assert "think" not in body and bool(notes) == (effort != "none")
    can += ["thinking", "vision"]
    ollamas.provider._windows.clear()  # type: ignore[attr-defined]
    body, notes = await sent_by(ollamas, AnswerOptions(effort=effort))
    assert notes == [] and body["think"] == {"none": False, "minimal": "low", "max": "high"}[effort]
    assert await ollamas.provider.abilities("test-model") == Abilities(False, True, False, True, True)


async def test_an_address_of_a_picture_is_refused_where_only_bytes_are_taken(ollamas: ServerRig) -> None:
    talk = [ChatMessage("user", "", [ImagePart(url="https://example.org/a.png")])]
    with pytest.raises(ProviderError, match="address"):
        await sent_by(ollamas, AnswerOptions(), talk)


def test_what_a_model_lacks_is_refused_by_name_before_the_call() -> None:
    picture = ChatMessage("user", "", [ImagePart("image/png", "AA==")])
    request = CompletionRequest(
        "", [picture], "m", options=AnswerOptions([TOOL], format=ResponseFormat("json"))
    )
    assert needed(request) == ["images", "tools", "schema"]
    check(needed(request), Abilities(), "ollama:m")  # nobody knows: the upstream will say
    with pytest.raises(Unable, match=r"ollama:m sees no images and takes no tools: choose"):
        check(needed(request), Abilities(tools=False, images=False), "ollama:m")
    file = ToolResult("c", parts=[FilePart("a.pdf")])
    assert needed(CompletionRequest("", [ChatMessage("user", "", [file])], "m")) == ["files", "tools"]
    assert needed(CompletionRequest("", [ChatMessage("user", "x")], "m")) == []


def test_schemas_are_put_as_each_model_can_take_them() -> None:
    schema = {
        "type": "object", "title": "T", "$defs": {"C": {"type": "object", "properties": {"title": {"type": "string"}}}},
        "properties": {"c": {"$ref": "#/$defs/C"}, "n": {"type": "integer", "minimum": 0}},
    }  # fmt: skip
    closed = closed_schema(schema)
    assert closed["additionalProperties"] is False and closed["$defs"]["C"]["additionalProperties"] is False
    assert closed["properties"] == {"c": {"$ref": "#/$defs/C"}, "n": {"type": "integer"}}
    assert closed["$defs"]["C"]["properties"] == {"title": {"type": "string"}}
    held = bounded({"type": "array", "items": {"type": "string"}})
    assert held == {"maxItems": 16, "type": "array", "items": {"maxLength": 400, "type": "string"}}
    assert bounded({"enum": ["a"], "type": "string"}) == {"enum": ["a"], "type": "string"}
