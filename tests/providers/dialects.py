"""What each vendor's server says on the wire, byte for byte as published or recorded. Pure: bytes in, bytes out.

`Dialect` puts an answer into a vendor's words; `Answer` is what is to be said, whoever says it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol


@dataclass
class Answer:
    """What a server is to answer. Tokens as the server counts them; `cached` of `prompt` came from its cache."""

    pieces: list[str] = field(default_factory=lambda: ["Hel", "lo ", "there"])
    thinking: list[str] = field(default_factory=list)
    finish: str = "stop"
    prompt: int = 12
    cached: int = 0
    tokens: int = 3


class Wire(NamedTuple):
    """A stream, an event a part: what comes before the answer, a part for each of its pieces, what comes after."""

    before: list[bytes]
    pieces: list[bytes]
    after: list[bytes]

    @property
    def parts(self) -> list[bytes]:
        return [*self.before, *self.pieces, *self.after]


class Dialect(Protocol):
    """`chat` is the path of the one upstream call of a prompt; `media` the type of its streamed answer."""

    kind: str
    chat: str
    media: str

    def wire(self, answer: Answer) -> Wire:
        """Return the stream; its very last part is the one that ends it well."""
        ...

    def side(self, path: str) -> object | None:
        """Return the answer to what a client asks beside the chat, `None` where the server has no such path."""
        ...

    def refusal(self, status: int, words: str) -> object:
        """Return the body of an error."""
        ...

    def broken_off(self, status: int, words: str) -> bytes:
        """Return the part that says, inside a stream, that it failed."""
        ...


TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}


def sse(data: object, event: str = "") -> bytes:
    head = f"event: {event}\n" if event else ""
    return f"{head}data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


class OpenAIWords:
    kind, chat, media = "openai", "/v1/chat/completions", "text/event-stream"

    def wire(self, answer: Answer) -> Wire:
        before = [self.chunk(delta={"role": "assistant", "content": ""})]
        before += [self.chunk(delta={"reasoning_content": text}) for text in answer.thinking]
        counts = {
            "prompt_tokens": answer.prompt,
            "completion_tokens": answer.tokens,
            "total_tokens": answer.prompt + answer.tokens,
            "prompt_tokens_details": {"cached_tokens": answer.cached},
        }
        last = self.chunk(delta={}, finish=answer.finish)
        last += sse(self._base(choices=[], usage=counts)) + b"data: [DONE]\n\n"
        return Wire(before, [self.chunk(delta={"content": text}) for text in answer.pieces], [last])

    def chunk(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        return sse(self._base(choices=[{"index": 0, "delta": delta, "finish_reason": finish}]))

    def side(self, path: str) -> object | None:
        if path != "/v1/models":
            return None
        return {
            "object": "list",
            "data": [
                {"id": name, "object": "model", "created": 1, "owned_by": "vllm", "max_model_len": 32768}
                for name in ("test-model", "other-model")
            ],
        }

    def refusal(self, status: int, words: str) -> object:
        return {"error": {"message": words, "type": TYPES.get(status, "error"), "param": None, "code": None}}

    def broken_off(self, status: int, words: str) -> bytes:
        return sse({"error": {"message": words, "type": TYPES[status], "code": status}})

    def _base(self, **more: object) -> dict[str, object]:
        return {
            "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "test-model", **more
        }  # fmt: skip


class EmbeddedWords(OpenAIWords):
    """llama.cpp's server: OpenAI's stream with the progress of the prompt before it."""

    kind = "embedded"

    def wire(self, answer: Answer) -> Wire:
        progress = {"total": 100, "cache": 0, "processed": 50, "time_ms": 10}
        delta = {"role": "assistant", "content": None}
        first = self._base(
            choices=[{"index": 0, "delta": delta, "finish_reason": None}], prompt_progress=progress
        )
        before, pieces, after = super().wire(answer)
        return Wire([sse(first), *before], pieces, after)

    def side(self, path: str) -> object | None:
        known: dict[str, object] = {
            "/health": {"status": "ok"},
            "/tokenize": {"tokens": [28120, 665]},
            "/metrics": "llamacpp:requests_processing 4\nllamacpp:requests_deferred 3\n",
        }
        return known.get(path)

    def refusal(self, status: int, words: str) -> object:
        kind = "exceed_context_size_error" if "context" in words else TYPES.get(status, "server_error")
        return {"error": {"code": status, "message": words, "type": kind}}


class AnthropicWords:
    kind, chat, media = "anthropic", "/v1/messages", "text/event-stream"

    def wire(self, answer: Answer) -> Wire:
        fresh = answer.prompt - answer.cached
        counts = {"input_tokens": fresh, "cache_read_input_tokens": answer.cached, "output_tokens": 1}
        message = {
            "id": "msg_1", "type": "message", "role": "assistant", "content": [], "model": "claude-sonnet-5-5",
            "stop_reason": None, "stop_sequence": None, "usage": counts,
        }  # fmt: skip
        before = [self._event("message_start", message=message), self._event("ping")]
        if answer.thinking:
            block = {"type": "thinking", "thinking": "", "signature": ""}
            deltas = [{"type": "thinking_delta", "thinking": text} for text in answer.thinking]
            deltas.append({"type": "signature_delta", "signature": "EqQBCg=="})
            before.append(self._event("content_block_start", index=0, content_block=block))
            before += [self._event("content_block_delta", index=0, delta=delta) for delta in deltas]
            before.append(self._event("content_block_stop", index=0))
        index = 1 if answer.thinking else 0
        block = {"type": "text", "text": ""}
        before.append(self._event("content_block_start", index=index, content_block=block))
        pieces = [
            self._event("content_block_delta", index=index, delta={"type": "text_delta", "text": text})
            for text in answer.pieces
        ]
        reason = {"stop": "end_turn", "length": "max_tokens"}.get(answer.finish, answer.finish)
        last = self._event(
            "message_delta",
            delta={"stop_reason": reason, "stop_sequence": None},
            usage={"output_tokens": answer.tokens},
        )
        stop = self._event("content_block_stop", index=index)
        return Wire(before, pieces, [stop, last + self._event("message_stop")])

    def side(self, path: str) -> object | None:
        if path == "/v1/messages/count_tokens":
            return {"input_tokens": 7}
        if path != "/v1/models":
            return None
        data = [
            {
                "type": "model", "id": name, "display_name": shown, "created_at": "2026-01-01T00:00:00Z",
                "max_input_tokens": 200000,
            }
            for name, shown in (("claude-sonnet-5-5", "Claude Sonnet 5.5"), ("claude-haiku-5-5", "Claude Haiku 5.5"))
        ]  # fmt: skip
        return {"data": data, "has_more": False, "first_id": data[0]["id"], "last_id": data[-1]["id"]}

    def refusal(self, status: int, words: str) -> object:
        error = {"type": TYPES.get(status, "api_error"), "message": words}
        return {"type": "error", "error": error, "request_id": "req_1"}

    def broken_off(self, status: int, words: str) -> bytes:
        return sse(self.refusal(status, words), "error")

    def _event(self, kind: str, **more: object) -> bytes:
        return sse({"type": kind, **more}, kind)


class OllamaWords:
    kind, chat, media = "ollama", "/api/chat", "application/x-ndjson"
    loaded = True
    """Whether the model is in memory when asked."""

    def wire(self, answer: Answer) -> Wire:
        before = [self._line({"content": "", "thinking": text}) for text in answer.thinking]
        pieces = [self._line({"content": text}) for text in answer.pieces]
        counts = {
            "done_reason": answer.finish, "total_duration": 4883583458, "load_duration": 1334875,
            "prompt_eval_count": answer.prompt, "prompt_eval_duration": 342546000,
            "eval_count": answer.tokens, "eval_duration": 4535599000,
        }  # fmt: skip
        return Wire(before, pieces, [self._line({"content": ""}, done=True, **counts)])

    def side(self, path: str) -> object | None:
        model = {
            "name": "test-model:latest", "model": "test-model:latest", "modified_at": "2026-11-04T14:56:49.277302595-07:00",
            "size": 7365960935, "digest": "9f438cb9cd58",
            "details": {"format": "gguf", "family": "llama", "parameter_size": "13B", "quantization_level": "Q4_0"},
        }  # fmt: skip
        running = {**model, "expires_at": "2026-11-04T15:56:49.277302595-07:00", "size_vram": 5137025024}
        known: dict[str, object] = {
            "/api/tags": {"models": [model]},
            "/api/ps": {"models": [running] if self.loaded else []},
            "/api/version": {"version": "0.14.1"},
            "/api/show": {
                "modelfile": "FROM x", "parameters": 'stop "<|eot_id|>"', "template": "{{ .Prompt }}",
                "details": model["details"], "capabilities": ["completion", "thinking"],
                "model_info": {"general.architecture": "llama", "llama.context_length": 131072},
            },
        }  # fmt: skip
        return known.get(path)

    def refusal(self, status: int, words: str) -> object:
        return {"error": words}

    def broken_off(self, status: int, words: str) -> bytes:
        return json.dumps({"error": words}).encode() + b"\n"

    def _line(self, message: dict[str, str], *, done: bool = False, **more: object) -> bytes:
        line = {
            "model": "test-model", "created_at": "2026-11-04T08:52:19.385406455-07:00",
            "message": {"role": "assistant", **message}, "done": done, **more,
        }  # fmt: skip
        return json.dumps(line, ensure_ascii=False).encode() + b"\n"


DIALECTS: list[Dialect] = [OllamaWords(), OpenAIWords(), AnthropicWords(), EmbeddedWords()]
