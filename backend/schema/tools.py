"""Tools of specialists: the rules that decide over a call, what waits for a person, and what was decided."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

Verdict = Literal["deny", "ask", "allow"]
"""What a rule says of a call. Where several match, `deny` stands before `ask`, and `ask` before `allow`."""

Answer = Literal["allow", "deny"]
MAX_RULE = 2_000
"""Characters of a rule."""
RuleText = Annotated[str, Meta(min_length=1, max_length=MAX_RULE)]
MAX_ARGUMENTS = 64 * 1024
"""Bytes of a call's arguments that are shown and stored; a longer call is refused before anybody is asked."""


class Rule(Struct, omit_defaults=True):
    """One rule. `pattern` is `SERVER:TOOL [ARGUMENT=GLOB …]`; `scope` says whose calls it is about.

    `scope` is empty for the platform, else a group, a specialist's id, or `session/ID`. `id` is 0 for a rule of the
    configuration file; one made from an answer has a number, by which it can be removed. `at` is unix seconds.
    """

    verdict: Verdict
    pattern: RuleText
    scope: str = ""
    id: int = 0
    by: str = ""
    at: float = 0.0


class CallRules(Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Rules that a question or a run brings along. They make the platform's narrower, never wider.

    What `deny` covers is denied, what `ask` covers is asked for. Where `allow` is given, nothing runs that it does not cover.
    """

    deny: Annotated[list[RuleText], Meta(max_length=200)] = []
    ask: Annotated[list[RuleText], Meta(max_length=200)] = []
    allow: Annotated[list[RuleText], Meta(max_length=200)] = []


class Decision(Struct, omit_defaults=True):
    """Which rule decides over a call; without `rule` it is the default. `reason` is a sentence."""

    verdict: Verdict
    reason: str
    rule: Rule | None = None


class AskOption(Struct, omit_defaults=True):
    """An answer that an external agent offers: `kind` is allow_once, allow_always, reject_once or reject_always.

    What "always" means is the agent's own affair: it keeps that itself, out of our sight.
    """

    id: str
    name: str
    kind: str = ""

    @property
    def allows(self) -> bool:
        """Whether it lets the call run."""
        return self.kind.startswith("allow")

    @property
    def kind_words(self) -> str:
        """What it means, as far as the agent says it: allow once, reject always."""
        return self.kind.replace("_", " ")


class AskField(Struct, omit_defaults=True):
    """A field of a form that a tool's server wants filled; `choices` are all it takes, where there are some."""

    name: str
    kind: Literal["string", "number", "integer", "boolean"] = "string"
    title: str = ""
    choices: list[str] = []
    required: bool = False


class Ask(Struct, omit_defaults=True):
    """A tool call that waits for a person. `arguments` is JSON as the model wrote it.

    `since` and `until` are unix seconds; past `until` it is denied. `always` is the rule that answering "always" makes.
    """

    id: str
    ai_id: str
    request_id: str
    session_id: str
    tool: str
    arguments: str
    since: float
    until: float
    always: str = ""
    why: str = ""
    """The question in whose turn the call stands, at most 200 characters."""
    reason: str = ""
    read_only: bool | None = None
    """What the server says of its tool; a hint, no promise."""
    options: list[AskOption] = []
    """The answers that an external agent offers itself, beside ours; of a form of one choice, its choices."""
    form: list[AskField] | None = None
    """What the tool's server wants to know of a person while its call runs; the answer's `words` fill it."""
    diff: str = ""
    """What it would change in files, as a unified diff: the agent's word, else what the backend's host can tell."""


class ToolRecord(Struct, omit_defaults=True):
    """One tool call, as kept (`memory.tool_calls_days`): written before the tool runs, completed after it.

    `digest` is the SHA-256 of the arguments, `preview` their beginning with secrets masked. `by` names who decided: a
    rule, a person's client, or why nobody could. `state` is `waiting`, `denied`, `running`, `done`, `failed`, `ended`
    (cancelled, or its worker or backend ended) or `void` (nobody answered before the turn ended).
    """

    id: str
    ai_id: str
    request_id: str
    session_id: str
    tool: str
    digest: str
    preview: str
    at: float
    state: Literal["waiting", "denied", "running", "done", "failed", "ended", "void"]
    by: str = ""
    rule: str = ""
    decided_at: float = 0.0
    ended_at: float = 0.0
    result_bytes: int = 0


class ServerSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """An MCP server: `[tools.NAME]` of the configuration. Either `command` or `url`.

    `env` names variables of the backend's environment that the server may see, beside `PATH`, `HOME`, `LANG` and the
    like; `header_files` maps a header to the file that holds its value. Seconds, bytes.
    """

    command: list[str] = []
    url: str = ""
    env: list[str] = []
    cwd: str = ""
    header_files: dict[str, str] = {}
    start_timeout_s: Annotated[float, Meta(gt=0)] = 15.0
    call_timeout_s: Annotated[float, Meta(gt=0)] = 60.0


class OwnTool(Struct, omit_defaults=True):
    """A tool of the platform's own, which the backend runs."""

    name: str
    description: str
    parameters: dict[str, object]


class ToolsSpec(Struct, omit_defaults=True):
    """The tools of one worker. `wanted` names the tools taken of a server; one that is not named gives all."""

    servers: dict[str, ServerSpec] = {}
    wanted: dict[str, list[str]] = {}
    own: list[OwnTool] = []
    max_rounds: int = 12
    max_result_bytes: int = 32 * 1024


class ToolState(Struct, omit_defaults=True):
    """A tool server of a specialist: `problem` is empty while it serves `tools` (`SERVER:TOOL`)."""

    server: str
    problem: str
    tools: list[str]
    failed: bool = False
    """Whether `problem` is one, and not that it is still being started."""


OWN_SERVER = "tekton"
"""The server under whose name the platform's own tools stand."""
AGENTS_SERVER = "agent"
"""Under which what external agents do stands: its arguments are the agent's word."""
QUESTION = f"{AGENTS_SERVER}:question"
"""What an agent asks a person without doing anything: only one of its own options answers it."""


def _parameters(**fields: str) -> dict[str, object]:
    properties = {name: {"type": "string", "description": words} for name, words in fields.items()}
    return {
        "type": "object",
        "properties": properties,
        "required": list(fields),
        "additionalProperties": False,
    }


OWN_TOOLS = (
    OwnTool(
        "search",
        "Search your own earlier conversations for words.",
        _parameters(words="what to look for"),
    ),
    OwnTool(
        "ask",
        "Ask another specialist of the platform one question and get its answer.",
        _parameters(specialist="its name, such as athena", question="the whole question"),
    ),
    OwnTool("facts", "The platform's state right now: who runs, what is slow, what failed.", _parameters()),
)
"""Tools that the backend runs; they change nothing."""
