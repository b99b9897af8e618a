"""Providers: how a model is asked. Importing this package is cheap; a vendor's library comes with its provider.

Every worker imports it before it serves, so the settings and the choice are imported only when they are used.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from backend.providers.base import Provider
from backend.providers.names import display_name

if TYPE_CHECKING:
    from backend.config import Settings
    from backend.home import Home
    from backend.providers.select import choose

CLASSES = {
    "ollama": ("backend.providers.ollama", "OllamaProvider"),
    "anthropic": ("backend.providers.anthropic", "AnthropicProvider"),
    "openai": ("backend.providers.openai", "OpenAIProvider"),
    "embedded": ("backend.providers.embedded", "EmbeddedProvider"),
    "scripted": ("backend.providers.scripted", "ScriptedProvider"),
}
"""Module and class of each kind, imported when first made."""


def create(kind: str, settings: Settings, home: Home, environment: Mapping[str, str]) -> Provider:
    """Make a provider, not yet prepared; only the module of this kind is imported.

    Raises:
        KeyError: There is no such kind; `auto` is resolved by `choose` before.
    """
    module, name = CLASSES[kind]
    return getattr(import_module(module), name)(settings, home, environment)


def __getattr__(name: str) -> Any:
    if name == "choose":
        from backend.providers.select import choose

        return choose
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["CLASSES", "Provider", "choose", "create", "display_name"]
