"""Actions on memory (Engram): sessions, messages, search, export."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from backend.orchestration.action import InvalidRequest, action
from backend.orchestration.team import TEAM
from backend.schema.events import SessionChanged, SessionRemoved

if TYPE_CHECKING:
    from backend.orchestration.platform import Platform

Limit = Annotated[int, Meta(ge=1, le=1000)]


class SessionsParams(Struct):
    owner: str = ""
    query: str = ""
    include_archived: bool = False
    limit: Limit = 200


class CreateParams(Struct):
    owner: str
    title: str = ""


class SessionParams(Struct):
    id: str


class PatchParams(Struct):
    id: str
    title: str | UnsetType = UNSET
    archived: bool | UnsetType = UNSET
    is_default: bool | UnsetType = UNSET
    provider: str | UnsetType = UNSET
    model: str | UnsetType = UNSET


class MessagesParams(Struct):
    id: str
    before_id: int | None = None
    after_id: int | None = None
    limit: Limit = 50


class ExportParams(Struct):
    id: str
    format: Literal["md", "json"] = "md"


class SearchParams(Struct):
    q: str
    owner: str = ""
    session_id: str = ""
    limit: Limit = 20


class HistoryParams(Struct):
    specialist_id: str
    conversation_id: str = ""
    limit: Limit = 50


class PinParams(Struct):
    message_id: int
    pinned: bool = True


class ResetParams(Struct):
    id: str


def owner_id(platform: Platform, name: str) -> str:
    """Return the owner a name means: `team`, or a specialist's id."""
    return TEAM if name == TEAM else platform.catalog.get(name).id


@action(
    "list_sessions",
    scope="read",
    routes=(("GET", "/api/v1/sessions"),),
    mcp="ListSessions",
    cli="tekton sessions",
    console="sessions",
)
async def list_sessions(platform: Platform, params: SessionsParams) -> Any:
    """List sessions, newest first, by owner or words of their title."""
    owner = owner_id(platform, params.owner) if params.owner else None
    rows = await platform.memory.sessions(
        owner=owner, query=params.query or None, include_archived=params.include_archived, limit=params.limit
    )
    return {"count": len(rows), "sessions": rows}


@action(
    "create_session",
    scope="chat",
    routes=(("POST", "/api/v1/sessions"),),
    mcp="CreateSession",
    cli="tekton sessions new",
    aliases={"specialist_id": "owner"},
)
async def create_session(platform: Platform, params: CreateParams) -> Any:
    """Begin a new conversation with a specialist or the team."""
    session = await platform.memory.create_session(owner_id(platform, params.owner), params.title)
    platform.events.publish("chat", SessionChanged(session))
    return session


@action(
    "get_session",
    scope="read",
    routes=(("GET", "/api/v1/sessions/{id}"),),
    mcp="GetSession",
    cli="tekton call get_session",
    console="sessions.open",
)
async def get_session(platform: Platform, params: SessionParams) -> Any:
    """Describe one session."""
    return await platform.memory.get_session(params.id)


@action(
    "patch_session",
    scope="chat",
    routes=(("PATCH", "/api/v1/sessions/{id}"),),
    mcp="ChangeSession",
    cli="tekton sessions rename",
    console="sessions.rename",
)
async def patch_session(platform: Platform, params: PatchParams) -> Any:
    """Rename a session, archive it, make it the default, or set its provider and model."""
    changes = {
        name: value
        for name, value in msgspec.structs.asdict(params).items()
        if name != "id" and value is not UNSET
    }
    if not changes:
        raise InvalidRequest("patch_session: give title, archived, is_default, provider or model")
    if params.provider:
        platform.models.known(params.provider)
    session = await platform.memory.patch_session(params.id, **changes)
    platform.events.publish("chat", SessionChanged(session))
    return session


@action(
    "delete_session",
    scope="control",
    routes=(("DELETE", "/api/v1/sessions/{id}"),),
    mcp="DeleteSession",
    cli="tekton sessions delete",
    console="sessions.delete",
)
async def delete_session(platform: Platform, params: SessionParams) -> Any:
    """Delete a session with its messages, for good."""
    await platform.memory.delete_session(params.id)
    platform.events.publish("chat", SessionRemoved(params.id))
    return {"deleted": params.id}


@action(
    "session_messages",
    scope="read",
    routes=(("GET", "/api/v1/sessions/{id}/messages"),),
    mcp="GetSessionMessages",
    cli="tekton sessions show",
    console="chat",
)
async def session_messages(platform: Platform, params: MessagesParams) -> Any:
    """Return messages of a session, oldest first, the newest `limit` unless `before_id` or `after_id` says else."""
    rows = await platform.memory.messages(
        params.id, before_id=params.before_id, after_id=params.after_id, limit=params.limit
    )
    return {"messages": rows}


@action(
    "export_session",
    scope="read",
    routes=(("GET", "/api/v1/sessions/{id}/export"),),
    mcp="ExportSession",
    cli="tekton export",
    console="sessions.export",
)
async def export_session(platform: Platform, params: ExportParams) -> Any:
    """Return a whole session as Markdown or JSON text, keys and tokens masked."""
    return await platform.memory.export(params.id, params.format, secrets=platform.secrets())


@action(
    "search_memory",
    scope="read",
    routes=(("GET", "/api/v1/memory/search"),),
    mcp="SearchMemory",
    cli="tekton sessions search",
    aliases={"query": "q"},
)
async def search_memory(platform: Platform, params: SearchParams) -> Any:
    """Find messages by their words."""
    hits = await platform.memory.search(
        params.q,
        owner=owner_id(platform, params.owner) if params.owner else None,
        session_id=params.session_id or None,
        limit=params.limit,
    )
    return {"hits": hits}


@action(
    "conversation_history",
    scope="read",
    routes=(("GET", "/api/v1/specialists/{specialist_id}/history"),),
    mcp="GetSpecialistConversationHistory",
    cli="aish history",
    console="chat",
    aliases={"context_id": "conversation_id", "session_id": "conversation_id"},
)
async def conversation_history(platform: Platform, params: HistoryParams) -> Any:
    """Return the newest messages with one specialist, oldest first."""
    ai_id = owner_id(platform, params.specialist_id)
    session = (
        await platform.memory.get_session(params.conversation_id)
        if params.conversation_id
        else await platform.memory.default_session(ai_id)
    )
    rows = await platform.memory.messages(session.id, limit=params.limit)
    return {"specialist_id": ai_id, "conversation_id": session.id, "messages": rows}


@action(
    "pin_message",
    scope="chat",
    routes=(("POST", "/api/v1/messages/{message_id}/pin"),),
    mcp="PinMessage",
    cli="tekton call pin_message",
    console="chat.pin",
)
async def pin_message(platform: Platform, params: PinParams) -> Any:
    """Keep a message in the context of its session whatever is pruned, or no longer."""
    return await platform.memory.pin(params.message_id, params.pinned)


@action(
    "team_members",
    scope="read",
    routes=(("GET", "/api/team-chat/sockets"),),
    mcp="ListTeamMembers",
    cli="tekton call team_members",
)
async def team_members(platform: Platform, params: SessionsParams) -> Any:
    """List the members of the team chat with their state."""
    rows = [
        {"socket_id": status.id, "name": status.name, "state": status.state, "model": status.model}
        for status in platform.fleet.statuses()
        if status.state in ("ready", "busy", "starting")
    ]
    return {"count": len(rows), "sockets": rows}


@action(
    "reset_member",
    scope="chat",
    routes=(("POST", "/api/team-chat/sockets/{id}/reset"),),
    mcp="ResetTeamMember",
    cli="tekton call reset_member",
    console="chat.new",
    aliases={"specialist_id": "id"},
)
async def reset_member(platform: Platform, params: ResetParams) -> Any:
    """Start a fresh default session for a specialist or the team; the old one is kept."""
    session = await platform.memory.create_session(owner_id(platform, params.id))
    session = await platform.memory.patch_session(session.id, is_default=True)
    platform.events.publish("chat", SessionChanged(session))
    return session
