"""Commands on several specialists at once: team turns (ask, discuss, merge, ask one again) and pipelines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from backend.schema.frames import PreviousOutput
from backend.schema.orchestration import Mode
from backend.schema.params import AskMember, Chat, ChatContext, Discuss, RunPipeline, TeamChat
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

    def merge(self, team: LiveTeam, answers: Mapping[str, str], asked: str) -> None:
        """Let a judge write one answer from several; it comes as a further lane of the team turn.

        `answers` holds texts by specialist id, `asked` is what the judge is told to do with them. Asks who judges when
        more than one could; Rhetor comes first.
        """
        live = sorted(self._controller.stores.fleet.live(), key=lambda row: row.name != FIRST_JUDGE)
        if not live:
            self._controller.notify("nobody runs who could merge: launch somebody first (1)", failed=True)
        elif len(live) == 1:
            self._merge(team, answers, asked, live[0].id)
        else:
            choices = [(row.id, row.name, row.title) for row in live]
            self._navigator.choose(
                f"Who merges {len(answers)} answers?", choices, partial(self._merge, team, answers, asked)
            )

    def vote(
        self, team: LiveTeam, answers: Mapping[str, str], asked: Callable[[str, Iterable[str]], str]
    ) -> None:
        """Ask each member that runs which answer is the best but its own, after a yes: it costs each a turn.

        `answers` holds texts by specialist id; `asked` makes the question of the prompt and the names. The votes come as
        turns of the team turn, named `vote/<ai_id>`, with a number behind from the second vote on.
        """
        fleet, start = self._controller.stores.fleet, team.start
        voters = [row.id for row in fleet.live() if row.id in answers]
        if len(answers) < 2 or not voters:
            self._controller.notify("a vote needs two whole answers, and a member that runs", failed=True)
            return
        number = sum(lane.startswith("vote/") for lane in team.lanes) // max(1, len(voters)) + 1

        def ask() -> None:
            for voter in voters:
                others = {ai_id: text for ai_id, text in answers.items() if ai_id != voter}
                names = [ai_id.removesuffix("-ai") for ai_id in others]
                name = f"vote/{voter}" + (f"/{number}" if number > 1 else "")
                self._controller.start(
                    Chat(
                        voter,
                        asked(start.prompt, names),
                        session_id=start.session_id,
                        context=ChatContext(
                            previous=[PreviousOutput(ai_id, text) for ai_id, text in others.items()]
                        ),
                        group=start.request_id,
                        request_id=f"{start.request_id}/{name}",
                    )
                )

        words = "Each is asked which answer is the best but its own, which costs it a turn:"
        self._navigator.confirm("Vote", words, [fleet.names(voters)], "Vote", ask)

    def _merge(self, team: LiveTeam, answers: Mapping[str, str], asked: str, judge: str) -> None:
        start = team.start
        number = sum(lane.partition("/")[0] == "merge" for lane in team.lanes) + 1
        previous = [PreviousOutput(name, text) for name, text in answers.items()]
        self._controller.start(
            Chat(
                judge,
                f"The team was asked: {start.prompt}\n\n{asked}",
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


class PipelineCommands:
    """Starts pipelines; their stages and texts come as events."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    def run(
        self,
        text: str,
        given: str = "",
        *,
        run_id: str = "",
        from_stage: int = 0,
        on_refused: Callable[[str], None] | None = None,
    ) -> None:
        """Run a pipeline on an input, or an earlier run (`run_id`) anew from a stage counted from 1.

        `on_refused` gets the pipeline's text back if the backend refuses it.
        """
        self._controller.start(
            RunPipeline(text, given, run_id=run_id, from_stage=from_stage, request_id=new_request_id()),
            otherwise=on_refused and partial(on_refused, text),
        )
