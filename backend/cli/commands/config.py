"""`tekton config`: the settings in use and their file, the orchestration's settings, values clients store."""

from __future__ import annotations

import argparse
import json
from typing import Any

from backend.cli import terminal
from backend.cli.command import argument, command
from backend.cli.exit_codes import FAILED, OK
from backend.cli.runner import call, here_only
from backend.cli.streams import json_or_text
from backend.schema import params
from backend.schema.errors import InvalidRequest
from backend.suggest import nearest


@command(
    "config",
    argument(
        "verb", nargs="?", choices=("show", "check", "path", "orchestration", "get", "set"), default="show"
    ),
    argument("words", nargs="*", help="orchestration [KEY=VALUE…] · get KEY · set KEY VALUE"),
    argument("--origin", action="store_true", help="show: a row for each setting, and where it comes from"),
    examples=[
        ("tekton config check", "check the file"),
        ("tekton config show", "all settings in use"),
        (
            "tekton config show --origin",
            "and where each comes from: a line of the file, a variable, a default",
        ),
        ("tekton config orchestration moderation_mode=pass_through", "how teams are moderated"),
    ],
)
async def config(options: argparse.Namespace) -> int:
    """show: all settings in use. check: check the file. path: print its path. orchestration [KEY=VALUE…]: how
    teams are moderated and requests routed, effective at once. get and set: values that clients store.
    """
    from backend import config as settings_module
    from backend.home import Home

    match options.verb:
        case "orchestration":
            return await _orchestration(options.words)
        case "get" | "set":
            return await _preference(options.verb, options.words)
        case _:
            pass
    here_only(f"`tekton config {options.verb}`")
    home = Home.from_environment()
    if options.verb == "path":
        print(home.config)
        return OK
    settings = settings_module.load(home)
    if options.verb == "check":
        from backend.catalog import load

        state = "good" if home.config.exists() else "does not exist; the defaults are used"
        print(f"{home.config}: {state}; {len(load(settings).components)} specialists")
        problems = settings_module.provider_problems()
        for problem in problems:
            terminal.error(problem)
        return FAILED if problems else OK
    if options.origin:
        for row in settings_module.rows_of(settings_module.shown(settings), settings_module.origins(home)):
            value = json.dumps(row.value, ensure_ascii=False)
            print(f"{row.key:<40} {row.origin:<20} {value}")
        return OK
    terminal.print_json(settings_module.shown(settings))
    return OK


async def _orchestration(words: list[str]) -> int:
    """Show how requests are routed and teams moderated, or change it: `KEY=VALUE`, the value as JSON or a plain word."""
    if not words:
        terminal.print_json(await call(params.GetOrchestration(), start=True))
        return OK
    changes: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise InvalidRequest(f"expected KEY=VALUE, found {word!r}; such as moderation_mode=synthesis")
        changes[key] = json_or_text(value)
    wish = params.read_params(params.ConfigureOrchestration, {"settings": changes})
    terminal.print_json((await call(wish, start=True)).settings)
    return OK


async def _preference(verb: str, words: list[str]) -> int:
    """Read or store a value that the console and other clients store in the backend; `null` removes it."""
    if len(words) != (1 if verb == "get" else 2):
        raise InvalidRequest(f"give {'KEY' if verb == 'get' else 'KEY and VALUE'}, such as notes")
    _refuse_setting(words[0])
    if verb == "get":
        terminal.print_json((await call(params.GetPreference(key=words[0]), start=True)).value, indent=0)
        return OK
    await call(params.PutPreference(key=words[0], value=json_or_text(words[1])), start=True)
    return OK


def _refuse_setting(key: str) -> None:
    """Refuse a key that is meant for the configuration, misspelt or not: stored with the clients' values nobody reads it.

    Raises:
        TektonError: `invalid_request`, with where it belongs.
    """
    from backend.config import Settings
    from backend.config.settings import Console
    from backend.home import Home

    table, dot, _ = key.partition(".")
    tables = [*Settings.__struct_fields__, "orchestration"]
    meant = table if table in tables else next(iter(nearest(table, tables, likeness=0.75) if dot else []), "")
    if meant == "orchestration":
        raise InvalidRequest(
            f"{key}: `tekton config orchestration KEY=VALUE` changes how requests are routed and teams moderated"
        )
    if not meant and nearest(key, Console.__struct_fields__, likeness=0.75):
        meant = "console"
    if meant:
        raise InvalidRequest(
            f"{key} is a setting of [{meant}] in {Home.from_environment().config}: write it there; `tekton config show` prints "
            "what holds, `tekton config check` checks the file"
        )
