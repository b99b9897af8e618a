"""The tools: one for each action that has an MCP name, and what each takes, as JSON schema.

Names and parameters that MCP clients of the platform know are fixed here; all else comes from the table of actions.
Knows no SDK, no transport and no platform: what is here serves every dialect, and the stdio process too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from backend.gateway.openapi import ANYTHING
from backend.orchestration.action import SCOPE_RANK, Action, Scope
from backend.orchestration.actions import ACTIONS
from backend.schema.errors import InvalidRequest, TektonError
from backend.schema.orchestration import Mode, Style
from backend.schema.params import MAX_ROUNDS, explain, unknown_parameter
from backend.suggest import meant

SHOWN = ("specialist_id", "request_id")
"""Older names of parameters under which clients of MCP know them."""
HIDDEN = frozenset({"group"})
"""Parameters of actions that are no business of a tool's caller."""
PLAIN_TYPES = ("", "chat", "message", "text")
ALIASES = {"ConfigureAIOrchestration": "ConfigureOrchestration"}
WAITS: dict[str, dict[str, Any]] = {"DiscussTeamChat": {"wait": True}, "AskTeamMember": {"wait": True}}
"""Tools that wait for the answer where the action by itself does not."""
LONG = frozenset({"chat", "team_chat", "discuss", "ask_member", "bulk", "pipeline", "pull_model"})
"""Actions that take long: named by a request id, with progress, and cancelled by that id."""


class SendMessage(Struct, forbid_unknown_fields=True):
    """a `message_type` other than chat is passed to the specialist as the kind of the message."""

    specialist_id: Annotated[
        str, Meta(description="id or name, such as apollo; @auto lets rules and matching choose")
    ]
    message: str
    context_id: Annotated[
        str, Meta(description="a session to go on with; empty: the specialist's own conversation")
    ] = ""
    message_type: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_ -]{0,40}$")] = "chat"
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    timeout_s: Annotated[float, Meta(gt=0)] | None = None
    request_id: str = ""


class Orchestrate(Struct, forbid_unknown_fields=True):
    """A team turn: each specialist answers, and in further rounds sees the others' answers. No specialists: all that run."""

    topic: str
    specialists: list[str] = []
    initial_prompt: str = ""
    max_rounds: Annotated[int, Meta(ge=1, le=MAX_ROUNDS)] = 1
    orchestration_style: Style | None = None
    moderation_mode: Mode | None = None
    timeout_s: Annotated[float, Meta(gt=0)] | None = None
    context_id: str = ""
    request_id: str = ""


def _send(asked: SendMessage) -> dict[str, Any]:
    # the rest of the names are older ones of the action's, which its `ALIASES` know
    values = msgspec.structs.asdict(asked)
    kind = values.pop("message_type").strip()
    if kind.lower() not in PLAIN_TYPES:
        values["instruction"] = f"The message below is of the kind: {kind}."
    return values


def _orchestrate(asked: Orchestrate) -> dict[str, Any]:
    values = msgspec.structs.asdict(asked)
    texts = (values.pop("topic").strip(), values.pop("initial_prompt").strip())
    return {**values, "content": "\n\n".join(filter(None, texts)), "specialists": asked.specialists or None}


FIXED: dict[str, tuple[type[Struct], Callable[[Any], dict[str, Any]]]] = {
    "SendMessageToSpecialist": (SendMessage, _send),
    "SendMessageToSpecialistStream": (SendMessage, _send),
    "OrchestrateTeamChat": (Orchestrate, _orchestrate),
}
"""Tools whose parameters have names of their own, and how they become the action's."""


@dataclass(frozen=True)
class Tool:
    """One tool. `schema` is the JSON schema of its arguments; `accepts` every name it reads, older ones too.

    `output` is the JSON schema of what it returns when it succeeds.
    """

    name: str
    action: Action
    summary: str
    schema: dict[str, Any]
    accepts: frozenset[str]
    output: dict[str, Any]

    @property
    def scope(self) -> Scope:
        return self.action.scope

    @property
    def one_voice(self) -> bool:
        """Whether one specialist answers: its text is reported piece by piece, and is the text of the result."""
        return self.action.name in ("chat", "ask_member")

    @property
    def is_long(self) -> bool:
        return self.action.name in LONG

    def check(self, scope: Scope) -> None:
        """Raise `forbidden` when a token of this scope may not call the tool."""
        if SCOPE_RANK[scope] < SCOPE_RANK[self.scope]:
            raise TektonError(
                f"this token has scope {scope}; {self.name} needs {self.scope}", code="forbidden"
            )

    def values(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Turn a caller's arguments into the values of the action; numbers may come as text.

        Raises:
            InvalidRequest: An argument is missing, unknown or wrong; the message names it.
        """
        for key in arguments:
            if key not in self.accepts:
                raise unknown_parameter(self.name, key, self.accepts)
        if self.name not in FIXED:
            arguments = {**WAITS.get(self.name, {}), **arguments}
            self.action.read_params(arguments, lax=True)
            return arguments
        params, convert = FIXED[self.name]
        try:
            asked = msgspec.convert(arguments, params, strict=False)
        except msgspec.ValidationError as error:
            raise InvalidRequest(explain(self.name, str(error), arguments, params, lax=True)) from error
        return convert(asked)


class UnknownTool(TektonError):
    """No tool has this name."""

    code = "not_found"


@cache
def tool_table() -> dict[str, Tool]:
    """Return all tools by name, in the order of the actions."""
    tools: dict[str, Tool] = {}
    for action in ACTIONS.values():
        if action.mcp and action.mcp not in tools:
            tools[action.mcp] = _tool(action.mcp, action, action.summary)
    streamed = "Ask one specialist; the text comes as progress while it is written, whole at the end."
    name = "SendMessageToSpecialistStream"
    tools[name] = _tool(name, ACTIONS["chat"], streamed)
    return tools


def find_tool(name: str) -> Tool:
    """Return the tool of a name or an older name.

    Raises:
        UnknownTool: With the names nearest to it.
    """
    table = tool_table()
    tool = table.get(ALIASES.get(name, name))
    if tool is None:
        raise UnknownTool(f"there is no tool {name[:100]!r}; {meant(name, table, 3)}")
    return tool


def allowed_tools(scope: Scope) -> list[Tool]:
    """Return the tools that a token of this scope may call."""
    return [tool for tool in tool_table().values() if SCOPE_RANK[scope] >= SCOPE_RANK[tool.scope]]


def _tool(name: str, action: Action, summary: str) -> Tool:
    answers = action.results
    if name in FIXED:  # these wait for the whole answer
        schema = _object_schema(FIXED[name][0])
        return Tool(name, action, summary, schema, frozenset(schema["properties"]), _output(answers[:1]))
    schema = _object_schema(action.params)
    accepts = frozenset({*schema["properties"], *action.aliases})
    for key, default in WAITS.get(name, {}).items():
        schema["properties"][key]["default"] = default
    for older in SHOWN:
        if own := action.aliases.get(older):
            schema = _renamed(schema, own, older)
    return Tool(name, action, summary, schema, accepts, _output(answers))


def _output(answers: tuple[type[Struct], ...]) -> dict[str, Any]:
    """Return the JSON schema of one answer or of several possible ones; its root is an object, as MCP asks."""
    roots, defs = msgspec.json.schema_components(
        answers, ref_template="#/$defs/{name}", schema_hook=lambda kind: dict(ANYTHING)
    )
    if len(roots) == 1:
        return {**defs.pop(roots[0]["$ref"].rpartition("/")[2]), "$defs": defs}
    return {"type": "object", "anyOf": list(roots), "$defs": defs}


def _renamed(schema: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    """Show a parameter under the name that clients know."""
    properties = {new if key == old else key: value for key, value in schema["properties"].items()}
    required = [new if key == old else key for key in schema.get("required", ())]
    return {**schema, "properties": properties, **({"required": required} if required else {})}


def _object_schema(params: type[Struct]) -> dict[str, Any]:
    """Return a struct's JSON schema with its properties at the root, as clients of MCP expect it."""
    whole = msgspec.json.schema(params)
    defs: dict[str, Any] = whole.get("$defs", {})
    # msgspec puts the struct itself behind a reference; clients want an object at the root
    root: dict[str, Any] = dict(defs.pop(whole["$ref"].rpartition("/")[2]))
    properties = {
        key: _inlined(value, defs) for key, value in root.get("properties", {}).items() if key not in HIDDEN
    }
    schema: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    if root.get("required"):
        schema["required"] = root["required"]
    return {**schema, "$defs": defs} if defs else schema


def _inlined(schema: dict[str, Any], defs: dict[str, Any]) -> dict[str, Any]:
    """Return the object a property refers to in its place: many models read no references."""
    return dict(defs[schema["$ref"].rpartition("/")[2]]) if schema.keys() == {"$ref"} else schema
