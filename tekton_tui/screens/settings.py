"""The settings overlay: the UI preferences of this console, and the orchestration policy that all consoles share.

What is set here holds at once and at the next start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, get_args

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from backend.schema.orchestration import Mode, OrchestrationChanges, OrchestrationSettings, Style
from backend.schema.params import ConfigureOrchestration, GetOrchestration
from tekton_tui.commands import ConsoleCommands
from tekton_tui.runtime.controller import Controller
from tekton_tui.runtime.frame_scheduler import app_of
from tekton_tui.runtime.latest import Latest
from tekton_tui.runtime.layout_once import Modal
from tekton_tui.runtime.preferences import DENSITIES
from tekton_tui.safe_text import literal

MODES: tuple[Mode, ...] = get_args(Mode)
STYLES: tuple[Style, ...] = get_args(Style)
NAME_CELLS = 24
T = TypeVar("T")


@dataclass
class _Line:
    """A line of the list: a title, the value now, and what sets the value so many steps on."""

    name: str
    value: str
    step: Callable[[int], None]


class SettingsScreen(Modal[None]):
    """Enter or → on a line goes to its next value, ← to the one before."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right", "step(1)", "Next value", show=False, id="settings.next"),
        Binding("left", "step(-1)", "Previous value", show=False, id="settings.previous"),
        Binding("escape,f2", "dismiss", "Close", id="settings.close"),
    ]

    def __init__(self, console: ConsoleCommands, controller: Controller) -> None:
        super().__init__()
        self._console_commands, self._controller = console, controller
        self._reading = Latest(controller)
        self._policy: OrchestrationSettings | None = None

    def compose(self) -> ComposeResult:
        with Vertical(id="model-box") as box:
            box.border_title = "Settings"
            box.border_subtitle = "enter changes · esc closes"
            yield OptionList(id="settings-list", markup=False)
            yield Static(self._below())

    def on_mount(self) -> None:
        self._reading.request(GetOrchestration(), self._policy_read)
        self._fill()

    def _policy_read(self, policy: OrchestrationSettings) -> None:
        self._policy = policy
        if self.is_attached:
            self._fill()

    def _below(self) -> Content:
        """Say where keys are set, and which of the preferences could not be put in force."""
        preferences = self._console_commands.preferences
        keys = f"{len(preferences.keymap)} keys set" if preferences.keymap else "keys as shipped"
        lines = [
            literal(f"\n{keys}: [console.keymap] of {preferences.source}", "$text-muted"),
            *(literal(problem, "$text-error") for problem in preferences.problems),
            literal("The rest lies in the same file: `tekton config show` lists it.", "$text-muted"),
        ]
        return Content("\n").join(lines)

    def _lines(self) -> list[_Line]:
        preferences = self._console_commands.preferences
        return [
            self._preference("theme", "theme", app_of(self).theme, self._console_commands.themes),
            self._preference("density", "density", preferences.density, DENSITIES),
            self._preference("bell", "bell", preferences.bell, (True, False)),
            self._preference("desktop notification", "notify", preferences.notify, (True, False)),
            self._preference("signs in ASCII", "ascii", preferences.ascii, (True, False)),
            self._preference("terminal title", "title", preferences.title, (True, False)),
            self._policy_line(
                "team moderation",
                MODES,
                lambda policy: policy.moderation_mode,
                _set_moderation,
            ),
            self._policy_line(
                "orchestration style",
                STYLES,
                lambda policy: policy.orchestration_mode,
                _set_style,
            ),
            self._policy_line(
                "specialists at once",
                range(5, 45, 5),
                lambda policy: policy.max_concurrent_specialists,
                lambda count: OrchestrationChanges(max_concurrent_specialists=count),
            ),
        ]

    def _preference(self, title: str, name: str, value: Any, values: Any) -> _Line:
        shown = value if isinstance(value, str) else ("on" if value else "off")
        return _Line(
            title, shown, lambda by: self._console_commands.set_preference(name, _other(values, value, by))
        )

    def _policy_line(
        self,
        title: str,
        values: Sequence[T],
        read: Callable[[OrchestrationSettings], T],
        change: Callable[[T], OrchestrationChanges],
    ) -> _Line:
        policy = self._policy
        if policy is None:
            return _Line(title, "…", lambda by: None)
        value = read(policy)

        def step(by: int) -> None:
            self._reading.request(
                ConfigureOrchestration(change(_other(values, value, by))),
                lambda applied: self._policy_read(applied.settings),
            )

        return _Line(title, str(value), step)

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
        # made anew: another console may have set the policy since they were drawn
        self._lines()[index].step(by)
        self._fill()


def _other(values: Sequence[T], value: T, by: int) -> T:
    """Return the value so many steps on; from one that is not listed, the first."""
    return values[(values.index(value) + by) % len(values)] if value in values else values[0]


# with their types said: of a lambda the checker takes any text for a mode
def _set_moderation(mode: Mode) -> OrchestrationChanges:
    return OrchestrationChanges(moderation_mode=mode)


def _set_style(style: Style) -> OrchestrationChanges:
    return OrchestrationChanges(orchestration_mode=style)
