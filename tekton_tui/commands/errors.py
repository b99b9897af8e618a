"""Commands on the error log."""

from __future__ import annotations

from backend.schema.params import AcknowledgeErrors, ListErrors
from tekton_tui.commands.navigator import Navigator
from tekton_tui.runtime.controller import Controller

LOADED_ERRORS = 500


class ErrorCommands:
    """Reads the error log and acknowledges its entries."""

    def __init__(self, controller: Controller, navigator: Navigator) -> None:
        self._controller, self._navigator = controller, navigator
        self._store = controller.stores.errors

    def load(self) -> None:
        """Read the error log; errors that are new after this come as events."""
        version = self._store.version
        self._controller.request(
            ListErrors(limit=LOADED_ERRORS),
            lambda listed: self._store.load(listed.errors, listed.unacknowledged, version),
            quiet=True,
        )

    def acknowledge(self, ids: list[int]) -> None:
        """Mark errors as seen."""
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
