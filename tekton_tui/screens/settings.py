"""Settings of this console and of Rhetor: what is chosen here holds at once and at the next start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tekton_tui.desk import Desk
from tekton_tui.preferences import DENSITIES
from tekton_tui.safe_text import literal
from tekton_tui.stores import Stores

if TYPE_CHECKING:
    from tekton_tui.app import TektonApp

MODES = ("pass_through", "synthesis", "consensus", "directed")
STYLES = ("collaborative", "directive", "autonomous")
NAME_CELLS = 24


@dataclass
class _Line:
    """A setting: how it is called, what it is now, and what a step to its next value does."""

    name: str
    value: str
    step: Callable[[int], None]


class SettingsScreen(ModalScreen[None]):
    """Enter or → on a line goes to its next value, ← to the one before."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right", "step(1)", "Next value", show=False, id="settings.next"),
        Binding("left", "step(-1)", "Previous value", show=False, id="settings.previous"),
        Binding("escape,f2", "dismiss", "Close", id="settings.close"),
    ]

    def __init__(self, app: TektonApp, stores: Stores, desk: Desk) -> None:
        super().__init__()
        self._tekton, self._stores, self._desk = app, stores, desk
        self._orchestration: dict[str, Any] = {}

    def compose(self) -> ComposeResult:
        with Vertical(id="model-box") as box:
            box.border_title = "Settings"
            box.border_subtitle = "enter changes · esc closes"
            yield OptionList(id="settings-list", markup=False)
            yield Static(self._below())

    def on_mount(self) -> None:
        self._desk.do("get_orchestration", then=self._take)
        self._fill()

    def _take(self, answer: dict[str, Any]) -> None:
        self._orchestration = answer
        if self.is_attached:
            self._fill()

    def _below(self) -> Content:
        """Say where keys are set and what of the wishes could not be granted."""
        wishes = self._tekton.preferences
        keys = f"{len(wishes.keymap)} keys set" if wishes.keymap else "keys as shipped"
        lines = [
            literal(f"\n{keys}: [console.keymap] of {wishes.source}", "$text-muted"),
            *(literal(problem, "$text-error") for problem in wishes.problems),
            literal("The rest lies in the same file: `tekton config show` lists it.", "$text-muted"),
        ]
        return Content("\n").join(lines)

    def _lines(self) -> list[_Line]:
        wishes, given = self._tekton.preferences, self._orchestration
        return [
            self._own("theme", "theme", self._tekton.theme, sorted(self._tekton.available_themes)),
            self._own("density", "density", wishes.density, DENSITIES),
            self._own("bell", "bell", wishes.bell, (True, False)),
            self._own("desktop notification", "notify", wishes.notify, (True, False)),
            self._own("terminal title", "title", wishes.title, (True, False)),
            self._shared("team moderation", "moderation_mode", given, MODES),
            self._shared("orchestration style", "orchestration_mode", given, STYLES),
            self._shared("specialists at once", "max_concurrent_specialists", given, range(5, 45, 5)),
        ]

    def _own(self, title: str, name: str, value: Any, values: Any) -> _Line:
        shown = value if isinstance(value, str) else ("on" if value else "off")
        return _Line(title, shown, lambda by: self._tekton.choose(name, _other(values, value, by)))

    def _shared(self, title: str, name: str, given: dict[str, Any], values: Any) -> _Line:
        """Return a setting of Rhetor: all consoles share it."""
        value = given.get(name)

        def step(by: int) -> None:
            if given:
                self._desk.do(
                    "configure_orchestration",
                    then=lambda answer: self._take(answer["settings"]),
                    settings={name: _other(values, value, by)},
                )

        return _Line(title, "…" if value is None else str(value), step)

    def _fill(self) -> None:
        listing = self.query_one(OptionList)
        at = listing.highlighted or 0
        lines = self._lines()
        listing.clear_options()
        listing.add_options(Option(literal(f"{line.name:<{NAME_CELLS}} {line.value}")) for line in lines)
        listing.highlighted = min(at, len(lines) - 1)
        listing.focus()

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        self._step(event.option_index, 1)

    def action_step(self, by: int) -> None:
        at = self.query_one(OptionList).highlighted
        if at is not None:
            self._step(at, by)

    def _step(self, index: int, by: int) -> None:
        self._lines()[index].step(by)
        self._fill()


def _other(values: Any, value: Any, by: int) -> Any:
    """Return the value so many steps on; from one that is not listed, the first."""
    listed = list(values)
    return listed[(listed.index(value) + by) % len(listed)] if value in listed else listed[0]
