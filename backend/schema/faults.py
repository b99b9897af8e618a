"""Find the one key that makes a configuration invalid, and say what was expected there.

Knows types and values, not where they were read from.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin, get_type_hints

import msgspec

from backend.suggest import meant

_PLAIN = {"str": "text", "int": "a whole number", "float": "a number", "bool": "true or false"} | {
    "object": "a table",
    "array": "a list",
}


_PLAIN_TYPES = (str, int, float, bool, bytes, type(None), object, Any)


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
    meant_kind = _meant_kind(value, kind)
    if (tags := _tags(meant_kind)) and isinstance(value, dict):
        field = next(iter(tags.values())).__struct_config__.tag_field or ""
        tag = cast(dict[str, object], value).get(field)
        return Fault(_path(key, field), tag, f"expected one of {', '.join(tags)}")
    for child, child_kind, child_key in _children(value, meant_kind):
        path = _path(key, child_key)
        if child_kind is None:
            if meant_kind.__struct_config__.forbid_unknown_fields:
                return Fault(path, child, unknown_key(child_key, list(_hints(meant_kind))))
        elif fault := find_fault(child, child_kind, path, strict=strict):
            return fault
    return Fault(key or "(top)", value, _expected(reason, kind))


def unknown_inside(value: object, kind: Any, key: str = "") -> Fault | None:
    """Return the first key that no struct inside of `kind` has, also of structs that pass over what they do not know.

    They do so because older and newer processes send them to each other; what a caller writes is another matter. The keys
    of the value itself are not looked at.
    """
    for part, part_kind, name in _children(value, _meant_kind(value, kind)):
        if part_kind is None:
            if key:
                return Fault(f"{key}.{name}", part, unknown_key(name, list(_hints(_meant_kind(value, kind)))))
        elif fault := unknown_inside(part, part_kind, _path(key, name)):
            return fault
    return None


def _path(key: str, child: str) -> str:
    return f"{key}{child}" if child.startswith("[") or not key else f"{key}.{child}"


def _meant_kind(value: object, kind: Any) -> Any:
    """Return a type without its annotations; of a choice between types the one that a value of this shape belongs to."""
    kind = _bare(kind)
    if get_origin(kind) not in (Union, types.UnionType) or not isinstance(value, dict | list):
        return kind
    if isinstance(value, dict) and (tags := _tags(kind)):
        field = next(iter(tags.values())).__struct_config__.tag_field or ""
        return tags.get(str(cast(dict[str, object], value).get(field)), kind)
    # a struct has no origin
    shape = (list,) if isinstance(value, list) else (dict, None)
    fitting = [
        one for one in map(_bare, get_args(kind)) if get_origin(one) in shape and one not in _PLAIN_TYPES
    ]
    return fitting[0] if len(fitting) == 1 else kind


@cache
def _tags(kind: Any) -> dict[str, type[msgspec.Struct]]:
    """Return the structs that a type is a choice of, by their tags; none for another type."""
    if get_origin(kind) not in (Union, types.UnionType):
        return {}
    structs = [one for one in get_args(kind) if isinstance(one, type) and issubclass(one, msgspec.Struct)]
    return {str(one.__struct_config__.tag): one for one in structs if one.__struct_config__.tag is not None}


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


@cache
def _bare(kind: Any) -> Any:
    """Take annotations, `| None` and `| UnsetType` off a type."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in (Union, types.UnionType):
        choices = [choice for choice in get_args(kind) if choice not in (type(None), msgspec.UnsetType)]
        return _bare(choices[0]) if len(choices) == 1 else kind
    return kind


def _children(value: object, kind: Any) -> Iterator[tuple[object, Any, str]]:
    """Yield the parts of a container with the type and the key of each; a type of `None` is an unknown key."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and isinstance(value, dict):
        for name, part in cast(dict[str, object], value).items():
            if name != kind.__struct_config__.tag_field:
                yield part, _hints(kind).get(name), name
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


def _words(kind: Any) -> list[str]:
    """Return the words that a type lists; an empty one goes without saying."""
    if get_origin(kind) is Literal:
        return [str(word) for word in get_args(kind) if word != ""]
    choices = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else ()
    return [word for one in choices if get_origin(one) is Literal for word in _words(one)]


def _expected(reason: str, kind: Any) -> str:
    """Say in words what the type wants; `reason` is the validator's own sentence."""
    bare = _bare(kind)
    if words := _words(bare):
        return f"expected one of {', '.join(words)}"
    if missing := re.search(r"missing required field `(.+)`", reason):
        return f"expected a key '{missing[1]}' in it"
    if (described := _description(kind)) and "regex" in reason:
        return f"expected {described}"
    wanted = re.search(r"Expected `(\w+)[^`]*`(?: (<=|>=|<|>) ([\d.-]+))?", reason)
    if wanted is None:
        return reason.lower()
    limit = f" {wanted[2]} {wanted[3].removesuffix('.0')}" if wanted[2] else ""
    return f"expected {_PLAIN.get(wanted[1], wanted[1])}{limit}"
