"""Two answers side by side, what differs marked in both."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from tekton_tui.safe_text import literal

_WORDS = re.compile(r"\s+|\S+")
MAX_WORDS = 20_000
MARK = "$text-warning bold underline"


class CompareScreen(ModalScreen[None]):
    """Both sides scroll together; `esc` closes."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,equals_sign", "dismiss", "Close", id="compare.close"),
        Binding("up,k", "scroll(-1)", "Up", show=False, id="compare.up"),
        Binding("down,j", "scroll(1)", "Down", show=False, id="compare.down"),
        Binding("pageup", "scroll(-20)", "Page up", show=False, id="compare.page-up"),
        Binding("pagedown,space", "scroll(20)", "Page down", show=False, id="compare.page-down"),
    ]

    def __init__(self, left: tuple[str, Content], right: tuple[str, Content], shared: str) -> None:
        """`shared` says how much both have in common."""
        super().__init__()
        self._sides, self._shared = (left, right), shared

    def compose(self) -> ComposeResult:
        with Vertical(id="compare"):
            with Horizontal(id="compare-sides"):
                for name, content in self._sides:
                    with VerticalScroll(classes="compare-side", can_focus=False) as side:
                        side.border_title = literal(name)
                        yield Static(content)
            yield Static(literal(f" {self._shared} · ↑↓ scroll · esc closes"), classes="status-line")

    def action_scroll(self, rows: int) -> None:
        for side in self.query(".compare-side"):
            side.scroll_relative(y=rows, animate=False)


def compare_screen(left_name: str, left: str, right_name: str, right: str) -> CompareScreen:
    """Return the screen for two texts."""
    first, second = differences(left, right)
    return CompareScreen((left_name, first), (right_name, second), _shared(left, right))


def _shared(left: str, right: str) -> str:
    """Say how many words of each text the other has as well, in their order."""
    a, b = left.split()[:MAX_WORDS], right.split()[:MAX_WORDS]
    same = sum(block.size for block in SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks())
    return f"{same} words in common, of {len(a)} and {len(b)}"


def differences(left: str, right: str) -> tuple[Content, Content]:
    """Return both texts with the words the other lacks marked."""
    a, b = _WORDS.findall(left)[:MAX_WORDS], _WORDS.findall(right)[:MAX_WORDS]
    first: list[Content] = []
    second: list[Content] = []
    for kind, a1, a2, b1, b2 in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        first += _marked(a[a1:a2], kind != "equal")
        second += _marked(b[b1:b2], kind != "equal")
    return Content("").join(first), Content("").join(second)


def _marked(words: list[str], differs: bool) -> list[Content]:
    """Return words, marked where they differ; space between them is never marked."""
    if not differs:
        return [literal("".join(words))]
    return [literal(word, "" if word.isspace() else MARK) for word in words]
