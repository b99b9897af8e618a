"""`tekton completion`: a script that completes commands, options, choices and specialists, made by shtab."""

from __future__ import annotations

import argparse
from importlib import import_module

import shtab

from backend.catalog import load
from backend.cli.aish import build_parser as aish_parser
from backend.cli.command import FILES, SPECIALISTS, argument, command
from backend.cli.exit_codes import OK
from backend.cli.tekton import build_parser, find, line
from backend.config import load as load_settings
from backend.home import Home


@command(
    "completion",
    argument("shell", choices=("bash", "zsh", "fish")),
    examples=[("tekton completion bash", "the script for bash")],
)
async def completion(options: argparse.Namespace) -> int:
    """Print a completion script for `tekton`, `aish` and `tekton-tui`. bash: eval "$(tekton completion bash)" · zsh:
    eval "$(tekton completion zsh)" after compinit · fish: tekton completion fish | source
    """
    catalog = load(load_settings(Home.from_environment()))
    names = [*(component.name for component in catalog), *catalog.groups, "all", "starter"]
    tekton, aish = build_parser(), aish_parser()
    # by name, as the entry points know it: nothing else of the command line depends on the console
    console = import_module("tekton_tui.__main__").build_parser()
    # every command is imported here, as a script has to know all their arguments
    for name, parser in tekton.commands.items():
        parser.configure(find(name))
        parser.description = line(name)  # a shell shows it beside the command
    for action, values in [pair for parser in (aish, *tekton.commands.values()) for pair in parser.values]:
        if words := [word for value in values for word in (names if value == SPECIALISTS else [value])]:
            action.choices = [word for word in words if word != FILES]
        if FILES in values:
            action.complete = shtab.FILE  # pyright: ignore[reportAttributeAccessIssue]  (as shtab documents it)
    for program in (tekton, aish, console):
        print(shtab.complete(program, shell=options.shell))
    return OK
