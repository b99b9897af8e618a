"""When the operator looks elsewhere: bell, title and a notice, once for each crash, stall and end of a long answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.schema.records import SpecialistStatus
from tekton_tui.safe_text import one_line
from tekton_tui.stores import LiveTurn, Stores
from tekton_tui.wording import why_ended

if TYPE_CHECKING:
    from textual.app import App

LONG_ANSWER_S = 10.0


class Attention:
    """Listens to the stores. The terminal's title always shows the counts."""

    def __init__(self, app: App[None], stores: Stores) -> None:
        self._app, self._stores = app, stores
        self._stalled: set[str] = set()
        self._title = ""

    def start(self) -> None:
        stores = self._stores
        stores.fleet.broke.subscribe(self._broke)
        stores.turns.phase.subscribe(self._phase)
        stores.turns.ended.subscribe(self._ended)
        stores.fleet.summary_changed.subscribe(self._write_title)
        stores.errors.changed.subscribe(self._write_title)
        stores.connection.changed.subscribe(self._write_title)

    def _broke(self, row: SpecialistStatus) -> None:
        self._call(f"{row.name} {row.state}: {why_ended(row)}")

    def _phase(self, turn: LiveTurn) -> None:
        if turn.phase == "stalled" and turn.request_id not in self._stalled:
            self._stalled.add(turn.request_id)
            self._call(f"{turn.ai_id.removesuffix('-ai')} is stalled")

    def _ended(self, turn: LiveTurn) -> None:
        self._stalled.discard(turn.request_id)
        if not self._app.app_focus and turn.total_time > LONG_ANSWER_S and not turn.code:
            self._app.bell()

    def _call(self, words: str) -> None:
        self._app.bell()
        self._app.notify(one_line(words, 200), severity="error", markup=False, timeout=8)

    def _write_title(self) -> None:
        counts = self._stores.fleet.counts()
        words = [
            f"{counts[state]} {state}" for state in ("ready", "busy", "exited", "killed") if counts[state]
        ]
        if self._stores.errors.unacknowledged:
            words.append(f"{self._stores.errors.unacknowledged} errors")
        if self._stores.connection.stale:
            words = ["backend lost"]
        title = f"tekton · {' · '.join(words)}" if words else "tekton"
        driver = self._app._driver  # pyright: ignore[reportPrivateUsage]
        if title != self._title and driver is not None and not self._app.is_headless:
            self._title = title
            driver.write(f"\x1b]2;{title}\x07")
