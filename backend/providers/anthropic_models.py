"""What the installed Anthropic library knows of model names: which are current, which end when."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import date, datetime
from typing import get_args

SHOWN = 8
RETIRED = "was retired on"


def current_models() -> list[str]:
    """Return the names the library knows and does not call deprecated, dated duplicates left out; newest first."""
    from anthropic.types import model_param

    names: list[str] = []
    for part in get_args(model_param.ModelParam):
        names += [name for name in get_args(part) if isinstance(name, str)]
    ends = _deprecated()
    return [name for name in names if name not in ends and not name[-8:].isdigit()][:SHOWN]


def retirement(model: str, today: date | None = None) -> str:
    """Return `was retired on …` or `ends on …` for a model the library calls deprecated, else an empty text.

    Says nothing as long as the library is not imported: importing it takes seconds.
    """
    end = _deprecated().get(model)
    if end is None:
        return ""
    day = _day(end)
    if day is None:
        return f"is deprecated ({end})"
    return f"{RETIRED} {day}" if day <= (today or date.today()) else f"ends on {day}: choose a newer model"


def _deprecated() -> Mapping[str, str]:
    if "anthropic" not in sys.modules:
        return {}
    from anthropic.resources.messages.messages import DEPRECATED_MODELS

    return DEPRECATED_MODELS


def _day(text: str) -> date | None:
    """Read `June 15th, 2026`."""
    month, _, rest = text.partition(" ")
    day, _, year = rest.partition(", ")
    try:
        return datetime.strptime(f"{month} {day.rstrip('stndrh')} {year}", "%B %d %Y").date()
    except ValueError:
        return None
