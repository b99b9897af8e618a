"""Pipeline runs as events reported them: stages, sizes, times, the output as it comes."""

from __future__ import annotations

from dataclasses import dataclass, field

from backend.schema.events import PipelineEnd, PipelineStart, StageEvent, StageText
from tekton_tui.clock import gateway_time
from tekton_tui.stores.signal import Signal

KEPT_RUNS = 50
ENDED_UNSEEN = "it ended while the console was away; the list of earlier runs says how"


@dataclass
class LiveRun:
    """A run and its stages; `output` is the last stage's text so far."""

    start: PipelineStart
    stages: list[StageEvent] = field(default_factory=list[StageEvent])
    output: list[str] = field(default_factory=list[str])
    end: PipelineEnd | None = None


class PipeStore:
    """Runs by request id, oldest first. `changed` is emitted with the run."""

    def __init__(self) -> None:
        self.runs: dict[str, LiveRun] = {}
        self.changed: Signal[[LiveRun]] = Signal()

    def start(self, event: PipelineStart) -> None:
        stages = [
            StageEvent(event.request_id, number, "waiting", label)
            for number, label in enumerate(event.stages)
        ]
        self.runs[event.request_id] = LiveRun(event, stages)
        while len(self.runs) > KEPT_RUNS:
            del self.runs[next(iter(self.runs))]
        self.changed.emit(self.runs[event.request_id])

    def stage(self, event: StageEvent) -> None:
        run = self.runs.get(event.request_id)
        if run is not None and event.stage < len(run.stages):
            run.stages[event.stage] = event
            self.changed.emit(run)

    def text(self, event: StageText) -> None:
        if run := self.runs.get(event.request_id):
            run.output.append(event.content)
            self.changed.emit(run)

    def load(self, running: list[str] | None) -> None:
        """End the runs that are not among those under way: they ended unseen, and their records say how."""
        for request_id, run in self.runs.items():
            if run.end is None and running is not None and request_id not in running:
                took_s = gateway_time() - run.start.timestamp
                self.end(PipelineEnd(request_id, False, "".join(run.output), took_s, error=ENDED_UNSEEN))

    def end(self, event: PipelineEnd) -> None:
        if run := self.runs.get(event.request_id):
            run.end = event
            self.changed.emit(run)
