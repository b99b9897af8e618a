"""A console over scripted specialists, to be run as a program on a terminal: `python -m tests.tui.pty_console`.

What it asks of the backend goes as lines to the descriptor in `CALLS_FD`: the name of the call and the beginning of its
fields. `BUSY` names one of them that answers all the time. A call nobody agreed to just before, by an answer to a question or by Enter in a field, begins with `!`.
"""

from __future__ import annotations

import os
import time
from typing import Any

import msgspec

from backend.schema.errors import TektonError
from backend.schema.params import Launch
from backend.schema.records import FleetPlan, LaunchPlanItem
from backend.schema.results import LaunchReport
from tekton_tui.app import TektonApp
from tekton_tui.screens.dialogs import Question
from tekton_tui.widgets.common.command_line import CommandLine
from tekton_tui.widgets.composer.editor import Editor
from tests.tui.fake_client import FakeClient, live, snapshot

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


def main() -> None:
    now = time.time()
    works = {"state": "busy", "phase": "streaming", "phase_since": now, "tokens_per_second": 40.0}
    busy = os.environ.get("BUSY", "")
    client = RecordingClient(snapshot(*(live(name, **(works if name == busy else {})) for name in RUNNING)))
    plan = FleetPlan([LaunchPlanItem("penia-ai", "penia", True)])
    client.answers[Launch] = lambda params: LaunchReport(plan if params.dry_run else None)
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
