"""A console over a backend that does what a test says, when it says it: `python -m tests.tui.pty_stage`.

Orders come as lines of JSON on the descriptor `STAGE_FD`, a word and what it needs, see `Stage`; calls of the console go as lines
to `CALLS_FD`, and so does the line `done` once an order was carried out. Until `connect` the backend does not answer.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import Any

import msgspec

from backend.client import ConnectionChanged
from backend.schema.errors import TektonError
from backend.schema.events import (
    AskClosed,
    AskOpened,
    AttentionChanged,
    SessionChanged,
    SessionRemoved,
    SpecialistGone,
    TurnStarted,
)
from backend.schema.frames import StreamChunk, StreamEnd, StreamMetadata, Usage
from backend.schema.params import (
    AnswerAsk,
    Cancel,
    Chat,
    DeleteSession,
    GetHistory,
    GetPreference,
    Kill,
    Launch,
    ListMessages,
    ListModels,
    ListSessions,
)
from backend.schema.records import (
    FleetPlan,
    LaunchPlanItem,
    LaunchResult,
    ModelCandidate,
)
from backend.schema.results import (
    CancelResult,
    History,
    KillResult,
    LaunchReport,
    MessageList,
    Model,
    Preference,
    ProviderList,
    ProviderModels,
    SessionDeleted,
    SessionList,
    Started,
)
from tekton_tui.app import TektonApp
from tekton_tui.runtime.frame_scheduler import frame_scheduler
from tekton_tui.runtime.preferences import Preferences
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
)
from tests.tui.pty_asks import asks, item

LOOKS, LOOK_S, LATE_S = 6, 0.02, 0.015
"""How often the console must be found at rest, how long after one another, and how much later is no pause."""
RUNNING = ("rhetor", "numa", "apollo", "athena", "ergon")


class Stage(FakeClient):
    """Carries out orders; between them nothing happens by itself."""

    app: TektonApp

    def __init__(self) -> None:
        super().__init__(snapshot())
        self.rows = {f"{name}-ai": live(name, 20_000 + at) for at, name in enumerate(RUNNING)}
        self.waiting = asks()[:3]
        self.sessions = [session(f"s{at}", "apollo-ai", title=f"talk {at}", messages=2) for at in range(3)]
        self._refusal = ""
        self._attached = asyncio.Event()
        self._lost = False
        plan = FleetPlan([LaunchPlanItem("penia-ai", "penia", True)])
        self.answers |= {
            Launch: lambda params: LaunchReport(plan if params.dry_run else None),
            Kill: self._kill,
            Chat: lambda params: Started(params.request_id, ai_id=params.ai_id),
            Cancel: lambda params: CancelResult(params.target, True, 1, 1.0),
            ListSessions: lambda params: SessionList(len(self.sessions), self.sessions),
            DeleteSession: lambda params: SessionDeleted(params.id),
            AnswerAsk: TektonError("athena-2 answered it: denied", code="not_found"),
            ListModels: ProviderList(
                [ProviderModels("ollama", True, "", [Model("qwen3:8b", "Qwen3 8B", 5 << 30, 32768, "")])]
            ),
            GetHistory: lambda params: History(params.specialist_id, f"s-{params.specialist_id}", []),
        }

    # what the console sees of a client

    async def connect(self) -> Stage:
        asyncio.get_running_loop().add_reader(int(os.environ["STAGE_FD"]), self._obey)
        await self._attached.wait()
        if self._refusal:
            self._attached.clear()
            raise TektonError(self._refusal, code="backend_lost")
        return self

    async def call(self, params: Any, /) -> Any:
        name = "Plan" if isinstance(params, Launch) and params.dry_run else type(params).__name__
        tell(f"{name} {msgspec.json.encode(params).decode()[:200]}")
        if self._lost:
            raise TektonError("the backend is gone", code="backend_lost")
        if type(params) not in self.answers:
            raise TektonError("this backend only pretends", code="invalid_request")
        return await super().call(params)

    # orders

    def do_empty(self) -> None:
        """Nobody runs: the first form is offered."""
        self.rows = {}
        items = [LaunchPlanItem(f"{name}-ai", name, True, short=row(name).short) for name in STARTER]
        stand_in = ModelCandidate(
            "embedded", EMBEDDED.model, "", EMBEDDED.display, 1, "here", True, stand_in=True
        )
        plan = FleetPlan(items, candidates=[stand_in])
        self.answers[Launch] = lambda params: LaunchReport(plan if params.dry_run else None)

    def do_asks(self, *names: str) -> None:
        """These of the three calls wait, from the next snapshot on."""
        self.waiting = [ask for ask in asks()[:3] if ask.id in names]

    def do_connect(self) -> None:
        self._first()
        self._attached.set()

    def do_refuse(self, why: str) -> None:
        self._refusal = why
        self._attached.set()

    def do_lost(self) -> None:
        self._lost = True
        self.send(ConnectionChanged("lost", time.time(), "it was killed"))

    def do_back(self) -> None:
        self._lost = False
        self._first()
        self.send(ConnectionChanged("attached", time.time()), self.first)

    def _first(self) -> None:
        self.first = snapshot(*self.rows.values())
        self.first.asks, self.first.attention = self.waiting, [item(ask) for ask in self.waiting]

    def do_row(self, name: str, state: str, phase: str = "") -> None:
        made = live(name, state=state, phase=phase) if state in ("ready", "busy") else row(name, state=state)
        self.rows[f"{name}-ai"] = made
        self.changed(made)

    def do_gone(self, name: str) -> None:
        self.send(SpecialistGone(f"{name}-ai", time.time()))

    def do_ask(self, at: int) -> None:
        self.send(AskOpened(asks()[at]), AttentionChanged([item(asks()[at])], []))

    def do_answered(self, at: int, verdict: str = "deny", by: str = "another console") -> None:
        ask = asks()[at]
        self.send(AskClosed(ask.id, ask.ai_id, verdict, by), AttentionChanged([], [f"asks:{ask.id}"]))  # type: ignore[arg-type]

    def do_turn(self, request_id: str, name: str, prompt: str, *pieces: str) -> None:
        """A question of this console or another begins to be answered."""
        self.send(*answer(request_id, f"{name}-ai", f"s-{name}-ai", prompt, *pieces)[:-1])

    def do_queue(self, request_id: str, name: str, prompt: str, after: str = "") -> None:
        """A question of this console waits in its session, perhaps to stand behind an earlier one."""
        self.send(TurnStarted(request_id, f"{name}-ai", f"s-{name}-ai", prompt, time.time(), after=after))

    def do_refused(self, why: str) -> None:
        """Questions are refused from now on; with an empty word they no longer are."""
        self.answers[Chat] = (
            TektonError(why, code="over_budget")
            if why
            else lambda params: Started(params.request_id, ai_id=params.ai_id)
        )

    def do_renamed(self, session_id: str, name: str, title: str) -> None:
        self.send(SessionChanged(session(session_id, f"{name}-ai", title=title)))

    def do_removed(self, session_id: str, then: str = "") -> None:
        """Somebody deletes a conversation; `then` is the one each goes on in, if that is another."""
        if then:
            self.answers[GetHistory] = lambda params: History(params.specialist_id, then, [])
        self.answers[ListMessages] = TektonError(f"There is no session {session_id}", code="not_found")
        self.send(SessionRemoved(session_id))

    def do_text(self, request_id: str, text: str) -> None:
        self.send(StreamChunk(request_id, text, 0))

    def do_end(self, request_id: str, name: str, why: str = "stop") -> None:
        facts = StreamMetadata(3, 3, 1.0, f"{name}-ai", "m", why, Usage(20, 3), 210.0)  # type: ignore[arg-type]
        self.send(StreamEnd(request_id, facts))

    def do_history(self, name: str, count: int) -> None:
        """A conversation of so many questions is stored from now on."""
        stored = [
            message(
                at,
                "you" if at % 2 else f"{name}-ai",
                f"word{at} of the talk",
                request_id=f"tui-h{(at + 1) // 2}",
            )
            for at in range(1, 2 * count + 1)
        ]
        self.answers[GetHistory] = lambda params: History(
            params.specialist_id,
            f"s-{params.specialist_id}",
            stored if params.specialist_id == f"{name}-ai" else [],
        )
        self.answers[ListMessages] = MessageList(stored)

    def do_draft(self, place: str, text: str) -> None:
        """This was being written at a place before."""
        self.answers[GetPreference] = lambda params: Preference(
            params.key, text if params.key == f"draft:{place}" else None
        )

    def do_deleted(self) -> None:
        """Another console has deleted all conversations."""
        self.sessions.clear()
        self.answers[DeleteSession] = self.answers[ListMessages] = TektonError(
            "There is no session", code="not_found"
        )

    def do_hold(self, name: str) -> None:
        """Answers to calls of this type wait until they are released."""
        self.hold.add(next(kind for kind in self.answers if kind.__name__ == name))

    def do_release(self) -> None:
        held, self.held = self.held, []
        self.hold.clear()
        for one in held:
            one.released.set()

    def do_slow(self, seconds: float) -> None:
        """Stand still, as a loop on a busy machine does."""
        time.sleep(seconds)

    def _kill(self, params: Kill) -> KillResult:
        for ai_id in params.ids:
            self.changed(row(ai_id.removesuffix("-ai")))
        return KillResult([LaunchResult(ai_id, True) for ai_id in params.ids])

    def _obey(self) -> None:
        """Read orders and carry them out; called when there are some."""
        for line in os.read(int(os.environ["STAGE_FD"]), 1_000_000).decode().splitlines():
            word, *given = json.loads(line)
            if word == "rest":
                self._resting = asyncio.create_task(self._rest(*given))
            else:
                getattr(self, f"do_{word}")(*given)
                tell("done")

    async def _rest(self, at_least_s: float) -> None:
        """Say `done` once the console has acted on all that came and has drawn it, and so long has passed."""
        app, loop = self.app, asyncio.get_running_loop()
        until, looks = loop.time() + at_least_s, 0
        while looks < LOOKS or loop.time() < until:
            asked = loop.time()
            await asyncio.sleep(LOOK_S)
            late = loop.time() - asked > LOOK_S + LATE_S
            nodes = [app, *app.screen_stack, *app.screen.walk_children()]
            waits = any(not node._message_queue.empty() for node in nodes)
            sized = app._resize_event is not None or bool(app.screen._dirty_widgets)
            busy = waits or sized or frame_scheduler(app).running or not app.input_queue.idle
            looks = 0 if late or busy or not self._queue.empty() else looks + 1
        tell("done")


def tell(line: str) -> None:
    os.write(int(os.environ["CALLS_FD"]), f"{line}\n".encode())


def main() -> None:
    stage = Stage()
    preferences = Preferences(ascii="ASCII_SIGNS" in os.environ, theme=os.environ.get("THEME", ""))
    stage.app = TektonApp(stage.connect, preferences=preferences)
    stage.app.run()


if __name__ == "__main__":
    main()
