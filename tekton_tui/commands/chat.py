"""Commands on single specialists' conversations: ask, begin anew, cancel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from backend.schema.content import AnswerOptions, Effort, Part, TextPart
from backend.schema.errors import TektonError
from backend.schema.params import Cancel, Chat, GetSent, ResetMember
from tekton_tui.commands.navigator import Navigator
from tekton_tui.runtime.controller import Controller, new_request_id
from tekton_tui.stores import LiveTurn


class ChatCommands:
    """Sends questions; answers come as events."""

    def __init__(self, controller: Controller, navigator: Navigator) -> None:
        self._controller, self._navigator = controller, navigator

    def ask(
        self,
        ai_id: str,
        text: str,
        session_id: str = "",
        *,
        files: Sequence[Part] = (),
        effort: Effort | None = None,
        after: str = "",
        on_refused: Callable[[str], None] | None = None,
    ) -> None:
        """Send a question to one specialist; `on_refused` gets the text back if the backend refuses it.

        `files` go along, and `effort` is how hard its model is to think. `after` is the question it stands behind, by
        default the newest.
        """
        self._controller.start(
            _question(ai_id, text, session_id, files, effort, after),
            otherwise=on_refused and partial(on_refused, text),
        )

    def ask_again(self, ai_id: str, text: str, session_id: str = "", after: str = "") -> None:
        """Send a question once more, after a yes: it costs another turn, and is a branch beside the first."""
        self._navigator.confirm(
            "Ask again",
            "This sends the question once more, as a branch; what followed it stays behind { }:",
            [text],
            "Ask again",
            lambda: self.ask(ai_id, text, session_id, after=after),
        )

    def ask_named(
        self, name: str, text: str, *, files: Sequence[Part] = (), effort: Effort | None = None
    ) -> None:
        """Ask the specialist of a typed name, `auto` being the one that suits best, and show its conversation."""

        ai_id = "@auto" if name.lower() == "auto" else name
        self._controller.start(
            _question(ai_id, text, "", files, effort),
            self._navigator.if_still_here(
                "the conversation", lambda started: self._navigator.open_chat(started.ai_id)
            ),
        )

    def show_sent(self, key: str) -> None:
        """Show what the model was sent for a message, whose key is its turn's id."""
        self._controller.request(
            GetSent(target=key.removeprefix("ask:")),
            self._navigator.if_still_here("what was sent", self._navigator.open_sent),
        )

    def new_session(self, owner: str, then: Callable[[str], None]) -> None:
        """Begin a new conversation and make it the specialist's default; `then` gets its id."""
        self._controller.request(ResetMember(owner), lambda session: then(session.id))

    def cancel(self, request_id: str) -> None:
        """End a turn, a team turn or a pipeline; where it is shown it says that it was stopped."""
        self._controller.request(Cancel(request_id))

    def cancel_turns(self, turns: Iterable[LiveTurn]) -> None:
        """End several turns, one after the other: what is named first has ended before the next is touched."""

        async def cancel() -> None:
            for turn in named:
                try:
                    await self._controller.call(Cancel(turn.request_id))
                except TektonError as error:
                    self._controller.notify(error.message, failed=True)

        named = list(turns)
        self._controller.spawn(cancel())


def _question(
    ai_id: str, text: str, session_id: str, files: Sequence[Part], effort: Effort | None, after: str = ""
) -> Chat:
    return Chat(
        ai_id,
        text,
        session_id=session_id,
        request_id=new_request_id(),
        parts=[TextPart(text), *files] if files else None,
        options=AnswerOptions(effort=effort) if effort else None,
        after=after,
    )
