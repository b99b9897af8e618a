"""The strip beside a conversation: model, phase with its clock, tokens, speed, session, stderr."""

from __future__ import annotations

import re
from typing import Any

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from backend.schema import money
from backend.schema.records import SpecialistStatus
from tekton_tui.commands import Commands
from tekton_tui.hearing import hear
from tekton_tui.safe_text import literal, one_line
from tekton_tui.stores import LiveTurn, Stores
from tekton_tui.wording import (
    AGING,
    SYMBOLS,
    TICKING,
    TONES,
    milliseconds,
    number,
    rate,
    state_words,
    turn_words,
    why_ended,
)

STDERR_LINES = 6


class ChatSide(Vertical):
    """Drawn from the stores; moves by the second only while a turn runs and somebody looks."""

    def __init__(self, ai_id: str, stores: Stores, commands: Commands) -> None:
        super().__init__(classes="chat-side")
        self._ai_id, self._stores, self._commands = ai_id, stores, commands
        self._session = "default"
        self._said = ""
        self._stale = False
        self._limits: list[dict[str, Any]] = []

    def compose(self) -> ComposeResult:
        yield Static("", classes="side-facts")
        yield Static("", classes="side-stderr")

    def on_mount(self) -> None:
        self.border_title = literal(self._ai_id.removesuffix("-ai"))
        turns = self._stores.turns
        self._leave = [
            hear(self, self._stores.fleet.changed, self._changed),
            *(hear(self, signal, self._turn_changed) for signal in (turns.started, turns.phase, turns.ended)),
        ]
        self._clock = self.set_interval(1.0, self._write)
        self._write()
        self._commands.fetch_log(self._ai_id, STDERR_LINES, self._take_log)
        self._ask_limits()

    def on_show(self) -> None:
        """Write what changed while nobody looked."""
        if self._stale:
            self._write()

    def _ask_limits(self) -> None:
        """Read how much of the day's budget is used: at the start, and after each turn."""
        self._commands.fetch_quietly("usage", self._take_limits)

    def _take_limits(self, answer: dict[str, Any]) -> None:
        if self.is_attached:
            mine = ("*", self._ai_id)
            self._limits = [row for row in answer.get("limits", []) if row["id"] in mine]
            self._write()

    def on_unmount(self) -> None:
        for leave in self._leave:
            leave()

    def use_session(self, session_id: str) -> None:
        def take(session: dict[str, Any]) -> None:
            self._session = "default" if session.get("is_default") else session.get("title") or session["id"]
            self._write()

        self._commands.fetch("get_session", take, id=session_id)

    def _turn_changed(self, turn: LiveTurn) -> None:
        if turn.ai_id == self._ai_id:
            self._write()
            if turn.ended:
                self._ask_limits()

    def _changed(self, ids: set[str]) -> None:
        if self._ai_id in ids:
            self._write()

    def _take_log(self, answer: dict[str, Any]) -> None:
        if not self.is_attached:
            return
        lines = [one_line(_short(str(line)), 26) for line in answer.get("lines", [])][-STDERR_LINES:]
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
            self._clock.pause()
        else:
            self._clock.resume()
        if self._stale:
            return
        content = self._content(row)
        if content.plain != self._said:
            self._said = content.plain
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
        if spent := money.in_words(row.costs):
            lines.append(literal(f"{spent} today", "$text-muted"))
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


def _limit_line(limit: dict[str, Any]) -> Content:
    """Say how much of a budget is used today."""
    whose = "all" if limit["id"] == "*" else "its"
    parts: list[str] = []
    if limit.get("tokens_per_day"):
        parts.append(f"{number(limit['tokens'])} of {number(limit['tokens_per_day'])} tok")
    if limit.get("cost_per_day"):
        parts.append(f"{limit['cost']:.2f} of {limit['cost_per_day']:.2f} {limit['currency']}")
    words = f"{whose} budget {', '.join(parts)}"
    if unseen := limit.get("uncounted"):
        words += f"; {unseen}"
    return literal(
        f"✖ {words}" if limit.get("over") else words, "$text-error" if limit.get("over") else "$text-muted"
    )


def _short(line: str) -> str:
    """Leave date and milliseconds out of a log line: the strip is narrow."""
    return re.sub(r"^\d{4}-\d\d-\d\d (\d\d:\d\d:\d\d),\d+ ", r"\1 ", line)
