"""Where an API key lies: in the environment, or in a file only its owner can read. Keys are never logged."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from backend.config import ConfigError
from backend.home import Home


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
