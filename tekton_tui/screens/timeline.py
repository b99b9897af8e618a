"""Place 5: the turns of everybody as bars over time, and below what happened, in one order."""

from __future__ import annotations

import math
import time
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, Static

from backend.schema.history import TurnRecord
from backend.schema.params import ListTurns
from backend.schema.results import TurnList
from tekton_tui.commands import Commands
from tekton_tui.runtime.latest import Latest, Rereading
from tekton_tui.safe_text import literal
from tekton_tui.stores import Line, Stores
from tekton_tui.verbs import bindings
from tekton_tui.widgets.common.empty import EmptyState
from tekton_tui.widgets.common.field import Field
from tekton_tui.widgets.common.line_view import LineView, NewestFirst
from tekton_tui.widgets.timeline.gantt import Gantt

TONES = {
    "lifecycle": "text-primary",
    "turn": "",
    "error": "text-error",
    "log": "text-muted",
    "call": "text-muted",
}
TURN_TONES = {"answered": "text-success", "cancelled": "text-muted", "stalled": "text-warning"}
"""Of a turn's line by its first word."""
QUIET_KINDS = ("log", "call")
"""Kinds of lines that are left out until they are asked for."""
CLOCK_CELLS, SOURCE_CELLS = 10, 14
"""Columns of a line; the rest is what happened."""
LEAST_EVENTS = 6
"""Lines that what happened has at least, with its rule."""


class TimelinePane(Vertical):
    """Bars of turns, then lifecycle, turns, errors, and on demand log lines and gateway calls."""

    DEFAULT_CSS = """
    TimelinePane #timeline-head { height: 1; }
    TimelinePane #timeline-gantt { height: 8; }
    TimelinePane #timeline-rule { height: 1; }
    TimelinePane #timeline-lines { scrollbar-size-horizontal: 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = bindings("timeline")

    def __init__(self, stores: Stores, commands: Commands, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._stores, self._commands = stores, commands
        self._all_kinds = False
        self._reading = Latest(commands.controller)
        self._rereading = Rereading(self, stores, self._read_past)
        self._asked_since = math.inf
        """How far back the backend's log was read."""

    def compose(self) -> ComposeResult:
        empty = EmptyState(self._stores, id="timeline-empty")
        empty.can_focus = True
        yield empty
        yield Static("", id="timeline-head")
        yield Gantt(self._stores, id="timeline-gantt")
        yield Static("", id="timeline-rule")
        yield NewestFirst(clock_cells=CLOCK_CELLS, lead_cells=CLOCK_CELLS + SOURCE_CELLS, id="timeline-lines")
        yield Field(
            placeholder="filter: words or a pattern, ! in front inverts",
            id="timeline-filter",
            classes="filter-field",
            compact=True,
        )

    def on_mount(self) -> None:
        self.query_one("#timeline-filter").display = False
        self._write_lines()
        self._stores.timeline.added.subscribe_widget(self, self._added)
        self._commands.controller.subscribe("logs", "gateway")
        self._rereading.begin()
        self._show_status()

    def on_show(self) -> None:
        self._rereading.shown()

    def _read_past(self) -> None:
        self._reading.request(ListTurns(), self._show_past, otherwise=self._rereading.failed)

    @property
    def gantt(self) -> Gantt:
        return self.query_one(Gantt)

    def on_resize(self, event: events.Resize) -> None:
        self.gantt.fit(max(4, self.size.height - LEAST_EVENTS - 2))
        self._show_status()
        # the sizes of what is inside are known then

    def focus_content(self) -> None:
        """Focus the turns, or what stands for them while there are none."""
        empty = self.query_one(EmptyState)
        (empty if empty.display else self.gantt).focus()

    def targets(self) -> list[str]:
        """Return whose turn is under the cursor."""
        turn = self.gantt.cursor_turn
        return [turn.ai_id] if turn is not None else []

    def _show_past(self, past: TurnList) -> None:
        """Put the turns that ran before this console saw any, or in a gap of what it saw, where their time belongs."""
        timeline, seen = self._stores.timeline, set(self._stores.turn_log.turns)
        since = min((turn.started_at for turn in past.turns), default=past.recorded_since)
        self._asked_since = min(self._asked_since, since if past.more else past.recorded_since)
        self._stores.turn_log.load(past.turns, past.recorded_since)
        # what this console saw itself stands there already
        began = min((line.timestamp for line in timeline.lines), default=math.inf)
        lines = [
            line
            for turn in past.turns
            for line in _past_lines(turn)
            if turn.request_id not in seen or line.timestamp < began
        ]
        if self.is_attached and lines:
            timeline.put_between(lines)
            self._write_lines()
            self._show_status()

    @on(Gantt.Moved)
    def _moved(self) -> None:
        self._read_further()
        self._show_status()

    def _read_further(self) -> None:
        """Read further back where the bars were moved before what was read; one reading at a time, so that none is missed."""
        since, until = self.gantt.earliest, self._asked_since
        if self._reading.under_way or since >= until or until <= self._stores.turn_log.recorded_since:
            return

        def came(past: TurnList) -> None:
            if not past.more:
                self._asked_since = since
            self._show_past(past)
            if self.is_attached and self._asked_since < until:
                self._read_further()

        if math.isinf(until):  # the first reading failed
            self._read_past()
        else:
            self._reading.request(ListTurns(since=since, until=until), came, quiet=True)

    @on(Gantt.Chosen)
    def _chosen(self, event: Gantt.Chosen) -> None:
        turn = event.turn
        if turn.group and turn.group in self._stores.turns.teams:
            self._commands.navigator.open_team()
        else:
            self._commands.navigator.open_chat(turn.ai_id, turn.session_id)

    def _wanted(self, line: Line) -> bool:
        return self._all_kinds or line.kind not in QUIET_KINDS

    def _write_lines(self) -> None:
        self.query_one(LineView).replace(map(_shown, filter(self._wanted, self._stores.timeline.lines)))

    def _added(self, lines: list[Line]) -> None:
        if self.is_mounted and (wanted := [line for line in lines if self._wanted(line)]):
            self.query_one(LineView).add(map(_shown, wanted))
            self._show_status()

    def _show_status(self) -> None:
        view, gantt = self.query_one(LineView), self.gantt
        nothing = not view.kept and not self._stores.turn_log.turns
        self.query_one(EmptyState).display = nothing
        for widget in (view, gantt, self.query_one("#timeline-head"), self.query_one("#timeline-rule")):
            widget.display = not nothing
        if nothing:
            known = not math.isinf(self._asked_since)
            words = (
                ("Nothing has happened yet.", "Launch somebody (1), ask something (2).") if known else ("",)
            )
            self.query_one(EmptyState).show_text(*words)
        self.query_one("#timeline-head", Static).update(self._head())
        self.query_one("#timeline-rule", Static).update(self._rule(view))

    def _head(self) -> Content:
        gantt, wide = self.gantt, self.size.width >= 100
        words = (" zoom  ", " move  ", " turn  ", " follows ") if wide else (" ", " ", " ", " ")
        keys = Content.assemble(
            (f" last {gantt.span_words}  " if gantt.following else f" {gantt.span_words}  ", "bold $text"),
            ("+ -", "bold $text-accent"), (words[0], "$text-muted"), ("← →", "bold $text-accent"), (words[1], "$text-muted"),
            ("{ }", "bold $text-accent"), (words[2], "$text-muted"), ("f", "bold $text-accent"),
            (words[3] if gantt.following else " held ", "$text-muted"), ("●" if gantt.following else "○", "$text-success"),
        )  # fmt: skip
        kinds = Content.assemble(
            ("turns  fleet  errors  ", "$text"),
            ("clients  logs ", "$text" if self._all_kinds else "$text-disabled"),
            ("K", "bold $text-accent"),
            (" kinds " if wide else " ", "$text-muted"),
        )
        gap = self.size.width - keys.cell_length - kinds.cell_length
        return Content.assemble(keys, " " * gap, kinds) if gap > 0 else keys

    def _rule(self, view: LineView) -> Content:
        dropped = view.dropped + self._stores.timeline.dropped
        parts = [f"{len(view.kept)} line{'s' * (len(view.kept) != 1)}", *([] if view.following else ["held"])]
        parts += [f"{view.hidden} hidden by filter {view.pattern!r}"] if view.pattern else []
        parts += [f"{dropped} dropped"] if dropped else []
        words = literal(f" · {' · '.join([*parts, 'newest first'])} ", "$text-muted")
        line = Content.assemble(("─ ", "$line"), ("Events", "$text"), words)
        return Content.assemble(line, ("─" * max(0, self.size.width - line.cell_length), "$line"))

    @on(Input.Changed, "#timeline-filter")
    def _filtered(self, event: Input.Changed) -> None:
        self.query_one(LineView).set_filter(event.value)
        self.gantt.set_filter(event.value)
        self._show_status()

    @on(Input.Submitted, "#timeline-filter")
    def _kept(self) -> None:
        self.focus_content()

    def action_kinds(self) -> None:
        """Show log lines and calls of clients as well, or leave them out."""
        self._all_kinds = not self._all_kinds
        self._commands.notify(
            f"calls of clients and log lines are {'shown' if self._all_kinds else 'left out'}"
        )
        self._write_lines()
        self._show_status()

    def action_filter(self) -> None:
        field = self.query_one("#timeline-filter", Input)
        field.display = True
        field.focus()

    def take_text(self, text: str) -> bool:
        """Filter by text that was typed or pasted outside of a field."""
        self.query_one("#timeline-filter", Field).show_with(text)
        return True

    def action_logs(self) -> None:
        if targets := self.targets():
            self._commands.navigator.open_logs(targets[0])

    def action_back(self) -> None:
        field = self.query_one("#timeline-filter", Input)
        if field.display:
            field.value, field.display = "", False
            self.focus_content()
        else:
            self._commands.navigator.show("fleet")


def _past_lines(turn: TurnRecord) -> list[Line]:
    """Return what the timeline says of a turn of the backend's log: its question, and how it ended."""
    who = turn.ai_id.removesuffix("-ai")
    lines = [Line(turn.started_at, "turn", who, f"asked: {turn.prompt}" if turn.prompt else "asked")]
    if turn.ended_at:
        took = f"{turn.ended_at - turn.started_at:.1f} s"
        how = (
            f"{turn.code.replace('_', ' ')} after {took}"
            if turn.code
            else f"answered {turn.tokens_out} tok in {took}"
        )
        lines.append(Line(turn.ended_at, "turn", who, how, bool(turn.code) and turn.code != "cancelled"))
    return lines


def _shown(line: Line) -> tuple[str, str]:
    clock = time.strftime("%H:%M:%S", time.localtime(line.timestamp))
    tone = TURN_TONES.get(line.text.partition(" ")[0], "") if line.kind == "turn" else TONES[line.kind]
    who = f"{line.source:<{SOURCE_CELLS - 1}}"
    return f"{clock:<{CLOCK_CELLS}}{who} {line.text}", "text-error" if line.bad else tone
