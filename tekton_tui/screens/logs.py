"""What a process wrote: followed, filtered, wrapped; the run before beside it."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.widgets import Input

from backend.schema.params import GetLogs
from backend.schema.results import LogText
from tekton_tui.runtime.controller import Controller
from tekton_tui.runtime.latest import Latest
from tekton_tui.runtime.layout_once import Modal
from tekton_tui.safe_text import literal
from tekton_tui.stores import Line
from tekton_tui.stores.timeline import joined
from tekton_tui.verbs import bindings
from tekton_tui.widgets.common.field import Field
from tekton_tui.widgets.common.key_line import KeyLine
from tekton_tui.widgets.common.line_view import LineView

TAIL = 2_000


class LogScreen(Modal[None]):
    """`esc` closes."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("log")

    def __init__(self, controller: Controller, source: str) -> None:
        super().__init__()
        self._stores, self._controller, self._source = controller.stores, controller, source
        self._previous = False
        self._reading, self._came = Latest(controller), list[str]()
        """What came since the newest reading was asked for, which may lack it."""

    def compose(self) -> ComposeResult:
        with Vertical(classes="overlay") as box:
            box.border_title = literal(f"log · {self._source.removesuffix('-ai')}")
            yield LineView(id="log-lines")
            yield Field(
                placeholder="filter: words or a pattern, ! in front inverts",
                id="log-filter",
                classes="filter-field",
                compact=True,
            )
        yield KeyLine()

    def on_mount(self) -> None:
        self.query_one("#log-filter").display = False
        self._stores.timeline.added.subscribe_widget(self, self._added)
        self._stores.turns.reloaded.subscribe_widget(self, self._read_anew)
        self._controller.subscribe("logs")
        self._load()
        self.query_one(LineView).focus()
        self.set_interval(1.0, self._show_status)

    def _load(self) -> None:
        self._came.clear()
        self._reading.request(GetLogs(self._source, TAIL, previous=self._previous), self._show)

    def _read_anew(self) -> None:
        """Read what was written in a gap of events; a log of an earlier run does not grow."""
        if not self._previous:
            self._load()

    def _show(self, log: LogText) -> None:
        if self.is_attached:
            lines = log.lines if self._previous else joined(log.lines, self._came)
            self.query_one(LineView).replace((line, "") for line in lines)
            self._show_status()

    def _added(self, lines: list[Line]) -> None:
        if not self._previous:
            mine = [(line.text, "") for line in lines if line.kind == "log" and line.source == self._source]
            if mine:
                self._came += [text for text, _ in mine] if self._reading.under_way else []
                self.query_one(LineView).add(mine)

    def _show_status(self) -> None:
        view = self.query_one(LineView)
        parts = [f"{len(view.kept)} lines", "following" if view.following else "held"]
        parts += [f"{view.hidden} hidden by filter"] if view.hidden else []
        dropped = view.dropped + self._stores.timeline.dropped
        parts += [f"{dropped} dropped"] if dropped else []
        parts += ["previous run"] if self._previous else []
        self.query_one(".overlay").border_subtitle = " · ".join(parts)

    @on(Input.Changed, "#log-filter")
    def _filtered(self, event: Input.Changed) -> None:
        self.query_one(LineView).set_filter(event.value)
        self._show_status()

    @on(Input.Submitted)
    def _kept(self) -> None:
        self.query_one(LineView).focus()

    def action_filter(self) -> None:
        field = self.query_one("#log-filter", Input)
        field.display = True
        field.focus()

    def action_previous(self) -> None:
        self._previous = not self._previous
        self._load()

    def take_text(self, text: str) -> bool:
        """Filter by text that was typed or pasted outside of a field."""
        self.query_one("#log-filter", Field).show_with(text)
        return True

    def action_back(self) -> None:
        field = self.query_one("#log-filter", Input)
        if field.display:
            field.value, field.display = "", False
            self.query_one(LineView).focus()
        else:
            self.dismiss()
