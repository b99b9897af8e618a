"""Tool calls that wait for a person."""

from __future__ import annotations

from backend.schema.events import AskClosed
from backend.schema.tools import Ask
from tekton_tui.stores.signal import Signal

KEPT = 200


class AskStore:
    """Asks by id, the oldest first. `changed` is emitted after every change, `opened` and `closed` with what it was."""

    def __init__(self) -> None:
        self.asks: dict[str, Ask] = {}
        self.answered: dict[str, AskClosed] = {}
        """What was answered or became void of late: the queue may not have said so yet."""
        self.given: dict[str, str] = {}
        """What was answered at this console, in a word, until the backend says what became of it."""
        self.changed: Signal[[]] = Signal()
        self.opened: Signal[[Ask]] = Signal()
        self.closed: Signal[[AskClosed]] = Signal()

    def load(self, asks: list[Ask]) -> None:
        """Take what waits now, in the place of what was known."""
        self.asks = {ask.id: ask for ask in asks}
        self.given = {name: word for name, word in self.given.items() if name in self.asks}
        self.changed.emit()

    def give(self, ask_id: str, word: str) -> None:
        """Note what was answered here; an empty word takes it back."""
        if word:
            self.given[ask_id] = word
        else:
            self.given.pop(ask_id, None)
        self.changed.emit()

    def put(self, ask: Ask) -> None:
        known = ask.id in self.asks
        self.asks[ask.id] = ask
        self.changed.emit()
        if not known:
            self.opened.emit(ask)

    def close(self, event: AskClosed) -> None:
        self.answered[event.id] = event
        while len(self.answered) > KEPT:
            # a dict keeps the order of insertion: its first key is the oldest
            del self.answered[next(iter(self.answered))]
        self.asks.pop(event.id, None)
        self.given.pop(event.id, None)
        self.changed.emit()
        self.closed.emit(event)


def how_closed(event: AskClosed) -> str:
    """Return who answered a call and how, or that nobody did: its turn ended, or no time was left."""
    who = event.ai_id.removesuffix("-ai")
    if event.by in ("", "nobody"):
        return f"{who}: the call waits no more"
    verdict = {"allow": "allowed", "deny": "denied"}.get(event.verdict, event.verdict)
    return f"{who}: {verdict} by {event.by}"
