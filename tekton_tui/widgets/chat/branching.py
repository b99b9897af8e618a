"""Which of a conversation's branches is shown, and behind which question the next one stands."""

from __future__ import annotations

from collections.abc import Sequence

from backend.schema.branches import START, Branches
from backend.schema.records import StoredMessage
from tekton_tui.safe_text import one_line
from tekton_tui.transcript import Entry

FROM_CELLS = 32
"""Of the question that a branch goes on from."""
WRITES_ANEW = "writes it anew: a branch · empty it to go on here"
"""What the composer says below such a question."""


class Branching:
    """The messages that are loaded, of all branches, and the way through them that is shown."""

    def __init__(self) -> None:
        self._messages: list[StoredMessage] = []
        self._branches = Branches([])
        self._tip = ""
        """The newest question of a branch that was gone to; empty for the newest of all."""
        self._step: tuple[str, int] | None = None
        self.rewritten = ""
        """Behind which question the one stands that is being written anew; empty while none is."""

    def load(self, messages: Sequence[StoredMessage]) -> None:
        """Take the newest messages in the place of all."""
        self._messages = list(messages)
        self._branches = Branches(messages)
        # the step is taken on what was read just now: another console may have made a branch since it was asked for
        if self._step is not None:
            (request_id, step), self._step = self._step, None
            others = self._branches.beside(request_id) if request_id in self._branches else []
            if others:
                self._tip = self._branches.tip_of(others[(others.index(request_id) + step) % len(others)])
        if self._tip not in self._branches or self._tip == self._branches.newest:
            self._tip = ""

    def prepend(self, messages: Sequence[StoredMessage]) -> None:
        self._messages[:0] = messages
        self._branches = Branches(self._messages)

    def on_way(self, messages: Sequence[StoredMessage]) -> list[StoredMessage]:
        """Return those of the loaded messages that are shown."""
        return self._branches.on_way(messages, self._tip or self._branches.newest)

    def mark(self, entries: Sequence[Entry]) -> None:
        """Say at each question beside which others stand which of them it is."""
        texts = {message.request_id: message.content for message in self._messages if message.role == "user"}
        for entry in entries:
            request_id = entry.key.removeprefix("ask:")
            if entry.kind != "user" or request_id not in self._branches:
                continue
            others = self._branches.beside(request_id)
            if len(others) > 1:
                before = texts.get(self._branches.before(request_id), "")
                source = f"“{one_line(before, FROM_CELLS)}”" if before else "the beginning"
                place = others.index(request_id) + 1
                entry.branch = f"↳ branch {place} of {len(others)} · {{ }} others · from {source}"

    def go(self, entries: Sequence[Entry], current: Entry, step: int) -> bool:
        """Have the next `load` go to the branch before or after the nearest one above; return whether there is one."""
        at = next((place for place, entry in enumerate(entries) if entry is current), len(entries) - 1)
        above = [entry for entry in entries[: at + 1] if entry.branch]
        found = above[-1:] or [entry for entry in entries if entry.branch][:1]
        if found:
            self._step = (found[0].key.removeprefix("ask:"), step)
        return bool(found)

    def show_newest(self) -> None:
        """Go to the newest branch: a question has begun it."""
        self._tip = ""

    @property
    def after(self) -> str:
        """Behind which question the next one stands; empty for the newest."""
        return self.rewritten or self._tip


def place_of(entries: Sequence[Entry], key: str) -> str:
    """Return the question behind which one stands, for another that takes its place; empty when it is not loaded."""
    before = START
    for entry in entries:
        if entry.kind == "user":
            if entry.key == f"ask:{key.removeprefix('ask:')}":
                return before
            before = entry.key.removeprefix("ask:")
    return ""


def prompt_of(entries: Sequence[Entry], key: str) -> str:
    """Return the question that a message answers, or the question itself; empty when it is not loaded."""
    asked = f"ask:{key.removeprefix('ask:')}"
    return next((entry.text for entry in entries if entry.key == asked), "")
