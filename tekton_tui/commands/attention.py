"""Commands on what waits for the operator (acknowledge, snooze, say that it was seen) and on the error log."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from backend.schema.attention import AttentionItem
from backend.schema.params import (
    AcknowledgeAttention,
    AcknowledgeErrors,
    ListErrors,
    MarkSeen,
    Params,
    SnoozeAttention,
)
from backend.schema.results import AttentionList
from tekton_tui.commands.navigator import Navigator
from tekton_tui.commands.undo import Undo
from tekton_tui.runtime.controller import Controller

LOADED_ERRORS = 500
SNOOZES = (("600", "10 minutes", ""), ("3600", "an hour", ""), ("28800", "8 hours", "until the evening, say"))


class AttentionCommands:
    """What is done here holds on every console."""

    def __init__(self, controller: Controller, navigator: Navigator, undo: Undo) -> None:
        self._controller, self._navigator, self._undo = controller, navigator, undo
        self._store = controller.stores.attention

    def acknowledge(self, items: Sequence[AttentionItem]) -> None:
        """Say that these have been seen."""
        ids = [item.id for item in items if item.kind != "asks"]
        if ids:
            self._request(AcknowledgeAttention(ids))

    def acknowledge_all(self) -> None:
        """Say that all that is open has been seen, after a yes; questions stay."""
        items = [item for item in self._store.open() if item.kind != "asks"]
        if items:
            self._navigator.confirm(
                "Acknowledge",
                f"This marks {len(items)} as seen, on every console:",
                [f"{item.who.removesuffix('-ai')}: {item.short}" for item in items],
                "Acknowledge",
                lambda: self.acknowledge(items),
            )
        else:
            self._controller.notify("nothing waits to be seen")

    def snooze(self, item: AttentionItem) -> None:
        """Ask for how long and put an item away; one that is away comes back at once."""
        if item.snoozed_until:
            self._request(SnoozeAttention([item.id], 0.0))
            return

        def put_away(seconds: str) -> None:
            self._request(SnoozeAttention([item.id], float(seconds)))
            self._undo.offer(
                f"snoozed {item.who.removesuffix('-ai')}",
                lambda: self._request(SnoozeAttention([item.id], 0.0)),
            )

        self._navigator.choose("Snooze for", SNOOZES, put_away)

    def seen(self, who: str) -> None:
        """Say that all answers of a specialist, or of the `team`, are on the screen."""
        if who in self._store.unread():
            self._request(MarkSeen(who=[who]), quiet=True)

    def turn_seen(self, request_id: str) -> None:
        """Say that the answer of one turn has been seen."""
        self._request(MarkSeen(requests=[request_id]), quiet=True)

    def open(self, item: AttentionItem) -> None:
        """Go to where an item can be dealt with."""
        if item.who == "team" and item.kind == "done":
            self._navigator.open_team_answer(item.session_id, item.request_id)
        elif item.who == "team":
            self._navigator.open_team()
        elif item.kind in ("asks", "stalled", "done") and item.who in self._controller.stores.fleet.rows:
            self._navigator.open_chat(item.who, item.session_id)
        elif item.kind == "down":
            self._navigator.go_to_specialist(item.who)
        elif item.kind == "error":
            self._navigator.open_errors(item.who)
        else:
            self._navigator.show("fleet")

    def _request(self, params: Params[AttentionList], *, quiet: bool = False) -> None:
        """Change the queue; its answer is the whole of it, and counts unless the backend has told of a change meanwhile."""
        version = self._store.version

        def took(queue: AttentionList) -> None:
            if self._store.version == version:
                self._store.load(queue.items)

        self._controller.request(params, took, quiet=quiet)


class ErrorCommands:
    """Reads the error log and acknowledges its entries."""

    def __init__(self, controller: Controller, navigator: Navigator) -> None:
        self._controller, self._navigator = controller, navigator
        self._store = controller.stores.errors

    def load(self, otherwise: Callable[[], None] | None = None) -> None:
        """Read the error log; errors that are new after this come as events. `otherwise` is called where that fails."""
        version = self._store.version
        self._controller.request(
            ListErrors(limit=LOADED_ERRORS),
            lambda listed: self._store.load(listed.errors, listed.unacknowledged, version),
            otherwise=otherwise,
        )

    def acknowledge(self, ids: list[int]) -> None:
        self._controller.request(AcknowledgeErrors(ids=ids))

    def acknowledge_all(self) -> None:
        """Mark all errors as seen, after a yes."""
        if count := self._store.unacknowledged:
            self._navigator.confirm(
                "Acknowledge",
                f"This marks {count} errors as seen.",
                [],
                "Acknowledge",
                lambda: self._controller.request(AcknowledgeErrors(all=True)),
            )
