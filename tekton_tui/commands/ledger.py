"""Commands over errors and conversations kept in memory, and the end of the console."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tekton_tui.commands.room import Room
from tekton_tui.screens.dialogs import confirm, quit_dialog


class LedgerCommands(Room):
    """What was, and the end."""

    def load_errors(self) -> None:
        """Read the ledger; new failures come as events."""
        self._quietly("list_errors", self._take_errors, limit=500)

    def _take_errors(self, answer: dict[str, Any]) -> None:
        import msgspec

        from backend.schema.records import ErrorRecord

        records = msgspec.convert(answer["errors"], list[ErrorRecord])
        self._stores.errors.load(records, answer["unacknowledged"])

    def acknowledge(self, ids: list[int] | None) -> None:
        params: dict[str, Any] = {"all": True} if ids is None else {"ids": ids}
        self._desk.do("acknowledge_errors", **params)

    def acknowledge_all(self) -> None:
        count = self._stores.errors.unacknowledged
        if count:
            self._shell.push_screen(
                confirm("Acknowledge", f"This marks {count} errors as seen.", [], "Acknowledge"),
                lambda answer: self.acknowledge(None) if answer == "yes" else None,
            )

    def delete_session(self, session_id: str, title: str, messages: int, then: Callable[[], None]) -> None:
        """Delete a conversation for good, after a yes."""

        def delete(answer: str | None) -> None:
            if answer == "yes":
                self._desk.do("delete_session", then=lambda result: then(), id=session_id)

        self._shell.push_screen(
            confirm("Delete", f"This deletes {messages} messages for good:", [title], "Delete"), delete
        )

    def quit(self) -> None:
        """Ask what becomes of the fleet, then end the console."""
        live = [row.name for row in self._stores.fleet.live()]
        self._shell.push_screen(quit_dialog(live), self._quit)

    def _quit(self, answer: str | None) -> None:
        if answer == "leave":
            self._shell.leave()
        elif answer == "stop":
            if not self._desk.connected or self._stores.connection.stale:
                self._shell.leave()
                return
            self._desk.notice.emit("stopping the fleet…", False)
            self._desk.do("shutdown", then=lambda result: self._shell.leave(), stop_fleet=True)
