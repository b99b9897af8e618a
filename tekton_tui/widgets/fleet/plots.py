"""The dashboard's plots: fleet speed, first tokens, host, the day's cost. Four frames, or one row where there is no room.

They move when a sample falls due and something runs, and once a minute at rest: an idle console writes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from backend.schema.history import SAMPLE_EVERY_S, Sample
from tekton_tui.formatting import milliseconds, money, number, rate, size
from tekton_tui.runtime.tokens import Tokens, blend, tokens_of
from tekton_tui.stores import FleetStore
from tekton_tui.widgets.fleet.columns import NARROW
from tekton_tui.widgets.fleet.drawing import (
    Part,
    Scale,
    area,
    changed_runs,
    fitted,
    resample,
    spark,
    strip,
    width_of,
)

SPAN_S: Final = 300.0
SPANS_S: Final = (60.0, 120.0, 300.0, 600.0)
"""What a plot may cover; `+` and `-` step through them."""
LOW, NO_PLOTS = 30, 22
"""Under so many rows the plots are one row, and none."""
RESTING_S: Final = 60.0
"""At rest the plots are drawn anew this often."""
ROW_BARS = 9
TITLE_AT: Final = 3
"""Column of a widget's title in its border: behind the corner, a line and a blank."""


@dataclass(frozen=True)
class Series:
    """One figure over time. `title` says its name, `value` and `unit` the newest one; `tone` colours its plot."""

    name: str
    value: Callable[[Sample], float | None]
    words: Callable[[Sample | None], tuple[str, str]]
    tone: Callable[[Sample | None], str]
    least: float
    fixed: float = 0.0
    short: str = ""


def _host_tone(sample: Sample | None) -> str:
    cpu = sample.cpu if sample else 0.0
    return "bad" if cpu > 95 else "warn" if cpu > 80 else "steel"


def _first_words(sample: Sample | None) -> tuple[str, str]:
    if sample is None or sample.first_token_ms is None:
        return "–", ""
    value, _, unit = milliseconds(sample.first_token_ms).partition(" ")
    return value, unit


def _host_words(sample: Sample | None) -> tuple[str, str]:
    """Return CPU, and memory behind it; a hundred takes the place of one blank, which a quarter of 120 columns lacks."""
    if sample is None:
        return "–", ""
    cpu = f"{sample.cpu:.0f}"
    return cpu, f"% cpu{' ' * (1 if len(cpu) > 2 else 2)}{sample.memory:.0f} % mem"


def _today_words(sample: Sample | None) -> tuple[str, str]:
    if sample is None:
        return "–", ""
    tokens = f"{number(sample.tokens)} tok"
    if not sample.currency:
        return number(sample.tokens), "tok"
    return money(sample.cost, sample.currency, 2), f" {tokens}"


def _today(sample: Sample) -> float:
    return sample.cost if sample.currency else float(sample.tokens)


SERIES: Final = (
    Series("fleet", lambda s: s.rate, lambda s: (rate(s.rate if s and s.rate >= 0.1 else 0.0).replace("0.0", "0"), "tok/s"),
           lambda s: "accent", 10.0, short="tok/s"),
    Series("first token", lambda s: s.first_token_ms, _first_words, lambda s: "teal", 100.0, short="first"),
    Series("host", lambda s: s.cpu, _host_words, _host_tone, 100.0, 100.0, short="cpu"),
    Series("today", _today, _today_words, lambda s: "sand", 0.01, short="today"),
)  # fmt: skip


class Plot(Widget):
    """One figure of the last minutes: its value in the title, the scale in the lower border."""

    DEFAULT_CSS = """
    Plot { width: 1fr; height: 1fr; border: round $panel; border-title-color: $text-muted; border-subtitle-color: $text-disabled;
           padding: 0 1; }
    Plot:hover { border: round $foreground-muted; }
    """

    def __init__(self, fleet: FleetStore, series: Series) -> None:
        super().__init__()
        self._fleet, self._series = fleet, series
        self._scale = Scale(series.least, series.fixed)
        self._rows: list[str] = []
        self._values: list[float | None] = []
        self._top = 1.0
        self._shown: tuple[object, ...] = ()
        self._titled = self._subtitled = ""
        self._tone, self._width = "", 0
        """Colour and cells of what was drawn."""
        self._hovered: int | None = None
        self.span_s = SPAN_S

    def on_resize(self, event: events.Resize) -> None:
        self.draw()

    def draw(self) -> None:
        """Draw the plot anew if anything of it differs."""
        width, height = self.content_size
        if width < 1 or height < 1:
            return
        samples = self._fleet.history
        newest = samples[-1] if samples else None
        values = resample(
            [(sample.timestamp, self._series.value(sample)) for sample in samples],
            self.span_s,
            2 * width,
            SAMPLE_EVERY_S,
        )
        top = self._scale.top(
            max((value for value in values if value is not None), default=0.0),
            newest.timestamp if newest else 0.0,
        )
        rows = area(values, width, height, top)
        value, unit = self._series.words(newest)
        shown = (rows, value, unit, top, width, self._fleet.host.memory_total)
        if shown == self._shown:
            return
        tone = self._series.tone(newest)
        before, same = self._rows, (len(self._rows), self._tone, width) == (len(rows), tone, self._width)
        self._shown, self._rows, self._values, self._top = shown, rows, values, top
        self._tone, self._width = tone, width
        self._write_border(value, unit)
        if not same:
            self.refresh()
            return
        for y, (old, new) in enumerate(zip(before, rows, strict=True)):
            for x, cells in changed_runs([Part(old)], [Part(new)]) if old != new else ():
                self.refresh(Region(x, y, cells, 1))

    def _write_border(self, value: str, unit: str) -> None:
        room = self.outer_size.width - 4
        name = Content.styled(self._series.name, "$text-muted")
        figure = Content.assemble((f"  {value}", "bold $foreground"), (f" {unit}".rstrip(), "$text-muted"))
        if name.cell_length + figure.cell_length > room:
            figure = Content.styled(f"  {value}", "bold $foreground")
        self._write_title(Content.assemble(name, figure))
        subtitle = self._subtitle()
        subtitle = subtitle if len(subtitle) <= room else subtitle.rpartition(" · ")[2]
        if subtitle != self._subtitled:
            self.border_subtitle = self._subtitled = subtitle

    def _write_title(self, title: Content) -> None:
        """Write the title; of it the cells that differ are drawn anew, where Textual would draw all of the widget."""
        # past the reactive, which would have the whole widget drawn for a digit in its title
        before, self._border_title = self._titled, title
        self._titled = title.plain
        cells = max(len(before), len(self._titled)) + 2
        old, new = (Part(f"{words} ".ljust(cells, "─")) for words in (before, self._titled))
        if self.content_size:
            x, y = self.content_offset
            for at, count in changed_runs([old], [new]):
                self.refresh(Region(TITLE_AT - x + at, -y, count, 1))

    def _subtitle(self) -> str:
        host = self._fleet.host
        if self._hovered is not None and 0 <= self._hovered * 2 + 1 < len(self._values):
            value = max(
                (v for v in self._values[self._hovered * 2 : self._hovered * 2 + 2] if v is not None),
                default=None,
            )
            ago = self.span_s * (1 - self._hovered / max(1, self.content_size.width))
            return f"{'nothing' if value is None else self._worded(value)} · {ago:.0f} s ago"
        if self._series.name == "host":
            return f"{host.cores} cores · {size(host.memory_total)}" if host.memory_total else "top 100 %"
        if self._series.name == "today":
            return "since 00:00"
        span = f"{self.span_s / 60:.0f} min"
        return f"{'median' if self._series.name == 'first token' else span} · top {self._worded(self._top)}"

    def _worded(self, value: float) -> str:
        if self._series.name == "first token":
            return milliseconds(value)
        return f"{value:.0f}" if value >= 10 else f"{value:.2f}".rstrip("0").rstrip(".")

    def on_mouse_move(self, event: events.MouseMove) -> None:
        self._point_at(event.x - 2)

    def on_leave(self) -> None:
        self._point_at(None)

    def _point_at(self, column: int | None) -> None:
        self._hovered = column
        if self._shown:
            self._write_border(str(self._shown[1]), str(self._shown[2]))

    def render_line(self, y: int) -> Strip:
        tokens = tokens_of(self)
        width = self.content_size.width
        if y >= len(self._rows):
            return Strip.blank(width, tokens.style("text"))
        newest = self._fleet.history[-1] if self._fleet.history else None
        colour = height_colour(tokens, self._series.tone(newest), y, len(self._rows))
        return strip([Part(self._rows[y], colour)], width, tokens)


def height_colour(tokens: Tokens, tone: str, row: int, rows: int) -> str:
    """Return the colour of a row of a plot: from dim at the bottom to the tone at the top."""
    share = 0.4 + 0.6 * (rows - 1 - row) / max(1, rows - 1)
    return blend(tokens.ground, getattr(tokens, tone), share)


class PlotRow(Widget):
    """The same figures in one row of numbers with sparks."""

    DEFAULT_CSS = "PlotRow { height: 1; }"

    def __init__(self, fleet: FleetStore) -> None:
        super().__init__()
        self._fleet = fleet
        self._scales = [Scale(series.least, series.fixed) for series in SERIES]
        self._parts: list[Part] = []

    def on_resize(self, event: events.Resize) -> None:
        self.draw()

    def draw(self) -> None:
        """Draw the row anew if anything of it differs."""
        parts = self._made()
        if parts != self._parts:
            self._parts = parts
            self.refresh()

    def _made(self) -> list[Part]:
        samples = self._fleet.history
        newest = samples[-1] if samples else None
        left: list[Part] = [Part(" ")]
        for series, scale in zip(SERIES[:3], self._scales, strict=False):
            value, unit = series.words(newest)
            values = resample(
                [(s.timestamp, series.value(s)) for s in samples], SPAN_S, ROW_BARS, SAMPLE_EVERY_S
            )
            drawn = [value or 0.0 for value in values]
            top = scale.top(max(drawn, default=0.0), newest.timestamp if newest else 0.0)
            words = value if series.short == "tok/s" else f"{value} {unit[:2].strip()}".strip()
            left += [
                Part(f"{series.short} ", "muted"), Part(f"{words} ", "text bold"),
                Part(spark(drawn, top, ROW_BARS), series.tone(newest)), Part("  "),
            ]  # fmt: skip
        value, unit = _today_words(newest)
        right = [Part("today ", "muted"), Part(f"{value} ", "text bold")]
        if newest is not None and not newest.currency:
            right.append(Part("tok ", "muted"))
        width = self.size.width
        room = width - width_of(right)
        return [*fitted(left, room), *right] if room > 20 else fitted(left, width)

    def render_line(self, y: int) -> Strip:
        return strip(self._parts, self.size.width, tokens_of(self))


class Plots(Horizontal):
    """The plots, in the form the terminal has room for."""

    DEFAULT_CSS = """
    Plots { height: 6; }
    Plots PlotRow { display: none; }
    Plots.-row { height: 1; }
    Plots.-row Plot { display: none; }
    Plots.-row PlotRow { display: block; }
    Plots.-none { display: none; }
    """

    def __init__(self, fleet: FleetStore, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._fleet = fleet
        self._drawn_at = 0.0
        self._moves = False

    def compose(self) -> ComposeResult:
        for series in SERIES:
            yield Plot(self._fleet, series)
        yield PlotRow(self._fleet)

    def on_mount(self) -> None:
        self._fleet.sampled.subscribe_widget(self, self._sampled)

    def fit(self, width: int, height: int) -> None:
        """Take the form that a terminal of this size has room for."""
        self.set_class(height < NO_PLOTS, "-none")
        self.set_class(width < NARROW or height < LOW, "-row")

    @property
    def rows(self) -> int:
        """How many rows of the screen it takes."""
        return 0 if self.has_class("-none") else 1 if self.has_class("-row") else 6

    def _sampled(self) -> None:
        """Draw while something runs, once more when it ended, and now and then at rest."""
        newest = self._fleet.history[-1] if self._fleet.history else None
        moving = any(row.phase or row.state == "starting" for row in self._fleet.rows.values()) or bool(
            newest and newest.rate
        )
        now = time.monotonic()
        # once more after all has ended, or the last height would stand as if it went on
        if moving or self._moves or now - self._drawn_at >= RESTING_S:
            self.draw()
        self._moves = moving

    def draw(self) -> None:
        """Draw what is shown anew."""
        if not self.is_on_screen:
            return
        self._drawn_at = time.monotonic()
        for plot in self.query(Plot):
            if plot.display:
                plot.draw()
        row = self.query_one(PlotRow)
        if row.display:
            row.draw()

    def zoom_span(self, step: int) -> None:
        """Cover a longer or shorter time."""
        for plot in self.query(Plot):
            at = SPANS_S.index(plot.span_s) + step
            plot.span_s = SPANS_S[max(0, min(len(SPANS_S) - 1, at))]
            plot.draw()
