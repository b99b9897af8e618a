"""Where an API key lies: in the environment, or in a file only its owner can read. Keys are never logged."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from backend.config import ConfigError, KeyedSettings, Settings, find_provider
from backend.home import Home
from backend.providers.base import ProviderAuth


def find_key(own: KeyedSettings, home: Home, environment: Mapping[str, str]) -> str:
    """Return the key, empty when none is set. The file outranks the environment; its path is relative to the home.

    Raises:
        ConfigError: The file is missing, or others can read it.
    """
    if own.api_key_file is None:
        return environment.get(own.api_key_env, "").strip()
    path = home.root / Path(own.api_key_file).expanduser()
    try:
        mode = os.stat(path).st_mode
        if mode & 0o077:
            raise ConfigError(f"{path}: others can read this key file; run: chmod 600 {path}")
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(f"{path}: the key file cannot be read: {error.strerror}") from error


def key_of(kind: str, own: KeyedSettings, home: Home, environment: Mapping[str, str]) -> str:
    """Return the key a provider of this kind is asked with; empty when none is set and none is needed.

    Raises:
        ProviderAuth: A key is needed and not there, or its file cannot be used.
    """
    try:
        key = find_key(own, home, environment)
    except ConfigError as error:
        raise ProviderAuth(error.message) from error
    missing = find_provider(kind).missing_key
    if not key and missing is not None and (why := missing(own)):
        raise ProviderAuth(why)
    return key


def check_key(kind: str, settings: Settings, home: Home, environment: Mapping[str, str]) -> None:
    """Check that a provider has the key it needs.

    Raises:
        ProviderAuth: A key is needed and not there, or its file cannot be used.
        ConfigError: There is no such provider, or its package is broken.
    """
    own = find_provider(kind).own(settings)
    if isinstance(own, KeyedSettings):
        key_of(kind, own, home, environment)
