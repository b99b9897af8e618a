"""Commands that ask: one specialist, the team, a judge, a pipeline; and cancel. Answers come as events."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from tekton_tui.commands.places import PlaceCommands
from tekton_tui.desk import new_request_id
from tekton_tui.screens.choice import ChoiceScreen
from tekton_tui.stores import LiveTeam, LiveTurn

FIRST_JUDGE = "rhetor"
"""Who is offered first to write one answer from many."""


class AskCommands(PlaceCommands):
    """What is said to specialists."""

    def ask(
        self, ai_id: str, text: str, session_id: str = "", *, otherwise: Callable[[str], None] | None = None
    ) -> None:
        """Send a prompt to one specialist; the answer comes as events. `otherwise` gets the text back if refused."""
        self._desk.do(
            "chat",
            otherwise=otherwise and partial(otherwise, text),
            ai_id=ai_id,
            content=text,
            session_id=session_id or None,
            request_id=new_request_id(),
            wait=False,
        )

    def ask_named(self, name: str, text: str) -> None:
        """Ask whoever a typed name means, `auto` being whoever suits best; its tab opens."""

        def started(answer: dict[str, Any]) -> None:
            self.open_chat(answer["ai_id"])

        auto = "@auto" if name.lower() == "auto" else name
        self._desk.do("chat", then=started, ai_id=auto, content=text, request_id=new_request_id(), wait=False)

    def new_session(self, owner: str, then: Callable[[str], None]) -> None:
        """Begin a new conversation and make it the default one."""
        self._desk.do("reset_member", then=lambda session: then(session["id"]), id=owner)

    def ask_team(
        self,
        text: str,
        targets: list[str],
        mode: str | None = None,
        *,
        otherwise: Callable[[str], None] | None = None,
    ) -> str:
        """Send a prompt to many; return the request id its lanes will carry. `otherwise` gets a refused text back."""
        request_id = new_request_id()
        self._desk.do(
            "team_chat",
            otherwise=otherwise and partial(otherwise, text),
            content=text,
            target_ids=targets or None,
            mode=mode,
            request_id=request_id,
            wait=False,
        )
        return request_id

    def discuss(self, team_request_id: str) -> None:
        self._desk.do("discuss", team_request_id=team_request_id, request_id=new_request_id())

    def merge(self, team: LiveTeam, answers: dict[str, str]) -> None:
        """Let a judge write one answer from several; it comes as a further lane of the team turn.

        `answers` holds texts by specialist id. Asks who judges when more than one could; Rhetor comes first.
        """
        live = sorted(self._stores.fleet.live(), key=lambda row: row.name != FIRST_JUDGE)
        if not live:
            self.tell("nobody runs who could merge: launch somebody first (1)", bad=True)
        elif len(live) == 1:
            self._merge(team, answers, live[0].id)
        else:
            choices = [(row.id, row.name, row.title) for row in live]
            title = f"Who merges {len(answers)} answers?"
            self._shell.push_screen(
                ChoiceScreen(title, choices), lambda judge: judge and self._merge(team, answers, judge)
            )

    def _merge(self, team: LiveTeam, answers: dict[str, str], judge: str) -> None:
        start = team.start
        number = sum(lane.partition("/")[0] == "merge" for lane in team.lanes) + 1
        self._desk.do(
            "chat",
            ai_id=judge,
            content=f"The team was asked: {start.prompt}\n\nWrite one joint answer from the answers above.",
            session_id=start.session_id,
            context={
                "previous": [{"specialist_id": name, "content": text} for name, text in answers.items()]
            },
            group=start.request_id,
            request_id=f"{start.request_id}/merge" + (f"/{number}" if number > 1 else ""),
            wait=False,
        )

    def ask_lane_again(self, team: LiveTeam, ai_id: str) -> None:
        """Ask one member of a team turn the same question once more.

        The answer takes its old lane's place, here and in the rounds of discussion to come.
        """
        self._desk.do(
            "ask_member", team_request_id=team.start.request_id, ai_id=ai_id, request_id=new_request_id()
        )

    def cancel(self, request_id: str) -> None:
        """End a turn, a team turn or a pipeline; the worker's confirmation is told."""

        def confirmed(answer: dict[str, Any]) -> None:
            self._desk.notice.emit(
                f"stopped after {answer['chunks']} tok, {answer['elapsed_ms']:.0f} ms", False
            )

        self._desk.do("cancel", then=confirmed, request_id=request_id)

    def cancel_turns(self, turns: list[LiveTurn]) -> None:
        for turn in turns:
            self.cancel(turn.request_id)

    def saved_pipelines(self, then: Callable[[str], None], keep: str = "") -> None:
        """Show the pipelines kept under a name, `keep` to be one of them; `then` gets the text of the one taken."""
        from tekton_tui.screens.saved import SavedScreen

        self._shell.push_screen(SavedScreen(self._desk, keep), lambda text: then(text) if text else None)

    def run_pipeline(
        self,
        text: str,
        given: str = "",
        *,
        run_id: str = "",
        from_stage: int = 0,
        otherwise: Callable[[str], None] | None = None,
    ) -> None:
        """Run a pipeline on an input, or a known run anew from a stage. `otherwise` gets the text back if refused."""
        self._desk.do(
            "pipeline",
            otherwise=otherwise and partial(otherwise, text),
            pipeline=text,
            input=given,
            run_id=run_id or None,
            from_stage=from_stage or None,
            request_id=new_request_id(),
            wait=False,
        )
