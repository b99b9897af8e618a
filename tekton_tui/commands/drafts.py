"""Keeps texts that are being written, so that they survive the console."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from backend.schema.errors import TektonError
from backend.schema.params import GetPreference, PutPreference
from backend.schema.results import Preference
from tekton_tui.runtime.controller import Controller
from tekton_tui.runtime.preferences import write_private

SAVE_DELAY_S = 1.0
"""Time between a key and the write of the draft."""
SAVE_LIMIT_S = 1.0
"""How long the backend may take to keep a draft before it is kept here."""


class Drafts:
    """Texts not sent yet, by the place they are written at: a specialist's id or `team`."""

    def __init__(self, controller: Controller, path: Path | None = None) -> None:
        """`path` is a file for what the backend could not be given; `None` keeps nothing there."""
        self._controller, self._path = controller, path
        self._drafts: dict[str, str] = {}
        """What is being written here, by place; empty for what was sent or deleted."""
        self._saved: dict[str, str | None] = {}
        """What the backend has of it, `None` where that is not known; nothing where it was not asked."""
        self._saving = False
        self._unread: dict[str, Callable[[str], None]] = {}
        """Who is to be given what the backend keeps for a place, where that could not be read. Nothing is saved over it."""
        controller.stores.turns.reloaded.subscribe(self._read_again)
        self.offered: dict[str, tuple[str, bool]] = {}
        """First questions that nobody has seen yet, by place, and whether they are the operator's own."""

    def keep(self, place: str, text: str) -> None:
        """Keep what is being written; it is saved a moment later."""
        self._drafts[place] = text
        if not self._saving:
            self._saving = True
            self._controller.spawn(self._save_later())

    def restore(self, place: str, put: Callable[[str], None]) -> None:
        """Call `put` with what was being written at a place, if anything was: later, where the backend cannot be asked now."""
        # what could not be given to the backend is newer than what it has
        if place not in self._drafts and (kept := self._in_file().get(place)) is not None:
            self._saved[place] = None
            self.keep(place, kept)
        if place not in self._drafts:
            self._ask(place, put)
        elif self._drafts[place]:
            put(self._drafts[place])

    def _ask(self, place: str, put: Callable[[str], None]) -> None:
        def loaded(stored: Preference) -> None:
            self._saved[place] = stored.value if isinstance(stored.value, str) else ""
            if isinstance(stored.value, str) and stored.value:
                put(stored.value)
            if place in self._drafts:  # written meanwhile, and not saved yet
                self.keep(place, self._drafts[place])

        self._controller.request(
            GetPreference(f"draft:{place}"),
            loaded,
            otherwise=lambda: self._unread.update({place: put}),
            quiet=True,
        )

    def _read_again(self) -> None:
        unread, self._unread = self._unread, {}
        for place, put in unread.items():
            self._ask(place, put)

    def offer(self, place: str, text: str, then: Callable[[], None], *, own: bool = False) -> None:
        """Have a text stand at a place where nothing is being written, and call `then`; `own` is one the operator wrote."""

        def put(stored: Preference | None = None) -> None:
            if stored is None or not stored.value:
                self.keep(place, text)
                self.offered[place] = (text, own)
            then()

        if self._drafts.get(place) or self._in_file().get(place):
            then()
        else:
            self._controller.request(GetPreference(f"draft:{place}"), put, otherwise=put, quiet=True)

    def _unsaved(self) -> dict[str, str]:
        return {place: text for place, text in self._drafts.items() if self._saved.get(place, "") != text}

    async def flush(self) -> None:
        """Save what is not saved yet: at the backend, or in a file of this home while there is none."""
        for place, text in self._unsaved().items():
            if place in self._unread:
                continue
            try:
                if not self._controller.connected:  # nothing waits here until there is a backend
                    break
                async with asyncio.timeout(SAVE_LIMIT_S):
                    await self._controller.call(PutPreference(f"draft:{place}", text or None))
            except (TektonError, TimeoutError):
                break
            self._saved[place] = text
        # the file is written last: it holds only what did not arrive
        self._write()

    def _in_file(self) -> dict[str, str]:
        """Return what the file holds: what consoles of this home could not give to the backend."""
        # a draft is a convenience: a broken file of them must not keep the console from starting
        with suppress(OSError, ValueError, AttributeError):
            if self._path is not None:
                stored = json.loads(self._path.read_bytes())
                return {str(place): str(text) for place, text in stored.items()}
        return {}

    def _write(self) -> None:
        """Write the file anew if it has to change; what other consoles keep there stays."""
        if self._path is None:
            return
        before = self._in_file()
        kept = {place: text for place, text in before.items() if place not in self._drafts} | self._unsaved()
        if kept == before:
            return
        try:
            if kept:
                write_private(self._path, json.dumps(kept).encode())
            else:
                self._path.unlink(missing_ok=True)
        except OSError as error:
            self._controller.notify(
                f"what you write is not kept: {self._path}: {error.strerror}", failed=True
            )

    async def _save_later(self) -> None:
        await asyncio.sleep(SAVE_DELAY_S)
        self._saving = False
        await self.flush()
