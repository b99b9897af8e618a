"""What a catalogue must be before anybody uses it: every name means one thing, every port belongs to one.

Pure: rows and settings in, a refusal that names both sides out. Knows no file but the name of the configuration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from backend.config import ConfigError, Settings

RESERVED = frozenset(
    {"all", "team", "starter", "you", "system", "echo", "cat", "embedded", "gateway", "backend"}
)
"""Words that mean something else wherever a person types a specialist's name, or that name logs and authors."""
FILE = "config.toml"


class Row(Protocol):
    """What of a row of the catalogue is looked at."""

    @property
    def name(self) -> str: ...
    @property
    def aliases(self) -> list[str]: ...
    @property
    def ai_port(self) -> int: ...
    @property
    def own(self) -> bool: ...
    @property
    def transport(self) -> str: ...


def check(rows: Sequence[Row], groups: Mapping[str, list[str]], settings: Settings) -> None:
    """Let a catalogue pass.

    Raises:
        ConfigError: Two rows, or a row and a group, share a name; two share a port; an endpoint has no address.
    """
    _check_names(rows, groups, settings)
    _check_ports(rows)
    for name, own in settings.specialists.items():
        if own.transport == "api" and not own.base_url:
            raise ConfigError(
                f"{FILE}: key 'specialists.{name}.base_url': transport \"api\" needs the address of the endpoint, "
                'for example "http://127.0.0.1:8080/v1"'
            )
        if own.transport == "api" and own.provider not in (None, "openai"):
            raise ConfigError(
                f"{FILE}: key 'specialists.{name}.provider': transport \"api\" speaks to OpenAI-compatible "
                f'endpoints: leave it out or say "openai"; found {own.provider!r}'
            )


def plain(name: str) -> str:
    """Return the one form of a name under which `-`, capitals and the ending `-ai` make no difference."""
    return name.strip().lower().replace("-", "_").removesuffix("_ai")


def _check_names(rows: Sequence[Row], groups: Mapping[str, list[str]], settings: Settings) -> None:
    taken = {plain(word): f"{word!r}, a word of the command line" for word in RESERVED}
    taken |= {plain(group): f"the group {group!r}" for group in groups}
    for group in settings.groups:
        if plain(group) in {plain(word) for word in RESERVED}:
            raise ConfigError(f"{FILE}: key 'groups.{group}': {taken[plain(group)]}, cannot name a group")
    for row in rows:
        for name in (row.name, *row.aliases):
            what = f"{row.name!r}" if name == row.name else f"the alias {name!r} of {row.name!r}"
            if other := taken.get(plain(name)):
                raise ConfigError(_collision(row, name, what, other, settings))
            taken[plain(name)] = f"the specialist {what}" if name == row.name else what


def _collision(row: Row, name: str, what: str, other: str, settings: Settings) -> str:
    """Say which two things share a name, and what to do about it."""
    if row.own:
        key = f"specialists.{row.name}" if name == row.name else f"specialists.{row.name}.aliases"
        mend = "give yours another name"
        if other.startswith("the alias"):
            owner = other.rpartition(" of ")[2].strip("'")
            mend += f", or write [specialists.{owner}] to change the shipped one"
    elif name in settings.groups or plain(name) in {plain(group) for group in settings.groups}:
        key, mend = f"groups.{name}", "give the group another name"
    else:
        key, mend = f"specialists.{row.name}", "choose another alias"
    return f"{FILE}: key '{key}': {what} has the same name as {other}; {mend}"


def _check_ports(rows: Sequence[Row]) -> None:
    taken: dict[int, Row] = {}
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


def _where_port(row: Row) -> str:
    variable = "" if row.own else f" ({row.name.upper()}_PORT)"
    return f"specialists.{row.name}.port{variable}"
