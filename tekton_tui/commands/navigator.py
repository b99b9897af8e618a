"""What commands need of the screen: places to go to, dialogs, the clipboard. A protocol; the app's part implements it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeVar

from backend.schema.records import FleetPlan
from backend.schema.results import SpecialistCreated, SpecialistDetail
from backend.schema.sent import SentReport
from backend.schema.tools import Ask

R = TypeVar("R")


class Answer(NamedTuple):
    """A text and the name of whoever wrote it."""

    name: str
    text: str


class Choice(NamedTuple):
    """What the operator says to a tool call: `allow`, `always`, `deny` or `later`; `words` are for the model.

    `option` is one of the agent's own answers, by its id.
    """

    answer: str
    words: str = ""
    option: str = ""


class Navigator(Protocol):
    """Shows screens and asks questions. None of its methods waits for the operator; answers go to `then`."""

    # screens

    def show(self, screen: str) -> None:
        """Show a screen by its key in the registry."""

    def open_chat(self, ai_id: str, session_id: str = "", sought: str = "") -> None:
        """Show a specialist's conversation; `session_id` names an earlier one, `sought` words to go to in it."""

    def if_still_here(self, what: str, then: Callable[[R], None]) -> Callable[[R], None]:
        """Return `then` for a result that is asked for now, to be shown in front of the operator who waits for it.

        Called when the operator has gone to another place, dialog or field meanwhile, it says that `what` is not shown.
        """
        ...

    def expect_chat(self, ai_id: str = "") -> Callable[[bool], bool]:
        """Have what is written from now on wait for a specialist's conversation, or anybody's, which is shown then.

        Returns what is to be called once it can be shown, or with `False` when it cannot; that says whether it is still
        waited for: whoever has gone elsewhere meanwhile is left there.
        """
        ...

    def run_in_conversation(self, line: str) -> bool:
        """Carry out a line in the conversation on the screen, as if written in its composer; return whether there is one."""
        ...

    def open_team(self, ids: Sequence[str] = ()) -> None:
        """Show Team Chat, addressed to these specialists or to all that run."""

    def find_conversations(self, words: str) -> None:
        """Show all conversations, or those that hold these words."""

    def open_team_session(self, session_id: str) -> None:
        """Show an earlier conversation with the team."""

    def open_team_answer(self, session_id: str, request_id: str) -> None:
        """Show the team turn, in its conversation, that an answer is of, with the cursor on the joint one if it is that."""

    def open_pipes(self, draft: str = "") -> None:
        """Show the pipelines, with the beginning of one in the composer."""

    def pipe_text(self, text: str, source: str = "") -> None:
        """Show the pipelines with a text, written by `source`, as the input of the next run."""

    def open_errors(self, where: str = "") -> None:
        """Show the error log, with the cursor on the newest error of a specialist."""

    def open_needs(self, item_id: str) -> None:
        """Show what waits for the operator, with the cursor on an item."""

    def go_to_specialist(self, ai_id: str) -> None:
        """Show the fleet with the cursor on a specialist's row."""

    def show_launched(self, ids: Sequence[str]) -> None:
        """Put the fleet's cursor on one of these if it is on nobody that runs."""

    def show_created(self, ai_id: str) -> bool:
        """Put the fleet's cursor on a new row if the fleet is shown; return whether it is."""
        ...

    # overlays

    def open_new_specialist(self, name: str, then: Callable[[SpecialistCreated], None]) -> None:
        """Show the form for a specialist of one's own; `then` gets what was created."""

    def open_logs(self, ai_id: str) -> None:
        """Show what a specialist's process wrote."""

    def open_description(self, specialist: SpecialistDetail) -> None:
        """Show what `get_specialist` answered."""

    def open_sent(self, report: SentReport) -> None:
        """Show what `get_sent` answered."""

    def choose_model(self, ids: Sequence[str], *, fetch: bool = False) -> None:
        """Let the operator choose the model of specialists."""

    def open_switcher(self) -> None:
        """Let the operator choose somebody or a conversation by a part of its name, and show it."""

    def choose_saved_pipeline(self, then: Callable[[str], None], keep: str = "") -> None:
        """Let the operator choose a saved pipeline, or save `keep` under a name; `then` gets the chosen one's text."""

    def compare(self, left: Answer, right: Answer) -> None:
        """Show two answers side by side, with their differences marked."""

    def open_help(self) -> None:
        """Show the keys of the current screen."""

    def open_settings(self) -> None:
        """Show the UI preferences and the orchestration policy."""

    # questions

    def confirm(
        self, title: str, question: str, names: Sequence[str], verb: str, then: Callable[[], None]
    ) -> None:
        """Name what an action would hit; `then` is called if the operator agrees."""

    def confirm_launch(self, plan: FleetPlan, why: str, then: Callable[[str], None]) -> None:
        """Show a launch plan and why its provider was chosen; `then` gets `yes`, `model`, `group` or `cancel`."""

    def choose(
        self, title: str, choices: Sequence[tuple[str, str, str]], then: Callable[[str], None]
    ) -> None:
        """Offer `(answer, name, hint)` choices; `then` gets the chosen answer."""

    def open_ask(self, ask: Ask, then: Callable[[Choice], None], *, say_why: bool = False) -> None:
        """Show a tool call that waits; `then` gets what the operator says to it. `say_why` begins with a denial."""

    def ask_quit(self, live: Sequence[str], then: Callable[[str], None]) -> None:
        """Ask what becomes of the specialists that run; `then` gets `leave`, `stop` or `cancel`."""

    # the terminal

    def copy_to_clipboard(self, text: str) -> None:
        """Copy a text by way of the terminal."""

    def exit(self) -> None:
        """End the console."""
