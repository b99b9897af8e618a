"""Actions on memory: sessions, messages, search, export."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec import UNSET

from backend.catalog import Catalog
from backend.events import EventStream
from backend.memory import TEAM, MemoryStore, UnknownSession, export
from backend.orchestration.action import action
from backend.orchestration.attention import AttentionQueue
from backend.orchestration.bulk import BulkManager
from backend.orchestration.models import ModelService
from backend.orchestration.pipelines.manager import PipelineManager
from backend.orchestration.sessions import Sessions
from backend.orchestration.teams.manager import TeamManager
from backend.orchestration.turns.manager import TurnManager
from backend.orchestration.turns.sent import changes, masked
from backend.orchestration.turns.turn import shown
from backend.schema.errors import TektonError
from backend.schema.events import SessionChanged, SessionRemoved
from backend.schema.params import (
    CreateSession,
    DeleteSession,
    ExportSession,
    GetHistory,
    GetSent,
    GetSession,
    InvalidRequest,
    ListMessages,
    ListSessions,
    ListTeamMembers,
    PatchSession,
    PinMessage,
    ResetMember,
    SearchMemory,
)
from backend.schema.records import Export, SearchPage, Session, StoredMessage
from backend.schema.results import (
    History,
    MessageList,
    SessionDeleted,
    SessionList,
    TeamMember,
    TeamMembers,
)
from backend.schema.sent import SentReport
from backend.schema.states import LIVE
from backend.specialists.supervisor import Supervisor


def owner_id(name: str, *, catalog: Catalog) -> str:
    """Return the owner a name means: `team`, or a specialist's id."""
    return TEAM if name == TEAM else catalog.get(name).id


@action(
    scope="read",
    routes=(("GET", "/api/v1/sessions"),),
    mcp="ListSessions",
    cli="tekton sessions",
    console="sessions",
)
async def list_sessions(params: ListSessions, *, catalog: Catalog, memory: MemoryStore) -> SessionList:
    """List sessions, newest first, by owner or words of their title."""
    owner = owner_id(params.owner, catalog=catalog) if params.owner else None
    page = await memory.sessions.find(
        owner=owner, query=params.query or None, include_archived=params.include_archived, limit=params.limit
    )
    return SessionList(len(page.sessions), page.sessions, page.more)


@action(
    scope="chat",
    routes=(("POST", "/api/v1/sessions"),),
    mcp="CreateSession",
    cli="tekton sessions new",
)
async def create_session(
    params: CreateSession, *, catalog: Catalog, events: EventStream, memory: MemoryStore
) -> Session:
    """Begin a new conversation with a specialist or the team."""
    session = await memory.sessions.create(owner_id(params.owner, catalog=catalog), params.title)
    events.publish("chat", SessionChanged(session))
    return session


@action(
    scope="read",
    routes=(("GET", "/api/v1/sessions/{id}"),),
    mcp="GetSession",
    cli="tekton call get_session",
    console="sessions.open",
)
async def get_session(params: GetSession, *, memory: MemoryStore) -> Session:
    """Describe one session."""
    return await memory.sessions.get(params.id)


@action(
    scope="chat",
    routes=(("PATCH", "/api/v1/sessions/{id}"),),
    mcp="ChangeSession",
    cli="tekton sessions rename",
    console="sessions.rename",
)
async def patch_session(
    params: PatchSession, *, events: EventStream, memory: MemoryStore, models: ModelService
) -> Session:
    """Rename a session, archive it, make it the default, or set its provider and model."""
    changes = {
        name: value
        for name, value in msgspec.structs.asdict(params).items()
        if name != "id" and value is not UNSET
    }
    if not changes:
        raise InvalidRequest("patch_session: give title, archived, is_default, provider or model")
    if params.provider:
        models.known(params.provider)
    session = await memory.sessions.patch(params.id, **changes)
    events.publish("chat", SessionChanged(session))
    return session


@action(
    scope="control",
    routes=(("DELETE", "/api/v1/sessions/{id}"),),
    mcp="DeleteSession",
    cli="tekton sessions delete",
    console="sessions.delete",
)
async def delete_session(
    params: DeleteSession,
    *,
    attention: AttentionQueue,
    bulks: BulkManager,
    events: EventStream,
    memory: MemoryStore,
    pipelines: PipelineManager,
    sessions: Sessions,
    teams: TeamManager,
    turns: TurnManager,
) -> SessionDeleted:
    """Delete a session with its messages, for good; what is asked in it is cancelled first."""
    async with sessions.closing(params.id):
        await _end_questions(params.id, bulks=bulks, pipelines=pipelines, teams=teams, turns=turns)
        # first: of what is left when the store goes in between, deleting it once more takes the rest
        await pipelines.forget_session(params.id)
        try:
            await memory.sessions.delete(params.id)
        except UnknownSession:
            # it may have gone with a call whose store went away before it could say so
            await _forget(params.id, attention=attention, events=events, teams=teams, turns=turns)
            raise
    await _forget(params.id, attention=attention, events=events, teams=teams, turns=turns)
    return SessionDeleted(params.id)


@action(
    scope="read",
    routes=(("GET", "/api/v1/sessions/{id}/messages"),),
    mcp="GetSessionMessages",
    cli="tekton sessions show",
    console="chat",
)
async def session_messages(params: ListMessages, *, memory: MemoryStore) -> MessageList:
    """Return messages of a session, oldest first, the newest `limit` unless `before_id` or `after_id` says else."""
    rows = await memory.messages.read(
        params.id, before_id=params.before_id, after_id=params.after_id, limit=params.limit
    )
    return MessageList([shown(row) for row in rows])


@action(
    scope="read",
    routes=(("GET", "/api/v1/sessions/{id}/export"),),
    mcp="ExportSession",
    cli="tekton export",
    console="sessions.export",
)
async def export_session(
    params: ExportSession, *, memory: MemoryStore, secrets: Callable[[], list[str]]
) -> Export:
    """Return a whole session as Markdown or JSON text, keys and tokens masked."""
    return await export.export_session(
        memory.sessions, memory.messages, params.id, params.format, secrets=secrets()
    )


@action(
    scope="read",
    routes=(("GET", "/api/v1/turns/{target}/sent"), ("GET", "/api/v1/specialists/{specialist_id}/sent")),
    mcp="GetSent",
    cli="tekton sent",
    console="transcript.sent",
)
async def get_sent(
    params: GetSent,
    *,
    catalog: Catalog,
    memory: MemoryStore,
    turns: TurnManager,
    secrets: Callable[[], list[str]],
) -> SentReport:
    """Say what a turn sent its model: each part with its tokens, what was left out and why, and what is new."""
    if params.target:
        turn = turns.sent(params.target) or await memory.sent.get(params.target)
        if turn is None:
            raise TektonError(
                f"nothing is kept of what was sent for {params.target!r:.120}: it is no turn, "
                "never reached its model, or is older than this version",
                code="not_found",
            )
    elif params.specialist_id:
        ai_id = catalog.get(params.specialist_id).id
        session_id = params.session_id or (await memory.sessions.default(ai_id)).id
        turn = await memory.sent.newest(session_id, ai_id)
        if turn is None:
            raise TektonError(
                f"nothing is kept of what {ai_id} was sent: ask it something; what came before this version is not kept",
                code="not_found",
            )
    else:
        raise InvalidRequest("get_sent: give a request id as target, or a specialist_id for its newest turn")
    before = await memory.sent.newest(turn.session_id, turn.ai_id, before=turn.at)
    told = [] if before is None else changes(turn, before)
    return masked(SentReport(turn, turn.tokens, before.request_id if before else "", told), secrets())


@action(
    scope="read",
    routes=(("GET", "/api/v1/memory/search"),),
    mcp="SearchMemory",
    cli="tekton sessions search",
)
async def search_memory(params: SearchMemory, *, catalog: Catalog, memory: MemoryStore) -> SearchPage:
    """Find messages by their words."""
    page = await memory.messages.search(
        params.q,
        owner=owner_id(params.owner, catalog=catalog) if params.owner else None,
        session_id=params.session_id or None,
        before_id=params.before_id,
        limit=params.limit,
    )
    for hit in page.hits:
        hit.message = shown(hit.message)
    return page


@action(
    scope="read",
    routes=(("GET", "/api/v1/specialists/{specialist_id}/history"),),
    mcp="GetSpecialistConversationHistory",
    cli="aish history",
    console="chat",
)
async def conversation_history(params: GetHistory, *, catalog: Catalog, memory: MemoryStore) -> History:
    """Return the newest messages with one specialist, oldest first."""
    ai_id = owner_id(params.specialist_id, catalog=catalog)
    session = (
        await memory.sessions.get(params.conversation_id)
        if params.conversation_id
        else await memory.sessions.default(ai_id)
    )
    rows = await memory.messages.read(session.id, limit=params.limit)
    return History(ai_id, session.id, [shown(row) for row in rows])


@action(
    scope="chat",
    routes=(("POST", "/api/v1/messages/{message_id}/pin"),),
    mcp="PinMessage",
    cli="tekton call pin_message",
    console="chat.pin",
)
async def pin_message(params: PinMessage, *, memory: MemoryStore) -> StoredMessage:
    """Keep a message in the context of its session whatever is pruned, or no longer."""
    return await memory.messages.pin(params.message_id, params.pinned)


@action(
    scope="read",
    routes=(("GET", "/api/team-chat/sockets"),),
    mcp="ListTeamMembers",
    cli="tekton call team_members",
)
async def team_members(params: ListTeamMembers, *, fleet: Supervisor) -> TeamMembers:
    """List the members of the team chat with their state."""
    rows = [
        TeamMember(status.id, status.name, status.state, status.model)
        for status in fleet.statuses()
        if status.state in LIVE or status.state == "starting"
    ]
    return TeamMembers(len(rows), rows)


@action(
    scope="chat",
    routes=(("POST", "/api/team-chat/sockets/{id}/reset"),),
    mcp="ResetTeamMember",
    cli="tekton call reset_member",
    console="chat.new",
)
async def reset_member(
    params: ResetMember, *, catalog: Catalog, events: EventStream, memory: MemoryStore
) -> Session:
    """Start a fresh default session for a specialist or the team; the old one is kept."""
    session = await memory.sessions.create(owner_id(params.id, catalog=catalog))
    session = await memory.sessions.patch(session.id, is_default=True)
    events.publish("chat", SessionChanged(session))
    return session


async def _forget(
    session_id: str,
    *,
    attention: AttentionQueue,
    events: EventStream,
    teams: TeamManager,
    turns: TurnManager,
) -> None:
    """Forget what is remembered beside the store of a session that is gone, and say that it is."""
    turns.forget_session(session_id)
    teams.forget_session(session_id)
    events.publish("chat", SessionRemoved(session_id))
    await attention.forget_session(session_id)


async def _end_questions(
    session_id: str,
    *,
    bulks: BulkManager,
    pipelines: PipelineManager,
    teams: TeamManager,
    turns: TurnManager,
) -> None:
    """End all that waits or runs in a session.

    Raises:
        TektonError: A worker did not confirm: it may still be answering, and what it says needs its session.
    """
    for bulk in bulks.in_session(session_id):
        await bulks.cancel(bulk.request_id)
    for run in pipelines.in_session(session_id):
        await pipelines.cancel(run.request_id)
    for run in teams.in_session(session_id):
        await teams.cancel(run.request_id)
    for turn in turns.in_session(session_id):
        await turns.cancel(turn.request_id)
