"""Readings of one place on the screen: of those that overlap the newest alone counts. Knows nothing of what is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from backend.schema.params import Params
from tekton_tui.runtime.controller import Controller

R = TypeVar("R")


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
