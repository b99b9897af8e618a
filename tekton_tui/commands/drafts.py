"""Keeps what is being written, so that it survives this console; written a moment after the last key."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tekton_tui.commands.room import Room, Shell
from tekton_tui.desk import Desk

DRAFT_DELAY_S = 1.0


class DraftCommands(Room):
    """Texts not sent yet, by the place they are written at."""

    def __init__(self, shell: Shell, desk: Desk) -> None:
        super().__init__(shell, desk)
        self._drafts: dict[str, str] = {}
        self._saved: dict[str, str] = {}
        self._saving = False

    def keep_draft(self, place: str, text: str) -> None:
        """Keep what is being written, so that it survives this console; written a moment after the last key."""
        self._drafts[place] = text
        if not self._saving:
            self._saving = True
            self._desk.spawn(self._save_drafts())

    def restore_draft(self, place: str, put: Callable[[str], None]) -> None:
        """Give back what was being written at a place, if anything."""

        def take(answer: dict[str, Any]) -> None:
            if answer["value"] and place not in self._drafts:
                put(answer["value"])

        if place in self._drafts:
            put(self._drafts[place])
        else:
            self.fetch_quietly("get_preference", take, key=f"draft:{place}")

    async def flush_drafts(self) -> None:
        """Write what is not written yet: the console ends."""
        from backend.schema.errors import TektonError

        for place in list(self._drafts):
            text = self._drafts[place]
            if self._saved.get(place, "") != text:
                try:
                    await self._desk.call("put_preference", key=f"draft:{place}", value=text or None)
                except TektonError:
                    return  # a draft is kept here until the backend is back
                self._saved[place] = text

    async def _save_drafts(self) -> None:
        await asyncio.sleep(DRAFT_DELAY_S)
        self._saving = False
        await self.flush_drafts()
