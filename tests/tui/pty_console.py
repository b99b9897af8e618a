"""A console over scripted specialists, to be run as a program on a terminal: `python -m tests.tui.pty_console`.

What it asks of the backend goes as lines to the descriptor in `CALLS_FD`: the name of the call and the beginning of its
fields. `BUSY` names one of them that answers all the time, at a speed that is another each second. With `FIRST` nobody runs yet: a launch starts the team, and has
its answer when a letter comes from the descriptor `FIRST`, `y` that all run and anything else that none does. A call nobody agreed to just before, by an answer to a question or by Enter in a field, begins with `!`.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from typing import Any

import msgspec

from backend.schema.errors import TektonError
from backend.schema.events import Metrics
from backend.schema.history import Sample
from backend.schema.params import Launch
from backend.schema.records import (
    FleetPlan,
    HostFigures,
    LaunchPlanItem,
    LaunchResult,
    ModelCandidate,
    ProcessFigures,
)
from backend.schema.results import LaunchReport
from tekton_tui.app import TektonApp
from tekton_tui.screens.dialogs import Question
from tekton_tui.widgets.common.command_line import CommandLine
from tekton_tui.widgets.composer.editor import Editor
from tests.tui.fake_client import EMBEDDED, STARTER, FakeClient, live, row, snapshot

RUNNING = ("rhetor", "numa", "apollo", "athena", "ergon")
SOON_S = 2.0


class RecordingClient(FakeClient):
    """Tells each call as it is made; what the test has no answer to is refused."""

    agreed_at = 0.0

    async def call(self, params: Any, /) -> Any:
        mark = "" if time.monotonic() - self.agreed_at < SOON_S else "!"
        dry = isinstance(params, Launch) and params.dry_run
        name = "Plan" if dry else type(params).__name__
        line = f"{mark}{name} {msgspec.json.encode(params).decode()[:200]}\n"
        os.write(int(os.environ["CALLS_FD"]), line.encode())
        if type(params) not in self.answers:
            raise TektonError("this backend only pretends", code="invalid_request")
        return await super().call(params)


class BusyClient(RecordingClient):
    """Tells the figures of one who answers every second, as a backend does."""

    _beats: asyncio.Task[None] | None = None

    async def connect(self) -> BusyClient:
        self._beats = asyncio.create_task(self._beat(os.environ["BUSY"]))
        return self

    async def _beat(self, name: str) -> None:
        began, memory = time.time(), 41 << 20
        for second in itertools.count():
            await asyncio.sleep(1.0)
            now, speed = time.time(), 40.0 + 7 * second % 9
            self.changed(
                live(name, state="busy", phase="streaming", phase_since=began, tokens_per_second=speed)
            )
            figures = {f"{name}-ai": ProcessFigures(cpu=3.0 + second % 4, rss=memory, fds=9)}
            sample = Sample(now, speed, 210.0, 20.0 + second % 9, 41.0, 0.42, "USD", 118_000 + 30 * second)
            self.send(Metrics(now, HostFigures(), figures, sample if second % 2 else None))


async def letter(descriptor: int) -> str:
    """Wait for a letter from a descriptor."""
    came, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_reader(descriptor, came.set)
    await came.wait()
    loop.remove_reader(descriptor)
    return os.read(descriptor, 1).decode()


class FirstClient(RecordingClient):
    """Over a fleet of which nobody runs."""

    async def call(self, params: Any, /) -> Any:
        if not isinstance(params, Launch) or params.dry_run:
            return await super().call(params)
        await super().call(params)
        for ai_id in params.ids:
            self.changed(row(ai_id.removesuffix("-ai"), state="starting"))
        if await letter(int(os.environ["FIRST"])) != "y":
            for ai_id in params.ids:
                self.changed(row(ai_id.removesuffix("-ai")))
            raise TektonError("no port is free", code="invalid_request")
        for ai_id in params.ids:
            self.changed(live(ai_id.removesuffix("-ai")))
        return LaunchReport(results=[LaunchResult(ai_id, True) for ai_id in params.ids])


def first_client() -> FirstClient:
    client = FirstClient(snapshot())
    items = [LaunchPlanItem(f"{name}-ai", name, True) for name in STARTER]
    stand_in = ModelCandidate(
        "embedded", EMBEDDED.model, "", EMBEDDED.display, 1, "here", True, stand_in=True
    )
    plan = FleetPlan(items, candidates=[stand_in])
    client.answers[Launch] = lambda params: LaunchReport(plan if params.dry_run else None)
    return client


def main() -> None:
    now = time.time()
    works = {"state": "busy", "phase": "streaming", "phase_since": now, "tokens_per_second": 40.0}
    busy = os.environ.get("BUSY", "")
    client = (BusyClient if busy else RecordingClient)(
        snapshot(*(live(name, **(works if name == busy else {})) for name in RUNNING))
    )
    plan = FleetPlan([LaunchPlanItem("penia-ai", "penia", True)])
    client.answers[Launch] = lambda params: LaunchReport(plan if params.dry_run else None)
    client = first_client() if "FIRST" in os.environ else client
    app = TektonApp(client.connect)

    def agreed() -> None:
        client.agreed_at = time.monotonic()

    dismiss, send, run = Question.dismiss, Editor.action_send, CommandLine._run

    def dismissed(screen: Question[Any], result: Any = None) -> Any:
        if result not in (None, "cancel"):
            agreed()
        return dismiss(screen, result)

    def sent(editor: Editor) -> None:
        agreed()
        send(editor)

    def typed(line: CommandLine, text: str) -> None:
        agreed()
        run(line, text)

    CommandLine._run = typed  # type: ignore[method-assign]
    Question.dismiss = dismissed  # type: ignore[method-assign]
    Editor.action_send = sent  # type: ignore[method-assign]
    app.run()


if __name__ == "__main__":
    main()
