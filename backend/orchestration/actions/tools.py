"""Actions on tools: what waits for a person and its answer, the rules, what was called."""

from __future__ import annotations

import time

from backend.catalog import Catalog, misspelt_server
from backend.config import Settings
from backend.orchestration.action import action
from backend.orchestration.approvals.manager import Approvals
from backend.orchestration.caller import caller
from backend.schema.errors import TektonError
from backend.schema.params import (
    AddRule,
    AnswerAsk,
    ExplainRule,
    InvalidRequest,
    ListAsks,
    ListRules,
    ListToolCalls,
    RemoveRule,
)
from backend.schema.results import AskAnswered, AskList, RuleList, ToolCallList
from backend.schema.tools import AGENTS_SERVER, OWN_SERVER, Decision, Rule


@action(scope="read", routes=(("GET", "/api/v1/asks"),), mcp="ListAsks", cli="tekton asks", console="asks")
async def list_asks(params: ListAsks, *, approvals: Approvals) -> AskList:
    """List the tool calls that wait for a person, the oldest first."""
    return AskList(approvals.asks)


@action(
    scope="control",
    routes=(("POST", "/api/v1/asks/{id}/answer"),),
    mcp="AnswerAsk",
    cli="tekton asks allow",
    console="asks.answer",
    where="owner",
)
async def answer_ask(params: AnswerAsk, *, approvals: Approvals) -> AskAnswered:
    """Allow or deny a tool call that waits; the first answer counts, a later one fails and says who gave the first."""
    by = caller.get()
    ask = await approvals.answer(
        params.id, params.answer, by, always=params.always, words=params.words, option=params.option
    )
    return AskAnswered(ask.id, ask.ai_id, ask.tool, params.answer, by)


@action(scope="read", routes=(("GET", "/api/v1/rules"),), mcp="ListToolRules", cli="tekton rules")
async def list_rules(params: ListRules, *, approvals: Approvals) -> RuleList:
    """List the rules over tool calls: those of the configuration, then those made from answers."""
    return RuleList(approvals.rule_book.rules)


@action(
    scope="control",
    where="leader",
    routes=(("POST", "/api/v1/rules"),),
    mcp="AddToolRule",
    cli="tekton rules add",
)
async def add_rule(params: AddRule, *, approvals: Approvals, catalog: Catalog, settings: Settings) -> Rule:
    """Add a rule over tool calls, for the platform, a group, a specialist or a session."""
    if wrong := misspelt_server(params.pattern, [*settings.tools, OWN_SERVER, AGENTS_SERVER]):
        raise InvalidRequest(f"pattern: {wrong}")
    return await approvals.rule_book.add(
        Rule(params.verdict, params.pattern, _scope(catalog, params.scope), by=caller.get(), at=time.time())
    )


@action(
    scope="control",
    where="leader",
    routes=(("DELETE", "/api/v1/rules/{id}"),),
    mcp="RemoveToolRule",
    cli="tekton rules remove",
)
async def remove_rule(params: RemoveRule, *, approvals: Approvals) -> Rule:
    """Forget a rule that was added or made from an answer; those of the configuration are changed there."""
    return await approvals.rule_book.remove(params.id)


@action(
    scope="read",
    routes=(("POST", "/api/v1/rules/explain"),),
    mcp="ExplainToolRule",
    cli="tekton rules explain",
)
async def explain_rule(params: ExplainRule, *, approvals: Approvals, catalog: Catalog) -> Decision:
    """Say which rule decides over a tool call, without calling it."""
    ai_id = catalog.get(params.ai_id).id if params.ai_id else ""
    return await approvals.rule_book.explain(params.tool, params.arguments, ai_id, params.session_id)


@action(scope="read", routes=(("GET", "/api/v1/tool-calls"),), mcp="ListToolCalls", cli="tekton audit")
async def list_tool_calls(params: ListToolCalls, *, approvals: Approvals, catalog: Catalog) -> ToolCallList:
    """List the tool calls, newest first: each with its verdict, who or which rule gave it, and its end."""
    ai_id = catalog.get(params.ai_id).id if params.ai_id else None
    return ToolCallList(await approvals.calls(ai_id, params.limit))


def _scope(catalog: Catalog, scope: str) -> str:
    if not scope or scope.startswith("session/") or scope in catalog.groups:
        return scope
    try:
        return catalog.get(scope).id
    except TektonError as error:
        raise InvalidRequest(
            f"scope: expected a group, a specialist or session/ID, found {scope!r}"
        ) from error
