"""An app of one transcript, and what its tests ask of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from textual.app import App, ComposeResult
from textual.geometry import Region
from textual.pilot import Pilot

from tekton_tui.runtime.frame_scheduler import FrameScheduler
from tekton_tui.runtime.themes import DARK_NAME, THEMES
from tekton_tui.transcript import Entry, Look, Transcript
from tekton_tui.transcript.overlay import line_of

ANSWER = "The **queue** breaks.\n\n```python\ndef drain(self):\n    return 1\n```\n\nSee `drain`.\n"
HOSTILE = "\x1b]52;c;AAAA\x07 \x9b31m \u202etxt [@click=app.quit]x[/] [/] \x1b[2J\x00\ud800 end"


class Console(App[None]):
    """One transcript over the whole screen."""

    def __init__(self, *, look: Look | None = None) -> None:
        super().__init__()
        self.frame_scheduler = FrameScheduler()
        self.heard: list[object] = []
        self._look = look

    def compose(self) -> ComposeResult:
        yield Transcript(look=self._look)

    def on_mount(self) -> None:
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = DARK_NAME

    def on_transcript_copied(self, event: Transcript.Copied) -> None:
        self.heard.append(("copied", event.text))

    def on_transcript_pipe(self, event: Transcript.Pipe) -> None:
        self.heard.append(("pipe", event.entry.key))

    def on_transcript_ask_again(self, event: Transcript.AskAgain) -> None:
        self.heard.append(("again", event.entry.key))

    def on_transcript_quote(self, event: Transcript.Quote) -> None:
        self.heard.append(("quote", event.text))

    def on_transcript_edit_and_ask(self, event: Transcript.EditAndAsk) -> None:
        self.heard.append(("edit", event.entry.key))

    def on_transcript_search_changed(self, event: Transcript.SearchChanged) -> None:
        self.heard.append(("search", event.count, event.done))


@asynccontextmanager
async def shown(
    *, size: tuple[int, int] = (60, 16), look: Look | None = None
) -> AsyncIterator[tuple[Console, Transcript, Pilot[None]]]:
    """Run a console with one transcript, focused."""
    app = Console(look=look)
    async with app.run_test(size=size) as pilot:
        view = app.query_one(Transcript)
        view.focus()
        await pilot.pause()
        yield app, view, pilot


def screen_text(view: Transcript) -> list[str]:
    """Return what the widget's lines say, without the scrollbar's column."""
    strips = view.render_lines(Region(0, 0, *view.size))
    return [strip.text[:-1].rstrip() for strip in strips]


def number_at_top(view: Transcript) -> int:
    """Return the number of the message whose row is the first in the window, as the mouse finds it."""
    style = list(view.render_line(0))[-1].style
    assert style is not None
    return line_of(style.meta["offset"][1])[0]


def conversation(count: int) -> list[Entry]:
    """Return questions and answers in turn."""
    return [
        Entry(f"k{n}", "apollo", "answer", f"Answer {n}. {ANSWER}")
        if n % 2
        else Entry(f"k{n}", "you", "user", f"Question {n}", colour="you")
        for n in range(count)
    ]
