"""The fleet's store: a batch of changes is told once, whatever its size."""

from __future__ import annotations

from backend.schema.events import SpecialistEvent
from backend.schema.records import SpecialistStatus
from tekton_tui.dispatch import dispatch
from tekton_tui.stores import Stores
from tekton_tui.widgets.columns import fitting
from tests.tui.fake_client import NOW


def event(number: int, state: str = "ready") -> SpecialistEvent:
    return SpecialistEvent(SpecialistStatus(f"m{number}-ai", f"m{number}", "M", "m", state=state), NOW)  # type: ignore[arg-type]


def test_a_thousand_changes_that_come_together_are_told_once() -> None:
    stores = Stores()
    told: list[set[str]] = []
    summaries: list[int] = []
    stores.fleet.changed.subscribe(told.append)
    stores.fleet.summary_changed.subscribe(lambda: summaries.append(len(stores.fleet.rows)))
    dispatch(stores, [event(number) for number in range(1000)])
    assert [len(ids) for ids in told] == [1000]
    assert summaries == [1000]


def test_each_specialist_that_breaks_in_a_batch_is_told_of_by_itself() -> None:
    stores = Stores()
    broke: list[str] = []
    stores.fleet.broke.subscribe(lambda row: broke.append(row.name))
    dispatch(stores, [event(1), event(2)])
    dispatch(stores, [event(1, "killed"), event(2, "exited")])
    assert broke == ["m1", "m2"]


def test_a_change_that_comes_alone_is_told_at_once() -> None:
    stores = Stores()
    told: list[set[str]] = []
    stores.fleet.changed.subscribe(told.append)
    stores.fleet.put(event(1).status)
    assert told == [{"m1-ai"}]


def test_the_host_is_a_column_only_where_specialists_run_on_other_hosts() -> None:
    assert "host" not in [column.name for column, _ in fitting(200)]
    columns = fitting(120, far=True)
    assert "host" in [column.name for column, _ in columns]
    assert sum(width + 1 for _, width in columns) - 1 <= 120
