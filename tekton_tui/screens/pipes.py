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
from tekton_tui.hearing import hear
from tekton_tui.reading import reading_of_pipeline
from tekton_tui.safe_text import literal, one_line
from tekton_tui.stores import LiveRun, Stores
from tekton_tui.transcript import frame_tick
from tekton_tui.widgets.composer import Choice, Composer, teaching_placeholder
from tekton_tui.widgets.empty import EmptyState
from tekton_tui.widgets.stage_strip import STATE_SYMBOLS, STATE_TONES, stage_strip
from tekton_tui.wording import size, span

LEAST_STRIP_CELLS, PREVIEW_CELLS = 30, 400
NO_STAGE: dict[str, Any] = {"label": "no stage", "error": "this run has no stages: nobody was asked"}
EXAMPLES = 'echo "our queue grows" | apollo | athena\n{apollo,athena} "name one risk" | rhetor'


class PipesPane(Vertical):
    """History at the left; stages, input and output of the chosen run at the right; a composer below."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "stage(-1)", "Previous stage", show=False, id="pipes.previous-stage"),
        Binding("right", "stage(1)", "Next stage", key_display="←→", id="pipes.next-stage"),
        Binding("x", "cancel", "Cancel", id="pipes.cancel"),
        Binding("R", "rerun", "Rerun from stage", id="pipes.rerun"),
        Binding("i", "write", "Write", id="pipes.write"),
        Binding("s,ctrl+s", "save", "Save", id="pipes.save"),
        Binding("o,ctrl+o", "saved", "Saved", id="pipes.saved"),
        Binding("y", "copy", "Copy output", id="pipes.copy"),
        Binding("escape", "back", "Back", show=False, id="pipes.back"),
    ]

    def __init__(self, stores: Stores, commands: Commands, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._stores, self._commands = stores, commands
        self._runs: list[dict[str, Any]] = []
        self._input = self._source = ""
        self._stage = 0
        self._live: LiveRun | None = None
        """The run on the screen, when it has news since the last frame."""

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
        self.query_one(Composer).read = reading_of_pipeline
        hear(self, self._stores.pipes.changed, self._changed)
        hear(self, self._stores.fleet.summary_changed, self._name_names)
        self._name_names()
        self._tell_input()
        self._load()

    def on_unmount(self) -> None:
        frame_tick(self.app).forget(self)

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

    def on_resize(self) -> None:
        self.call_after_refresh(self._show)

    def _tell_input(self) -> None:
        composer = self.query_one(Composer)
        composer.border_title = "pipeline"
        lead = "athena   or   athena | rhetor" if self._input else "apollo | athena"
        composer.placeholder = teaching_placeholder(lead)
        self._show_emptiness()
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
        self._show_emptiness()
        self._show()

    def _show_emptiness(self) -> None:
        """Say what goes in, while a text waits for its pipeline; without any run, how one is written."""
        empty = self.query_one(EmptyState)
        empty.display = bool(self._input) or not self._runs
        self.query_one("#pipes-body").display = not empty.display
        if self._input:
            whose = f"The answer of {self._source}" if self._source else "This text"
            line = f"{whose} goes in ({size(len(self._input.encode()))}). Name below who gets it."
            empty.say(line, one_line(self._input, PREVIEW_CELLS))
        else:
            empty.say("No pipeline has run. Write one below:", EXAMPLES)

    def _changed(self, run: LiveRun) -> None:
        """Show a run as it goes: stages from events, the texts from the backend when a stage ends."""
        if run.end is not None or not any(
            known["request_id"] == run.start.request_id for known in self._runs
        ):
            self._load()
            return
        if self.current and self.current["request_id"] == run.start.request_id:
            self._live = run
            frame_tick(self.app).request(self)

    def frame(self) -> None:
        """Show what came of the current run since the last frame."""
        live, self._live = self._live, None
        run = self.current
        if live is None or run is None or run["request_id"] != live.start.request_id:
            return
        for stage, event in zip(run["stages"], live.stages, strict=False):
            if stage.get("state") != event.state and event.state == "done":
                self._load()
            stage["state"], stage["started_at"] = event.state, event.started_at
        if live.output and run["stages"]:
            run["stages"][-1]["output"] = "".join(live.output)
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
        box.update(stage_strip(stages, self._stage, max(LEAST_STRIP_CELLS, box.size.width - 2)))
        stage = stages[self._stage] if stages else NO_STAGE
        name = one_line(stage["label"], 24)
        self.query_one("#pipes-in").border_title = literal(f"input of {name}")
        self.query_one("#pipes-out").border_title = literal(f"output of {name}")
        self.query_one("#pipes-in-text", Static).update(literal(stage.get("input", "") or "–"))
        self.query_one("#pipes-out-text", Static).update(_output(stage))

    def _name_names(self) -> None:
        rows = self._stores.fleet.rows.values()
        self.query_one(Composer).names = [Choice(row.name, row.title) for row in rows]

    @on(OptionList.OptionSelected)
    def _again(self) -> None:
        """Put a run's pipeline into the field, to change it or run it again."""
        if run := self.current:
            self.query_one(Composer).draft = run["pipeline"]
            self.focus_content()

    @on(Composer.Submitted)
    def _submitted(self, event: Composer.Submitted) -> None:
        """Run it; what is no pipeline stays in the field with its mistake marked, and so does its input."""
        reading = reading_of_pipeline(event.text)
        if reading is not None and reading.position is not None:
            self._commands.tell(f"{reading.words}, at character {reading.position + 1}", bad=True)
            self.draft(event.text)
            return
        given, source = self._input, self._source

        def back(text: str) -> None:
            self.draft(text)
            self.take_input(given, source)

        self._commands.run_pipeline(event.text, given, otherwise=back)
        self._input = self._source = ""
        self._tell_input()
        self.query_one("#pipes-runs", OptionList).highlighted = 0
        self.query_one("#pipes-runs").focus()

    @on(Composer.Cancelled)
    def _cancelled(self) -> None:
        if self._input:
            self.take_input("")
        elif self._runs:
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
        if (run := self.current) and run["stages"]:
            self._commands.copy(run["stages"][self._stage].get("output", ""), "the stage's output")

    def action_save(self) -> None:
        """Keep what is written, else the run's pipeline, under a name."""
        text = self.query_one(Composer).draft.strip() or (self.current or {}).get("pipeline", "")
        if not text:
            self._commands.tell("write a pipeline first (i), or choose a run", bad=True)
            return
        self._commands.saved_pipelines(self.draft, text)

    def action_saved(self) -> None:
        """Take a saved pipeline into the field."""
        self._commands.saved_pipelines(self._take_saved)

    def _take_saved(self, text: str) -> None:
        self.draft(text)
        self.focus_content()

    def action_back(self) -> None:
        """Let go of a text that waits, then leave."""
        if self._input:
            self.take_input("")
        else:
            self._commands.show("fleet")


def _run_line(run: dict[str, Any]) -> Content:
    states = [stage.get("state", "waiting") for stage in run["stages"]]
    worst = next(
        (state for state in ("failed", "cancelled", "running", "waiting") if state in states), "done"
    )
    return Content.assemble(
        literal(f"{STATE_SYMBOLS[worst]} ", STATE_TONES[worst]), literal(one_line(run["pipeline"], 60))
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
