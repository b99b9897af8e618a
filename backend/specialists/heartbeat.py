"""The heartbeat: pings every specialist regularly, and shows when one does not answer or answers again.

It ends and restarts nothing: what to do about a worker that does not answer is the operator's decision.
"""

from __future__ import annotations

import asyncio
import logging

from backend.schema.frames import HealthResponse, Request
from backend.schema.states import LIVE
from backend.specialists.adoption import ANSWER_TIMEOUT_S
from backend.specialists.context import SupervisorContext
from backend.specialists.endpoints import ENDPOINT_TIMEOUT_S
from backend.specialists.worker_client import Channel, ChannelClosed, ChannelError, ReplyTimeout, WorkerClient

log = logging.getLogger(__name__)

PINGS_PER_DEADLINE = 4
"""How often a worker is pinged within the time after which it counts as lost."""
ENDPOINT_EVERY = 10
"""Endpoints are asked this many times less often than local workers are pinged."""


class HostUnreachable(ChannelError):
    """The host of a specialist confirms nothing any more."""

    code = "worker_lost"


class Heartbeat:
    """One task for all specialists. Nobody is pinged again while its last ping is open."""

    def __init__(self, context: SupervisorContext) -> None:
        self._context = context
        self._deadline_s = context.settings.fleet.unresponsive_after_s
        far_s = context.settings.cluster.silent_after_s
        self._silence_s = min(far_s, self._deadline_s) if context.launcher.remote else self._deadline_s
        """How long another host may leave what it was sent unconfirmed, in seconds."""
        self._every_s = self._silence_s / PINGS_PER_DEADLINE
        self._endpoint_every = round(ENDPOINT_EVERY * self._deadline_s / self._silence_s)
        self._pings: dict[str, asyncio.Task[None]] = {}
        self._broken: set[str] = set()
        """Whose connection was broken at the last ping. It takes two in a row to show a worker as lost: at the first
        one its process may just have ended, which the launcher is about to report with its cause."""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start to ping."""
        self._task = asyncio.create_task(self._run(), name="heartbeat")

    def stop(self) -> None:
        """Stop at once; open pings are dropped."""
        for task in [self._task, *self._pings.values()]:
            if task is not None:
                task.cancel()

    async def _run(self) -> None:
        beats = 0
        while True:
            await asyncio.sleep(self._every_s)
            beats += 1
            for ai_id, row in self._context.table.rows.items():
                if row.state not in LIVE and row.state != "lost":
                    continue
                # Somebody else's server, perhaps a paid one: asked less often than our own workers.
                if row.transport == "api" and beats % self._endpoint_every:
                    continue
                if ai_id not in self._pings:
                    task = self._pings[ai_id] = asyncio.create_task(self._check(ai_id), name=f"ping {ai_id}")
                    task.add_done_callback(lambda _, ai_id=ai_id: self._pings.pop(ai_id, None))

    async def _check(self, ai_id: str) -> None:
        channel = self._context.channels.get(ai_id)
        try:
            if isinstance(channel, WorkerClient) or channel is None:
                await self._ping_worker(ai_id, channel)
            else:
                await self._check_endpoint(channel)
        except ReplyTimeout:
            self._show_lost(ai_id, f"no answer for {self._deadline_s:g} s")
        except ChannelClosed as error:
            if ai_id in self._broken and ai_id in self._context.placements:
                self._show_lost(ai_id, error.message)
            self._broken.add(ai_id)
        except ChannelError as error:
            self._show_lost(ai_id, error.message)
        else:
            self._broken.discard(ai_id)
            self._show_answering(ai_id)

    async def _ping_worker(self, ai_id: str, client: WorkerClient | None) -> None:
        if client is None or client.closed.done():
            placement = self._context.placements.get(ai_id)
            if placement is None:
                raise ChannelClosed(f"{ai_id} has no process")
            # A connection that broke alone is made anew here; the process is the launcher's to judge.
            client = await self._context.connect(ai_id, placement.host, placement.port, ANSWER_TIMEOUT_S)
            self._context.channels[ai_id] = client
        answer = asyncio.ensure_future(client.call(Request(type="ping"), timeout_s=self._deadline_s))
        # A worker may be slow to answer, but its host's kernel confirms what arrives whatever the worker does. So another
        # host that confirms nothing is gone long before the deadline for an answer has passed.
        try:
            await asyncio.wait([answer], timeout=self._silence_s)
            if not answer.done() and self._context.launcher.remote and client.unacknowledged:
                host = self._context.table.rows[ai_id].host
                why = (
                    f"{host} has confirmed nothing for {self._silence_s:g} s: the host or its network is gone"
                )
                # `close` would wait until the bytes are sent, to a host that takes none.
                client.abort(why)
                raise HostUnreachable(why)
            await answer
        finally:
            answer.cancel()  # a heartbeat that is stopped waits no longer; its failure would be nobody's

    async def _check_endpoint(self, channel: Channel) -> None:
        reply = await channel.call(Request(type="health"), timeout_s=ENDPOINT_TIMEOUT_S)
        if isinstance(reply, HealthResponse) and reply.status == "degraded":
            raise ChannelError(reply.detail or "the endpoint is not well")

    def _show_lost(self, ai_id: str, why: str) -> None:
        row = self._context.table.rows[ai_id]
        if row.state not in LIVE:
            return
        local = row.pid and not self._context.launcher.remote
        which = f"pid {row.pid} lives" if local else f"{row.host}:{row.port}"
        self._context.table.update(
            ai_id, state="lost", phase=None, detail=why, cause=f"{ai_id} does not answer ({which}): {why}"
        )
        code = "unresponsive" if row.pid else "provider_unavailable"
        self._context.record_error(
            ai_id, code, f"{ai_id} does not answer: {why}", phase=row.phase or row.state
        )

    def _show_answering(self, ai_id: str) -> None:
        row = self._context.table.rows[ai_id]
        if row.state == "lost":
            log.info("%s answers again", ai_id)
            self._context.table.update(ai_id, state="ready", detail="", cause="")
            self._context.turns.refresh(ai_id)
