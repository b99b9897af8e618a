"""Questions that come straight to a worker's port: their budget is checked with the platform, and their use reported to it.

While no platform is connected, what was used is kept in a file until one counts it. Where a budget is set nobody is
asked then: it could not be held. Knows no socket; the platform is a sink of frames.
"""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import msgspec

from backend.home import Home
from backend.schema.errors import TektonError
from backend.schema.frames import DirectAsk, DirectTurn, Request
from backend.wire import encode_line
from backend.worker.spec import WorkerSpec
from backend.worker.turn import Sink, WorkerTurn

log = logging.getLogger(__name__)

VERDICT_S = 5.0
"""How long the platform may take to say whether a question fits the budget, in seconds."""
FIRST_PLATFORM_S = 1.0
"""How long a question waits for the platform that has just started this worker."""
MAX_UNCOUNTED = 10_000
"""Questions whose use no platform has counted yet; with as many, further ones are refused."""


class DirectUse:
    """The direct questions of one worker. A use is reported, by this worker or the next one, until a platform has counted it."""

    def __init__(self, spec: WorkerSpec) -> None:
        self._spec = spec
        self._platforms: list[Sink] = []
        self._met = asyncio.Event()
        """Set once a platform has connected, whether it is still there or not."""
        self._verdicts: dict[str, asyncio.Future[str]] = {}
        self._path = Home(Path(spec.home)).run / f"direct-{spec.ai_id}.jsonl"
        self._uncounted = {turn.request_id: turn for turn in _read(self._path)}

    def joined(self, platform: Sink) -> None:
        """Take a platform's connection, and report to it what nobody has counted."""
        self._platforms.append(platform)
        self._met.set()
        if len(self._platforms) == 1:
            self._report_all(platform)

    def left(self, platform: Sink) -> None:
        """Forget a platform's connection. Questions that wait for its verdict are decided without."""
        if platform in self._platforms:
            reported_to = self._platforms[-1]
            self._platforms.remove(platform)
            if self._platforms and reported_to is platform:
                self._report_all(self._platforms[-1])
            for verdict in self._verdicts.values():
                if not verdict.done():
                    verdict.set_result(self._alone())

    def answered(self, request: Request) -> None:
        """Take what the platform says: the verdict over a question, or that a use is counted."""
        name = request.request_id or ""
        if request.type == "counted":
            if self._uncounted.pop(name, None) is not None and not self._uncounted:
                with suppress(OSError):
                    self._path.unlink(missing_ok=True)
        elif (verdict := self._verdicts.get(name)) is not None and not verdict.done():
            verdict.set_result(request.content or "")

    async def run(self, generation: WorkerTurn, client: str) -> None:
        """Run a generation for a client of the port, if the budget allows it, and report what it used."""
        name = f"direct-{uuid4().hex[:16]}"
        refused = False
        try:
            await self._check(name, client)
        except TektonError as error:
            refused = True
            generation.cancel(error)
        try:
            await generation.run()
        finally:
            turn = generation.used(name, client)
            if refused:
                self._send(turn)  # nothing was used: it is sent for the call log only
            else:
                self._report(turn)

    async def _check(self, name: str, client: str) -> None:
        """Raise `TektonError` when a question must not be asked."""
        if len(self._uncounted) >= MAX_UNCOUNTED:
            text = f"{MAX_UNCOUNTED:,} direct questions are not counted yet: start the backend with `tekton serve`"
            raise TektonError(text, code="too_many")
        if self._spec.budgeted and not self._met.is_set():  # just started: who started it has yet to connect
            with suppress(TimeoutError):
                async with asyncio.timeout(FIRST_PLATFORM_S):
                    await self._met.wait()
        if not self._platforms:
            if why := self._alone():
                raise TektonError(why, code="budget_exceeded")
            return
        verdict = self._verdicts[name] = asyncio.get_running_loop().create_future()
        self._platforms[-1].send(DirectAsk(name, self._spec.ai_id, client))
        try:
            async with asyncio.timeout(VERDICT_S):
                why = await verdict
        except TimeoutError as error:
            text = f"the backend did not say within {VERDICT_S:g} s whether the budget allows this"
            raise TektonError(text, code="timeout") from error
        finally:
            del self._verdicts[name]
        if why:
            raise TektonError(why, code="budget_exceeded")

    def _alone(self) -> str:
        """Return why a question is refused while no platform counts, empty when it is not."""
        if not self._spec.budgeted:
            return ""
        return "a budget is set, and no backend runs that could hold it: start one with `tekton serve`"

    def _report(self, turn: DirectTurn) -> None:
        self._uncounted[turn.request_id] = turn
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                os.write(descriptor, encode_line(turn))
            finally:
                os.close(descriptor)
        except OSError as error:
            log.warning("what a direct question used is kept in memory only: %s", error)
        self._send(turn)

    def _report_all(self, platform: Sink) -> None:
        for turn in self._uncounted.values():
            platform.send(turn)

    def _send(self, turn: DirectTurn) -> None:
        if self._platforms:
            self._platforms[-1].send(turn)


def _read(path: Path) -> list[DirectTurn]:
    """Return what an earlier worker left uncounted; a line that was cut by its death is left out."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return []
    turns: list[DirectTurn] = []
    for line in lines:
        try:
            turns.append(msgspec.json.decode(line, type=DirectTurn))
        except msgspec.MsgspecError:
            log.warning("a line of %s cannot be read and is not counted", path)
    return turns
