"""The parameters of every action a client may call, one struct each. Unknown names are refused, so that a typo is found.

`Params[R]` says in its type what the call returns: `await client.call(Kill(ids=["apollo"]))` is a `KillResult`.
Field names are the wire's; older names that clients still send are in `ALIASES`. Integers are bounded where the
store is (63 bits).
"""

from __future__ import annotations

import typing
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from backend.schema import records, results
from backend.schema.content import AnswerOptions, Part
from backend.schema.errors import InvalidRequest
from backend.schema.events import Snapshot
from backend.schema.faults import find_fault, unknown_inside
from backend.schema.frames import HealthResponse, TurnContext
from backend.schema.orchestration import Mode, OrchestrationChanges, OrchestrationSettings, Style
from backend.schema.records import MAX_INTEGER
from backend.schema.sent import SentReport
from backend.schema.states import SpecialistState
from backend.schema.tools import MAX_ARGUMENTS, Answer, CallRules, Decision, Rule, RuleText, Verdict
from backend.suggest import nearest

R = TypeVar("R")

MAX_REQUEST_ID = 512
"""Characters of a request id."""
MAX_ROUNDS = 10
"""Rounds one team call may hold."""

# `(?![\s\S])` is the very end; `$` would let a line feed pass in front of it
RequestId = Annotated[
    str, Meta(max_length=MAX_REQUEST_ID, pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*(?![\s\S])")
]
"""A name a caller chose for a call or a turn: one line, since it stands in logs and in other names."""
Id = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
Limit = Annotated[int, Meta(ge=1, le=1000)]
Names = list[str] | str
"""Names of specialists or groups, `starter` or `all`; one name may come without its list."""
MAX_NAME = 200
"""Characters of an id or a name that others choose."""
Temperature = Annotated[float, Meta(ge=0, le=2)]
# 32 bits, as providers count them: a larger number would be refused by each in words of its own
Tokens = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Seconds = Annotated[float, Meta(gt=0, le=31_536_000)]


# defaults are left out on the wire: a newer client that leaves a new parameter alone is understood by an older gateway
class Params(Struct, Generic[R], forbid_unknown_fields=True, omit_defaults=True):
    """Base of all parameters. `action` is the wire's name of what they are for, `R` the type of its result.

    `about` names the field with the request id of the turn, or the id of the ask, that it is about, where it is about one.
    """

    action: ClassVar[str] = ""
    about: ClassVar[str] = ""


class Startable(Params[R]):
    """Parameters of an action that takes long: `wait` false returns a `Started` at once, and the rest as events."""


AnyParams = Params[Any]
P = TypeVar("P", bound=AnyParams)


class ChatContext(TurnContext, forbid_unknown_fields=True):
    """A `TurnContext` as an action takes it: a misspelt name in it is refused as well."""


# specialists


class ListSpecialists(Params[results.SpecialistList]):
    action: ClassVar[str] = "list_specialists"
    capability: str = ""
    role: str = ""
    state: SpecialistState | Literal[""] = ""
    active_only: bool = False


class GetSpecialist(Params[results.SpecialistDetail]):
    action: ClassVar[str] = "get_specialist"
    id: str


class NewSpecialist(Params[R]):
    """A specialist of one's own; without `provider` and `model` it has those of the fleet, without `title` its name."""

    name: str
    persona: str
    title: str = ""
    capabilities: list[str] = []
    provider: str = ""
    model: str = ""


class PreviewSpecialist(NewSpecialist[results.SpecialistDraft]):
    action: ClassVar[str] = "preview_specialist"


class CreateSpecialist(NewSpecialist[results.SpecialistCreated]):
    action: ClassVar[str] = "create_specialist"


class CheckHealth(Params[HealthResponse]):
    action: ClassVar[str] = "specialist_health"
    id: str


class GetLogs(Params[results.LogText]):
    action: ClassVar[str] = "specialist_logs"
    id: str
    tail: Annotated[int, Meta(ge=1, le=10_000)] = 200
    previous: bool = False


class Launch(Params[results.LaunchReport]):
    action: ClassVar[str] = "launch"
    ids: Names
    dry_run: bool = False


class LaunchOne(Params[results.LaunchReport]):
    action: ClassVar[str] = "launch_one"
    id: str
    dry_run: bool = False


class Kill(Params[results.KillResult]):
    action: ClassVar[str] = "kill"
    ids: Names
    force: bool = False


class KillOne(Params[results.KillResult]):
    action: ClassVar[str] = "kill_one"
    id: str
    force: bool = False


class Restart(Params[results.RestartResult]):
    action: ClassVar[str] = "restart"
    ids: Names


class Match(Params[results.MatchList]):
    action: ClassVar[str] = "match"
    query: str
    limit: Annotated[int, Meta(ge=1, le=100)] = 5


# asking


class Chat(Startable[records.TurnOutcome]):
    """`ai_id` may be `@auto`: rules and matching choose. `group` ties the turn to a team turn's events.

    `parts` are the prompt where it is more than text (pictures, files, results of tools); `options` say how the answer
    is wished for: tools it may ask the caller for, its format, its effort. `rules` make those over its own tools narrower.

    `after` is the request id of the question of the session behind which this one stands, `start` to begin anew: what
    else came behind it is then a branch beside this one, and not sent. By default the newest question.
    """

    action: ClassVar[str] = "chat"
    ai_id: str
    content: str
    session_id: str = ""
    request_id: RequestId = ""
    group: RequestId = ""
    temperature: Temperature | None = None
    max_tokens: Tokens | None = None
    context: ChatContext | None = None
    instruction: str | None = None
    provider: str | None = None
    model: str | None = None
    timeout_s: Seconds | None = None
    wait: bool = True
    rules: CallRules | None = None
    parts: list[Part] | None = None
    options: AnswerOptions | None = None
    after: RequestId = ""


class TeamChat(Startable[results.TeamResult]):
    """No targets: all that run. `timeout_s` is each member's deadline.

    With `max_rounds` above 1 the members then discuss: each sees the others' answers and answers again. `style`
    overrides the platform's orchestration style for this turn.
    """

    action: ClassVar[str] = "team_chat"
    content: str
    target_ids: list[str] | None = None
    mode: Mode | None = None
    timeout_s: Seconds | None = None
    session_id: str = ""
    request_id: RequestId = ""
    temperature: Temperature | None = None
    max_tokens: Tokens | None = None
    max_rounds: Annotated[int, Meta(ge=1, le=MAX_ROUNDS)] = 1
    style: Style | None = None
    wait: bool = True
    rules: CallRules | None = None


class Discuss(Startable[results.TeamResult]):
    """`team_request_id` names the team turn to discuss; `request_id` the new round."""

    action: ClassVar[str] = "discuss"
    about: ClassVar[str] = "team_request_id"
    team_request_id: RequestId
    request_id: RequestId = ""
    wait: bool = False


class AskMember(Startable[records.TurnOutcome]):
    """`team_request_id` names the team turn, `ai_id` the member; `request_id` this call."""

    action: ClassVar[str] = "ask_member"
    about: ClassVar[str] = "team_request_id"
    team_request_id: RequestId
    ai_id: str
    request_id: RequestId = ""
    wait: bool = False


class Cancel(Params[results.CancelResult]):
    """`target` is the request id of what is to end."""

    action: ClassVar[str] = "cancel"
    about: ClassVar[str] = "target"
    target: RequestId


class EditTurn(Params[results.TurnEdited]):
    """`target` is the request id of a question that waits in its session; `content` what is asked instead."""

    action: ClassVar[str] = "edit_turn"
    about: ClassVar[str] = "target"
    target: RequestId
    content: str


class BulkItem(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One request of a bulk."""

    specialist_id: str
    message: str
    session_id: str = ""
    context: ChatContext | None = None
    max_tokens: Tokens | None = None


class RunBulk(Params[results.BulkReport]):
    action: ClassVar[str] = "bulk"
    requests: list[BulkItem]
    max_concurrency: Annotated[int, Meta(ge=1, le=1000)] | None = None
    timeout_s: Seconds | None = None
    request_id: RequestId = ""


# pipelines


class RunPipeline(Startable[records.RunRecord]):
    """`run_id` with `from_stage` runs an earlier pipeline again from that stage, 1 being the first.

    `saved` runs the pipeline kept under that name.
    """

    action: ClassVar[str] = "pipeline"
    pipeline: str = ""
    input: str = ""
    session_id: str = ""
    request_id: RequestId = ""
    run_id: RequestId = ""
    from_stage: Annotated[int, Meta(ge=0, le=10_000)] = 0
    saved: str = ""
    wait: bool = True
    rules: CallRules | None = None


class ListPipelines(Params[results.PipelineRuns]):
    """`run_id` asks for that run alone."""

    action: ClassVar[str] = "list_pipelines"
    limit: Limit = 50
    run_id: RequestId = ""


class ListSavedPipelines(Params[results.SavedPipelineList]):
    action: ClassVar[str] = "saved_pipelines"


class SavePipeline(Params[records.SavedPipeline]):
    """`replace` lets go of another pipeline saved under this name."""

    action: ClassVar[str] = "save_pipeline"
    name: str
    pipeline: str
    replace: bool = False


class RemovePipeline(Params[records.SavedPipeline]):
    action: ClassVar[str] = "remove_pipeline"
    name: str


# sessions and memory


class ListSessions(Params[results.SessionList]):
    action: ClassVar[str] = "list_sessions"
    owner: str = ""
    query: str = ""
    include_archived: bool = False
    limit: Limit = 200


class CreateSession(Params[records.Session]):
    action: ClassVar[str] = "create_session"
    owner: str
    title: str = ""


class GetSession(Params[records.Session]):
    action: ClassVar[str] = "get_session"
    id: str


class PatchSession(Params[records.Session]):
    """What is left unset stays as it is."""

    action: ClassVar[str] = "patch_session"
    id: str
    title: str | UnsetType = UNSET
    archived: bool | UnsetType = UNSET
    is_default: bool | UnsetType = UNSET
    provider: str | UnsetType = UNSET
    model: str | UnsetType = UNSET


class DeleteSession(Params[results.SessionDeleted]):
    action: ClassVar[str] = "delete_session"
    id: str


class ListMessages(Params[results.MessageList]):
    action: ClassVar[str] = "session_messages"
    id: str
    before_id: Id | None = None
    after_id: Id | None = None
    limit: Limit = 50


class GetHistory(Params[results.History]):
    action: ClassVar[str] = "conversation_history"
    specialist_id: str
    conversation_id: str = ""
    limit: Limit = 50


class ExportSession(Params[records.Export]):
    action: ClassVar[str] = "export_session"
    id: str
    format: Literal["md", "json"] = "md"


class SearchMemory(Params[records.SearchPage]):
    action: ClassVar[str] = "search_memory"
    q: str
    owner: str = ""
    session_id: str = ""
    before_id: Id | None = None
    limit: Limit = 20


class PinMessage(Params[records.StoredMessage]):
    action: ClassVar[str] = "pin_message"
    message_id: Id
    pinned: bool = True


class ListTeamMembers(Params[results.TeamMembers]):
    action: ClassVar[str] = "team_members"


class ResetMember(Params[records.Session]):
    action: ClassVar[str] = "reset_member"
    id: str


# models and usage


class ListModels(Params[results.ProviderList]):
    action: ClassVar[str] = "list_models"
    provider: str = ""


class ListCandidates(Params[results.CandidateList]):
    action: ClassVar[str] = "list_candidates"


class UseModel(Params[records.ProviderChoice]):
    """`provider` `auto` forgets the choice and looks anew; an empty `model` is the provider's best.

    `address` tells servers apart that offer the same; empty means the best of them.
    """

    action: ClassVar[str] = "use_model"
    provider: str
    model: str = ""
    address: str = ""


class SetModel(Params[results.SetModelResult]):
    """Unset provider or model: the one configured."""

    action: ClassVar[str] = "set_model"
    ids: Names
    provider: str | None = None
    model: str | None = None


class SetAgentOption(Params[results.AgentOptionSet]):
    """`option` is `mode`, `model`, or what the agent names itself; it holds until the agent ends."""

    action: ClassVar[str] = "set_agent_option"
    id: str
    option: Annotated[str, Meta(min_length=1, max_length=MAX_NAME)]
    value: Annotated[str, Meta(max_length=MAX_NAME)] | bool


class PullModel(Params[results.PullResult]):
    action: ClassVar[str] = "pull_model"
    model: str
    provider: str = "ollama"
    request_id: RequestId = ""


class GetUsage(Params[results.UsageReport]):
    action: ClassVar[str] = "usage"


class GetSent(Params[SentReport]):
    """The turn whose request id `target` is, or the newest one of a specialist in its session, or in `session_id`."""

    action: ClassVar[str] = "get_sent"
    target: str = ""
    specialist_id: str = ""
    session_id: str = ""


class ListTurns(Params[results.TurnList]):
    """Turns that ran between `since` and `until` (unix seconds, 0 for now); the newest `limit` of them."""

    action: ClassVar[str] = "list_turns"
    since: Annotated[float, Meta(ge=0)] = 0.0
    until: Annotated[float, Meta(ge=0)] = 0.0
    limit: Limit = 1000


# errors


class ListErrors(Params[results.ErrorList]):
    action: ClassVar[str] = "list_errors"
    unacknowledged: bool = False
    where: str = ""
    limit: Limit = 200


class AcknowledgeErrors(Params[results.Unacknowledged]):
    action: ClassVar[str] = "acknowledge_errors"
    ids: list[Id] | None = None
    all: bool = False


# tools


class ListAsks(Params[results.AskList]):
    action: ClassVar[str] = "list_asks"


class AnswerAsk(Params[results.AskAnswered]):
    """`always` is the pattern of a rule to be made of the answer, for the specialist; `words` are for the model.

    `option` is one of the ask's own options, by its id, given as it is to the agent that offers it.
    """

    action: ClassVar[str] = "answer_ask"
    about: ClassVar[str] = "id"
    id: Annotated[str, Meta(max_length=MAX_NAME)]
    answer: Answer
    always: Annotated[str, Meta(max_length=2_000)] = ""
    words: Annotated[str, Meta(max_length=2_000)] = ""
    option: Annotated[str, Meta(max_length=MAX_NAME)] = ""


class ListRules(Params[results.RuleList]):
    action: ClassVar[str] = "list_rules"


class AddRule(Params[Rule]):
    """`scope` is empty for the platform, else a group, a specialist or `session/ID`."""

    action: ClassVar[str] = "add_rule"
    verdict: Verdict
    pattern: RuleText
    scope: str = ""


class RemoveRule(Params[Rule]):
    action: ClassVar[str] = "remove_rule"
    id: Id


class ExplainRule(Params[Decision]):
    """`tool` is `SERVER:TOOL`, `arguments` its JSON; `ai_id` and `session_id` say whose call it would be."""

    action: ClassVar[str] = "explain_rule"
    tool: Annotated[str, Meta(min_length=1, max_length=MAX_NAME)]
    arguments: Annotated[str, Meta(max_length=MAX_ARGUMENTS)] = "{}"
    ai_id: str = ""
    session_id: str = ""


class ListToolCalls(Params[results.ToolCallList]):
    """`ai_id` names one specialist; without it the calls of all."""

    action: ClassVar[str] = "list_tool_calls"
    ai_id: str = ""
    limit: Limit = 200


class ListAttention(Params[results.AttentionList]):
    action: ClassVar[str] = "list_attention"


class AcknowledgeAttention(Params[results.AttentionList]):
    """`ids` are items that wait; none of them is dealt with unless all wait."""

    action: ClassVar[str] = "acknowledge_attention"
    ids: Annotated[list[str], Meta(min_length=1, max_length=1000)]


class MarkSeen(Params[results.AttentionList]):
    """`requests` are ids of turns whose answers were seen, `who` specialists (or `team`) all of whose answers were."""

    action: ClassVar[str] = "mark_seen"
    requests: list[RequestId] = []
    who: list[str] = []


class SnoozeAttention(Params[results.AttentionList]):
    """Put items away for so many seconds; 0 takes them back."""

    action: ClassVar[str] = "snooze_attention"
    ids: Annotated[list[str], Meta(min_length=1, max_length=1000)]
    seconds: Annotated[float, Meta(ge=0, le=31_536_000)] = 600.0


# the platform


class GetPlatform(Params[records.PlatformInfo]):
    action: ClassVar[str] = "platform"


class GetCluster(Params[results.ClusterReport]):
    action: ClassVar[str] = "cluster_status"


class GetSnapshot(Params[Snapshot]):
    action: ClassVar[str] = "snapshot"


class GetOrchestration(Params[OrchestrationSettings]):
    action: ClassVar[str] = "get_orchestration"


class ConfigureOrchestration(Params[results.AppliedSettings]):
    action: ClassVar[str] = "configure_orchestration"
    settings: OrchestrationChanges
    apply_immediately: bool = True


class GetGateway(Params[results.GatewayReport]):
    action: ClassVar[str] = "gateway_info"


class Shutdown(Params[results.ShutdownResult]):
    """`stop_fleet` also stops every specialist; otherwise they run on and the next backend adopts them."""

    action: ClassVar[str] = "shutdown"
    stop_fleet: bool = False


class GetPreference(Params[results.Preference]):
    action: ClassVar[str] = "get_preference"
    key: Annotated[str, Meta(min_length=1, max_length=200)]


class PutPreference(Params[results.PreferenceKey]):
    action: ClassVar[str] = "put_preference"
    key: Annotated[str, Meta(min_length=1, max_length=200)]
    value: Any = None


_CHAT_NAMES = {
    "message": "content",
    "id": "ai_id",
    "specialist_id": "ai_id",
    "context_id": "session_id",
    "conversation_id": "session_id",
    "timeout": "timeout_s",
}
_TEAM_NAMES = {
    "message": "content",
    "moderation_mode": "mode",
    "target_sockets": "target_ids",
    "specialists": "target_ids",
    "timeout": "timeout_s",
    "context_id": "session_id",
    "orchestration_style": "style",
}
_MEMBER_NAMES = {"id": "ai_id", "specialist_id": "ai_id", "socket_id": "ai_id"}
_MANY_NAMES = {"id": "ids", "specialist_id": "ids", "specialists": "ids"}
_ONE_NAMES = {"specialist_id": "id"}

ALIASES: dict[str, dict[str, str]] = {
    "get_specialist": _ONE_NAMES,
    "specialist_health": _ONE_NAMES,
    "set_agent_option": _ONE_NAMES,
    "specialist_logs": {**_ONE_NAMES, "lines": "tail"},
    "launch": _MANY_NAMES,
    "kill": _MANY_NAMES,
    "restart": _MANY_NAMES,
    "set_model": _MANY_NAMES,
    "match": {"message": "query", "text": "query"},
    "chat": _CHAT_NAMES,
    "team_chat": _TEAM_NAMES,
    "ask_member": _MEMBER_NAMES,
    "cancel": {"request_id": "target"},
    "bulk": {"timeout": "timeout_s"},
    "create_session": {"specialist_id": "owner"},
    "search_memory": {"query": "q"},
    "conversation_history": {"context_id": "conversation_id", "session_id": "conversation_id"},
    "reset_member": _ONE_NAMES,
}
"""By action, older names of parameters and ours: clients that exist send them."""

IGNORED: dict[str, frozenset[str]] = {"chat": frozenset({"stream"}), "team_chat": frozenset({"stream"})}
"""By action, what older clients send along and what changes nothing: how an answer comes is the surface's choice."""


def result_types(params: type[AnyParams]) -> tuple[type[Struct], ...]:
    """Return the types a call with these parameters may return, the one of a waiting call first."""
    # a class knows its bases without their arguments; those stand only in what the class statement named
    base: Any = vars(params)["__orig_bases__"][0]
    returned = typing.get_args(base)[0]
    return (returned, results.Started) if typing.get_origin(base) is Startable else (returned,)


def read_params(params: type[P], values: dict[str, Any], *, lax: bool = False) -> P:
    """Turn a client's values into parameters; `lax` reads numbers and booleans from text, as in a query.

    Raises:
        InvalidRequest: A name is unknown (with the one that was meant), a value missing, of the wrong kind or out
            of range; the message names it.
    """
    name = params.action
    aliases, ignored = ALIASES.get(name, {}), IGNORED.get(name, frozenset[str]())
    known = params.__struct_fields__
    named: dict[str, Any] = {}
    for key, value in values.items():
        own = aliases.get(key, key)
        if own in known:
            named[own] = value
        elif key not in ignored:
            raise unknown_parameter(name, key, (*known, *aliases))
    try:
        found = msgspec.convert(named, params, strict=not lax)
    except msgspec.ValidationError as error:
        raise InvalidRequest(explain(name, str(error), named, params, lax=lax)) from error
    nested = any(isinstance(value, dict | list) for value in named.values())
    if nested and (fault := unknown_inside(named, params)):
        raise InvalidRequest(f"{name}: parameter {fault.key!r}: {fault.expected}")
    return found


def unknown_parameter(name: str, key: str, known: Iterable[str]) -> InvalidRequest:
    """Return the refusal of a parameter nobody knows; it names the one that was probably meant."""
    names = sorted(set(known))
    near = nearest(key, names)
    hint = (
        f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(names)}" if names else "it takes none"
    )
    return InvalidRequest(f"{name}: there is no parameter {key[:80]!r}; {hint}")


def explain(name: str, text: str, values: object = None, kind: Any = None, *, lax: bool = False) -> str:
    """Say which parameter of which action is wrong, from the decoder's own text.

    With the `values` that are not of this `kind`, a key nobody knows inside of them is refused with the one that was
    meant, and a word that is none of several with all that are.
    """
    expectation, _, where = text.partition(" - at ")
    word = expectation.startswith("Invalid ")
    named = kind is not None and (word or "unknown field" in expectation)
    if named and (fault := find_fault(values, kind, strict=not lax)):
        wrong = f"invalid value {fault.value!r:.80}; " if word else ""
        return f"{name}: parameter {fault.key!r}: {wrong}{fault.expected}"
    path = where.strip("`").removeprefix("$.")
    if "missing required field" in expectation:
        missing = expectation.rpartition("`")[0].rpartition("`")[2]
        return f"{name}: the parameter '{missing}' is missing"
    return f"{name}: {'parameter ' + repr(path) + ': ' if path and path != '$' else ''}{expectation.lower()}"
