"""Commands on stored conversations: delete, export, pin a message."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from backend.schema.params import DeleteSession, ExportSession, PinMessage
from backend.schema.records import Export, StoredMessage
from tekton_tui.commands.navigator import Navigator
from tekton_tui.runtime.controller import Controller

MAX_COPIES = 1000
ExportFormat = Literal["md", "json"]
_FORMATS: dict[str, ExportFormat] = {"md": "md", "json": "json"}


class SessionCommands:
    """Acts on sessions by id and on messages by number."""

    def __init__(self, controller: Controller, navigator: Navigator) -> None:
        self._controller, self._navigator = controller, navigator
        self._pinning_explained = False

    def delete(self, session_id: str, title: str, messages: int, then: Callable[[], None]) -> None:
        """Delete a conversation for good, after a yes."""
        self._navigator.confirm(
            "Delete",
            f"This deletes {messages} messages for good:",
            [title],
            "Delete",
            # refused, it is gone most likely: another console was first, and the list is read anew
            lambda: self._controller.request(
                DeleteSession(session_id), lambda result: then(), otherwise=then
            ),
        )

    def pin_message(self, message_id: int, pinned: bool, then: Callable[[], None]) -> None:
        """Keep a message in the context of its session, or no longer; the first time, say what that means."""

        def done(message: StoredMessage) -> None:
            then()
            if not pinned:
                self._controller.notify("unpinned")
            elif self._pinning_explained:
                self._controller.notify("pinned")
            else:
                self._pinning_explained = True
                self._controller.notify(
                    "pinned: it stays in the context when older messages are pruned · p unpins"
                )

        self._controller.request(PinMessage(message_id, pinned=pinned), done)

    def choose_export(self, session_id: str) -> None:
        """Ask for the format, then write a conversation into the current folder."""
        folder = str(Path.cwd())
        choices = [
            ("md", "Markdown", f"into {folder}"),
            ("json", "JSON", "with all that is known of each message"),
        ]
        self._navigator.choose(
            "Write this conversation to a file", choices, lambda kind: self.export(session_id, _FORMATS[kind])
        )

    def export(self, session_id: str, kind: ExportFormat) -> None:
        """Write a conversation into the current folder, as `md` or `json`; no file is ever overwritten."""

        def write(export: Export) -> None:
            path = free_path(Path.cwd() / export.filename)
            try:
                # `x` refuses a file that came between the look for a free name and this
                with path.open("x", encoding="utf-8") as file:
                    file.write(export.content)
            except OSError as error:
                self._controller.notify(f"{path}: not written: {error.strerror}", failed=True)
                return
            self._controller.notify(f"written to {path}")

        self._controller.request(ExportSession(session_id, kind), write)


def free_path(path: Path) -> Path:
    """Return a path that names no file yet: the given one, or one with a number added."""
    number, free = 1, path
    while free.exists() and number < MAX_COPIES:
        number += 1
        free = path.with_stem(f"{path.stem}-{number}")
    return free
