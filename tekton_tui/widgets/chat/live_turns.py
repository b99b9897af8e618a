"""The turns of a conversation that are under way, shown in its transcript as they come."""

from __future__ import annotations

from collections.abc import Callable, Container

from textual.widget import Widget

from tekton_tui.formatting import turn_words
from tekton_tui.stores import LiveTurn, Stores
from tekton_tui.stores.tool_calls import LiveCall
from tekton_tui.transcript import ToolRow, Transcript
from tekton_tui.widgets.chat.entries import live_ending, live_entry, show_answer, tool_row


class LiveTurns:
    """What runs in one conversation. `belongs` says which turns are its own; `changed` is called when some begin, wait or end;
    `row_of` makes the row of a tool call."""

    def __init__(
        self,
        transcript: Transcript,
        stores: Stores,
        ai_id: str,
        row_of: Callable[[LiveCall], ToolRow] = tool_row,
        *,
        belongs: Callable[[LiveTurn], bool],
        changed: Callable[[], None],
    ) -> None:
        self._transcript, self._stores, self._ai_id = transcript, stores, ai_id
        self._belongs, self._changed, self._row_of = belongs, changed, row_of
        self._shown: set[str] = set()
        """Request ids of the turns that the transcript shows."""

    def subscribe(self, widget: Widget) -> None:
        """Follow the turns for as long as a widget lives; who starts and ends them is the widget's own affair."""
        turns = self._stores.turns
        turns.text.subscribe_widget(widget, self._add_text)
        turns.reasoning.subscribe_widget(widget, self._add_reasoning)
        turns.phase.subscribe_widget(widget, self._change_phase)
        turns.tool.subscribe_widget(widget, self._change_tool)

    @property
    def running(self) -> list[LiveTurn]:
        """This conversation's turns under way, those included that wait behind another one."""
        return [turn for turn in self._stores.turns.of_specialist(self._ai_id) if self._belongs(turn)]

    @property
    def waiting(self) -> list[LiveTurn]:
        """This conversation's questions that wait behind another one."""
        return [turn for turn in self.running if self._stores.turns.waiting(turn)]

    @property
    def begun(self) -> list[LiveTurn]:
        """This conversation's turns that do not wait behind another one."""
        return [turn for turn in self.running if not self._stores.turns.waiting(turn)]

    def forget(self) -> None:
        """Start again with a transcript that shows none of them."""
        self._shown.clear()

    def show(self, asked: Container[str] = ()) -> None:
        """Show the turns that have begun.

        `asked` holds the request ids of the questions that the transcript has already.
        """
        for turn in self.running:
            if turn.request_id not in self._shown and not self._stores.turns.waiting(turn):
                self._open(turn, prompt=bool(turn.prompt) and turn.request_id not in asked)
        self._changed()

    def end(self, turn: LiveTurn) -> None:
        """Show how a turn ended, and what begins behind it."""
        self._shown.discard(turn.request_id)
        self._transcript.finish(turn.request_id, live_ending(turn))
        self.show()

    def count_clocks(self) -> None:
        """Move the clocks of what waits for its first token or for a tool."""
        for turn in self.running:
            # an answer that is being written has no clock; a tool in it may
            if not turn.pieces or turn.calls:
                self._show_phase(turn)

    def _open(self, turn: LiveTurn, *, prompt: bool) -> None:
        transcript = self._transcript
        self._shown.add(turn.request_id)
        if prompt:
            transcript.append_entry(live_entry(turn, of_user=True))
        transcript.begin(live_entry(turn, role=self._stores.fleet.title_of(turn.ai_id)))
        if reasoning := "".join(turn.reasoning):
            transcript.append_reasoning(turn.request_id, reasoning)
        show_answer(transcript, turn, self._row_of)
        self._show_phase(turn)

    def _add_text(self, turn: LiveTurn, text: str) -> None:
        if self._belongs(turn):
            if turn.request_id not in self._shown:
                self.show()  # with all its text so far
            else:
                self._transcript.append_text(turn.request_id, text)

    def _add_reasoning(self, turn: LiveTurn, text: str) -> None:
        if self._belongs(turn) and turn.request_id in self._shown:
            self._transcript.append_reasoning(turn.request_id, text)

    def _change_tool(self, turn: LiveTurn, call: LiveCall) -> None:
        if self._belongs(turn):
            if turn.request_id in self._shown:
                self._transcript.set_tool(turn.request_id, self._row_of(call))
            self.show()

    def _change_phase(self, turn: LiveTurn) -> None:
        if self._belongs(turn):
            self.show()
            self._show_phase(turn)

    def _show_phase(self, turn: LiveTurn) -> None:
        colour = {"stalled": "stalled", "waiting": "you"}.get(turn.phase, "specialist")
        self._transcript.set_phase(turn.request_id, turn_words(turn), colour=colour)
