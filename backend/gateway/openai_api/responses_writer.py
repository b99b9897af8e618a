"""A response as it is answered, whole or streamed, in the words of OpenAI's Responses API. Pure.

Every event carries a running number. Calls that are written side by side are items side by side.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from backend.gateway.completions.answer import Answered, Finish, Piece
from backend.gateway.completions.serve import SSE, Head, token_value
from backend.gateway.openai_api.chat_writer import DONE
from backend.gateway.openai_api.responses_request import REDACTED, ResponseBody
from backend.gateway.responses import status_of
from backend.gateway.sse import COMMENT, MARK, data_of, named_event
from backend.schema.content import Part, ReasoningPart, TextPart, ToolCall
from backend.schema.errors import TektonError
from backend.schema.frames import StreamSignature, StreamToolCall, Usage

FAILURES = {"context_overflow": "context_length_exceeded", "provider_rate_limited": "server_is_overloaded"}
"""Codes by which clients know what to do; lasting failures are `invalid_prompt`, which nobody tries again."""
_NUMBER = 987654321987654321
"""Stands for the running number as `MARK` does for the text; no frame of ours holds it."""


def usage_value(usage: Usage) -> dict[str, Any]:
    prompt = usage.input_tokens + usage.cached_tokens
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": prompt + usage.output_tokens,
    }


class _Open:
    """An item that grows. `index` is its place in the output, `part` what the protocol calls the place of a text in it."""

    def __init__(self, index: int, item: dict[str, Any], part: str) -> None:
        self.index, self.item = index, item
        self.place = {"item_id": item["id"], "output_index": index, **({part: 0} if part else {})}
        self.text: list[str] = []
        self.likely: list[dict[str, Any]] = []
        self.around: list[bytes] = []


class ResponseWriter:
    """See `Writer`. `metadata` is echoed as it came."""

    media, alive = SSE, COMMENT

    def __init__(self, head: Head, body: ResponseBody, metadata: object = None) -> None:
        self._head, self._body = head, body
        self._metadata = cast(dict[str, Any], metadata) if isinstance(metadata, dict) else {}
        self._number = 0
        self._output: list[dict[str, Any]] = []
        self._message: _Open | None = None
        self._thinking: _Open | None = None
        self._calls: dict[int, _Open] = {}
        self._likely: list[dict[str, Any]] = []
        """Log probabilities whose text has not come yet."""

    def whole(self, answers: list[Answered]) -> dict[str, Any]:
        [answered] = answers
        for part in answered.as_parts:
            if (item := self._item_of(part)) is not None:
                self._output.append(item)
                if isinstance(part, TextPart):
                    item["content"][0]["logprobs"] = [token_value(token) for token in answered.logprobs]
        return self._response(*_status(answered.finish), answered.finish)

    def begin(self) -> bytes:
        response = self._response("in_progress", None, None)
        created = self._event("response.created", response=response)
        return created + self._event("response.in_progress", response=response)

    def piece(self, piece: Piece) -> bytes:
        if piece.text:
            begin = b""
            if self._message is None:
                begin = self._end_thinking() + self._begin_message()
            assert self._message is not None
            self._message.text.append(piece.text)
            if not self._likely:
                return begin + self._delta(self._message, piece.text)
            likely, self._likely = self._likely, []
            self._message.likely += likely
            place, kind = self._message.place, "response.output_text.delta"
            return begin + self._event(kind, **place, logprobs=likely, delta=piece.text)
        if piece.logprobs:
            self._likely += [token_value(token) for token in piece.logprobs]
            return b""
        if piece.reasoning:
            begin = self._begin_thinking() if self._thinking is None else b""
            assert self._thinking is not None
            self._thinking.text.append(piece.reasoning)
            return begin + self._delta(self._thinking, piece.reasoning)
        if piece.signature is not None:
            return self._sign(piece.signature)
        return self._call(piece.call) if piece.call is not None else b""

    def end(self, finish: Finish) -> bytes:
        out = self._end_thinking() + self._end_message()
        for call in self._calls.values():
            # clients parse the arguments of a call without any, and an empty text is no JSON
            call.item["arguments"] = "".join(call.text) or "{}"
            call.item["status"] = "completed"
            said = {"arguments": call.item["arguments"], "name": call.item["name"]}
            out += self._event("response.function_call_arguments.done", **call.place, **said)
            out += self._done(call)
        return out

    def close(self, finishes: list[Finish]) -> bytes:
        [finish] = finishes
        status, details = _status(finish)
        response = self._response(status, details, finish)
        return self._event(f"response.{status}", response=response) + DONE

    def failed(self, error: TektonError) -> bytes:
        """Return the failure in the three ways in which clients look for one."""
        lasting = status_of(error) in (400, 401, 403, 404, 413)
        code = FAILURES.get(error.code, "invalid_prompt" if lasting else "server_error")
        said = {"code": code, "message": error.message, "param": error.detail.get("param")}
        flat = self._event("error", **said, error={"type": "server_error", **said})
        response = self._response("failed", None, None, {"code": code, "message": error.message})
        return flat + self._event("response.failed", response=response) + DONE

    # items

    def _begin_message(self) -> bytes:
        self._message = opened = self._add(self._said("in_progress", []), "content_index")
        opened.around = self._around("response.output_text.delta", {**opened.place, "logprobs": []})
        part = _output_text("")
        return self._added(opened) + self._event("response.content_part.added", **opened.place, part=part)

    def _end_message(self) -> bytes:
        if self._message is None:
            return b""
        opened, self._message = self._message, None
        text = "".join(opened.text)
        part = _output_text(text, opened.likely)
        opened.item |= {"status": "completed", "content": [part]}
        return (
            self._event("response.output_text.done", **opened.place, text=text, logprobs=opened.likely)
            + self._event("response.content_part.done", **opened.place, part=part)
            + self._done(opened)
        )

    def _begin_thinking(self) -> bytes:
        self._thinking = opened = self._add(self._thought("", "", redacted=False), "summary_index")
        opened.around = self._around("response.reasoning_summary_text.delta", opened.place)
        part = {"type": "summary_text", "text": ""}
        added = self._added(opened)
        return added + self._event("response.reasoning_summary_part.added", **opened.place, part=part)

    def _end_thinking(self, signature: str = "") -> bytes:
        if self._thinking is None:
            return b""
        opened, self._thinking = self._thinking, None
        text = "".join(opened.text)
        part = {"type": "summary_text", "text": text}
        opened.item["summary"] = [part]
        if signature:
            opened.item["encrypted_content"] = signature
        return (
            self._event("response.reasoning_summary_text.done", **opened.place, text=text)
            + self._event("response.reasoning_summary_part.done", **opened.place, part=part)
            + self._done(opened)
        )

    def _sign(self, piece: StreamSignature) -> bytes:
        if not piece.redacted:
            begin = self._begin_thinking() if self._thinking is None else b""
            return begin + self._end_thinking(piece.signature)
        ended = self._end_thinking()
        opened = self._add(self._thought("", piece.signature, redacted=True))
        return ended + self._added(opened) + self._done(opened)

    def _call(self, piece: StreamToolCall) -> bytes:
        begin = b""
        if piece.index not in self._calls:
            # an item is closed before the next opens: some clients keep one open item only
            begin = self._end_thinking() + self._end_message()
            opened = self._add(self._called(piece.id, piece.name, "", "in_progress"))
            self._calls[piece.index] = opened
            opened.around = self._around("response.function_call_arguments.delta", opened.place)
            begin += self._added(opened)
        call = self._calls[piece.index]
        if not piece.arguments:
            return begin
        call.text.append(piece.arguments)
        return begin + self._delta(call, piece.arguments)

    def _add(self, item: dict[str, Any], part: str = "") -> _Open:
        self._output.append(item)
        return _Open(len(self._output) - 1, item, part)

    def _added(self, opened: _Open) -> bytes:
        return self._event("response.output_item.added", output_index=opened.index, item=opened.item)

    def _done(self, opened: _Open) -> bytes:
        return self._event("response.output_item.done", output_index=opened.index, item=opened.item)

    def _item_of(self, part: Part) -> dict[str, Any] | None:
        match part:
            case TextPart():
                return self._said("completed", [_output_text(part.text)])
            case ReasoningPart():
                return self._thought(part.text, part.signature, redacted=part.redacted)
            case ToolCall():
                return self._called(part.id, part.name, part.arguments, "completed")
            case _:
                return None

    def _said(self, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": f"msg_{self._head.name}_{len(self._output)}", "type": "message", "status": status,
            "role": "assistant", "content": content,
        }  # fmt: skip

    def _thought(self, text: str, signature: str, *, redacted: bool) -> dict[str, Any]:
        return {
            "id": f"{REDACTED if redacted else 'rs_'}{self._head.name}_{len(self._output)}",
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": text}] if text else [],
            **({"encrypted_content": signature} if signature else {}),
        }

    def _called(self, call_id: str, name: str, arguments: str, status: str) -> dict[str, Any]:
        return {
            "id": f"fc_{self._head.name}_{len(self._output)}", "type": "function_call", "call_id": call_id,
            "name": name, "arguments": arguments, "status": status,
        }  # fmt: skip

    # events

    def _event(self, kind: str, **values: Any) -> bytes:
        number, self._number = self._number, self._number + 1
        return named_event(kind, {"type": kind, "sequence_number": number, **values})

    def _around(self, kind: str, values: dict[str, Any]) -> list[bytes]:
        """Return what stands before the number, between number and text, and behind the text of a delta."""
        data = data_of({"type": kind, "sequence_number": _NUMBER, **values, "delta": MARK})
        before, rest = data.split(str(_NUMBER).encode(), 1)
        between, after = rest.split(data_of(MARK), 1)
        return [b"event: %b\ndata: %b" % (kind.encode(), before), between, after + b"\n\n"]

    def _delta(self, opened: _Open, text: str) -> bytes:
        number, self._number = self._number, self._number + 1
        before, between, after = opened.around
        return b"%b%d%b%b%b" % (before, number, between, data_of(text), after)

    def _response(
        self, status: str, details: object, finish: Finish | None, error: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        asked, body, head = self._head.asked, self._body, self._head
        text: dict[str, Any] = {"format": {"type": "text"}}
        if body.text is not None and body.text.format is not None:
            text = {"format": msgspec.to_builtins(body.text.format)}
        tools = [
            {
                "type": "function", "name": tool.name, "description": tool.description or None,
                "parameters": tool.parameters or None, "strict": tool.strict,
            }
            for tool in asked.options.tools
        ]  # fmt: skip
        return {
            "id": f"resp_{head.name}",
            "object": "response",
            "created_at": int(head.created),
            "completed_at": int(head.created) if status == "completed" else None,
            "status": status,
            "incomplete_details": details,
            "model": head.model,
            "previous_response_id": body.previous_response_id,
            "instructions": body.instructions,
            "output": list(self._output),
            "error": error,
            "tools": tools,
            "tool_choice": msgspec.to_builtins(body.tool_choice) if body.tool_choice else "auto",
            "truncation": "disabled",
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "text": text,
            "top_p": 1 if body.top_p is None else body.top_p,
            "presence_penalty": 0,
            "frequency_penalty": 0,
            "top_logprobs": body.top_logprobs or 0,
            "temperature": 1 if body.temperature is None else body.temperature,
            "reasoning": {"effort": asked.options.effort, "summary": None},
            "usage": usage_value(finish.usage) if finish else None,
            "max_output_tokens": body.max_output_tokens,
            "max_tool_calls": None,
            "store": asked.kept is not None,
            "background": False,
            "service_tier": "default",
            "metadata": self._metadata,
            "safety_identifier": None,
            "prompt_cache_key": None,
            **(head.warnings(finish) if finish else {}),
        }


def _output_text(text: str, likely: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": likely or []}


def _status(finish: Finish) -> tuple[str, dict[str, str] | None]:
    match finish.reason:
        case "length" | "other":
            return "incomplete", {"reason": "max_output_tokens"}
        case "content_filter":
            return "incomplete", {"reason": "content_filter"}
        case _:
            return "completed", None
