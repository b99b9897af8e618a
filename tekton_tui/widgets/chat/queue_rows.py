"""The rows above a conversation's composer: questions that wait for an answer that is written, or that were held."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from textual.content import Content
from textual.widgets import Static

from tekton_tui.commands import Commands
from tekton_tui.formatting import CONSOLE_PREFIX
from tekton_tui.safe_text import literal, one_line
from tekton_tui.stores import LiveTurn

MOST_ROWS = 3
"""Questions shown; those after them are counted."""
LEAST_CELLS = 40


class QueueRows(Static):
    """Questions in two states: *queued* ones wait at the backend, *held* ones are kept here until they are sent.

    Without height while nothing waits. What is held is kept with the drafts, so it survives the console.
    """

    def __init__(self, place: str, commands: Commands) -> None:
        super().__init__("", classes="chat-queue")
        self._place, self._commands = f"held:{place}", commands
        self._held: list[str] = []
        self._waiting: Sequence[LiveTurn] = ()
        self.display = False

    def on_mount(self) -> None:
        self._commands.drafts.restore(self._place, self._restore)

    def on_resize(self) -> None:
        self._draw()

    def show_waiting(self, waiting: Sequence[LiveTurn]) -> None:
        """Show the questions that wait in their session, before those that were held."""
        self._waiting = waiting
        self._draw()

    def stop(self, begun: Sequence[LiveTurn]) -> None:
        """Stop the answers that are written; hold what waits behind them."""
        ours = [turn for turn in self._waiting if turn.request_id.startswith(CONSOLE_PREFIX)]
        self._tell_files_lost(ours)
        self._held = [turn.prompt for turn in ours] + self._held
        self._keep()
        # The last one first: none may begin because the one before it was withdrawn.
        self._commands.chat.cancel_turns([*reversed(ours), *begun])

    def next_held(self) -> str:
        """Return the first held question, which is held no more; empty without one."""
        text = self._held.pop(0) if self._held else ""
        self._keep()
        return text

    def take_back(self) -> str:
        """Return the last question that is held or waits, which then does so no more; empty without one."""
        if self._held:
            text = self._held.pop()
            self._keep()
            return text
        for turn in reversed(self._waiting):
            if turn.request_id.startswith(CONSOLE_PREFIX):
                self._tell_files_lost([turn])
                self._commands.chat.cancel(turn.request_id)
                return turn.prompt
        return ""

    def _tell_files_lost(self, turns: Sequence[LiveTurn]) -> None:
        """Say that only the words of questions come back."""
        if names := [file.name for turn in turns for file in turn.attached]:
            self._commands.notify(f"attach again: {', '.join(names)}", failed=True)

    def _restore(self, kept: str) -> None:
        try:
            self._held = [*msgspec.json.decode(kept, type=list[str]), *self._held]
        except msgspec.DecodeError as error:
            self._commands.notify(f"what was held here cannot be read: {error}", failed=True)
        self._draw()

    def _keep(self) -> None:
        self._commands.drafts.keep(
            self._place, msgspec.json.encode(self._held).decode() if self._held else ""
        )
        self._draw()

    def _draw(self) -> None:
        # its own width is none while nothing waits
        width = max(LEAST_CELLS, self.screen.size.width)
        edit = _key("↑", "edit or drop")
        rows = _rows("queued", [turn.prompt for turn in self._waiting], edit, width)
        rows += _rows("held", self._held, Content.assemble(_key("⏎", "sends the next"), "  ", edit), width)
        self.display = bool(rows)
        self.update(Content("\n").join(rows))


def _key(key: str, words: str) -> Content:
    return Content.assemble((key, "bold $text-primary"), (f" {words}", "$text-muted"))


def _rows(label: str, texts: Sequence[str], keys: Content, width: int) -> list[Content]:
    """Return a row for each of the first questions; the last row has the keys, and how many are not shown."""
    rows: list[Content] = []
    shown = texts[:MOST_ROWS]
    for place, text in enumerate(shown):
        head = f" {f'{len(texts)} {label}' if not place else '':<10}"
        tail = Content("")
        if place == len(shown) - 1:
            more = f"+{len(texts) - MOST_ROWS} more  " if len(texts) > MOST_ROWS else ""
            tail = Content.assemble("   ", (more, "$text-muted"), keys)
        room = max(8, width - len(head) - len(tail.plain) - 1)
        rows.append(Content.assemble((head, "$text-muted"), literal(one_line(text, room)), tail))
    return rows
