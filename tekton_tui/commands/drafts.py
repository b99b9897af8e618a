"""Keeps texts that are being written, so that they survive the console."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
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
        self._kept: dict[str, str] | None = None
        """What the file holds; `None` before it was read."""
        self._drafts: dict[str, str] = {}
        self._saved: dict[str, str] = {}
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
        if place not in self._drafts and (kept := self._read().get(place)):
            self.keep(place, kept)
        if place in self._drafts:
            put(self._drafts[place])
        else:
            self._ask(place, put)

    def _ask(self, place: str, put: Callable[[str], None]) -> None:
        def loaded(stored: Preference) -> None:
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

        if self._drafts.get(place) or self._read().get(place):
            then()
        else:
            self._controller.request(GetPreference(f"draft:{place}"), put, otherwise=put, quiet=True)

    async def flush(self) -> None:
        """Save what is not saved yet: at the backend, or in a file of this home while there is none."""
        unsaved = {place: text for place, text in self._drafts.items() if self._saved.get(place, "") != text}
        for place, text in list(unsaved.items()):
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
            del unsaved[place]
        # the file is written last: it holds only what did not arrive
        self._write({**self._read(), **unsaved}, gone=self._saved)

    def _read(self) -> dict[str, str]:
        if self._kept is None:
            self._kept = {}
            if self._path is not None:
                # a draft is a convenience: a broken file of them must not keep the console from starting
                with suppress(OSError, ValueError, TypeError):
                    stored = json.loads(self._path.read_bytes())
                    self._kept = {str(place): str(text) for place, text in stored.items()}
        return self._kept

    def _write(self, kept: dict[str, str], gone: Mapping[str, str]) -> None:
        """Write the file anew if it has to change; `gone` are places that the backend has now."""
        kept = {place: text for place, text in kept.items() if text and gone.get(place) != text}
        if self._path is None or kept == self._kept:
            return
        self._kept = kept
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
