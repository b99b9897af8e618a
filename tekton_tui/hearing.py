"""How a widget listens to stores: for as long as it is whole. Knows neither what is told nor who listens."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec

from textual.widget import Widget

from tekton_tui.stores.signal import Signal

P = ParamSpec("P")


def hear(widget: Widget, signal: Signal[P], listener: Callable[P, None]) -> Callable[[], None]:
    """Call `listener` at every `emit`, until the returned function is called or the widget is taken away.

    A widget that goes loses its children before it hears of it; what came in between would look for them in vain, and
    the failure would end the feed of all others.
    """

    def pass_on(*args: P.args, **kwargs: P.kwargs) -> None:
        if not widget._pruning:  # pyright: ignore[reportPrivateUsage] - as Textual's own signals ask
            listener(*args, **kwargs)

    return signal.subscribe(pass_on)
