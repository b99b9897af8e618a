"""Messages that are more than text, in every store."""

from __future__ import annotations

import json

import msgspec

from backend.memory import MemoryStore, export
from backend.schema.content import (
    FilePart,
    ImagePart,
    OpaquePart,
    Part,
    ReasoningPart,
    TextPart,
    ToolCall,
    ToolResult,
)
from tests.memory.contract.conftest import Reopen
from tests.stores import say

SIGNATURE = "s\u00e9" * 10_000
PARTS: list[Part] = [
    ReasoningPart("hm", "rs_1", SIGNATURE, "anthropic:claude-x"),
    TextPart("I look."),
    ImagePart("image/png", "iVBORw0KGgo=", name="a.png"),
    FilePart("b.pdf", "application/pdf", "JVBERi0="),
    ToolCall("call_1", "get_weather", '{"city" : "Par\\u0069s"}'),
    ToolResult("call_0", "21 degrees", "get_weather", parts=[ImagePart("image/png", "AAAA")]),
    OpaquePart("openai:m", {"type": "compaction", "n": 1}),
]


async def test_parts_come_back_as_they_were_and_plain_messages_have_none(
    store: MemoryStore, again: Reopen
) -> None:
    session = await store.sessions.create("apollo-ai")
    rich = await say(store, session.id, "I look.", author="apollo-ai", role="assistant", parts=PARTS)
    await say(store, session.id, "plain", request_id="r1")
    later = await again()
    read = await later.messages.read(session.id)
    assert msgspec.json.encode(read[0].parts) == msgspec.json.encode(PARTS)
    assert read[0].id == rich.id and read[1].parts == []
    assert b"parts" not in msgspec.json.encode(read[1])


async def test_what_no_encoding_holds_is_stored_as_question_marks_also_in_parts(store: MemoryStore) -> None:
    session = await store.sessions.create("apollo-ai")
    broken = [ToolResult("c", "a\ud800b", parts=[TextPart("c\udfff")])]
    stored = await say(store, session.id, "x", parts=broken)
    [read] = await store.messages.read(session.id)
    assert read.parts == stored.parts == [ToolResult("c", "a?b", parts=[TextPart("c?")])]


async def test_an_export_shows_parts_and_masks_what_looks_like_a_key_in_them(store: MemoryStore) -> None:
    session = await store.sessions.create("apollo-ai")
    key = "sk-ant-api03-" + "a" * 40
    parts: list[Part] = [*PARTS, ToolResult("call_1", f"key {key}\n# not a heading", "read_file", True)]
    await say(store, session.id, "I look.", author="apollo-ai", role="assistant", parts=parts)
    text = (await export.export_session(store.sessions, store.messages, session.id)).content
    for shown in (
        "*image a.png (image/png, 8 bytes)*",
        "*file b.pdf (application/pdf, 5 bytes)*",
        "*asked for the tool get_weather:*",
        "*the tool read_file failed:*",
        "    # not a heading",
    ):
        assert shown in text
    assert key not in text and SIGNATURE not in text
    whole = (await export.export_session(store.sessions, store.messages, session.id, "json")).content
    assert key not in whole
    kinds = [part["type"] for part in json.loads(whole)["messages"][0]["parts"]]
    assert kinds == [*(part.__struct_config__.tag for part in PARTS), "tool_result"]
