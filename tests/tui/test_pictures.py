"""A golden picture of each screen state, at the smallest and at the usual size. Looked at before it is accepted."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from rich.cells import cell_len
from textual.events import Paste
from textual.pilot import Pilot

from backend.client import ConnectionChanged
from backend.schema.attention import AttentionItem
from backend.schema.content import ImagePart, OpaquePart, TextPart
from backend.schema.events import (
    AskOpened,
    AttentionChanged,
    ErrorEntry,
    GatewayCall,
    ServiceEvent,
    TeamEnd,
    TurnStarted,
)
from backend.schema.frames import (
    Phase,
    StreamChunk,
    StreamEnd,
    StreamError,
    StreamMetadata,
    StreamPhase,
    StreamReasoning,
    StreamToolCall,
    StreamToolResult,
    StreamToolUse,
    Usage,
)
from backend.schema.history import TurnPhase, TurnRecord
from backend.schema.params import (
    GetGateway,
    GetHistory,
    GetLogs,
    GetOrchestration,
    GetSession,
    GetUsage,
    Launch,
    ListErrors,
    ListMessages,
    ListModels,
    ListPipelines,
    ListSavedPipelines,
    ListSessions,
    ListTurns,
    PreviewSpecialist,
    PullModel,
)
from backend.schema.records import (
    ErrorRecord,
    FleetPlan,
    JobGroup,
    LaunchPlanItem,
    ModelCandidate,
    RunRecord,
    SavedPipeline,
    ServiceStatus,
    StageRecord,
)
from backend.schema.results import (
    DraftProblem,
    ErrorList,
    EventFigures,
    GatewayClient,
    GatewayReport,
    History,
    LaunchReport,
    LogText,
    MessageList,
    Model,
    PipelineRuns,
    ProviderList,
    ProviderModels,
    SavedPipelineList,
    SessionList,
    SpecialistDraft,
    TurnList,
)
from backend.schema.tools import Ask
from tekton_tui.app import TektonApp
from tekton_tui.runtime.layout_once import RowView
from tekton_tui.runtime.themes import LIGHT_NAME
from tekton_tui.transcript import Transcript
from tekton_tui.widgets.chat.chat_view import ChatView
from tekton_tui.widgets.composer.composer import Composer
from tekton_tui.widgets.composer.files import Attached
from tekton_tui.widgets.fleet.detail import DetailPane
from tekton_tui.widgets.fleet.first_run import FirstRun
from tekton_tui.widgets.fleet.grid import FleetGrid
from tests.tui.conftest import at_rest, settle
from tests.tui.fake_client import (
    EMBEDDED,
    NOW,
    STARTER,
    FakeClient,
    answer,
    live,
    message,
    row,
    session,
    snapshot,
    team,
    ten_minutes,
    unseen,
)
from tests.tui.terminal import Emulator
from tests.tui.test_console import screen_text
from tests.tui.test_detail_page import MESSAGES, STOPPED, usage

ASK = Ask(
    "t-1",
    "apollo-ai",
    "r1",
    "s1",
    "shell:run",
    '{"command": "pytest -q tests/test_queue.py --count 200", "cwd": "~/code/queue"}',
    NOW - 40,
    NOW + 560,
    always="shell:run command=pytest -q tests/test_queue.py --count 200 cwd=~/code/queue",
    why="Fix the flaky test in tests/test_queue.py and prove it.",
    reason="no rule covers shell:run: the default is ask",
)
pytestmark = pytest.mark.usefixtures("still")
SIZES = [(80, 24), (120, 40)]
MARKDOWN = (
    "The **queue** module: its lock is held across a network call.\n\n"
    "```python\ndef drain(self):\n    with self._lock:\n        self.send(self.items)\n```\n\n"
    "- take the items out under the lock\n- send them *outside*\n"
)
CHANGED = """```diff
--- tests/test_queue.py\toriginal
+++ tests/test_queue.py\tmodified
@@ -40,5 +40,5 @@
 def test_timeout_is_kept(clock):
     start = clock.now()
-    while time.time() - start < 1:
+    while clock.now() - start < 1:
         queue.poll()
     assert queue.empty
```"""
TRACEBACK = [
    "11:05:24 INFO ergon listens on 45016",
    "Traceback (most recent call last):",
    '  File "specialists/ergon.py", line 12, in <module>',
    "    from tools import registry",
    "ModuleNotFoundError: No module named 'tools'",
]
MODEL_SERVER = ServiceStatus(
    "embedded",
    "embedded model server",
    "ready",
    NOW - 840,
    21_800,
    40_001,
    "SmolLM2-135M, 20 slots of 2,048 tokens",
)


def busy_fleet() -> list[Any]:
    return [
        live("apollo", 21_877, state="busy", phase="streaming", phase_since=NOW - 3.2, tokens_per_second=48.0,
             first_token_ms=210.0, queue=1, turns=12, tokens_in=4210, tokens_out=9377, last_activity=NOW, **spent(5080, 0.118)),
        live("athena", 21_880, first_token_ms=190.0, tokens_per_second=44.0, turns=3, tokens_out=512, last_activity=NOW - 70, **spent(3604, 0.092)),
        live("numa", 21_881, state="busy", phase="prefill", phase_since=NOW - 4.1, queue=2, first_token_ms=900.0, **spent(7209, 0.061)),
        live("rhetor", 21_882, state="busy", phase="stalled", phase_since=NOW - 12, queue=1, first_token_ms=340.0, **spent(2540, 0.04)),
        row("sophia", state="starting", pid=21_890, since=NOW - 1.2),
        row("ergon", state="exited", exit_code=3, since=NOW - 75, cause="ModuleNotFoundError: No module named 'tools'"),
        row("telos", state="foreign-port", since=NOW - 20, cause="port 45008 is held by nginx (pid 812)"),
        row("metis", state="killed", signal=9, since=NOW - 130, cause="killed by SIGKILL from outside (out of memory?)"),
    ]  # fmt: skip


Drive = Callable[[TektonApp, FakeClient, Pilot[Any]], Awaitable[None]]


async def nothing(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    return


def spent(used: int, cost: float) -> dict[str, Any]:
    return {"context_used": used, "context_window": 8192, "cost": cost, "costs": {"USD": cost}}


async def fleet_detail(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    """Somebody who answers, with what was said before, what went wrong and what its process wrote."""
    asked = (
        ("Why is the queue slow?", "The lock is held across a network call; see `drain()`."),
        ("Which module breaks first under load?", MARKDOWN),
        ("Name the riskiest part of the plan.", "The migration step: two systems must agree on the order of writes.\n\nThe rest is routine."),
    )  # fmt: skip
    said = [
        message(2 * at + number, "apollo-ai" if number else "you", text, request_id=f"q{at}")
        for at, pair in enumerate(asked)
        for number, text in enumerate(pair)
    ]
    ends = [
        ErrorRecord(4, "apollo-ai", "killed", "killed by SIGKILL from outside", NOW - 9_000, NOW - 8_000),
        ErrorRecord(5, "apollo-ai", "stalled", "no token for 15 s", NOW - 700, NOW - 75),
    ]
    client.answers[GetHistory] = History("apollo-ai", "s", said)
    client.answers[ListErrors] = ErrorList(ends, 2)
    client.answers[GetLogs] = LogText(
        "apollo-ai", "", [f"03:32:{second:02} INFO the queue is at {second} of 40" for second in range(30)]
    )
    speeds = (30 + 18 * math.sin(at / 9) for at in range(120))
    app.stores.fleet.rates.setdefault("apollo-ai", deque(maxlen=300)).extend(speeds)
    app.stores.fleet.changed.emit({"apollo-ai"})
    app.query_one(FleetGrid).go_to("apollo-ai")
    async with asyncio.timeout(60):
        pane = app.query_one(DetailPane)
        # what it has room for is read once it has its size, and comes answer by answer
        while pane.display and not (pane._messages and (not pane._all or (pane._log and pane._ends))):
            await pilot.pause(0.02)


async def fleet_stopped(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    """One that was stopped after it had worked: how it ended, what it did, what starting it would begin."""
    client.answers[GetHistory] = History("apollo-ai", "s", MESSAGES)
    client.answers[GetUsage] = usage()
    client.changed(STOPPED)
    await settle(pilot)
    app.query_one(FleetGrid).go_to("apollo-ai")
    async with asyncio.timeout(60):
        while app.query_one(DetailPane).display and not client.called(GetUsage):
            await pilot.pause(0.02)
    # the rows lie as they will: only from the top does it come into sight at the same place each time
    await settle(pilot, 20)
    await pilot.press("g")
    await settle(pilot, 20)
    app.query_one(FleetGrid).go_to("apollo-ai")


async def needs(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    client.answers[GetLogs] = LogText("ergon-ai", "", TRACEBACK)
    client.send(AttentionChanged([
        AttentionItem("asks:1", "asks", "apollo-ai", NOW - 40, "asks", "run pytest -q tests/test_queue.py --count 200"),
        AttentionItem("down:ergon-ai", "down", "ergon-ai", NOW - 75, "exited 3", "ModuleNotFoundError: No module named 'tools'"),
        AttentionItem("stalled:rhetor-ai", "stalled", "rhetor-ai", NOW - 12, "stalled", "no token for 12 s; the provider still holds the line"),
        AttentionItem("error:4", "error", "gateway", NOW - 240, "provider rate limited", "a key of the team “ci” is over its budget of $5.00", 3),
        AttentionItem("budget:athena-ai", "budget", "athena-ai", 0.0, "84 %", "42,000 of 50,000 tokens are used today"),
        AttentionItem("done:r1", "done", "prometheus-ai", NOW - 60, "answered", "The March date cannot hold: three tasks need the same two people."),
        AttentionItem("done:t1", "done", "team", NOW - 180, "joint", "The broker first, then the pool. Four of fifteen name the broker."),
    ], []))  # fmt: skip
    await pilot.press("4", "down")


async def wall(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    await pilot.press("L")


async def fleet_log(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    client.answers[GetLogs] = lambda params: LogText(
        params.id, "", [f"03:32:{second:02} INFO the queue is at {second} of 40" for second in range(30)]
    )
    app.query_one(FleetGrid).go_to("apollo-ai")
    await pilot.press("left_square_bracket", "left_square_bracket")
    await settle(pilot, 20)


async def columns(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    await pilot.press("C")


async def plan(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    items = [LaunchPlanItem(f"{n}-ai", n, True, p, provider="ollama", model="qwen3:8b", short=short) for n, p, short in
             (("numa", 45004, "platform"), ("rhetor", 45003, "prompts"), ("apollo", 45012, "executive"))]  # fmt: skip
    why = "LM Studio answers at http://127.0.0.1:1234/v1"
    other = ModelCandidate("openai", "gemma-3-12b", "", "Gemma-3-12b", 8 << 30, why, usable=True)
    job = JobGroup("review-change", "Review a change", "what it breaks", ["telos", "apollo"])
    items.append(
        LaunchPlanItem(
            "athena-ai",
            "athena",
            False,
            45005,
            problem="port 45005 is held by nginx (pid 812)",
            code="foreign_port",
        )
    )
    client.answers[Launch] = LaunchReport(
        FleetPlan(items, memory_estimate=1 << 30, memory_available=20 << 30, candidates=[other], jobs=[job])
    )
    app.query_one(FirstRun).took_s = 0.0  # however long the look took on this machine
    app.query_one(FirstRun).refresh()
    await pilot.press("S")


async def first_run(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    """What a newcomer sees: models that are there and one that is not, and who would be started."""
    llama = "Ollama answers at http://127.0.0.1:11434"
    candidates = [
        ModelCandidate("ollama", "qwen3:30b", "http://127.0.0.1:11434", "Qwen3 30B", 19 * 10**9, f"{llama}: pulled", True,
                       fits=True, abilities=["tools", "thinking"]),
        ModelCandidate("ollama", "llama3.2:3b", "http://127.0.0.1:11434", "Llama3.2 3B", 2 * 10**9, f"{llama}: loaded now", True,
                       fits=True, abilities=["tools"]),
        ModelCandidate("anthropic", "claude", "", "Claude", 0, "a key for Anthropic is set", True, paid=True),
        ModelCandidate("embedded", EMBEDDED.model, "", EMBEDDED.display, 93 << 20, "comes with tekton", True, stand_in=True),
    ]  # fmt: skip
    items = [LaunchPlanItem(f"{name}-ai", name, True, short=row(name).short) for name in STARTER]
    job = JobGroup("review-change", "Review a change", "what it breaks", ["telos", "apollo"])
    plan = FleetPlan(items, 1 << 30, 20 << 30, candidates=candidates, jobs=[job])
    client.answers[Launch] = LaunchReport(plan)
    await pilot.press("R")
    await settle(pilot)
    app.query_one(FirstRun).took_s = 0.4
    app.query_one(FirstRun).refresh()
    await pilot.press("up", "up", "up", "space")


async def chat(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    app.commands.navigator.open_chat("apollo-ai")
    await settle(pilot, 10)
    client.send(*answer("r1", "apollo-ai", "s-apollo-ai", "Which module breaks first under load?", MARKDOWN))
    client.send(*answer("r2", "apollo-ai", "s-apollo-ai", "And then?", "The cache, because it")[:3])
    failed = StreamError(
        "r2", "apollo-ai", "provider_unavailable", "connection refused", "connection refused"
    )
    client.send(
        failed,
        *answer("r3", "apollo-ai", "s-apollo-ai", "Try again.")[:2],
        StreamPhase("r3", "apollo-ai", "prefill"),
    )


async def chat_waits(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    """Yesterday's answer, a stopped one, one that is written with a diff, and a question that waits."""
    stored = [
        message(1, "you", "Is it flaky?", created_at=NOW - 90_000, request_id="tui-a"),
        message(
            2,
            "apollo-ai",
            "The queue test fails once in 40 runs: it reads the clock twice.",
            created_at=NOW - 89_990,
            request_id="tui-a",
            usage=Usage(812, 21),
            first_token_ms=205.0,
            total_time=1.4,
        ),
        message(3, "you", "Why twice?", created_at=NOW - 600, request_id="tui-b"),
        message(
            4,
            "apollo-ai",
            "Because `drain` reads it once for the",
            created_at=NOW - 590,
            request_id="tui-b",
            finish_reason="cancelled",
            error_code="cancelled",
            usage=Usage(900, 33),
            first_token_ms=205.0,
            total_time=4.1,
            reasoning="two clocks, one monotonic and one that may step back when the host corrects it",
        ),
    ]
    client.answers[GetHistory] = History("apollo-ai", "s-apollo-ai", stored)
    client.answers[GetSession] = session("s-apollo-ai", title="flaky test")
    app.commands.navigator.open_chat("apollo-ai")
    await settle(pilot, 10)
    diff = "The test reads `time.time()` twice; one step of the clock and it fails.\n\n```diff\n     start = clock.now()\n-    while time.time() - start < 1:\n+    while clock.now() - start < 1:\n```\n"
    client.send(
        *answer(
            "tui-1",
            "apollo-ai",
            "s-apollo-ai",
            "Fix the flaky test in tests/test_queue.py and prove it.",
            diff,
        )[:-1]
    )
    client.send(TurnStarted("tui-2", "apollo-ai", "s-apollo-ai", "Then write the changelog line.", NOW))
    client.send(*answer("r9", "athena-ai", "s-athena-ai", "Here?", "Yes."), unseen("r9", "athena-ai"))


async def chat_tools(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    """Files read, one edited, a failure unfolded, and a command that waits for the operator's word."""
    app.commands.navigator.open_chat("apollo-ai")
    await settle(pilot, 10)
    r, ask_for = "tui-1", "Fix the flaky test in tests/test_queue.py and prove it."
    client.send(*answer(r, "apollo-ai", "s-apollo-ai", ask_for)[:2])
    client.send(StreamReasoning(r, "Two clocks, one monotonic and one that may step back."))
    client.send(StreamChunk(r, "The test reads `time.time()` twice; one step of the clock and it fails.", 0))
    calls = (
        ("files__read_file", '{"path": "tests/test_queue.py"}', "\n".join(["line"] * 212), False, 104.0),
        ("files__read_file", '{"path": "tests/clock.py"}', "[Errno 2] No such file or directory: 'tests/clock.py'", True, 3.0),
        ("files__edit_file", '{"path": "tests/test_queue.py", "edits": [{"old": "time.time()", "new": "clock.now()"}]}', CHANGED, False, 41.0),
    )  # fmt: skip
    for number, (name, arguments, result, failed, took_ms) in enumerate(calls):
        client.send(StreamToolCall(r, number, f"c{number}", name, arguments))
        client.send(StreamToolResult(r, number, name, result, failed, len(result), took_ms))
    client.send(StreamChunk(r, "Now the proof.", 1))
    run = '{"command": "pytest -q tests/test_queue.py --count 200"}'
    client.send(StreamToolCall(r, 3, "c3", "shell__run", run))
    client.send(StreamToolUse(r, "apollo-ai", 3, "shell:run", run))
    client.send(
        AskOpened(Ask("t-9", "apollo-ai", r, "s-apollo-ai", "shell:run", run, NOW - 40, NOW + 600)),
        StreamPhase(r, "apollo-ai", "waiting", 0, "shell:run"),
    )
    await settle(pilot)
    app.clear_notifications()


async def chat_files(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    """Files above the field, one more than the model has room for; how hard it is to think."""
    await chat(app, client, pilot)
    text = Attached("test_queue.py", 7_931, 1_980, TextPart("x"))
    picture = Attached(
        "board.png", 212_400, None, ImagePart("image/png", "AAAA", name="board.png", size=212_400)
    )
    app.query_one(ChatView).set_effort("high")
    composer = app.query_one("#chat-apollo-ai Composer", Composer)
    composer.add_files([text, picture])
    composer.draft = "Fix the flaky test."


async def chat_branch(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    """A question written anew, twice: the last branch of three is shown, and another is being written."""
    stored = [
        message(1, "you", "Why is it flaky?", created_at=NOW - 90_000, request_id="tui-a"),
        message(2, "apollo-ai", "It reads the clock twice.", created_at=NOW - 89_990, request_id="tui-a"),
    ]
    for number, text in enumerate(
        ("Fix it.", "Fix it and prove it.", "Fix it, prove it, and write the changelog line.")
    ):
        kept = [TextPart(text), OpaquePart("kept", {"after": "tui-a"})]
        stored += [
            message(
                3 + 2 * number, "you", text, created_at=NOW - 600, request_id=f"tui-{number}", parts=kept
            ),
            message(
                4 + 2 * number, "apollo-ai", f"Done: {text}", created_at=NOW - 590, request_id=f"tui-{number}"
            ),
        ]
    client.answers[GetHistory] = History("apollo-ai", "s-apollo-ai", stored)
    app.commands.navigator.open_chat("apollo-ai")
    await settle(pilot, 10)
    app.query_one("#chat-apollo-ai Transcript", Transcript).focus()
    await pilot.press("up", "i")


async def switcher(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    """Who and what can be gone to: one has an unread answer."""
    app.commands.navigator.open_chat("apollo-ai")
    await settle(pilot, 10)
    client.send(*answer("r9", "athena-ai", "s-athena-ai", "Here?", "Yes."), unseen("r9", "athena-ai"))
    rows = [
        session("s1", title="Which module breaks first under load?", updated_at=NOW - 60, messages=12),
        session("s2", "team", "Name the riskiest part", updated_at=NOW - 9000, messages=38),
        session("s3", "numa-ai", "disk space on the build host", updated_at=NOW - 90_000, messages=4),
    ]
    client.answers[ListSessions] = SessionList(3, rows)
    talk = [
        message(1, "you", "Which module breaks first under load?", created_at=NOW - 90),
        message(2, "apollo-ai", "The **queue**: its lock is held across a call.", created_at=NOW - 80),
    ]
    client.answers[ListMessages] = MessageList(talk)
    await pilot.press("ctrl+o", "down", "down", "down", "down")


async def chat_empty(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    app.commands.navigator.open_chat("athena-ai")


async def team_race(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    app.navigator.show("team")
    await settle(pilot, 10)
    names = ("apollo", "athena", "numa", "sophia", "ergon", "rhetor")
    client.send(team("t1", "Name the riskiest part of the plan.", *names))
    await settle(pilot)
    texts = {
        "athena": "The migration step, because two systems must agree.",
        "numa": "Memory: 2 of 19 near the cap.",
    }
    for name, text in texts.items():
        client.send(*answer(f"t1/{name}-ai", f"{name}-ai", "s-team", "", text, group="t1"))
    client.send(
        *answer("t1/apollo-ai", "apollo-ai", "s-team", "", "Two dependencies are un", group="t1")[:-1]
    )
    client.send(
        *answer("t1/sophia-ai", "sophia-ai", "s-team", "", group="t1")[:2],
        StreamPhase("t1/sophia-ai", "sophia-ai", "prefill"),
    )
    client.send(*answer("t1/ergon-ai", "ergon-ai", "s-team", "", group="t1")[:1],
                StreamError("t1/ergon-ai", "ergon-ai", "provider_unavailable", "connection refused", "connection refused"))  # fmt: skip
    await settle(pilot, 10)
    app.query_one("#team-view").focus()


async def team_done(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    await team_race(app, client, pilot)
    client.send(TeamEnd("t1", 4, 1, 1, 3.0))
    await pilot.press("p", "z")


async def team_empty(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    app.navigator.show("team")


async def errors(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    kinds = [
        ("provider_auth", "Anthropic refused the key (401): check ANTHROPIC_API_KEY"),
        ("exited", "exited with code 3"),
        ("stalled", "no token for 15 s"),
    ]
    for number, (code, words) in enumerate(kinds, 1):
        record = ErrorRecord(number, "apollo-ai", code, words, NOW - 600, NOW - number * 60, number, "streaming",
                             "Traceback (most recent call last):\n  …\nModuleNotFoundError: No module named 'tools'")  # fmt: skip
        client.send(ErrorEntry(record, number))
    await settle(pilot)
    app.navigator.open_errors("apollo-ai")


async def errors_empty(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    app.navigator.show("errors")


async def lost(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    client.send(ConnectionChanged("lost", NOW - 14, "the gateway closed the connection"))
    await settle(pilot)
    app.stores.connection.since = NOW - 14
    app.query_one("#header").refresh()


async def quit_question(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    app.commands.console.quit()


async def kill_question(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    client.send(*answer("r1", "apollo-ai", "s", "q", "one ", "two ")[:-1])
    await settle(pilot)
    app.commands.fleet.kill(["apollo-ai", "athena-ai"])


async def help_keys(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    app.navigator.open_help()


async def pipes_empty(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    app.navigator.show("pipes")


async def pipes(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    stages = [
        StageRecord(
            "apollo",
            "done",
            "our queue grows",
            "Split the queue by tenant.",
            first_token_ms=210.0,
            elapsed_s=1.9,
        ),
        StageRecord(
            'athena "be brief"',
            "failed",
            "Split the queue by tenant.",
            code="provider_unavailable",
            error="connection refused",
        ),
        StageRecord("rhetor", "not run"),
    ]
    run = RunRecord("p1", 'apollo | athena "be brief" | rhetor', stages, NOW, total_time=2.4)
    client.answers[ListPipelines] = PipelineRuns([run])
    app.navigator.show("pipes")
    await settle(pilot)
    app.query_one("#pipes-runs").focus()


def _turn(who: str, begun: float, ended: float, *phases: tuple[Phase, float], **facts: Any) -> TurnRecord:
    """Return a turn of the last minute; times are seconds before now, 0 for one that runs."""
    entered = [TurnPhase(phase, NOW - at) for phase, at in phases]
    prompt = "Fix the flaky test in tests/test_queue.py and prove it."
    end = NOW - ended if ended else 0.0
    return TurnRecord(f"{who}{begun}", f"{who}-ai", "s", prompt, NOW - begun, end, entered, **facts)


async def timeline(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    turns = [
        _turn("metis", 60, 55, ("queued", 60), ("streaming", 59), tokens_out=50),
        _turn("apollo", 58, 0, ("queued", 58), ("prefill", 57), ("streaming", 54), ("tool", 32), ("streaming", 28), ("waiting", 19)),
        _turn("hermes", 57, 50, ("prefill", 57), ("streaming", 55), code="cancelled"),
        _turn("rhetor", 49, 0, ("queued", 49), ("prefill", 48), ("streaming", 46), ("stalled", 18)),
        _turn("athena", 41, 25, ("queued", 41), ("prefill", 40), ("streaming", 38), group="t1", tokens_out=340, first_token_ms=2200.0),
        _turn("prometheus", 41, 18, ("queued", 41), ("prefill", 39), ("streaming", 37), group="t1", tokens_out=412, first_token_ms=205.0),
        _turn("ergon", 41, 30, ("queued", 41), ("prefill", 40), ("streaming", 39), group="t1", code="worker_lost"),
        _turn("sophia", 23, 0, ("prefill", 23), ("streaming", 21), ("tool", 12)),
        _turn("numa", 10, 0, ("queued", 10), ("prefill", 8), ("streaming", 1)),
        _turn("athena", 5, 0, ("prefill", 5), ("streaming", 3)),
    ]  # fmt: skip
    client.answers[ListTurns] = TurnList(turns, NOW - 900)
    app.navigator.show("timeline")
    await settle(pilot)
    await pilot.press("down", "down")


async def gateway(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    call = GatewayCall(NOW, "127.0.0.1:50210", "http", "chat", 200, 812.0)
    refused = replace(
        call,
        action="launch",
        status=403,
        elapsed_ms=0.1,
        refusal="the Origin http://evil.example is not allowed here",
    )
    callers = [
        GatewayClient("127.0.0.1:50200", "", "control", NOW - 600, ["fleet", "chat"]),
        GatewayClient("127.0.0.1:50208", "", "ask", NOW - 90, ["chat"]),
    ]
    calls = [
        replace(call, timestamp=NOW - at, action=("chat", "list_models", "team_chat")[at % 3])
        for at in range(60)
    ]
    client.answers[GetGateway] = GatewayReport(
        "http://127.0.0.1:8003", callers, 1, 48, 1, calls, [refused], EventFigures(1567, 0, 0, 0.0)
    )
    app.navigator.show("gateway")


async def sessions(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    client.answers[ListSessions] = SessionList(
        2,
        [
            session("s1", title="Which module breaks first under load?", updated_at=NOW - 60, messages=12),
            session("s2", "team", "Name the riskiest part", updated_at=NOW - 9000, messages=38),
        ],
    )
    client.answers[ListMessages] = MessageList(
        [
            message(1, "you", "Which module breaks first under load?", created_at=NOW - 90),
            message(2, "apollo-ai", "The **queue**.", created_at=NOW - 80, usage=Usage(output_tokens=3)),
        ]
    )
    app.navigator.show("sessions")


ANSWERS = [
    ("apollo", 1.1, "Queue first: the broker saturates at 12k msg/s while the pool idles."),
    ("numa", 1.4, "CPU at 91 %, memory fine; nothing else on the host is near its cap."),
    ("rhetor", 1.6, "It depends on what “load” means; name it and I will rank them."),
    (
        "athena",
        1.9,
        "The **broker**, then the connection pool; two incidents say so.\n\n1. 3 March: 11.8k msg/s, consumer lag 9 min, no alarm.\n2. 19 June: same lock, `drain()` held across the network call.\n\nThe pool fails next because each retry takes a second connection.",
    ),
    ("sophia", 2.0, "Whatever nobody watches: the retry queue has no gauge."),
    ("telos", 2.1, "Sure! Requirement R-14 (p99 < 200 ms) breaks before anything crashes."),
    ("metis", 2.2, "# Answer\n\nBroker. Its lock is held across a network call (drain, line 88)."),
    ("engram", 2.3, "Same as March: the broker, at 11.8k msg/s, for nine minutes."),
    ("hermes", 2.6, "The pool: 40 connections for 19 services is one deploy too few."),
    ("penia", 2.7, "Cost breaks first: the spot fleet triples past 10k msg/s."),
    ("noesis", 2.9, "Look at the retry storm, not at the queue."),
    ("terma", 3.0, "File handles: ulimit is 1024 on two of five hosts."),
    ("prometheus", 3.1, "The broker."),
    ("harmonia", 3.1, "The two teams’ deploys."),
    ("dionysus", 3.2, "The weekend."),
]


def team_answers(*names: str) -> list[Any]:
    """Return the events of these members' answers, of all fifteen without a name."""
    events: list[Any] = []
    for name, took, text in ANSWERS:
        if not names or name in names:
            whole = answer(f"t1/{name}-ai", f"{name}-ai", "s-team", "", *text.split("|"), group="t1")
            facts = StreamMetadata(9, 9, took, f"{name}-ai", "m", "stop", Usage(40, 118), 210.0)
            events += [*whole[:-1], StreamEnd(f"t1/{name}-ai", facts)]
    return events


async def team_of_18(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    """Eighteen members: fifteen answered, one of them is picked, two under way, one failed."""
    app.navigator.show("team")
    await settle(pilot, 10)
    names = [name for name, _took, _text in ANSWERS]
    client.send(team("t1", "What breaks first under load?", *names, "synthesis", "hephaestus", "tekton_core"))
    await settle(pilot)
    writing = answer(
        "t1/synthesis-ai",
        "synthesis-ai",
        "s-team",
        "",
        "The weakest link is the place where two teams each believe the ot",
        group="t1",
    )
    fault = StreamError(
        "t1/hephaestus-ai", "hephaestus-ai", "provider_unavailable", "ollama does not answer at :11434", ""
    )
    client.send(*team_answers(), *writing[:-1])
    client.send(answer("t1/hephaestus-ai", "hephaestus-ai", "s-team", "", group="t1")[0], fault)
    client.send(*answer("t1/tekton_core-ai", "tekton_core-ai", "s-team", "", group="t1")[:1])
    await settle(pilot, 10)
    app.query_one("#team-view").focus()
    await pilot.press("p", "down", "down", "down")


async def team_joint(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    """The same with an answer made from all, marks on two."""
    await team_of_18(app, client, pilot)
    text = (
        "The broker first, then the pool. Four of fifteen name the broker and two give the same figure, 12k msg/s. "
        "Penia and telos object that cost and p99 break before anything crashes: watch both at 8k msg/s.\n\n"
        "Agree: apollo, athena, metis, engram\nObject: penia, telos\n"
        "No view: numa, rhetor, sophia, hermes, noesis, terma, harmonia, dionysus"
    )
    client.send(*answer("t1/merge", "rhetor-ai", "s-team", "", text, group="t1"))
    await pilot.press("space", "down", "space")


async def team_diff(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    await team_race(app, client, pilot)
    await pilot.press("=")


async def team_judge(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    await team_done(app, client, pilot)
    await pilot.press("escape", "M")


async def chat_search(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    await chat(app, client, pilot)
    await settle(pilot, 10)
    app.query_one("#chat-apollo-ai .chat-transcript").focus()
    await pilot.press("/", *"queue")


async def models(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    large = Model("llama3.3:70b", "Llama3.3 70B", 43 << 30, 131072, "")
    client.answers[ListModels] = ProviderList(
        [
            ProviderModels("ollama", True, "", [large]),
            ProviderModels("anthropic", False, "no key for Anthropic: set ANTHROPIC_API_KEY", []),
        ]
    )
    app.commands.navigator.choose_model(["apollo-ai"])
    await settle(pilot)
    await pilot.press("+", *"qwen3:8b", "enter")
    await settle(pilot)
    detail = "pulling 61 % of 5.2 GB"
    client.send(
        ServiceEvent(ServiceStatus("pull qwen3:8b", "fetching qwen3:8b", "busy", NOW, detail=detail), NOW)
    )


async def pull_that_lasts(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    """A fetch whose answer does not come yet."""
    client.hang.add(PullModel)
    await models(app, client, pilot)


async def settings(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    client.hang.add(GetOrchestration)
    await pilot.press("f2")


async def sessions_hits(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    await sessions(app, client, pilot)
    await settle(pilot)
    await pilot.press("/", *"queue")


async def pipes_failed(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    await pipes(app, client, pilot)
    await pilot.press("right")


async def pipes_mistake(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    app.navigator.show("pipes")
    await settle(pilot)
    await pilot.press(*"apollo || athena")


async def pipes_saved(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    await pipes(app, client, pilot)
    client.answers[ListSavedPipelines] = SavedPipelineList(
        [
            SavedPipeline("headline", '{apollo,athena} "one line" | rhetor "the best of them"'),
            SavedPipeline("review", "apollo | athena | metis"),
        ]
    )
    await pilot.press("ctrl+o")


async def command_line(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    await pilot.press(":", *"launch ap")


async def help_team(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    await team_race(app, client, pilot)
    await pilot.press("?")


async def ask(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    client.send(AskOpened(ASK))
    await settle(pilot)
    app.clear_notifications()
    await pilot.press("e")


async def needs_ask(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    diff = (
        "--- /home/me/queue/tests/test_queue.py as it is\n+++ /home/me/queue/tests/test_queue.py with this text\n@@ -18,5 +18,6 @@\n"
        " def test_drain_empties_the_queue():\n-    began = time.time()\n+    clock = FrozenClock()\n+    began = clock.now()\n"
        "     queue.drain()\n"
    )
    write = msgspec.structs.replace(
        ASK, tool="files:edit_file", id="t-2", diff=diff, always="files:edit_file path=/home/me/queue/tests/test_queue.py",
        arguments='{"path": "/home/me/queue/tests/test_queue.py", "dryRun": false}',
    )  # fmt: skip
    other = msgspec.structs.replace(ASK, id="t-3", ai_id="athena-ai", since=NOW - 8)
    for one in (write, ASK, other):
        client.send(AskOpened(one))
    client.send(AttentionChanged([
        AttentionItem(f"asks:{one.id}", "asks", one.ai_id, one.since, "asks", f"{one.tool} {one.arguments}")
        for one in (write, ASK, other)
    ], []))  # fmt: skip
    await settle(pilot)
    app.clear_notifications()
    await pilot.press("4")


async def new_specialist(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> None:
    """Half-written: the prompt is there, and one field is wrong."""
    persona = "You are the critic. You read a change and name what can break, the worst first."
    head = 'name: critic\ntitle: "Critic"\ncapabilities: ["code review", "tests"]'
    text = f"---\n{head}\n---\n{persona}\n"
    problem = DraftProblem("provider", "expected one of auto, ollama, anthropic; found 'olama'")
    client.answers[PreviewSpecialist] = SpecialistDraft(
        "critic", "/home/ada/.tekton/specialists/critic/SKILL.md", text, persona, [problem]
    )
    await pilot.press("n", *"critic", "tab", "tab")
    for text, key in (("code review, tests", "tab"), (persona, "tab")):
        app.post_message(Paste(text))  # key by key it would take ten seconds
        await settle(pilot)
        await pilot.press(key)
    await pilot.press(*"olama")
    async with asyncio.timeout(60):
        while not any(label.display for label in app.screen.query("#new-provider-problem")):
            await pilot.pause(0.02)


STATES: dict[str, tuple[bool, Drive]] = {
    "fleet_empty": (False, first_run), "fleet": (True, nothing), "fleet_detail": (True, fleet_detail), "fleet_stopped": (True, fleet_stopped), "launch_plan": (False, plan), "chat": (True, chat),
    "chat_waits": (True, chat_waits), "chat_tools": (True, chat_tools), "chat_files": (True, chat_files), "chat_branch": (True, chat_branch), "switcher": (True, switcher), "chat_empty": (True, chat_empty), "team": (True, team_race), "team_zoom": (True, team_done), "team_empty": (True, team_empty),
    "errors": (True, errors), "errors_empty": (True, errors_empty), "lost": (True, lost), "quit": (True, quit_question),
    "kill": (True, kill_question), "help": (True, help_keys), "pipes": (True, pipes), "pipes_empty": (True, pipes_empty),
    "timeline": (True, timeline), "gateway": (True, gateway), "sessions": (True, sessions),
    "team_18": (True, team_of_18), "team_joint": (True, team_joint), "team_diff": (True, team_diff), "team_judge": (True, team_judge),
    "chat_search": (True, chat_search), "models": (True, pull_that_lasts), "settings": (True, settings),
    "sessions_hits": (True, sessions_hits), "pipes_failed": (True, pipes_failed), "pipes_saved": (True, pipes_saved), "pipes_mistake": (True, pipes_mistake),
    "command_line": (True, command_line), "fleet_wall": (True, wall), "fleet_log": (True, fleet_log), "fleet_columns": (True, columns), "help_team": (True, help_team), "ask": (True, ask),
    "needs": (True, needs), "needs_ask": (True, needs_ask), "new_specialist": (True, new_specialist),
}  # fmt: skip


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("state", STATES)
def test_picture(state: str, size: tuple[int, int], snap_compare: Any, written: list[Emulator]) -> None:
    _compare(state, size, snap_compare, written)


PLACES = (
    "fleet_empty",
    "fleet",
    "fleet_detail",
    "fleet_stopped",
    "chat_tools",
    "team_18",
    "team_joint",
    "needs",
    "timeline",
    "gateway",
)


@pytest.mark.parametrize(("size", "theme"), [((40, 10), ""), ((200, 60), ""), ((120, 40), LIGHT_NAME)],
                         ids=["40x10", "200x60", "light"])  # fmt: skip
@pytest.mark.parametrize("state", PLACES)
def test_place(
    state: str, size: tuple[int, int], theme: str, snap_compare: Any, written: list[Emulator]
) -> None:
    """Each place where there is next to no room, where there is plenty, and in light."""
    _compare(state, size, snap_compare, written, theme)


def look(app: TektonApp, size: tuple[int, int]) -> None:
    """Check what holds of every screen of every size: each row is exactly as wide as the terminal, the edges are kept, and
    only what has more rows than room has a scrollbar.
    """
    rows = screen_text(app).split("\n")
    assert [cell_len(line) for line in rows] == [size[0]] * size[1]
    assert rows[-1].rstrip().endswith("keys"), "the right end of the line of keys is kept"
    assert "tekton" in rows[0]
    for view in app.screen.query(RowView):
        rows_and_room = view.virtual_size.height, view.container_size.height
        assert view.show_vertical_scrollbar == (rows_and_room[0] > rows_and_room[1] > 0), view


def _compare(
    state: str, size: tuple[int, int], snap_compare: Any, written: list[Emulator], theme: str = ""
) -> None:
    """Compare a state with its picture, and what a terminal was sent bit by bit with what the screen shows."""
    running, drive = STATES[state]
    written.append(terminal := Emulator(*size))
    rows = busy_fleet() if running else []
    first = snapshot(*rows, services=[MODEL_SERVER], history=ten_minutes()) if running else snapshot()
    client = FakeClient(first)
    app = TektonApp(client.connect, theme=theme)

    async def before(pilot: Pilot[Any]) -> None:
        await settle(pilot, 8)
        await drive(app, client, pilot)
        await settle(pilot, 16)
        await at_rest(pilot)
        if state in PLACES:
            look(app, size)
        shown = [row.rstrip() for row in screen_text(app).splitlines()]
        assert [row.rstrip() for row in terminal.rows] == shown

    assert snap_compare(app, terminal_size=size, run_before=before)
