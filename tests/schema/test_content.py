"""The message on our own wires: old lines are read, plain lines are written as ever, old readers read new lines."""

from __future__ import annotations

from typing import Literal

import msgspec
import pytest
from msgspec import Struct

from backend.assembly import PartsBuilder
from backend.schema.content import (
    AnswerOptions,
    ChatMessage,
    ImagePart,
    ReasoningPart,
    TextPart,
    ToolCall,
    ToolResult,
    ToolSpec,
    joined,
    lightened,
)
from backend.schema.frames import ChatResponse, Request, StreamSignature, StreamToolCall, Usage


class OldMessage(Struct):
    """The message of 0.1.0."""

    role: Literal["system", "user", "assistant"]
    content: str


def test_a_plain_message_is_written_as_before_parts_were_known() -> None:
    for content in ("", "Hello", "Zürich"):
        assert msgspec.json.encode(ChatMessage("user", content)) == msgspec.json.encode(
            OldMessage("user", content)
        )
    plain = Request(content="x", messages=[ChatMessage("user", "y")])
    assert msgspec.json.encode(plain) == b'{"content":"x","messages":[{"role":"user","content":"y"}]}'
    reply = ChatResponse("apollo-ai", "hi", "scripted:scripted", Usage())
    assert b"parts" not in msgspec.json.encode(reply)


def test_an_old_reader_reads_the_text_of_a_message_with_parts() -> None:
    new = ChatMessage("user", "what is this", [ImagePart("image/png", "AA=="), TextPart("what is this")])
    assert msgspec.json.decode(msgspec.json.encode(new), type=OldMessage) == OldMessage(
        "user", "what is this"
    )
    assert msgspec.json.decode(msgspec.json.encode(new), type=ChatMessage) == new


def test_a_line_of_an_old_client_is_a_message() -> None:
    old = msgspec.json.decode(
        b'{"content":"Hi","messages":[{"role":"assistant","content":"a"}]}', type=Request
    )
    assert old.messages == [ChatMessage("assistant", "a")] and old.parts is None and old.persona


def test_results_of_tools_stand_first_in_a_joined_message() -> None:
    both = joined(
        ChatMessage("user", "look", [TextPart("look")]), ChatMessage("user", "", [ToolResult("c1", "21")])
    )
    assert both.content == "look" and both.parts == [ToolResult("c1", "21"), TextPart("look")]
    assert joined(ChatMessage("user", "a"), ChatMessage("user", "b")) == ChatMessage("user", "a\n\nb")


def test_bytes_of_pictures_are_left_out_where_messages_are_listed() -> None:
    parts = lightened(
        [ImagePart("image/png", "AAAA"), ToolResult("c", parts=[ImagePart("image/png", "AA==")])]
    )
    assert parts == [ImagePart("image/png", size=3), ToolResult("c", parts=[ImagePart("image/png", size=1)])]


@pytest.mark.parametrize("line", [b'{"tools":[{"name":""}]}', b'{"effort":"huge"}', b'{"top_p":2}'])
def test_wishes_that_cannot_be_are_refused(line: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(line, type=AnswerOptions)


def test_tools_that_must_not_be_asked_for_are_not_offered() -> None:
    tools = [ToolSpec("f")]
    assert AnswerOptions(tools).offered == tools
    none = msgspec.json.decode(b'{"tools":[{"name":"f"}],"choice":{"mode":"none"}}', type=AnswerOptions)
    assert none.offered == []


def test_an_answer_is_put_together_in_the_order_it_came() -> None:
    builder, text, thought = PartsBuilder(), "", ""
    assert builder.parts("only text", "and thinking", "p:m") == []
    thought += "first"
    builder.sign(StreamSignature("r", "S1"), len(text), thought)
    builder.sign(StreamSignature("r", "XX", redacted=True), len(text), thought)
    text += "I look. "
    builder.call(StreamToolCall("r", 0, "c0", "f", '{"a'), len(text))
    builder.call(StreamToolCall("r", 1, "c1", "g"), len(text))
    builder.call(StreamToolCall("r", 0, arguments='":1}'), len(text))
    text += "Done."
    assert builder.parts(text, thought, "p:m") == [
        ReasoningPart("first", signature="S1", origin="p:m"),
        ReasoningPart(signature="XX", origin="p:m", redacted=True),
        TextPart("I look. "),
        ToolCall("c0", "f", '{"a":1}'),
        ToolCall("c1", "g", "{}"),
        TextPart("Done."),
    ]
