"""Rows of a table end where its view ends, whenever it hears of its size."""

from __future__ import annotations

import pytest
from textual import events
from textual.app import App, ComposeResult
from textual.containers import Vertical
from textual.message import Message

from tekton_tui.widgets.common.table import Table
from tests.tui.conftest import settle


class LateTable(Table):
    """Hears of its size when the test says so: on a busy machine it is painted before."""

    holds = False

    def __init__(self) -> None:
        super().__init__(cursor_type="row")
        self.held: list[Message] = []

    def post_message(self, message: Message) -> bool:
        if self.holds and isinstance(message, events.Resize):
            self.held.append(message)
            return True
        return super().post_message(message)

    def let_go(self) -> None:
        self.holds = False
        for message in self.held:
            self.post_message(message)


class Listing(App[None]):
    CSS = "LateTable { height: 1fr; width: 100%; overflow-x: hidden; }"

    def compose(self) -> ComposeResult:
        with Vertical():
            yield LateTable()


@pytest.mark.parametrize(("before", "after"), [(58, 60), (60, 58), (30, 60)])
async def test_head_and_cursor_are_as_wide_as_the_view_also_where_it_was_painted_before_it_heard(
    before: int, after: int
) -> None:
    async with Listing().run_test(size=(80, 12)) as pilot:
        table = pilot.app.query_one(LateTable)
        table.add_column("NAME", width=10)
        table.add_row("a row")
        around = pilot.app.query_one(Vertical)
        around.styles.width = before
        await settle(pilot)
        table.refresh()  # what is kept is drawn for this width, whatever came before
        await settle(pilot)
        table.holds = True
        around.styles.width = after
        await settle(pilot)
        assert table.held
        table.let_go()
        await settle(pilot)
        painted = pilot.app.screen._compositor.render_strips()  # pyright: ignore[reportPrivateUsage]
        for row in (0, 1):  # the head, and the row under the cursor
            view, beside = painted[row].divide([after, 80])
            grounds = {segment.style.bgcolor for segment in view if segment.style is not None}
            assert len(grounds) == 1, (row, view)
            assert grounds != {segment.style.bgcolor for segment in beside if segment.style is not None}
