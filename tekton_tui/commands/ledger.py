"""Commands over errors and conversations kept in memory, and the end of the console."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tekton_tui.commands.room import Room
from tekton_tui.screens.dialogs import confirm, quit_dialog

MAX_COPIES = 1000


class LedgerCommands(Room):
    """What was, and the end."""

    _pinning_told = False

    def load_errors(self) -> None:
        """Read the ledger; new failures come as events."""
        self.fetch_quietly("list_errors", self._take_errors, limit=500)

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

    def pin_message(self, message_id: int, pinned: bool, then: Callable[[], None]) -> None:
        """Keep a message in the context of its session, or no longer; what that means is said once."""

        def done(answer: dict[str, Any]) -> None:
            then()
            if not pinned:
                self.tell("unpinned")
            elif self._pinning_told:
                self.tell("pinned")
            else:
                self._pinning_told = True
                self.tell("pinned: it stays in the context when older messages are pruned · P unpins")

        self._desk.do("pin_message", then=done, message_id=message_id, pinned=pinned)

    def export_session(self, session_id: str, kind: str) -> None:
        """Write a conversation where the console was started, as `md` or `json`; no file is ever overwritten."""

        def write(answer: dict[str, Any]) -> None:
            path = free_path(Path.cwd() / answer["filename"])
            try:
                with path.open("x", encoding="utf-8") as file:
                    file.write(answer["content"])
            except OSError as error:
                self.tell(f"{path}: not written: {error.strerror}", bad=True)
                return
            self.tell(f"written to {path}")

        self.fetch("export_session", write, id=session_id, format=kind)

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


def free_path(path: Path) -> Path:
    """Return a path that names no file yet: the given one, or one with a number added."""
    number, free = 1, path
    while free.exists() and number < MAX_COPIES:
        number += 1
        free = path.with_stem(f"{path.stem}-{number}")
    return free
