"""The search line of a conversation: a field, how many messages match, and which of them is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.widgets import Input, Static

from tekton_tui.transcript import Transcript
from tekton_tui.verbs import bindings
from tekton_tui.widgets.common.field import Field


class SearchBar(Horizontal):
    """Hidden until opened. Enter goes to the next older match, `esc` closes.

    Args:
        transcript: What is searched.
        sought: Called when there are words to find: what is not loaded yet has to be searched as well.
    """

    BINDINGS: ClassVar[list[BindingType]] = bindings("search")

    def __init__(self, transcript: Transcript, sought: Callable[[], None]) -> None:
        super().__init__()
        self._transcript, self._sought = transcript, sought

    def compose(self) -> ComposeResult:
        yield Static(" find ", classes="search-label")
        yield Field(placeholder="any words of this conversation", compact=True)
        yield Static("", classes="search-count")

    def on_mount(self) -> None:
        self.display = False

    @property
    def words(self) -> str:
        """The words to find; empty while the bar is closed."""
        return self.query_one(Input).value if self.display else ""

    def open(self, words: str = "") -> None:
        """Show the bar, with these words in it."""
        self.display = True
        field = self.query_one(Input)
        if words:
            field.value = words
        field.focus()

    def count(self, at: int, count: int, done: bool) -> None:
        """Show that hit `at` (from 1, 0 for none) of `count` is shown."""
        if not self.query_one(Input).value:
            words = ""
        elif not count:
            words = "no match" if done else "searching…"
        else:
            words = f"{at or '–'} of {count}{'' if done else '+'} hits · ↑ older ↓ newer"
        self.query_one(".search-count", Static).update(words)

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        event.stop()
        self.count(0, 0, True)
        self._transcript.search(event.value)
        if event.value:
            self._sought()

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        event.stop()
        # the newest hit is shown first: Enter goes on upwards
        self.action_step(-1)

    def action_step(self, step: int) -> None:
        self._transcript.action_hit(step)

    def action_close(self) -> None:
        # to empty the field is no search for nothing
        with self.prevent(Input.Changed):
            self.query_one(Input).value = ""
        self.display = False
        self._transcript.stop_search()
        self._transcript.focus()
