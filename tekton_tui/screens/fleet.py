"""Place 1: the fleet at a glance, and the keys that launch, stop and ask it."""

from __future__ import annotations

from time import monotonic
from typing import ClassVar, NamedTuple

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Input

from backend.schema.states import BROKEN, LIVE, RUNNING
from tekton_tui.commands import Commands
from tekton_tui.formatting import as_json
from tekton_tui.runtime.frame_scheduler import app_of
from tekton_tui.safe_text import literal
from tekton_tui.screens.columns import ColumnsScreen
from tekton_tui.stores import Stores
from tekton_tui.verbs import OF_CURSOR, OF_LIST, bindings
from tekton_tui.widgets.common.empty import EmptyState
from tekton_tui.widgets.common.field import Field
from tekton_tui.widgets.fleet.arrangement import GROUPINGS, Grouping, services_in_words, why_no_rows
from tekton_tui.widgets.fleet.buttons import MENU, WHILE_STOPPED, FleetButtons
from tekton_tui.widgets.fleet.columns import COLUMNS, NARROW
from tekton_tui.widgets.fleet.detail import DetailPane
from tekton_tui.widgets.fleet.first_run import FirstRun
from tekton_tui.widgets.fleet.grid import FleetGrid
from tekton_tui.widgets.fleet.plots import LOW, Plots

DETAIL, NARROW_DETAIL = 9, 5
"""Rows of the detail, with its border, where the terminal is usual and where it is small."""


class _Shown(NamedTuple):
    """What title, hint and buttons were made of."""

    title: str
    order: str
    counts: str
    hint: tuple[str, str] | None
    stale: bool
    live: bool
    lines: int


class FleetPane(Vertical):
    """Plots, grid with its buttons, and what there is to know of the row under the cursor."""

    DEFAULT_CSS = """
    FleetPane { layers: base over; }
    FleetPane.-stale { opacity: 85%; }
    FleetPane #fleet-first { display: none; }
    #fleet-box { height: 1fr; padding: 0; }
    #fleet-grid { height: 1fr; scrollbar-size-vertical: 1; overflow-x: hidden; }
    #fleet-empty { height: auto; min-height: 4; }
    #fleet-filter { height: 1; border: none; background: $panel; padding: 0 1; }
    #fleet-detail { height: 9; padding: 0 1; scrollbar-size-vertical: 1; overflow-x: hidden; }
    """

    BINDINGS: ClassVar[list[BindingType]] = bindings("fleet")

    def __init__(self, stores: Stores, commands: Commands, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._stores, self._commands = stores, commands
        self._shown: _Shown | None = None
        self._key_words: dict[str, str] = {}
        self._plots = Plots(stores.fleet, id="fleet-plots")
        self._detail_open, self._detail_extra = True, 0
        self._zoomed, self._filtering = "", False
        self._offers_first = True  # until somebody ran, or it was put away

    def compose(self) -> ComposeResult:
        yield self._plots
        with Vertical(id="fleet-box", classes="framed"):
            yield EmptyState(id="fleet-empty")
            yield FleetGrid(self._stores.fleet, id="fleet-grid")
        yield Field(
            placeholder="filter: name, role, state, model · cap:word · ! in front inverts · enter keeps · esc clears",
            id="fleet-filter",
            compact=True,
        )
        yield DetailPane(self._stores, self._commands, id="fleet-detail")
        yield FirstRun(self._stores, self._commands, id="fleet-first")
        yield FleetButtons(id="fleet-buttons")

    def on_mount(self) -> None:
        self.query_one("#fleet-filter").display = False
        self.grid.chosen = dict(self._commands.console.preferences.columns)
        self._stores.fleet.summary_changed.subscribe_widget(self, self._summarise)
        self._stores.attention.changed.subscribe_widget(self, self._show_unread)
        self._stores.fleet.changed.subscribe_widget(self, lambda ids: self._summarise())
        self._stores.connection.changed.subscribe_widget(self, self._summarise)
        self._show_unread()  # what waits may have come before this screen
        self._summarise()

    @property
    def grid(self) -> FleetGrid:
        return self.query_one(FleetGrid)

    def on_resize(self) -> None:
        self._show() if self._shown else self._fit()

    def on_show(self) -> None:
        self._plots.draw()

    def _fit(self) -> None:
        """Share the rows out: what the grid needs, and the rest for the detail; put the buttons on the grid's border."""
        form, first = self.query_one(FirstRun), self.first_shown
        for child in self.children if first or form.display else ():
            child.styles.clear_rule("display")  # as the style sheet has it, but the filter: its key opens it
            if first or child is form:
                child.display = first and child is form
            elif child.id == "fleet-filter":
                child.display = bool(self.grid.filter_text)
        if first:
            return
        size = app_of(self).size
        narrow = size.width < NARROW
        self.set_class(narrow, "-narrow")
        self._plots.fit(size.width, size.height)
        if self._zoomed:
            self._plots.add_class("-none")
        box, field, detail = self.query_one("#fleet-box"), self.query_one(Field), self.query_one(DetailPane)
        box.display = self._zoomed != "detail"
        detail.display = self._zoomed == "detail" or (
            self._detail_open and not self._zoomed and size.height >= 16 and bool(self._stores.fleet.rows)
        )
        whole = self.size or self.query_ancestor(Widget).size  # before its first layout: of where it stands
        room = whole.height - self._plots.rows - field.display
        least = (NARROW_DETAIL if narrow or size.height < LOW else DETAIL) + self._detail_extra
        frame = (1 if narrow else 2) + (4 if self._hint() else 0)
        self.grid.set_room(room - frame - (least if detail.display else 0))
        wanted = self.grid.lines_wanted + frame
        # where only its frame comes or goes its outer size stays, and nobody else tells it that there is other room
        self.call_after_refresh(detail.frame)
        shared = self._zoomed != "detail" and detail.display
        detail.styles.height = max(2, min(max(least, room - wanted), room - 5)) if shared else "1fr"
        buttons = self.query_one(FleetButtons)
        buttons.place(size.width, self._plots.rows, 1 if narrow else 2)
        buttons.display &= box.display

    def _show_unread(self) -> None:
        self.grid.show_unread(self._stores.attention.unread())

    @property
    def _first_due(self) -> bool:
        platform, stale = self._stores.fleet.platform, self._stores.connection.stale
        ready = platform is not None and platform.lifecycle_on and bool(platform.starter)
        return self._offers_first and ready and self._stores.fleet.nothing_runs and not stale

    @property
    def first_shown(self) -> bool:
        """Whether the first form stands here in the place of the grid; never over a filter that is being written."""
        return self._first_due and not self._filtering

    def _offer_first(self, offers: bool) -> None:
        """Put the first form in the grid's place, or away."""
        self._offers_first, self._filtering = offers, False
        self._shown = None
        self._summarise()
        self.grid.came = self.query_one(FirstRun).came = ("", 0.0)  # a key asked for it
        self.focus_content()

    @on(FirstRun.Later)
    def _later(self) -> None:
        self._offer_first(False)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """While the first form stands here, what acts on rows has no keys."""
        return action in ("launch_all", "filter", "new") or not self.first_shown

    def focus_content(self) -> None:
        (self.query_one(FirstRun) if self.first_shown else self.grid).focus()

    def show_grid(self) -> FleetGrid:
        """Return the grid, shown."""
        if self.first_shown:
            self._offer_first(False)
        return self.grid

    def show_launched(self, ids: list[str]) -> None:
        """Put the cursor on somebody who can be asked now, unless it is on one already."""
        here = self.grid.cursor_row
        if ids and (here is None or here.state not in LIVE):
            self.grid.go_to(ids[0], unasked=True)

    def show_created(self, ai_id: str) -> None:
        """Put the cursor on a new row; a filter that hides it is taken off."""
        self.show_grid().go_to(ai_id, unasked=True)
        if self.grid.filter_text and self.grid.cursor_ids != [ai_id]:
            self.grid.set_filter("")
            self.action_clear()
            self.grid.go_to(ai_id, unasked=True)

    def key_words(self) -> dict[str, str]:
        """Return what Enter does: it launches the team, launches one, or opens a chat."""
        row = self.grid.cursor_row
        if self._stores.fleet.nothing_runs and self._stores.fleet.rows:
            return {"chat": "start a team"}
        return {"chat": "start"} if row is not None and row.state not in LIVE else {}

    def why_not(self, verb: str) -> str:
        """Return why a verb has no use on the row under the cursor now."""
        ids = self.targets()
        if not self._stores.fleet.rows and (verb in OF_CURSOR or verb in OF_LIST):
            return "nobody is known yet: the backend has not answered"
        gone = self._stores.connection.stale and self._stores.fleet.nothing_runs
        if gone and (verb == "again" or verb in OF_LIST):
            return "the backend is gone, and nobody runs"  # when it is back the first form stands here
        if verb in ("stop", "kill") and ids and not any(self._stores.fleet.rows[ai_id].pid for ai_id in ids):
            who = f"{self._stores.fleet.names(ids)} does not run" if len(ids) == 1 else "none of these runs"
            return f"{who}: nothing to {verb}"
        of_row = verb in ("write", "log", "detail", "copy", "copy-json")
        return "no specialist is under the cursor" if of_row and self.grid.cursor_row is None else ""

    def targets(self) -> list[str]:
        """Return whom a verb means: the marked, else the row under the cursor, or all of a group."""
        if self._stores.fleet.marked:
            return sorted(self._stores.fleet.marked)
        return self.grid.cursor_ids

    @on(FleetGrid.Rearranged)
    def _summarise(self) -> None:
        """Show titles, hint and buttons for what is there now; touch nothing when all of it stays, for figures beat."""
        fleet, grid = self._stores.fleet, self.grid
        hidden = f" · {grid.hidden} hidden by filter" if grid.hidden else ""
        marked = f" · {len(fleet.marked)} marked" if fleet.marked else ""
        by = grid.sort_column or grid.grouping
        order = "needs you first" if by == "need" else f"by {by}"
        wall = " · wall" if grid.wall else ""
        running = sum(row.state in RUNNING for row in fleet.rows.values())
        down = sum(row.state in BROKEN for row in fleet.rows.values())
        stopped = sum(row.state == "stopped" for row in fleet.rows.values())
        first = self.first_shown
        self._offers_first &= fleet.nothing_runs
        if turned := first != self.query_one(FirstRun).display:
            self._shown = None
        counts = f"{running} run{f' · {down} down' if down else ''} · {stopped} stopped"
        summary = _Shown(
            f"Fleet · {len(fleet.rows)}{hidden}{marked}", f" · {order}{wall}", services_in_words(fleet) or counts,
            self._hint(), self._stores.connection.stale, bool(fleet.live()), grid.lines_wanted,
        )  # fmt: skip
        if summary != self._shown:
            # titles, hint and layout cost a layout pass, and figures come every second: only what differs is written
            self._shown = summary
            had = self.has_focus_within
            self._show()
            if first:
                self.query_one(FirstRun).show()
            if turned and not first:
                # who starts stands on top: a second Enter means nobody else
                self.grid.action_move(-len(fleet.rows))
            if turned:
                came = ("the form" if first else "the list", monotonic())
                self.grid.came = self.query_one(FirstRun).came = came
            if turned and had:
                self.focus_content()
        self._name_keys()

    def _name_keys(self) -> None:
        """Have the line of keys drawn anew when a key now does something else."""
        if (words := self.key_words()) != self._key_words:
            self._key_words = words
            self.refresh_bindings()

    def _show(self) -> None:
        shown = self._shown
        if shown is None:
            return
        box = self.query_one("#fleet-box")
        air = " " if app_of(self).size.width < NARROW else ""
        order = literal(shown.order + air, "$text-muted")
        box.border_title = Content.assemble(literal(air + shown.title), order)
        layout = "rows" if self.grid.wall else "wall"
        keys = (("/", "filter"), ("o", "order"), ("C", "columns"), ("L", layout))
        named = [Content.assemble((key, "bold $text-primary"), f" {word}") for key, word in keys]
        box.border_subtitle = Content(" · ").join([literal(shown.counts), *named])
        empty = self.query_one(EmptyState)
        empty.display = shown.hint is not None
        if shown.hint is not None:
            empty.show_text(*shown.hint)
        self.set_class(shown.stale, "-stale")
        self.query_one(FleetButtons).enable(shown.live)
        self._fit()

    def _hint(self) -> tuple[str, str] | None:
        return why_no_rows(self._stores, self.grid.filter_text, self.grid.hidden, first=self._first_due)

    @on(FleetGrid.Highlighted)
    def _highlighted(self, event: FleetGrid.Highlighted) -> None:
        self.query_one(DetailPane).show_specialist(event.ai_id)
        self._name_keys()

    @on(FleetGrid.Chosen)
    def _chosen(self, event: FleetGrid.Chosen) -> None:
        self._commands.navigator.open_chat(event.ai_id)

    @on(FleetButtons.Pressed)
    def _pressed(self, event: FleetButtons.Pressed) -> None:
        getattr(self, f"action_{event.name}")()
        self.focus_content()

    @on(Input.Changed, "#fleet-filter")
    def _filtered(self, event: Input.Changed) -> None:
        self.grid.set_filter(event.value)
        self._summarise()

    @on(Input.Submitted, "#fleet-filter")
    def _filter_kept(self, event: Input.Submitted) -> None:
        """Go back to the rows; what was written before anybody knew that nobody runs is the first question."""
        self._filtering = False
        if self.first_shown:
            self.action_clear()
            self.query_one(FirstRun).ask_first(event.value)
        self.focus_content()

    def action_chat(self) -> None:
        fleet = self._stores.fleet
        row = self.grid.cursor_row
        if self.grid.toggle_fold():
            return
        if fleet.rows and fleet.nothing_runs and not fleet.marked:
            self._offer_first(True)
        elif row is not None and row.state in LIVE:
            self._commands.navigator.open_chat(row.id)
        elif row is not None and row.state == "starting":
            self._commands.notify(f"{row.name} is starting")
        elif row is not None:
            self._commands.fleet.launch([row.id])

    def action_ask(self) -> None:
        """Open the conversation with whom the cursor is on, to write to it."""
        if (row := self.grid.cursor_row) is not None:
            self._commands.navigator.open_chat(row.id)

    def take_text(self, text: str) -> bool:
        """Filter by text that was typed or pasted outside of a field; on the first form it is the first question."""
        if self.first_shown:
            self.query_one(FirstRun).ask_first(text)
            return True
        self._filtering = True
        self.query_one("#fleet-filter", Field).show_with(text)
        self._fit()
        return True

    def action_launch(self) -> None:
        self._commands.fleet.launch(self.targets() or ["starter"])

    def action_new(self) -> None:
        self._commands.fleet.new()

    def action_launch_all(self) -> None:
        self._commands.fleet.launch(["all"])

    def action_stop(self) -> None:
        self._commands.fleet.stop(self.targets())

    def action_kill(self) -> None:
        self._commands.fleet.kill(self.targets())

    def action_kill_all(self) -> None:
        self._commands.fleet.stop_all()

    def action_restart(self) -> None:
        self._commands.fleet.restart(self.targets())

    def action_mark(self) -> None:
        row = self.grid.cursor_row
        if row is not None:
            self._stores.fleet.toggle_mark(row.id)
            self.grid.action_move(1)

    def action_broadcast(self) -> None:
        self._commands.navigator.open_team(sorted(self._stores.fleet.marked))

    def action_pipe(self) -> None:
        names = [self._stores.fleet.rows[ai_id].name for ai_id in self.targets()]
        self._commands.navigator.open_pipes(" | ".join(names))

    def action_logs(self) -> None:
        if row := self.grid.cursor_row:
            self._commands.navigator.open_logs(row.id)

    def action_describe(self) -> None:
        if row := self.grid.cursor_row:
            self._commands.fleet.describe(row.id)

    def action_detail(self) -> None:
        """Show the pane below the grid, or hide it."""
        self._detail_open, self._zoomed = not self._detail_open, ""
        if not self._detail_open:
            self.focus_content()
        self._fit()

    def action_tab(self, step: int) -> None:
        self._detail_open = True
        self._fit()
        self.query_one(DetailPane).step_tab(step)

    def action_zoom(self) -> None:
        """Give the focused pane the whole place, or show all again."""
        detail = self.query_one(DetailPane)
        self._zoomed = "" if self._zoomed else "detail" if detail.has_focus else "grid"
        self._fit()

    def action_resize_detail(self, step: int) -> None:
        self._detail_extra += step
        self._fit()

    def action_span(self, step: int) -> None:
        self._plots.zoom_span(step)

    def action_order(self) -> None:
        """Choose the column to order by; the same again reverses, a third time restores the first order."""
        choices = [(column.name, column.title.lower(), "") for column in COLUMNS if column.sort]
        self._commands.navigator.choose("Order by", choices, self.grid.sort_by)

    def action_group(self) -> None:
        choices = [(name, "who needs you" if name == "need" else name, "") for name in GROUPINGS]
        by_name: dict[str, Grouping] = {name: name for name in GROUPINGS}
        self._commands.navigator.choose("Group by", choices, lambda name: self.grid.group_by(by_name[name]))

    def action_layout(self) -> None:
        self.grid.toggle_wall()

    def action_columns(self) -> None:
        """Choose the columns of this size of terminal."""
        grid = self.grid

        def chosen(names: list[str] | None) -> None:
            if names is not None:
                grid.choose_columns(names)
                self._commands.console.set_preference("columns", dict(grid.chosen))

        columns = [(column.name, column.title) for column in COLUMNS]
        app_of(self).push_screen(ColumnsScreen(columns, grid.columns_chosen()), chosen)

    @on(FleetGrid.MenuAsked)
    def _menu(self, event: FleetGrid.MenuAsked) -> None:
        """Offer what can be done with a row, or, on the head, the columns."""
        if not event.ai_id:
            self.action_columns()
            return
        row = self._stores.fleet.rows[event.ai_id]
        verbs = MENU if row.state in LIVE else tuple(verb for verb in MENU if verb[0] in WHILE_STOPPED)
        self._commands.navigator.choose(row.name, verbs, lambda name: self._act_on(row.id, name))

    def _act_on(self, ai_id: str, name: str) -> None:
        """Carry a choice of a row's menu out on that row, whatever the cursor is on by now and whoever is marked."""
        self.grid.go_to(ai_id)
        # the marks are set aside for the moment: a menu is about the row that was clicked
        marked, act = self._stores.fleet.marked, getattr(self, f"action_{name}")
        if self.grid.cursor_ids != [ai_id]:
            self._commands.notify("its row is gone: nothing was done", failed=True)
        elif name == "mark":
            act()
        else:
            self._stores.fleet.marked = set()
            act()
            self._stores.fleet.marked = marked

    def action_model(self) -> None:
        if targets := self.targets():
            self._commands.navigator.choose_model(targets)

    def action_yank(self) -> None:
        if row := self.grid.cursor_row:
            self._commands.copy(as_json(row), f"{row.name} as JSON")

    def action_copy(self) -> None:
        if row := self.grid.cursor_row:
            self._commands.copy(row.name, row.name)

    def action_filter(self) -> None:
        self._offer_first(False)
        field = self.query_one("#fleet-filter", Input)
        field.display = self._filtering = True
        self._fit()
        field.focus()

    def action_clear(self) -> None:
        field = self.query_one("#fleet-filter", Input)
        if field.display:
            field.value = ""
            field.display = self._filtering = False
            self._fit()
            self._summarise()
        elif self._zoomed:
            self._zoomed = ""
            self._fit()
        elif self._stores.fleet.marked:
            self._commands.fleet.clear_marks()
        else:
            self.grid.fold_again()
        self.focus_content()
