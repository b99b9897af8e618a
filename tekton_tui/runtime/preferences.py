"""The UI preferences: `[console]` of `config.toml`, and over it what was set on the screen. Knows no widgets.

What is set on the screen is stored in `state/console.json` of the home, so that it holds before a backend is attached and
for a remote gateway. A file that cannot be read is a problem to report; the console starts with the rest.

Not to be confused with the backend's config (the other tables of `config.toml`) and the orchestration policy, which all
consoles of a backend share.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from tekton_tui.stores.signal import Signal

DENSITIES: Final = ("comfortable", "compact")
STORED: Final[Mapping[str, type]] = {
    "theme": str,
    "density": str,
    "bell": bool,
    "notify": bool,
    "title": bool,
    "ascii": bool,
    "columns": dict,
}
"""What can be set on the screen, and the type of each value."""


@dataclass
class Preferences:
    """The values in force. `problems` are sentences that name file and key; `changed` is emitted with a value's name."""

    theme: str = ""
    """Empty: the console's own."""
    density: str = DENSITIES[0]
    """`compact` leaves out the strips beside and below, for small terminals."""
    bell: bool = True
    notify: bool = True
    """Whether desktop notifications are asked for (OSC 9) while the terminal has no focus."""
    title: bool = True
    """Whether the terminal's title shows the counts."""
    ascii: bool = False
    """Whether the console's own signs are drawn in ASCII."""
    columns: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    """By size class of the terminal, the fleet's columns where others than the usual ones were chosen."""
    keymap: dict[str, str] = field(default_factory=dict[str, str])
    source: str = "config.toml"
    problems: list[str] = field(default_factory=list[str])
    path: Path | None = None
    """File of what was set on the screen; `None` stores nothing."""
    log: Path | None = None
    """File for failures of the console itself; `None` writes nothing."""
    changed: Signal[[str]] = field(default_factory=Signal)

    def set(self, name: str, value: Any) -> None:
        """Set a value and store it for the next start, beside what other consoles have stored meanwhile.

        A file that cannot be read is kept under another name, for it may be somebody's work.

        Raises:
            OSError: The file cannot be written; the value holds for this run.
        """
        setattr(self, name, value)
        self.changed.emit(name)
        if self.path is None:
            return
        kept: Any
        try:
            kept = json.loads(self.path.read_bytes())
        except FileNotFoundError:
            kept = {}
        except ValueError:
            kept = None
        if not isinstance(kept, dict):
            os.replace(self.path, self.path.with_name(f"{self.path.name}.unreadable"))
            kept = {}
        stored = {**cast(dict[str, Any], kept), name: value}
        write_private(self.path, json.dumps(stored, indent=1).encode())


def home_folder(home: str | None = None) -> Path:
    """Return the platform's home folder, as the backend finds it."""
    return Path(home or os.environ.get("TEKTON_HOME") or Path.home() / ".tekton").expanduser().absolute()


def read_preferences(root: Path) -> Preferences:
    """Read both files of a home; neither has to be there."""
    config = root / "config.toml"
    result = Preferences(source=str(config), path=root / "state" / "console.json")
    result.log = root / "logs" / "console.log"
    _read_config(result, config)
    _read_stored(result, root / "state" / "console.json")
    return result


def _parsed(result: Preferences, path: Path, parse: Callable[[str], Any]) -> dict[str, Any]:
    """Return the table in a file, empty without one; note what is wrong with a file that cannot be read."""
    try:
        table = parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        result.problems.append(f"{path}: cannot be read: {error}")
        return {}
    return cast(dict[str, Any], table) if isinstance(table, dict) else {}


def _parse_toml(text: str) -> dict[str, Any]:
    # Imported late: most homes have no such file, and the first paint waits for the import.
    import tomllib

    return tomllib.loads(text)


def _read_config(result: Preferences, path: Path) -> None:
    section = _parsed(result, path, _parse_toml).get("console", {})
    if not isinstance(section, dict):
        result.problems.append(f"{path}: 'console': expected a table")
        return
    for name, value in cast(dict[str, Any], section).items():
        if name == "keymap":
            _read_keymap(result, path, value)
        else:
            _set_checked(result, path, f"console.{name}", name, value)


def _read_keymap(result: Preferences, path: Path, value: Any) -> None:
    if not isinstance(value, dict):
        result.problems.append(f"{path}: 'console.keymap': expected a table of actions and keys")
        return
    for action, keys in _flat(cast(dict[str, Any], value)).items():
        if isinstance(keys, str):
            result.keymap[action] = keys
        else:
            result.problems.append(
                f"{path}: console.keymap {action!r}: expected keys as a text, found {keys!r}"
            )


def _flat(table: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Join nested tables by dots: TOML reads `fleet.kill = "k"` without quotes as a table in a table."""
    result: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, dict):
            result |= _flat(cast(dict[str, Any], value), f"{before}{name}.")
        else:
            result[before + name] = value
    return result


def _read_stored(result: Preferences, path: Path) -> None:
    for name, value in _parsed(result, path, json.loads).items():
        _set_checked(result, path, name, name, value)


def _set_checked(result: Preferences, path: Path, key: str, name: str, value: Any) -> None:
    """Set a value of the right type; note what is wrong with another."""
    kind = STORED.get(name)
    if kind is None:
        result.problems.append(
            f"{path}: {key!r}: there is no such setting; there are {', '.join(STORED)}, keymap"
        )
    elif not isinstance(value, kind):
        wanted = "true or false" if kind is bool else "a table" if kind is dict else "a text"
        result.problems.append(f"{path}: {key!r}: expected {wanted}, found {value!r}")
    elif name == "density" and value not in DENSITIES:
        result.problems.append(f"{path}: {key!r}: expected {' or '.join(DENSITIES)}, found {value!r}")
    elif name == "columns" and not _is_table_of_names(cast(dict[Any, Any], value)):
        result.problems.append(f"{path}: {key!r}: expected lists of names, found {value!r}")
    else:
        setattr(result, name, value)


def _is_table_of_names(table: dict[Any, Any]) -> bool:
    return all(
        isinstance(names, list) and all(isinstance(n, str) for n in cast(list[Any], names))
        for names in table.values()
    )


def write_private(path: Path, data: bytes) -> None:
    """Replace a file in one step, readable by the user alone."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # written beside it and renamed: whoever reads meanwhile finds the old file or the new one, never half of one
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
