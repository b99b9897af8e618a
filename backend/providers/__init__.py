"""Providers: how a model is asked. Importing this package is cheap; a vendor's library comes with its provider.

Every worker imports it before it serves, so the settings are imported only when a provider is made.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from backend.providers.base import Provider, ProviderFault
from backend.schema.errors import TektonError

if TYPE_CHECKING:
    from backend.config import Settings
    from backend.home import Home


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
    kind: str, settings: Settings, home: Home, environment: Mapping[str, str]
) -> AsyncGenerator[Provider]:
    """Make and prepare a provider for a few questions, and close it after them.

    Raises:
        TektonError: It cannot be used as configured, or a question failed. An error of any other class, which a
            provider must not raise, becomes a `ProviderFault` that names it.
    """
    provider = create(kind, settings, home, environment)
    try:
        await provider.prepare()
        yield provider
    except (TektonError, TimeoutError):
        raise
    except Exception as error:
        raise ProviderFault(f"the provider {kind!r} failed: {type(error).__name__}: {error}") from error
    finally:
        await provider.aclose()


__all__ = ["Provider", "create", "opened"]
