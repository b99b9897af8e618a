"""The fleet: rows, services, figures, the platform. Fed by events, read by widgets."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Generator, Iterable
from contextlib import contextmanager

import msgspec

from backend.schema.events import Metrics, Snapshot
from backend.schema.history import HISTORY_S, SAMPLE_EVERY_S, Sample
from backend.schema.records import (
    HostFigures,
    ModelCandidate,
    PlatformInfo,
    ProcessFigures,
    ProviderChoice,
    ServiceStatus,
    SpecialistStatus,
)
from backend.schema.states import BROKEN, LIVE
from tekton_tui.clock import gateway_time
from tekton_tui.stores.signal import Signal

RATE_SAMPLES = 84
"""Of each specialist's speed, one a second."""
FRESH_S = 5.0
"""How old the newest sample may be to stand for the fleet's speed now."""


class FleetStore:
    """Specialists in catalogue order by id. `changed` names the ids whose rows changed."""

    def __init__(self) -> None:
        self.rows: dict[str, SpecialistStatus] = {}
        self.services: dict[str, ServiceStatus] = {}
        self.figures: dict[str, ProcessFigures] = {}
        self.host = HostFigures()
        self.platform: PlatformInfo | None = None
        self.rates: dict[str, deque[float]] = {}
        self.seconds = 0
        """How many samples were taken of them."""
        self.history: deque[Sample] = deque(maxlen=round(HISTORY_S / SAMPLE_EVERY_S))
        """The fleet's figures of the last ten minutes, oldest first."""
        self.sampled: Signal[[]] = Signal()
        """Emitted when the history grew or was read."""
        self.marked: set[str] = set()
        self.ended_here: set[str] = set()
        """Ids of those whose last run was ended from this console."""
        self.changed: Signal[[set[str]]] = Signal()
        self.summary_changed: Signal[[]] = Signal()
        self.broke: Signal[[SpecialistStatus]] = Signal()
        self.offered: Signal[[ModelCandidate]] = Signal()
        """Emitted when a better model than the one in use is there."""
        self._batched: set[str] | None = None
        """Ids of rows changed in the current batch; `None` outside one."""
        self._summary_batched = False

    @contextmanager
    def batch(self) -> Generator[None]:
        """Emit the signals of all changes inside once, at the end: a thousand rows cost the screen one redraw."""
        if self._batched is not None:
            yield
            return
        self._batched = set()
        try:
            yield
        finally:
            ids, summary = self._batched, self._summary_batched
            self._batched, self._summary_batched = None, False
            self._changed(ids, summary=summary)

    def _changed(self, ids: set[str], *, summary: bool = False) -> None:
        if self._batched is not None:
            self._batched |= ids
            self._summary_batched |= summary
            return
        if ids:
            self.changed.emit(ids)
        if summary:
            self.summary_changed.emit()

    def load(self, snapshot: Snapshot) -> None:
        self.platform = snapshot.platform
        self.rows = {row.id: row for row in snapshot.specialists}
        self.services = {service.name: service for service in snapshot.services}
        self.marked &= set(self.rows)
        if snapshot.history is not None:
            self.history.clear()
            self.history.extend(snapshot.history.samples)
            self.sampled.emit()
        self._changed(set(self.rows), summary=True)

    def put_provider(self, choice: ProviderChoice, offer: ModelCandidate | None) -> None:
        """Take what answers from now on, and what could."""
        if self.platform is not None:
            self.platform = msgspec.structs.replace(self.platform, provider=choice, offer=offer)
            self._changed(set(), summary=True)
        if offer is not None:
            self.offered.emit(offer)

    def put(self, row: SpecialistStatus) -> None:
        before = self.rows.get(row.id)
        self.rows[row.id] = row
        if row.state == "starting":
            self.ended_here.discard(row.id)
        # The header shows states and models only, so other changes of a row need not redraw it.
        news = before is None or (before.state, before.model_display) != (row.state, row.model_display)
        self._changed({row.id}, summary=news)
        if news and row.state in BROKEN and before is not None and before.state not in BROKEN:
            self.broke.emit(row)

    def drop(self, ai_id: str) -> None:
        if self.rows.pop(ai_id, None) is not None:
            self.marked.discard(ai_id)
            self._changed({ai_id}, summary=True)

    def put_service(self, service: ServiceStatus) -> None:
        self.services[service.name] = service
        self._changed(set(), summary=True)

    def measure(self, metrics: Metrics) -> None:
        """Take the figures of one second; only rows whose figures show a difference are named as changed."""
        changed = {
            name
            for name in {*metrics.processes, *self.figures}
            if _shown(metrics.processes.get(name)) != _shown(self.figures.get(name))
        }
        self.figures, self.host = metrics.processes, metrics.host
        self.seconds += 1
        changed |= self._sample_rates()
        self._changed(changed & self.rows.keys())
        if metrics.sample is not None:
            self.history.append(metrics.sample)
            self.sampled.emit()

    def toggle_mark(self, ai_id: str) -> None:
        self.marked ^= {ai_id}
        self.changed.emit({ai_id})

    def clear_marks(self) -> None:
        marked, self.marked = self.marked, set()
        self.changed.emit(marked)

    def counts(self) -> Counter[str]:
        """Return how many specialists are in each state."""
        return Counter(row.state for row in self.rows.values())

    def live(self) -> list[SpecialistStatus]:
        return [row for row in self.rows.values() if row.state in LIVE]

    @property
    def nothing_runs(self) -> bool:
        """Whether no specialist runs, starts or is down; also while none is known."""
        return all(row.state == "stopped" for row in self.rows.values())

    def rate(self) -> float:
        """Return the tokens a second of all that stream now."""
        # the backend's figure while it is fresh: rows change one after the other, and their sum jumps
        if self.history and abs(gateway_time() - self.history[-1].timestamp) < FRESH_S:
            return self.history[-1].rate
        return sum(row.tokens_per_second or 0.0 for row in self.rows.values() if row.phase == "streaming")

    def name_of(self, ai_id: str) -> str:
        """Return what a specialist is called on the screen."""
        return row.name if (row := self.rows.get(ai_id)) else ai_id.removesuffix("-ai")

    def title_of(self, ai_id: str) -> str:
        """Return what a specialist does, in a few words; empty for one that is not in the fleet."""
        return row.title if (row := self.rows.get(ai_id)) else ""

    def known_names(self) -> set[str]:
        """Return the names, ids and groups that a person may write for specialists."""
        return {name for row in self.rows.values() for name in (row.name, row.id, *row.groups)}

    def names(self, ids: Iterable[str]) -> str:
        return ", ".join(self.rows[ai_id].name if ai_id in self.rows else ai_id for ai_id in ids)

    def _sample_rates(self) -> set[str]:
        sampled: set[str] = set()
        for row in self.rows.values():
            rate = (row.tokens_per_second or 0.0) if row.phase == "streaming" else 0.0
            samples = self.rates.setdefault(row.id, deque(maxlen=RATE_SAMPLES))
            # zeros only until they have pushed the last speed out: who is at rest is not redrawn every second
            if rate or any(samples):
                samples.append(rate)
                sampled.add(row.id)
        return sampled


def _shown(figures: ProcessFigures | None) -> tuple[int, int] | None:
    """Return figures as coarse as the screen shows them."""
    return None if figures is None else (round(figures.cpu), figures.rss >> 20)
