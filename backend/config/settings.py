"""The settings as values: every table and key of `config.toml`, its type, its default. Immutable.

Knows no file, no provider and nothing that runs. What one kind of provider has of its own is declared in its module.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from backend.schema.content import Effort
from backend.schema.errors import TektonError
from backend.schema.records import Budget, Currency, Transport
from backend.schema.tools import RuleText, ServerSpec, Verdict

Port = Annotated[int, Meta(ge=0, le=65535)]
Seconds = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]
# a pattern, so that a wrong address is named with its key when the file is read, not when something connects
_HOST_PORT_PATH = (
    r"(?:[^\s/@]*@)?(?:[\w.~-]+|\[[0-9A-Fa-f:.%\w]+\])"
    r"(?::(?:[0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?(?:/\S*)?$"
)
"""User and password, name or address, port up to 65535, path; no blanks."""
Address = Annotated[
    str,
    Meta(
        pattern=rf"^https?://{_HOST_PORT_PATH}",
        description="an address such as http://127.0.0.1:8000/v1: http or https, a host, a port up to 65535, no blanks",
    ),
]
"""Of an HTTP server."""
BareAddress = Annotated[
    str,
    Meta(
        pattern=rf"^(?:https?://)?{_HOST_PORT_PATH}",
        description="an address such as http://127.0.0.1:11434, or a host with or without a port; no blanks",
    ),
]
"""Of an HTTP server whose scheme may be left out."""


class ConfigError(TektonError):
    """The configuration cannot be used. The message names file and key and says what was expected."""

    code = "config_invalid"


class Table(Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the configuration file; unknown keys are errors, so that a typo is found."""


class Timeouts(Table, frozen=True):
    """Seconds. `connect` to the upstream; `first_token` from request to first text; `between_tokens` after it.

    Passing `between_tokens` marks the turn as stalled and, when `cut_stalled` is set, ends it as `stalled`.
    """

    connect: Seconds = 5.0
    first_token: Seconds = 300.0
    between_tokens: Seconds = 15.0
    cut_stalled: bool = False


class ProviderSettings(Table, frozen=True):
    """What every provider's table may hold; a provider's own struct adds to it.

    `max_tokens` caps an answer. `max_concurrency` is the turns of one specialist that are asked at a time; further ones
    queue and see their place.
    """

    max_tokens: Count | None = None
    max_concurrency: Count = 4
    timeouts: Timeouts = Timeouts()


class KeyedSettings(ProviderSettings, frozen=True):
    """A provider that may be asked with a key: in the variable `api_key_env`, or in `api_key_file`, which outranks it.

    `model` is used where a specialist names none.
    """

    model: str = ""
    api_key_env: str = ""
    api_key_file: str | None = None


LOCAL_SERVERS = tuple(
    f"http://127.0.0.1:{port}/v1" for port in (1234, 8080, 8000, 1337, 30000, 5001, 5000, 4891)
)


class Providers(Table, frozen=True):
    """`default` is the provider of specialists that name none; `auto` takes what was chosen by hand, else the
    best that is found: a model of Ollama, of a server in `local`, the embedded one; never a paid one unasked.

    `tables` holds each `[providers.NAME]` as it was written. `load` has checked it against the struct of the provider's
    own module, and `ProviderInfo.own` returns it as one.
    """

    default: str = "auto"
    tables: dict[str, dict[str, object]] = {}
    local: list[Address] = msgspec.field(default_factory=lambda: list(LOCAL_SERVERS))
    """Where `auto` looks for servers on this machine: LM Studio, llama.cpp or llama-swap, vLLM, Jan,
    SGLang, KoboldCpp, text-generation-webui, GPT4All."""

    def changed(self, kind: str, **values: object) -> Providers:
        """Return these with other values in the table of one kind; a value of `None` is the default again."""
        table = {**self.tables.get(kind, {}), **values}
        table = {key: value for key, value in table.items() if value is not None}
        return msgspec.structs.replace(self, tables={**self.tables, kind: table})


class Gateway(Table, frozen=True):
    """`port` unset: the catalogue's port of rhetor, or one the system chooses with `ports.profile = "free"`.

    Another host than loopback needs a token of 32 characters.
    """

    host: str = "127.0.0.1"
    without_tls: bool = False
    """Whether it may listen beyond this machine without certificates (`[tls]`): whoever listens in on the network reads the
    token and all that is said."""
    port: Port | None = None
    allowed_hosts: list[str] = []
    """Names beside its own under which it may be asked (the `Host` header)."""
    allowed_origins: list[str] = []
    """Origins of web pages that may call it and read its answers."""
    max_body_bytes: Count = 8 * 1024 * 1024
    """A request's body, at most."""
    max_connections: Count = 200
    """WebSockets open at once."""
    max_streams: Count = 64
    """Answers and events streamed over HTTP at once."""
    keep_alive_s: Seconds = 15.0
    """A silent stream sends a comment this often, so that proxies keep it open."""
    max_open: Count = 1_000
    """Connections of every kind the listener holds."""
    head_timeout_s: Annotated[float, Meta(gt=0)] = 10.0
    """How long a client may take for a request's head, and be silent in the middle of its body."""


class Ports(Table, frozen=True):
    """`profile` names a port table of the catalogue; `free` lets the system choose every port."""

    profile: Literal["default", "original", "chorus", "free"] = "default"
    base: Port = 8000
    """The first HTTP port of the components."""
    ai_base: Port = 45000
    """The first port of the specialists' sockets."""


class Fleet(Table, frozen=True):
    """Which specialists are launched, how many, and how long they may take to come and go."""

    starter: list[str] = msgspec.field(default_factory=lambda: ["numa", "rhetor", "apollo", "athena"])
    """The team that one key launches."""
    lifecycle_on: bool = True
    """Whether specialists may be launched at all."""
    max_specialists: Count = 40
    ready_timeout_s: Seconds = 15.0
    """A specialist that is not ready by then is ended, and its launch has failed."""
    stop_grace_s: Seconds = 3.0
    """How long a specialist may take to stop before it is killed."""
    unresponsive_after_s: Seconds = 12.0
    """A specialist silent this long is shown as unresponsive."""
    sockets: Literal["same-user", "token", "open"] = "same-user"
    """Whom a specialist's port on this machine serves: programs of your own user, whoever sends the worker token first
    (`run/worker.token`), or everybody. Ports on other hosts always want the token."""
    memory_reserve_mib: Annotated[int, Meta(ge=0)] = 256
    """Memory that a launch must leave free on this machine."""


class Cluster(Table, frozen=True):
    """`address` of a Ray cluster's head (`HOST:6379`) places specialists on its nodes; empty: on this machine."""

    address: str = ""
    ready_timeout_s: Seconds = 60.0
    silent_after_s: Seconds = 2.0
    """A specialist on another host that does not answer this long is shown as lost, and its turn ends."""


class Tls(Table, frozen=True):
    """Files (PEM) for the sockets that lie beyond loopback: the gateway's and, on their nodes, the specialists'.

    `ca` signed the specialists' certificates that the gateway accepts; `name` is what they carry instead of a node's
    address. On a node `TEKTON_TLS_CERT` and `TEKTON_TLS_KEY` may name other files.
    """

    cert: str = ""
    key: str = ""
    ca: str = ""
    name: str = ""


class Memory(Table, frozen=True):
    """How many days rows are kept, 0 for good; sessions untouched for `compress_after_days` are compressed.

    `retention_days` is for messages (pinned ones stay) and for runs of pipelines, `errors_days` for acknowledged errors,
    `unseen_errors_days` for the others, `usage_days` for usage. After a leap of the clock by more than a month nothing is
    deleted or compressed before `clock_checked` says on which day (`2028-11-28`) a person saw that the clock is right.

    `store` names a Redis server (`redis://HOST:PORT/DATABASE`) instead of the file in the home. `volatile_store`
    accepts one that keeps nothing on disk.

    `remembered_mib` bounds what the backend holds in memory beside the store: events for clients that come back, ended
    turns, results, answers that wait for a full disk.
    """

    store: str = ""
    volatile_store: bool = False
    retention_days: Annotated[int, Meta(ge=0)] = 0
    compress_after_days: Annotated[int, Meta(ge=0)] = 30
    errors_days: Annotated[int, Meta(ge=0)] = 90
    unseen_errors_days: Annotated[int, Meta(ge=0)] = 365
    usage_days: Annotated[int, Meta(ge=0)] = 730
    tool_calls_days: Annotated[int, Meta(ge=0)] = 0
    """The record of tool calls (`tekton audit`); those that wait or run stay."""
    clock_checked: Annotated[str, Meta(pattern=r"^(\d{4}-\d\d-\d\d)?$")] = ""
    remembered_mib: Annotated[int, Meta(ge=16, le=65536)] = 256
    hint_results: Annotated[int, Meta(ge=0, le=20)] = 3
    """Memories that a turn may bring along."""


class Price(Table, frozen=True):
    """Price for a million tokens, overriding the shipped table.

    `cached` is for input read from the upstream's prompt cache, `written` for input put into it; unset they cost a
    tenth and 1.25 of `input`.
    """

    input: Annotated[float, Meta(ge=0)]
    output: Annotated[float, Meta(ge=0)]
    currency: Currency = "USD"
    cached: Annotated[float, Meta(ge=0)] | None = None
    written: Annotated[float, Meta(ge=0)] | None = None


class Logs(Table, frozen=True):
    """The files in `logs/`."""

    max_bytes: Count = 4 * 1024 * 1024
    """A file that grows beyond is turned: `backend.log` becomes `backend.log.1`."""
    keep: Count = 3
    """Turned files kept of each."""
    prompts: bool = False
    """Whether prompts may be written to log files."""


class Console(Table, frozen=True):
    """The console's own; it reads and checks them itself, and `keymap` (action to keys) is known to it alone."""

    theme: str = "tekton-dark"
    density: Literal["comfortable", "compact"] = "comfortable"
    bell: bool = True
    """Ring the terminal's bell at a crash, a stall, and the end of a long answer."""
    notify: bool = True
    """Ask the terminal to notify while another window has the focus."""
    title: bool = True
    """Say in the window's title what goes on."""
    ascii: bool = False
    """Draw the console's own signs, frames and plots in ASCII; text of others stays as it is."""
    keymap: dict[str, object] = {}


class Rules(Table, frozen=True):
    """Rules over tool calls, each `SERVER:TOOL [ARGUMENT=GLOB …]`. Where several match, deny stands before ask and ask
    before allow; where none does, a person is asked.
    """

    deny: list[RuleText] = []
    ask: list[RuleText] = []
    allow: list[RuleText] = []
    answer_within_s: Seconds = 600.0
    """How long a call waits for a person before it is denied; with no console attached it is denied at once."""

    def patterns(self, verdict: Verdict) -> list[str]:
        """Return the patterns with one verdict."""
        return {"deny": self.deny, "ask": self.ask, "allow": self.allow}[verdict]


class SpecialistSettings(Table, frozen=True):
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
    provider: str | None = None
    model: str | None = None
    port: Port | None = None
    transport: Transport = "socket"
    """`socket`: a worker of ours; `api`: an endpoint elsewhere; `acp`: an external agent, started by `command`."""
    base_url: Address | None = None
    command: list[str] | None = None
    """With `acp`: the agent's command and its arguments, such as `["opencode", "acp"]`."""
    cwd: str | None = None
    """With `acp`: the folder the agent works in; by default one of its own in the home."""
    env: list[str] | None = None
    """With `acp`: names of variables of the backend's environment that the agent may see, beside `PATH`, `HOME`, `LANG` and
    the like."""
    mode: str | None = None
    """With `acp`: the agent's mode, set in every conversation."""
    options: dict[str, str | bool] | None = None
    """With `acp`: the agent's own options by id, set in every conversation."""
    login: str | None = None
    """With `acp`: the way to log in that may be used without asking, by the agent's id for it."""
    offers: list[Literal["read", "write", "terminal"]] | None = None
    """With `acp`: what the agent may ask us to do in `cwd`; each such request is decided by the rules."""
    worktree: bool | None = None
    """With `acp`: whether it works in a git worktree of its own, made of the repository in `cwd`."""
    api_key_env: str | None = None
    stall_after_s: Seconds | None = None
    effort: Effort | None = None
    """How hard its model is to think; a turn may say otherwise."""
    resources: dict[str, Annotated[float, Meta(gt=0)]] = {}
    """Of a cluster's node: `CPU`, `GPU`, `memory` (bytes) or names of the cluster's own. Not read on one machine."""
    labels: dict[str, str] = {}
    """That a cluster's node must have."""
    budget: Budget | None = None
    tools: list[str] | None = None
    """What it may call: `SERVER` for all tools of a server, `SERVER:TOOL` for one; `tekton` for the platform's own."""
    rules: Rules | None = None
    """Rules over its calls, beside the platform's."""


class FileFault(Struct, frozen=True):
    """Why a file of a specialist cannot be used: `where` below the folder `specialists`, `line` from 1."""

    name: str
    where: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"specialists/{self.where}:{self.line}: {self.reason}"


class FoundFiles(Struct, frozen=True):
    """Specialists of one's own in files: their settings and where each stands, by name, and what is wrong with others."""

    own: dict[str, SpecialistSettings] = {}
    where: dict[str, str] = {}
    faults: list[FileFault] = []


class Settings(Table, frozen=True):
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
    tools: dict[str, ServerSpec] = {}
    """MCP servers by name; a specialist starts those that its `tools` name, as children of its process."""
    rules: Rules = Rules()
    group_rules: dict[str, Rules] = {}
    """Rules over the calls of all specialists of a group, by its name."""
    specialists: dict[str, SpecialistSettings] = {}
    port_overrides: dict[str, Port] = {}
    """Component name to HTTP port, from `<COMPONENT>_PORT`."""
    files: FoundFiles = FoundFiles()
    """What stands in the folder `specialists`; not set in the file."""

    @property
    def own_specialists(self) -> dict[str, SpecialistSettings]:
        """The tables `[specialists.*]` and the files of the folder alike, by name."""
        return {**self.specialists, **self.files.own}
