"""A list of functions to call when something changed; the whole of what stores know of widgets.

A listener that fails keeps neither the other listeners nor the store from going on: the running loop's exception handler
gets what it raised. Without a loop it is raised.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, ParamSpec

P = ParamSpec("P")


class Signal(Generic[P]):
    """Subscribe with a function; the answer takes it off again."""

    def __init__(self) -> None:
        self._listeners: list[Callable[P, None]] = []

    def subscribe(self, listener: Callable[P, None]) -> Callable[[], None]:
        """Call `listener` at every `emit` until the returned function is called."""
        self._listeners.append(listener)

        def leave() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return leave

    def emit(self, *args: P.args, **kwargs: P.kwargs) -> None:
        for listener in list(self._listeners):
            try:
                listener(*args, **kwargs)
            except Exception as error:
                _hand_over(listener, error)


def _hand_over(listener: Callable[..., None], error: Exception) -> None:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        raise error from None
    loop.call_exception_handler({"message": f"{listener!r} failed", "exception": error})
