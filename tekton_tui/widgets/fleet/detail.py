"""The pane below the grid, about the row under the cursor: overview, last exchange, log, process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Final, TypeVar

from textual import events
from textual.binding import BindingType
from textual.content import Content
from textual.geometry import Region
from textual.strip import Strip

from backend.schema.params import GetHistory, GetLogs, GetUsage, ListErrors, Params
from backend.schema.records import ErrorRecord, SpecialistStatus, StoredMessage
from backend.schema.results import ErrorList, History, LimitRow, LogText, UsageReport
from backend.schema.states import BROKEN, RUNNING
from tekton_tui.clock import gateway_time
from tekton_tui.commands import Commands
from tekton_tui.formatting import TICKING
from tekton_tui.runtime.frame_scheduler import app_of, frame_scheduler
from tekton_tui.runtime.latest import Latest
from tekton_tui.runtime.layout_once import RowView
from tekton_tui.runtime.tokens import tokens_of
from tekton_tui.safe_text import literal, one_line, safe
from tekton_tui.stores import Line, Stores
from tekton_tui.stores.timeline import joined
from tekton_tui.verbs import bindings
from tekton_tui.widgets.fleet import facts
from tekton_tui.widgets.fleet.columns import NARROW
from tekton_tui.widgets.fleet.drawing import Part, changed_runs, fitted, strip

TABS: Final = ("Overview", "Exchange", "Log", "Process")
READ: Final = TABS[1:]
"""Those for which something is read."""
REST_S = 0.25
"""The cursor rests this long before anything is fetched."""
LOG_LINES = 300
MESSAGES = 8
WIDE_TITLE = 70
R = TypeVar("R")


class DetailPane(RowView, can_focus=True):
    """One specialist, one tab. What is not in the stores is fetched once the cursor has rested."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("fleet-detail")

    def __init__(self, stores: Stores, commands: Commands, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._stores, self._commands = stores, commands
        self._shown: str | None = None
        self._readings, self._unread = {name: Latest(commands.controller) for name in READ}, False
        """What is read of it, and whether that has to be done anew once it is on the screen."""
        self._came: list[str] = []
        """Lines of its log that came while it is being read."""
        self._row: SpecialistStatus | None = None
        """The row as it was drawn."""
        self._state = ""
        """Of the specialist, as it was seen last."""
        self._lines: list[list[Part]] = []
        self._log: list[str] = []
        self._follows = True
        """Whether its end is in sight: in another size, or with more lines, it stays there."""
        self._messages: list[StoredMessage] = []
        self._ends: list[ErrorRecord] = []
        self._read: dict[str, bool] = {}
        """Of what was looked for of the one that is shown, whether it could be read."""
        self._limits: list[LimitRow] = []
        self._spending = Latest(commands.controller)
        self._tab_spans: list[tuple[int, int, int]] = []
        self._border: tuple[str | int | None, ...] = ()
        """What the border was written from."""
        self.tab = 0

    def on_mount(self) -> None:
        self.add_class("framed")
        self._stores.fleet.changed.subscribe_widget(self, self._changed)
        self._stores.timeline.added.subscribe_widget(self, self._logged)
        self._stores.turns.ended.subscribe_widget(
            self, lambda turn: self._fetch_soon() if turn.ai_id == self._shown else None
        )
        # what was written and said in a gap of events is in none of them
        self._stores.turns.reloaded.subscribe_widget(self, lambda: self._fetch_soon() if self._read else None)
        self.set_interval(1.0, self._tick)

    def on_unmount(self) -> None:
        frame_scheduler(app_of(self)).forget(self)

    def on_show(self) -> None:
        if self._unread:
            self._fetch_soon()

    def on_resize(self, event: events.Resize) -> None:
        if self._all and not self._ends:
            self._fetch_soon()
        follows = self._follows
        self._write()
        if follows and TABS[self.tab] == "Log":
            self.call_after_refresh(self.scroll_end, animate=False)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        self._follows = new_value >= self.max_scroll_y

    def show_specialist(self, ai_id: str | None) -> None:
        """Show another specialist, or nobody."""
        if ai_id == self._shown:
            return
        self._shown, self._log, self._messages, self._ends, self._read = ai_id, [], [], [], {}
        row = self._stores.fleet.rows.get(ai_id or "")
        self._state = row.state if row is not None else ""
        for reading in self._readings.values():
            reading.forget()
        self.scroll_to(y=0, animate=False)
        self._write()
        self._fetch_soon()

    def step_tab(self, step: int) -> None:
        """Show the next tab, or the one before."""
        self.show_tab((self.tab + step) % len(TABS))

    def show_tab(self, tab: int) -> None:
        """Show a tab by its number."""
        self.tab = tab
        self.scroll_to(y=0, animate=False)
        self._write()
        self._fetch_soon()

    def _fetch_soon(self) -> None:
        ai_id = self._shown
        if ai_id is not None:
            # who walks down the list asks for each row in passing: only where the cursor rests is it worth a call
            self.set_timer(REST_S, lambda: self._fetch(ai_id))

    def _fetch(self, ai_id: str) -> None:
        if self._shown != ai_id or not self.is_attached:
            return
        # what is not seen is not worth a call; it is read when the pane is shown
        self._unread = not self.is_on_screen
        if self._unread:
            return
        controller = self._commands.controller
        if "Log" in (wanted := self._wanted()):
            self._came.clear()
            controller.subscribe("logs")
            self._ask("Log", GetLogs(ai_id, LOG_LINES), self._show_log)
        if "Process" in wanted:
            self._ask("Process", ListErrors(where=ai_id, limit=20), self._show_ends)
        row = self._stores.fleet.rows.get(ai_id)
        if self.tab == 0 and row is not None and row.state not in RUNNING:
            self._spending.request(GetUsage(), self._show_limits, quiet=True)
        if "Exchange" in wanted:
            self._ask("Exchange", GetHistory(ai_id, limit=MESSAGES), self._show_messages)

    def _ask(self, what: str, params: Params[R], then: Callable[[R], None]) -> None:
        """Read the log, the last exchange or the failures of the one that is shown."""

        def came(result: R) -> None:
            self._read[what] = True
            then(result)

        def failed() -> None:
            self._read[what] = False
            if self.is_attached:
                self._write()

        self._readings[what].request(params, came, otherwise=failed, quiet=True)

    @property
    def _all(self) -> bool:
        """Whether the first tab shows what the others have as well."""
        return self.tab == 0 and facts.has_page(*self.scrollable_content_region.size)

    def _wanted(self) -> tuple[str, ...]:
        """Return the tabs of which something is shown."""
        if self._all:
            return READ
        if self.tab:
            return (TABS[self.tab],)
        row = self._stores.fleet.rows.get(self._shown or "")
        return ("Log", "Exchange") if row is not None and row.state in BROKEN else ("Exchange",)

    def _show_log(self, log: LogText) -> None:
        if log.source == self._shown and self.is_attached:
            self._log = joined(log.lines, self._came)[-LOG_LINES:]
            self._write()
            if TABS[self.tab] == "Log":
                self.scroll_end(animate=False)

    def _logged(self, lines: Sequence[Line]) -> None:
        mine = [line.text for line in lines if line.kind == "log" and line.source == self._shown]
        self._came += mine if self._readings["Log"].under_way else []
        if mine and "Log" in self._wanted():
            self._log = [*self._log, *mine][-LOG_LINES:]
            self._request()

    def _show_messages(self, history: History) -> None:
        if history.specialist_id == self._shown and self.is_attached:
            self._messages = history.messages
            self._write()

    def _show_limits(self, usage: UsageReport) -> None:
        if self.is_attached:
            self._limits = usage.limits
            self._write()

    def _show_ends(self, listed: ErrorList) -> None:
        if self.is_attached:
            self._ends = [record for record in listed.errors if record.where == self._shown]
            self._write()

    def _changed(self, ids: set[str]) -> None:
        row = self._stores.fleet.rows.get(self._shown or "")
        if self._shown in ids and row is not None and row.state != self._state:
            self._state = row.state
            if row.state not in ("ready", "busy"):  # its log and the errors say why
                self._fetch_soon()
        # at rest only figures change, every second: they are drawn when something else does
        if self._shown in ids and row is not None and (row is not self._row or row.state in TICKING):
            self._request()

    def _tick(self) -> None:
        row = self._stores.fleet.rows.get(self._shown or "")
        if row is not None and row.state in TICKING and self.is_on_screen:
            self._request()

    def _request(self) -> None:
        if self.display:
            frame_scheduler(app_of(self)).request(self)

    def frame(self) -> None:
        """Draw anew what differs."""
        self._write()

    def _write(self) -> None:
        row = self._stores.fleet.rows.get(self._shown or "")
        self._row = row
        self._write_border(row)
        width, height = self.scrollable_content_region.size
        if width < 2:
            return
        lines = self._made(row, width, height) if row is not None else []
        if lines == self._lines:
            return
        before, self._lines = self._lines, lines
        if len(before) == len(lines) and self.virtual_size.width == width:
            self._draw_changes(before, width)
            return
        # who reads further up in the log stays there
        at_end = self._follows or self.scroll_offset.y >= self.max_scroll_y
        follows = TABS[self.tab] == "Log" and at_end
        self.set_rows(len(lines))
        if follows and len(before) != len(lines):
            self.scroll_end(animate=False)
        self.refresh()

    def _draw_changes(self, before: list[list[Part]], width: int) -> None:
        """Have only the cells drawn anew in which the lines differ from those before."""
        top = round(self.scroll_offset.y)
        for at, (old, new) in enumerate(zip(before, self._lines, strict=True)):
            if old != new:
                for first, count in changed_runs(fitted(old, width), fitted(new, width)):
                    self.refresh(Region(first, at - top, count, 1))

    def _made(self, row: SpecialistStatus, width: int, height: int) -> list[list[Part]]:
        turns = self._stores.turns.of_specialist(row.id)
        known = facts.Known(
            row,
            self._stores.fleet,
            turns,
            self._messages,
            self._log,
            self._ends,
            self._limits,
            self._read,
            gateway_time(),
        )
        if self._all:
            return facts.page(known, width, height)
        if TABS[self.tab] == "Overview":
            return facts.overview(known, width, height)
        if TABS[self.tab] == "Exchange":
            return facts.exchange(known, width)
        if TABS[self.tab] == "Log":
            lines = [[Part(one_line(line, width), "muted")] for line in self._log]
            return lines or [known.none("Log", "nothing was written to its log")]
        return facts.process(known, width, height)

    def _write_border(self, row: SpecialistStatus | None) -> None:
        """Write title and keys, where they would be others: the whole border is drawn with them."""
        made_of = (row and row.name, row and row.title, self.size.width, self.tab)
        if made_of == self._border:
            return
        self._border = made_of
        if row is None:
            self.border_title, self.border_subtitle, self._tab_spans = "", "", []
            return
        room = self.size.width
        title = Content.styled(safe(one_line(row.name, 24)), "bold $foreground")
        if room >= WIDE_TITLE:
            title = Content.assemble(
                title, literal(f" · {one_line(row.title.removeprefix('The '), 30)}", "$text-muted")
            )
        self._tab_spans = []
        air = " " if room < NARROW else ""
        at = len(air) + title.cell_length + 3
        parts = [Content(air), title, Content("   ")]
        for number, name in enumerate(TABS):
            style = "bold underline $foreground" if number == self.tab else "$text-muted"
            parts += [Content.styled(name, style), Content("  ")]
            self._tab_spans.append((at, at + len(name), number))
            at += len(name) + 2
        # a border's text is laid out anew at every change: it is written only where it would be another
        self.border_title = Content.assemble(*parts)
        keys = (("[ ]", "tab"), ("d", "hide"), ("z", "zoom"))
        self.border_subtitle = Content(" · ").join(
            Content.assemble((key, "bold $text-primary"), (f" {word}", "$text-muted")) for key, word in keys
        )

    def on_click(self, event: events.Click) -> None:
        if event.y >= self.gutter.top:
            return
        for start, end, number in self._tab_spans:
            if start <= event.x - (2 if self.gutter.left > 1 else 1) < end:
                self.show_tab(number)

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        at = y + round(self.scroll_offset.y)
        parts = fitted(self._lines[at], width) if at < len(self._lines) else []
        return strip(parts, width, tokens_of(self))
