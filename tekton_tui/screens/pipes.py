"""Pipelines: a row for each stage with its time, what it was given and gave as it reads, earlier runs."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from backend.schema.params import ListPipelines
from backend.schema.records import RunRecord, StageRecord
from backend.schema.results import PipelineRuns
from tekton_tui.commands import Commands
from tekton_tui.formatting import size, span
from tekton_tui.runtime.frame_scheduler import app_of, frame_scheduler
from tekton_tui.runtime.latest import Latest, Rereading
from tekton_tui.safe_text import literal, one_line
from tekton_tui.stores import LiveRun, Stores
from tekton_tui.transcript import Ending, Entry, Transcript
from tekton_tui.verbs import bindings
from tekton_tui.widgets.chat.failures import failure_words
from tekton_tui.widgets.common.empty import EmptyState
from tekton_tui.widgets.composer.composer import DRAFT_KEPT, Choice, Composer, teaching_placeholder
from tekton_tui.widgets.composer.text import preview_pipeline
from tekton_tui.widgets.team.stage_strip import STATE_SYMBOLS, STATE_TONES, stage_rows

LEAST_STRIP_CELLS, PREVIEW_CELLS, MOST_STAGES = 30, 400, 8
NO_STAGE = StageRecord("no stage", error="this run has no stages: nobody was asked")
EXAMPLES = 'echo "our queue grows" | apollo | athena\n{apollo,athena} "name one risk" | rhetor'


class PipesPane(Vertical):
    """Earlier runs at the left; stages of the chosen one and what one of them gave at the right; a composer below."""

    DEFAULT_CSS = """
    #pipes-body { height: 1fr; }
    #pipes-runs { width: 28%; max-width: 40; min-width: 20; height: 1fr; }
    #pipes-detail { width: 1fr; height: 1fr; }
    #pipes-stages { height: auto; max-height: 10; padding: 0; text-wrap: nowrap; }
    #pipes-text { height: 1fr; padding: 0 1; }
    #pipes-runs { background: $background; text-wrap: nowrap; text-overflow: ellipsis; }
    """

    BINDINGS: ClassVar[list[BindingType]] = bindings("pipes")

    def __init__(self, stores: Stores, commands: Commands, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._stores, self._commands = stores, commands
        self._reading = Latest(commands.controller)
        self._runs: list[RunRecord] = []
        self._rereading = Rereading(self, stores, self._load)
        self._listed = False
        """Whether it is known which have run."""
        self._input = self._source = ""
        self._stage = 0
        self._live: LiveRun | None = None
        """The run on the screen, when it has news since the last frame."""
        self._read: tuple[str, int, str] = ("", 0, "")
        """Run, stage and text that the transcript shows."""

    def compose(self) -> ComposeResult:
        yield EmptyState(self._stores, id="pipes-empty")
        with Horizontal(id="pipes-body"):
            yield OptionList(id="pipes-runs", classes="framed", markup=False)
            with Vertical(id="pipes-detail"):
                yield Static("", id="pipes-stages", classes="framed")
                yield Transcript(id="pipes-text", classes="framed")
        yield Composer(teaching_placeholder("apollo | athena"), id="pipes-composer")

    def on_mount(self) -> None:
        self.query_one("#pipes-runs").border_title = "runs"
        self.query_one(Composer).preview = preview_pipeline
        self._stores.pipes.changed.subscribe_widget(self, self._changed)
        self._stores.fleet.summary_changed.subscribe_widget(self, self._name_names)
        self._name_names()
        self._tell_input()
        self._rereading.begin()

    def on_show(self) -> None:
        self._rereading.shown()

    def on_unmount(self) -> None:
        frame_scheduler(app_of(self)).forget(self)

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
        # the sizes of what is inside are known then
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
        self._reading.request(ListPipelines(limit=50), self._list, otherwise=self._rereading.failed)

    def _list(self, listed: PipelineRuns) -> None:
        if not self.is_attached:
            return
        self._runs, self._listed = listed.runs, True
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
            empty.show_text(line, one_line(self._input, PREVIEW_CELLS))
        else:
            line = "No pipeline has run. Write one below:" if self._listed else "Write a pipeline below:"
            empty.show_text(line, EXAMPLES)

    def _changed(self, run: LiveRun) -> None:
        """Show a run as it goes: stages from events, the texts from the backend when a stage ends."""
        if run.end is not None or not any(known.request_id == run.start.request_id for known in self._runs):
            self._load()
            return
        if self.current and self.current.request_id == run.start.request_id:
            self._live = run
            frame_scheduler(app_of(self)).request(self)

    def frame(self) -> None:
        """Show what came of the current run since the last frame."""
        live, self._live = self._live, None
        run = self.current
        if live is None or run is None or run.request_id != live.start.request_id:
            return
        for stage, event in zip(run.stages, live.stages, strict=False):
            if stage.state != event.state and event.state == "done":
                self._load()
            stage.state, stage.started_at = event.state, event.started_at
        if live.output and run.stages:
            run.stages[-1].output = "".join(live.output)
        self._show()

    @property
    def current(self) -> RunRecord | None:
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
        stages = run.stages
        self._stage = max(0, min(self._stage, len(stages) - 1))
        box = self.query_one("#pipes-stages", Static)
        box.border_title = literal(one_line(run.pipeline, 60))
        box.border_subtitle = literal(span(run.total_time) if run.total_time else "running")
        room = min(MOST_STAGES, max(2, self.size.height // 3))
        box.update(stage_rows(stages, self._stage, max(LEAST_STRIP_CELLS, box.size.width - 2), room))
        self._show_text(run, stages[self._stage] if stages else NO_STAGE)

    def _show_text(self, run: RunRecord, stage: StageRecord) -> None:
        """Show what the stage was given and gave; text that is added to what is shown leaves the reader where it is."""
        transcript = self.query_one("#pipes-text", Transcript)
        key = f"{run.request_id}/{self._stage}"
        shown_key, shown_stage, shown = self._read
        running = stage.state == "running" and not stage.lanes
        if (
            running
            and (shown_key, shown_stage) == (key, self._stage)
            and stage.output.startswith(shown)
            and transcript.is_streaming(key)
        ):
            transcript.append_text(key, stage.output[len(shown) :])
        elif (key, self._stage, stage.state + stage.output + stage.error) != self._read:
            transcript.border_title = literal(one_line(stage.label, 40))
            given, answers = _entries(stage, key)
            transcript.load(given if running else [*given, *answers])
            if running:
                transcript.begin(Entry(key, one_line(stage.label), "answer", ""))
                transcript.append_text(key, stage.output)
            else:
                transcript.scroll_to_beginning()
        text = stage.output if running else stage.state + stage.output + stage.error
        self._read = (key, self._stage, text)

    def _name_names(self) -> None:
        rows = self._stores.fleet.rows.values()
        self.query_one(Composer).names = [Choice(row.name, row.title) for row in rows]

    @on(OptionList.OptionSelected)
    def _again(self) -> None:
        """Put a run's pipeline into the field, to change it or run it again."""
        if run := self.current:
            self.query_one(Composer).draft = run.pipeline
            self.focus_content()

    @on(Composer.Submitted)
    def _submitted(self, event: Composer.Submitted) -> None:
        """Run it; what is no pipeline stays in the field with its mistake marked, and so does its input."""
        reading = preview_pipeline(event.text)
        if reading is not None and reading.position is not None:
            self._commands.notify(f"{reading.words}, at character {reading.position + 1}", failed=True)
            self.draft(event.text)
            return
        given, source = self._input, self._source

        def back(text: str) -> None:
            if not self.query_one(Composer).take_draft(text):
                self._commands.notify(DRAFT_KEPT)
            self.take_input(given, source)

        self._commands.pipelines.run(event.text, given, on_refused=back)
        self._input = self._source = ""
        self._tell_input()
        self.query_one("#pipes-runs", OptionList).highlighted = 0
        self.query_one("#pipes-runs").focus()

    def take_text(self, text: str) -> bool:
        """Put text that was typed or pasted outside of a field into the composer; nothing is sent."""
        self.query_one(Composer).insert(text)
        self.focus_content()
        return True

    @on(Composer.Cancelled)
    def _cancelled(self) -> None:
        if self._input:
            self.take_input("")
        elif self._runs:
            self.query_one("#pipes-runs").focus()
        else:
            self._commands.navigator.show("fleet")

    @on(Transcript.Pipe)
    def _pipe(self, event: Transcript.Pipe) -> None:
        """Use what is read as the input of the next run."""
        self.take_input(event.text, event.entry.speaker)
        self._commands.notify(f"the next run begins with these {len(event.text):,} characters")

    @on(Transcript.Quote)
    def _quote(self, event: Transcript.Quote) -> None:
        quoted = " ".join(event.text.split()).replace('"', "'")
        self.query_one(Composer).insert(f'"{quoted}"')
        self.focus_content()

    @on(Transcript.WhatWasSent)
    def _has_no_message(self) -> None:
        self._commands.notify("a stage of a run is no message: R runs it again")

    @on(Transcript.AskAgain)
    def _stage_again(self) -> None:
        self.action_rerun()

    @on(Transcript.EditAndAsk)
    def _edit(self) -> None:
        self._again()

    def action_stage(self, step: int) -> None:
        self._stage += step
        self._show()

    def action_cancel(self) -> None:
        if run := self.current:
            self._commands.chat.cancel(run.request_id)

    def action_rerun(self) -> None:
        """Run again from the stage that is shown, after a yes; what came before is kept."""
        if run := self.current:
            stage = self._stage + 1
            self._commands.navigator.confirm(
                "Run again",
                f"This runs it again from stage {stage}:",
                [run.pipeline],
                "Run again",
                lambda: self._commands.pipelines.run(
                    run.pipeline, run.input, run_id=run.request_id, from_stage=stage
                ),
            )

    def action_write(self) -> None:
        self.focus_content()

    def action_copy(self) -> None:
        if (run := self.current) and run.stages:
            self._commands.copy(run.stages[self._stage].output, "the stage's output")

    def action_save(self) -> None:
        """Keep what is written, else the run's pipeline, under a name."""
        text = self.query_one(Composer).draft.strip() or (self.current.pipeline if self.current else "")
        if not text:
            self._commands.notify("write a pipeline first (i), or choose a run", failed=True)
            return
        self._commands.navigator.choose_saved_pipeline(self.draft, text)

    def action_saved(self) -> None:
        self._commands.navigator.choose_saved_pipeline(self._take_saved)

    def _take_saved(self, text: str) -> None:
        self.draft(text)
        self.focus_content()

    def action_back(self) -> None:
        """Let go of a text that waits, then leave."""
        if self._input:
            self.take_input("")
        else:
            self._commands.navigator.show("fleet")


def _run_line(run: RunRecord) -> Content:
    states = [stage.state for stage in run.stages]
    worst = next(
        (state for state in ("failed", "cancelled", "running", "waiting") if state in states), "done"
    )
    return Content.assemble(
        literal(f"{STATE_SYMBOLS[worst]} ", STATE_TONES[worst]), literal(one_line(run.pipeline, 60))
    )


def _entries(stage: StageRecord, key: str) -> tuple[list[Entry], list[Entry]]:
    """Return what a stage was given, and what came of it: one answer, or that of each of its members."""
    given = [Entry(f"{key}/in", "input", "note", stage.input, colour="note")] if stage.input else []
    lanes = stage.lanes if len(stage.lanes) > 1 else []
    answers: list[Entry] = []
    for name, output, code, error in [(lane.name, lane.output, lane.code, lane.error) for lane in lanes] or [
        (stage.label, stage.output, stage.code, stage.error)
    ]:
        entry = Entry(f"{key}/{name}", one_line(name), "answer", output)
        words = failure_words(code or "")
        facts = (span(stage.elapsed_s),) if stage.elapsed_s and not lanes else ()
        remedy = (("R", "runs from here again"),) if code or error else ()
        entry.end(Ending("", code or "", error, facts, words.cause if code else error, remedy))
        answers.append(entry)
    return given, answers
