"""A console as a newcomer meets it, to be run as a program on a terminal: `python -m tests.tui.pty_newcomer`.

Nobody runs. Who is started answers, rhetor last; athena fails when she is asked with the others. There is a conversation of
yesterday.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from backend.schema.attention import AttentionItem
from backend.schema.events import AttentionChanged, TeamEnd
from backend.schema.frames import StreamChunk, StreamEnd, StreamError, StreamMetadata, Usage
from backend.schema.params import Chat, Kill, Launch, ListMessages, ListSessions, TeamChat
from backend.schema.records import FleetPlan, LaunchPlanItem, LaunchResult, ModelCandidate
from backend.schema.results import KillResult, LaunchReport, MessageList, SessionList, Started
from tekton_tui.app import TektonApp
from tests.tui.fake_client import (
    EMBEDDED,
    STARTER,
    FakeClient,
    answer,
    live,
    message,
    row,
    session,
    snapshot,
    team,
)

DAY_S = 86_400.0
TIMES_S = {"numa": 0.2, "rhetor": 1.2, "apollo": 0.4, "athena": 0.3}
WHY = "the model server failed inside (500): look at its own log"


class NewFleet(FakeClient):
    def __init__(self) -> None:
        super().__init__(snapshot())
        self._tasks: set[asyncio.Task[None]] = set()
        then = time.time() - DAY_S
        stored = [
            message(1, "you", "Which port does the queue use?", created_at=then, request_id="tui-y"),
            message(2, "numa-ai", "The queue listens on port 5672.", created_at=then + 1, request_id="tui-y"),
        ]
        self.answers |= {
            Launch: self._launch,
            Kill: self._kill,
            Chat: lambda params: self._run(
                params, self._speak(params.request_id, params.ai_id, params.content)
            ),
            TeamChat: lambda params: self._run(params, self._ask_all(params.request_id, params.content)),
            ListSessions: lambda params: SessionList(
                1, [session("s-y", "numa-ai", "Which port does the queue use?", messages=2, updated_at=then)]
            ),
            ListMessages: MessageList(stored),
        }

    def _launch(self, params: Launch) -> LaunchReport:
        if params.dry_run:
            items = [LaunchPlanItem(f"{name}-ai", name, True, short=row(name).short) for name in STARTER]
            model = ModelCandidate("embedded", EMBEDDED.model, "", EMBEDDED.display, 1, "comes with it", True)
            return LaunchReport(FleetPlan(items, 1 << 30, 20 << 30, candidates=[model]))
        names = [ai_id.removesuffix("-ai") for ai_id in params.ids]
        for name in names:
            self.changed(live(name))
        return LaunchReport(results=[LaunchResult(f"{name}-ai", True) for name in names])

    def _kill(self, params: Kill) -> KillResult:
        for ai_id in params.ids:
            self.changed(row(ai_id.removesuffix("-ai")))
        return KillResult([LaunchResult(ai_id, True) for ai_id in params.ids])

    def _run(self, params: Any, work: Coroutine[Any, Any, None]) -> Started:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return Started(params.request_id)

    async def _speak(self, request_id: str, ai_id: str, prompt: str, group: str = "") -> None:
        name = ai_id.removesuffix("-ai")
        self.send(*answer(request_id, ai_id, f"s-{ai_id}", prompt, group=group)[:2])
        await asyncio.sleep(TIMES_S[name])
        if group and name == "athena":
            self.send(StreamError(request_id, ai_id, "provider_unavailable", WHY, "HTTP 500"))
            item = AttentionItem(
                f"error:{name}", "error", ai_id, time.time(), "no connection to its model", WHY
            )
            self.send(AttentionChanged([item], []))
            return
        self.send(StreamChunk(request_id, f"{name.capitalize()} says: look at the queue.", 0))
        facts = StreamMetadata(6, 6, TIMES_S[name], ai_id, "m", "stop", Usage(20, 6), 100.0)
        self.send(StreamEnd(request_id, facts))

    async def _ask_all(self, request_id: str, prompt: str) -> None:
        self.send(team(request_id, prompt, *STARTER))
        lanes = (self._speak(f"{request_id}/{name}-ai", f"{name}-ai", "", request_id) for name in STARTER)
        await asyncio.gather(*lanes)
        self.send(TeamEnd(request_id, 3, 1, 0, 1.2))


if __name__ == "__main__":
    TektonApp(NewFleet().connect).run()
