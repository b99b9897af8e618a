"""`tekton call ACTION key=value …`: any action of the platform by its name, the answer as JSON.

For programs and for what has no command of its own. Knows the table of actions only when it lists them.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import msgspec

from backend.cli.calling import call
from backend.cli.exit_codes import OK
from backend.schema.errors import TektonError


async def any_call(options: argparse.Namespace) -> int:
    """Call an action, or list all actions with what they take."""
    if not options.action:
        return _list()
    answer = await call(options.action, **_values(options.values))
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(answer), indent=2).decode() + "\n")
    return OK


def _values(words: list[str]) -> dict[str, Any]:
    """Read `key=value` words; a value that is JSON is taken as such, any other as text."""
    values: dict[str, Any] = {}
    for word in words:
        key, sign, text = word.partition("=")
        if not sign or not key:
            raise TektonError(f"{word!r}: expected key=value", code="invalid_request")
        key = "timeout" if key == "timeout_s" else key  # the other would be how long this command waits
        try:
            values[key] = msgspec.json.decode(text)
        except msgspec.DecodeError:
            values[key] = text
    return values


def _list() -> int:
    from backend.orchestration.actions import ACTIONS

    for action in sorted(ACTIONS.values(), key=lambda row: row.name):
        fields = msgspec.structs.fields(action.params)
        names = " ".join(field.name if field.required else f"[{field.name}]" for field in fields)
        print(f"{action.name} {names}\n    {action.summary} ({action.scope})")
    return OK
