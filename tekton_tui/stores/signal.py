"""Typed signals: how stores notify their listeners of a change. Plain Python, without widgets.

Textual's own `Signal` needs a widget as its owner; a store has none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, ParamSpec

if TYPE_CHECKING:
    from textual.widget import Widget

P = ParamSpec("P")


class Signal(Generic[P]):
    """Calls its listeners in the order they subscribed.

    An exception of a listener reaches neither the other listeners nor the store: the running loop's exception handler
    gets it. Without a running loop it is raised.
    """

    def __init__(self) -> None:
        self._listeners: list[Callable[P, None]] = []

    def subscribe(self, listener: Callable[P, None]) -> Callable[[], None]:
        """Call `listener` at every `emit`; the returned function ends the subscription."""
        self._listeners.append(listener)

        def unsubscribe() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return unsubscribe

    def subscribe_widget(self, widget: Widget, listener: Callable[P, None]) -> None:
        """Call `listener` at every `emit` until `widget` is removed from the screen."""

        def while_mounted(*args: P.args, **kwargs: P.kwargs) -> None:
            # A widget that is being removed has lost its children already: a listener would query them in vain.
            if widget._pruning:  # pyright: ignore[reportPrivateUsage] - Textual's own signals look at it as well
                unsubscribe()
            else:
                listener(*args, **kwargs)

        unsubscribe = self.subscribe(while_mounted)

    def emit(self, *args: P.args, **kwargs: P.kwargs) -> None:
        # A copy: a listener may end its own subscription.
        for listener in list(self._listeners):
            try:
                listener(*args, **kwargs)
            # one listener that fails must not keep the others, nor the event, from going on
            except Exception as error:
                _report(listener, error)


def _report(listener: Callable[..., None], error: Exception) -> None:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        raise error from None
    loop.call_exception_handler({"message": f"{listener!r} failed", "exception": error})
