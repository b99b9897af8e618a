"""What a process wrote: followed, filtered, wrapped; the run before beside it."""

from __future__ import annotations

from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Footer, Input

from tekton_tui.desk import Desk
from tekton_tui.hearing import hear
from tekton_tui.safe_text import literal
from tekton_tui.stores import Line, Stores
from tekton_tui.widgets.field import Field
from tekton_tui.widgets.line_view import LineView

TAIL = 2_000


class LogScreen(ModalScreen[None]):
    """`esc` closes."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "Close", id="log.close"),
        Binding("p", "previous", "Previous run", id="log.previous"),
        Binding("slash", "filter", "Filter", key_display="/", id="log.filter"),
    ]

    def __init__(self, stores: Stores, desk: Desk, source: str) -> None:
        super().__init__()
        self._stores, self._desk, self._source = stores, desk, source
        self._previous = False

    def compose(self) -> ComposeResult:
        with Vertical(classes="overlay") as box:
            box.border_title = literal(f"log · {self._source.removesuffix('-ai')}")
            yield LineView(id="log-lines")
            yield Field(
                placeholder="filter: words or a pattern, ! in front inverts", id="log-filter", compact=True
            )
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        self.query_one("#log-filter").display = False
        self._leave = hear(self, self._stores.timeline.added, self._added)
        self._desk.spawn(self._desk.add_topic("logs"))
        self._load()
        self.query_one(LineView).focus()
        self.set_interval(1.0, self._tell)

    def on_unmount(self) -> None:
        self._leave()

    def _load(self) -> None:
        self._desk.do("specialist_logs", then=self._take, id=self._source, tail=TAIL, previous=self._previous)

    def _take(self, answer: dict[str, Any]) -> None:
        if self.is_attached:
            self.query_one(LineView).replace((str(line), "") for line in answer["lines"])
            self._tell()

    def _added(self, lines: list[Line]) -> None:
        if not self._previous:
            mine = [(line.text, "") for line in lines if line.kind == "log" and line.source == self._source]
            if mine:
                self.query_one(LineView).add(mine)

    def _tell(self) -> None:
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
        self._tell()

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

    def action_back(self) -> None:
        field = self.query_one("#log-filter", Input)
        if field.display:
            field.value, field.display = "", False
            self.query_one(LineView).focus()
        else:
            self.dismiss()
