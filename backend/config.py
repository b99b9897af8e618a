"""Settings from `config.toml`, `.env.tekton` and the environment, read once, immutable after.

An error names file, key, value and what was expected. Knows no component table and starts nothing.
Order, strongest first: environment, `.env.tekton`, `config.toml`, the defaults below.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from typing import Annotated, Literal, cast

import msgspec
from msgspec import Meta, Struct

from backend.config_errors import find_fault
from backend.home import Home
from backend.schema.errors import TektonError
from backend.schema.records import Transport

ProviderKind = Literal["auto", "ollama", "anthropic", "openai", "embedded", "scripted"]
Port = Annotated[int, Meta(ge=0, le=65535)]
Seconds = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]
Currency = Annotated[str, Meta(pattern="^[A-Z]{3}$")]
"""Three capital letters, as in ISO 4217."""


class ConfigError(TektonError):
    """The configuration cannot be used. The message names file and key and says what was expected."""

    code = "config_invalid"


class _Table(Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the configuration file; unknown keys are errors, so that a typo is found."""


class Timeouts(_Table, frozen=True):
    """Seconds. `connect` to the upstream; `first_token` from request to first text; `between_tokens` after it.

    Passing `between_tokens` marks the turn as stalled and, when `cut_stalled` is set, ends it as `stalled`.
    """

    connect: Seconds = 5.0
    first_token: Seconds = 300.0
    between_tokens: Seconds = 15.0
    cut_stalled: bool = False


class OllamaSettings(_Table, frozen=True):
    """`context` in tokens is asked of Ollama with each chat, unless the model file names its own; 0 asks nothing.

    Left alone, Ollama cuts longer prompts without a word.
    """

    host: str = "http://127.0.0.1:11434"
    model: str = "llama3.3:70b"
    context: Annotated[int, Meta(ge=0)] = 8192
    api_key_env: str = "OLLAMA_API_KEY"
    api_key_file: str | None = None
    max_tokens: Count | None = None
    max_concurrency: Count = 4
    timeouts: Timeouts = Timeouts()


class AnthropicSettings(_Table, frozen=True):
    model: str = "claude-sonnet-5-5"
    base_url: str | None = None
    api_key_env: str = "ANTHROPIC_API_KEY"
    api_key_file: str | None = None
    max_tokens: Count = 4096
    max_concurrency: Count = 8
    timeouts: Timeouts = Timeouts()


class OpenAISettings(_Table, frozen=True):
    """`send_temperature` false for models that refuse one. `context` in tokens for servers that do not say theirs."""

    send_temperature: bool = True
    context: Count = 8192
    base_url: str | None = None
    model: str = ""
    api_key_env: str = "OPENAI_API_KEY"
    api_key_file: str | None = None
    max_tokens: Count | None = None
    max_concurrency: Count = 8
    timeouts: Timeouts = Timeouts()


class EmbeddedSettings(_Table, frozen=True):
    """The built-in model. Zeros mean: sized to this machine and to the catalogue. `context` is per slot, tokens."""

    gguf: str | None = None
    threads: Annotated[int, Meta(ge=0)] = 0
    slots: Annotated[int, Meta(ge=0)] = 0
    context: Annotated[int, Meta(ge=512)] = 2048
    max_tokens: Count = 120
    temperature: float = 0.3
    max_concurrency: Count = 1
    """Turns at a time of one specialist: it has one slot, where its prompt cache lies."""
    timeouts: Timeouts = Timeouts()


class ScriptedSettings(_Table, frozen=True):
    """For tests and demos: how the scripted provider behaves. `script` names a TOML file of behaviours."""

    script: str | None = None
    max_concurrency: Count = 64
    timeouts: Timeouts = Timeouts()


class Providers(_Table, frozen=True):
    default: ProviderKind = "auto"
    ollama: OllamaSettings = OllamaSettings()
    anthropic: AnthropicSettings = AnthropicSettings()
    openai: OpenAISettings = OpenAISettings()
    embedded: EmbeddedSettings = EmbeddedSettings()
    scripted: ScriptedSettings = ScriptedSettings()


class Gateway(_Table, frozen=True):
    """`port` unset: the catalogue's port of rhetor. Another host than loopback needs a token of 32 characters."""

    host: str = "127.0.0.1"
    port: Port | None = None
    allowed_hosts: list[str] = []
    allowed_origins: list[str] = []
    max_body_bytes: Count = 8 * 1024 * 1024
    max_connections: Count = 200
    """WebSockets open at once."""
    max_streams: Count = 64
    keep_alive_s: Seconds = 15.0
    max_open: Count = 1_000
    """Connections of every kind the listener holds."""
    head_timeout_s: Annotated[float, Meta(gt=0)] = 10.0
    """How long a client may take for a request's head, and be silent in the middle of its body."""


class Ports(_Table, frozen=True):
    """`profile` names a port table of the catalogue; `free` lets the system choose every port."""

    profile: Literal["default", "original", "chorus", "free"] = "default"
    base: Port = 8000
    ai_base: Port = 45000


class Fleet(_Table, frozen=True):
    starter: list[str] = msgspec.field(default_factory=lambda: ["numa", "rhetor", "apollo", "athena"])
    lifecycle_on: bool = True
    max_specialists: Count = 40
    ready_timeout_s: Seconds = 15.0
    stop_grace_s: Seconds = 3.0
    unresponsive_after_s: Seconds = 12.0
    memory_reserve_mib: Annotated[int, Meta(ge=0)] = 256


class Cluster(_Table, frozen=True):
    """`address` of a Ray cluster's head (`HOST:6379`) places specialists on its nodes; empty: on this machine."""

    address: str = ""
    ready_timeout_s: Seconds = 60.0
    silent_after_s: Seconds = 2.0
    """A specialist on another host that does not answer this long is shown as lost, and its turn ends."""


class Tls(_Table, frozen=True):
    """Files (PEM) for the sockets that lie beyond loopback: the gateway's and, on their nodes, the specialists'.

    `ca` signs what the gateway believes of specialists; `name` is what their certificates carry instead of a node's
    address. On a node `TEKTON_TLS_CERT` and `TEKTON_TLS_KEY` may name other files.
    """

    cert: str = ""
    key: str = ""
    ca: str = ""
    name: str = ""


class Memory(_Table, frozen=True):
    """`retention_days` 0 keeps everything; sessions untouched for `compress_after_days` are compressed.

    `store` names a Redis server (`redis://HOST:PORT/DATABASE`) instead of the file in the home. `volatile_store`
    accepts one that keeps nothing on disk.
    """

    store: str = ""
    volatile_store: bool = False
    retention_days: Annotated[int, Meta(ge=0)] = 0
    compress_after_days: Annotated[int, Meta(ge=0)] = 30
    hint_results: Annotated[int, Meta(ge=0, le=20)] = 3


class Budget(_Table, frozen=True):
    """Limits a day; 0 is no limit. Over the limit a turn is refused before the call.

    `cost_per_day` is in `currency`; what is spent in another one is told, and does not count.
    """

    tokens_per_day: Annotated[int, Meta(ge=0)] = 0
    cost_per_day: Annotated[float, Meta(ge=0)] = 0.0
    currency: Currency = "USD"


class Price(_Table, frozen=True):
    """Price for a million tokens, overriding the shipped table.

    `cached` is for input read from the upstream's prompt cache, `written` for input put into it; unset they cost a
    tenth and 1.25 of `input`.
    """

    input: Annotated[float, Meta(ge=0)]
    output: Annotated[float, Meta(ge=0)]
    currency: Currency = "USD"
    cached: Annotated[float, Meta(ge=0)] | None = None
    written: Annotated[float, Meta(ge=0)] | None = None


class Logs(_Table, frozen=True):
    max_bytes: Count = 4 * 1024 * 1024
    keep: Count = 3
    prompts: bool = False
    """Whether prompts may be written to log files."""


class Console(_Table, frozen=True):
    """The console's own; it reads and checks them itself, and `keymap` (action to keys) is known to it alone."""

    theme: str = "tekton-dark"
    density: Literal["comfortable", "compact"] = "comfortable"
    bell: bool = True
    notify: bool = True
    title: bool = True
    keymap: dict[str, object] = {}


class SpecialistSettings(_Table, frozen=True):
    """An operator's own specialist, or a change to one of the catalogue; unset values keep the catalogue's."""

    title: str | None = None
    description: str | None = None
    persona: str | None = None
    capabilities: list[str] | None = None
    roles: list[str] | None = None
    groups: list[str] | None = None
    aliases: list[str] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    max_tokens: Count | None = None
    provider: ProviderKind | None = None
    model: str | None = None
    port: Port | None = None
    transport: Transport = "socket"
    base_url: str | None = None
    api_key_env: str | None = None
    stall_after_s: Seconds | None = None
    resources: dict[str, Annotated[float, Meta(gt=0)]] = {}
    """Of a cluster's node: `CPU`, `GPU`, `memory` (bytes) or names of the cluster's own. Not read on one machine."""
    labels: dict[str, str] = {}
    """That a cluster's node must have."""
    budget: Budget | None = None


class Settings(_Table, frozen=True):
    providers: Providers = Providers()
    gateway: Gateway = Gateway()
    ports: Ports = Ports()
    fleet: Fleet = Fleet()
    cluster: Cluster = Cluster()
    tls: Tls = Tls()
    memory: Memory = Memory()
    budget: Budget = Budget()
    prices: dict[str, Price] = {}
    logs: Logs = Logs()
    console: Console = Console()
    groups: dict[str, list[str]] = {}
    specialists: dict[str, SpecialistSettings] = {}
    port_overrides: dict[str, Port] = {}
    """Component name to HTTP port, from `<COMPONENT>_PORT`."""


_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_TRUE, _FALSE = {"true", "1", "yes", "on"}, {"false", "0", "no", "off"}


def load(home: Home, environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings of a home.

    Raises:
        ConfigError: A file cannot be parsed, or a key is unknown or has a wrong value.
    """
    table = _read_toml(home)
    _check_names(home, table)
    env = {**read_env_file(home), **(os.environ if environment is None else environment)}
    origins = _apply_environment(table, env)
    try:
        return msgspec.convert(table, Settings)
    except msgspec.ValidationError as error:
        raise ConfigError(_explain(home, table, origins, str(error))) from error


def read_env_file(home: Home) -> dict[str, str]:
    """Return the `KEY=value` lines of `.env.tekton`; comments and quotes are taken off."""
    if not home.env_file.exists():
        return {}
    pairs: dict[str, str] = {}
    for number, line in enumerate(home.env_file.read_text(encoding="utf-8").splitlines(), 1):
        text = line.strip().removeprefix("export ")
        if not text or text.startswith("#"):
            continue
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"{home.env_file}:{number}: expected KEY=value, found {text!r}")
        pairs[key.strip()] = value.strip().strip("\"'")
    return pairs


def _read_toml(home: Home) -> dict[str, object]:
    try:
        return tomllib.loads(home.config.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{home.config}: not valid TOML: {error}. Mend the file or move it away."
        ) from error
    except OSError as error:
        raise ConfigError(f"{home.config}: cannot be read: {error.strerror}") from error


def _check_names(home: Home, table: dict[str, object]) -> None:
    if "port_overrides" in table:
        raise ConfigError(f"{home.config}: key 'port_overrides' is set by <COMPONENT>_PORT, not in the file")
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

    for name, path in _PORT_VARIABLES.items():
        if name in env:
            put(path, number(name), name)
    for name, path in _TEXT_VARIABLES.items():
        if name in env:
            put(path, env[name], name)
    if "TEKTON_REGISTER_AI" in env:
        word = env["TEKTON_REGISTER_AI"].strip().lower()
        if word not in _TRUE | _FALSE:
            raise ConfigError(f"environment: TEKTON_REGISTER_AI={word!r}: expected true or false")
        put("fleet.lifecycle_on", word in _TRUE, "TEKTON_REGISTER_AI")
    if host := env.get("OLLAMA_HOST"):
        if "://" not in host:  # as Ollama itself reads it: a bare name means its own port
            host = f"http://{host}" if re.search(r":\d+/?$", host) else f"http://{host}:11434"
        put("providers.ollama.host", host, "OLLAMA_HOST")
    for name in env:
        component = name.removesuffix("_PORT").lower()
        if re.fullmatch(r"[A-Z][A-Z_]*_PORT", name) and component in COMPONENT_NAMES:
            put(f"port_overrides.{component}", number(name), name)
    return origins


_PORT_VARIABLES = {
    "TEKTON_PORT_BASE": "ports.base",
    "TEKTON_AI_PORT_BASE": "ports.ai_base",
    "TEKTON_GATEWAY_PORT": "gateway.port",
}
_TEXT_VARIABLES = {
    "TEKTON_PORT_PROFILE": "ports.profile",
    "TEKTON_PROVIDER": "providers.default",
    "TEKTON_STORE": "memory.store",
    "TEKTON_CLUSTER": "cluster.address",
    "TEKTON_TLS_CERT": "tls.cert",
    "TEKTON_TLS_KEY": "tls.key",
    "TEKTON_TLS_CA": "tls.ca",
    "ANTHROPIC_BASE_URL": "providers.anthropic.base_url",
    "OPENAI_BASE_URL": "providers.openai.base_url",
}

COMPONENT_NAMES = frozenset(
    [
        "ergon",
        "hermes",
        "engram",
        "rhetor",
        "numa",
        "athena",
        "prometheus",
        "harmonia",
        "telos",
        "synthesis",
        "tekton_core",
        "metis",
        "apollo",
        "penia",
        "sophia",
        "noesis",
        "terma",
        "dionysus",
        "hephaestus",
        "budget",
        "nous",
    ]
)
"""Names whose `<NAME>_PORT` is a port override; other `…_PORT` variables of the environment are not ours."""


def _explain(home: Home, table: dict[str, object], origins: Mapping[str, str], text: str) -> str:
    """Say in which file or variable, at which key, what was expected, and what stands there instead."""
    fault = find_fault(table, Settings)
    if fault is None:
        return f"{home.config}: {text}"
    where = origins.get(fault.key, str(home.config))
    return f"{where}: key '{fault.key}': {fault.expected}; found {fault.value!r}"
