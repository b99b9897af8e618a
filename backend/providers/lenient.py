"""Foreign JSON read without trust: what has another shape than it should have counts as not there."""

from __future__ import annotations

from typing import Any, cast


def as_object(value: object) -> dict[str, Any]:
    """Return an object; an empty one for any other value."""
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}


def as_list(value: object) -> list[object]:
    """Return a list; an empty one for any other value."""
    return cast(list[object], value) if isinstance(value, list) else []


def as_objects(value: object) -> list[dict[str, Any]]:
    """Return the objects of a list; other values are left out."""
    return [cast(dict[str, Any], row) for row in as_list(value) if isinstance(row, dict)]
