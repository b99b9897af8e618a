"""The fleet screen: what stands first, what keys say they do now, what a stopped row shows."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from msgspec.structs import replace
from textual.widgets import ContentSwitcher

from backend.schema.attention import AttentionItem
from backend.schema.events import Metrics
from backend.schema.history import Sample
from backend.schema.params import GetLogs, Kill, Launch
from backend.schema.records import FleetPlan, HostFigures, LaunchResult, ProcessFigures
from backend.schema.results import KillResult, LaunchReport, LogText
from tekton_tui.app import TektonApp
from tekton_tui.runtime.partial_compositor import PartialUpdate
from tekton_tui.screens.fleet import FleetPane
from tekton_tui.widgets.fleet.grid import FleetGrid
from tekton_tui.widgets.fleet.plots import Plot, PlotRow
from tests.tui.conftest import names_shown, settle
from tests.tui.fake_client import NOW, FakeClient, live, row, ten_minutes
from tests.tui.test_console import screen_text

Maker = Callable[..., tuple[TektonApp, FakeClient]]


async def test_who_broke_stands_first_then_who_lives_and_the_cursor_stays_on_its_row(console: Maker) -> None:
    app, client = console(live("apollo"), live("numa"))
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        grid = app.query_one(FleetGrid)
        assert set(names_shown(app)[:2]) == {"apollo", "numa"}
        grid.go_to("numa-ai")
        client.changed(row("sophia", state="killed", signal=9, since=NOW, cause="killed by SIGKILL"))
        await settle(pilot)
        assert names_shown(app)[0] == "sophia"
        assert grid.cursor_row is not None and grid.cursor_row.id == "numa-ai"
        client.changed(row("sophia"))
        await settle(pilot)
        assert names_shown(app)[0] != "sophia"


async def test_an_answer_nobody_has_seen_is_marked_also_where_it_came_before_the_screen(
    console: Maker,
) -> None:
    app, client = console(live("athena"))
    client.first.attention = [AttentionItem("done:r1", "done", "athena-ai", NOW - 5, "answered", "The date.")]
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        panes = app.query_one("#panes", ContentSwitcher)
        await panes.mount(FleetPane(app.stores, app.commands, id="opened-later"))
        panes.current = "opened-later"
        await settle(pilot)
        assert "ready · unread" in screen_text(app)


async def test_the_cursors_row_stays_in_sight_when_the_order_changes(console: Maker) -> None:
    app, client = console()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("escape")  # the first form stands here, and who starts from it gets the cursor
        grid = app.query_one(FleetGrid)
        first = grid.cursor_row
        assert first is not None
        for ai_id in app.stores.fleet.rows.keys() - {first.id}:
            client.changed(live(ai_id.removesuffix("-ai")))
        await settle(pilot)
        assert names_shown(app)[-1] == first.name
        assert f" {first.name} " in screen_text(app).split("Overview")[0].rpartition("\n")[0]


async def test_the_line_of_keys_says_what_enter_does_now(console: Maker) -> None:
    app, client = console()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("escape")
        await settle(pilot)
        assert "start a team" in screen_text(app).splitlines()[-1]
        client.changed(live("apollo"))
        await settle(pilot)
        grid = app.query_one(FleetGrid)
        grid.go_to("numa-ai")
        await settle(pilot)
        assert screen_text(app).splitlines()[-1].split()[:2] == ["⏎", "start"]
        grid.go_to("apollo-ai")
        await settle(pilot)
        assert screen_text(app).splitlines()[-1].split()[:2] == ["⏎", "chat"]


async def test_speed_is_shown_while_an_answer_streams_and_not_at_rest(console: Maker) -> None:
    app, client = console(live("apollo", state="busy", phase="streaming", tokens_per_second=32.0))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        assert " 32 " in _line(app, "apollo")
        for status in (live("apollo", tokens_per_second=32.0), row("apollo", tokens_per_second=32.0)):
            client.changed(status)
            await settle(pilot)
            assert " 32 " not in _line(app, "apollo")


async def test_to_stop_who_does_not_run_says_who(console: Maker) -> None:
    app, client = console(live("apollo"))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.query_one(FleetGrid).go_to("numa-ai")
        await pilot.press("x")
        await settle(pilot)
        assert [notice.message for notice in app._notifications] == ["numa does not run: nothing to stop"]
        assert client.called(Kill) == []


@pytest.mark.usefixtures("still")
async def test_at_rest_the_figures_of_every_second_write_nothing(console: Maker) -> None:
    app, client = console(live("apollo"), live("numa"), history=ten_minutes())
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        client.send(figures(NOW, 3.0))
        await settle(pilot)
        app.stores.fleet.summary_changed.emit()  # the header looks at the speed once a second by itself
        await settle(pilot)
        painted: list[object] = []
        display = app._display

        def counting(screen: object, update: object) -> None:
            painted.append(update)
            display(screen, update)  # type: ignore[arg-type]

        app._display = counting  # type: ignore[assignment,method-assign]
        for second in range(1, 8):
            client.send(figures(NOW + 2 * second, 3.0 + 10 * second))
            await settle(pilot, 2)
        assert [update.strips for update in painted if isinstance(update, PartialUpdate)] == []
        assert [update for update in painted if update is not None] == []


def figures(moment: float, cpu: float, rate: float = 0.0, first: float | None = None) -> Metrics:
    sample = Sample(moment, rate, first, cpu, 41.0, 0.5, "USD", 120_000)
    host = HostFigures(cpu, 2, 1 << 34, 1 << 33)
    return Metrics(moment, host, {"apollo-ai": ProcessFigures(cpu % 7, int(moment) % 99 << 20)}, sample)


async def test_plots_move_while_an_answer_streams_and_say_the_newest_figure(console: Maker) -> None:
    app, client = console(live("apollo", state="busy", phase="streaming"), history=ten_minutes())
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        client.send(figures(NOW + 2, 31.0, 91.0, 215.0))
        await settle(pilot)
        top = screen_text(app).splitlines()[2]
        assert "fleet  91 tok/s" in top and "first token  215 ms" in top
        assert "host  31 % cpu  41 % mem" in top and "today  $0.50  120.0k tok" in top


@pytest.mark.parametrize(
    ("size", "plots", "row"),
    [((120, 40), 4, 0), ((99, 40), 0, 1), ((120, 29), 0, 1), ((80, 24), 0, 1), ((80, 21), 0, 0)],
)
async def test_plots_take_the_form_there_is_room_for_also_after_a_resize(
    console: Maker, size: tuple[int, int], plots: int, row: int
) -> None:
    app, _ = console(live("apollo"), history=ten_minutes())
    async with app.run_test(size=(200, 50)) as pilot:
        await settle(pilot)
        await pilot.resize_terminal(*size)
        await settle(pilot)
        assert sum(plot.region.area > 0 and plot.is_on_screen for plot in app.query(Plot)) == plots
        assert sum(plot.region.area > 0 and plot.is_on_screen for plot in app.query(PlotRow)) == row


async def test_the_buttons_stand_on_the_grids_border_and_can_be_clicked_at_every_size(
    console: Maker,
) -> None:
    for size in ((60, 20), (80, 24), (120, 40)):
        app, client = console(live("apollo"))
        client.answers[Launch] = LaunchReport(FleetPlan([]))
        async with app.run_test(size=size) as pilot:
            await settle(pilot)
            border = app.query_one("#fleet-box").region.y
            buttons = list(app.query("#fleet-buttons Button"))
            assert {button.region.y for button in buttons} == {border} and len(buttons) == 4
            assert max(button.region.right for button in buttons) < size[0]
            await pilot.click("#button-launch-all")
            await settle(pilot)
            assert client.called(Launch)[0] == Launch(["all"], dry_run=True)


async def test_the_stopped_fold_where_there_is_no_room_and_enter_unfolds_them(console: Maker) -> None:
    app, _ = console(*(live(name) for name in ("apollo", "athena", "numa")))
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        assert len(names_shown(app)) == 3 and "16 stopped" in screen_text(app)
        await pilot.press("G", "enter")
        await settle(pilot)
        assert "16 stopped" not in screen_text(app) and len(names_shown(app)) > 8
        await pilot.press("escape")
        await settle(pilot)
        assert "16 stopped" in screen_text(app)


async def test_chosen_columns_are_kept_for_their_size(console: Maker) -> None:
    app, _ = console(live("apollo"))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("C", "down", "space", "enter")
        await settle(pilot)
        assert "ROLE" not in screen_text(app)
        assert "role" not in app.preferences.columns["usual"]
        await pilot.resize_terminal(80, 24)
        await settle(pilot)
        assert "ROLE" in screen_text(app)


async def test_a_fleet_of_two_hundred_stands_by_host_as_a_wall_and_its_groups_fold(console: Maker) -> None:
    app, client = console()
    client.first.specialists = [
        replace(
            live("apollo"), launcher="ray", host=f"node-{number % 4}", id=f"a{number}-ai", name=f"a{number}"
        )
        for number in range(200)
    ]
    async with app.run_test(size=(120, 60)) as pilot:
        await settle(pilot)
        app.query_one(FleetGrid).group_by("host")
        await pilot.press("L")
        await settle(pilot)
        text = screen_text(app)
        assert "Fleet · 200 · by host · wall" in text and text.count("▾ node-") == 4
        assert text.count("● a") == 200
        await pilot.press("up", "enter")
        await settle(pilot)
        assert "▸ node-0" in screen_text(app) and screen_text(app).count("● a") == 150


async def test_the_tabs_of_the_detail_can_be_clicked_and_stepped(console: Maker) -> None:
    app, client = console(live("apollo"))
    client.answers[GetLogs] = lambda params: LogText(params.id, "", ["what it wrote"])
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.query_one(FleetGrid).go_to("apollo-ai")
        await settle(pilot)
        y = app.query_one("#fleet-detail").region.y
        line = screen_text(app).splitlines()[y]
        await pilot.click(offset=(line.index("Log"), y))
        await settle(pilot, 25)
        assert "what it wrote" in screen_text(app)
        await pilot.press("right_square_bracket")
        await settle(pilot)
        assert "21877" in screen_text(app) and "launched by" in screen_text(app)
        await pilot.press("d")
        await settle(pilot)
        assert "launched by" not in screen_text(app)


async def test_a_filter_finds_names_first_and_capabilities_only_when_asked(console: Maker) -> None:
    app, _ = console(live("apollo"))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        grid = app.query_one(FleetGrid)
        grid.set_filter("ap")
        assert names_shown(app)[0] == "apollo"
        grid.set_filter("cap:message bus")
        assert names_shown(app) == ["hermes"]
        grid.set_filter("!stopped")
        assert names_shown(app) == ["apollo"]


def _line(app: TektonApp, name: str) -> str:
    """Return the first line of the screen a specialist's name stands in, the border's title apart."""
    return next(line for line in screen_text(app).splitlines() if f" {name} " in line and "╭" not in line)


@pytest.mark.parametrize("cpu", [9.0, 14.0, 100.0])
async def test_no_title_of_a_plot_is_cut_however_busy_the_host_is(console: Maker, cpu: float) -> None:
    history = ten_minutes()
    history.samples[-1].cpu = cpu
    app, _ = console(live("apollo"), history=history)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        titles = next(line for line in screen_text(app).splitlines() if "host" in line)
        assert f"host  {cpu:.0f} % cpu" in titles and "% mem ─" in titles, titles


@pytest.mark.usefixtures("still")
async def test_a_row_that_was_ended_says_by_whom_when_and_how(console: Maker) -> None:
    app, client = console(live("apollo"), live("athena"), live("numa"), live("rhetor"))
    client.answers[Kill] = KillResult([LaunchResult("apollo-ai", True)])
    clock = time.strftime("%H:%M", time.localtime(NOW))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.commands.fleet.kill(["apollo-ai"])
        await settle(pilot)
        await pilot.press("left", "enter")
        await settle(pilot)
        assert any(notice.message == "killed: apollo" for notice in app._notifications)
        late = "did not end in the grace time after SIGTERM; stopped by SIGKILL"
        client.changed(row("apollo", since=NOW, signal=9, cause="stopped by SIGKILL"))
        client.changed(row("athena", since=NOW, signal=15, cause="stopped by SIGTERM"))
        client.changed(row("numa", since=NOW, signal=9, cause=late))
        app.query_one(FleetGrid).group_by("model")
        await settle(pilot)
        lines = {
            line.split()[0]: " ".join(line.split())
            for line in (text.strip("│▎ ○●") for text in screen_text(app).splitlines())
            if line.strip()
        }
        assert f"killed by you {clock}" in lines["apollo"] and "SIGKILL" not in lines["apollo"]
        assert f"stopped on request {clock}" in lines["athena"]
        assert f"killed on request {clock} · did not end in the grace time" in lines["numa"]
        never = [line for line in lines.values() if "stopped" in line and clock not in line]
        assert never, "who never ran is stopped and no more"
        client.changed(row("apollo", state="starting"))
        client.changed(row("apollo", since=NOW, signal=15, cause="stopped by SIGTERM"))
        await settle(pilot)
        assert f"on request {clock}" in next(
            line for line in screen_text(app).splitlines() if "apollo" in line
        )
