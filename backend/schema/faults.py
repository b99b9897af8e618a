"""Find the one key that makes a configuration invalid, and say what was expected there.

Knows types and values, not where they were read from.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin, get_type_hints

import msgspec

from backend.suggest import meant

_PLAIN = {"str": "text", "int": "a whole number", "float": "a number", "bool": "true or false"} | {
    "object": "a table",
    "array": "a list",
}


class Fault(msgspec.Struct, frozen=True):
    """The place of a mistake: dotted `key`, the `value` found there, and what was `expected` in words."""

    key: str
    value: object
    expected: str


def find_fault(value: object, kind: Any, key: str = "", *, strict: bool = True) -> Fault | None:
    """Return the deepest first mistake of `value` against the type `kind`, `None` when it fits.

    Without `strict` numbers may be written as text.
    """
    try:
        msgspec.convert(value, kind, strict=strict)
        return None
    except msgspec.ValidationError as error:
        reason = str(error).partition(" - at ")[0]
    # the validator stops at the first mistake and names no key of a dict: each part is tried by itself
    for child, child_kind, child_key in _children(value, _bare(kind)):
        path = f"{key}{child_key}" if child_key.startswith("[") or not key else f"{key}.{child_key}"
        if child_kind is None:
            return Fault(path, child, unknown_key(child_key, list(get_type_hints(_bare(kind)))))
        if fault := find_fault(child, child_kind, path, strict=strict):
            return fault
    return Fault(key or "(top)", value, _expected(reason, kind))


def _bare(kind: Any) -> Any:
    """Take annotations and `| None` off a type."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in (Union, types.UnionType):
        choices = [choice for choice in get_args(kind) if choice is not type(None)]
        return _bare(choices[0]) if len(choices) == 1 else kind
    return kind


def _children(value: object, kind: Any) -> Iterator[tuple[object, Any, str]]:
    """Yield the parts of a container with the type and the key of each; a type of `None` is an unknown key."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and isinstance(value, dict):
        hints = get_type_hints(kind, include_extras=True)
        for name, part in cast(dict[str, object], value).items():
            yield part, hints.get(name), name
    elif get_origin(kind) is dict and isinstance(value, dict):
        for name, part in cast(dict[str, object], value).items():
            yield part, get_args(kind)[1], name
    elif get_origin(kind) is list and isinstance(value, list):
        for index, part in enumerate(cast(list[object], value)):
            yield part, get_args(kind)[0], f"[{index}]"


def unknown_key(name: str, known: list[str]) -> str:
    """Say that there is no such key, and which was meant or which there are."""
    return f"no such key; {meant(name, known)}"


def _description(kind: Any) -> str:
    """Return what a type says of itself in words, empty when it does not."""
    for part in (kind, *get_args(kind)):
        for meta in getattr(part, "__metadata__", ()):
            if isinstance(meta, msgspec.Meta) and meta.description:
                return meta.description
    return ""


def _expected(reason: str, kind: Any) -> str:
    """Say in words what the type wants; `reason` is the validator's own sentence."""
    bare = _bare(kind)
    if get_origin(bare) is Literal:
        return f"expected one of {', '.join(map(str, get_args(bare)))}"
    if missing := re.search(r"missing required field `(.+)`", reason):
        return f"expected a key '{missing[1]}' in it"
    if (described := _description(kind)) and "regex" in reason:
        return f"expected {described}"
    wanted = re.search(r"Expected `(\w+)[^`]*`(?: (<=|>=|<|>) ([\d.-]+))?", reason)
    if wanted is None:
        return reason.lower()
    limit = f" {wanted[2]} {wanted[3].removesuffix('.0')}" if wanted[2] else ""
    return f"expected {_PLAIN.get(wanted[1], wanted[1])}{limit}"
