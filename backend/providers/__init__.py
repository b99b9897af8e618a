"""Providers: how a model is asked. Importing this package is cheap; a vendor's library comes with its provider.

Every worker imports it before it serves, so the settings are imported only when a provider is made.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from backend.deadlines import loop_timeout
from backend.providers.base import Provider, ProviderFault
from backend.schema.errors import TektonError

if TYPE_CHECKING:
    from backend.config import Settings
    from backend.home import Home

PREPARE_TIMEOUT_S = 60.0
"""How long a provider may take to import its library: seconds of CPU, on a machine that has other work, too."""


def create(kind: str, settings: Settings, home: Home, environment: Mapping[str, str]) -> Provider:
    """Make a provider, not yet prepared; only the module of this kind is imported.

    Raises:
        ConfigError: There is no such provider, or its package is broken; `auto` is resolved by `choose` before.
    """
    from backend.config import find_provider

    info = find_provider(kind)
    return info.make(info.own(settings), home, environment)


@asynccontextmanager
async def opened(
    kind: str,
    settings: Settings,
    home: Home,
    environment: Mapping[str, str],
    *,
    within_s: float | None = None,
) -> AsyncGenerator[Provider]:
    """Make and prepare a provider for a few questions, and close it after them.

    The questions may take `within_s` seconds together. Importing the provider's library does not count: that is our
    time, and whoever is asked could not answer in it.

    Raises:
        TektonError: It cannot be used as configured, or a question failed. An error of any other class, which a
            provider must not raise, becomes a `ProviderFault` that names it.
        TimeoutError: The questions were not answered within `within_s`.
    """
    provider = create(kind, settings, home, environment)
    try:
        await _prepare(provider, kind)
        async with loop_timeout(within_s):
            yield provider
    except (TektonError, TimeoutError):
        raise
    except Exception as error:
        raise ProviderFault(f"the provider {kind!r} failed: {type(error).__name__}: {error}") from error
    finally:
        await provider.aclose()


async def _prepare(provider: Provider, kind: str) -> None:
    try:
        async with loop_timeout(PREPARE_TIMEOUT_S):
            await provider.prepare()
    except TimeoutError as error:
        raise ProviderFault(f"the provider {kind!r} was not ready within {PREPARE_TIMEOUT_S:g} s") from error


__all__ = ["Provider", "create", "opened"]
