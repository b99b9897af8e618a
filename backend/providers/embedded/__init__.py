"""The embedded model: its provider, the server behind it, its weights, and what makes the shipped one answer in role.

Importing this is cheap: the descriptor and the settings alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backend.config import ProviderInfo
from backend.home import Home
from backend.providers.embedded.settings import EmbeddedSettings


def _make(own: EmbeddedSettings, home: Home, environment: Mapping[str, str]) -> Any:
    from backend.providers.embedded.provider import EmbeddedProvider

    return EmbeddedProvider(own, home)


def _check(own: EmbeddedSettings, home: Home) -> None:
    from backend.providers.embedded.weights import find

    find(own, home)


def _default_model(own: EmbeddedSettings) -> str:
    from backend.providers.embedded.weights import model_name

    return model_name(own)


PROVIDER = ProviderInfo(
    kind="embedded",
    settings=EmbeddedSettings,
    make=_make,
    help="a model server of our own on this machine",
    fix="tekton models fetch",
    free=True,
    worker_bytes=8 << 20,
    check=_check,
    default_model=_default_model,
    display=lambda model: "SmolLM2 135M" if model == "SmolLM2-135M-Instruct.Q4_1" else "",
)

__all__ = ["PROVIDER", "EmbeddedSettings"]
