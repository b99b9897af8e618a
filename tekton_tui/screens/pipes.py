"""Screen 4: pipelines: stages left to right with sizes and times, input and output of each, history."""

from __future__ import annotations

from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tekton_tui.commands import Commands
from tekton_tui.safe_text import literal, one_line
from tekton_tui.stores import LiveRun, Stores
from tekton_tui.widgets.composer import Choice, Composer, teaching_placeholder
from tekton_tui.widgets.empty import EmptyState
from tekton_tui.wording import milliseconds, size, span

STATE_SYMBOLS = {"waiting": "○", "running": "◐", "done": "✓", "failed": "✖", "cancelled": "✖", "not run": "–"}
STATE_TONES = {
    "waiting": "$text-muted", "running": "$text-primary", "done": "$text-success", "failed": "$text-error",
    "cancelled": "$text-muted", "not run": "$text-muted",
}  # fmt: skip
EXAMPLES = 'echo "our queue grows" | apollo | athena   ·   {apollo,athena} "name one risk" | rhetor'


class PipesPane(Vertical):
    """History at the left; stages, input and output of the chosen run at the right; a composer below."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "stage(-1)", "Stage", show=False, id="pipes.previous-stage"),
        Binding("right", "stage(1)", "Stage", show=False, id="pipes.next-stage"),
        Binding("x", "cancel", "Cancel", id="pipes.cancel"),
        Binding("R", "rerun", "Rerun from stage", id="pipes.rerun"),
        Binding("i", "write", "Write", id="pipes.write"),
        Binding("y", "copy", "Copy output", id="pipes.copy"),
        Binding("escape", "back", "Back", show=False, id="pipes.back"),
    ]

    def __init__(self, stores: Stores, commands: Commands, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._stores, self._commands = stores, commands
        self._runs: list[dict[str, Any]] = []
        self._input = self._source = ""
        self._stage = 0

    def compose(self) -> ComposeResult:
        yield EmptyState(id="pipes-empty")
        with Horizontal(id="pipes-body"):
            yield OptionList(id="pipes-runs", classes="framed", markup=False)
            with Vertical(id="pipes-detail"):
                yield Static("", id="pipes-stages", classes="framed")
                with Horizontal(id="pipes-io"):
                    with VerticalScroll(id="pipes-in", classes="framed"):
                        yield Static("", id="pipes-in-text")
                    with VerticalScroll(id="pipes-out", classes="framed"):
                        yield Static("", id="pipes-out-text")
        yield Composer(teaching_placeholder("apollo | athena"), id="pipes-composer")

    def on_mount(self) -> None:
        self.query_one("#pipes-runs").border_title = "runs"
        self.query_one("#pipes-in").border_title = "input"
        self.query_one("#pipes-out").border_title = "output"
        self._stores.pipes.changed.subscribe(self._changed)
        self._stores.fleet.summary_changed.subscribe(self._name_names)
        self._name_names()
        self._tell_input()
        self._load()

    def focus_content(self) -> None:
        self.query_one(Composer).focus_field()

    def draft(self, text: str) -> None:
        """Put a pipeline's beginning into the composer."""
        if text:
            self.query_one(Composer).draft = text

    def take_input(self, text: str, source: str = "") -> None:
        """Keep a text, `source` says whose, as the input of the next run."""
        self._input, self._source = text, source
        self._tell_input()
        self.focus_content()

    def _tell_input(self) -> None:
        composer = self.query_one(Composer)
        composer.border_title = "pipeline"
        words = (
            f"input: {one_line(self._input, 50)} ({size(len(self._input.encode()))})" if self._input else ""
        )
        composer.border_subtitle = literal(words)

    def _load(self) -> None:
        self._commands.fetch("list_pipelines", self._take, limit=50)

    def _take(self, answer: dict[str, Any]) -> None:
        if not self.is_attached:
            return
        self._runs = answer["runs"]
        listing = self.query_one("#pipes-runs", OptionList)
        at = listing.highlighted or 0
        listing.clear_options()
        listing.add_options(Option(_run_line(run)) for run in self._runs)
        if self._runs:
            listing.highlighted = min(at, len(self._runs) - 1)
        empty = self.query_one(EmptyState)
        empty.display = not self._runs
        self.query_one("#pipes-body").display = bool(self._runs)
        if not self._runs:
            empty.say("No pipeline has run. Write one below:", EXAMPLES)
        self._show()

    def _changed(self, run: LiveRun) -> None:
        """Show a run as it goes: stages from events, the texts from the backend when a stage ends."""
        if run.end is not None or not any(
            known["request_id"] == run.start.request_id for known in self._runs
        ):
            self._load()
            return
        if self.current and self.current["request_id"] == run.start.request_id:
            for stage, event in zip(self.current["stages"], run.stages, strict=False):
                if stage["state"] != event.state and event.state == "done":
                    self._load()
                stage["state"], stage["started_at"] = event.state, event.started_at
            if run.output:
                self.current["stages"][-1]["output"] = "".join(run.output)
            self._show()

    @property
    def current(self) -> dict[str, Any] | None:
        at = self.query_one("#pipes-runs", OptionList).highlighted
        return self._runs[at] if at is not None and at < len(self._runs) else None

    @on(OptionList.OptionHighlighted)
    def _highlighted(self) -> None:
        self._stage = 0
        self._show()

    def _show(self) -> None:
        run = self.current
        if run is None:
            return
        stages = run["stages"]
        self._stage = max(0, min(self._stage, len(stages) - 1))
        box = self.query_one("#pipes-stages", Static)
        box.border_title = literal(one_line(run["pipeline"], 60))
        total = run.get("total_time", 0)
        box.border_subtitle = literal(span(total) if total else "running")
        box.update(Content("\n").join(self._stage_line(number, stage) for number, stage in enumerate(stages)))
        stage = stages[self._stage]
        self.query_one("#pipes-in-text", Static).update(literal(stage.get("input", "") or "–"))
        self.query_one("#pipes-out-text", Static).update(_output(stage))

    def _stage_line(self, number: int, stage: dict[str, Any]) -> Content:
        state = stage.get("state", "waiting")
        arrow = "▶ " if number == self._stage else "  "
        facts = [
            f"{size(len(stage.get('input', '').encode()))} → {size(len(stage.get('output', '').encode()))}"
        ]
        if stage.get("first_token_ms") is not None:
            facts.append(f"first {milliseconds(stage['first_token_ms'])}")
        if stage.get("elapsed_s"):
            facts.append(span(stage["elapsed_s"]))
        words = f"{STATE_SYMBOLS[state]} {one_line(stage['label'], 36):<36} {state:<9} {' · '.join(facts)}"
        error = (
            f"  {stage.get('code') or ''} {one_line(stage.get('error', ''), 80)}"
            if stage.get("error")
            else ""
        )
        return Content.assemble(
            literal(arrow, "$text-accent"), literal(words, STATE_TONES[state]), literal(error, "$text-error")
        )

    def _name_names(self) -> None:
        rows = self._stores.fleet.rows.values()
        self.query_one(Composer).names = [Choice(row.name, row.title) for row in rows]

    @on(Composer.Submitted)
    def _submitted(self, event: Composer.Submitted) -> None:
        self._commands.run_pipeline(event.text, self._input)
        self._input = ""
        self._tell_input()
        self.query_one("#pipes-runs", OptionList).highlighted = 0
        self.query_one("#pipes-runs").focus()

    @on(Composer.Cancelled)
    def _cancelled(self) -> None:
        if self._runs:
            self.query_one("#pipes-runs").focus()
        else:
            self._commands.show("fleet")

    def action_stage(self, step: int) -> None:
        self._stage += step
        self._show()

    def action_cancel(self) -> None:
        if run := self.current:
            self._commands.cancel(run["request_id"])

    def action_rerun(self) -> None:
        """Run again from the stage that is shown; what came before is kept."""
        if run := self.current:
            self._commands.run_pipeline(
                run["pipeline"], run.get("input", ""), run_id=run["request_id"], from_stage=self._stage + 1
            )

    def action_write(self) -> None:
        self.focus_content()

    def action_copy(self) -> None:
        if run := self.current:
            self._commands.copy(run["stages"][self._stage].get("output", ""), "the stage's output")

    def action_back(self) -> None:
        self._commands.show("fleet")


def _run_line(run: dict[str, Any]) -> Content:
    states = [stage.get("state", "waiting") for stage in run["stages"]]
    worst = next(
        (state for state in ("failed", "cancelled", "running", "waiting") if state in states), "done"
    )
    return Content.assemble(
        literal(f"{STATE_SYMBOLS[worst]} ", STATE_TONES[worst]), literal(one_line(run["pipeline"], 28))
    )


def _output(stage: dict[str, Any]) -> Content:
    lanes = stage.get("lanes", [])
    if len(lanes) < 2:
        return literal(stage.get("output", "") or stage.get("error", "") or "–")
    parts: list[Content] = []
    for lane in lanes:
        tone = "$text-error" if lane.get("code") else "bold"
        parts += [
            literal(lane["ai_id"].removesuffix("-ai"), tone),
            literal(lane.get("output") or lane.get("error", "")),
            Content(""),
        ]
    return Content("\n").join(parts)
