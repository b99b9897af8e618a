"""Two answers side by side, what differs marked in both."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from tekton_tui.safe_text import literal

_WORDS = re.compile(r"\s+|\S+")
MAX_WORDS = 20_000


class CompareScreen(ModalScreen[None]):
    """`esc` closes."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "dismiss", "Close", id="compare.close")]

    def __init__(self, left: tuple[str, Content], right: tuple[str, Content]) -> None:
        super().__init__()
        self._sides = (left, right)

    def compose(self) -> ComposeResult:
        with Horizontal(id="compare"):
            for name, content in self._sides:
                with VerticalScroll(classes="compare-side") as side:
                    side.border_title = literal(name)
                    yield Static(content)


def compare_screen(left_name: str, left: str, right_name: str, right: str) -> CompareScreen:
    """Return the screen for two texts."""
    first, second = differences(left, right)
    return CompareScreen((left_name, first), (right_name, second))


def differences(left: str, right: str) -> tuple[Content, Content]:
    """Return both texts with the words the other lacks marked."""
    a, b = _WORDS.findall(left)[:MAX_WORDS], _WORDS.findall(right)[:MAX_WORDS]
    first: list[Content] = []
    second: list[Content] = []
    for kind, a1, a2, b1, b2 in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        style = "" if kind == "equal" else "$text-warning underline"
        first.append(literal("".join(a[a1:a2]), style))
        second.append(literal("".join(b[b1:b2]), style))
    return Content("").join(first), Content("").join(second)
