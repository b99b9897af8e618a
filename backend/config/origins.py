"""Where each setting in force comes from: a line of `config.toml`, a file of a specialist, the environment, or a default."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, cast

DEFAULT: Final = "default"
_header = re.compile(r"\s*\[\s*(?P<name>[^\[\]]+?)\s*\]\s*(?:#.*)?$").match
_key = re.compile(r"\s*(?P<name>[A-Za-z0-9_\-.\"']+)\s*=").match


class Origin(NamedTuple):
    """A setting: its dotted key, its value, and where that comes from."""

    key: str
    value: object
    origin: str


def rows_of(shown: Mapping[str, Any], origins: Mapping[str, str]) -> list[Origin]:
    """Return the settings in force by key, those somebody set before the defaults.

    `origins` names where keys, or tables over them, were set.
    """
    found = [Origin(key, value, _origin_of(key, origins)) for key, value in _leaves(shown)]
    return sorted(found, key=lambda one: one.origin == DEFAULT)


def line_of(text: str, key: str) -> int:
    """Return in which line of a TOML document a dotted key stands, or the table it should stand in; 1 when in none."""
    lines = lines_of(text, tables=True)
    name = re.sub(r"\[\d+\]", "", key)
    while name not in lines and "." in name:
        name = name.rpartition(".")[0]
    return lines.get(name, 1)


def lines_of(text: str, *, tables: bool = False) -> dict[str, int]:
    """Return the line, from 1, in which each key of a TOML document stands; a key that is not found has none.

    With `tables` the headers of tables count as keys, too.

    Raises:
        tomllib.TOMLDecodeError: It is no TOML.
    """
    table = tomllib.loads(text)
    known = {key for key, _ in _leaves(table)} | set(_tables(table))
    found: dict[str, int] = {}
    section = ""
    quoted = ""
    for number, line in enumerate(text.splitlines(), 1):
        if quoted:  # inside a text of several lines
            quoted = "" if quoted in line else quoted
            continue
        if header := _header(line):
            section = header["name"].replace('"', "").replace("'", "")
            if tables:
                found.setdefault(section, number)
        elif key := _key(line):
            name = key["name"].replace('"', "").replace("'", "")
            dotted = f"{section}.{name}" if section else name
            if dotted in known:
                found.setdefault(dotted, number)
        quoted = next((sign for sign in ('"""', "'''") if line.count(sign) % 2), "")
    return found


def _origin_of(key: str, origins: Mapping[str, str]) -> str:
    """Return where a key was set: by itself, or inside a value that was."""
    while key not in origins and "." in key:
        key = key.rpartition(".")[0]
    return origins.get(key, DEFAULT)


def _leaves(table: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, object]]:
    for key, value in table.items():
        dotted = f"{above}.{key}" if above else str(key)
        if isinstance(value, dict) and value:
            yield from _leaves(cast(dict[str, Any], value), dotted)
        else:
            yield dotted, value


def _tables(table: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for key, value in table.items():
        if isinstance(value, dict):
            dotted = f"{above}.{key}" if above else str(key)
            yield dotted
            yield from _tables(cast(dict[str, Any], value), dotted)
