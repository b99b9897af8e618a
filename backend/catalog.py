"""The components and their specialists, as data: ports, personas, capabilities, groups, aliases.

The table lies in `catalog.toml`; the operator's own specialists come from the settings and look alike.
A catalogue in which two things share a name or a port is refused.
Knows no process and opens no socket.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from typing import Literal

import msgspec
from msgspec import Struct

from backend import config
from backend.config import ConfigError, FileFault, FoundFiles, Settings, SpecialistSettings
from backend.config.specialist_files import scan
from backend.home import Home
from backend.schema.content import Effort
from backend.schema.errors import TektonError
from backend.schema.records import JobGroup, Transport
from backend.schema.tools import AGENTS_SERVER, OWN_SERVER, OWN_TOOLS
from backend.suggest import meant, nearest

RESERVED = frozenset(
    {"all", "auto", "team", "starter", "you", "system", "echo", "cat", "embedded", "gateway", "backend"}
)
"""Words that mean something else wherever a person types a specialist's name, or that name logs and authors."""
FILE = "config.toml"


class UnknownSpecialist(TektonError):
    """No specialist, alias or group has this `name`. The message lists near ones."""

    code = "unknown_specialist"

    def __init__(self, message: str, name: str) -> None:
        super().__init__(message)
        self.name = name


def _wrong(key: str, why: str) -> ConfigError:
    """Return the refusal of a key of the configuration file."""
    return ConfigError(f"{FILE}: key '{key}': {why}")


class Component(Struct, frozen=True):
    """A row of the catalogue. `port` is the component's HTTP port of the default profile, `persona` 60–100 words.

    `slot` is a small number, stable for the row. `ai_port` is where its specialist listens, 0 = system's choice.
    """

    name: str
    title: str
    description: str
    persona: str
    short: str = ""
    """The role in one lower-case word, for narrow screens."""
    port: int = 0
    ai_port: int = 0
    capabilities: list[str] = []
    roles: list[str] = []
    groups: list[str] = []
    aliases: list[str] = []
    temperature: float | None = None
    temperature_by_role: bool = True
    """True while the temperature is the table's suggestion, False once the operator set it."""
    max_tokens: int | None = None
    provider: str | None = None
    model: str | None = None
    transport: Transport = "socket"
    base_url: str | None = None
    command: list[str] = []
    cwd: str | None = None
    env: list[str] = []
    mode: str | None = None
    options: dict[str, str | bool] = {}
    login: str | None = None
    offers: list[Literal["read", "write", "terminal"]] = []
    worktree: bool = False
    api_key_env: str | None = None
    stall_after_s: float | None = None
    effort: Effort | None = None
    tools: list[str] = []
    slot: int = 0
    own: bool = False
    """True for the operator's own, whose port is allocated at launch."""

    @property
    def id(self) -> str:
        return f"{self.name}-ai"

    @property
    def command_name(self) -> str:
        """The program of an external agent, without its folder."""
        return self.command[0].rpartition("/")[2] if self.command else ""


class _Profile(Struct, forbid_unknown_fields=True):
    http: dict[str, int] = {}
    ai: dict[str, int] = {}


class _File(Struct, forbid_unknown_fields=True):
    component: list[Component]
    groups: dict[str, list[str]] = {}
    job: list[JobGroup] = []
    profiles: dict[str, _Profile] = {}


class Catalog:
    """All specialists of one platform, in table order, the operator's own last."""

    def __init__(
        self, components: list[Component], groups: dict[str, list[str]], faults: list[FileFault] | None = None
    ) -> None:
        self.components = {component.id: component for component in components}
        self.groups = groups
        self.jobs: list[JobGroup] = []
        """Groups that ship, each for a job in plain words."""
        self.faults = faults or []
        """Files of specialists that were left out, because they share a name or a port with others."""
        self._names: dict[str, str] = {}
        for component in components:
            for name in (component.name, component.id, *component.aliases):
                self._names[name.lower()] = component.id
                self._names[f"{name.lower()}-ai"] = component.id

    def take(self, other: Catalog) -> None:
        """Become another catalogue: whoever holds this one sees the rows of the other from now on."""
        self.components, self.groups, self.jobs = other.components, other.groups, other.jobs
        self.faults, self._names = other.faults, other._names

    def __iter__(self):
        return iter(self.components.values())

    def get(self, name: str) -> Component:
        """Return the row of an id, a bare name or an alias.

        Raises:
            UnknownSpecialist: No row answers to the name.
        """
        found = self._names.get(plain(name)) or self._names.get(name.strip().lower())
        if found is None:
            raise UnknownSpecialist(self._unknown(name), name)
        return self.components[found]

    def expand(self, names: list[str]) -> list[Component]:
        """Return the rows of names, groups and `all`, each once, in the order asked.

        Raises:
            UnknownSpecialist: A name is neither.
        """
        rows: dict[str, Component] = {}
        for name in names:
            key = name.strip().lower()
            if key == "all":
                members = list(self.components)
            elif key in self.groups:
                members = [self.get(member).id for member in self.groups[key]]
            else:
                members = [self.get(name).id]
            rows.update((member, self.components[member]) for member in members)
        return list(rows.values())

    def _unknown(self, name: str) -> str:
        known = sorted({c.name for c in self} | set(self.groups))
        word = name.lower().removesuffix("-ai")
        # also a long name of which only the beginning was typed
        near = nearest(word, known, 3) or nearest(word, known, 3, likeness=0.5)
        hint = f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(known)}."
        return f"There is no specialist or group {name[:80]!r}. {hint}"


def load(settings: Settings) -> Catalog:
    """Build the catalogue: the shipped table, shifted by profile and overrides, and the operator's own rows.

    A file of a specialist that does not go together with the rest is left out and named in `faults`.

    Raises:
        UnknownSpecialist: A group of the settings names nobody.
        ConfigError: Two things share a name or a port, or an endpoint has no address.
    """
    try:
        return _load(settings)
    except TektonError:
        if not settings.files.own:
            raise
    without = msgspec.structs.replace(settings, files=FoundFiles())
    catalog, own, faults = _load(without), dict[str, SpecialistSettings](), list[FileFault]()
    for name, changes in settings.files.own.items():
        tried = msgspec.structs.replace(without, files=FoundFiles({**own, name: changes}))
        try:
            catalog = _load(tried)
            own[name] = changes
        except TektonError as error:
            reason = _IN_CONFIG.sub("", error.message)
            faults.append(FileFault(name, settings.files.where.get(name, name), 1, reason))
    catalog.faults = faults
    return catalog


def gateway_port(settings: Settings, catalog: Catalog) -> int:
    """Return the port of the gateway: the one it was given, else rhetor's; 0, which the system chooses, where all are free."""
    if settings.gateway.port is not None:
        return settings.gateway.port
    return 0 if settings.ports.profile == "free" else catalog.get("rhetor").port


def load_with(
    home: Home,
    changes: Mapping[str, bytes] | None = None,
    environment: Mapping[str, str] | None = None,
) -> tuple[Settings, Catalog, list[FileFault]]:
    """Return settings, rows and faults as they would be with these changes of files of specialists.

    Raises:
        TektonError: The rest of the configuration cannot be used.
    """
    settings = config.load(home, environment, files={**scan(home.specialists), **(changes or {})})
    catalog = load(settings)
    return settings, catalog, [*settings.files.faults, *catalog.faults]


def faults_of(home: Home, changes: Mapping[str, bytes]) -> list[FileFault]:
    """Return what would be wrong with files of specialists if they were written; see `load_with`."""
    names = {where.split("/")[0] for where in changes}
    return [fault for fault in load_with(home, changes)[2] if fault.where.split("/")[0] in names]


_IN_CONFIG = re.compile(r"^config\.toml: key '[^']*': ")


@cache
def _shipped() -> _File:
    text = resources.files("backend").joinpath("catalog.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), _File)


def _load(settings: Settings) -> Catalog:
    file = _shipped()
    rows = [_placed(row, slot, file, settings) for slot, row in enumerate(file.component)]
    by_name = {row.name: index for index, row in enumerate(rows)}
    for name, changes in settings.own_specialists.items():
        if name in by_name:
            rows[by_name[name]] = _changed(rows[by_name[name]], changes)
        else:
            _refuse_slip(name, changes, by_name)
            base = Component(
                name=name,
                title=changes.title or name.replace("_", " ").title(),
                description=changes.description or "",
                persona=changes.persona or ("" if changes.transport == "acp" else _persona(name)),
                slot=len(rows),
                own=True,
            )
            row = _changed(base, changes)
            rows.append(msgspec.structs.replace(row, short=_short_of(row.title)))
    own = {plain(name) for row in rows for name in (row.name, *row.aliases)} | {*map(plain, settings.groups)}
    jobs = [job for job in file.job if plain(job.name) not in own]
    shipped = {**file.groups, **{job.name: job.members for job in jobs}}
    groups = {name: list(members) for name, members in {**shipped, **settings.groups}.items()}
    for row in rows:
        for group in row.groups:
            members = groups.setdefault(group, [])
            if row.name not in members:
                members.append(row.name)
    _check(rows, groups, settings)
    catalog = Catalog(rows, groups)
    catalog.jobs = jobs
    for group in settings.groups:
        catalog.expand([group])
    for group in settings.group_rules:
        if group not in groups:
            raise _wrong(f"group_rules.{group}", f"there is no group {group!r}; {meant(group, groups)}")
    for name in settings.fleet.starter:
        try:
            catalog.expand([name])
        except UnknownSpecialist as error:
            raise _wrong("fleet.starter", error.message) from error
    return catalog


def _refuse_slip(name: str, changes: SpecialistSettings, shipped: Iterable[str]) -> None:
    """Refuse a table that is nearly called like a row that ships and says not who it is: it was meant for that row."""
    says_who = (changes.title, changes.description, changes.persona, changes.command, changes.base_url)
    if any(says_who) or not (near := nearest(name, shipped, likeness=0.75)) or name.startswith(near[0]):
        return  # numa2 is no slip: it is another numa
    why = f"there is no specialist {name!r}; did you mean {near[0]!r}? One of your own needs a title or a persona"
    raise _wrong(f"specialists.{name}", why)


def _placed(row: Component, slot: int, file: _File, settings: Settings) -> Component:
    """Give a row its ports: AI port = AI base + (HTTP port - 8000), unless the profile fixes the AI port."""
    ports = settings.ports
    profile = file.profiles.get(ports.profile, _Profile())
    http = profile.http.get(row.name, row.port)
    override = settings.port_overrides.get(row.name)
    for alias in row.aliases:
        override = settings.port_overrides.get(alias, override)
    if override is not None:
        ai_port = ports.ai_base + override - ports.base
        http = override
    else:
        ai_port = profile.ai.get(row.name, ports.ai_base + http - 8000)
        # the table is written for the default base
        http = ports.base + http - 8000
    if ports.profile == "free":
        ai_port = 0
    return msgspec.structs.replace(row, port=http, ai_port=ai_port, slot=slot)


def _changed(row: Component, changes: SpecialistSettings) -> Component:
    # unset values keep the table's own
    given = {
        field: value
        for field in Component.__struct_fields__
        if hasattr(changes, field) and (value := getattr(changes, field)) is not None and field != "port"
    }
    if changes.temperature is not None:
        given["temperature_by_role"] = False
    if changes.port is not None:
        given["ai_port"] = changes.port
    if changes.transport == "acp":
        given["provider"] = "acp"
    if changes.transport == "api":
        given |= {"ai_port": 0, "provider": "openai"}
    return msgspec.structs.replace(row, **given)


def _persona(name: str) -> str:
    return f"You are {name}, a specialist of the Tekton platform."


def _short_of(title: str) -> str:
    """Return the role in one word where nobody chose one: the last of a title, which mostly names what somebody is."""
    return title.split()[-1].lower() if title.split() else ""


def _check(rows: list[Component], groups: dict[str, list[str]], settings: Settings) -> None:
    """Refuse a catalogue that cannot be used.

    Raises:
        ConfigError: Two rows, or a row and a group, share a name; two share a port; an endpoint has no address; a tool
            server has a name that rules use for something else.
    """
    _check_names(rows, groups, settings)
    _check_ports(rows)
    _check_servers(settings)
    _check_rules(settings)
    for name, own in settings.own_specialists.items():
        _check_tools(name, own.tools or (), settings)
        _check_agent(name, own)
        if own.transport == "api" and not own.base_url:
            why = 'transport "api" needs the address of the endpoint, for example "http://127.0.0.1:8080/v1"'
            raise _wrong(f"specialists.{name}.base_url", why)
        if own.transport == "api" and own.provider not in (None, "openai"):
            why = 'transport "api" speaks to OpenAI-compatible endpoints: leave it out or say "openai"'
            raise _wrong(f"specialists.{name}.provider", f"{why}; found {own.provider!r}")


def _check_tools(name: str, tools: Iterable[str], settings: Settings) -> None:
    """Refuse tools of a server that is not configured, and names that none of the platform's own tools has."""
    servers, own = [*settings.tools, OWN_SERVER], [tool.name for tool in OWN_TOOLS]
    for given in tools:
        server, _, tool = given.partition(":")
        key = f"specialists.{name}.tools"
        if server not in servers:
            raise _wrong(key, f"there is no tool server {server!r}; {meant(server, servers)}")
        if server == OWN_SERVER and tool and tool not in own:
            raise _wrong(key, f"{OWN_SERVER} has no tool {tool!r}; {meant(tool, own)}")


def _check_rules(settings: Settings) -> None:
    """Refuse a rule over a server that is nearly called like one: it would never apply. Others may be configured later."""
    tables = [("rules", settings.rules)]
    tables += [(f"group_rules.{group}", rules) for group, rules in settings.group_rules.items()]
    tables += [
        (f"specialists.{name}.rules", own.rules)
        for name, own in settings.own_specialists.items()
        if own.rules is not None
    ]
    servers = [*settings.tools, OWN_SERVER, AGENTS_SERVER]
    for key, rules in tables:
        for pattern in (*rules.deny, *rules.ask, *rules.allow):
            if wrong := misspelt_server(pattern, servers):
                raise _wrong(key, f"{pattern!r}: {wrong}")


def misspelt_server(pattern: str, servers: Iterable[str]) -> str:
    """Return which server a rule's pattern was probably meant for, in a sentence; empty when there is nothing to say."""
    server, names = pattern.partition(":")[0], list(servers)
    if "*" in server or server in names or not (near := nearest(server, names, likeness=0.75)):
        return ""
    return f"there is no tool server {server!r}; did you mean {near[0]!r}?"


AGENT_KEYS = ("command", "cwd", "env", "mode", "options", "login", "offers", "worktree")


def _check_agent(name: str, own: SpecialistSettings) -> None:
    """Refuse an external agent that cannot be started, and an agent's keys on a specialist that is none."""
    key = f"specialists.{name}"
    if own.transport != "acp":
        for word in AGENT_KEYS:
            if getattr(own, word) is not None:
                raise _wrong(f"{key}.{word}", 'only for an external agent: say transport = "acp" as well')
        return
    if not own.command or not own.command[0]:
        why = 'transport "acp" needs the agent\'s command, for example ["opencode", "acp"]'
        raise _wrong(f"{key}.command", why)
    if own.provider not in (None, "acp") or own.tools:
        word = "tools" if own.tools else "provider"
        raise _wrong(f"{key}.{word}", "an external agent has its own: leave it out")
    if own.cwd is not None and not own.cwd.startswith(("/", "~/")):
        raise _wrong(f"{key}.cwd", f"expected an absolute path; found {own.cwd!r}")
    if own.worktree and own.cwd is None:
        raise _wrong(f"{key}.worktree", "needs cwd, the repository the worktree is made of")


def plain(name: str) -> str:
    """Return the one form of a name under which `-`, capitals and the ending `-ai` make no difference."""
    return name.strip().lower().replace("-", "_").removesuffix("_ai")


def _check_names(rows: list[Component], groups: dict[str, list[str]], settings: Settings) -> None:
    taken = {plain(word): f"{word!r}, a word of the command line" for word in RESERVED}
    reserved = frozenset(taken)
    taken |= {plain(group): f"the group {group!r}" for group in groups}
    for group in settings.groups:
        if plain(group) in reserved:
            raise _wrong(f"groups.{group}", f"{taken[plain(group)]}, cannot name a group")
    for row in rows:
        for name in (row.name, *row.aliases):
            what = f"{row.name!r}" if name == row.name else f"the alias {name!r} of {row.name!r}"
            if other := taken.get(plain(name)):
                raise _collision(row, name, what, other, settings)
            taken[plain(name)] = f"the specialist {what}" if name == row.name else what


def _collision(row: Component, name: str, what: str, other: str, settings: Settings) -> ConfigError:
    """Say which two things share a name, and what to do about it."""
    if row.own:
        key = f"specialists.{row.name}" if name == row.name else f"specialists.{row.name}.aliases"
        fix = "give yours another name"
        if other.startswith("the alias"):
            owner = other.rpartition(" of ")[2].strip("'")
            fix += f", or write [specialists.{owner}] to change the shipped one"
    elif name in settings.groups or plain(name) in {plain(group) for group in settings.groups}:
        key, fix = f"groups.{name}", "give the group another name"
    else:
        key, fix = f"specialists.{row.name}", "choose another alias"
    return _wrong(key, f"{what} has the same name as {other}; {fix}")


def _check_servers(settings: Settings) -> None:
    """Refuse names of tool servers under which rules mean something else, or nothing."""
    for name in settings.tools:
        if name in (OWN_SERVER, AGENTS_SERVER):
            whose = "the platform's own tools" if name == OWN_SERVER else "what external agents do"
            raise _wrong(f"tools.{name}", f"under this name stand {whose}; give the server another")
        if re.fullmatch(r"[\w.-]+", name) is None:
            why = "expected letters, digits, '_', '-' and '.', so that rules can name it"
            raise _wrong(f"tools.{name}", why)


def _check_ports(rows: list[Component]) -> None:
    taken: dict[int, Component] = {}
    for row in rows:
        if not row.ai_port or row.transport == "api":
            continue
        if not 0 < row.ai_port <= 65535:
            raise ConfigError(
                f"the port of {row.name!r} would be {row.ai_port}: change TEKTON_AI_PORT_BASE (ports.ai_base), "
                f"{row.name.upper()}_PORT or its port in {FILE}; ports end at 65535"
            )
        if other := taken.get(row.ai_port):
            raise ConfigError(
                f"{other.name!r} and {row.name!r} have the same port {row.ai_port}: change {_where_port(other)} "
                f"or {_where_port(row)}"
            )
        taken[row.ai_port] = row


def _where_port(row: Component) -> str:
    variable = "" if row.own else f" ({row.name.upper()}_PORT)"
    return f"specialists.{row.name}.port{variable}"
