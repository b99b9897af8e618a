"""The components and their specialists, as data: ports, personas, capabilities, groups, aliases.

The table lies in `catalog.toml`; the operator's own specialists come from the settings and look alike.
Knows no process and opens no socket.
"""

from __future__ import annotations

import tomllib
from importlib import resources

import msgspec
from msgspec import Struct

from backend.catalog_checks import check
from backend.config import Settings, SpecialistSettings
from backend.schema.errors import TektonError
from backend.schema.records import Transport

AI_PORT_FIRST, AI_PORT_LAST = 45000, 50000
"""Where ports of specialists outside the table are allocated, both ends included."""


class UnknownSpecialist(TektonError):
    """No specialist, alias or group has this name. The message lists near ones."""

    code = "unknown_specialist"


class Component(Struct, frozen=True):
    """A row of the catalogue. `port` is the component's HTTP port of the default profile, `persona` 60–100 words.

    `slot` is a small number, stable for the row. `ai_port` is where its specialist listens, 0 = system's choice.
    """

    name: str
    title: str
    description: str
    persona: str
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
    api_key_env: str | None = None
    stall_after_s: float | None = None
    slot: int = 0
    own: bool = False
    """True for the operator's own, whose port is allocated at launch."""

    @property
    def id(self) -> str:
        return f"{self.name}-ai"


class _Profile(Struct, forbid_unknown_fields=True):
    http: dict[str, int] = {}
    ai: dict[str, int] = {}


class _File(Struct, forbid_unknown_fields=True):
    component: list[Component]
    groups: dict[str, list[str]] = {}
    profiles: dict[str, _Profile] = {}


class Catalog:
    """All specialists of one platform, in table order, the operator's own last."""

    def __init__(self, components: list[Component], groups: dict[str, list[str]]) -> None:
        self.components = {component.id: component for component in components}
        self.groups = groups
        self._names: dict[str, str] = {}
        for component in components:
            for name in (component.name, component.id, *component.aliases):
                self._names[name.lower()] = component.id
                self._names[f"{name.lower()}-ai"] = component.id

    def __iter__(self):
        return iter(self.components.values())

    def get(self, name: str) -> Component:
        """Return the row of an id, a bare name or an alias.

        Raises:
            UnknownSpecialist: No row answers to the name.
        """
        found = self._names.get(
            name.strip().lower().replace("-", "_").removesuffix("_ai")
        ) or self._names.get(name.strip().lower())
        if found is None:
            raise UnknownSpecialist(self._unknown(name))
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
        import difflib

        known = sorted({c.name for c in self} | set(self.groups))
        near = difflib.get_close_matches(name.lower().removesuffix("-ai"), known, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(known)}."
        return f"There is no specialist or group {name!r}. {hint}"


def load(settings: Settings) -> Catalog:
    """Build the catalogue: the shipped table, shifted by profile and overrides, and the operator's own rows.

    Raises:
        UnknownSpecialist: A group of the settings names nobody.
        ConfigError: Two things share a name or a port, or an endpoint has no address.
    """
    text = resources.files("backend").joinpath("catalog.toml").read_text(encoding="utf-8")
    file = msgspec.convert(tomllib.loads(text), _File)
    rows = [_placed(row, slot, file, settings) for slot, row in enumerate(file.component)]
    by_name = {row.name: index for index, row in enumerate(rows)}
    for name, changes in settings.specialists.items():
        if name in by_name:
            rows[by_name[name]] = _changed(rows[by_name[name]], changes)
        else:
            base = Component(
                name=name,
                title=changes.title or name.replace("_", " ").title(),
                description=changes.description or "",
                persona=changes.persona or f"You are {name}, a specialist of the Tekton platform.",
                slot=len(rows),
                own=True,
            )
            rows.append(_changed(base, changes))
    groups = {name: list(members) for name, members in {**file.groups, **settings.groups}.items()}
    for row in rows:
        for group in row.groups:
            members = groups.setdefault(group, [])
            if row.name not in members:
                members.append(row.name)
    check(rows, groups, settings)
    catalog = Catalog(rows, groups)
    for group in settings.groups:
        catalog.expand([group])
    return catalog


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
        http = ports.base + http - 8000
    if ports.profile == "free":
        ai_port = 0
    return msgspec.structs.replace(row, port=http, ai_port=ai_port, slot=slot)


def _changed(row: Component, changes: SpecialistSettings) -> Component:
    given = {
        field: value
        for field in Component.__struct_fields__
        if hasattr(changes, field) and (value := getattr(changes, field)) is not None and field != "port"
    }
    if changes.temperature is not None:
        given["temperature_by_role"] = False
    if changes.port is not None:
        given["ai_port"] = changes.port
    if changes.transport == "api":
        given |= {"ai_port": 0, "provider": "openai"}
    return msgspec.structs.replace(row, **given)
