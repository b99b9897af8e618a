"""Actions on the error log."""

from __future__ import annotations

from backend.orchestration.action import action
from backend.orchestration.error_log import ErrorLog
from backend.schema.params import AcknowledgeErrors, InvalidRequest, ListErrors
from backend.schema.results import ErrorList, Unacknowledged


@action(
    scope="read",
    routes=(("GET", "/api/v1/errors"),),
    mcp="ListErrors",
    cli="tekton errors",
    console="errors",
)
async def list_errors(params: ListErrors, *, error_log: ErrorLog) -> ErrorList:
    """List failures, newest first, with their evidence."""
    rows = await error_log.find(
        unacknowledged=params.unacknowledged, where=params.where or None, limit=params.limit
    )
    return ErrorList(rows, error_log.unacknowledged)


@action(
    scope="control",
    routes=(("POST", "/api/v1/errors/acknowledge"),),
    mcp="AcknowledgeErrors",
    cli="tekton errors ack",
    console="errors.acknowledge",
)
async def acknowledge_errors(params: AcknowledgeErrors, *, error_log: ErrorLog) -> Unacknowledged:
    """Mark failures as seen by a person: those named, or all."""
    if not params.all and not params.ids:
        raise InvalidRequest("acknowledge_errors: give ids, or all=true")
    return Unacknowledged(await error_log.acknowledge(None if params.all else params.ids))
