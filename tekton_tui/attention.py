"""When the operator looks elsewhere: bell, title and a notice, once for each crash, stall and end of a long answer.

The desktop is told by OSC 9, which terminals show as a notification of theirs, while the terminal has no focus.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.schema.records import SpecialistStatus
from tekton_tui.preferences import Preferences
from tekton_tui.safe_text import one_line
from tekton_tui.stores import LiveTeam, LiveTurn, Stores
from tekton_tui.wording import why_ended

if TYPE_CHECKING:
    from textual.app import App

LONG_ANSWER_S = 10.0
WORDS_CELLS = 200
SAVE_TITLE, RESTORE_TITLE = "\x1b[22;2t", "\x1b[23;2t"
"""The terminal keeps titles on a stack (xterm's window operations 22 and 23)."""


class Attention:
    """Listens to the stores. The terminal's title shows the counts; `stop` puts back the one that was there."""

    def __init__(self, app: App[None], stores: Stores, preferences: Preferences) -> None:
        self._app, self._stores, self._preferences = app, stores, preferences
        self._stalled: set[str] = set()
        self._title = ""

    def start(self) -> None:
        stores = self._stores
        stores.fleet.broke.subscribe(self._broke)
        stores.turns.phase.subscribe(self._phase)
        stores.turns.ended.subscribe(self._ended)
        stores.turns.team_ended.subscribe(self._team_ended)
        stores.fleet.summary_changed.subscribe(self.write_title)
        stores.errors.changed.subscribe(self.write_title)
        stores.connection.changed.subscribe(self.write_title)
        stores.turns.started.subscribe(lambda turn: self.write_title())

    def stop(self) -> None:
        """Put back the terminal's own title."""
        if self._title:
            self._title = ""
            self._write(RESTORE_TITLE)

    def _broke(self, row: SpecialistStatus) -> None:
        self._call(f"{row.name} {row.state}: {why_ended(row)}")

    def _phase(self, turn: LiveTurn) -> None:
        if turn.phase == "stalled" and turn.request_id not in self._stalled:
            self._stalled.add(turn.request_id)
            self._call(f"{turn.ai_id.removesuffix('-ai')} is stalled")

    def _ended(self, turn: LiveTurn) -> None:
        self._stalled.discard(turn.request_id)
        self.write_title()
        if not turn.group and turn.total_time > LONG_ANSWER_S and turn.code != "cancelled":
            how = f"failed: {turn.code}" if turn.code else "has answered"
            self._tell_desktop(f"{turn.ai_id.removesuffix('-ai')} {how}")

    def _team_ended(self, team: LiveTeam) -> None:
        if team.end is not None and team.end.total_time > LONG_ANSWER_S:
            failed = f", {team.end.failed} failed" if team.end.failed else ""
            self._tell_desktop(f"the team has answered: {team.end.answered}{failed}")

    def _call(self, words: str) -> None:
        """Ring and show a notice, whether the operator looks or not."""
        if not self._tell_desktop(words) and self._preferences.bell:
            self._app.bell()
        self._app.notify(one_line(words, WORDS_CELLS), severity="error", markup=False, timeout=8)

    def _tell_desktop(self, words: str) -> bool:
        """Ring and have the terminal notify, if it is not looked at; return whether it is not."""
        if self._app.app_focus:
            return False
        if self._preferences.bell:
            self._app.bell()
        if self._preferences.notify:
            self._write(f"\x1b]9;tekton: {one_line(words, WORDS_CELLS)}\x07")
        return True

    def write_title(self) -> None:
        """Show the counts in the terminal's title, if they changed."""
        title = self._words() if self._preferences.title else ""
        if title == self._title:
            return
        if not title:
            self.stop()
            return
        before = "" if self._title else SAVE_TITLE
        self._title = title
        self._write(f"{before}\x1b]2;{one_line(title, WORDS_CELLS)}\x07")

    def _words(self) -> str:
        counts = self._stores.fleet.counts()
        words = [
            f"{counts[state]} {state}" for state in ("ready", "busy", "exited", "killed") if counts[state]
        ]
        if waiting := len(self._stores.turns.turns):
            words.append(f"{waiting} waiting")
        if self._stores.errors.unacknowledged:
            words.append(f"{self._stores.errors.unacknowledged} errors")
        if self._stores.connection.stale:
            words = ["backend lost"]
        return f"tekton · {' · '.join(words)}" if words else "tekton"

    def _write(self, sequence: str) -> None:
        """Write a sequence of ours to the terminal; a console without one writes nothing."""
        driver = self._app._driver  # pyright: ignore[reportPrivateUsage]
        if driver is not None and not self._app.is_headless and not self._app.is_web:
            driver.write(sequence)
