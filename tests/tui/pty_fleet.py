"""A console over a running fleet of scripted specialists, to be run as a program on a terminal: `python -m tests.tui.pty_fleet`.

They answer, are stopped and started, wait for the operator's word, fail and are talked to: every place has what its verbs act
on. What is asked of the fleet goes as lines to the descriptor in `CALLS_FD`: the name of the call and the beginning of its
fields. A call that no answer of the operator just before was meant for begins with `!`: a question answered yes allows what it
asked about and nothing else, Enter in a composer sends text and ends nobody.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

import msgspec
from textual.widgets import Input, OptionList

from backend.schema.attention import AttentionItem
from backend.schema.errors import TektonError
from backend.schema.events import AskClosed, ErrorEntry, TeamEnd
from backend.schema.frames import StreamChunk, StreamEnd, StreamMetadata, Usage
from backend.schema.params import (
    AcknowledgeAttention,
    AnswerAsk,
    AskMember,
    Cancel,
    Chat,
    DeleteSession,
    Discuss,
    Kill,
    Launch,
    ListModels,
    ListPipelines,
    ListSavedPipelines,
    ListSessions,
    RemovePipeline,
    Restart,
    SavePipeline,
    SnoozeAttention,
    TeamChat,
)
from backend.schema.records import (
    ErrorRecord,
    FleetPlan,
    LaunchPlanItem,
    LaunchResult,
    RunRecord,
    SavedPipeline,
    StageRecord,
)
from backend.schema.results import (
    AskAnswered,
    AttentionList,
    CancelResult,
    KillResult,
    LaunchReport,
    Model,
    PipelineRuns,
    ProviderList,
    ProviderModels,
    RestartResult,
    SavedPipelineList,
    SessionDeleted,
    SessionList,
    Started,
)
from tekton_tui.app import TektonApp
from tekton_tui.screens.ask import AskDialog
from tekton_tui.screens.choice import ChoiceScreen
from tekton_tui.screens.dialogs import Dialog, Question
from tekton_tui.screens.models import ModelScreen
from tekton_tui.screens.needs import NeedsPane
from tekton_tui.screens.new_specialist import NewSpecialistScreen
from tekton_tui.screens.saved import SavedScreen
from tekton_tui.widgets.chat.ask_cards import AskKeys
from tekton_tui.widgets.common.command_line import CommandLine
from tekton_tui.widgets.composer.editor import Editor
from tekton_tui.widgets.fleet.first_run import FirstRun
from tests.tui.fake_client import NOW, FakeClient, answer, live, row, session, snapshot, team
from tests.tui.pty_asks import asks, item

RUNNING = ("rhetor", "numa", "apollo", "athena", "ergon")
SOON_S = 3.0
"""How long an answer of the operator allows what it was about: a call is held a second for `u`, and the machine may be slow."""
HARMFUL = frozenset(
    "Launch Kill Restart Chat TeamChat Discuss AskMember RunPipeline DeleteSession ResetMember RemovePipeline SavePipeline "
    "SetModel UseModel PullModel SetAgentOption AnswerAsk ExportSession CreateSpecialist Shutdown".split()
)
"""Calls that start, end, restart, send, change or delete something, or write a file."""
TOLD = HARMFUL | {"Cancel"}
"""Calls that tests look at: an answer that is written is ended by one key, without a question."""
WRITTEN = "Chat TeamChat RunPipeline ResetMember ExportSession"
"""What Enter in a composer may do: send, begin anew by `/new`, write by `/export`."""
BY_TITLE = {
    "Kill": "Kill", "Stop": "Kill", "Restart": "Restart", "Launch": "Launch PullModel", "Quit": "Shutdown", "Delete": "DeleteSession",
    "Ask": "Chat AskMember", "Discuss": "Discuss", "Vote": "Chat", "Run": "RunPipeline", "Remove": "RemovePipeline",
    "Replace": "SavePipeline RemovePipeline", "Who": "Chat", "Write": "ExportSession", "which": "UseModel", "Use": "UseModel", "what": "SetAgentOption",
}  # fmt: skip
"""What a yes allows, by the first word of the question's title."""


NAMED: dict[type[Any], str] = {ModelScreen: "PullModel", SavedScreen: "SavePipeline RemovePipeline"}
"""What Enter in the field of a screen may do."""


class Permits:
    """What the operator has just agreed to."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def give(self, names: str) -> None:
        for name in names.split():
            self._until[name] = time.monotonic() + SOON_S

    def allow(self, name: str) -> bool:
        return name not in HARMFUL or time.monotonic() < self._until.get(name, 0.0)


PERMITS = Permits()


def permitting(kind: type[Any], method: str, names: Callable[..., str]) -> None:
    """Have a method allow what `names` returns of its arguments, before it does what it does."""
    original = getattr(kind, method)

    @wraps(original)
    def permitted(self: Any, *given: Any, **named: Any) -> Any:
        PERMITS.give(names(self, *given, **named))
        return original(self, *given, **named)

    setattr(kind, method, permitted)


def answered(question: Question[Any], result: Any = None) -> str:
    """Return what the answer to a question allows."""
    if result in (None, "", "cancel", "later"):
        return ""
    if isinstance(question, AskDialog):
        return "AnswerAsk"
    title = str(question._title) if isinstance(question, (Dialog, ChoiceScreen)) else ""
    return BY_TITLE.get(title.partition(" ")[0], "")


def watch() -> None:
    permitting(Question, "dismiss", answered)
    permitting(Editor, "action_send", lambda editor: WRITTEN)
    permitting(
        CommandLine, "_run", lambda line, text: WRITTEN if text.split()[0] in ("ask", "write", "team") else ""
    )
    permitting(NeedsPane, "_answer", lambda pane, choice: "AnswerAsk")
    permitting(AskKeys, "_give", lambda keys, choice: "AnswerAsk")
    permitting(
        OptionList,
        "action_select",
        lambda listing: "SetModel" if isinstance(listing.screen, ModelScreen) else "",
    )
    permitting(Input, "action_submit", lambda field: NAMED.get(type(field.screen), ""))
    permitting(NewSpecialistScreen, "action_create", lambda form: "CreateSpecialist")
    permitting(FirstRun, "action_begin", lambda form: "Launch UseModel PullModel")


class Fleet(FakeClient):
    """Answers, starts and ends as a backend would, and tells each call as it is made."""

    def __init__(self) -> None:
        self.rows = {f"{name}-ai": live(name, 20_000 + at) for at, name in enumerate(RUNNING)}
        first = snapshot(
            *self.rows.values(),
            row("sophia", state="exited", exit_code=3, since=NOW, cause="port 45006 is held"),
        )
        waiting = asks()[:3]
        down = AttentionItem("down:sophia-ai", "down", "sophia-ai", NOW, "exited 3", "port 45006 is held")
        first.asks, first.attention = waiting, [*map(item, waiting), down]
        super().__init__(first)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._answer_calls(waiting)

    def _answer_calls(self, waiting: list[Any]) -> None:
        saved = [SavedPipeline("review", "apollo | athena")]
        sessions = [session(f"s{at}", "apollo-ai", title=f"talk {at}", messages=2) for at in range(3)]
        plan = FleetPlan([LaunchPlanItem("penia-ai", "penia", True)])

        def launched(params: Launch) -> LaunchReport:
            if params.dry_run:
                return LaunchReport(plan)
            self._turned(["penia-ai"], lambda name: live(name, 30_000))
            return LaunchReport(results=[LaunchResult("penia-ai", True)])

        def ended(params: Kill) -> KillResult:
            self._turned(params.ids, row)
            return KillResult([LaunchResult(name, True) for name in params.ids])

        def deleted(params: DeleteSession) -> SessionDeleted:
            sessions[:] = [one for one in sessions if one.id != params.id]
            return SessionDeleted(params.id)

        def allowed(params: AnswerAsk) -> AskAnswered:
            self.send(AskClosed(params.id, "apollo-ai", params.answer, "you"))
            return AskAnswered(params.id, "apollo-ai", "web:fetch", params.answer, "you")

        self.answers |= {
            Launch: launched,
            Kill: ended,
            Restart: lambda params: RestartResult([LaunchResult(name, True) for name in params.ids]),
            Chat: self._chat,
            TeamChat: self._team,
            Discuss: self._again,
            AskMember: self._again,
            Cancel: self._cancel,
            ListSessions: lambda params: SessionList(len(sessions), sessions),
            DeleteSession: deleted,
            ListSavedPipelines: lambda params: SavedPipelineList(saved),
            SavePipeline: lambda params: SavedPipeline(params.name, params.pipeline),
            RemovePipeline: lambda params: saved[0],
            ListPipelines: PipelineRuns([RunRecord("p1", "apollo | athena", [StageRecord("apollo"), StageRecord("athena")], NOW)]),
            ListModels: ProviderList([ProviderModels("ollama", True, "", [Model("qwen3:8b", "Qwen3 8B", 5 << 30, 32768, "")])]),
            AnswerAsk: allowed,
            AcknowledgeAttention: AttentionList([]),
            SnoozeAttention: AttentionList([]),
        }  # fmt: skip

    async def call(self, params: Any, /) -> Any:
        name = "Plan" if isinstance(params, Launch) and params.dry_run else type(params).__name__
        mark = "" if PERMITS.allow(name) else "!"
        line = f"{mark}{name} {msgspec.json.encode(params).decode()[:200]}\n"
        os.write(int(os.environ["CALLS_FD"]), line.encode())
        if type(params) not in self.answers:
            raise TektonError("these specialists are scripted: they cannot do that", code="invalid_request")
        return await super().call(params)

    def _turned(self, ids: list[str], made: Callable[[str], Any]) -> None:
        for ai_id in ids:
            self.rows[ai_id] = made(ai_id.removesuffix("-ai"))
            self.changed(self.rows[ai_id])

    def _run(self, request_id: str, work: Coroutine[Any, Any, None]) -> Started:
        self._tasks[request_id] = asyncio.create_task(work)
        return Started(request_id)

    def _chat(self, params: Chat) -> Started:
        ai_id = params.ai_id if params.ai_id in self.rows else "apollo-ai"
        turn = answer(
            params.request_id, ai_id, params.session_id or f"s-{ai_id}", params.content, group=params.group
        )
        self._run(params.request_id, self._speak(turn))
        return Started(params.request_id, ai_id=ai_id)

    def _team(self, params: TeamChat) -> Started:
        names = [name for name in RUNNING if self.rows[f"{name}-ai"].pid]
        return self._run(params.request_id, self._all_speak(params.request_id, params.content, names))

    def _again(self, params: Any) -> Started:
        return Started(params.request_id)

    def _cancel(self, params: Cancel) -> Any:
        if (task := self._tasks.pop(params.target, None)) is None:
            raise TektonError("it has ended", code="not_found")
        task.cancel()
        return CancelResult(params.target, True, 1, 1.0)

    async def _speak(self, turn: list[Any]) -> None:
        """Write twenty words over two seconds, so that keys meet answers under way."""
        request_id, words, why = turn[0].request_id, 0, "stop"
        self.send(*turn[:2])
        try:
            for words in range(1, 21):
                await asyncio.sleep(0.1)
                self.send(StreamChunk(request_id, "one risk, ", words))
        except asyncio.CancelledError:
            why = "cancelled"
        facts = StreamMetadata(words, words, 2.0, turn[0].ai_id, "m", why, Usage(20, words), 210.0)
        self.send(StreamEnd(request_id, facts))

    async def _all_speak(self, request_id: str, prompt: str, names: list[str]) -> None:
        self.send(team(request_id, prompt, *names))
        turns = [answer(f"{request_id}/{n}-ai", f"{n}-ai", "s-team", "", group=request_id) for n in names]
        await asyncio.gather(*map(self._speak, turns))
        self.send(TeamEnd(request_id, len(names), 0, 0, 2.0))


def main() -> None:
    watch()
    fleet = Fleet()
    app = TektonApp(fleet.connect)
    fleet.send(ErrorEntry(ErrorRecord(1, "sophia-ai", "exited", "port 45006 is held", NOW, NOW), 1))
    app.run()


if __name__ == "__main__":
    main()
