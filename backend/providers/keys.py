"""Where an API key lies: in the environment, or in a file only its owner can read. Keys are never logged."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from backend.config import ConfigError, Settings
from backend.home import Home
from backend.providers.base import ProviderAuth
from backend.providers.sdk import split_user

OPENAI_API = "https://api.openai.com/v1"
"""The one server of its protocol that certainly wants a key."""

WITH_KEYS = frozenset({"anthropic", "openai", "ollama"})


class HasKey(Protocol):
    """Settings that say where a key is."""

    @property
    def api_key_env(self) -> str: ...

    @property
    def api_key_file(self) -> str | None: ...


def find_key(settings: HasKey, home: Home, environment: Mapping[str, str]) -> str:
    """Return the key, empty when none is set. The file outranks the environment; its path is relative to the home.

    Raises:
        ConfigError: The file is missing, or others can read it.
    """
    if settings.api_key_file is None:
        return environment.get(settings.api_key_env, "").strip()
    path = home.root / Path(settings.api_key_file).expanduser()
    try:
        mode = os.stat(path).st_mode
        if mode & 0o077:
            raise ConfigError(f"{path}: others can read this key file; run: chmod 600 {path}")
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(f"{path}: the key file cannot be read: {error.strerror}") from error


def key_for(kind: str, settings: Settings, home: Home, environment: Mapping[str, str]) -> str:
    """Return the key a provider of this kind is asked with; empty when none is set and none is needed.

    Raises:
        ProviderAuth: A key is needed and not there, or its file cannot be used.
    """
    own: HasKey | None = getattr(settings.providers, kind, None) if kind in WITH_KEYS else None
    if own is None:
        return ""
    try:
        key = find_key(own, home, environment)
    except ConfigError as error:
        raise ProviderAuth(error.message) from error
    if not key and kind == "anthropic":
        raise ProviderAuth(
            f"no key for Anthropic: set {own.api_key_env}, or providers.anthropic.api_key_file"
        )
    if (
        not key
        and kind == "openai"
        and split_user(settings.providers.openai.base_url or OPENAI_API)[0] == OPENAI_API
    ):
        raise ProviderAuth(
            f"no key for OpenAI: set {own.api_key_env}, or providers.openai.base_url for another server"
        )
    return key
