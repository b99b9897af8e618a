"""Partial updates: what reaches the terminal is what a full one would show."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.app import App, ComposeResult
from textual.containers import Grid, Vertical
from textual.geometry import Region
from textual.screen import Screen
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Static

from bench import terminal
from tekton_tui.runtime.partial_compositor import PartialUpdate, PartialUpdateScreen
from tekton_tui.transcript import Entry, Look, Transcript
from tests.tui.terminal import Emulator

SIZE = (80, 24)


class Lane(Vertical):
    """A frame with a text in it, as in the console."""

    DEFAULT_CSS = "Lane { border: round white; height: 1fr; } Lane Transcript { height: 1fr; padding: 0 1; }"

    def compose(self) -> ComposeResult:
        yield Transcript(look=Look(header=False), bar=False)


class Lanes(App[None]):
    """Six lanes, and in front of two of them a box."""

    CSS = """
    Screen { layers: below above; }
    Grid { grid-size: 3; layer: below; }
    #box { layer: above; width: 21; height: 7; offset: 17 8; background: blue; }
    """

    def get_default_screen(self) -> Screen[None]:
        return PartialUpdateScreen(id="_default")

    def compose(self) -> ComposeResult:
        with Grid():
            for number in range(6):
                yield Lane(id=f"lane{number}")
        yield Static("in front, 前面", id="box")


def taken(app: App[Any], *widgets: Widget) -> Any:
    """Return the update that is due, as the screen would send it."""
    compositor = app.screen._compositor
    compositor.update_widgets(set(widgets))
    return compositor.render_update()


def text_of(app: App[Any]) -> str:
    """Return the whole screen as it should stand."""
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips)


async def test_patches_leave_the_screen_as_a_full_repaint_would() -> None:
    rng = random.Random(7)
    app = Lanes()
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        shown = terminal.Screen(*SIZE)
        lanes = list(app.query(Lane))
        views = [lane.query_one(Transcript) for lane in lanes]
        for view in views:
            view.begin(Entry("s", "apollo", "answer", ""))
        await pilot.pause()
        app.screen.refresh()
        await pilot.pause()
        for y, strip in enumerate(app.screen._compositor.render_strips()):
            shown.feed(f"\x1b[{y + 1};1H{strip.render(app.console)}")
        for turn in range(30):
            chosen = rng.sample(range(6), 3)
            for number in chosen:
                views[number].append_text("s", rng.choice(["word ", "文字 ", "\n\n", "`code` "]))
                views[number].frame()
            lanes[chosen[0]].border_title = f"turn {turn}"
            app.query_one("#box", Static).refresh(Region(turn % 20, turn % 7, 1, 1))
            update = taken(app, *views, *lanes, app.query_one("#box"))
            if update is not None:
                shown.feed(update.render_segments(app.console))
            assert shown.text() == text_of(app).replace("\0", ""), f"after {turn + 1} turns"


WIDE = "x" + "世界" * 15
"""Characters of two cells each, of which one begins in an odd column."""


class Covered(App[None]):
    """A row of wide characters; what lies in front of a part of it may go."""

    CSS = """
    Screen { layers: below above; }
    #row { layer: below; width: 61; height: 1; }
    #front { layer: above; width: 10; height: 1; background: blue; }
    """

    def get_default_screen(self) -> Screen[None]:
        return PartialUpdateScreen(id="_default")

    def compose(self) -> ComposeResult:
        yield Static(WIDE, id="row")
        yield Static("front", id="front")


@pytest.mark.parametrize("offset", range(5))
@pytest.mark.parametrize("how", ["hidden", "moved", "narrower", "row drawn", "front drawn"])
async def test_no_wide_character_is_cut_by_what_was_or_is_in_front_of_it(
    written: list[Emulator], how: str, offset: int
) -> None:
    app = Covered()
    written.append(shown := Emulator(*SIZE))
    async with app.run_test(size=SIZE) as pilot:
        front = app.query_one("#front", Static)
        front.styles.offset = (offset, 0)
        await pilot.pause(0.1)
        match how:
            case "hidden":
                front.display = False
            case "moved":
                front.styles.offset = (30 + offset, 0)
            case "narrower":
                front.styles.width = 5
            case "row drawn":
                app.query_one("#row", Static).refresh(Region(0, 0, 31, 1))
            case _:
                front.refresh()
        await pilot.pause(0.1)
        assert [row.rstrip() for row in shown.rows] == text_of(app).replace("\0", "").split("\n")
        assert how != "hidden" or shown.rows[0].rstrip() == WIDE


def scroll(screen: Screen[Any]) -> None:
    """Have the screen laid out as a scroll does, and look for something in it."""
    screen._compositor.reflow_visible(screen, screen.size)
    assert screen._compositor.full_map


class Told(Static):
    """Notes what it is told of its own place."""

    def __init__(self) -> None:
        super().__init__("text")
        self.told: list[str] = []

    def on_resize(self, event: events.Resize) -> None:
        self.told.append(f"{event.size.width}x{event.size.height}")

    def on_show(self) -> None:
        self.told.append("shown")


async def test_what_is_mounted_or_resized_while_the_screen_is_scrolled_learns_its_size() -> None:
    """Whoever looks up a place between the scroll and the layout has Textual know the widget before it was told."""
    app = Lanes()
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        new = Told()
        await app.screen.mount(new)
        scroll(app.screen)
        await pilot.pause()
        assert sorted(new.told) == ["80x1", "shown"]
        new.styles.width = 12
        scroll(app.screen)
        await pilot.pause()
        assert new.told[-1] == "12x1"


async def test_only_the_topmost_widget_is_asked_for_what_changed() -> None:
    app = Lanes()
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        view = app.query_one("#lane5 Transcript", Transcript)
        view.begin(Entry("s", "apollo", "answer", ""))
        view.frame()
        taken(app, *app.query("*"))
        view.append_text("s", "one line")
        view.frame()
        update = taken(app, view)
        assert isinstance(update, PartialUpdate) and update.rest is None
        assert [y for _x, y, _strip in update.strips] == [view.content_region.y]
        assert "one line" in update.strips[0][2].text


async def test_a_row_that_is_asked_for_again_and_again_is_written_once() -> None:
    app = Lanes()
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        view = app.query_one("#lane5 Transcript", Transcript)
        taken(app, *app.query("*"))
        rows = view.content_region.height
        for first, height in ((0, 3), (1, 3), (2, 1), (0, rows - 3), (rows - 1, 1)):
            view.refresh(Region(0, first, view.size.width, height))
        update = taken(app, view)
        assert isinstance(update, PartialUpdate) and update.rest is None
        top = view.content_region.y
        assert [y - top for _x, y, _strip in update.strips] == [*range(rows - 3), rows - 1]


async def test_what_another_widget_hides_in_part_is_put_together_by_textual() -> None:
    app = Lanes()
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        lane = app.query_one("#lane0", Lane)
        taken(app, *app.query("*"))
        lane.refresh()
        update = taken(app, lane)
        assert isinstance(update, PartialUpdate) and update.rest is not None


async def test_nothing_is_written_when_nothing_changed() -> None:
    app = Lanes()
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        taken(app, *app.query("*"))
        assert taken(app, *app.query("*")) is None


def looks(code: str) -> dict[tuple[int, int], tuple[str, str]]:
    """Return each cell that is written with the look in force, and its character."""
    cells: dict[tuple[int, int], tuple[str, str]] = {}
    x = y = 0
    look = ""
    for piece in re.finditer(r"\x1b\[(\d+);(\d+)H|\x1b\[([\d;]*)m|(.)", code):
        if piece[1]:
            y, x = int(piece[1]), int(piece[2])
        elif piece[4] is not None:
            cells[x, y] = (look, piece[4])
            x += 1
        else:
            look = "" if piece[3] in ("", "0") else piece[3]
    assert not look, "the next text would have this look"
    return cells


async def test_a_look_is_written_once_for_all_that_has_it_and_every_cell_keeps_its_own() -> None:
    app = Lanes()
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        rng = random.Random(11)
        styles = [Style.parse(words) for words in ("red on blue", "bold green", "red on blue", "dim")] + [
            Style()
        ]
        places = rng.sample([(x, y) for x in range(0, 78, 3) for y in range(24)], 60)
        strips = [
            (x, y, Strip([Segment(rng.choice("ab▇"), rng.choice(styles)) for _ in range(rng.randint(1, 2))]))
            for x, y in places
        ]
        code = PartialUpdate(strips, None).render_segments(app.console)
        apart = "".join(PartialUpdate([one], None).render_segments(app.console) for one in strips)
        assert looks(code) == looks(apart) and len(code) < 0.8 * len(apart)
