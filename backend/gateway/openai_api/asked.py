"""What a chat completion asks for, read from its body. Pure: knows no platform and no transport.

System and developer messages become the turn's instruction: a specialist keeps its own persona. What would change the
kind of answer (tools, several choices) is refused by name; mere hints for sampling are not used.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from backend.orchestration.action import InvalidRequest, explain
from backend.schema.errors import TektonError
from backend.schema.frames import ChatMessage

MAX_MODEL_CHARS = 4_000
MAX_STOPS, MAX_STOP_CHARS = 4, 200
SYSTEM = ("system", "developer")
REFUSED = {
    "tools": "tools are not passed on to specialists",
    "functions": "functions are not passed on to specialists",
    "logprobs": "log probabilities are not available",
    "audio": "only text is answered",
}
"""Parameters that are refused when set, and why."""


class Part(Struct):
    type: str
    text: str = ""


class Message(Struct):
    role: str
    content: str | list[Part] | None = None


class StreamOptions(Struct):
    include_usage: bool = False


StopText = Annotated[str, Meta(min_length=1, max_length=MAX_STOP_CHARS)]


class CompletionBody(Struct):
    """The body of a chat completion: what we read of it."""

    model: Annotated[str, Meta(min_length=1, max_length=MAX_MODEL_CHARS)]
    messages: list[Message]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1)] | None = None
    n: int | None = None
    stop: StopText | list[StopText] | None = None


class Asked(Struct):
    """A chat completion as we understand it. `history` are the messages before the prompt, oldest first."""

    model: str
    prompt: str
    history: list[ChatMessage]
    instruction: str
    stream: bool
    include_usage: bool
    temperature: float | None
    max_tokens: int | None
    stops: list[str]

    def as_one_text(self) -> str:
        """Return the prompt for those who take one text: what was said before stands in front, attributed."""
        parts = [self.instruction] if self.instruction else []
        if self.history:
            lines = [f"{'Person' if m.role == 'user' else 'Assistant'}: {m.content}" for m in self.history]
            parts.append("Conversation so far:\n" + "\n".join(lines))
        return "\n\n".join([*parts, self.prompt])


def read_asked(values: dict[str, Any]) -> Asked:
    """Read the body of a chat completion.

    Raises:
        TektonError: `invalid_request`; `detail.param` names the parameter.
    """
    for name, why in REFUSED.items():
        if values.get(name):
            raise refused(name, f"{name}: {why}; leave it out")
    try:
        body = msgspec.convert(values, CompletionBody)
    except msgspec.ValidationError as error:
        text = explain("chat.completions", str(error))
        raise refused(_param_in(str(error)), text) from error
    if body.n not in (None, 1):
        raise refused("n", "n: one choice is answered; leave n out, or ask the model `team` for many answers")
    kind = (
        (values.get("response_format") or {"type": "text"})
        if "response_format" in values
        else {"type": "text"}
    )
    if not isinstance(kind, dict) or kind.get("type") != "text":
        raise refused("response_format", "response_format: only text is answered; leave it out")
    stops = [body.stop] if isinstance(body.stop, str) else body.stop or []
    if len(stops) > MAX_STOPS:
        raise refused("stop", f"stop: at most {MAX_STOPS} texts")
    instruction, messages = _conversation(body.messages)
    return Asked(
        body.model.strip(),
        messages[-1].content,
        messages[:-1],
        instruction,
        bool(body.stream),
        bool(body.stream_options and body.stream_options.include_usage),
        body.temperature,
        body.max_completion_tokens or body.max_tokens,
        stops,
    )


def refused(param: str, text: str) -> TektonError:
    return InvalidRequest(text, detail={"param": param} if param else None)


def _conversation(given: list[Message]) -> tuple[str, list[ChatMessage]]:
    """Return the instruction and the messages, the last being the prompt."""
    instruction: list[str] = []
    messages: list[ChatMessage] = []
    for number, message in enumerate(given):
        text = _text(message, f"messages[{number}]")
        if message.role in SYSTEM:
            instruction.append(text)
        elif message.role == "user":
            messages.append(ChatMessage("user", text))
        elif message.role == "assistant":
            messages.append(ChatMessage("assistant", text))
        else:
            known = "system, developer, user, assistant"
            raise refused(
                "messages", f"messages[{number}].role: expected one of {known}, found {message.role[:40]!r}"
            )
    if not messages or messages[-1].role != "user":
        raise refused("messages", "messages: the last message must be the user's")
    if not messages[-1].content.strip():
        raise refused("messages", "messages: the last message is empty; type something to ask")
    return "\n\n".join(filter(None, instruction)), [m for m in messages[:-1] if m.content] + messages[-1:]


def _text(message: Message, where: str) -> str:
    if not isinstance(message.content, list):
        return message.content or ""
    for part in message.content:
        if part.type != "text":
            raise refused(
                "messages", f"{where}.content: only parts of type text are read, found {part.type[:40]!r}"
            )
    return "\n".join(part.text for part in message.content)


def _param_in(text: str) -> str:
    """Return the parameter a decoder's message speaks of."""
    if "missing required field" in text:
        return text.partition("`")[2].partition("`")[0]
    path = text.partition(" - at `$.")[2].strip("`")
    return path.partition("[")[0].partition(".")[0]
