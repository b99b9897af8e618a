"""The pulse: asks every specialist regularly whether it answers, and says when one does not, or does again.

It acts on nothing: a worker that does not answer is shown as such; what to do is the operator's.
"""

from __future__ import annotations

import asyncio
import logging

from backend.schema.frames import HealthResponse, Request
from backend.specialists.adoption import ANSWER_TIMEOUT_S
from backend.specialists.endpoints import ENDPOINT_TIMEOUT_S
from backend.specialists.fleet import Fleet
from backend.specialists.link import Channel, Link, LinkBroken, LinkError, NoAnswer
from backend.specialists.state import ANSWERING

log = logging.getLogger(__name__)

PINGS_A_DEADLINE = 4
"""How often a worker is asked within the time after which it counts as unresponsive."""
ENDPOINT_EVERY = 10
"""Endpoints beyond this machine are asked this many times less often."""


class CutOff(LinkError):
    """The host of a specialist is not there any more, as far as the network tells."""

    code = "worker_lost"


class Pulse:
    """One task; a question to a worker is asked while its last one is still open only once."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._deadline_s = fleet.settings.fleet.unresponsive_after_s
        far_s = fleet.settings.cluster.silent_after_s
        self._silence_s = min(far_s, self._deadline_s) if fleet.launcher.remote else self._deadline_s
        """How long a host beyond this machine may leave unconfirmed what it is sent."""
        self._every_s = self._silence_s / PINGS_A_DEADLINE
        self._endpoint_every = round(ENDPOINT_EVERY * self._deadline_s / self._silence_s)
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._broken: set[str] = set()
        """Whose connection was broken at the last beat: a process that just ended is no mute one, so look twice."""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._beat(), name="pulse")

    def stop(self) -> None:
        for task in [self._task, *self._asking.values()]:
            if task is not None:
                task.cancel()

    async def _beat(self) -> None:
        beats = 0
        while True:
            await asyncio.sleep(self._every_s)
            beats += 1
            for ai_id, row in self._fleet.board.rows.items():
                if row.state not in ANSWERING and row.state != "lost":
                    continue
                if row.transport == "api" and beats % self._endpoint_every:
                    continue
                if ai_id not in self._asking:
                    self._ask_soon(ai_id)

    def _ask_soon(self, ai_id: str) -> None:
        task = self._asking[ai_id] = asyncio.create_task(self._ask(ai_id), name=f"pulse {ai_id}")
        task.add_done_callback(lambda _: self._asking.pop(ai_id, None))

    async def _ask(self, ai_id: str) -> None:
        link = self._fleet.links.get(ai_id)
        try:
            if isinstance(link, Link) or link is None:
                await self._ask_worker(ai_id, link)
            else:
                await self._ask_endpoint(ai_id, link)
        except NoAnswer:
            self._mute(ai_id, f"no answer for {self._deadline_s:g} s")
        except LinkBroken as error:
            if ai_id in self._broken and ai_id in self._fleet.placements:
                self._mute(ai_id, error.message)
            self._broken.add(ai_id)
        except LinkError as error:
            self._mute(ai_id, error.message)
        else:
            self._broken.discard(ai_id)
            self._answers(ai_id)

    async def _ask_worker(self, ai_id: str, link: Link | None) -> None:
        if link is None or link.closed.done():
            placement = self._fleet.placements.get(ai_id)
            if placement is None:
                raise LinkBroken(f"{ai_id} has no process")
            link = await self._fleet.reach(ai_id, placement.host, placement.port, ANSWER_TIMEOUT_S)
            self._fleet.links[ai_id] = link
        answer = asyncio.ensure_future(link.call(Request(type="ping"), timeout_s=self._deadline_s))
        await asyncio.wait([answer], timeout=self._silence_s)
        if not answer.done() and self._fleet.launcher.remote and link.cut_off:
            host = self._fleet.board.rows[ai_id].host
            words = f"{host} has confirmed nothing for {self._silence_s:g} s: the host or its network is gone"
            answer.cancel()
            link.abandon(words)
            raise CutOff(words)
        await answer

    async def _ask_endpoint(self, ai_id: str, link: Channel) -> None:
        reply = await link.call(Request(type="health"), timeout_s=ENDPOINT_TIMEOUT_S)
        if isinstance(reply, HealthResponse) and reply.status == "degraded":
            raise LinkError(reply.detail or "the endpoint is not well")

    def _mute(self, ai_id: str, words: str) -> None:
        row = self._fleet.board.rows[ai_id]
        if row.state not in ANSWERING:
            return
        what = (
            f"pid {row.pid} lives"
            if row.pid and not self._fleet.launcher.remote
            else f"{row.host}:{row.port}"
        )
        self._fleet.board.change(
            ai_id, state="lost", phase=None, detail=words, cause=f"{ai_id} does not answer ({what}): {words}"
        )
        code = "unresponsive" if row.pid else "provider_unavailable"
        self._fleet.record_error(
            ai_id, code, f"{ai_id} does not answer: {words}", phase=row.phase or row.state
        )

    def _answers(self, ai_id: str) -> None:
        row = self._fleet.board.rows[ai_id]
        if row.state == "lost":
            log.info("%s answers again", ai_id)
            self._fleet.board.change(ai_id, state="ready", detail="", cause="")
            self._fleet.turns.refresh(ai_id)
