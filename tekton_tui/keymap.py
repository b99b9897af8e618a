"""The operator's own keys: which actions there are, and what of a wish can be granted. Knows no files.

An action is a binding's id, such as `fleet.kill`. A wish that cannot be granted is said; the key that was there stays.
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from importlib import import_module

from textual.binding import Binding, BindingsMap
from textual.dom import DOMNode
from textual.keys import Keys

import tekton_tui

ROOMS = ("screens", "widgets", "transcript")
FIXED = frozenset({"app.quit"})
"""Actions whose key may be added to but never lost: nobody is to be locked in."""
_MODIFIERS = re.compile(r"(?:(?:ctrl|alt|shift|super|hyper|meta)\+)*")
_NAMES = frozenset(key.value for key in Keys) | {"space", "comma", "delete"}


def actions() -> dict[str, tuple[type[DOMNode], Binding]]:
    """Return every action of the console by id, with the widget that has it. Imports all screens."""
    for room in ROOMS:
        package = import_module(f"tekton_tui.{room}")
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            import_module(module.name)
    found: dict[str, tuple[type[DOMNode], Binding]] = {}
    for kind in _kinds(DOMNode):
        if kind.__module__.startswith(tekton_tui.__name__):
            for _, binding in BindingsMap(kind.__dict__.get("BINDINGS", ())):
                if binding.id:
                    found.setdefault(binding.id, (kind, binding))
    return found


def grant(wishes: Mapping[str, str], source: str) -> tuple[dict[str, str], list[str]]:
    """Return the keymap for Textual and one sentence for each wish that cannot be granted.

    Args:
        wishes: Action id to keys, several divided by commas.
        source: Where they were read, to begin each sentence with.
    """
    known = actions()
    granted: dict[str, str] = {}
    problems: list[str] = []
    for action, keys in wishes.items():
        problem = _problem(action, keys, known) or _clash(action, keys, known, wishes)
        if problem:
            problems.append(f"{source}: console.keymap {action!r}: {problem}")
        else:
            kept = f"{known[action][1].key}," if action in FIXED else ""
            granted[action] = kept + ",".join(_split(keys))
    return granted, problems


def _problem(action: str, keys: str, known: Mapping[str, tuple[type[DOMNode], Binding]]) -> str:
    if action not in known:
        near = get_close_matches(action, known, 1)
        return "there is no such action" + (f"; did you mean {near[0]!r}?" if near else "")
    for key in _split(keys):
        name = key[_MODIFIERS.match(key).end() :]  # pyright: ignore[reportOptionalMemberAccess]
        if not name or (
            len(name) > 1 and name.lower() not in _NAMES and key.lower() not in _NAMES and not _is_sign(name)
        ):
            return f"{key!r} is no key; write it like k, K, ctrl+k, f5, slash or |"
    return "" if _split(keys) else "no key is given"


def _clash(
    action: str, keys: str, known: Mapping[str, tuple[type[DOMNode], Binding]], wishes: Mapping[str, str]
) -> str:
    """Say which other action of the same widget would have the same key."""
    kind = known[action][0]
    mine = set(_long(keys))
    for other, (place, binding) in known.items():
        if place is kind and other != action and mine & set(_long(wishes.get(other, binding.key))):
            return f"{keys!r} is the key of {other!r} there"
    return ""


def _split(keys: str) -> list[str]:
    """Divide at commas; a comma that is a key itself is written `comma`."""
    return [key.strip() for key in keys.split(",") if key.strip()]


def _long(keys: str) -> Iterable[str]:
    return (_sign_name(key) if len(key) == 1 else key for key in _split(keys))


def _sign_name(sign: str) -> str:
    from textual.keys import _character_to_key  # pyright: ignore[reportPrivateUsage]

    return _character_to_key(sign)


def _is_sign(name: str) -> bool:
    """Whether this is the long name of a printable sign, such as `question_mark`."""
    from textual.keys import key_to_character

    return key_to_character(name) is not None


def _kinds(kind: type[DOMNode]) -> Iterable[type[DOMNode]]:
    for below in kind.__subclasses__():
        yield below
        yield from _kinds(below)
