"""Read the settings of a home: `config.toml`, `.env.tekton` and the environment.

Strongest first: environment, `.env.tekton`, `config.toml`, the defaults. An error names file or variable, key, value
and what was expected. Starts nothing.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, cast

import msgspec
from msgspec.structs import replace

from backend.config.origins import lines_of
from backend.config.provider_kinds import (
    AUTO,
    BUILT_IN,
    is_provider,
    provider_kinds,
    providers,
    usable_provider,
)
from backend.config.settings import (
    ConfigError,
    FileFault,
    FoundFiles,
    Providers,
    Settings,
    SpecialistSettings,
)
from backend.config.specialist_files import read_files, scan
from backend.home import Home, HomeRefused, read_text
from backend.log import redact
from backend.schema.faults import Fault, find_fault, unknown_key
from backend.schema.variables import FLAG_VARIABLES, PORT_VARIABLES, TEXT_VARIABLES, misspelt

_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_TRUE, _FALSE = {"true", "1", "yes", "on"}, {"false", "0", "no", "off"}
_SECRET_KEY = re.compile(r"(?i)(?:key|token|secret|password)$")
_COMPONENT_PORT = re.compile(r"([A-Z][A-Z_]*)_PORT")


_PROVIDERS_OWN = tuple(name for name in Providers.__struct_fields__ if name != "tables")
"""Keys of `[providers]` that are no table of a provider."""


def load(
    home: Home, environment: Mapping[str, str] | None = None, *, files: Mapping[str, bytes] | None = None
) -> Settings:
    """Return the settings of a home; `files` stand for what its folder `specialists` holds.

    Raises:
        ConfigError: A file cannot be parsed, a key is unknown or has a wrong value, or a variable is misspelt.
    """
    table = _read_toml(home)
    _check_names(home, table)
    env = {**read_env_file(home), **(os.environ if environment is None else environment)}
    if wrong := misspelt(env):
        raise ConfigError(wrong)
    # into the table, before it is checked: a wrong variable is refused as a wrong key is
    origins = _apply_environment(table, env)
    own = table.get("providers")
    if isinstance(own, dict):
        own = cast(dict[str, object], own)
        if fault := _fault_in_tables(own):
            raise _refusal(home, origins, fault)
        keys = {key: value for key, value in own.items() if key in _PROVIDERS_OWN}
        tables = {kind: values for kind, values in own.items() if kind not in _PROVIDERS_OWN}
        table["providers"] = {**keys, "tables": tables}
    try:
        settings = msgspec.convert(table, Settings)
    except msgspec.ValidationError as error:
        fault = find_fault(table, Settings)
        raise _refusal(home, origins, fault or Fault("", None, str(error))) from error
    if fault := _fault_in_names(settings):
        raise _refusal(home, origins, fault)
    # last: a wrong file of a specialist is told beside working settings, it does not end them
    held = scan(home.specialists) if files is None else files
    return _with_files(_with_absolute_paths(settings, home), held)


def _with_files(settings: Settings, files: Mapping[str, bytes]) -> Settings:
    """Return settings with the specialists that stand in files; a broken file is a fault beside them."""
    found, faults = read_files(files)
    own: dict[str, SpecialistSettings] = {}
    for name, file in found.items():
        fault = _fault_in_names(Settings(specialists={name: file.own}))
        if name in settings.specialists:
            faults.append(
                FileFault(name, file.where, 1, f"config.toml has [specialists.{name}] already: keep one")
            )
        elif fault is not None:
            faults.append(
                FileFault(name, file.where, 1, f"provider: {fault.expected}; found {fault.value!r}")
            )
        else:
            own[name] = file.own
    where = {name: found[name].where for name in own}
    return replace(settings, files=FoundFiles(own, where, faults))


def _with_absolute_paths(settings: Settings, home: Home) -> Settings:
    """Return settings in which relative names of certificate files mean the home, whatever the current folder is."""
    tls = settings.tls
    files = {
        name: str(home.root / Path(path).expanduser())
        for name in ("cert", "key", "ca")
        if (path := getattr(tls, name))
    }
    return replace(settings, tls=replace(tls, **files)) if files else settings


def shown(settings: Settings) -> dict[str, Any]:
    """Return the settings in force as `config.toml` would hold them, the defaults of every provider included."""
    table: dict[str, Any] = msgspec.to_builtins(settings)
    table["specialists"] |= table.pop("files")["own"]
    own = {info.kind: msgspec.to_builtins(info.own(settings)) for info in providers()}
    keys = {name: getattr(settings.providers, name) for name in _PROVIDERS_OWN}
    return table | {"providers": {**keys, **own}}


def origins(home: Home, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return where keys that are set come from: `config.toml:12`, a specialist's file, `environment: NAME`.

    Raises:
        ConfigError: `config.toml` cannot be read.
    """
    table = _read_toml(home)
    env = {**read_env_file(home), **(os.environ if environment is None else environment)}
    lines = lines_of(_read(home.config)) if table else {}
    found = {key: f"{home.config.name}:{line}" for key, line in lines.items()}
    files = _with_files(Settings(), scan(home.specialists)).files
    found |= {f"specialists.{name}": where for name, where in files.where.items()}
    return found | _apply_environment(table, env)


def read_env_file(home: Home) -> dict[str, str]:
    """Return the `KEY=value` lines of `.env.tekton`; comments and quotes are taken off.

    Raises:
        ConfigError: A line is something else; the message names it.
    """
    if not home.env_file.exists():
        return {}
    pairs: dict[str, str] = {}
    for number, line in enumerate(_read(home.env_file).splitlines(), 1):
        text = line.strip().removeprefix("export ")
        if not text or text.startswith("#"):
            continue
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"{home.env_file}:{number}: expected KEY=value")  # the line may be a key
        pairs[key.strip()] = value.strip().strip("\"'")
    return pairs


def component_names() -> frozenset[str]:
    """Return the names and aliases of the shipped components: `<NAME>_PORT` sets the port of each."""
    # read as plain TOML: `backend.catalog` imports the settings and cannot be imported here
    text = resources.files("backend").joinpath("catalog.toml").read_text(encoding="utf-8")
    rows = tomllib.loads(text)["component"]
    return frozenset(name for row in rows for name in (row["name"], *row.get("aliases", ())))


def _read(path: Path) -> str:
    try:
        return read_text(path)
    except HomeRefused as error:
        raise ConfigError(error.message) from error


def _read_toml(home: Home) -> dict[str, object]:
    try:
        return tomllib.loads(_read(home.config))
    except FileNotFoundError:
        return {}
    except RecursionError as error:
        raise ConfigError(f"{home.config}: nested too deep. Correct the file or move it away.") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{home.config}: not valid TOML: {error}. Correct the file or move it away."
        ) from error


def _check_names(home: Home, table: dict[str, object]) -> None:
    if "port_overrides" in table:
        raise ConfigError(f"{home.config}: key 'port_overrides' is set by <COMPONENT>_PORT, not in the file")
    if "files" in table:
        raise ConfigError(f"{home.config}: key 'files': specialists of your own stand in {home.specialists}")
    known = [name for name in Settings.__struct_fields__ if name not in ("port_overrides", "files")]
    if unknown := [name for name in table if name not in known]:
        raise ConfigError(f"{home.config}: key {unknown[0]!r}: {unknown_key(unknown[0], known)}")
    own = table.get("specialists")
    for name in cast(dict[str, object], own) if isinstance(own, dict) else ():
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"{home.config}: key 'specialists.{name}': expected a name of small letters, digits and _, "
                "starting with a letter, at most 32 characters"
            )


def _apply_environment(table: dict[str, object], env: Mapping[str, str]) -> dict[str, str]:
    """Put the values of the environment over the table; return which key came from which variable."""
    origins: dict[str, str] = {}

    def put(path: str, value: object, name: str) -> None:
        *sections, key = path.split(".")
        where = table
        for section in sections:
            below = where.setdefault(section, {})
            if not isinstance(below, dict):
                return  # the file is wrong here, and validation says so
            where = cast(dict[str, object], below)
        where[key] = value
        origins[path] = f"environment: {name}"

    def number(name: str) -> int:
        try:
            return int(env[name])
        except ValueError as error:
            raise ConfigError(f"environment: {name}={env[name]!r}: expected a port number") from error

    for name, path in PORT_VARIABLES.items():
        if name in env:
            put(path, number(name), name)
    for name, path in TEXT_VARIABLES.items():
        if name in env:
            put(path, env[name], name)
    for name, path in _provider_variables(table).items():
        # an empty variable of a vendor is usual in shells and containers, and means that there is none
        if env.get(name):
            put(path, env[name], name)
    for name, path in FLAG_VARIABLES.items():
        if name in env:
            word = env[name].strip().lower()
            if word not in _TRUE | _FALSE:
                raise ConfigError(f"environment: {name}={word!r}: expected true or false")
            put(path, word in _TRUE, name)
    candidates = {found[1].lower(): name for name in env if (found := _COMPONENT_PORT.fullmatch(name))}
    for component in component_names() & candidates.keys() if candidates else ():
        put(f"port_overrides.{component}", number(candidates[component]), candidates[component])
    return origins


def _provider_variables(table: dict[str, object]) -> dict[str, str]:
    """Return which key each variable of a provider sets: of ours, and of those the file has a table for."""
    own = table.get("providers")
    kinds = dict.fromkeys((*BUILT_IN, *(cast(dict[str, object], own) if isinstance(own, dict) else ())))
    return {
        variable: f"providers.{kind}.{key}"
        for kind in kinds
        if kind not in _PROVIDERS_OWN and (info := usable_provider(kind)) is not None
        for variable, key in info.variables.items()
    }


def _fault_in_tables(own: dict[str, object]) -> Fault | None:
    """Return the first mistake in `[providers.…]`; the table of a broken package is left to whoever uses it."""
    for kind, values in own.items():
        if kind in _PROVIDERS_OWN:
            continue
        if not is_provider(kind):
            return Fault(f"providers.{kind}", values, unknown_key(kind, [*_PROVIDERS_OWN, *provider_kinds()]))
        if (info := usable_provider(kind)) is not None:
            if fault := find_fault(values, info.settings, f"providers.{kind}"):
                return fault
        elif not isinstance(values, dict):
            return Fault(f"providers.{kind}", values, "expected a table")
    return None


def _fault_in_names(settings: Settings) -> Fault | None:
    """Return the first place that names a provider nobody declares."""
    named = {f"specialists.{name}.provider": own.provider for name, own in settings.specialists.items()}
    for key, kind in {"providers.default": settings.providers.default, **named}.items():
        if kind is not None and kind != AUTO and not is_provider(kind):
            return Fault(key, kind, f"expected one of {', '.join((AUTO, *provider_kinds()))}")
    return None


def _refusal(home: Home, origins: Mapping[str, str], fault: Fault) -> ConfigError:
    """Say in which file or variable, at which key, what was expected, and what stands there instead."""
    where = origins.get(fault.key, str(home.config))
    found = redact(repr(fault.value))
    if _SECRET_KEY.search(fault.key):
        found = "a value that is not shown"
    return ConfigError(f"{where}: key '{fault.key}': {fault.expected}; found {found}")
