"""What turns a backend left open when it ended: each becomes a visible error. No row can stop a start."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

from backend.events import EventStream
from backend.memory import YOU, MessageStore, TurnStore
from backend.memory.records import OpenTurn
from backend.orchestration.error_log import ErrorLog
from backend.orchestration.turns.turn import last_frame, outcome_of, shown
from backend.schema.events import MessageStored
from backend.schema.frames import StreamError
from backend.schema.records import ActiveTurn, StoredMessage

log = logging.getLogger(__name__)

LOST = "the backend ended before an answer was stored; what had come by then is lost"
LOST_PARTLY = "the gateway that asked ended while this answer was on its way; what had come by then is kept"
NEVER_ASKED = "the backend ended before this question was asked"


async def recover_turns(
    messages: MessageStore,
    turns: TurnStore,
    events: EventStream,
    error_log: ErrorLog,
    shown: Mapping[str, ActiveTurn],
    *,
    is_ours: Callable[[str], bool],
) -> None:
    """Store and publish the end of every turn that is still open in the store. Never raises.

    `shown` are turns of a dead gateway, by request id, as others saw them: their text so far is kept. `is_ours` says
    which turns are this backend's own and run. A turn whose answer was stored in its gateway's last moment has only to
    be closed. A turn that cannot be recovered (its session was deleted, its row cannot be read) is closed, and entered
    in the error log.
    """
    try:
        left = {row.request_id: row for row in await turns.unfinished()}
    except Exception as error:  # a damaged row must not stop the start
        log.exception("reading the open turns")
        error_log.record("memory", "internal", f"the turns left open could not be read: {error}")
        left = {}
    for name, turn in shown.items():
        left.setdefault(name, OpenTurn(name, turn.ai_id, turn.session_id, turn.started_at))
    for request_id, row in left.items():
        if is_ours(request_id):
            continue
        try:
            await _recover(messages, turns, events, error_log, row, shown.get(request_id))
        except Exception as error:
            log.exception("recovering the turn %s", request_id)
            text = f"{LOST} ({error})"
            error_log.record(row.ai_id, "backend_lost", text, request_id=request_id)
            if (turn := shown.get(request_id)) is not None:
                events.publish(
                    "chat",
                    StreamError(request_id, row.ai_id, "backend_lost", text, text),
                    key=turn.group or request_id,
                )
            await _close(turns, request_id)


async def _recover(
    messages: MessageStore,
    turns: TurnStore,
    events: EventStream,
    error_log: ErrorLog,
    row: OpenTurn,
    turn: ActiveTurn | None,
) -> None:
    request_id, ai_id, session_id = row.request_id, row.ai_id, row.session_id
    stored = await messages.of_request(request_id)
    answers = [m for m in stored if m.role == "assistant" and m.session_id == session_id]
    if answers:
        await turns.end(request_id)
        message = answers[-1]
    else:
        text = LOST_PARTLY if turn is not None and turn.content else LOST
        asked = request_id  # the request id of the question: a team's is asked once, of all its members
        if all(message.role != "user" for message in stored):
            asked = request_id.removesuffix(f"/{ai_id}")
            if row.waiting is not None and not await messages.of_request(asked):
                await messages.append(
                    StoredMessage(0, session_id, YOU, "user", row.waiting, time.time(), request_id=asked)
                )
        if row.waiting is not None:
            text = NEVER_ASKED
        message = await messages.append(
            StoredMessage(
                0,
                session_id,
                ai_id,
                "assistant",
                turn.content if turn else "",
                time.time(),
                reasoning=turn.reasoning if turn else "",
                lane=turn.group if turn else asked if asked != request_id else "",
                request_id=request_id,
                error_code="backend_lost",
                error=text,
            ),
            ends_turn=True,
        )
        error_log.record(ai_id, "backend_lost", text, request_id=request_id)
    if turn is not None:
        key = turn.group or request_id
        events.publish("chat", last_frame(outcome_of(message)), key=key)
        events.publish("chat", MessageStored(shown(message)), key=key)
    elif not answers:
        events.publish("chat", MessageStored(shown(message)))


async def _close(turns: TurnStore, request_id: str) -> None:
    try:
        await turns.end(request_id)
    except Exception:  # it is tried again at the next start
        log.exception("closing the turn %s", request_id)
