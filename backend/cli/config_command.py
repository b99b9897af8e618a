"""`tekton config`: the settings in force, the file they come from, Rhetor's own settings, values of clients."""

from __future__ import annotations

import argparse
import json
from typing import Any

import msgspec

from backend.cli.calling import call
from backend.cli.exit_codes import OK
from backend.schema.errors import TektonError


async def config(options: argparse.Namespace) -> int:
    """Show the settings in force, check the file, say where it lies, or read and change what the backend keeps."""
    from backend import config as settings_module
    from backend.home import Home

    match options.verb:
        case "orchestration":
            return await _orchestration(options.words)
        case "get" | "set":
            return await _preference(options.verb, options.words)
        case _:
            pass
    home = Home.from_environment()
    if options.verb == "path":
        print(home.config)
        return OK
    settings = settings_module.load(home)
    if options.verb == "check":
        from backend.catalog import load

        state = "good" if home.config.exists() else "not there; defaults hold"
        print(f"{home.config}: {state}; {len(load(settings).components)} specialists")
        return OK
    print(msgspec.json.format(msgspec.json.encode(settings), indent=2).decode())
    return OK


async def _orchestration(words: list[str]) -> int:
    """Show how Rhetor leads, or change it: `KEY=VALUE`, the value as JSON or as a plain word."""
    if not words:
        print(json.dumps(await call("get_orchestration", start=True), indent=2))
        return OK
    changes: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise TektonError(
                f"expected KEY=VALUE, found {word!r}; such as moderation_mode=synthesis",
                code="invalid_request",
            )
        changes[key] = _value(value)
    answer = await call("configure_orchestration", start=True, settings=changes)
    print(json.dumps(answer["settings"], indent=2))
    return OK


async def _preference(verb: str, words: list[str]) -> int:
    """Read or store a value that the console and other clients keep in the backend; `null` removes it."""
    if len(words) != (1 if verb == "get" else 2):
        raise TektonError(
            f"give {'KEY' if verb == 'get' else 'KEY and VALUE'}, such as theme", code="invalid_request"
        )
    if verb == "get":
        answer = await call("get_preference", start=True, key=words[0])
        print(json.dumps(answer["value"]))
        return OK
    await call("put_preference", start=True, key=words[0], value=_value(words[1]))
    return OK


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
