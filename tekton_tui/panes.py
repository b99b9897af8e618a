"""The screens by name; each is imported when it is first shown, so that the first paint waits for none."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from textual.containers import Vertical

_PLACES = {
    "fleet": ("tekton_tui.screens.fleet", "FleetPane"),
    "chat": ("tekton_tui.screens.chat", "ChatPane"),
    "team": ("tekton_tui.screens.team", "TeamPane"),
    "pipes": ("tekton_tui.screens.pipes", "PipesPane"),
    "timeline": ("tekton_tui.screens.timeline", "TimelinePane"),
    "errors": ("tekton_tui.screens.errors", "ErrorsPane"),
    "gateway": ("tekton_tui.screens.gateway", "GatewayPane"),
    "sessions": ("tekton_tui.screens.sessions", "SessionsPane"),
}


def _maker(module: str, name: str) -> Callable[..., Vertical]:
    def make(*args: Any, **kwargs: Any) -> Vertical:
        return getattr(import_module(module), name)(*args, **kwargs)

    return make


PANES: dict[str, Callable[..., Vertical]] = {key: _maker(*place) for key, place in _PLACES.items()}
