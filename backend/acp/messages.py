"""The values of the Agent Client Protocol, version 1, as far as we use them.

Read leniently: what the protocol calls an enumeration is a plain string, unknown fields are left out, `null` is the same
as absent. So a newer or sloppy partner costs a detail, not a turn. Field names on the wire are in camel case.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

PROTOCOL_VERSION = 1

AUTH_REQUIRED, NOT_FOUND = -32000, -32002

INITIALIZE, AUTHENTICATE = "initialize", "authenticate"
SESSION_NEW, SESSION_LOAD, SESSION_RESUME = "session/new", "session/load", "session/resume"
SESSION_LIST, SESSION_CLOSE = "session/list", "session/close"
SESSION_PROMPT, SESSION_CANCEL, SESSION_UPDATE = "session/prompt", "session/cancel", "session/update"
SET_MODE, SET_CONFIG_OPTION, SET_MODEL = (
    "session/set_mode",
    "session/set_config_option",
    "session/set_model",
)
REQUEST_PERMISSION = "session/request_permission"
READ_FILE, WRITE_FILE = "fs/read_text_file", "fs/write_text_file"
TERMINAL_CREATE, TERMINAL_OUTPUT, TERMINAL_WAIT, TERMINAL_KILL, TERMINAL_RELEASE = (
    "terminal/create", "terminal/output", "terminal/wait_for_exit", "terminal/kill", "terminal/release",
)  # fmt: skip
ELICITATION_CREATE = "elicitation/create"


# defaults are left out: that a field is absent is understood by every partner
class _Message(Struct, rename="camel", omit_defaults=True):
    """A value of the protocol."""


class Empty(_Message):
    """No parameters, or nothing to say."""


class Named(_Message):
    """Who speaks: a client or an agent."""

    name: str = ""
    version: str = ""
    title: str | None = None


# what each side can do: an object is yes, absent or null no


class FileAccess(_Message):
    read_text_file: bool = False
    write_text_file: bool = False


class Elicits(_Message):
    form: dict[str, Any] | None = None
    url: dict[str, Any] | None = None


class ClientAbilities(_Message):
    fs: FileAccess | None = None
    terminal: bool = False
    elicitation: Elicits | None = None


class PromptAbilities(_Message):
    image: bool = False
    audio: bool = False
    embedded_context: bool = False


class SessionAbilities(_Message):
    list: dict[str, Any] | None = None
    resume: dict[str, Any] | None = None
    close: dict[str, Any] | None = None


class McpAbilities(_Message):
    http: bool = False
    sse: bool = False


class AgentAbilities(_Message):
    load_session: bool | None = None
    prompt_capabilities: PromptAbilities | None = None
    mcp_capabilities: McpAbilities | None = None
    session_capabilities: SessionAbilities | None = None


class AuthVariable(_Message):
    name: str
    label: str | None = None


class AuthMethod(_Message):
    """A way to log in. `type` is empty (the agent does it), `env_var` or `terminal`."""

    id: str
    name: str = ""
    description: str | None = None
    type: str | None = None
    vars: list[AuthVariable] | None = None
    args: list[str] | None = None


class Initialize(_Message, omit_defaults=False):
    protocol_version: int
    client_capabilities: ClientAbilities = msgspec.field(default_factory=ClientAbilities)
    client_info: Named = msgspec.field(default_factory=Named)


class Initialized(_Message, omit_defaults=False):
    protocol_version: int
    agent_capabilities: AgentAbilities | None = None
    auth_methods: list[AuthMethod] | None = None
    agent_info: Named | None = None


class Authenticate(_Message):
    method_id: str


# sessions


class Mode(_Message):
    id: str
    name: str = ""
    description: str | None = None


class Modes(_Message, omit_defaults=False):
    current_mode_id: str = ""
    available_modes: list[Mode] = []


class Model(_Message):
    """A model as older agents list it, beside configuration options."""

    model_id: str
    name: str = ""
    description: str | None = None


class Models(_Message):
    current_model_id: str = ""
    available_models: list[Model] = []


class Choice(_Message):
    """A value of a configuration option, or a group of such values."""

    value: str = ""
    name: str = ""
    description: str | None = None
    group: str | None = None
    options: list[Choice] | None = None


class ConfigOption(_Message, omit_defaults=False):
    """What can be set in a session: `type` is `select` or `boolean`, `category` such as mode, model, thought_level."""

    id: str
    name: str = ""
    type: str = "select"
    current_value: str | bool = ""
    options: list[Choice] | None = None
    category: str | dict[str, Any] | None = None
    description: str | None = None


class NewSession(_Message, omit_defaults=False):
    cwd: str
    mcp_servers: list[dict[str, Any]] = []


class LoadSession(_Message, omit_defaults=False):
    """Of `session/load` and `session/resume`."""

    session_id: str
    cwd: str
    mcp_servers: list[dict[str, Any]] = []


class SessionOpened(_Message):
    """The answer to new, load and resume; the last two name no session."""

    session_id: str = ""
    modes: Modes | None = None
    models: Models | None = None
    config_options: list[ConfigOption] | None = None


class SessionId(_Message):
    """Parameters that only name a session: of close and cancel."""

    session_id: str


class ListSessions(_Message):
    cwd: str | None = None
    cursor: str | None = None


class ListedSession(_Message):
    session_id: str
    cwd: str
    title: str | None = None
    updated_at: str | None = None


class Sessions(_Message, omit_defaults=False):
    sessions: list[ListedSession] = []
    next_cursor: str | None = None


class SetMode(_Message):
    session_id: str
    mode_id: str


class SetModel(_Message):
    session_id: str
    model_id: str


class SetConfigOption(_Message):
    """`type` is `boolean` where the value is one."""

    session_id: str
    config_id: str
    value: str | bool
    type: str | None = None


class ConfigOptions(_Message, omit_defaults=False):
    config_options: list[ConfigOption] = []


# content


class Resource(_Message):
    """An embedded resource: `text`, or `blob` in base64."""

    uri: str = ""
    text: str | None = None
    blob: str | None = None
    mime_type: str | None = None


class Block(_Message):
    """A piece of content: `type` is text, image, audio, resource_link or resource."""

    type: str
    text: str | None = None
    data: str | None = None
    mime_type: str | None = None
    uri: str | None = None
    name: str | None = None
    title: str | None = None
    size: int | None = None
    resource: Resource | None = None


class Prompt(_Message, omit_defaults=False):
    session_id: str
    prompt: list[Block]


class TokenUse(_Message):
    total_tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    thought_tokens: int | None = None
    cached_read_tokens: int | None = None
    cached_write_tokens: int | None = None


class Prompted(_Message):
    """The end of a turn: `stop_reason` is end_turn, max_tokens, max_turn_requests, refusal or cancelled."""

    stop_reason: str
    usage: TokenUse | None = None


# what goes on in a turn


class Location(_Message):
    path: str
    line: int | None = None


class ToolContent(_Message):
    """What a tool shows: `type` is content (`content`), diff (`path`, texts) or terminal (`terminal_id`)."""

    type: str
    content: Block | None = None
    path: str | None = None
    old_text: str | None = None
    new_text: str | None = None
    terminal_id: str | None = None


class ToolUpdate(_Message):
    """A tool call, or what of it has changed; lists stand for the lists before, absent fields for no change.

    `kind` is read, edit, delete, move, search, execute, think, fetch, switch_mode or other; `status` is pending,
    in_progress, completed or failed.
    """

    tool_call_id: str
    title: str | None = None
    kind: str | None = None
    status: str | None = None
    content: list[ToolContent] | None = None
    locations: list[Location] | None = None
    raw_input: Any = None
    raw_output: Any = None


class PlanEntry(_Message):
    content: str
    priority: str = "medium"
    status: str = "pending"


class Command(_Message):
    """A command of the agent's, typed as `/name`."""

    name: str
    description: str = ""
    input: dict[str, Any] | None = None


class Cost(_Message):
    amount: float = 0.0
    currency: str = "USD"


class Update(_Message):
    """What a `session/update` may hold; `session_update` names which fields count.

    `content` is a `Block` in the three kinds of chunks, a list of `ToolContent` in the two of tools.
    """

    session_update: str
    content: msgspec.Raw = msgspec.Raw(b"")
    tool_call_id: str = ""
    title: str | None = None
    kind: str | None = None
    status: str | None = None
    locations: list[Location] | None = None
    raw_input: Any = None
    raw_output: Any = None
    entries: list[PlanEntry] | None = None
    available_commands: list[Command] | None = None
    current_mode_id: str | None = None
    config_options: list[ConfigOption] | None = None
    used: int | None = None
    size: int | None = None
    cost: Cost | None = None
    message_id: str | None = None

    @property
    def block(self) -> Block | None:
        """The piece of content of a chunk."""
        return _block(self.content) if self.content else None

    @property
    def tool(self) -> ToolUpdate:
        """The tool call that this is about."""
        return ToolUpdate(
            self.tool_call_id,
            self.title,
            self.kind,
            self.status,
            _tool_contents(self.content) if self.content else None,
            self.locations,
            self.raw_input,
            self.raw_output,
        )


class SessionUpdate(_Message):
    session_id: str
    update: Update


class PermissionOption(_Message):
    """`kind` is allow_once, allow_always, reject_once or reject_always: a hint; the answer names `option_id`."""

    option_id: str
    name: str = ""
    kind: str = ""


class RequestPermission(_Message, omit_defaults=False):
    session_id: str
    tool_call: ToolUpdate
    options: list[PermissionOption]


class Outcome(_Message):
    """`outcome` is `selected`, with the option, or `cancelled`."""

    outcome: str
    option_id: str | None = None


class Permission(_Message):
    outcome: Outcome


# what an agent may ask of its client


class ReadFile(_Message):
    session_id: str
    path: str
    line: int | None = None
    limit: int | None = None


class FileText(_Message, omit_defaults=False):
    content: str


class WriteFile(_Message):
    session_id: str
    path: str
    content: str


class Variable(_Message):
    name: str
    value: str


class CreateTerminal(_Message):
    session_id: str
    command: str
    args: list[str] | None = None
    env: list[Variable] | None = None
    cwd: str | None = None
    output_byte_limit: int | None = None


class TerminalId(_Message):
    """A terminal: the answer to create, and with `session_id` the parameters of what is done with one."""

    terminal_id: str
    session_id: str = ""


class ExitStatus(_Message):
    exit_code: int | None = None
    signal: str | None = None


class TerminalOutput(_Message, omit_defaults=False):
    output: str
    truncated: bool = False
    exit_status: ExitStatus | None = None


class Elicitation(_Message):
    """A question of the agent's: `mode` form with a schema of what is asked, or url."""

    message: str = ""
    mode: str = "form"
    session_id: str | None = None
    requested_schema: dict[str, Any] | None = None
    url: str | None = None


class ElicitationAnswer(_Message):
    """`action` is accept, with `content`, decline or cancel."""

    action: str
    content: dict[str, Any] | None = None


_block = msgspec.json.Decoder(Block).decode
_tool_contents = msgspec.json.Decoder(list[ToolContent]).decode
