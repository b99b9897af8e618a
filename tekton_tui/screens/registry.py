"""The table of screens. A row here and the module it names are all that a new screen takes.

Keys, the row of screens, help, palette and command line are made from the table. A screen's class takes the stores and
the commands, has a `focus_content` method, and brings its style sheet as `DEFAULT_CSS`.
"""

from __future__ import annotations

from importlib import import_module
from typing import NamedTuple

from textual.widget import Widget

from tekton_tui.commands import Commands
from tekton_tui.stores import Stores
from tekton_tui.widgets.common.screen_bar import Badge


class ScreenRow(NamedTuple):
    """One screen: the key that shows it, its name, and the widget class by module, imported at first use."""

    key: str
    """Empty for a screen inside a place: it is reached from there, and by its word behind `:`."""
    name: str
    title: str
    short: str
    """The title where there is little room."""
    module: str
    widget: str
    place: str = ""
    """The place this screen is part of, if it has no key of its own."""
    badges: tuple[Badge, ...] = ()

    def make(self, stores: Stores, commands: Commands) -> Widget:
        """Return a new widget of this screen, with the screen's name as its id."""
        # named by text, so that the table imports no screen
        return getattr(import_module(self.module), self.widget)(stores, commands, id=self.name)


_NEEDS = (Badge(Stores.waiting), Badge(Stores.failed, "text-error", "✖"))
_UNREAD_TEAM = (Badge(Stores.unread_team, "text-primary"),)
_UNREAD = (Badge(Stores.unread_chats, "text-primary"),)

SCREENS: dict[str, ScreenRow] = {
    row.name: row
    for row in (
        ScreenRow("1", "fleet", "Fleet", "Fleet", "tekton_tui.screens.fleet", "FleetPane"),
        ScreenRow("2", "chat", "Chat", "Chat", "tekton_tui.screens.chat", "ChatPane", badges=_UNREAD),
        ScreenRow(
            "3", "team", "Team Chat", "Team", "tekton_tui.screens.team", "TeamPane", badges=_UNREAD_TEAM
        ),
        ScreenRow(
            "4", "needs", "Needs you", "Needs you", "tekton_tui.screens.needs", "NeedsPane", badges=_NEEDS
        ),
        ScreenRow("5", "timeline", "Timeline", "Timeline", "tekton_tui.screens.timeline", "TimelinePane"),
        ScreenRow("6", "system", "System", "System", "tekton_tui.screens.system", "SystemPane"),
        ScreenRow("", "pipes", "Pipes", "Pipes", "tekton_tui.screens.pipes", "PipesPane", "team"),
        ScreenRow(
            "", "sessions", "Sessions", "Sessions", "tekton_tui.screens.sessions", "SessionsPane", "chat"
        ),
    )
}
"""By name, in the order in which they stand on the screen: the six places, then the screens inside them."""

ADDRESSES = {"errors": "needs"} | dict.fromkeys(("gateway", "models", "hosts", "config", "doctor"), "system")
"""Words behind `:` for a tab of a place, and which place that is; some are names that screens had before."""


def place_of(screen: str) -> str:
    """Return the place that a screen is, or is part of."""
    return SCREENS[screen].place or screen
