"""Which of our environment variables a child process gets: an allow-list, and the one key its provider needs.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from backend.config import Settings, find_provider

ALLOWED = frozenset(
    {
        "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TERM",
        "PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "VIRTUAL_ENV", "LD_LIBRARY_PATH",
        "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME",
        "TEKTON_HOME", "TEKTON_LOG_FORMAT",
    }
)  # fmt: skip
PREFIXES = ("LC_",)
PROXIES = frozenset(
    name
    for upper in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
    for name in (upper, upper.lower())
)
"""Given only for providers that leave the machine."""


def allowed(environment: Mapping[str, str], provider: str, settings: Settings) -> dict[str, str]:
    """Return the environment of a worker that uses `provider`, by variable name."""
    info = find_provider(provider)
    own = [re.compile(re.escape(name).replace(r"\*", ".*")) for name in info.environment]
    names = {name for name in environment if name in ALLOWED or name.startswith(PREFIXES)}
    names |= {name for name in environment if any(pattern.fullmatch(name) for pattern in own)}
    names |= {info.key_variable(settings)} | (PROXIES if info.remote else frozenset[str]())
    return {name: environment[name] for name in sorted(names) if name in environment}


def allowed_for_agent(environment: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """Return the environment of a worker whose agent may see the variables `names`; no key of ours is among them."""
    wanted = ALLOWED | set(names)
    return {
        name: value
        for name, value in sorted(environment.items())
        if name in wanted or name.startswith(PREFIXES)
    }


def extra_keys(environment: Mapping[str, str], provider: str, settings: Settings) -> dict[str, str]:
    """Return the variables that a worker started for another provider lacks, to use this one."""
    info = find_provider(provider)
    names = {info.key_variable(settings)} | (PROXIES if info.remote else frozenset[str]())
    return {name: environment[name] for name in sorted(names) if environment.get(name)}
