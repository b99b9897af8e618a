"""Actions on the error ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta, Struct

from backend.orchestration.action import InvalidRequest, action

if TYPE_CHECKING:
    from backend.orchestration.platform import Platform


class ErrorsParams(Struct):
    unacknowledged: bool = False
    where: str = ""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 200


class AcknowledgeParams(Struct):
    ids: list[Annotated[int, Meta(ge=0, le=2**63 - 1)]] | None = None
    all: bool = False


@action(
    "list_errors",
    scope="read",
    routes=(("GET", "/api/v1/errors"),),
    mcp="ListErrors",
    cli="tekton errors",
    console="errors",
)
async def list_errors(platform: Platform, params: ErrorsParams) -> Any:
    """List failures, newest first, with their evidence."""
    await platform.ledger.flush()
    rows = await platform.memory.errors(
        unacknowledged=params.unacknowledged, where=params.where or None, limit=params.limit
    )
    return {"errors": rows, "unacknowledged": platform.ledger.unacknowledged}


@action(
    "acknowledge_errors",
    scope="control",
    routes=(("POST", "/api/v1/errors/acknowledge"),),
    mcp="AcknowledgeErrors",
    cli="tekton errors ack",
    console="errors.acknowledge",
)
async def acknowledge_errors(platform: Platform, params: AcknowledgeParams) -> Any:
    """Mark failures as seen by a person: those named, or all."""
    if not params.all and not params.ids:
        raise InvalidRequest("acknowledge_errors: give ids, or all=true")
    return {"unacknowledged": await platform.ledger.acknowledge(None if params.all else params.ids)}
