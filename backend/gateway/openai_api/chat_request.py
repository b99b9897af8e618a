"""A chat completion as it is asked for. Pure: knows no platform and no transport.

What would change the kind of answer and cannot be given is refused by name; hints that are not passed on are named in
the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from backend.gateway.completions.asked import (
    Asked,
    ModelName,
    StopText,
    call_of,
    conversation,
    file_of,
    given,
    image_of,
    plain_or_rich,
    read_body,
    refused,
    result_of,
    wrong_at,
)
from backend.gateway.completions.parameters import Parameters, check_tools
from backend.gateway.completions.serve import MAX_CHOICES
from backend.schema.content import (
    MAX_TOP_LOGPROBS,
    AnswerOptions,
    ChatMessage,
    Effort,
    Part,
    ReasoningPart,
    RefusalPart,
    ResponseFormat,
    TextPart,
    ToolChoice,
    ToolSpec,
    text_of,
)
from backend.schema.tools import CallRules

MAX_STOPS = 4
CAPS, UNCAPPED = ("max_tokens", "max_completion_tokens"), -1
"""Caps on an answer, and what servers on one's own machine take for none."""
MANY_UNUSED = frozenset({"temperature", "max_tokens", "max_completion_tokens"})
"""What a pipeline takes by its stages alone, as in `apollo[temperature=0.2] | athena`."""


class ImageUrl(Struct):
    url: str
    detail: str = ""


class FileData(Struct):
    file_data: str = ""
    filename: str = ""
    file_id: str = ""


class ContentPart(Struct):
    type: str
    text: str = ""
    refusal: str = ""
    image_url: ImageUrl | str | None = None
    file: FileData | None = None


class CalledFunction(Struct):
    name: str = ""
    arguments: str | None = None


class Call(Struct):
    id: str
    function: CalledFunction


class Message(Struct):
    role: str
    content: str | list[ContentPart] | UnsetType | None = UNSET
    tool_calls: list[Call] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None


class Function(Struct):
    name: Annotated[str, Meta(min_length=1, max_length=128)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Struct):
    type: str = "function"
    function: Function | None = None


class JsonSchema(Struct):
    name: str = ""
    schema: dict[str, Any] = {}
    strict: bool | None = None


class Format(Struct):
    type: str
    json_schema: JsonSchema | None = None


class StreamOptions(Struct):
    include_usage: bool | None = None


class NamedFunction(Struct):
    name: str


class NamedTool(Struct):
    type: str = "function"
    function: NamedFunction | None = None


class AllowedTools(Struct):
    mode: Literal["auto", "required"]
    tools: list[NamedTool]


class NamedChoice(Struct):
    type: str = "function"
    function: NamedFunction | None = None
    allowed_tools: AllowedTools | None = None


class CompletionBody(Struct):
    """The body of a chat completion: what we read of it."""

    model: ModelName
    messages: list[Message]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    n: Annotated[int, Meta(ge=1, le=MAX_CHOICES)] | None = None
    stop: StopText | Annotated[list[StopText], Meta(max_length=MAX_STOPS)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    tools: Annotated[list[Tool], Meta(max_length=512)] | None = None
    tool_choice: str | NamedChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: Format | None = None
    reasoning_effort: Effort | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    rules: CallRules | None = None


FORMAT = Parameters(
    "chat.completions response_format",
    Format,
    inside={
        "json_schema": Parameters(
            "chat.completions response_format.json_schema", JsonSchema, noted={"description"}
        )
    },
)
PARAMETERS = Parameters(
    "chat.completions",
    CompletionBody,
    noted={"user", "metadata", "safety_identifier", "modalities"},
    unused={
        "logit_bias", "presence_penalty", "frequency_penalty", "verbosity", "service_tier", "store", "prompt_cache_key",
        "prompt_cache_retention", "prompt_cache_options", "moderation",
        # of servers and libraries that speak the same dialect
        "top_k", "top_a", "min_p", "typical_p", "repetition_penalty", "repeat_penalty", "min_tokens", "ignore_eos",
        "stop_token_ids", "skip_special_tokens", "chat_template", "chat_template_kwargs", "add_generation_prompt",
        "enable_thinking", "thinking", "thinking_budget", "reasoning", "include_reasoning", "cache_prompt",
        "timings_per_token", "provider", "transforms", "route", "models", "usage", "session_id", "keep_alive",
    },
    refuse={
        "functions": "this older form is not read; use tools",
        "function_call": "this older form is not read; use tool_choice",
        "audio": "only text is answered",
        "web_search_options": "specialists do not search the web",
        "prediction": "predicted output is not passed on",
        "grammar": "answers are held to a JSON schema by response_format",
        "guided_json": "answers are held to a JSON schema by response_format",
        "guided_regex": "answers are held to a JSON schema by response_format",
        "guided_choice": "answers are held to a JSON schema by response_format",
        "guided_grammar": "answers are held to a JSON schema by response_format",
        "plugins": "specialists have tools of their own",
    },
    inside={
        "stream_options": Parameters(
            "chat.completions stream_options", StreamOptions, noted={"include_obfuscation"}
        ),
        "response_format": FORMAT,
    },
)  # fmt: skip


def read_asked(values: dict[str, Any]) -> Asked:
    """Read the body of a chat completion.

    Raises:
        TektonError: `invalid_request`; `detail.param` names the parameter.
    """
    unused = PARAMETERS.check(values)
    values = {name: value for name, value in values.items() if not (name in CAPS and value == UNCAPPED)}
    if values.get("modalities") not in (None, ["text"]):
        raise refused("modalities", "modalities: only text is answered; leave it out")
    body = read_body(values, CompletionBody, PARAMETERS.name)
    if body.top_logprobs and not body.logprobs:
        raise refused("top_logprobs", "top_logprobs: goes with logprobs; set that to true as well")
    check_tools(values.get("tools"), Function.__struct_fields__)
    tools = _tools(body, unused)
    choice, tools = _choice(body, tools)
    if "|" in body.model or body.model.startswith("{"):
        unused += given(values, MANY_UNUSED)
        body.temperature = None
    return Asked(
        model=body.model.strip(),
        talk=conversation(_messages(body.messages)),
        stream=bool(body.stream),
        include_usage=bool(body.stream_options and body.stream_options.include_usage),
        temperature=body.temperature,
        max_tokens=body.max_completion_tokens or body.max_tokens,
        choices=body.n or 1,
        unused=unused,
        rules=body.rules,
        options=AnswerOptions(
            tools=tools,
            choice=choice,
            format=format_of(body.response_format),
            effort=body.reasoning_effort,
            stops=[body.stop] if isinstance(body.stop, str) else body.stop or [],
            seed=body.seed,
            top_p=body.top_p,
            logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        ),
    )


def format_of(wanted: Format | None) -> ResponseFormat | None:
    """Return the format of an answer; `None` for plain text."""
    match wanted:
        case None | Format(type="text"):
            return None
        case Format(type="json_object"):
            return ResponseFormat("json")
        case Format(type="json_schema", json_schema=JsonSchema(name=name, schema=schema, strict=strict)):
            # OpenAI holds an answer to its schema unless it is told not to
            return ResponseFormat("schema", name, schema, strict is not False)
        case _:
            known = "text, json_object or json_schema with its json_schema"
            raise refused("response_format", f"response_format.type: expected {known}")


def _tools(body: CompletionBody, unused: list[str]) -> list[ToolSpec]:
    tools: list[ToolSpec] = []
    for number, tool in enumerate(body.tools or ()):
        if tool.type != "function":
            unused.append(f"tools[{number}]")
        elif tool.function is None:
            raise wrong_at(f"tools[{number}]", "a function needs a name")
        else:
            own = tool.function
            tools.append(ToolSpec(own.name, own.description or "", own.parameters or {}, own.strict))
    return tools


def _choice(body: CompletionBody, tools: list[ToolSpec]) -> tuple[ToolChoice | None, list[ToolSpec]]:
    """Return the choice among tools, and those that are left to choose from."""
    wanted, parallel = body.tool_choice, body.parallel_tool_calls
    match wanted:
        case NamedChoice(type="allowed_tools", allowed_tools=AllowedTools(mode=mode, tools=named)):
            names = [one.function.name for one in named if one.function is not None]
            return choice_of(mode, False, parallel, tools), allowed(tools, names)
        case NamedChoice(type="function", function=NamedFunction(name=name)):
            return choice_of(name, True, parallel, tools), tools
        case NamedChoice():
            known = "a function with its name, or allowed_tools with mode and tools"
            raise refused("tool_choice", f"tool_choice: expected {known}")
        case _:
            return choice_of(wanted, False, parallel, tools), tools


def allowed(tools: list[ToolSpec], names: Sequence[str]) -> list[ToolSpec]:
    """Return the tools of these names.

    Raises:
        InvalidRequest: One of them is no tool, or there are none.
    """
    known = {tool.name for tool in tools}
    if unknown := [name for name in names if name not in known]:
        raise refused("tool_choice", f"tool_choice: there is no tool {unknown[0]!r:.60}")
    if not names:
        raise refused("tool_choice", "tool_choice: allowed_tools names no tool: name one, or say none")
    return [tool for tool in tools if tool.name in names]


def choice_of(
    wanted: str | None, named: bool, parallel: bool | None, tools: list[ToolSpec]
) -> ToolChoice | None:
    """Return the choice among tools in OpenAI's words: a mode, or the name of a tool.

    Raises:
        InvalidRequest: There is no such mode or tool.
    """
    if not tools:
        if named or wanted == "required":
            raise refused("tool_choice", "tool_choice: there are no tools to choose from: send tools")
        return None
    names = [tool.name for tool in tools]
    if named:
        if wanted not in names:
            raise refused("tool_choice", f"tool_choice: there is no tool {wanted!r:.60}")
        return ToolChoice("named", wanted or "", parallel is not False)
    if wanted not in (None, "auto", "none", "required"):
        raise wrong_at("tool_choice", f"expected auto, none, required or a function, found {wanted!r:.40}")
    if wanted is None and parallel is not False:
        return None
    return msgspec.convert({"mode": wanted or "auto", "parallel": parallel is not False}, ToolChoice)


def _messages(given: list[Message]) -> list[ChatMessage]:
    return [_message(message, f"messages[{number}]") for number, message in enumerate(given)]


def _message(message: Message, where: str) -> ChatMessage:
    match message.role:
        # OpenAI calls it developer since its reasoning models; older clients say system
        case "system" | "developer":
            return ChatMessage("system", text_of(_parts(message, where)))
        case "user":
            return plain_or_rich("user", _parts(message, where))
        case "assistant":
            parts: list[Part] = []
            if message.reasoning_content:
                parts.append(ReasoningPart(message.reasoning_content))
            parts += _parts(message, where)
            if message.refusal:
                parts.append(RefusalPart(message.refusal))
            for call in message.tool_calls or ():
                parts.append(call_of(call.id, call.function.name, call.function.arguments, where))
            # thinking is of use to a model between its tool calls only; behind a finished answer vendors ignore or refuse it
            if not message.tool_calls:
                parts = [part for part in parts if not isinstance(part, ReasoningPart)]
            return plain_or_rich("assistant", parts)
        case "tool":
            return ChatMessage("user", "", [result_of(message.tool_call_id, _parts(message, where), where)])
        case _:
            known = "system, developer, user, assistant, tool"
            raise wrong_at(f"{where}.role", f"expected one of {known}, found {message.role[:40]!r}")


def _parts(message: Message, where: str) -> list[Part]:
    if message.content is UNSET:
        if message.role != "assistant":
            raise wrong_at(where, "its content is missing")
        return []
    if not isinstance(message.content, list):
        return [TextPart(message.content)] if message.content else []
    return [_part(part, f"{where}.content[{n}]") for n, part in enumerate(message.content)]


def _part(part: ContentPart, where: str) -> Part:
    match part:
        case ContentPart(type="text" | "input_text" | "output_text"):
            return TextPart(part.text)
        case ContentPart(type="refusal"):
            return RefusalPart(part.refusal)
        case ContentPart(type="image_url", image_url=ImageUrl(url=url, detail=detail)):
            return image_of(url, where, detail)
        case ContentPart(type="image_url", image_url=str(url)):
            return image_of(url, where)
        case ContentPart(type="file", file=FileData(file_data=data, filename=name)) if data:
            return file_of(data, where, name)
        case _:
            known = "text, image_url and file with file_data"
            raise wrong_at(where, f"only parts of type {known} are read, found {part.type[:40]!r}")
