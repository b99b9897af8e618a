"""Actions on what waits for the operator."""

from __future__ import annotations

from backend.orchestration.action import action
from backend.orchestration.attention import AttentionQueue
from backend.schema.params import AcknowledgeAttention, ListAttention, MarkSeen, SnoozeAttention
from backend.schema.results import AttentionList


@action(
    scope="read",
    where="leader",
    routes=(("GET", "/api/v1/attention"),),
    mcp="ListAttention",
    cli="tekton desk",
    console="needs",
)
async def list_attention(params: ListAttention, *, attention: AttentionQueue) -> AttentionList:
    """List what waits for the operator, the most urgent first."""
    await attention.look()
    return AttentionList(attention.items)


@action(
    scope="control",
    where="leader",
    routes=(("POST", "/api/v1/attention/acknowledge"),),
    mcp="AcknowledgeAttention",
    cli="tekton desk ack",
    console="needs",
)
async def acknowledge_attention(params: AcknowledgeAttention, *, attention: AttentionQueue) -> AttentionList:
    """Say that a person has seen items; errors among them are acknowledged. Returns what still waits."""
    return AttentionList(await attention.acknowledge(params.ids))


@action(
    scope="chat",
    where="leader",
    routes=(("POST", "/api/v1/attention/seen"),),
    mcp="MarkSeen",
    cli="tekton call mark_seen",
    console="chat",
)
async def mark_seen(params: MarkSeen, *, attention: AttentionQueue) -> AttentionList:
    """Say that answers were on a screen, by request or by specialist. Returns what still waits."""
    return AttentionList(await attention.see(params.requests, params.who))


@action(
    scope="control",
    where="leader",
    routes=(("POST", "/api/v1/attention/snooze"),),
    mcp="SnoozeAttention",
    cli="tekton desk snooze",
    console="needs",
)
async def snooze_attention(params: SnoozeAttention, *, attention: AttentionQueue) -> AttentionList:
    """Put items away for a while, or take them back with 0 seconds. Returns what waits."""
    return AttentionList(await attention.snooze(params.ids, params.seconds))
