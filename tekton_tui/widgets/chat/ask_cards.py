"""The cards of tool calls that wait for the operator, in a conversation: what stands on them, and the keys that answer them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import ClassVar, Final

from textual.binding import Binding, BindingType
from textual.widget import Widget

from backend.schema.tools import QUESTION, Ask
from tekton_tui.commands import Commands
from tekton_tui.commands.navigator import Choice
from tekton_tui.stores import Stores
from tekton_tui.stores.tool_calls import LiveCall
from tekton_tui.transcript import AskCard, ToolRow, Transcript
from tekton_tui.verbs import bindings, ordered
from tekton_tui.widgets.chat.entries import tool_row
from tekton_tui.widgets.common.ask_words import MOST_KEYS, arguments_of, behind, is_question

ORDER: Final = ("acknowledge", "acknowledge-all", "stop", "write", "open", "back")
"""In which the keys stand in the line of keys: as on the card."""


MOST_TITLE: Final = 48
"""Characters of what an ask is for in its title; a longer tool's name stands among its arguments, whole."""


class AskCards:
    """What waits in one specialist's conversation. The keys are a card's only while `keys` has the focus."""

    def __init__(
        self,
        ai_id: str,
        stores: Stores,
        commands: Commands,
        transcript: Transcript,
        to_composer: Callable[[], None],
    ) -> None:
        self._ai_id, self._stores, self._commands, self._transcript = ai_id, stores, commands, transcript
        self._drawn: dict[str, ToolRow] = {}
        """By ask, what the transcript was given last."""
        self.to_composer = to_composer
        """Gives the focus back to where one writes."""
        self.keys = AskKeys(self)

    def follow(self, widget: Widget) -> None:
        """Draw anew what changes, for as long as a widget lives."""
        self._stores.asks.changed.subscribe_widget(widget, self.refresh)

    def row(self, call: LiveCall) -> ToolRow:
        """Return a tool call as the transcript takes it: one that waits with its card, or with what was answered."""
        row = tool_row(call)
        ask = self._stores.asks.asks.get(call.ask_id)
        if ask is None or call.state != "asking":
            return row
        if given := self._commands.asks.given(ask):
            row = row._replace(detail=given)
        else:
            row = row._replace(card=card_of(ask, self._stores, answering=self.keys.ask == ask))
        self._drawn[ask.id] = row
        return row

    def refresh(self) -> None:
        """Give the transcript what differs from what it shows."""
        known = self._stores.asks.asks
        self._drawn = {name: row for name, row in self._drawn.items() if name in known}
        for turn in self._stores.turns.of_specialist(self._ai_id):
            for call in turn.calls.values():
                before = self._drawn.get(call.ask_id)
                if call.ask_id in known and before != (row := self.row(call))._replace(
                    at=before.at if before else 0
                ):
                    self._transcript.set_tool(turn.request_id, row)
        if self.keys.ask is not None and self.keys.ask.id not in known:
            self.keys.leave()

    def go_to(self, ask_id: str = "") -> bool:
        """Give the keys to the oldest card that waits, or show its call alone where a card does not hold it; return whether
        anything waits."""
        ask = self._stores.asks.asks.get(ask_id) or self._commands.asks.first(self._ai_id)
        if ask is None or self._commands.asks.given(ask):
            return False
        turn = self._stores.turns.turns.get(ask.request_id)
        call = next((one for one in turn.calls.values() if one.ask_id == ask.id), None) if turn else None
        if turn is None or call is None or not self._transcript.show_card(turn.request_id, call.index):
            self._commands.asks.show(ask)
        else:
            self.keys.take(ask)
        return True

    def chosen(self, event: Transcript.CardChosen) -> None:
        """Go to a card that was chosen; a click on one of its keys does what the key does."""
        turn = self._stores.turns.turns.get(event.entry.key)
        if turn is None or (call := turn.calls.get(event.call)) is None:
            return
        if self.go_to(call.ask_id) and event.key and self.keys.ask is not None:
            self.keys.press(event.key)

    def given(self, ask: Ask) -> str:
        """Return what was answered here already, in words; empty for nothing."""
        return self._commands.asks.given(ask)

    def answer(self, ask: Ask, choice: Choice) -> None:
        self._commands.asks.answer([ask], choice, lambda _ask: None)

    def alone(self, ask: Ask, *, say_why: bool = False) -> None:
        self._commands.asks.show(ask, say_why=say_why)

    def scroll(self, step: int) -> None:
        """Show more of the conversation above or below the card."""
        self._transcript.scroll_relative(y=step * 3, animate=False)

    def say(self, words: str) -> None:
        """Tell the operator why a key did nothing."""
        self._commands.notify(words, failed=True)


class AskKeys(Widget):
    """Has the focus for a card: the transcript draws it, and these are its keys. Takes no rows."""

    EARLY_S: ClassVar[float] = 0.5
    """How long after the keys are the card's they do not answer, in seconds."""
    BINDINGS: ClassVar[list[BindingType]] = [
        *ordered(bindings("ask"), ORDER),
        *(
            Binding(str(at), f"option({at})", f"its answer {at}", show=False, id=f"ask.own-{at}")
            for at in range(1, MOST_KEYS + 1)
        ),
    ]
    DEFAULT_CSS = "AskKeys { height: 0; }"

    def __init__(self, cards: AskCards) -> None:
        super().__init__()
        self._cards = cards
        self._since = 0.0
        self.ask: Ask | None = None
        """The call whose card has the keys."""

    def take(self, ask: Ask) -> None:
        """Be the keys of a call's card."""
        self.ask, self._since, self.can_focus = ask, time.monotonic(), True
        self.focus()
        self._cards.refresh()

    def leave(self) -> None:
        """Be nobody's keys: what is typed next is written."""
        had_focus, self.ask = self.has_focus, None
        self._cards.refresh()
        if had_focus:
            self._cards.to_composer()
        self.can_focus = False  # tab goes to what there is to read, and never to nothing

    def on_blur(self) -> None:
        """The focus went elsewhere: the card says so."""
        if self.ask is not None and self.screen.is_current:
            self.leave()

    def on_focus(self) -> None:
        """Come back from where the call was shown alone: keys typed before do not answer."""
        self._since = time.monotonic()

    def press(self, key: str) -> None:
        """Do what a key of the card does, for who clicked on it."""
        self._since = -math.inf
        match key:
            case "a" | "A" | "x":
                self.action_answer({"a": "allow", "A": "always", "x": "deny"}[key])
            case "i":
                self.action_say_why()
            case _ if key.isdigit():
                self.action_option(int(key))
            case _:
                self.action_alone()

    def why_not(self, verb: str) -> str:
        """Return why a key does not answer this call."""
        if self.ask is None:
            return "no card of a call has the keys: tab goes to one that waits"
        if verb in ("acknowledge", "acknowledge-all") and self.ask.tool == QUESTION:
            return "it is a question: its number answers it"
        if verb == "acknowledge-all" and not self.ask.always:
            return "no rule can be written for this call: allow it once"
        return ""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Leave the digits that stand for no answer to the places they stand for everywhere."""
        if action == "option":
            return (
                self.ask is not None and isinstance(at := parameters[0], int) and at <= len(self.ask.options)
            )
        return True

    def action_answer(self, answer: str) -> None:
        verb = {"allow": "acknowledge", "always": "acknowledge-all"}.get(answer, "stop")
        if words := self.why_not(verb):
            self._cards.say(words)
        else:
            self._give(Choice(answer))

    def action_option(self, number: int) -> None:
        """Answer with an answer of the agent's own."""
        if self.ask is not None and number <= len(self.ask.options):
            chosen = self.ask.options[number - 1]
            self._give(Choice("allow" if chosen.allows else "deny", option=chosen.id))

    def action_say_why(self) -> None:
        if self.ask is not None:
            self._cards.alone(self.ask, say_why=True)

    def action_alone(self) -> None:
        """Show the call alone, with all that is known of it."""
        if self.ask is not None:
            self._cards.alone(self.ask)

    def action_leave(self) -> None:
        self.leave()

    def action_scroll(self, step: int) -> None:
        self._cards.scroll(step)

    def _give(self, choice: Choice) -> None:
        """Answer, unless the key was typed before the card could be read."""
        if self.ask is None:
            return
        if given := self._cards.given(self.ask):
            self._cards.say(given)
        elif self.EARLY_S > 0 and time.monotonic() < self._since + self.EARLY_S:
            self._cards.say("it was offered just now: read it, then press again")
        else:
            self._cards.answer(self.ask, choice)


def card_of(ask: Ask, stores: Stores, *, answering: bool) -> AskCard:
    """Return what stands on the card of a call; `answering`: its keys act now."""
    who, question = ask.ai_id.removesuffix("-ai"), is_question(ask)
    own = tuple(
        (
            str(at) if at <= MOST_KEYS else " ",
            " · ".join(filter(None, (option.name or option.id, "" if question else option.kind_words))),
        )
        for at, option in enumerate(ask.options, 1)
    )
    notes: list[tuple[str, str]] = []
    if waits := behind(ask, stores):
        notes.append(("behind it", waits))
    if ask.reason and not question:
        hint = " · its server says it only reads" if ask.read_only else ""
        notes.append(("asked because", f"{ask.reason}{hint}"))
    if ask.always and not question:
        notes.append(("A always means", f"allow {ask.always} for {who}"))
    keys = [("x", "no"), ("i", "answer in words" if ask.form is not None else "no, because")]
    if ask.tool != QUESTION and ask.form is None:
        keys = [("a", "once"), *([("A", "always")] if ask.always else []), *keys]
    arguments = arguments_of(ask)
    does = f"asks to call {ask.tool}"
    if question:
        does = "asks you"
    elif len(does) > MOST_TITLE:
        does, arguments = "asks to call a tool", [("tool", ask.tool), *arguments]
    return AskCard(
        f"{who} {does}", tuple(arguments), ask.diff, tuple(notes), own, tuple(keys), ask.until, answering
    )
