"""What is known of the fleet: rows, services, figures, the platform. Fed by events, read by widgets."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Generator, Iterable
from contextlib import contextmanager

from backend.schema.events import Metrics, Snapshot
from backend.schema.records import HostFigures, PlatformInfo, ProcessFigures, ServiceStatus, SpecialistStatus
from tekton_tui.stores.signal import Signal

RATE_SAMPLES = 8
LIVE = ("ready", "busy")
BROKEN = ("exited", "killed", "lost", "foreign-port")


class FleetStore:
    """Specialists in catalogue order by id. `changed` names the ids whose rows changed."""

    def __init__(self) -> None:
        self.rows: dict[str, SpecialistStatus] = {}
        self.services: dict[str, ServiceStatus] = {}
        self.figures: dict[str, ProcessFigures] = {}
        self.host = HostFigures()
        self.platform: PlatformInfo | None = None
        self.rates: dict[str, deque[float]] = {}
        self.marked: set[str] = set()
        self.changed: Signal[[set[str]]] = Signal()
        self.summary_changed: Signal[[]] = Signal()
        self.broke: Signal[[SpecialistStatus]] = Signal()
        self._held: set[str] | None = None
        """Ids whose change is told at the end of a batch; `None` outside one."""
        self._summary_held = False

    @contextmanager
    def together(self) -> Generator[None]:
        """Tell what changes inside once at its end: a thousand rows at once cost the screen one look."""
        if self._held is not None:
            yield
            return
        self._held = set()
        try:
            yield
        finally:
            ids, summary = self._held, self._summary_held
            self._held, self._summary_held = None, False
            if ids:
                self.changed.emit(ids)
            if summary:
                self.summary_changed.emit()

    def _tell(self, ids: set[str], *, summary: bool = False) -> None:
        if self._held is not None:
            self._held |= ids
            self._summary_held |= summary
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
        self._tell(set(self.rows), summary=True)

    def put(self, row: SpecialistStatus) -> None:
        before = self.rows.get(row.id)
        self.rows[row.id] = row
        news = before is None or (before.state, before.model_display) != (row.state, row.model_display)
        self._tell({row.id}, summary=news)
        if news and row.state in BROKEN and before is not None and before.state not in BROKEN:
            self.broke.emit(row)

    def put_service(self, service: ServiceStatus) -> None:
        self.services[service.name] = service
        self._tell(set(), summary=True)

    def measure(self, metrics: Metrics) -> None:
        """Take the figures of one second; only rows whose figures show a difference are named as changed."""
        changed = {
            name
            for name in {*metrics.processes, *self.figures}
            if _shown(metrics.processes.get(name)) != _shown(self.figures.get(name))
        }
        self.figures, self.host = metrics.processes, metrics.host
        changed |= self._sample_rates()
        self._tell(changed & self.rows.keys())

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

    def rate(self) -> float:
        """Return the tokens a second of all that stream now."""
        return sum(row.tokens_per_second or 0.0 for row in self.rows.values() if row.phase == "streaming")

    def names(self, ids: Iterable[str]) -> str:
        return ", ".join(self.rows[ai_id].name if ai_id in self.rows else ai_id for ai_id in ids)

    def _sample_rates(self) -> set[str]:
        sampled: set[str] = set()
        for row in self.rows.values():
            rate = (row.tokens_per_second or 0.0) if row.phase == "streaming" else 0.0
            samples = self.rates.setdefault(row.id, deque(maxlen=RATE_SAMPLES))
            if rate or any(samples):
                samples.append(rate)
                sampled.add(row.id)
        return sampled


def _shown(figures: ProcessFigures | None) -> tuple[int, int] | None:
    """Return figures as coarse as the screen shows them."""
    return None if figures is None else (round(figures.cpu), figures.rss >> 20)
