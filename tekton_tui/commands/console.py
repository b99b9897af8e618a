"""Commands on the console itself: its UI preferences and its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from backend.schema.errors import TektonError
from backend.schema.params import Shutdown
from tekton_tui.commands.navigator import Navigator
from tekton_tui.runtime.controller import Controller
from tekton_tui.runtime.preferences import Preferences


class ConsoleCommands:
    """`preferences` are the UI preferences in force, `themes` the names of all themes."""

    def __init__(
        self, controller: Controller, navigator: Navigator, preferences: Preferences, themes: Sequence[str]
    ) -> None:
        self.preferences, self.themes = preferences, themes
        self._controller, self._navigator = controller, navigator

    def set_preference(self, name: str, value: Any) -> None:
        """Set a UI preference from now on and for the next start; report it if it cannot be stored."""
        try:
            self.preferences.set(name, value)
        except OSError as error:
            self._controller.notify(f"{name} holds for now only: {error}", failed=True)

    def run_tekton(self, words: Sequence[str], then: Callable[[int, str], None]) -> None:
        """Run a command of the command line on this machine; `then` gets its exit code and what it wrote."""

        async def run() -> None:
            from backend.client import run_tekton

            try:
                code, text = await run_tekton(*words)
            except TektonError as error:
                code, text = 1, error.message
            then(code, text)

        self._controller.spawn(run())

    def quit(self) -> None:
        """Ask what becomes of the fleet, then end the console."""
        live = [row.name for row in self._controller.stores.fleet.live()]
        self._navigator.ask_quit(live, self._quit)

    def _quit(self, answer: str) -> None:
        stores = self._controller.stores
        if answer == "leave":
            self._navigator.exit()
        elif answer == "stop":
            if not self._controller.connected or stores.connection.stale:
                self._navigator.exit()
                return
            self._controller.notify("stopping the fleet…")
            self._controller.request(Shutdown(stop_fleet=True), lambda result: self._navigator.exit())
