"""The rows above a conversation's composer: questions that wait for an answer that is written, or that were held."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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


class Held(msgspec.Struct):
    """A question that was not sent: in which session it is to stand, and behind which question of it; empty for the newest."""

    text: str
    session_id: str = ""
    after: str = ""


class QueueRows(Static):
    """Questions in two states: *queued* ones wait at the backend, *held* ones are kept here until they are sent.

    Without height while nothing waits. What is held is kept with the drafts, so it survives the console.
    """

    def __init__(self, ai_id: str, commands: Commands) -> None:
        super().__init__("", classes="chat-queue")
        self._ai_id, self._place, self._commands = ai_id, f"held:{ai_id}", commands
        self._all_held: list[Held] = []
        """Of all sessions with the specialist."""
        self._waiting: Sequence[LiveTurn] = ()
        self._session_id = ""
        self.display = False

    def on_mount(self) -> None:
        self._commands.drafts.restore(self._place, self._restore)
        self._commands.controller.stores.session_removed.subscribe_widget(self, self._removed)

    def on_resize(self) -> None:
        self._draw()

    def show_waiting(self, waiting: Sequence[LiveTurn], session_id: str) -> None:
        """Show the questions that wait in a session, before those that were held of it."""
        self._waiting, self._session_id = waiting, session_id
        self._draw()

    @property
    def _held(self) -> list[Held]:
        return [held for held in self._all_held if held.session_id in ("", self._session_id)]

    def stop(self, begun: Sequence[LiveTurn]) -> None:
        """Stop the answers that are written; hold what waits behind them."""
        ours = [turn for turn in self._waiting if turn.request_id.startswith(CONSOLE_PREFIX)]
        self._tell_files_lost(ours)
        self._all_held = [*map(_held_of, ours), *self._all_held]
        self._keep()
        # The last one first: none may begin because the one before it was withdrawn.
        self._commands.chat.cancel_turns([*reversed(ours), *begun])

    def send_next(self, put_back: Callable[[str, str], None]) -> None:
        """Ask the first held question; `put_back` gets its words, and behind which it was to stand, if it is refused."""
        if self._held:
            held = self._drop(self._held[0])
            self._commands.chat.ask(
                self._ai_id,
                held.text,
                held.session_id or self._session_id,
                after=held.after,
                on_refused=lambda text: put_back(text, held.after),
            )

    def take_back(self, place: Callable[[str], None]) -> str:
        """Return the last question that is held or waits, which then does so no more; empty without one.

        `place` gets behind which question it stands, if that is not the newest.
        """
        held = self._drop(self._held[-1]) if self._held else self._withdraw()
        if held is not None and held.after:
            place(held.after)
        return held.text if held is not None else ""

    def _withdraw(self) -> Held | None:
        """Withdraw the last of this console's questions that waits."""
        for turn in reversed(self._waiting):
            if turn.request_id.startswith(CONSOLE_PREFIX):
                self._tell_files_lost([turn])
                self._commands.chat.cancel(turn.request_id)
                return _held_of(turn)
        return None

    def _removed(self, session_id: str) -> None:
        """Keep what was held of a conversation that was deleted: it goes to the one that is shown when it is sent."""
        if any(held.session_id == session_id for held in self._all_held):
            self._all_held = [
                Held(held.text) if held.session_id == session_id else held for held in self._all_held
            ]
            self._keep()

    def _drop(self, held: Held) -> Held:
        self._all_held = [each for each in self._all_held if each is not held]
        self._keep()
        return held

    def _tell_files_lost(self, turns: Sequence[LiveTurn]) -> None:
        """Say that only the words of questions come back."""
        if names := [file.name for turn in turns for file in turn.attached]:
            self._commands.notify(f"attach again: {', '.join(names)}", failed=True)

    def _restore(self, kept: str) -> None:
        try:
            before = msgspec.json.decode(kept, type=list[Held | str])
            restored = [Held(held) if isinstance(held, str) else held for held in before]
            held_since, self._all_held = self._all_held, [*restored, *self._all_held]
            if held_since:
                self._keep()
        except msgspec.DecodeError as error:
            self._commands.notify(f"what was held here cannot be read: {error}", failed=True)
        self._draw()

    def _keep(self) -> None:
        self._commands.drafts.keep(
            self._place, msgspec.json.encode(self._all_held).decode() if self._all_held else ""
        )
        self._draw()

    def _draw(self) -> None:
        # its own width is none while nothing waits
        width = max(LEAST_CELLS, self.screen.size.width)
        edit = _key("↑", "edit or drop")
        rows = _rows("queued", [turn.prompt for turn in self._waiting], edit, width)
        held = [held.text for held in self._held]
        rows += _rows("held", held, Content.assemble(_key("⏎", "sends the next"), "  ", edit), width)
        self.display = bool(rows)
        self.update(Content("\n").join(rows))


def _held_of(turn: LiveTurn) -> Held:
    return Held(turn.prompt, turn.session_id, turn.after)


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
