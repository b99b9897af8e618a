"""Commands that go somewhere: screens, tabs, logs, descriptions. Change nothing."""

from __future__ import annotations

from typing import Any

from textual.screen import Screen

from tekton_tui.commands.room import Room


class PlaceCommands(Room):
    """Where the operator goes."""

    def pipe_text(self, text: str, source: str = "") -> None:
        """Take a text to the pipes screen, as the input of a pipeline to be written; `source` says whose it is."""
        self._shell.show_pane("pipes")
        self._shell.in_pane("pipes", lambda pane: pane.take_input(text, source))

    def show(self, name: str) -> None:
        self._shell.show_pane(name)

    def open_chat(self, ai_id: str) -> None:
        self._shell.show_pane("chat")
        self._shell.in_pane("chat", lambda pane: pane.open_tab(ai_id))

    def open_team(self, ids: list[str]) -> None:
        self._shell.show_pane("team")
        self._shell.in_pane("team", lambda pane: pane.address(ids))

    def resume(self, ai_id: str, session_id: str, sought: str = "") -> None:
        """Go on in an earlier conversation, where these words stand if any are given."""
        self._shell.show_pane("chat")
        self._shell.in_pane("chat", lambda pane: pane.open_tab(ai_id, session_id, sought))

    def open_pipes(self, text: str = "") -> None:
        self._shell.show_pane("pipes")
        self._shell.in_pane("pipes", lambda pane: pane.draft(text))

    def open_errors(self, where: str = "") -> None:
        self._shell.show_pane("errors")
        self._shell.in_pane("errors", lambda pane: pane.go_to(where))

    def show_row(self, ai_id: str) -> None:
        """Go to a specialist's row."""
        self._shell.show_pane("fleet")
        self._shell.in_pane("fleet", lambda pane: pane.grid.go_to(ai_id))

    def open_screen(self, screen: Screen[Any]) -> None:
        self._shell.push_screen(screen)

    def open_logs(self, ai_id: str) -> None:
        from tekton_tui.screens.logs import LogScreen

        self._shell.push_screen(LogScreen(self._stores, self._desk, ai_id))

    def describe(self, ai_id: str) -> None:
        from tekton_tui.screens.describe import describe_screen

        self._desk.do(
            "get_specialist", then=lambda facts: self._shell.push_screen(describe_screen(facts)), id=ai_id
        )

    def help(self) -> None:
        self._shell.open_help()
