"""What a caller of any dialect asks for: a conversation of his own, and how the answer is wished for. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from backend.schema.content import (
    MAX_TOOL_NAME,
    AnswerOptions,
    ChatMessage,
    FilePart,
    ImagePart,
    Part,
    TextPart,
    ToolCall,
    ToolResult,
    ToolSpec,
    is_base64,
    joined,
    text_of,
    wrong_with,
)
from backend.schema.errors import InvalidRequest, TektonError
from backend.schema.params import explain
from backend.schema.tools import CallRules

MAX_MODEL_CHARS = 4_000
MAX_STOPS, MAX_STOP_CHARS = 16, 200
RAW = ":raw"
"""Behind a model's name: without persona, facts and memory, for programs that bring a prompt of their own."""

ModelName = Annotated[str, Meta(min_length=1, max_length=MAX_MODEL_CHARS)]
StopText = Annotated[str, Meta(min_length=1, max_length=MAX_STOP_CHARS)]
B = TypeVar("B", bound=Struct)


class Talk(Struct):
    """A conversation taken apart. `history` comes before the prompt, oldest first; `prefill` begins the answer."""

    prompt: ChatMessage
    history: list[ChatMessage]
    system: str = ""
    prefill: str = ""


class Asked(Struct, kw_only=True):
    """A request as we understand it. `unused` are the parameters that change nothing here; the answer names them.

    `choices` answers are wished for. `kept` is stored with the question, for whoever goes on from it. `rules` make those
    over the specialists' own tools narrower.
    """

    model: str
    talk: Talk
    stream: bool = False
    temperature: float | None = None
    max_tokens: int | None = None
    options: AnswerOptions
    choices: int = 1
    include_usage: bool = False
    unused: list[str] = []
    rules: CallRules | None = None
    kept: dict[str, Any] | None = None

    @property
    def target(self) -> str:
        """The model's name without what stands behind it."""
        return self.model.removesuffix(RAW).strip()

    @property
    def raw(self) -> bool:
        return self.model.endswith(RAW)

    def as_one_text(self) -> str:
        """Return the prompt for those who take one text: what was said before stands in front, attributed."""
        parts = [self.talk.system] if self.talk.system else []
        if self.talk.history:
            lines = [
                f"{'Person' if m.role == 'user' else 'Assistant'}: {m.content}" for m in self.talk.history
            ]
            parts.append("Conversation so far:\n" + "\n".join(lines))
        return "\n\n".join([*parts, self.talk.prompt.content])


def conversation(messages: Sequence[ChatMessage], system: str = "", where: str = "messages") -> Talk:
    """Take a conversation apart: system messages in front, the prompt at the end, what was said between.

    Results of tools that stand together at the end are one prompt, with the text behind them. An answer at the end is how
    the next one is to begin. A system message in the middle stays there; one behind the prompt comes right before it.

    Raises:
        InvalidRequest: There is nothing to answer, or a tool call without its result.
    """
    left, systems, prefill = list(messages), [system] if system else [], ""
    while left and left[0].role == "system":
        systems.append(left.pop(0).content)
    behind = len(left)
    while behind and left[behind - 1].role == "system":
        behind -= 1
    late, left = left[behind:], left[:behind]
    if left and left[-1].role == "assistant":
        last = left.pop()
        if any(isinstance(part, ToolCall) for part in last.parts):
            raise refused(where, f"{where}: the last message asks for tools: send their results behind it")
        prefill = last.content
    prompt = left.pop() if left and left[-1].role == "user" else None
    while prompt is not None and left and left[-1].role == "user" and _has_results(left[-1]):
        prompt = joined(left.pop(), prompt)
    # Some programs put all they have to say into a system message.
    if prompt is None and systems and not left:
        prompt = ChatMessage("user", systems.pop())
    if prompt is None:
        raise refused(where, f"{where}: the last message must be the user's")
    if not prompt.content.strip() and not any(not isinstance(part, TextPart) for part in prompt.parts):
        raise refused(where, f"{where}: the last message is empty; type something to ask")
    place = len(left)
    if late and _has_results(prompt):  # nothing stands between a call and its result
        place = max((n for n, message in enumerate(left) if message.role == "assistant"), default=place)
    left[place:place] = late
    history = [message for message in left if message.content or message.parts]
    return Talk(prompt, history, "\n\n".join(filter(None, systems)), prefill)


def refused(param: str, text: str) -> TektonError:
    """Return the refusal of a parameter."""
    return InvalidRequest(text, detail={"param": param} if param else None)


def wrong_at(where: str, text: str) -> TektonError:
    """Return the refusal of a value inside a parameter; `where` is its path, such as `messages[2].content[0]`."""
    return refused(where.partition("[")[0], f"{where}: {text}")


def read_body(values: dict[str, Any], body: type[B], name: str) -> B:
    """Read a body that may hold more than we know.

    Raises:
        InvalidRequest: A value is of the wrong kind; `detail.param` names it.
    """
    try:
        return msgspec.convert(values, body)
    except msgspec.ValidationError as error:
        raise refused(_param_in(str(error)), explain(name, str(error), values, body)) from error


def given(values: dict[str, Any], names: frozenset[str]) -> list[str]:
    """Return which of some parameters were given, in order."""
    return sorted(name for name in names & values.keys() if values[name] not in (None, [], {}))


def image_of(address: str, where: str, detail: str = "") -> ImagePart:
    """Return a picture by its address, which may hold the bytes themselves.

    Raises:
        InvalidRequest: The address is neither a web address nor base64.
    """
    kind, data = _bytes_of(address)
    if data:
        return picture(kind, data, where, detail)
    if not address.startswith(("https://", "http://")):
        raise wrong_at(where, "a picture needs an http(s) address or data:image/…;base64,…")
    return ImagePart(url=address, detail=detail)


def picture(kind: str, data: str, where: str, detail: str = "") -> ImagePart:
    """Return a picture of its type and its bytes in base64.

    Raises:
        InvalidRequest: The type is no picture's, or the bytes are no base64.
    """
    found = ImagePart(kind, "".join(data.split()), detail=detail)
    if wrong := wrong_with(found):
        raise wrong_at(where, wrong)
    return found


def checked_base64(data: str, where: str) -> str:
    """Return base64 as it is sent on: line breaks within are left out.

    Raises:
        InvalidRequest: It is none, which a model's server would say in its own way, or not at all.
    """
    whole = "".join(data.split())
    if not is_base64(whole):
        raise wrong_at(where, "the bytes are not base64")
    return whole


def file_of(address: str, where: str, name: str = "") -> FilePart:
    """Return a file by its address or its bytes, as `image_of`."""
    kind, data = _bytes_of(address)
    if data:
        return FilePart(name, kind, checked_base64(data, where))
    if not address.startswith(("https://", "http://")):
        raise wrong_at(where, "a file needs an http(s) address or data:…;base64,…")
    return FilePart(name, url=address)


def call_of(call_id: str, name: str, arguments: str | None, where: str) -> ToolCall:
    """Return a call of a tool.

    Raises:
        InvalidRequest: It has no id, or no name: no model could tell which result is its.
    """
    if not call_id or not name:
        raise wrong_at(where, "a call of a tool needs its id and its name")
    return ToolCall(call_id, name, arguments or "{}")


def result_of(call_id: str | None, said: list[Part], where: str, *, is_error: bool = False) -> ToolResult:
    """Return a tool's result from what it said.

    Raises:
        InvalidRequest: It does not say whose it is, or holds what is none of a result's.
    """
    if not call_id:
        raise wrong_at(where, "a result needs the id of the call it belongs to")
    held = [part for part in said if isinstance(part, TextPart | ImagePart | FilePart)]
    if len(held) < len(said):
        raise wrong_at(where, "a result holds text, pictures and files, nothing else")
    rich = held if any(not isinstance(part, TextPart) for part in held) else []
    return ToolResult(call_id, text_of(held), is_error=is_error, parts=rich)


def spec_of(
    number: int, name: str, about: str | None, schema: dict[str, Any] | None, strict: bool | None
) -> ToolSpec:
    """Return a tool that a model may call; raise `InvalidRequest` when it has no name that every vendor takes."""
    if not 0 < len(name) <= MAX_TOOL_NAME:
        raise wrong_at(f"tools[{number}].name", f"expected 1 to {MAX_TOOL_NAME} characters")
    return ToolSpec(name, about or "", schema or {}, strict)


def plain_or_rich(role: Literal["user", "assistant"], parts: list[Part]) -> ChatMessage:
    """Return a message of parts; one of text alone is plain."""
    plain = all(isinstance(part, TextPart) for part in parts)
    return ChatMessage(role, text_of(parts), [] if plain else parts)


def _bytes_of(address: str) -> tuple[str, str]:
    # a data URL (RFC 2397); parameters such as charset may stand between type and `;base64`
    head, comma, data = address.partition(",")
    if not (comma and head.startswith("data:") and head.endswith(";base64")):
        return "", ""
    return head.removeprefix("data:").removesuffix(";base64").partition(";")[0], data


def _has_results(message: ChatMessage) -> bool:
    return any(isinstance(part, ToolResult) for part in message.parts)


def _param_in(text: str) -> str:
    """Return the parameter a decoder's message speaks of."""
    if "missing required field" in text and " - at `$." not in text:
        return text.partition("`")[2].partition("`")[0]
    path = text.partition(" - at `$.")[2].strip("`")
    return path.partition("[")[0].partition(".")[0]
