"""A few hundred tool calls in every kind of bad luck; `make fuzz` takes ten thousand."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import psutil

from backend.schema.events import AskOpened
from tests.approvals.asking import Asking, run_asks
from tests.orchestration.running import do
from tests.randomness import first_seed

CALLS = 200


def test_a_backend_killed_in_a_running_tool_leaves_a_visible_end_and_nothing_runs_again(
    tmp_path: Path,
) -> None:
    asking = Asking(1)
    try:
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        held = f'[[call marks__hold {{"name": "held.", "pipe": "{pipe}"}}]]'
        text = held + ' [[call marks__mark {"name": "f1."}]]'
        begun = asking.attempt("chat", ai_id="apollo", content=text, wait=False)
        assert asking.watcher is not None
        asking.run(asking.watcher.until(AskOpened))
        while len(asks := asking.platform.approvals.asks) < 2:
            asking.run(asyncio.sleep(0.01))
        [ask] = [ask for ask in asks if ask.tool == "marks:hold"]
        asking.attempt("answer_ask", id=ask.id, answer="allow")
        server = psutil.Process(int(asking.run(asyncio.to_thread(pipe.read_text))))
        worker = asking.platform.fleet.status("apollo-ai").pid
        asking.kill_backend()

        states = {record.tool: (record.state, record.by) for record in asking.run(asking.records())}
        assert states["marks:hold"][0] == "ended"
        assert states["marks:mark"] == ("void", "the backend ended before an answer")
        assert (
            asking.platform.approvals.asks == []
            and asking.attempt("answer_ask", id=ask.id, answer="allow") is None
        )
        rows = asking.run(do(asking.platform, "session_messages", id=begun.session_id)).messages
        row = rows[-1]
        assert (row.request_id, row.role, bool(row.error_code)) == (begun.request_id, "assistant", True)
        assert asking.platform.fleet.status("apollo-ai").pid == worker and worker in [
            p.pid for p in server.parents()
        ]
        outcome = asking.attempt("chat", ai_id="apollo", content="[[say well]]")
        assert outcome.content == "well" and asking.executed() == [["held.", "running", "held"]]
    finally:
        asking.close()
    assert not server.is_running()


def test_whatever_happens_to_an_ask_nothing_runs_unallowed_or_twice_and_none_is_lost() -> None:
    seen = run_asks(CALLS, first_seed())
    print(dict(seen))
    assert seen["ran"] and seen["deny"] and seen["slept"]
