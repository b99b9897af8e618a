"""Only the cells that changed are drawn anew, and all of those: what stands on the screen is what a whole drawing gives."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from backend.schema.events import Metrics
from backend.schema.history import Sample
from backend.schema.records import HostFigures, ProcessFigures
from tekton_tui.app import TektonApp
from tekton_tui.widgets.common.header import Header
from tekton_tui.widgets.fleet.drawing import Part, changed_runs
from tests.tui.conftest import settle
from tests.tui.fake_client import NOW, FakeClient, live
from tests.tui.terminal import Emulator
from tests.tui.test_console import screen_text


def test_runs_of_cells_cover_every_difference_and_near_ones_are_one() -> None:
    before = [
        Part("tok/s ", "muted"),
        Part("47 ", "text bold"),
        Part("▁▂▃▄", "accent"),
        Part(" " * 20),
        Part("41M"),
    ]
    after = [
        Part("tok/s 5", "muted"),
        Part("2 ", "text bold"),
        Part("▂▃▄▅", "accent"),
        Part(" " * 20),
        Part("42M"),
    ]
    assert (
        changed_runs(before, before) == []
        and changed_runs(before, [*before[:2], Part("▁▂▃▄", "bad")])[0][0] == 0
    )
    assert changed_runs(before, after) == [(6, 7), (34, 1)]
    assert changed_runs([Part("a界b")], [Part("a世b")]) == [(1, 2)], "a wide sign as a whole"


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_what_a_terminal_was_sent_cell_by_cell_is_what_the_screen_shows(
    console: Callable[..., tuple[TektonApp, FakeClient]], written: list[Emulator], size: tuple[int, int]
) -> None:
    app, client = console(live("apollo"), live("athena"))
    written.append(emulator := Emulator(*size))
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        for second, speed in enumerate((None, 3.0, 140.0, 9.5, 88.0, None, 1.0)):
            works = {
                "state": "busy",
                "phase": "streaming",
                "tokens_per_second": speed,
                "detail": "x" * second,
            }
            client.changed(live("apollo", **(works if speed else {})))
            first = None if second == 3 else 2.0 * 9.0**second
            at = NOW + 2 * second
            sample = Sample(
                at, speed or 0.0, first, 9.0 + 30 * (second % 4), 41.0, 0.1 * second, "USD", 9**second
            )
            figures = {"apollo-ai": ProcessFigures(cpu=3.0 + 50 * second, rss=41 << (second + 18), fds=9)}
            client.send(Metrics(at, HostFigures(), figures, sample))
            await settle(pilot)
            app.query_one(Header)._redraw()  # pyright: ignore[reportPrivateUsage]  # as its clock does each second
            await settle(pilot)
            shown = [row.rstrip() for row in screen_text(app).splitlines()]
            assert [row.rstrip() for row in emulator.rows] == shown, second
