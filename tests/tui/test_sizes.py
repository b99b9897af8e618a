"""Every size of terminal: each row is exactly as wide, whatever is resized while whoever streams; and what a clock costs."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from textual.events import Paste
from textual.pilot import Pilot

from tekton_tui.app import TektonApp
from tekton_tui.widgets.fleet.grid import FleetGrid
from tests.tui.conftest import settle
from tests.tui.fake_client import FakeClient, answer, live, snapshot, team, ten_minutes
from tests.tui.staged import Staged
from tests.tui.terminal import Emulator, Terminal
from tests.tui.test_console import screen_text
from tests.tui.test_pictures import MODEL_SERVER, PLACES, STATES, busy_fleet, look

Maker = Callable[..., tuple[TektonApp, FakeClient]]
Drive = Callable[[TektonApp, FakeClient, Pilot[Any]], Awaitable[None]]
SIZES = [(40, 10), (60, 18), (80, 24), (100, 30), (120, 40), (200, 60)]
BETWEEN = [(60, 18), (100, 30), (400, 120)]
"""Sizes of which there is no picture: what is looked at here is looked at there as well."""
STORM = [(200, 60), (40, 10), (120, 40), (80, 24), (61, 17), (199, 59), (80, 24)]
LANES = ("apollo", "athena", "numa", "rhetor", "sophia", "ergon", "telos", "metis", "hermes", "penia")
BUSY_BYTES_S, DETAIL_BYTES_S = 400, 700
"""What one busy row may cost a second, and with its own detail below."""
CLOCK_BYTES_S = 100
"""What the header's clock may cost, if a minute ends just then, whoever is busy."""


def console_for(state: str) -> tuple[TektonApp, FakeClient, Drive]:
    """Return a console, its client, and what drives both to a state of the pictures."""
    running, drive = STATES[state]
    rows = busy_fleet() if running else []
    first = snapshot(*rows, services=[MODEL_SERVER], history=ten_minutes()) if running else snapshot()
    client = FakeClient(first)
    return TektonApp(client.connect), client, drive


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize("state", PLACES)
async def test_each_row_of_each_place_is_exactly_as_wide_as_the_terminal(state: str) -> None:
    app, client, drive = console_for(state)
    async with app.run_test(size=BETWEEN[0]) as pilot:
        await settle(pilot)
        await drive(app, client, pilot)
        for size in BETWEEN:
            await pilot.resize_terminal(*size)
            await settle(pilot, 10)
            look(app, size)


async def seen(state: str, *sizes: tuple[int, int]) -> str:
    """Return what a place shows below the header that was opened at the first of these sizes and is at the last one now."""
    app, client, drive = console_for(state)
    async with app.run_test(size=sizes[0]) as pilot:
        await settle(pilot)
        await drive(app, client, pilot)
        await settle(pilot, 10)
        for size in sizes[1:]:
            await pilot.resize_terminal(*size)
            await settle(pilot, 20)  # the detail reads what it shows once the cursor rests
        return screen_text(app).partition("\n")[2]  # the header has a clock


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize(
    ("before", "after"), [((40, 10), (120, 40)), ((120, 40), (80, 24))], ids=["wider", "narrower"]
)
@pytest.mark.parametrize(
    "state",
    [
        "fleet",
        "fleet_empty",
        "fleet_log",
        "needs",
        "gateway",
        "errors",
        "sessions",
        "timeline",
        "switcher",
        "new_specialist",
    ],
)
async def test_a_place_that_was_resized_looks_as_one_that_was_opened_so(
    state: str, before: tuple[int, int], after: tuple[int, int]
) -> None:
    assert await seen(state, before, after) == await seen(state, after)


@pytest.mark.parametrize("size", [(120, 40), (80, 24), (61, 18)], ids=lambda size: f"{size[0]}x{size[1]}")
async def test_a_draft_is_whole_in_a_terminal_of_another_size(console: Maker, size: tuple[int, int]) -> None:
    app, _ = console(live("apollo"))
    words = [f"word{at:02}" for at in range(24)]
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        app.navigator.open_chat("apollo-ai")
        await settle(pilot)
        app.post_message(Paste(" ".join(words)))
        await settle(pilot)
        await pilot.resize_terminal(*size)
        await settle(pilot)
        assert [word for word in words if word not in screen_text(app)] == []


WHOLE = {
    "fleet": [row.cause for row in busy_fleet() if row.cause and not row.cause.startswith("port")],
    "needs": [
        "ModuleNotFoundError: No module named 'tools'",
        "no token for 12 s; the provider still holds the line",
    ],
    "team_18": ["Queue first: the broker saturates at 12k msg/s while the pool idles."],
}
"""Of what is longer than its cell on most terminals: the whole words."""


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize("state", WHOLE)
async def test_what_does_not_fit_its_cell_says_so_at_every_size(state: str) -> None:
    client = FakeClient(snapshot(*busy_fleet(), services=[MODEL_SERVER], history=ten_minutes()))
    app = TektonApp(client.connect)
    async with app.run_test(size=(200, 60)) as pilot:
        await settle(pilot)
        await STATES[state][1](app, client, pilot)
        for size in [*reversed(SIZES), *SIZES]:
            await pilot.resize_terminal(*size)
            await settle(pilot, 8)
            for words in WHOLE[state]:
                for line in screen_text(app).splitlines():
                    if (at := line.rfind(words[:10])) < 0 or words in line:
                        continue
                    kept = next(n for n in range(len(words), 0, -1) if line[at:].startswith(words[:n]))
                    rest = line[at + kept :]
                    wraps = not rest.strip(" │▐") and line.startswith(
                        ("│", " ")
                    )  # it goes on in the next row
                    assert rest.startswith("…") or wraps, f"{size}: {line}"


async def storm(
    app: TektonApp, client: FakeClient, pilot: Pilot[Any], written: list[Emulator], check: Callable[[], None]
) -> None:
    """Resize while ten lanes stream; what a terminal was sent is what the screen shows, at each size."""
    written.append(terminal := Emulator(*app.size))
    client.send(team("t1", "What breaks first?", *LANES))
    turns = [
        answer(f"t1/{name}-ai", f"{name}-ai", "s", "", *["word 世界 "] * 60, group="t1") for name in LANES
    ]
    for turn in turns:
        client.send(*turn[:2])
    for step, size in enumerate(STORM * 2):
        for turn in turns:
            client.send(*turn[2 + step * 4 : 6 + step * 4])
        terminal.resize(*size)
        await pilot.resize_terminal(*size)
        await settle(pilot)
        look(app, size)
        shown = [row.rstrip() for row in screen_text(app).splitlines()]
        assert [row.rstrip() for row in terminal.rows] == shown
        check()


async def test_a_storm_of_sizes_leaves_the_fleet_whole_its_columns_refitted_and_the_cursor_in_sight(
    console: Maker, written: list[Emulator]
) -> None:
    app, client = console(*(live(name) for name in LANES))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        grid = app.query_one(FleetGrid)
        grid.go_to("penia-ai")

        def check() -> None:
            assert any(
                line.startswith(("▎", "│▎")) and "penia" in line for line in screen_text(app).splitlines()
            )
            heads = next(line for line in screen_text(app).splitlines() if " NAME " in line)
            assert "STATE" in heads and ("ROLE" in heads) == (app.size.width >= 80)
            assert ("COST" in heads) == (app.size.width >= 120)

        await storm(app, client, pilot, written, check)


@pytest.mark.parametrize("place", ["team", "chat", "timeline", "needs"])
async def test_a_storm_of_sizes_leaves_every_place_whole(
    console: Maker, written: list[Emulator], place: str
) -> None:
    app, client = console(*(live(name) for name in LANES))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.navigator.show(place)
        await settle(pilot)
        await storm(app, client, pilot, written, lambda: None)


@pytest.mark.parametrize(
    ("busy", "keys", "least", "most"),
    [
        ("apollo", "G", 1, BUSY_BYTES_S + CLOCK_BYTES_S),
        ("apollo", "g", 1, DETAIL_BYTES_S + CLOCK_BYTES_S),
        ("", "G", 0, CLOCK_BYTES_S),
    ],
    ids=["busy", "detail", "rest"],
)
def test_one_busy_row_writes_little_and_a_fleet_at_rest_nothing(
    busy: str, keys: str, least: float, most: float
) -> None:
    """By bytes, through a terminal: of the row that works clocks and plots move, cell by cell, and what the detail says of it."""
    reading, end = os.pipe()
    argv = [sys.executable, "-m", "tests.tui.pty_console"]
    with Terminal(argv, size=(120, 40), env={"CALLS_FD": str(end), "BUSY": busy}, pass_fds=[end]) as console:
        os.close(end)
        console.wait_for("numa")
        console.type(keys)  # the pane below shows somebody at rest, or the one who works
        console.read_for(11.0)  # from ten seconds on a clock counts whole ones
        written = console.read_for(6.0) / 6.0
        assert least <= written <= most, console.written[-400:]
    os.close(reading)


@pytest.mark.usefixtures("still")
async def test_the_smallest_size_shows_of_each_place_what_it_is_for() -> None:
    wanted = {
        "fleet": ["ergon", "exited 3", "numa"],
        "needs": ["run pytest", "ModuleNotFound", "no token for"],
        "team_18": ["athena", "14 more answered", "synthesis"],
    }
    for state, words in wanted.items():
        running, drive = STATES[state]
        client = FakeClient(snapshot(*busy_fleet(), services=[MODEL_SERVER], history=ten_minutes()))
        app = TektonApp(client.connect)
        async with app.run_test(size=(40, 10)) as pilot:
            await settle(pilot)
            await drive(app, client, pilot)
            await settle(pilot, 10)
            shown = screen_text(app)
            assert running and [word for word in words if word not in shown] == [], shown
            assert "Kill" not in shown and " all " not in shown.splitlines()[1], (
                "no button says half of what it does"
            )


def test_why_there_is_no_backend_is_read_to_its_end() -> None:
    why = (
        "the gateway's port 8003 is held by the gateway of the home /home/ada/of/another/team (pid 4674); two homes of one machine "
        'share these ports: set TEKTON_PORT_PROFILE=free for one of them (`profile = "free"` in [ports] of its config.toml), or '
        "end the other one's fleet"
    )
    with Staged(("refuse", why), size=(80, 24)) as console:
        console.wait_for("No backend is attached")
        console.rest()
        assert why in " ".join(console.text.split())
