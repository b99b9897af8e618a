"""The search line of a conversation: a field, how many messages match, and which of them is shown."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Input, Static

from tekton_tui.verbs import bindings
from tekton_tui.widgets.common.field import Field


class SearchBar(Horizontal):
    """Hidden until opened. Enter goes to the next older match, `esc` closes."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("search")

    class Changed(Message):
        """Posted when the words to find have changed; empty for none."""

        def __init__(self, words: str) -> None:
            super().__init__()
            self.words = words

    class Stepped(Message):
        """Posted to go to the next newer (1) or older (-1) match."""

        def __init__(self, step: int) -> None:
            super().__init__()
            self.step = step

    class Closed(Message):
        """Posted when the search is over."""

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
        self.post_message(self.Changed(event.value))

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_step(-1)

    def action_step(self, step: int) -> None:
        self.post_message(self.Stepped(step))

    def action_close(self) -> None:
        with self.prevent(Input.Changed):
            self.query_one(Input).value = ""
        self.display = False
        self.post_message(self.Closed())
