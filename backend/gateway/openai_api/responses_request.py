"""A response as it is asked for in OpenAI's Responses API. Pure: earlier messages are passed in.

Items and tools we do not know are left out, as the vendor's own are, and named in the answer.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from backend.gateway.completions.asked import (
    Asked,
    ModelName,
    Talk,
    call_of,
    conversation,
    file_of,
    image_of,
    plain_or_rich,
    read_body,
    refused,
    result_of,
    spec_of,
    wrong_at,
)
from backend.gateway.completions.parameters import Parameters, check_tools
from backend.gateway.openai_api.chat_request import allowed, choice_of
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

REDACTED = "rsr_"
"""What the id of an item of thinking begins with whose text is not shown."""
MAX_KEPT_BYTES = 1 << 20
"""Of a conversation that is kept for `previous_response_id`; a longer one is the caller's to send."""


class ItemPart(Struct):
    type: str = "input_text"
    text: str = ""
    refusal: str = ""
    image_url: str | None = None
    detail: str | None = None
    file_data: str | None = None
    file_url: str | None = None
    filename: str | None = None


class Summary(Struct):
    text: str = ""


class Item(Struct):
    """Any item of an input: what belongs to one kind is left alone in the others."""

    type: str = "message"
    role: str = ""
    content: str | list[ItemPart] | UnsetType | None = UNSET
    id: str | None = None
    call_id: str = ""
    name: str = ""
    arguments: str | None = None
    output: str | list[ItemPart] | None = None
    summary: list[Summary] | None = None
    encrypted_content: str | None = None


class Tool(Struct):
    type: str
    name: str = ""
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class NamedChoice(Struct):
    type: str
    name: str = ""
    mode: Literal["auto", "required"] | None = None
    tools: list[Tool] = []


class Format(Struct):
    type: str
    name: str = ""
    schema: dict[str, Any] = {}
    strict: bool | None = None


class TextOptions(Struct):
    format: Format | None = None


class Reasoning(Struct):
    effort: Effort | None = None


class ResponseBody(Struct):
    """The body of a response: what we read of it."""

    model: ModelName
    input: str | list[Any]
    instructions: str | None = None
    stream: bool | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    max_output_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    tools: Annotated[list[Tool], Meta(max_length=512)] | None = None
    tool_choice: str | NamedChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    reasoning: Reasoning | None = None
    previous_response_id: str | None = None
    store: bool | None = None
    background: bool | None = None
    include: list[str] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    rules: CallRules | None = None
    truncation: Literal["auto", "disabled"] | None = None


PARAMETERS = Parameters(
    "responses",
    ResponseBody,
    noted={
        "metadata", "user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options",
        "client_metadata", "service_tier", "stream_options", "access_programs",
    },
    unused={
        "max_tool_calls", "context_management", "moderation", "presence_penalty", "frequency_penalty",
        "top_k", "logit_bias",
    },
    refuse={
        "conversation": "is not kept here; send previous_response_id or all messages",
        "prompt": "prompts are not kept here; send instructions and input",
        "image": "only text is answered",
    },
    inside={
        "text": Parameters(
            "responses text",
            TextOptions,
            unused={"verbosity"},
            inside={"format": Parameters("responses text.format", Format, noted={"description"})},
        ),
        "reasoning": Parameters(
            "responses reasoning", Reasoning, noted={"summary", "generate_summary"}, unused={"context", "mode"}
        ),
    },
)  # fmt: skip
LOGPROBS = "message.output_text.logprobs"
INCLUDED = frozenset({"reasoning.encrypted_content", LOGPROBS})
"""What of `include` is given; the rest of it is of tools only the vendor can run."""


def check_response(values: dict[str, Any]) -> list[str]:
    """Return which parameters of a new response change nothing here.

    Raises:
        InvalidRequest: One is refused or unknown.
    """
    unused = PARAMETERS.check(values)
    check_tools(values.get("tools"), Tool.__struct_fields__)
    if not isinstance(values.get("metadata"), dict | None):
        raise refused("metadata", "metadata: expected an object")
    wanted: object = values.get("include")
    if isinstance(wanted, list):
        unused += [
            f"include[{n}]"
            for n, item in enumerate(cast(list[object], wanted))
            if not isinstance(item, str) or item not in INCLUDED
        ]
    # what does not fit is summarised here, which is neither OpenAI's auto nor its disabled
    if values.get("truncation") == "auto":
        unused.append("truncation")
    return unused


def read_response(values: dict[str, Any]) -> ResponseBody:
    """Read the body of a response, which may be an older one that was kept.

    Raises:
        InvalidRequest: With the parameter.
    """
    if values.get("background"):
        raise refused("background", "background: answers are not made in the background; leave it out")
    return read_body(values, ResponseBody, PARAMETERS.name)


def asked_of(
    body: ResponseBody, values: dict[str, Any], before: list[ChatMessage], unused: list[str]
) -> Asked:
    """Return what a body asks for; `before` are the messages of the response it goes on from.

    `unused` grows by what else of it changes nothing here.

    Raises:
        InvalidRequest: With the parameter.
    """
    choice, tools = _choice(body, _tools(body.tools or [], unused), unused)
    messages = _messages(body.input, unused)
    own = conversation(messages, body.instructions or "", "input")
    talk = Talk(own.prompt, [*before, *own.history], own.system, own.prefill)
    kept = None
    # OpenAI stores a response unless it is told not to
    if body.store is not False:
        kept = {
            "previous": body.previous_response_id,
            "messages": [msgspec.to_builtins(message) for message in own.history],
            "body": {name: value for name, value in values.items() if name not in ("input", "stream")},
        }
        if len(msgspec.json.encode(kept)) > MAX_KEPT_BYTES:
            kept = None
    return Asked(
        model=body.model.strip(),
        talk=talk,
        stream=bool(body.stream),
        temperature=body.temperature,
        max_tokens=body.max_output_tokens,
        unused=unused,
        rules=body.rules,
        kept=kept,
        options=AnswerOptions(
            tools=tools,
            choice=choice,
            format=_format(body.text),
            effort=body.reasoning.effort if body.reasoning else None,
            top_p=body.top_p,
            logprobs=(body.top_logprobs or 0)
            if body.top_logprobs or LOGPROBS in (body.include or ())
            else None,
        ),
    )


def _tools(tools: list[Tool], unused: list[str]) -> list[ToolSpec]:
    specs: list[ToolSpec] = []
    for number, tool in enumerate(tools):
        if tool.type != "function":
            unused.append(f"tools[{number}]")  # one of the vendor's own, which only it can run
        else:
            specs.append(spec_of(number, tool.name, tool.description, tool.parameters, tool.strict))
    return specs


def _choice(
    body: ResponseBody, tools: list[ToolSpec], unused: list[str]
) -> tuple[ToolChoice | None, list[ToolSpec]]:
    """Return the choice among tools, and those that are left to choose from."""
    parallel = body.parallel_tool_calls
    match body.tool_choice:
        case NamedChoice(type="function", name=name):
            return choice_of(name, True, parallel, tools), tools
        case NamedChoice(type="allowed_tools", mode=mode, tools=named):
            names = [one.name for one in named if one.type == "function"]
            return choice_of(mode or "auto", False, parallel, tools), allowed(tools, names)
        case NamedChoice():
            unused.append("tool_choice")  # one of the vendor's own, which only it can run
            return choice_of(None, False, parallel, tools), tools
        case wanted:
            return choice_of(wanted, False, parallel, tools), tools


def _format(text: TextOptions | None) -> ResponseFormat | None:
    wanted = text.format if text else None
    match wanted:
        case None | Format(type="text"):
            return None
        case Format(type="json_object"):
            return ResponseFormat("json")
        case Format(type="json_schema"):
            return ResponseFormat("schema", wanted.name, wanted.schema, wanted.strict is not False)
        case _:
            raise refused("text", "text.format.type: expected text, json_object or json_schema")


def _messages(given: str | list[Any], unused: list[str]) -> list[ChatMessage]:
    if isinstance(given, str):
        return [ChatMessage("user", given)]
    found: list[ChatMessage] = []
    for number, value in enumerate(given):
        where = f"input[{number}]"
        try:
            item = msgspec.convert(value, Item)
        except msgspec.ValidationError as error:
            kind: object = cast(dict[str, object], value).get("type") if isinstance(value, dict) else None
            if kind not in (None, "message", "function_call", "function_call_output", "reasoning"):
                unused.append(where)
                continue
            raise wrong_at(where, str(error)) from error
        if (message := _message(item, where)) is None:
            unused.append(where)
        else:
            found.append(message)
    return found


def _message(item: Item, where: str) -> ChatMessage | None:
    match item.type:
        case "message":
            return _said(item, where)
        case "function_call":
            return ChatMessage("assistant", "", [call_of(item.call_id, item.name, item.arguments, where)])
        case "function_call_output":
            return ChatMessage("user", "", [result_of(item.call_id, _parts(item.output, where), where)])
        case "reasoning":
            text = "\n\n".join(part.text for part in item.summary or ())
            redacted = (item.id or "").startswith(REDACTED)
            part = ReasoningPart(text, signature=item.encrypted_content or "", redacted=redacted)
            return ChatMessage("assistant", "", [part])
        case _:
            return None  # something of the vendor's own


def _said(item: Item, where: str) -> ChatMessage:
    if item.content is UNSET:
        raise wrong_at(where, "its content is missing")
    parts = _parts(item.content, where)
    match item.role:
        case "system" | "developer":
            return ChatMessage("system", text_of(parts))
        case "user" | "assistant":
            return plain_or_rich(item.role, parts)
        case _:
            known = "user, assistant, system, developer"
            raise wrong_at(f"{where}.role", f"expected one of {known}, found {item.role[:40]!r}")


def _parts(content: str | list[ItemPart] | None, where: str) -> list[Part]:
    if not isinstance(content, list):
        return [TextPart(content)] if content else []
    return [_part(part, f"{where}.content[{number}]") for number, part in enumerate(content)]


def _part(part: ItemPart, where: str) -> Part:
    match part.type:
        case "input_text" | "output_text" | "text" | "summary_text":
            return TextPart(part.text)
        case "refusal":
            return RefusalPart(part.refusal)
        case "input_image" if part.image_url:
            return image_of(part.image_url, where, part.detail or "")
        case "input_file" if part.file_data or part.file_url:
            return file_of(part.file_data or part.file_url or "", where, part.filename or "")
        case _:
            known = (
                "input_text, output_text, input_image with image_url, input_file with file_data or file_url"
            )
            raise wrong_at(where, f"only parts of type {known} are read, found {part.type[:40]!r}")
