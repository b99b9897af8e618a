"""One answer as it is put together from an upstream's frames, by the rules that hold for every vendor. Pure.

Counts are whole numbers in a sane range, or estimated. The ways to end well are a list; an ending that is not on it is a
failure or is named in a note, never `stop`. Thinking and text are kept apart whichever way they are marked.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from secrets import token_hex
from typing import Any, cast

import msgspec
from msgspec import Struct

from backend.providers import base
from backend.providers.http import Upstream
from backend.providers.streams.framing import Malformed
from backend.providers.streams.text import SurrogateJoiner, ThinkingTags
from backend.schema.content import MAX_TOP_LOGPROBS, TokenLogprob, read_arguments
from backend.schema.frames import FinishReason, Usage
from backend.wire import encodable

MAX_TOKENS = 10**9
"""More than any turn can have; a larger count is no count."""
MAX_NOTES = 8
NEVER = -9999.0
"""The log probability that stands for less than can be said; infinity has no place in JSON."""
ENDINGS: dict[str, FinishReason] = {
    "stop": "stop", "end_turn": "stop", "stop_sequence": "stop", "eos": "stop", "eos_token": "stop",
    "end_of_text": "stop", "end": "stop", "complete": "stop", "completed": "stop",
    "length": "length", "max_tokens": "length", "max_length": "length", "max_output_tokens": "length",
    "model_length": "length", "model_context_window_exceeded": "length", "pause_turn": "length",
    "content_filter": "content_filter", "content_filtered": "content_filter", "safety": "content_filter",
    "recitation": "content_filter", "blocklist": "content_filter", "prohibited_content": "content_filter",
    "spii": "content_filter", "sensitive": "content_filter", "error_toxic": "content_filter",
    "guardrail_intervened": "content_filter",
    "tool_calls": "tool_calls", "tool_use": "tool_calls", "tool_call": "tool_calls", "function_call": "tool_calls",
    "refusal": "refusal",
}  # fmt: skip
"""What vendors call an ending, in small letters, and what it is."""
FAILURES = {
    "load": "the model was only loaded: ask again",
    "unload": "the model was only unloaded: ask again",
    **dict.fromkeys(
        ("error", "failed", "aborted", "abort", "cancelled", "canceled", "user_cancel", "network_error", "timeout",
         "engine_error", "insufficient_system_resource", "malformed_function_call"),
        "ask again",
    ),
}  # fmt: skip
"""Endings that are none, and what to do."""
NOTES = {
    "model_context_window_exceeded": "the model's context is full: the answer is cut",
    "pause_turn": "the model paused: the answer is cut",
    "content_filter": "the upstream's content filter cut the answer",
    "refusal": "the model declined to answer",
}
"""What the operator should read, by the vendor's word or by what it is."""
THINKING_PARTS = ("thinking", "reasoning", "reasoning_text", "summary_text", "thought")
TEXT_PARTS = ("text", "output_text")
_WORD_CHARS = 60
_DEPTH = 6


def count(value: object, most: int = MAX_TOKENS) -> int | None:
    """Return a count; `None` for a value that is not one: negative, fractional, not finite, above `most`, not a number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        return None
    return int(value) if value == int(value) else None


class Counts(Struct):
    """What an upstream counted, as it came; `None` where it says nothing. `inside`: the prompt holds what was cached."""

    prompt: object = None
    output: object = None
    cached: object = None
    written: object = None
    thought: object = None
    inside: bool = True

    def with_later(self, later: Counts) -> Counts:
        """Return these counts with those that came later; where they say nothing, the earlier ones stand."""
        return Counts(
            *(
                old if new is None else new
                for old, new in zip(
                    msgspec.structs.astuple(self), msgspec.structs.astuple(later), strict=True
                )
            )
        )

    def usage(self, pieces: int) -> Usage:
        """Return the usage; `pieces` of text and thinking stand for output tokens that were not counted."""
        prompt, output, cached, written, thought = map(
            count, (self.prompt, self.output, self.cached, self.written, self.thought)
        )
        said = (self.prompt, self.output, self.cached, self.written, self.thought)
        wrong = any(
            value is not None and number is None
            for value, number in zip(said, (prompt, output, cached, written, thought), strict=True)
        )
        fresh, cached, written, thought = prompt or 0, cached or 0, written or 0, thought or 0
        if self.inside:
            fresh -= cached if cached <= fresh else 0  # relays report the prompt without its cached part
        else:
            fresh += written
        total = pieces if output is None else output
        if thought > total:
            total += thought  # relays report the output without its thinking
        uncounted = output is None and pieces > 0
        return Usage(fresh, total, cached, thought, wrong or uncounted, min(written, fresh))


class _Call:
    """A tool call that grows. It is handed on once its name is known; what came of it before is held."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.id = self.name = self._held = ""
        self.said_id = ""
        """Its id as the upstream says it; two calls may have the same."""
        self.given: object = None
        """Arguments that came with its beginning: they count where none come behind."""
        self._written: list[str] = []
        self._begun = False
        self._joiner = SurrogateJoiner()

    def add(self, name: object, arguments: object) -> Iterator[base.StreamItem]:
        text = arguments if isinstance(arguments, str) else ""
        if arguments is not None and not isinstance(arguments, str):
            text = _written(arguments)
        self._held += self._joiner.feed(text)
        self._written.append(text)
        if isinstance(name, str) and not self._begun:
            self.name += encodable(name)
        if not self.name or (self._begun and not self._held):
            return
        held, self._held = self._held, ""
        begun, self._begun = self._begun, True
        self.id = self.id or f"call_{token_hex(8)}"
        yield (
            base.ToolPiece(self.index, arguments=held)
            if begun
            else base.ToolPiece(self.index, self.id, self.name, held)
        )

    @property
    def whole(self) -> bool:
        """Whether what was written is a JSON object: nothing more of it can come."""
        text = "".join(self._written).strip()
        if not (self._begun and text.startswith("{") and text.endswith("}")):
            return False
        try:
            read_arguments(text)
        except ValueError:
            return False
        return True

    def is_said_by(self, arguments: object) -> bool:
        """Return whether arguments are those that were written already."""
        text = arguments if isinstance(arguments, str) else _written(arguments)
        return text.strip() == "".join(self._written).strip()

    def end(self) -> Iterator[base.StreamItem]:
        """Yield the arguments that came with its beginning, where none came behind."""
        given, self.given = self.given, None
        if given and not any(self._written):
            yield from self.add(None, given)

    def rest(self) -> Iterator[base.StreamItem]:
        yield from self.end()
        if (rest := self._joiner.rest()) and self._begun:
            yield base.ToolPiece(self.index, arguments=rest)


def _written(value: object) -> str:
    """Return a value as the JSON text a model would have written."""
    try:
        return msgspec.json.encode(value).decode()
    except UnicodeEncodeError:
        return encodable(json.dumps(value, ensure_ascii=False))


def _tokens(value: object, *, alternatives: bool = True) -> list[TokenLogprob]:
    rows = cast(list[object], value) if isinstance(value, list) else []
    return [token for row in rows if (token := _token(row, alternatives)) is not None]


def _token(value: object, alternatives: bool) -> TokenLogprob | None:
    """Return a row as the chat protocols of OpenAI and Ollama have it; a probability of zero is OpenAI's -9999.

    Alternatives have none of their own, however deep an upstream nests them.
    """
    if not isinstance(value, dict):
        return None
    row = cast(dict[str, Any], value)
    token, number, data = row.get("token"), row.get("logprob"), row.get("bytes")
    if not isinstance(token, str) or isinstance(number, bool) or not isinstance(number, int | float):
        return None
    logprob = NEVER if math.isnan(number) else min(0.0, max(NEVER, float(number)))
    try:
        octets = list(bytes(cast(list[int], data))) if isinstance(data, list) else None
    except (TypeError, ValueError):
        octets = None
    return TokenLogprob(
        encodable(token),
        logprob,
        octets,
        _tokens(row.get("top_logprobs"), alternatives=False)[:MAX_TOP_LOGPROBS] if alternatives else [],
    )


class Answer:
    """One answer. A vendor's reader says what each frame holds; the methods yield the items to hand on.

    `offered`: tools were, so calls for them are handed on; otherwise a note says what the model asked for. `ended` is
    set once the upstream said how the answer ended, `over` once it says that nothing will follow.
    """

    def __init__(self, upstream: Upstream, offered: bool = False) -> None:
        self.upstream, self._offered = upstream, offered
        self.counts = Counts()
        self.notes: list[str] = []
        self.ended = self.over = self.went_on = False
        """How far it is; `went_on` says that more came behind an ending, so that the upstream's endings mean little."""
        self.pieces = 0
        """Frames that brought text or thinking."""
        self._word: str | None = None
        self._explanation = ""
        self._refused = False
        self.stop = ""
        """The stop text that ended the answer."""
        self._tools: list[str] = []
        self._calls: list[_Call] = []
        self._latest: dict[object, _Call] = {}
        self._signature = ""
        self._unsigned = False
        """Whether thinking came since the last signature."""
        self.told: set[str] = set()
        """Which texts have come, where the upstream says each once more at its end."""
        self._tags = ThinkingTags()
        self._text, self._thought = SurrogateJoiner(), SurrogateJoiner()
        self._said: list[str] = []

    def content(self, value: object, *, depth: int = 0) -> Iterator[base.StreamItem]:
        """Take text: plain, or a list of parts of which some may be thinking or a refusal.

        Raises:
            Malformed: It is neither.
        """
        if value is None or value == "":
            return
        if isinstance(value, str):
            for thinking, piece in self._tags.feed(value):
                if not thinking and "</think>" in piece and not self._tags.separated:
                    self.note(
                        "what stands before </think> may be thinking: the server does not mark its beginning"
                    )
                yield from self._thinking(piece) if thinking else self._shown(piece)
        elif isinstance(value, list) and depth < _DEPTH:
            for part in cast(list[object], value):
                yield from self.content(part, depth=depth + 1)
        elif isinstance(value, dict):
            part = cast(dict[str, Any], value)
            kind = part.get("type", "text")
            if kind in TEXT_PARTS:
                inner = part.get("text") or part.get("content") or part.get("value")
                yield from self.content(inner, depth=depth + 1)
            elif kind in THINKING_PARTS:
                yield from self.thinking(part)
            elif kind == "refusal":
                yield from self.refusal(part.get("refusal"))
            else:
                self.note(f"the upstream sent a part of type {_word(kind)} that is not shown")
        else:
            raise Malformed(f"text was expected, not {_word(cast(object, value))}")

    def message(self, value: object) -> Iterator[base.StreamItem]:
        """Take the text of a whole message: what of it did not come in pieces before."""
        said = "".join(self._said)
        if isinstance(value, str) and said:
            if value.startswith(said):
                value = value[len(said) :]
            elif value.strip().endswith(said.strip()):  # all of it again, trimmed or with its thinking
                return
        yield from self.content(value)

    def thinking(self, value: object) -> Iterator[base.StreamItem]:
        """Take thinking, in whichever structure it comes; what holds no text is nothing."""
        yield from self._thinking(_words(value))

    def refusal(self, value: object) -> Iterator[base.StreamItem]:
        """Take the words with which the model declines: they are shown, and the ending says so."""
        if value:
            self._refused = True
            yield from self._shown(_words(value))

    def logprobs(self, value: object) -> Iterator[base.StreamItem]:
        """Take the log probabilities of the text that comes next, a row a token; malformed rows are left out."""
        if tokens := _tokens(value):
            yield base.Logprobs(tokens)

    def tool(
        self, key: object, name: object, arguments: object = None, call_id: object = None
    ) -> Iterator[base.StreamItem]:
        """Take the beginning of a tool call or more of it; `key` is what the upstream tells calls apart by.

        A new id under a known key is a new call: some servers number all of theirs 0. So is a name behind arguments that are
        whole: others give no ids, or one for all. Each call gets an id of its own: results belong to calls by them. A call
        that is said once more, whole, is none.
        """
        if not self._offered:
            if isinstance(name, str) and name and name not in self._tools:
                self._tools.append(name[:_WORD_CHARS])
            return
        call_id = encodable(call_id) if isinstance(call_id, str) else ""
        if isinstance(key, list | dict):  # no place at all; nothing else of a JSON object cannot be a key
            key = None
        call, named = self._latest.get(key), isinstance(name, str) and bool(name)
        if call is None and call_id and not named:  # more of one that stood under another key
            call = next((one for one in self._calls if one.said_id == call_id), None)
        more_whole = call is not None and named and bool(arguments) and call.whole
        if (
            more_whole
            and call is not None
            and call_id
            and call.said_id == call_id
            and call.is_said_by(arguments)
        ):
            return
        if call is None or (call_id and call.said_id and call.said_id != call_id) or more_whole:
            call = self._latest[key] = _Call(len(self._calls))
            self._calls.append(call)
        call.said_id = call.said_id or call_id
        if not call.id and call_id:
            taken = any(one.id == call_id for one in self._calls)
            call.id = f"{call_id}_{call.index}" if taken else call_id
        self._more()
        yield from call.add(name, arguments)

    def knows(self, key: object) -> bool:
        """Return whether a call has begun that the upstream tells apart by `key`."""
        return not isinstance(key, list | dict) and key in self._latest

    def tool_given(self, key: object, arguments: object) -> None:
        """Take the arguments that stand in the beginning of a call; they count if none come behind."""
        if isinstance(arguments, dict | str) and self.knows(key) and (call := self._latest[key]):
            call.given = arguments

    def tool_ended(self, key: object) -> Iterator[base.StreamItem]:
        """Take it that no more of a call will come."""
        if self.knows(key):
            yield from self._latest[key].end()

    @property
    def asked_for_tools(self) -> bool:
        return bool(self._calls)

    @property
    def empty(self) -> bool:
        """Whether neither text nor a call for a tool has come."""
        return not (self._said or self._calls or self._tools)

    def sign(self, piece: object) -> None:
        """Take a piece of the signature of the thinking that is coming."""
        if isinstance(piece, str):
            self._signature += piece

    def signed(self) -> Iterator[base.StreamItem]:
        """Yield the signature of a block of thinking that ended."""
        signature, self._signature = self._signature, ""
        if signature:
            yield base.Signature(encodable(signature))

    def signed_as(self, signature: object, name: object) -> Iterator[base.StreamItem]:
        """Take the signature of the thinking since the last one, with the vendor's name for it; without text it is hidden."""
        if isinstance(signature, str) and signature:
            named = encodable(name) if isinstance(name, str) else ""
            yield base.Signature(encodable(signature), named, redacted=not self._unsigned)
        self._unsigned = False

    def redacted(self, data: object) -> Iterator[base.StreamItem]:
        """Take thinking that is not shown."""
        if isinstance(data, str) and data:
            yield base.Signature(data, redacted=True)

    def end(self, word: object, explanation: object = None) -> None:
        """Take how the answer ended, in the upstream's word, and why where it says; `None` is no word."""
        self.ended = True
        if word is not None:
            self._word = word if isinstance(word, str) else _word(word)
        if isinstance(explanation, str):
            self._explanation = explanation

    def note(self, text: str) -> None:
        if text not in self.notes and len(self.notes) < MAX_NOTES:
            self.notes.append(text)

    def completed(self, unread: str = "") -> Iterator[base.StreamItem]:
        """Yield what was held back, then how the answer ended. `unread` is what came last and brought nothing.

        Raises:
            ProviderFault: The upstream never said how it ended, or said that it failed.
        """
        for thinking, piece in self._tags.rest():
            yield from self._thinking(piece) if thinking else self._shown(piece)
        if rest := self._text.rest():
            yield base.Text(rest)
        yield from self.signed()
        for call in self._calls:
            yield from call.rest()
        who, word = self.upstream.who, self._plain_word
        if not self.ended:
            raise base.ProviderFault(
                f"{who} ended the stream without saying that the answer is complete: ask again",
                evidence=self.upstream.evidence(unread),
            )
        if word in FAILURES:
            raise base.ProviderFault(f"{who} ended the answer with {word!r}: {FAILURES[word]}")
        yield base.Completed(self._finish(word), self.counts.usage(self.pieces), self.notes, self.stop)

    def _finish(self, word: str) -> FinishReason:
        """Return what an ending is, and note what the operator should know of it."""
        finish = ENDINGS.get(word, "other")
        if finish == "stop" and self._refused:
            finish = "refusal"
        if self._tools:
            finish = "tool_calls" if finish == "stop" else finish
            self.note(f"the model asked for a tool it was not given: {', '.join(self._tools)}")
        elif self._calls:
            finish = "tool_calls" if finish in ("stop", "other") else finish
            if any(not call.name for call in self._calls):
                self.note("the model asked for a tool without a name: that call is left out")
        elif finish == "tool_calls":
            self.note("the model asked for a tool it was not given")
        if finish == "stop" and self.empty:
            self.note(f"the model sent no text{', only thinking' if self.pieces else ''}: ask again")
        if finish == "other":
            said = (
                f"with {_word(self._word)}, which is no ending that is known"
                if word
                else "without saying why"
            )
            self.note(f"{self.upstream.who} ended the answer {said}: it may be cut")
        if words := NOTES.get(word) or NOTES.get(finish):
            self.note(f"{words}: {self.upstream.quoted(self._explanation)}" if self._explanation else words)
        return finish

    @property
    def _plain_word(self) -> str:
        return (self._word or "").strip().lower().removeprefix("finish_reason_")

    def _more(self) -> None:
        """Take it that a frame brought something. Behind an ending that nobody knows it says that this was none."""
        self.pieces += 1
        if self.ended:
            self.went_on = True
            word = self._plain_word
            self.ended = word in ENDINGS or word in FAILURES

    def _shown(self, text: str) -> Iterator[base.StreamItem]:
        if text:
            self._more()
        if text := self._text.feed(text):
            self._said.append(text)
            yield base.Text(text)

    def _thinking(self, text: str) -> Iterator[base.StreamItem]:
        if text:
            self._more()
        if text := self._thought.feed(text):
            self._unsigned = True
            yield base.Reasoning(text)


def _words(value: object, depth: int = 0) -> str:
    """Return the text in a value of any structure: itself, its parts, or the field that holds it."""
    if isinstance(value, str):
        return value
    if depth >= _DEPTH:
        return ""
    if isinstance(value, list):
        return "".join(_words(part, depth + 1) for part in cast(list[object], value))
    if isinstance(value, dict):
        part = cast(dict[str, object], value)
        found = (
            _words(part.get(name), depth + 1)
            for name in ("text", "thinking", "content", "summary", "reasoning")
        )
        return next((text for text in found if text), "")
    return ""


def _word(value: object) -> str:
    """Return a foreign value as it may stand in a note: short, on one line."""
    return repr(value)[:_WORD_CHARS]
