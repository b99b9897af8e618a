"""What a child process may see of our environment: an allow-list, and the one key its provider needs.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

from backend.config import Settings

ALLOWED = frozenset(
    {
        "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TERM",
        "PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "VIRTUAL_ENV", "LD_LIBRARY_PATH",
        "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME",
        "TEKTON_HOME", "TEKTON_ROOT", "TEKTON_LOG_FORMAT",
    }
)  # fmt: skip
PREFIXES = ("LC_",)
PROXIES = frozenset(
    name
    for upper in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
    for name in (upper, upper.lower())
)
"""Only for providers that leave the machine."""
REMOTE = frozenset({"anthropic", "openai", "ollama"})


def allowed(environment: Mapping[str, str], provider: str, settings: Settings) -> dict[str, str]:
    """Return the environment of a worker that uses `provider`."""
    names = {name for name in environment if name in ALLOWED or name.startswith(PREFIXES)}
    if provider in REMOTE:
        names |= PROXIES
    if provider == "scripted":
        names |= {name for name in environment if name.startswith("TEKTON_SCRIPTED_")}
    if key := key_name(provider, settings):
        names.add(key)
    return {name: environment[name] for name in sorted(names) if name in environment}


def lendable(environment: Mapping[str, str], provider: str, settings: Settings) -> dict[str, str]:
    """Return what a worker started for another provider lacks to use this one."""
    names = {key_name(provider, settings)} | (PROXIES if provider in REMOTE else frozenset[str]())
    return {name: environment[name] for name in sorted(names) if environment.get(name)}


def key_name(provider: str, settings: Settings) -> str:
    """Return the name of the environment key that holds a provider's secret, empty when it has none."""
    return getattr(getattr(settings.providers, provider, None), "api_key_env", "") or ""
