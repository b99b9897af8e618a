"""A question with a short list of answers; Enter takes the one under the cursor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cell_len
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from tekton_tui.safe_text import literal, one_line
from tekton_tui.screens.dialogs import Question

NAME_CELLS, MOST_NAME_CELLS, ROW_CELLS = 16, 28, 62


class ChoiceScreen(Question[str | None]):
    """`choices` are `(answer, name, hint)`; dismissed with the answer, or with none on `esc`."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "Close", id="choice.close")]

    def __init__(self, title: str, choices: Sequence[tuple[str, str, str]]) -> None:
        super().__init__()
        self._title, self._choices = title, choices

    def compose(self) -> ComposeResult:
        with Vertical(id="choice-box") as box:
            box.border_title = literal(one_line(self._title, 60))
            box.border_subtitle = "enter chooses · esc closes"
            cells = max((cell_len(name) for _, name, _hint in self._choices), default=0) + 2
            cells = max(NAME_CELLS, min(cells, MOST_NAME_CELLS))
            yield OptionList(
                *(Option(_line(name, hint, cells)) for _, name, hint in self._choices), id="choice-list"
            )

    def on_mount(self) -> None:
        listing = self.query_one(OptionList)
        listing.highlighted = 0
        listing.focus()

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._choices[event.option_index][0])


def _line(name: str, hint: str, cells: int) -> Content:
    name = one_line(name, cells - 1)
    return Content.assemble(
        literal(name + " " * (cells - cell_len(name)), "bold"),
        literal(one_line(hint, ROW_CELLS - cells), "$text-muted"),
    )
