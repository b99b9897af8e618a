"""The operator's own keys: which actions there are, and which requested keys can be put in force. Knows no files.

An action is a binding's id, such as `fleet.kill`. A requested key that cannot be put in force is a problem to report, and
the shipped key stays.
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from importlib import import_module

from textual.binding import Binding, BindingsMap
from textual.dom import DOMNode
from textual.keys import Keys, _character_to_key, key_to_character  # pyright: ignore[reportPrivateUsage]

import tekton_tui
from tekton_tui.verbs import BY_NAME, RENAMED

PACKAGES = ("screens", "widgets", "transcript")
FIXED = frozenset({"app.quit"})
"""Actions that keep their shipped key beside requested ones: nobody is to be locked in."""
_MODIFIERS = re.compile(r"(?:(?:ctrl|alt|shift|super|hyper|meta)\+)*")
_NAMES = frozenset(key.value for key in Keys) | {"space", "comma", "delete"}


def actions() -> dict[str, tuple[type[DOMNode], Binding]]:
    """Return every action of the console by id, with the widget that has it. Imports all screens."""
    for package_name in PACKAGES:
        package = import_module(f"tekton_tui.{package_name}")
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            import_module(module.name)
    found: dict[str, tuple[type[DOMNode], Binding]] = {}
    for kind in _kinds(DOMNode):
        if kind.__module__.startswith(tekton_tui.__name__):
            # of the class itself: those it inherits are found with their own class
            for _, binding in BindingsMap(kind.__dict__.get("BINDINGS", ())):
                if binding.id:
                    found.setdefault(binding.id, (kind, binding))
    return found


def resolve_keymap(requested: Mapping[str, str], source: str) -> tuple[dict[str, str], list[str]]:
    """Return the keymap for Textual, and one sentence for each request that cannot be put in force.

    Args:
        requested: Keys by action id, separated by commas.
        source: Where they were read; each sentence begins with it.
    """
    known = actions()
    keymap: dict[str, str] = {}
    problems: list[str] = []
    requested, renamed = _current(requested, known)
    if renamed:
        problems.append(f"{source}: console.keymap: keys have new names; {', '.join(renamed)}")
    for action, keys in requested.items():
        problem = _problem(action, keys, known) or _clash(action, keys, known, requested)
        if problem:
            problems.append(f"{source}: console.keymap {action!r}: {problem}")
        else:
            kept = f"{known[action][1].key}," if action in FIXED else ""
            keymap[action] = kept + ",".join(_split(keys))
    return keymap, problems


def _current(requested: Mapping[str, str], known: Mapping[str, object]) -> tuple[dict[str, str], list[str]]:
    """Return requests by today's names, and what was renamed. A verb's name alone stands for it at every place."""
    current: dict[str, str] = {}
    renamed: list[str] = []
    for action, keys in requested.items():
        if action in BY_NAME:
            current |= {name: keys for name in known if name.partition(".")[2] == action}
        elif action in RENAMED and action not in known:
            now = RENAMED[action]
            renamed.append(f"{action!r} is {now!r}" if now else f"{action!r} is gone")
            if now:
                current[now] = keys
        else:
            current[action] = keys
    return current, renamed


def _problem(action: str, keys: str, known: Mapping[str, tuple[type[DOMNode], Binding]]) -> str:
    if action not in known:
        near = get_close_matches(action, known, 1)
        return "there is no such action" + (f"; did you mean {near[0]!r}?" if near else "")
    for key in _split(keys):
        name = key[_MODIFIERS.match(key).end() :]  # pyright: ignore[reportOptionalMemberAccess]
        if not name or (
            len(name) > 1
            and name.lower() not in _NAMES
            and key.lower() not in _NAMES
            and key_to_character(name)
            is None  # not the long name of a printable one, such as `question_mark`
        ):
            return f"{key!r} is no key; write it like k, K, ctrl+k, f5, slash or |"
    return "" if _split(keys) else "no key is given"


def _clash(
    action: str, keys: str, known: Mapping[str, tuple[type[DOMNode], Binding]], requested: Mapping[str, str]
) -> str:
    """Return a sentence that names another action of the same widget with the same key, if there is one."""
    kind = known[action][0]
    mine = set(_long(keys))
    for other, (place, binding) in known.items():
        if place is kind and other != action and mine & set(_long(requested.get(other, binding.key))):
            return f"{keys!r} is the key of {other!r} there"
    return ""


def _split(keys: str) -> list[str]:
    """Split at commas; the comma key itself is written `comma`."""
    return [key.strip() for key in keys.split(",") if key.strip()]


def _long(keys: str) -> Iterable[str]:
    return (_character_to_key(key) if len(key) == 1 else key for key in _split(keys))


def _kinds(kind: type[DOMNode]) -> Iterable[type[DOMNode]]:
    for below in kind.__subclasses__():
        yield below
        yield from _kinds(below)
