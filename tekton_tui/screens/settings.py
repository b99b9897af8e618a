"""Settings of this console and of Rhetor: theme, bell, moderation; the rest lies in the configuration file."""

from __future__ import annotations

from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tekton_tui.desk import Desk
from tekton_tui.safe_text import literal
from tekton_tui.stores import Stores

MODES = ("pass_through", "synthesis", "consensus", "directed")
STYLES = ("collaborative", "directive", "autonomous")


class SettingsScreen(ModalScreen[None]):
    """Enter on a line goes to its next value; changes hold at once."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "Close", id="settings.close")]

    def __init__(self, stores: Stores, desk: Desk) -> None:
        super().__init__()
        self._stores, self._desk = stores, desk
        self._orchestration: dict[str, Any] = {}

    def compose(self) -> ComposeResult:
        with Vertical(id="model-box") as box:
            box.border_title = "Settings"
            box.border_subtitle = "enter changes · esc closes"
            yield OptionList(id="settings-list", markup=False)
            platform = self._stores.fleet.platform
            home = platform.home if platform else "TEKTON_HOME"
            yield Static(
                literal(
                    f"\nEverything else: {home}/config.toml, shown by `tekton config show`.", "$text-muted"
                )
            )

    def on_mount(self) -> None:
        self._desk.do("get_orchestration", then=self._take)
        self._fill()

    def _take(self, answer: dict[str, Any]) -> None:
        self._orchestration = answer
        if self.is_attached:
            self._fill()

    def _fill(self) -> None:
        listing = self.query_one(OptionList)
        at = listing.highlighted or 0
        listing.clear_options()
        given = self._orchestration
        lines = [
            ("theme", self.app.theme),
            ("team moderation", given.get("moderation_mode", "…")),
            ("orchestration style", given.get("orchestration_mode", "…")),
            ("specialists at once", str(given.get("max_concurrent_specialists", "…"))),
        ]
        listing.add_options(Option(literal(f"{name:<24} {value}")) for name, value in lines)
        listing.highlighted = min(at, len(lines) - 1)
        listing.focus()

    @on(OptionList.OptionSelected)
    def _change(self, event: OptionList.OptionSelected) -> None:
        if event.option_index == 0:
            themes = sorted(self.app.available_themes)
            self.app.theme = themes[(themes.index(self.app.theme) + 1) % len(themes)]
            self._fill()
            return
        if not self._orchestration:
            return
        given = self._orchestration
        changes: dict[str, Any] = {
            1: {"moderation_mode": _next(MODES, given["moderation_mode"])},
            2: {"orchestration_mode": _next(STYLES, given["orchestration_mode"])},
            3: {"max_concurrent_specialists": given["max_concurrent_specialists"] % 40 + 5},
        }[event.option_index]
        self._desk.do(
            "configure_orchestration", then=lambda answer: self._take(answer["settings"]), settings=changes
        )


def _next(values: tuple[str, ...], value: str) -> str:
    return values[(values.index(value) + 1) % len(values)]
