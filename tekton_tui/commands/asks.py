"""Commands on what waits for the operator's word: tool calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from backend.schema.events import AskClosed
from backend.schema.params import AnswerAsk
from backend.schema.tools import Ask
from tekton_tui.commands.navigator import Choice, Navigator
from tekton_tui.commands.undo import Undo
from tekton_tui.runtime.controller import Controller
from tekton_tui.stores.asks import how_closed


class AskCommands:
    """Shows what waits, and answers it."""

    def __init__(self, controller: Controller, navigator: Navigator, undo: Undo) -> None:
        self._controller, self._navigator, self._undo = controller, navigator, undo
        self._store = controller.stores.asks
        self._store.closed.subscribe(self._closed)

    def first(self, name: str = "") -> Ask | None:
        """Return the oldest ask that nobody has answered here, of one specialist if it is named."""
        asks = self._store.asks.values()
        return next(
            (ask for ask in asks if name in ("", ask.ai_id) and ask.id not in self._store.given), None
        )

    def given(self, ask: Ask) -> str:
        """Return what was answered here, in words, until the backend says what became of it; empty for nothing."""
        word = self._store.given.get(ask.id, "")
        return f"{word} · u takes it back" if word and self._undo.holds(ask.id) else word

    def _closed(self, event: AskClosed) -> None:
        """Forget an answer that is still held for a call that waits no more: there is nothing to take back."""
        if self._undo.drop(event.id):
            self._controller.notify(f"{how_closed(event)}; your answer was not sent", failed=True)

    def open(self, name: str = "") -> bool:
        """Show the oldest ask, of one specialist if it is named; return whether there is one."""
        if (ask := self.first(name)) is None:
            return False
        self.show(ask)
        return True

    def show(self, ask: Ask, *, say_why: bool = False) -> None:
        """Show one ask alone; `say_why` begins with the field for what the model is told."""
        self._navigator.open_ask(ask, lambda choice: self._answer(ask, choice), say_why=say_why)

    def answer(self, asks: Sequence[Ask], choice: Choice, otherwise: Callable[[Ask], None]) -> None:
        """Answer calls that are on the screen; `otherwise` is called with each whose answer was not taken."""
        for ask in asks:
            self._answer(ask, choice, otherwise)

    def _answer(self, ask: Ask, choice: Choice, otherwise: Callable[[Ask], None] | None = None) -> None:
        """Send an answer after a moment in which it can be taken back; one that is late fails with the name of who was first."""
        if choice.answer == "later" or ask.id in self._store.given:
            return
        says_no = choice.answer == "deny" and not (ask.form is not None and choice.words)
        answer: Literal["allow", "deny"] = (
            "deny" if says_no else "allow"
        )  # words are what a form is filled with
        always = ask.always if choice.answer == "always" else ""
        params = AnswerAsk(ask.id, answer, always, choice.words, choice.option)

        done = {"allow": "allowed", "always": "allowed for good", "deny": "denied"}[choice.answer]

        def not_sent() -> None:
            self._store.give(ask.id, "")
            if otherwise is not None:
                otherwise(ask)

        self._undo.hold(ask.id, f"{done}: {ask.ai_id.removesuffix('-ai')} {ask.tool}", params, not_sent)
        if ask.id in self._store.asks:
            self._store.give(ask.id, done)
