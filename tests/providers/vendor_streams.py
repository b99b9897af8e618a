"""Streams of vendors as bytes: what their servers, relays and look-alikes were seen to send. Pure.

Each is small and of our own making; the shapes are those of published protocols and of bug reports.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

DONE = b"data: [DONE]\n\n"


def event(data: object, name: str = "") -> bytes:
    """Return a server-sent event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data)}\n\n".encode()


def chunk(delta: object = None, finish: object = None, **more: object) -> bytes:
    """Return a chunk of the chat completions protocol; `more` stands beside the choices."""
    choice: dict[str, object] = {"index": 0, "finish_reason": finish}
    if delta is not None:
        choice["delta"] = delta
    return event(
        {
            "id": "c1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "m",
            "choices": [choice],
            **more,
        }
    )


def usage(prompt: object, output: object, **details: object) -> bytes:
    """Return the chunk that has counts alone."""
    counts = {"prompt_tokens": prompt, "completion_tokens": output, **details}
    return event({"id": "c1", "object": "chat.completion.chunk", "choices": [], "usage": counts})


def text(*pieces: str) -> bytes:
    return b"".join(chunk({"content": piece}) for piece in pieces)


def message(
    *,
    start: object = None,
    block: object = None,
    deltas: tuple[object, ...] = (),
    end: object = None,
    **usage: object,
) -> bytes:
    """Return a whole stream of the Messages protocol: one block, its deltas, how it ends."""
    first = {
        "id": "m1",
        "type": "message",
        "role": "assistant",
        "content": [],
        "model": "c",
        "usage": start or {},
    }
    parts = [
        event({"type": "message_start", "message": first}, "message_start"),
        event(
            {
                "type": "content_block_start",
                "index": 0,
                "content_block": block or {"type": "text", "text": ""},
            }
        ),
        *(event({"type": "content_block_delta", "index": 0, "delta": delta}) for delta in deltas),
        event({"type": "content_block_stop", "index": 0}),
        event({"type": "message_delta", "delta": {"stop_reason": end}, **usage}, "message_delta"),
        event({"type": "message_stop"}, "message_stop"),
    ]
    return b"".join(parts)


def said(piece: str) -> dict[str, str]:
    return {"type": "text_delta", "text": piece}


def line(content: object = "", *, done: bool = False, **more: object) -> bytes:
    """Return a line of Ollama's chat; `message` among `more` adds to the message."""
    inner: Any = more.pop("message", {})
    value = {
        "model": "m",
        "message": {"role": "assistant", "content": content, **inner},
        "done": done,
        **more,
    }
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


LAST = line(done=True, done_reason="stop", prompt_eval_count=5, eval_count=3)


class Good(NamedTuple):
    """A stream that is an answer. `usage` holds input, output, cached tokens and whether they are estimated."""

    vendor: str
    data: bytes
    text: str
    finish: str = "stop"
    thinking: str = ""
    note: str = ""
    usage: tuple[int, int, int, bool] | None = None


class Bad(NamedTuple):
    """A stream that is a failure. `words` stand in its message or evidence; `text` came before."""

    vendor: str
    data: bytes
    code: str
    words: str
    text: str = ""


GOOD = {
    # counts
    "a cached part larger than the prompt": Good(
        "openai", text("ok") + chunk({}, "stop") + usage(5, 3, prompt_tokens_details={"cached_tokens": 50}) + DONE,
        "ok", usage=(5, 3, 50, False),
    ),
    "fractions of tokens": Good(
        "openai", text("ok") + chunk({}, "stop") + usage(5.0, 3.5) + DONE, "ok", usage=(5, 1, 0, True)
    ),
    "more tokens than a store can hold": Good(
        "openai", text("ok") + chunk({}, "stop") + usage(10**19, 2**64) + DONE, "ok", usage=(0, 1, 0, True)
    ),
    "a number of five thousand digits": Good(
        "openai", text("ok") + chunk({}, "stop") + usage(0, 1).replace(b'"completion_tokens": 1', b'"completion_tokens": ' + b"9" * 5000) + DONE,
        "ok", usage=(0, 1, 0, True),
    ),
    "counts that are no numbers": Good(
        "openai", text("ok") + chunk({}, "stop") + usage("5", True) + DONE, "ok", usage=(0, 1, 0, True)
    ),
    "infinite counts": Good(
        "openai", text("ok") + chunk({}, "stop") + usage(float("inf"), float("nan")) + DONE, "ok", usage=(0, 1, 0, True)
    ),
    "thinking that is not in the output's count": Good(
        "openai", text("ok") + chunk({}, "stop") + usage(5, 3, completion_tokens_details={"reasoning_tokens": 40}) + DONE,
        "ok", usage=(5, 43, 0, False),
    ),
    "no counts at all": Good("openai", text("a", "b") + chunk({}, "stop") + DONE, "ab", usage=(0, 2, 0, True)),
    "counts that are a list": Good("openai", text("a") + chunk({}, "stop", usage=[1]) + DONE, "a", usage=(0, 1, 0, True)),
    "counts of DeepSeek's cache": Good(
        "openai", text("a") + chunk({}, "stop") + usage(9, 1, prompt_cache_hit_tokens=4) + DONE, "a", usage=(5, 1, 4, False)
    ),
    "counts where Groq puts them": Good(
        "openai", text("a") + chunk({}, "stop", x_groq={"usage": {"prompt_tokens": 2, "completion_tokens": 1}}) + DONE,
        "a", usage=(2, 1, 0, False),
    ),
    "the prompt's count at the end": Good(
        "anthropic",
        message(start={"input_tokens": 0, "output_tokens": 0}, deltas=(said("x"),), end="end_turn",
                usage={"input_tokens": 99, "output_tokens": 3, "cache_read_input_tokens": 20}),
        "x", usage=(99, 3, 20, False),
    ),
    "an end without counts": Good(
        "anthropic", message(start={"input_tokens": 7, "output_tokens": 1}, deltas=(said("whole "), said("answer")), end="end_turn"),
        "whole answer", usage=(7, 2, 0, True),
    ),
    "fractions of tokens of a message": Good(
        "anthropic",
        message(start={"input_tokens": 7.5}, deltas=(said("x"),), end="end_turn", usage={"output_tokens": 3.5}),
        "x", usage=(0, 1, 0, True),
    ),
    "counts that end in nothing": Good(
        "openai", text("ok") + chunk({}, "stop") + usage(5, 3) + usage(None, None) + DONE, "ok", usage=(5, 3, 0, False)
    ),
    "counts that grow": Good(
        "openai", chunk({"content": "a"}, usage={"prompt_tokens": 5, "completion_tokens": 1}) + chunk({"content": "b"}, "stop", usage={"prompt_tokens": 5, "completion_tokens": 2}) + DONE,
        "ab", usage=(5, 2, 0, False),
    ),
    "counts of a message that come before its end": Good(
        "anthropic",
        message(start={"input_tokens": 5}, deltas=(said("one "), said("two")), end="end_turn", usage={"output_tokens": None}).replace(
            event({"type": "content_block_delta", "index": 0, "delta": said("two")}),
            event({"type": "message_delta", "delta": {"stop_reason": None}, "usage": {"output_tokens": 2}})
            + event({"type": "content_block_delta", "index": 0, "delta": said("two")}),
        ),
        "one two", usage=(5, 2, 0, False),
    ),
    # endings
    "an end on every piece": Good("openai", b"".join(chunk({"content": piece}, "stop") for piece in "abc") + DONE, "abc"),
    "an end nobody knows on every piece but the last": Good(
        "openai", chunk({"content": "a"}, "going") + chunk({"content": "b"}, "going") + chunk({"content": "c"}, "stop") + DONE, "abc"
    ),
    "an end called None until the end": Good("openai", chunk({"content": "a"}, "None") + chunk({}, "stop") + DONE, "a"),
    "nothing at all": Good("openai", chunk({"role": "assistant"}) + chunk({}, "stop") + DONE, "", note="no text"),
    "thinking alone": Good("openai", chunk({"reasoning_content": "hm"}) + chunk({}, "stop") + DONE, "", thinking="hm", note="only thinking"),
    "an end in capitals": Good("openai", text("half") + chunk({}, "MAX_TOKENS") + DONE, "half", "length"),
    "an end in Mistral's word": Good("openai", text("half") + chunk({}, "model_length") + DONE, "half", "length"),
    "an end nobody knows": Good("openai", text("a") + chunk({}, "sunset") + DONE, "a", "other", note="'sunset'"),
    "an end that is no word": Good("openai", text("a") + chunk({}, 7) + DONE, "a", "other", note="'7'"),
    "an end by the filter": Good("openai", text("a") + chunk({}, "content_filter") + DONE, "a", "content_filter", note="filter"),
    "an end by Gemini's filter": Good("openai", text("a") + chunk({}, "SAFETY") + DONE, "a", "content_filter", note="filter"),
    "an empty end until the end": Good("openai", chunk({"content": "a"}, "") + chunk({}, "stop") + DONE, "a"),
    "no reason": Good("anthropic", message(deltas=(said("half"),)), "half", "other", note="without saying why"),
    "a full window": Good(
        "anthropic", message(deltas=(said("half"),), end="model_context_window_exceeded"), "half", "length", note="context is full"
    ),
    "a message that is refused": Good("anthropic", message(end="refusal"), "", "refusal", note="declined"),
    "a stop sequence": Good("anthropic", message(deltas=(said("a"),), end="stop_sequence"), "a"),
    "no reason of an older Ollama": Good("ollama", line("a") + line(done=True), "a"),
    # tools
    "a tool that is asked for": Good(
        "openai",
        chunk({"role": "assistant", "content": None, "tool_calls": [{"index": 0, "id": "t1", "function": {"name": "get_weather", "arguments": ""}}]})
        + chunk({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}) + chunk({}, "tool_calls") + DONE,
        "", "tool_calls", note="get_weather",
    ),
    "a function of the older protocol": Good(
        "openai", chunk({"function_call": {"name": "f", "arguments": "{}"}}) + chunk({}, "function_call") + DONE, "", "tool_calls", note="f"
    ),
    "a tool of a message": Good(
        "anthropic", message(block={"type": "tool_use", "id": "t", "name": "f", "input": {}}, deltas=({"type": "input_json_delta", "partial_json": "{}"},), end="tool_use"),
        "", "tool_calls", note="f",
    ),
    "a tool with arguments as text": Good(
        "ollama", line("", message={"tool_calls": [{"function": {"name": "f", "arguments": "{\"a\":1}"}}]}) + line("ok") + LAST,
        "ok", "tool_calls", note="f",
    ),
    # refusals
    "a refusal": Good(
        "openai", chunk({"content": "", "refusal": None}) + chunk({"refusal": "I can't "}) + chunk({"refusal": "help."}) + chunk({}, "stop") + DONE,
        "I can't help.", "refusal", note="declined",
    ),
    # where text is
    "a message instead of a delta": Good(
        "openai", event({"choices": [{"index": 0, "message": {"role": "assistant", "content": "in message"}, "finish_reason": "stop"}]}) + DONE,
        "in message",
    ),
    "a message that repeats what was streamed": Good(
        "openai", text("all ", "of") + event({"choices": [{"index": 0, "delta": {}, "message": {"content": "all of it"}, "finish_reason": "stop"}]}) + DONE,
        "all of it",
    ),
    "parts": Good(
        "openai",
        chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]})
        + chunk({"content": [{"type": "text", "text": "parts "}]}) + chunk({"content": "tail"}, "stop") + DONE,
        "parts tail", thinking="hm",
    ),
    "a part that cannot be shown": Good(
        "openai", chunk({"content": [{"type": "image_url", "image_url": {"url": "x"}}, "see"]}, "stop") + DONE, "see", note="image_url"
    ),
    "text of the older protocol": Good("openai", event({"choices": [{"text": "old ", "index": 0, "finish_reason": None}]}) + event({"choices": [{"text": "style", "finish_reason": "stop"}]}) + DONE, "old style"),
    "text in the start of a block": Good(
        "anthropic", message(block={"type": "text", "text": "start "}, deltas=(said("then"),), end="end_turn"), "start then"
    ),
    "a response of generate": Good("ollama", b'{"response":"gen","done":false}\n{"response":"","done":true,"done_reason":"stop"}\n', "gen"),
    "another choice beside ours": Good(
        "openai", event({"choices": [{"index": 1, "delta": {"content": "no"}}, {"index": 0, "delta": {"content": "yes"}, "finish_reason": "stop"}]}) + DONE, "yes"
    ),
    "text in the delta and once more beside it": Good(
        "openai",
        event({"choices": [{"index": 0, "text": "Hel", "delta": {"content": "Hel"}}]}) + event({"choices": [{"index": 0, "text": "lo", "delta": {"content": "lo"}}]})
        + event({"choices": [{"index": 0, "text": "<end>", "delta": {"content": ""}, "finish_reason": "eos"}]}) + DONE, "Hello",
    ),
    "a message that repeats it trimmed": Good(
        "openai", text("\nall ", "of it ") + event({"choices": [{"index": 0, "delta": {}, "message": {"content": "all of it"}, "finish_reason": "stop"}]}) + DONE,
        "\nall of it ",
    ),
    "a message that repeats it with its thinking": Good(
        "openai", text("<think>hm</think>", "So.") + event({"choices": [{"index": 0, "message": {"content": "<think>hm</think>So."}, "finish_reason": "stop"}]}) + DONE,
        "So.", thinking="hm",
    ),
    "a message and a response that say the same": Good("ollama", b'{"message":{"content":"x"},"response":"x","done":false}\n' + LAST, "x"),
    # thinking
    "thinking in tags": Good(
        "openai", text("<think>\nsecret</th", "ink>\n\nFinal.") + chunk({}, "stop") + DONE, "Final.", thinking="\nsecret"
    ),
    "thinking in brackets": Good("openai", text(" [THINK]a[/THINK]b") + chunk({}, "stop") + DONE, "b", thinking="a"),
    "thinking whose beginning is not marked": Good(
        "openai", text("hm", "</think>", "So.") + chunk({}, "stop") + DONE, "hm</think>So.", note="</think>"
    ),
    "a tag in the middle is text": Good("openai", text("Use ", "<think>", " here") + chunk({}, "stop") + DONE, "Use <think> here"),
    "what looks like a tag": Good("openai", text("<thi", "s>") + chunk({}, "stop") + DONE, "<this>"),
    "only the beginning of a tag": Good("openai", text("<thi") + chunk({}, "stop") + DONE, "<thi"),
    "thinking that never ends": Good("openai", text("<think>a</thin") + chunk({}, "length") + DONE, "", "length", thinking="a</thin"),
    "thinking of Ollama in tags": Good("ollama", line("<think>a</think>b") + LAST, "b", thinking="a"),
    "thinking of Ollama apart": Good("ollama", line("", message={"thinking": "a"}) + line("b") + LAST, "b", thinking="a"),
    "thinking called reasoning": Good("openai", chunk({"reasoning": "a"}) + text("b") + chunk({}, "stop") + DONE, "b", thinking="a"),
    "thinking said twice": Good(
        "openai", chunk({"reasoning": "a", "reasoning_details": [{"type": "reasoning.text", "text": "a"}]}) + text("b") + chunk({}, "stop") + DONE, "b", thinking="a"
    ),
    "thinking in details alone": Good(
        "openai", chunk({"reasoning_details": [{"type": "reasoning.summary", "summary": "a"}]}) + text("b") + chunk({}, "stop") + DONE, "b", thinking="a"
    ),
    "thinking marked by a flag": Good("openai", chunk({"thought": True, "content": "a"}) + text("b") + chunk({}, "stop") + DONE, "b", thinking="a"),
    "thinking of a message": Good(
        "anthropic", message(block={"type": "thinking", "thinking": "a"}, deltas=({"type": "thinking_delta", "thinking": "b"}, {"type": "signature_delta", "signature": "x"}), end="end_turn"),
        "", thinking="ab", note="only thinking",
    ),
    # lines
    "a line separator in text": Good("ollama", line("a\u2028b\u2029c\x85") + LAST, "a\u2028b\u2029c\x85"),
    "blank lines": Good("ollama", line("a") + b"\n  \n\r\n" + LAST, "a"),
    "fields nobody knows": Good("ollama", line("a", logprobs=[{"token": "x"}], remote_host="y") + LAST, "a"),
    "a last line without its end": Good("ollama", line("a") + LAST.rstrip(), "a"),
    "half characters": Good("openai", b'data: {"choices":[{"delta":{"content":"x\\ud83e"}}]}\n\ndata: {"choices":[{"delta":{"content":"\\udd89y\\ud83e"},"finish_reason":"stop"}]}\n\n' + DONE, "x🦉y\ufffd"),
    "comments, ids and other events": Good(
        "openai", b"\xef\xbb\xbf: PROCESSING\n\nid: 4\nretry: 9\n" + text("a") + event({"type": "ping"}, "ping") + chunk({}, "stop") + DONE, "a"
    ),
    "ends of lines as on Windows": Good("openai", (text("a") + chunk({}, "stop") + DONE).replace(b"\n", b"\r\n"), "a"),
    "ends of lines as on old Macs": Good("openai", (text("a", "b") + chunk({}, "stop") + DONE).replace(b"\n", b"\r"), "ab"),
    "no blank lines": Good("openai", (text("a", "b") + chunk({}, "stop") + DONE).replace(b"\n\n", b"\n"), "ab"),
    "events on one line": Good("openai", (text("a", "b") + chunk({}, "stop") + DONE).replace(b"\n\n", b"") + b"\n\n", "ab"),
    "objects on one line": Good("ollama", line("a").rstrip() + line("b").rstrip() + LAST, "ab"),
    "a mark of byte order before lines": Good("ollama", b"\xef\xbb\xbf" + line("a") + LAST, "a"),
    "a mark of byte order before a document": Good(
        "openai", b'\xef\xbb\xbf{"choices": [{"message": {"content": "whole"}, "finish_reason": "stop"}]}', "whole"
    ),
    "no blank line at the end": Good("openai", text("a") + chunk({}, "stop").rstrip(), "a"),
    "an object without its field": Good("openai", text("a") + b'{"choices":[{"delta":{},"finish_reason":"stop"}]}\n', "a"),
    "noise behind the end": Good("openai", text("a") + chunk({}, "stop") + DONE + b"data: {broken\n\n", "a"),
    "noise between the end and the last word": Good("openai", text("a") + chunk({}, "stop") + b"data: {broken\n\n" + DONE, "a"),
    "an error that is null": Good("openai", chunk({"content": "a"}, "stop", error=None) + DONE, "a"),
    # no streams
    "a completion that was not streamed": Good(
        "openai", b'{\n "object": "chat.completion",\n "choices": [{"message": {"content": "whole"}, "finish_reason": "stop"}],\n "usage": {"prompt_tokens": 2, "completion_tokens": 1}}',
        "whole", usage=(2, 1, 0, False),
    ),
    "a message that was not streamed": Good(
        "anthropic", b'{"type":"message","content":[{"type":"thinking","thinking":"a"},{"type":"text","text":"whole"}],"stop_reason":"end_turn","usage":{"input_tokens":2,"output_tokens":1}}',
        "whole", thinking="a", usage=(2, 1, 0, False),
    ),
    "a chat that was not streamed": Good("ollama", b'{\n"message": {"content": "whole"},\n"done": true\n}', "whole"),
}  # fmt: skip

BAD = {
    "an error as an event": Bad("openai", text("half") + event({"message": "event style", "type": "overloaded_error"}, "error"), "provider_unavailable", "event style", "half"),
    "an error as a line": Bad("openai", b'error: {"code":500,"message":"context shift is disabled","type":"server_error"}\n\n', "provider_unavailable", "context shift is disabled"),
    "an error as text": Bad("openai", text("a") + b"event: error\ndata: out of luck\n\n", "internal", "out of luck", "a"),
    "an error in a chunk": Bad("openai", text("a") + event({"error": {"message": "too hot", "code": 429}}), "provider_rate_limited", "too hot", "a"),
    "an error in a list": Bad("openai", event({"error": [{"message": "in a list"}]}), "internal", "in a list"),
    "an error object of vLLM": Bad("openai", event({"object": "error", "message": "too long", "code": 400, "type": "BadRequestError"}), "internal", "too long"),
    "a prompt that does not fit": Bad("openai", event({"error": {"message": "x", "code": "context_length_exceeded"}}), "context_overflow", "shorten"),
    "a quota that is used up": Bad("openai", event({"error": {"message": "pay", "code": "insufficient_quota"}}), "provider_auth", "payment"),
    "an error of a message": Bad("anthropic", message().split(b"event: message_delta")[0] + event({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}, "error"), "provider_unavailable", "busy"),
    "an error of Ollama": Bad("ollama", line("half") + b'{"error":"llama runner: tensor file not found"}\n', "internal", "tensor file not found", "half"),
    "no end": Bad("openai", text("all of the text") + usage(5, 3) + DONE, "internal", "without saying", "all of the text"),
    "cut off": Bad("openai", text("half"), "internal", "without saying", "half"),
    "a message cut off": Bad("anthropic", message(deltas=(said("half"),)).split(b"event: message_delta")[0], "internal", "without saying", "half"),
    "a chat cut off": Bad("ollama", line("half"), "internal", "without saying", "half"),
    "a failure in words of its own": Bad(
        "openai", event({"choices": None, "base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}) + DONE, "internal", "insufficient balance"
    ),
    "a status written as text": Bad("openai", text("half") + event({"error": {"message": "slow down", "code": "429"}}), "provider_rate_limited", "slow down", "half"),
    "an end that is an error": Bad("openai", text("half") + chunk({}, "error") + DONE, "internal", "'error'", "half"),
    "an end that was aborted": Bad("ollama", line("half") + line(done=True, done_reason="aborted"), "internal", "'aborted'", "half"),
    "a model that was only loaded": Bad("ollama", line(done=True, done_reason="load"), "internal", "only loaded"),
    "no JSON": Bad("openai", text("a") + b"data: {broken\n\n", "internal", "not its format", "a"),
    "other JSON": Bad("openai", text("a") + b'data: [1, "x"]\n\n', "internal", "not its format", "a"),
    "a delta that is text": Bad("openai", text("a") + chunk("b"), "internal", "not its format", "a"),
    "choices that are text": Bad("openai", text("a") + event({"choices": "b"}), "internal", "not its format", "a"),
    "text that is a number": Bad("openai", text("a") + chunk({"content": 5}), "internal", "not its format", "a"),
    "JSON that is too deep": Bad("openai", text("a") + b"data: " + b"[" * 100_000 + b"\n\n", "internal", "not its format", "a"),
    "a page": Bad("openai", b"<html><body>Sign in</body></html>", "internal", "Sign in"),
    "nothing": Bad("openai", b"", "internal", "nothing came"),
    "half an object behind a whole one": Bad("ollama", line("a") + line("b").rstrip() + b'{"message": \n', "internal", "not its format", "a"),
    "plain words": Bad("openai", b"upstream is away\n", "internal", "upstream is away"),
    "plain words to Ollama": Bad("ollama", b"upstream is away\n", "internal", "upstream is away"),
    "a page to Ollama": Bad("ollama", b"<html>Sign in</html>", "internal", "Sign in"),
    "other JSON that is no stream": Bad("openai", b'{"hello": "world"}', "internal", "world"),
    "an error that is no stream": Bad("openai", b'{"error":{"message":"credit exhausted","type":"billing","code":402}}', "provider_auth", "credit exhausted"),
    "an error of LM Studio": Bad("openai", b'{"error":"Unexpected endpoint or method. (POST /chat/completions)"}', "internal", "Unexpected endpoint"),
    "an error in many lines": Bad("ollama", b'{\n  "error": "no such thing"\n}', "internal", "no such thing"),
}  # fmt: skip
