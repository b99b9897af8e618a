"""Vendors on loopback whose models call tools: they obey `[[call NAME JSON]]` in the question, as the scripted provider does.

Each says it in its own words on the wire; once the results are there, each tells them.
"""

from __future__ import annotations

import json
import re
from typing import Any

from backend.home import Home
from tests.providers.dialects import AnthropicWords, Dialect, OllamaWords, OpenAIWords
from tests.providers.rigs import ServerRig
from tests.providers.upstreams import Call
from tests.providers.vendor_streams import LAST, chunk, line, message, said

KINDS: dict[str, Dialect] = {words.kind: words for words in (OllamaWords(), OpenAIWords(), AnthropicWords())}
DONE = b"data: [DONE]\n\n"
_CALL = re.compile(r"\[\[call (\S+) (.*?)\]\]", re.DOTALL)


async def serve(kind: str, home: Home) -> ServerRig:
    """Start a vendor's server; its `upstream.url` is where it listens."""
    rig = ServerRig(kind, home, dialect=KINDS[kind])

    async def answer(call: Call) -> None:
        asked: dict[str, Any] = json.loads(call.body)
        results = results_in(kind, asked["messages"])
        calls = _CALL.findall(json.dumps(asked["messages"][-1], ensure_ascii=False).replace('\\"', '"'))
        text = "The tool said: " + "; ".join(results) if results else ""
        await call.begin(rig.dialect.media)
        await call.send(spoken(kind, text, [] if results else calls))
        await call.end()

    async def able(call: Call) -> None:
        facts: Any = rig.dialect.side("/api/show")
        await call.reply(200, {**facts, "capabilities": ["completion", "tools"]})

    rig.handler = answer
    if kind == "ollama":
        rig.others["/api/show"] = able
    await rig.serve()
    return rig


def results_in(kind: str, messages: list[dict[str, Any]]) -> list[str]:
    """Return what tools gave back, where the last message holds that."""
    if kind != "anthropic":
        found: list[str] = []
        for one in reversed(messages):
            if one["role"] != "tool":
                break
            found.insert(0, one["content"])
        return found
    content = messages[-1]["content"]
    blocks = content if isinstance(content, list) else []
    return [_text(block["content"]) for block in blocks if block["type"] == "tool_result"]


def _text(content: Any) -> str:
    return content if isinstance(content, str) else " ".join(block.get("text", "") for block in content)


def spoken(kind: str, text: str, calls: list[tuple[str, str]]) -> bytes:
    """Return the stream of an answer: a text, or one tool call."""
    if kind == "ollama":
        wanted = [{"function": {"name": name, "arguments": json.loads(given)}} for name, given in calls]
        return line(text, message={"tool_calls": wanted} if wanted else {}) + LAST
    if kind == "anthropic":
        if not calls:
            return message(deltas=(said(text),), end="end_turn", usage={"output_tokens": 3})
        [(name, given)] = calls
        block = {"type": "tool_use", "id": "toolu_1", "name": name, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": given}
        return message(block=block, deltas=(delta,), end="tool_use", usage={"output_tokens": 3})
    wanted = [
        {"index": place, "id": f"c{place}", "function": {"name": name, "arguments": given}}
        for place, (name, given) in enumerate(calls)
    ]
    if wanted:
        return (
            chunk({"role": "assistant", "content": None, "tool_calls": wanted})
            + chunk({}, "tool_calls")
            + DONE
        )
    return chunk({"content": text}) + chunk({}, "stop") + DONE
