"""Two answers, side by side or one above the other; what differs is marked where much is the same."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from tekton_tui.commands import Answer
from tekton_tui.runtime.layout_once import Modal
from tekton_tui.safe_text import literal, one_line
from tekton_tui.verbs import bindings

_WORDS = re.compile(r"\s+|\S+")
MAX_WORDS = 20_000
LEAST_CELLS_BESIDE = 120
MARK = "$text-warning bold underline"


class CompareScreen(Modal[None]):
    """Both sides scroll together; `esc` closes."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("compare")

    def __init__(self, left: tuple[str, Content], right: tuple[str, Content], shared: str) -> None:
        """`shared` says how much both have in common."""
        super().__init__()
        self._sides, self._shared = (left, right), shared

    def compose(self) -> ComposeResult:
        with Vertical(id="compare"):
            with Vertical(id="compare-sides"):
                for name, content in self._sides:
                    with VerticalScroll(classes="compare-side", can_focus=False) as side:
                        side.border_title = literal(name)
                        yield Static(content)
            yield Static(
                literal(f" {one_line(self._shared, 90)} · ↑↓ scroll · esc closes"), classes="status-line"
            )

    def on_resize(self, event: events.Resize) -> None:
        """Put the two beside each other where there is room for both."""
        self.query_one("#compare-sides").set_class(event.size.width >= LEAST_CELLS_BESIDE, "-beside")

    def action_scroll(self, rows: int) -> None:
        for side in self.query(".compare-side"):
            side.scroll_relative(y=rows, animate=False)


def compare_screen(left: Answer, right: Answer) -> CompareScreen:
    """Return the screen for two answers; where less than half is shared, marks would cover everything: there are none."""
    a, b = left.text.split()[:MAX_WORDS], right.text.split()[:MAX_WORDS]
    same = sum(block.size for block in SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks())
    words = f"{left.name} and {right.name} share {same} words, of {len(a)} and {len(b)}"
    if 2 * same >= min(len(a), len(b)) > 0:
        first, second = differences(left.text, right.text)
        words += "; what differs is marked"
    else:
        first, second = literal(left.text), literal(right.text)
    return CompareScreen((left.name, first), (right.name, second), words)


def differences(left: str, right: str) -> tuple[Content, Content]:
    """Return both texts with the words the other lacks marked."""
    a, b = _WORDS.findall(left)[:MAX_WORDS], _WORDS.findall(right)[:MAX_WORDS]
    first: list[Content] = []
    second: list[Content] = []
    # of long answers `autojunk` would take the words that come often for noise, and find less in common
    for kind, a1, a2, b1, b2 in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        first += _marked(a[a1:a2], kind != "equal")
        second += _marked(b[b1:b2], kind != "equal")
    return Content("").join(first), Content("").join(second)


def _marked(words: list[str], differs: bool) -> list[Content]:
    """Return words, marked where they differ; space between them is never marked."""
    if not differs:
        return [literal("".join(words))]
    return [literal(word, "" if word.isspace() else MARK) for word in words]
