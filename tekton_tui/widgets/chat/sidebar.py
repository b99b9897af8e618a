"""The sidebar of a conversation: model, phase with its clock, tokens, speed, session, stderr."""

from __future__ import annotations

import re

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from backend.schema.params import GetLogs, GetSession, GetUsage
from backend.schema.records import Session, SpecialistStatus
from backend.schema.results import LimitRow, LogText, UsageReport
from tekton_tui.commands import Commands
from tekton_tui.formatting import (
    AGING,
    SYMBOLS,
    TICKING,
    TONES,
    budget_words,
    milliseconds,
    number,
    rate,
    spent,
    state_words,
    turn_words,
    why_ended,
)
from tekton_tui.runtime.latest import Latest, Rereading
from tekton_tui.safe_text import literal, one_line
from tekton_tui.stores import LiveTurn, Stores

STDERR_LINES = 6
LEAST_CELLS_WITH_PANEL = 110


class Sidebar(Vertical):
    """Drawn from the stores; redrawn each second only while a turn runs and it is on screen."""

    def __init__(self, ai_id: str, stores: Stores, commands: Commands) -> None:
        super().__init__(classes="chat-side")
        self._ai_id, self._stores, self._commands = ai_id, stores, commands
        self._session = "default"
        self._drawn = ""
        self._stale = False
        self._limits: list[LimitRow] = []
        self._naming, self._spending = Latest(commands.controller), Latest(commands.controller)
        self._logging, self._rereading = Latest(commands.controller), Rereading(self, stores, self._read)
        self._state = ""
        """Of the specialist, as it was seen last: where it ends or starts, its log says something."""

    def compose(self) -> ComposeResult:
        yield Static("", classes="side-facts")
        yield Static("", classes="side-stderr")

    def on_mount(self) -> None:
        self.border_title = literal(self._ai_id.removesuffix("-ai"))
        turns = self._stores.turns
        self._stores.fleet.changed.subscribe_widget(self, self._changed)
        for signal in (turns.started, turns.phase, turns.ended):
            signal.subscribe_widget(self, self._turn_changed)
        self._clock = self.set_interval(1.0, self._write)
        self._write()
        self._rereading.begin()

    def on_show(self) -> None:
        """Draw what changed while it was hidden."""
        if self._stale:
            self._write()
        self._rereading.shown()

    def _read(self) -> None:
        self._logging.request(GetLogs(self._ai_id, STDERR_LINES), self._show_log, quiet=True)
        self._fetch_limits()

    def _fetch_limits(self) -> None:
        """Read how much of the day's budget is used: at the start, and after each turn."""
        self._spending.request(GetUsage(), self._show_limits, quiet=True)

    def _show_limits(self, usage: UsageReport) -> None:
        if self.is_attached:
            self._limits = [limit for limit in usage.limits if limit.id in ("*", self._ai_id)]
            self._write()

    def use_session(self, session_id: str) -> None:
        """Read the name of the session that the conversation shows."""
        self._naming.request(GetSession(session_id), self.name_session)

    def name_session(self, session: Session) -> None:
        """Name the session that the conversation shows."""
        self._naming.forget()
        self._session = "default" if session.is_default else session.title or session.id
        self._write()

    def _turn_changed(self, turn: LiveTurn) -> None:
        if turn.ai_id == self._ai_id:
            self._write()
            if turn.ended:
                self._fetch_limits()

    def _changed(self, ids: set[str]) -> None:
        if self._ai_id in ids:
            self._write()
            before, self._state = self._state, self._stores.fleet.rows[self._ai_id].state
            if self._state not in (before, "ready", "busy"):
                self._rereading.again()

    def _show_log(self, log: LogText) -> None:
        if not self.is_attached:
            return
        lines = [one_line(_short(line), 26) for line in log.lines[-STDERR_LINES:]]
        text = Content("\n").join(
            [literal("─ stderr", "$text-muted"), *(literal(line, "$text-muted") for line in lines or ["–"])]
        )
        self.query_one(".side-stderr", Static).update(text)

    def _write(self) -> None:
        row = self._stores.fleet.rows.get(self._ai_id)
        if row is None or not self.is_attached:
            return
        self._stale = self.is_mounted and not self.is_on_screen
        counts = row.state in (*TICKING, *AGING) or bool(self._stores.turns.of_specialist(self._ai_id))
        if self._stale or not counts:
            # a clock that stands writes nothing to the terminal
            self._clock.pause()
        else:
            self._clock.resume()
        if self._stale:
            return
        content = self._content(row)
        if content.plain != self._drawn:
            self._drawn = content.plain
            self.query_one(".side-facts", Static).update(content)

    def _content(self, row: SpecialistStatus) -> Content:
        running = self._stores.turns.of_specialist(self._ai_id)
        lines = [literal(row.model_display or row.model or "–", "bold")]
        lines.append(
            literal(
                f"{SYMBOLS[row.state]} {turn_words(running[0]) if running else state_words(row)}",
                f"${TONES[row.state]}",
            )
        )
        if len(running) > 1 or row.queue > 1:
            lines.append(literal(f"queue {max(row.queue, len(running))}", "$text-warning"))
        lines += self._figures(row, running)
        lines.append(literal(f"session {self._session}", "$text-muted"))
        lines.append(literal(f"{number(row.tokens_in)} in · {number(row.tokens_out)} out", "$text-muted"))
        if cost := spent(row.costs):
            lines.append(literal(f"{cost} today", "$text-muted"))
        lines += [_limit_line(limit) for limit in self._limits]
        if ended := why_ended(row):
            lines.append(literal(one_line(ended, 200), "$text-error"))
        return Content("\n").join(lines)

    def _figures(self, row: SpecialistStatus, running: list[LiveTurn]) -> list[Content]:
        if running and running[0].pieces:
            turn = running[0]
            speed, first = f"{turn.pieces} tok · {rate(turn.rate())} tok/s", turn.first_token_ms
        else:
            speed, first = f"{rate(row.tokens_per_second)} tok/s", row.first_token_ms
        return [literal(speed), literal(f"first token {milliseconds(first)}")]


def _limit_line(limit: LimitRow) -> Content:
    """Return how much of a budget is used today."""
    words = budget_words(limit)
    return literal(f"✖ {words}", "$text-error") if limit.over else literal(words, "$text-muted")


def _short(line: str) -> str:
    """Leave date and milliseconds out of a log line: the sidebar is narrow."""
    return re.sub(r"^\d{4}-\d\d-\d\d (\d\d:\d\d:\d\d),\d+ ", r"\1 ", line)


async def toggle_panel(body: Widget, ai_id: str, stores: Stores, commands: Commands, session_id: str) -> None:
    """Show the panel at the right end of a conversation's body, or remove it."""
    if panels := body.query(Sidebar):
        await panels.remove()
    elif body.size.width < LEAST_CELLS_WITH_PANEL:
        commands.notify(f"the panel needs {LEAST_CELLS_WITH_PANEL} columns; the row below says the same")
    else:
        panel = Sidebar(ai_id, stores, commands)
        await body.mount(panel)
        if session_id:
            panel.use_session(session_id)


def show_panel(view: Widget) -> None:
    """Show the panel of a conversation only where there is room for it."""
    for panel in view.query(Sidebar):
        panel.display = view.size.width >= LEAST_CELLS_WITH_PANEL
