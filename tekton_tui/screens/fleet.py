"""Screen 1: the fleet at a glance, and the keys that launch, stop and ask it."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Button, Input, Static

from backend.schema.records import SpecialistStatus
from tekton_tui.commands import Commands
from tekton_tui.hearing import hear
from tekton_tui.safe_text import literal, one_line
from tekton_tui.stores import Stores
from tekton_tui.stores.fleet import LIVE
from tekton_tui.widgets.detail import DetailStrip
from tekton_tui.widgets.empty import EmptyState
from tekton_tui.widgets.field import Field
from tekton_tui.widgets.grid import SORT_KEYS, FleetGrid
from tekton_tui.wording import SYMBOLS


class FleetPane(Vertical):
    """Grid, buttons and the strip that tells more of the row under the cursor."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "chat", "Chat", id="fleet.chat"),
        Binding("s", "launch", "Launch", id="fleet.launch"),
        Binding("x", "stop", "Stop", id="fleet.stop"),
        Binding("X", "kill", "Kill", id="fleet.kill"),
        Binding("space", "mark", "Mark", id="fleet.mark"),
        Binding("b", "broadcast", "Ask team", id="fleet.broadcast"),
        Binding("l", "logs", "Logs", id="fleet.logs"),
        Binding("slash", "filter", "Filter", key_display="/", id="fleet.filter"),
        Binding("d", "describe", "Describe", id="fleet.describe"),
        Binding("m", "model", "Model", id="fleet.model"),
        Binding("r", "restart", "Restart", id="fleet.restart"),
        Binding("S", "launch_all", "Launch all", id="fleet.launch-all"),
        Binding("vertical_line", "pipe", "Pipe", key_display="|", id="fleet.pipe"),
        Binding("y", "yank", "Row as JSON", id="fleet.yank", show=False),
        Binding("c", "copy", "Copy name", id="fleet.copy", show=False),
        Binding("escape", "clear", "Clear", show=False, id="fleet.clear"),
        *(Binding(key, f"sort('{name}')", f"Sort by {name}", show=False, id=f"fleet.sort-{name}")
          for key, name in SORT_KEYS.items()),
    ]  # fmt: skip

    def __init__(self, stores: Stores, commands: Commands, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._stores, self._commands = stores, commands
        self._shown: tuple[str, tuple[str, str] | None, Content, bool, bool] | None = None
        self._key_words: dict[str, str] = {}

    def compose(self) -> ComposeResult:
        with Vertical(id="fleet-box", classes="framed"):
            with Horizontal(id="fleet-buttons"):
                yield Static("", id="fleet-note")
                for name, label in (
                    ("launch", "Launch"),
                    ("launch-all", "Launch all"),
                    ("kill", "Kill"),
                    ("kill-all", "Kill all"),
                ):
                    yield Button(label, id=f"button-{name}", compact=True)
            yield EmptyState(id="fleet-empty")
            yield FleetGrid(self._stores.fleet, id="fleet-grid")
        yield Field(
            placeholder="filter: words or a pattern, ! in front inverts · enter keeps · esc clears",
            id="fleet-filter",
            compact=True,
        )
        yield DetailStrip(self._stores, self._commands, id="fleet-detail")

    def on_mount(self) -> None:
        self.query_one("#fleet-filter").display = False
        fleet = self._stores.fleet
        hear(self, fleet.summary_changed, self._summarise)
        hear(self, fleet.changed, lambda ids: self._summarise())
        hear(self, self._stores.connection.changed, self._summarise)
        self._summarise()

    @property
    def grid(self) -> FleetGrid:
        return self.query_one(FleetGrid)

    def focus_content(self) -> None:
        self.grid.focus()

    def show_launched(self, ids: list[str]) -> None:
        """Put the cursor on somebody who can be asked now, unless it is on one already."""
        here = self.grid.cursor_row
        if ids and (here is None or here.state not in LIVE):
            self.grid.go_to(ids[0])

    def key_words(self) -> dict[str, str]:
        """Return what Enter does: it launches the team, launches one, or opens a chat."""
        row = self.grid.cursor_row
        if self._nothing_runs:
            return {"chat": "Launch team"}
        return {"chat": "Launch"} if row is not None and row.state not in LIVE else {}

    @property
    def _nothing_runs(self) -> bool:
        return all(row.state == "stopped" for row in self._stores.fleet.rows.values())

    def targets(self) -> list[str]:
        """Return whom a verb means: the marked, else the row under the cursor."""
        if self._stores.fleet.marked:
            return sorted(self._stores.fleet.marked)
        row = self.grid.cursor_row
        return [row.id] if row else []

    def _summarise(self) -> None:
        """Show title, hint and buttons for what is there now; touch nothing when all of it stays, for figures beat."""
        fleet = self._stores.fleet
        hidden = f" · {self.grid.hidden} hidden by filter" if self.grid.hidden else ""
        marked = f" · {len(fleet.marked)} marked" if fleet.marked else ""
        summary = (
            f"Fleet · {len(fleet.rows)}{hidden}{marked}",
            self._hint() if self._nothing_runs else None,
            self._services(),
            self._stores.connection.stale,
            bool(fleet.live()),
        )
        if summary != self._shown:
            self._shown = summary
            self._show(*summary)
        self._name_keys()

    def _name_keys(self) -> None:
        """Have the line of keys drawn anew when a key now does something else."""
        if (words := self.key_words()) != self._key_words:
            self._key_words = words
            self.refresh_bindings()

    def _show(
        self, title: str, hint: tuple[str, str] | None, services: Content, stale: bool, live: bool
    ) -> None:
        self.query_one("#fleet-box").border_title = literal(title)
        empty = self.query_one(EmptyState)
        empty.display = hint is not None
        if hint is not None:
            empty.say(*hint)
        self.query_one("#fleet-note", Static).update(services)
        self.set_class(stale, "-stale")
        for name, enabled in (("launch", True), ("launch-all", True), ("kill", live), ("kill-all", live)):
            self.query_one(f"#button-{name}", Button).disabled = not enabled

    def _hint(self) -> tuple[str, str]:
        connection, platform = self._stores.connection, self._stores.fleet.platform
        if connection.state == "failed":
            return "No backend is attached. F5 tries again.", connection.reason
        if platform is None:
            return "Attaching to the backend…", ""
        if not platform.lifecycle_on:
            return "The AI lifecycle is off (TEKTON_REGISTER_AI=false).", "Nothing launches or registers."
        model = (
            "the embedded model" if platform.provider.provider == "embedded" else platform.provider.display
        )
        return (
            f"Nothing runs. Enter launches the starter team: {', '.join(platform.starter)}.",
            f"They answer with {model}: {platform.provider.reason}.",
        )

    def _services(self) -> Content:
        parts: list[Content] = []
        for service in self._stores.fleet.services.values():
            if service.state in ("stopped",) and not service.cause:
                continue
            tone = "$text-error" if service.state in ("exited", "killed", "lost") else "$text-muted"
            words = f"{service.state} {service.cause if tone == '$text-error' else service.detail}".strip()
            mark = SYMBOLS.get(service.state, "●")
            parts.append(literal(one_line(f"{mark} {service.title}: {words}", 70), tone))
        return Content("  ").join(parts)

    @on(FleetGrid.Highlighted)
    def _highlighted(self, event: FleetGrid.Highlighted) -> None:
        self.query_one(DetailStrip).show_specialist(event.ai_id)
        self._name_keys()

    @on(FleetGrid.Chosen)
    def _chosen(self, event: FleetGrid.Chosen) -> None:
        self._commands.open_chat(event.ai_id)

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        name = (event.button.id or "").removeprefix("button-").replace("-", "_")
        {
            "launch": self.action_launch,
            "launch_all": self.action_launch_all,
            "kill": self.action_kill,
            "kill_all": self._commands.kill_all,
        }[name]()
        self.focus_content()

    @on(Input.Changed, "#fleet-filter")
    def _filtered(self, event: Input.Changed) -> None:
        self.grid.set_filter(event.value)
        self._summarise()

    @on(Input.Submitted, "#fleet-filter")
    def _filter_kept(self) -> None:
        self.focus_content()

    def action_chat(self) -> None:
        fleet = self._stores.fleet
        row = self.grid.cursor_row
        if fleet.rows and self._nothing_runs and not fleet.marked:
            self._commands.launch(["starter"])
        elif row is not None and row.state in LIVE:
            self._commands.open_chat(row.id)
        elif row is not None:
            self._commands.launch([row.id])

    def action_launch(self) -> None:
        self._commands.launch(self.targets() or ["starter"])

    def action_launch_all(self) -> None:
        self._commands.launch(["all"])

    def action_stop(self) -> None:
        self._commands.stop(self.targets())

    def action_kill(self) -> None:
        self._commands.kill(self.targets())

    def action_restart(self) -> None:
        self._commands.restart(self.targets())

    def action_mark(self) -> None:
        row = self.grid.cursor_row
        if row is not None:
            self._stores.fleet.toggle_mark(row.id)
            self.grid.action_move(1)

    def action_broadcast(self) -> None:
        self._commands.open_team(sorted(self._stores.fleet.marked))

    def action_pipe(self) -> None:
        names = [self._stores.fleet.rows[ai_id].name for ai_id in self.targets()]
        self._commands.open_pipes(" | ".join(names))

    def action_logs(self) -> None:
        if row := self.grid.cursor_row:
            self._commands.open_logs(row.id)

    def action_describe(self) -> None:
        if row := self.grid.cursor_row:
            self._commands.describe(row.id)

    def action_model(self) -> None:
        if targets := self.targets():
            self._commands.choose_model(targets)

    def action_yank(self) -> None:
        if row := self.grid.cursor_row:
            self._commands.copy(_as_json(row), f"{row.name} as JSON")

    def action_copy(self) -> None:
        if row := self.grid.cursor_row:
            self._commands.copy(row.name, row.name)

    def action_filter(self) -> None:
        field = self.query_one("#fleet-filter", Input)
        field.display = True
        field.focus()

    def action_clear(self) -> None:
        field = self.query_one("#fleet-filter", Input)
        if field.display:
            field.value = ""
            field.display = False
        elif self._stores.fleet.marked:
            self._stores.fleet.clear_marks()
        self.focus_content()

    def action_sort(self, column: str) -> None:
        self.grid.sort_by(column)


def _as_json(row: SpecialistStatus) -> str:
    import msgspec

    return msgspec.json.format(msgspec.json.encode(row), indent=2).decode()
