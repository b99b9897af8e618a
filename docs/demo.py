"""Makes `docs/demo.svg`: a short moving picture of the console, taken from the product itself.

    python docs/demo.py [FILE]

A real backend in a home of its own launches the starter team with the embedded model, so what is said is what a fresh
machine says; the console is driven by keys and its screen is taken as it is. Rows that stay the same are written once; which frames
show a row is told to the browser by CSS alone, so the picture needs no script and no tool to be made.
"""

from __future__ import annotations

import asyncio
import html
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from rich.segment import Segment
from textual.pilot import Pilot
from textual.widgets import TextArea

from backend.client import attach
from backend.home import Home
from tekton_tui.app import TektonApp
from tekton_tui.runtime.connect import connector

COLUMNS, ROWS = 100, 28
CELL_W, CELL_H, FONT = 8.4, 18.0, 14
INK, PAPER = "#d5dae4", "#11151d"
NO_BREAK = "\N{NO-BREAK SPACE}"
"""A browser would make one of several plain spaces."""
LIMIT_S = 90.0
Row = str
"""The SVG of one row of the screen, without its place."""


class Film:
    """Frames, each a list of rows and how long it is shown, in seconds."""

    def __init__(self, app: TektonApp) -> None:
        self._app = app
        self.frames: list[tuple[list[Row], float]] = []

    def take(self, seconds: float) -> None:
        """Take the screen as it is; one that has not changed is shown longer."""
        strips = self._app.screen._compositor.render_strips()
        rows = [row_svg(list(strip)) for strip in strips]
        if self.frames and self.frames[-1][0] == rows:
            self.frames[-1] = (rows, self.frames[-1][1] + seconds)
        else:
            self.frames.append((rows, seconds))


def row_svg(segments: list[Segment]) -> Row:
    """Return backgrounds and texts of one row; runs of one style together."""
    parts: list[str] = []
    column = 0
    for segment in Segment.simplify(segment for segment in segments if not segment.control):
        style, width = segment.style, segment.cell_length
        ink = _colour(style.color if style else None, INK)
        paper = _colour(style.bgcolor if style else None, PAPER)
        if style is not None and style.reverse:
            ink, paper = paper, ink
        if paper != PAPER:
            parts.append(
                f'<rect x="{column * CELL_W:.1f}" width="{width * CELL_W + 0.3:.1f}" height="{CELL_H:g}" fill="{paper}"/>'
            )
        text = segment.text.rstrip(" ")
        lead = len(text) - len(text.lstrip(" "))
        if words := text.strip(" "):
            cells = Segment(words).cell_length
            bold = ' class="b"' if style is not None and style.bold else ""
            parts.append(
                f'<text{bold} x="{(column + lead) * CELL_W:.1f}" y="13" textLength="{cells * CELL_W:.1f}" fill="{ink}">'
                f"{html.escape(words, quote=False).replace(' ', NO_BREAK)}</text>"
            )
        column += width
    return "".join(parts)


def _colour(colour: Any, otherwise: str) -> str:
    return colour.get_truecolor().hex if colour is not None and not colour.is_default else otherwise


def film_svg(frames: list[tuple[list[Row], float]]) -> str:
    """Return the whole picture. Each row is there once for each place; its class says in which frames it is seen."""
    total = sum(seconds for _, seconds in frames)
    starts = [sum(seconds for _, seconds in frames[:n]) / total * 100 for n in range(len(frames))]
    seen: dict[tuple[int, Row], list[int]] = {}
    for number, (rows, _) in enumerate(frames):
        for place, row in enumerate(rows):
            if row:
                seen.setdefault((place, row), []).append(number)
    patterns: dict[tuple[int, ...], str] = {}
    body: list[str] = []
    for (place, row), numbers in seen.items():
        name = ""
        if len(numbers) < len(frames):
            name = f' class="{patterns.setdefault(tuple(numbers), f"f{len(patterns)}")}"'
        body.append(f'<g{name} transform="translate(0 {place * CELL_H:g})">{row}</g>')
    rules = [
        f"@keyframes {name}{{{_keyframes(numbers, starts)}}}.{name}{{animation:{name} {total:.2f}s step-end infinite}}"
        for numbers, name in patterns.items()
    ]
    width, height = COLUMNS * CELL_W, ROWS * CELL_H
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-8 -8 {width + 16:g} {height + 16:g}" font-family="'
        f'ui-monospace,\'DejaVu Sans Mono\',Menlo,Consolas,monospace" font-size="{FONT}" xml:space="preserve">'
        f"<title>The console: launch a team, ask one, ask all</title><style>.b{{font-weight:bold}}{''.join(rules)}</style>"
        f'<rect x="-8" y="-8" width="{width + 16:g}" height="{height + 16:g}" rx="8" fill="{PAPER}"/>{"".join(body)}</svg>\n'
    )


def _keyframes(numbers: tuple[int, ...], starts: list[float]) -> str:
    """Return the steps at which a row comes and goes."""
    steps: list[str] = []
    before: bool | None = None
    for number, start in enumerate(starts):
        now = number in numbers
        if now != before:
            steps.append(f"{start:.3f}%{{visibility:{'visible' if now else 'hidden'}}}")
        before = now
    return "".join(steps)


async def until(
    pilot: Pilot[Any], holds: Callable[[], bool], each: Callable[[], None], pause_s: float = 0.2
) -> None:
    """Wait until something holds, taking frames meanwhile."""
    async with asyncio.timeout(LIMIT_S):
        while not holds():
            each()
            await pilot.pause(pause_s)


async def type_text(pilot: Pilot[Any], film: Film, text: str) -> None:
    for start in range(0, len(text), 4):
        await pilot.press(*text[start : start + 4])
        film.take(0.16)


async def play(app: TektonApp, pilot: Pilot[Any], film: Film) -> None:
    """Launch the starter team, send the question that waits for the first of it, ask all."""
    turns, fleet = app.stores.turns, app.stores.fleet
    await until(pilot, lambda: fleet.platform is not None, lambda: None)
    await pilot.pause(0.5)
    film.take(2.0)
    await pilot.press("enter")
    await until(pilot, lambda: fleet.counts()["ready"] == 4, lambda: film.take(0.3))
    await until(pilot, lambda: isinstance(app.focused, TextArea), lambda: film.take(0.3))
    await pilot.pause(1.0)
    film.take(2.0)  # the first question waits in the composer
    await answered(pilot, film, lambda: not turns.turns)
    await pilot.press("escape", "3")
    await pilot.pause(1.0)
    await type_text(pilot, film, "Name the riskiest part of the plan.")
    await answered(pilot, film, lambda: bool(turns.teams) and all(team.end for team in turns.teams.values()))


async def answered(pilot: Pilot[Any], film: Film, holds: Callable[[], bool]) -> None:
    """Send what was typed and film the answers to their end."""
    await pilot.press("enter")
    await pilot.pause(0.5)
    await until(pilot, holds, lambda: film.take(0.25), 0.25)
    await pilot.pause(0.5)
    film.take(2.5)


async def make() -> str:
    """Return the picture of one run."""
    with tempfile.TemporaryDirectory(prefix="tk-", ignore_cleanup_errors=True) as folder:
        home = Home(Path(folder)).prepare()
        os.environ.update(
            TEKTON_HOME=folder,
            TEKTON_PORT_PROFILE="free",
            TEKTON_GATEWAY_PORT="0",
            TEKTON_PROVIDER="embedded",
        )
        client = await attach(home)
        app = TektonApp(connector(None, None, None))
        film = Film(app)
        try:
            async with app.run_test(size=(COLUMNS, ROWS)) as pilot:
                await play(app, pilot, film)
        finally:
            await client.request("shutdown", {"stop_fleet": True})
            await client.close()
    return film_svg(film.frames)


def main(target: Path) -> None:
    target.write_text(asyncio.run(make()), encoding="utf-8")
    print(f"{target}: {target.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("demo.svg"))
