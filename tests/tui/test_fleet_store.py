"""The fleet's store: a batch of changes is told once, whatever its size."""

from __future__ import annotations

import itertools

import pytest

from backend.schema.events import SpecialistEvent
from backend.schema.records import SpecialistStatus
from tekton_tui.dispatch import dispatch
from tekton_tui.stores import FleetStore, Stores
from tekton_tui.widgets.fleet.columns import DEFAULTS, Facts, fitting, row_parts, size_class
from tekton_tui.widgets.fleet.drawing import width_of
from tests.tui.fake_client import NOW, live, row


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


@pytest.mark.parametrize("width", range(40, 400, 7))
def test_columns_and_their_rows_take_exactly_the_width_there_is(width: int) -> None:
    names = DEFAULTS[size_class(width)]
    columns = fitting(width, names, wide=width >= 100, extra=("host",))
    assert next(column.name for column, _ in columns) == "name"
    assert {"state", "note"} <= {column.name for column, _ in columns}
    assert sum(cells + 1 for _, cells in columns) - 1 == width
    for status in (
        live("apollo", state="busy", phase="streaming", tokens_per_second=9.0),
        row("ergon", state="lost", cause="x" * 999),
    ):
        assert width_of(row_parts(columns, Facts(FleetStore(), NOW, width >= 100), status)) == width


def test_what_has_the_highest_rank_is_left_out_first() -> None:
    narrower = [
        {column.name for column, _ in fitting(width, DEFAULTS["usual"])}
        for width in (116, 106, 98, 84, 60, 46)
    ]
    gone = [before - after for before, after in itertools.pairwise(narrower)]
    assert gone == [{"first"}, {"cost"}, {"context"}, {"role"}, {"rate"}]


def test_a_note_without_room_for_a_word_leaves_its_room_to_the_state() -> None:
    assert [column.name for column, _ in fitting(36, DEFAULTS["narrow"], wide=False)] == ["name", "state"]
    assert [column.name for column, _ in fitting(39, DEFAULTS["narrow"], wide=False)][-1] == "note"


def test_the_cause_of_a_dead_row_runs_over_its_empty_cells_and_a_cut_ends_in_an_ellipsis() -> None:
    columns = fitting(76, DEFAULTS["narrow"], wide=False)
    dead = row(
        "ergon",
        state="exited",
        exit_code=3,
        since=NOW - 75,
        cause="ModuleNotFoundError: No module named 'tools' anywhere",
    )
    text = "".join(part.text for part in row_parts(columns, Facts(FleetStore(), NOW, wide=False), dead))
    assert "agents       exited 3 · 1 m    ModuleNotFoundError: No module" in text
    assert text.rstrip().endswith("…")


def test_a_cell_with_nothing_to_say_is_empty() -> None:
    columns = fitting(116, DEFAULTS["usual"])
    text = "".join(part.text for part in row_parts(columns, Facts(FleetStore(), NOW), live("apollo")))
    assert text.split() == ["apollo", "Executive", "Coordinator", "ready"]
