"""A chat or a generation as it is asked for in Ollama's words. Pure.

Tool calls have no ids in this dialect: results belong to the calls before them by name, then in order.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from backend.gateway.completions.asked import (
    MAX_STOP_CHARS,
    Asked,
    ModelName,
    call_of,
    conversation,
    image_of,
    picture,
    plain_or_rich,
    read_body,
    refused,
    wrong_at,
)
from backend.gateway.completions.parameters import Parameters, check_tools
from backend.schema.content import (
    MAX_TOP_LOGPROBS,
    AnswerOptions,
    ChatMessage,
    Effort,
    Part,
    ResponseFormat,
    TextPart,
    ToolCall,
    ToolResult,
    ToolSpec,
)
from backend.schema.tools import CallRules

MAX_STOPS = 16
# clients of Ollama put it behind every name without a tag
LATEST = ":latest"
MAGIC = {"iVBOR": "image/png", "/9j/": "image/jpeg", "R0lGO": "image/gif", "UklGR": "image/webp"}
"""What the base64 of a picture begins with, and its type: the dialect does not say it."""


class CalledFunction(Struct):
    name: str
    arguments: dict[str, Any] = {}


class Call(Struct):
    function: CalledFunction


class Message(Struct):
    role: str
    content: str | None = None
    images: list[str] | None = None
    tool_calls: list[Call] | None = None
    tool_name: str | None = None


class Function(Struct):
    name: Annotated[str, Meta(min_length=1, max_length=128)]
    description: str | None = None
    parameters: dict[str, Any] | None = None


class Tool(Struct):
    function: Function
    type: str | None = None


class Options(Struct):
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    num_predict: Annotated[int, Meta(le=2**31 - 1)] | None = None
    stop: str | list[str] | None = None


class _Common(Struct, kw_only=True):
    model: ModelName
    stream: bool | None = None
    format: str | dict[str, Any] | None = None
    options: Options | None = None
    think: bool | str | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    rules: CallRules | None = None


class ChatBody(_Common, kw_only=True):
    """The body of a chat: what we read of it. It is streamed unless `stream` is false."""

    messages: list[Message]
    tools: Annotated[list[Tool], Meta(max_length=512)] | None = None


class GenerateBody(_Common, kw_only=True):
    """The body of a generation: what we read of it. It is streamed unless `stream` is false."""

    prompt: str = ""
    system: str | None = None
    images: list[str] | None = None


class ShowBody(Struct):
    """The body of a question for a model."""

    model: str = ""
    name: str = ""


class EmbedBody(Struct):
    """The body of a request for vectors."""

    model: str
    input: str | list[str]


UNUSED_OPTIONS = {
    "embedding_only", "f16_kv", "frequency_penalty", "logits_all", "low_vram", "main_gpu", "min_p", "mirostat",
    "mirostat_eta", "mirostat_tau", "num_batch", "num_ctx", "num_gpu", "num_gqa", "num_keep", "num_thread", "numa",
    "penalize_newline", "presence_penalty", "repeat_last_n", "repeat_penalty", "rope_frequency_base",
    "rope_frequency_scale", "tfs_z", "top_k", "typical_p", "use_mlock", "use_mmap", "vocab_only",
}  # fmt: skip
INSIDE = {"options": Parameters("options", Options, unused=UNUSED_OPTIONS)}
CHAT = Parameters("chat", ChatBody, noted={"keep_alive"}, inside=INSIDE)
GENERATE = Parameters(
    "generate",
    GenerateBody,
    noted={"keep_alive"},
    refuse={
        "context": "conversations are not kept here; use /api/chat with all messages",
        "raw": "the model behind a specialist has its own template; name the model as apollo:raw to leave out the persona",
        "suffix": "text is not filled in; ask for it in words",
        "template": "the model behind a specialist has its own template",
        **dict.fromkeys(("width", "height", "steps"), "only text is answered"),
    },
    inside=INSIDE,
)
SHOWN = Parameters("show", ShowBody, noted={"verbose"})
EMBEDDED = Parameters(
    "embed",
    EmbedBody,
    noted={"keep_alive"},
    unused={"options", "truncate"},
    refuse={"dimensions": "vectors come as the model makes them"},
)


def read_chat(values: dict[str, Any]) -> Asked:
    """Read the body of a chat.

    Raises:
        InvalidRequest: With the parameter.
    """
    unused = CHAT.check(values)
    body = read_body(values, ChatBody, CHAT.name)
    check_tools(values.get("tools"), Function.__struct_fields__)
    tools = [
        ToolSpec(tool.function.name, tool.function.description or "", tool.function.parameters or {})
        for tool in body.tools or ()
    ]
    return _asked(body, unused, _messages(body.messages), tools)


def read_generate(values: dict[str, Any]) -> Asked:
    """Read the body of a generation.

    Raises:
        InvalidRequest: With the parameter.
    """
    unused = GENERATE.check(values)
    body = read_body(values, GenerateBody, GENERATE.name)
    system = [ChatMessage("system", body.system)] if body.system else []
    asked = plain_or_rich("user", [TextPart(body.prompt), *_images(body.images, "")])
    return _asked(body, unused, [*system, asked], [])


def model_name(model: str) -> str:
    """Return a model's name without what Ollama's clients put behind it."""
    return model.strip().removesuffix(LATEST)


def _asked(
    body: ChatBody | GenerateBody, unused: list[str], messages: list[ChatMessage], tools: list[ToolSpec]
) -> Asked:
    options = body.options or Options()
    stops = [options.stop] if isinstance(options.stop, str) else options.stop or []
    if len(stops) > MAX_STOPS or any(not 0 < len(stop) <= MAX_STOP_CHARS for stop in stops):
        text = f"options.stop: at most {MAX_STOPS} texts of 1 to {MAX_STOP_CHARS} characters"
        raise refused("options", text)
    # -1 and -2 mean without limit there, and 0 has no use
    limit = options.num_predict if options.num_predict and options.num_predict > 0 else None
    return Asked(
        model=model_name(body.model),
        talk=conversation(messages),
        # Ollama streams by default, the other vendors do not
        stream=body.stream is not False,
        temperature=options.temperature,
        max_tokens=limit,
        unused=unused,
        rules=body.rules,
        options=AnswerOptions(
            tools=tools,
            format=_format(body.format),
            effort=_effort(body.think),
            stops=stops,
            seed=options.seed,
            top_p=options.top_p,
            logprobs=(body.top_logprobs or 0) if body.logprobs or body.top_logprobs else None,
        ),
    )


def _format(wanted: str | dict[str, Any] | None) -> ResponseFormat | None:
    if isinstance(wanted, dict):
        return ResponseFormat("schema", schema=wanted)
    if wanted in (None, ""):
        return None
    if wanted != "json":
        raise refused("format", f"format: expected json or a JSON schema, found {wanted!r:.40}")
    return ResponseFormat("json")


def _effort(think: bool | str | None) -> Effort | None:
    if think is None:
        return None
    if isinstance(think, bool):
        return "medium" if think else "none"
    try:
        return msgspec.convert(think, Effort)
    except msgspec.ValidationError as error:
        text = f"expected true, false, low, medium or high, found {think!r:.40}"
        raise wrong_at("think", text) from error


def _messages(given: list[Message]) -> list[ChatMessage]:
    found: list[ChatMessage] = []
    open_calls: list[ToolCall] = []
    number = 0
    for place, message in enumerate(given):
        where = f"messages[{place}]"
        match message.role:
            case "system":
                found.append(ChatMessage("system", message.content or ""))
            case "user" | "system" | "tool" if message.content is None and not message.images:
                raise wrong_at(where, "its content is missing")
            case "user":
                images = _images(message.images, f"{where}.")
                found.append(plain_or_rich("user", [*_text(message), *images]))
            case "assistant":
                calls: list[ToolCall] = []
                for call in message.tool_calls or ():
                    arguments = msgspec.json.encode(call.function.arguments).decode()
                    calls.append(call_of(f"call_{number}", call.function.name, arguments, where))
                    number += 1
                open_calls = calls or open_calls
                found.append(plain_or_rich("assistant", [*_text(message), *calls]))
            case "tool":
                result = ToolResult(_call_id(open_calls, message.tool_name or ""), message.content or "")
                result.name = message.tool_name or ""
                found.append(ChatMessage("user", "", [result]))
            case _:
                known = "system, user, assistant, tool"
                raise wrong_at(f"{where}.role", f"expected one of {known}, found {message.role[:40]!r}")
    return found


def _call_id(open_calls: list[ToolCall], name: str) -> str:
    """Return the id of the call a result belongs to, and close it."""
    call = next((one for one in open_calls if one.name == name), open_calls[0] if open_calls else None)
    if call is None:
        raise refused("messages", f"messages: the result of {name!r:.60} answers no call before it")
    open_calls.remove(call)
    return call.id


def _text(message: Message) -> list[Part]:
    return [TextPart(message.content)] if message.content else []


def _images(images: list[str] | None, where: str) -> list[Part]:
    found: list[Part] = []
    for place, data in enumerate(images or ()):
        at = f"{where}images[{place}]"
        if data.startswith("data:"):
            found.append(image_of(data, at))
            continue
        # an unknown picture is refused by the model, which says it better than we could
        kind = next((kind for start, kind in MAGIC.items() if data.startswith(start)), "image/png")
        found.append(picture(kind, data, at))
    return found
