"""What the operator set for this console: `[console]` of `config.toml`, and over it what was chosen on the screen.

Choices made on the screen lie in `state/console.json` of the home, so that they hold before a backend is attached and
for a gateway elsewhere. A file that cannot be used is said; the console starts with what is left. Knows no widgets.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

DENSITIES: Final = ("comfortable", "compact")
CHOICES: Final[Mapping[str, type]] = {
    "theme": str,
    "density": str,
    "bell": bool,
    "notify": bool,
    "title": bool,
}
"""What can be chosen on the screen, and the type of each value."""


@dataclass
class Preferences:
    """The values in force. `problems` are sentences that name file and key."""

    theme: str = ""
    """Empty: the console's own."""
    density: str = DENSITIES[0]
    """`compact` leaves out the strips beside and below, for small terminals."""
    bell: bool = True
    notify: bool = True
    """Whether the desktop is told (OSC 9) while the terminal is not looked at."""
    title: bool = True
    """Whether the terminal's title shows the counts."""
    keymap: dict[str, str] = field(default_factory=dict[str, str])
    source: str = "config.toml"
    problems: list[str] = field(default_factory=list[str])
    chosen: dict[str, Any] = field(default_factory=dict[str, Any])
    path: Path | None = None
    """Where choices are kept; `None` keeps none."""
    log: Path | None = None
    """Where the console writes what failed in itself; `None` writes nothing."""

    def choose(self, name: str, value: Any) -> None:
        """Set a value and keep it for the next start.

        Raises:
            OSError: The file cannot be written; the value holds for this run.
        """
        setattr(self, name, value)
        self.chosen[name] = value
        if self.path is not None:
            _write(self.path, json.dumps(self.chosen, indent=1).encode())


def home_folder(home: str | None = None) -> Path:
    """Return the platform's folder as the backend finds it."""
    return Path(home or os.environ.get("TEKTON_HOME") or Path.home() / ".tekton").expanduser().absolute()


def read_preferences(root: Path) -> Preferences:
    """Read both files of a home; neither has to be there."""
    config = root / "config.toml"
    result = Preferences(source=str(config), path=root / "state" / "console.json")
    result.log = root / "logs" / "console.log"
    _take_config(result, config)
    _take_choices(result, root / "state" / "console.json")
    return result


def _take_config(result: Preferences, path: Path) -> None:
    if not path.exists():
        return
    import tomllib  # of use to those alone who have a file

    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        result.problems.append(f"{path}: cannot be read: {error}")
        return
    section = table.get("console", {})
    if not isinstance(section, dict):
        result.problems.append(f"{path}: 'console': expected a table")
        return
    for name, value in cast(dict[str, Any], section).items():
        if name == "keymap":
            _take_keymap(result, path, value)
        else:
            _take(result, path, f"console.{name}", name, value)


def _take_keymap(result: Preferences, path: Path, value: Any) -> None:
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
    """Read `fleet.kill = "k"` without quotes too, which TOML takes for a table in a table."""
    result: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, dict):
            result |= _flat(cast(dict[str, Any], value), f"{before}{name}.")
        else:
            result[before + name] = value
    return result


def _take_choices(result: Preferences, path: Path) -> None:
    try:
        values = json.loads(path.read_bytes())
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        result.problems.append(f"{path}: cannot be read: {error}")
        return
    for name, value in cast(dict[str, Any], values).items() if isinstance(values, dict) else ():
        if _take(result, path, name, name, value):
            result.chosen[name] = value


def _take(result: Preferences, path: Path, key: str, name: str, value: Any) -> bool:
    """Take a value of the right kind; say what is wrong with another."""
    kind = CHOICES.get(name)
    if kind is None:
        result.problems.append(
            f"{path}: {key!r}: there is no such setting; there are {', '.join(CHOICES)}, keymap"
        )
    elif not isinstance(value, kind):
        wanted = "true or false" if kind is bool else "a text"
        result.problems.append(f"{path}: {key!r}: expected {wanted}, found {value!r}")
    elif name == "density" and value not in DENSITIES:
        result.problems.append(f"{path}: {key!r}: expected {' or '.join(DENSITIES)}, found {value!r}")
    else:
        setattr(result, name, value)
        return True
    return False


def _write(path: Path, data: bytes) -> None:
    """Replace a file in one step, readable by the user alone."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
