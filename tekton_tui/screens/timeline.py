"""Screen 5: everything that happens, in one order."""

from __future__ import annotations

import time
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Input, Static

from tekton_tui.commands import Commands
from tekton_tui.hearing import hear
from tekton_tui.safe_text import literal
from tekton_tui.stores import Line, Stores
from tekton_tui.widgets.empty import EmptyState
from tekton_tui.widgets.field import Field
from tekton_tui.widgets.line_view import LineView

TONES = {
    "lifecycle": "text-primary",
    "turn": "",
    "error": "text-error",
    "log": "text-muted",
    "call": "text-muted",
}


class TimelinePane(Vertical):
    """Lifecycle, turns, errors, log lines and gateway calls."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "Filter", key_display="/", id="timeline.filter"),
        Binding("escape", "back", "Back", show=False, id="timeline.back"),
    ]

    def __init__(self, stores: Stores, commands: Commands, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._stores, self._commands = stores, commands

    def compose(self) -> ComposeResult:
        yield EmptyState(id="timeline-empty")
        yield LineView(id="timeline-lines")
        yield Field(
            placeholder="filter: words or a pattern, ! in front inverts", id="timeline-filter", compact=True
        )
        yield Static("", id="timeline-status", classes="status-line")

    def on_mount(self) -> None:
        self.query_one("#timeline-filter").display = False
        view = self.query_one(LineView)
        view.add(map(_shown, self._stores.timeline.lines))
        hear(self, self._stores.timeline.added, self._added)
        self._commands.read_topics("logs", "gateway")
        self.set_interval(1.0, self._tell)
        self._tell()

    def focus_content(self) -> None:
        self.query_one(LineView).focus()

    def _added(self, lines: list[Line]) -> None:
        if self.is_mounted:
            self.query_one(LineView).add(map(_shown, lines))

    def _tell(self) -> None:
        view = self.query_one(LineView)
        empty = self.query_one(EmptyState)
        empty.display = not view.kept
        view.display = bool(view.kept)
        if empty.display:
            empty.say(
                "Nothing has happened since this console opened.", "Launch somebody (1), ask something (2)."
            )
        parts = [f"{len(view.kept)} lines", "following" if view.following else "held: s follows"]
        parts += [f"{view.hidden} hidden by filter {view.pattern!r}"] if view.pattern else []
        dropped = view.dropped + self._stores.timeline.dropped
        parts.append(f"{dropped} dropped")
        self.query_one("#timeline-status", Static).update(literal(" · ".join(parts)))

    @on(Input.Changed)
    def _filtered(self, event: Input.Changed) -> None:
        self.query_one(LineView).set_filter(event.value)
        self._tell()

    @on(Input.Submitted)
    def _kept(self) -> None:
        self.focus_content()

    def action_filter(self) -> None:
        field = self.query_one("#timeline-filter", Input)
        field.display = True
        field.focus()

    def action_back(self) -> None:
        field = self.query_one("#timeline-filter", Input)
        if field.display:
            field.value, field.display = "", False
            self.focus_content()
        else:
            self._commands.show("fleet")


def _shown(line: Line) -> tuple[str, str]:
    clock = time.strftime("%H:%M:%S", time.localtime(line.timestamp))
    return f"{clock}  {line.kind:<9} {line.source:<12} {line.text}", "text-error" if line.bad else TONES[
        line.kind
    ]
