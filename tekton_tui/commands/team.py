"""Commands on team turns: ask many, let them discuss, merge their answers, ask one again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from backend.schema.frames import PreviousOutput
from backend.schema.orchestration import Mode
from backend.schema.params import AskMember, Chat, ChatContext, Discuss, TeamChat
from tekton_tui.commands.navigator import Navigator
from tekton_tui.runtime.controller import Controller, new_request_id
from tekton_tui.stores import LiveTeam

FIRST_JUDGE = "rhetor"
"""The specialist offered first to write one answer from many."""


class TeamCommands:
    """Sends questions to several specialists; each answer comes as a lane of the team turn."""

    def __init__(self, controller: Controller, navigator: Navigator) -> None:
        self._controller, self._navigator = controller, navigator

    def ask(
        self,
        text: str,
        targets: Sequence[str] = (),
        mode: Mode | None = None,
        *,
        on_refused: Callable[[str], None] | None = None,
    ) -> None:
        """Send a question to `targets`, by default to all that run.

        `mode` is how the answers are moderated; `on_refused` gets the text back if the backend refuses it.
        """
        self._controller.start(
            TeamChat(text, target_ids=list(targets) or None, mode=mode, request_id=new_request_id()),
            otherwise=on_refused and partial(on_refused, text),
        )

    def discuss(self, team_request_id: str) -> None:
        """Start a discussion round over the answers of a team turn, after a yes: each member answers once more."""
        self._navigator.confirm(
            "Discuss",
            "Each member sees the others' answers and is asked once more.",
            [],
            "Discuss",
            lambda: self._controller.start(Discuss(team_request_id, request_id=new_request_id())),
        )

    def merge(self, team: LiveTeam, answers: Mapping[str, str]) -> None:
        """Let a judge write one answer from several; it comes as a further lane of the team turn.

        `answers` holds texts by specialist id. Asks who judges when more than one could; Rhetor comes first.
        """
        live = sorted(self._controller.stores.fleet.live(), key=lambda row: row.name != FIRST_JUDGE)
        if not live:
            self._controller.notify("nobody runs who could merge: launch somebody first (1)", failed=True)
        elif len(live) == 1:
            self._merge(team, answers, live[0].id)
        else:
            choices = [(row.id, row.name, row.title) for row in live]
            self._navigator.choose(
                f"Who merges {len(answers)} answers?", choices, partial(self._merge, team, answers)
            )

    def _merge(self, team: LiveTeam, answers: Mapping[str, str], judge: str) -> None:
        start = team.start
        number = sum(lane.partition("/")[0] == "merge" for lane in team.lanes) + 1
        previous = [PreviousOutput(name, text) for name, text in answers.items()]
        self._controller.start(
            Chat(
                judge,
                f"The team was asked: {start.prompt}\n\nWrite one joint answer from the answers above.",
                session_id=start.session_id,
                context=ChatContext(previous=previous),
                group=start.request_id,
                request_id=f"{start.request_id}/merge" + (f"/{number}" if number > 1 else ""),
            )
        )

    def ask_again(self, team: LiveTeam, ids: Sequence[str]) -> None:
        """Ask members of a team turn the same question once more, after a yes.

        The answer replaces the member's earlier one, on the screen and in the discussion rounds to come.
        """

        def ask() -> None:
            for ai_id in ids:
                self._controller.start(AskMember(team.start.request_id, ai_id, request_id=new_request_id()))

        names = self._controller.stores.fleet.names(ids)
        self._navigator.confirm(
            "Ask again", "This sends the question once more, to:", [names], "Ask again", ask
        )
