"""Readings of one place on the screen: of those that overlap the newest alone counts. Knows nothing of what is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from textual.widget import Widget

from backend.schema.params import Params
from tekton_tui.runtime.controller import Controller
from tekton_tui.stores import Stores

R = TypeVar("R")


class Rereading:
    """Has a place read what it shows whenever the backend has said anew what there is: at first, and behind each gap of events.

    A place that is not on the screen then reads when it is shown: over a slow line what is looked at comes first.
    """

    def __init__(self, widget: Widget, stores: Stores, read: Callable[[], None]) -> None:
        self._widget, self._stores, self._read, self._due = widget, stores, read, False

    def begin(self) -> None:
        """Read, unless the backend has not answered yet; to be called once the place is mounted."""
        self._stores.turns.reloaded.subscribe_widget(self._widget, self.again)
        if self._stores.fleet.platform is not None:
            self._read()

    def again(self) -> None:
        """Read at once where the place is on the screen, else when it is shown."""
        self._due = True
        if self._widget.is_on_screen:
            self.shown()

    def shown(self) -> None:
        """Read what is due, now that the place is on the screen."""
        if self._due:
            self._due = False
            self._read()

    def failed(self) -> None:
        """Read again when the place is shown next: it could not be read."""
        self._due = True


class Latest:
    """What was asked of the backend for one place; an answer is passed on only if nothing was asked after it."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._asked = 0
        self._open = False

    @property
    def under_way(self) -> bool:
        """Whether the newest request has no answer yet."""
        return self._open

    def request(
        self,
        params: Params[R],
        then: Callable[[R], None],
        *,
        otherwise: Callable[[], None] | None = None,
        quiet: bool = False,
    ) -> None:
        """Call an action as `Controller.request` does; `then` or `otherwise` is called only while this is the newest."""
        self._asked += 1
        self._open = True
        number = self._asked

        def came(result: R) -> None:
            if self._closes(number):
                then(result)

        def failed() -> None:
            if self._closes(number) and otherwise is not None:
                otherwise()

        self._controller.request(params, came, otherwise=failed, quiet=quiet)

    def forget(self) -> None:
        """Pass on no answer of what was asked so far: its place shows something else now."""
        self._asked += 1
        self._open = False

    def _closes(self, number: int) -> bool:
        """Return whether a request is the newest; it then has its answer."""
        newest = number == self._asked
        if newest:
            self._open = False
        return newest
