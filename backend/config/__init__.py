"""Settings: read once from a home's files and the environment, checked, immutable after.

`settings` declares them, `loading` reads them, `faults` finds the key that is wrong, `provider_kinds` knows which
providers there are and what each may be configured with.
"""

from __future__ import annotations

from backend.config.loading import load, origins, read_env_file, shown
from backend.config.origins import DEFAULT, Origin, lines_of, rows_of
from backend.config.provider_kinds import (
    AUTO,
    ProviderInfo,
    find_provider,
    is_provider,
    provider_kinds,
    provider_packages,
    provider_problems,
    providers,
    usable_provider,
)
from backend.config.settings import (
    Address,
    BareAddress,
    Budget,
    ConfigError,
    Console,
    Count,
    FileFault,
    FoundFiles,
    Gateway,
    KeyedSettings,
    Memory,
    Price,
    Providers,
    ProviderSettings,
    Seconds,
    Settings,
    SpecialistSettings,
    Table,
    Timeouts,
)

__all__ = [
    "AUTO",
    "DEFAULT",
    "Address",
    "BareAddress",
    "Budget",
    "ConfigError",
    "Console",
    "Count",
    "FileFault",
    "FoundFiles",
    "Gateway",
    "KeyedSettings",
    "Memory",
    "Origin",
    "Price",
    "ProviderInfo",
    "ProviderSettings",
    "Providers",
    "Seconds",
    "Settings",
    "SpecialistSettings",
    "Table",
    "Timeouts",
    "find_provider",
    "is_provider",
    "lines_of",
    "load",
    "origins",
    "provider_kinds",
    "provider_packages",
    "provider_problems",
    "providers",
    "read_env_file",
    "rows_of",
    "shown",
    "usable_provider",
]
