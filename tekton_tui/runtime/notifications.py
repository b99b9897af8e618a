"""Bell, terminal title and notices: once for each crash, each stall and each end of a long answer.

While the terminal has no focus, a desktop notification is asked for as well (OSC 9).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from backend.schema.records import SpecialistStatus
from tekton_tui.formatting import why_ended
from tekton_tui.runtime.preferences import Preferences
from tekton_tui.safe_text import one_line
from tekton_tui.stores import LiveTeam, LiveTurn, Stores

if TYPE_CHECKING:
    from textual.app import App

LONG_ANSWER_S = 10.0
WORDS_CELLS = 200
SAVE_TITLE, RESTORE_TITLE = "\x1b[22;2t", "\x1b[23;2t"
"""Push and pop the title on the terminal's stack (xterm's window operations 22 and 23)."""


def desktop_notice(words: str, environ: Mapping[str, str]) -> str:
    """Return the sequence by which this terminal takes a desktop notice; empty inside tmux, which keeps them to itself.

    kitty speaks OSC 99, foot, ghostty and those of VTE OSC 777, others OSC 9.
    """
    if environ.get("TMUX") or environ.get("TERM", "").startswith(("screen", "tmux")):
        return ""
    program = f"{environ.get('TERM', '')} {environ.get('TERM_PROGRAM', '')}".lower()
    if "kitty" in program or environ.get("KITTY_WINDOW_ID"):
        return f"\x1b]99;;tekton: {words}\x1b\\"
    if environ.get("VTE_VERSION") or any(name in program for name in ("foot", "ghostty", "rxvt")):
        # a semicolon would begin another field of the sequence
        return f"\x1b]777;notify;tekton;{words.replace(';', ',')}\x1b\\"
    return f"\x1b]9;tekton: {words}\x07"


class Notifier:
    """Listens to the stores from `start` on. The terminal's title shows counts; `stop` restores the title before."""

    def __init__(self, app: App[None], stores: Stores, preferences: Preferences) -> None:
        self._app, self._stores, self._preferences = app, stores, preferences
        self._stalled: set[str] = set()
        self._title = ""

    def start(self) -> None:
        stores = self._stores
        stores.fleet.broke.subscribe(self._broke)
        stores.turns.phase.subscribe(self._phase)
        stores.asks.opened.subscribe(
            lambda ask: self._alert(f"{ask.ai_id.removesuffix('-ai')} asks: {ask.tool} · e answers")
        )
        stores.turns.ended.subscribe(self._ended)
        stores.turns.team_ended.subscribe(self._team_ended)
        stores.fleet.summary_changed.subscribe(self.write_title)
        stores.waiting_changed.subscribe(self.write_title)
        stores.connection.changed.subscribe(self.write_title)
        stores.turns.started.subscribe(lambda turn: self.write_title())

    def stop(self) -> None:
        """Restore the terminal's own title."""
        if self._title:
            self._title = ""
            self._write(RESTORE_TITLE)

    def _broke(self, row: SpecialistStatus) -> None:
        self._alert(f"{row.name} {row.state}: {why_ended(row)}")

    def _phase(self, turn: LiveTurn) -> None:
        if turn.phase == "stalled" and turn.request_id not in self._stalled:
            self._stalled.add(turn.request_id)
            self._alert(f"{turn.ai_id.removesuffix('-ai')} is stalled")

    def _ended(self, turn: LiveTurn) -> None:
        self._stalled.discard(turn.request_id)
        self.write_title()
        if not turn.group and turn.total_time > LONG_ANSWER_S and turn.code != "cancelled":
            how = f"failed: {turn.code.replace('_', ' ')}" if turn.code else "has answered"
            self._notify_desktop(f"{turn.ai_id.removesuffix('-ai')} {how}")

    def _team_ended(self, team: LiveTeam) -> None:
        if team.end is not None and team.end.total_time > LONG_ANSWER_S:
            failed = f", {team.end.failed} failed" if team.end.failed else ""
            self._notify_desktop(f"the team has answered: {team.end.answered}{failed}")

    def _alert(self, words: str) -> None:
        """Ring the bell and show a notice, whether the terminal has the focus or not."""
        if not self._notify_desktop(words) and self._preferences.bell:
            self._app.bell()
        self._app.notify(one_line(words, WORDS_CELLS), severity="error", markup=False, timeout=8)

    def _notify_desktop(self, words: str) -> bool:
        """Ring the bell and ask for a desktop notification if the terminal has no focus; return whether it has none."""
        if self._app.app_focus:
            return False
        if self._preferences.bell:
            self._app.bell()
        if self._preferences.notify:
            self._write(desktop_notice(one_line(words, WORDS_CELLS), os.environ))
        return True

    def write_title(self) -> None:
        """Show the counts in the terminal's title if they changed."""
        title = self._words() if self._preferences.title else ""
        # called for every change in the fleet: the same title is not written again
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
        if self._stores.connection.stale:
            words = ["backend lost"]
        waits = self._stores.waiting()
        connection = self._stores.connection
        name = f"tekton {connection.place}" if connection.place else "tekton"
        name = f"◆{waits} {name}" if waits and not connection.stale else name
        return f"{name} · {' · '.join(words)}" if words else name

    def _write(self, sequence: str) -> None:
        """Write an escape sequence of ours to the terminal, if there is one."""
        driver = self._app._driver  # pyright: ignore[reportPrivateUsage]
        if driver is not None and not self._app.is_headless and not self._app.is_web:
            driver.write(sequence)
