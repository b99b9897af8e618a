"""`tekton`: the platform from the command line. A command's module is imported when that command is called."""

from __future__ import annotations

import os
import sys
import textwrap
from importlib import import_module
from typing import Any

import backend
from backend.cli.command import COMMANDS, WIDTH, Command, Parser, arguments_of, epilog
from backend.cli.exit_codes import USAGE
from backend.cli.terminal import program

GROUPS: dict[str, dict[str, tuple[str, str]]] = {
    "specialists": {
        "launch": ("fleet", "launch specialists: names, groups, starter, all"),
        "status": ("status", "state, model, tokens and cost of each specialist"),
        "kill": ("fleet", "stop specialists; --all works without a backend"),
        "restart": ("fleet", "stop specialists and launch them again"),
        "logs": ("logs", "the log of a process"),
        "discover": ("fleet", "find specialists by capability, role, state"),
        "match": ("fleet", "rank specialists for a request in plain words"),
        "options": ("options", "list and set the options of external agents"),
        "worktree": ("worktree", "git worktrees of agents: list, diff, merge, remove"),
        "specialists": ("specialists", "your own: list, show, new, edit, remove, check, versions"),
    },
    "questions": {
        "team": ("ask", "ask the whole team"),
        "pipe": ("ask", "run a pipeline; list earlier runs, run one again from a stage"),
        "bulk": ("ask", "run many requests at the same time, JSON lines in and out"),
    },
    "tools": {
        "asks": ("tools", "tool calls that wait for approval: list, allow, deny"),
        "rules": ("tools", "what specialists may do with tools: list, add, remove, explain"),
        "audit": ("tools", "which tools were called, and who allowed it"),
    },
    "history": {
        "sessions": ("memory", "conversations: list, show, search, new, rename, pin, delete"),
        "sent": ("sent", "what a turn sent to its model: parts, tokens, left out, new"),
        "export": ("memory", "a conversation as Markdown or JSON"),
        "desk": ("desk", "what waits for you: who is down, what failed, what was answered"),
        "errors": ("memory", "errors nobody has acknowledged; `errors ack` acknowledges"),
        "usage": ("status", "tokens and cost of today"),
    },
    "platform": {
        "serve": ("backend", "run the backend in the foreground"),
        "stop": ("backend", "end the backend; --fleet stops the specialists too"),
        "models": ("models", "models: list, fetch (embedded), pull (Ollama), set"),
        "config": ("config", "settings: show, check, path, orchestration, get, set"),
        "doctor": ("doctor", "find what is wrong on this machine and how to fix it"),
        "gateway": ("backend", "clients, calls and refusals"),
        "cluster": ("backend", "hosts, what they offer, and who runs where"),
        "mcp": ("mcp", "serve MCP over stdin and stdout, for desktop clients"),
        "acp": ("acp", "serve a specialist, team or pipeline to an editor (ACP)"),
        "call": ("backend", "call any action by name; without one, list them"),
        "completion": ("completion", "print a completion script for bash, zsh or fish"),
    },
}
"""Every command in the order of `tekton --help`: its module in `backend.cli.commands`, and one line of help."""

SUMMARY = "Run a fleet of AI specialists and ask it. `tekton-tui` opens the console of the same platform."
EXAMPLES = (
    ("tekton launch apollo athena", "start two specialists"),
    ("tekton status", "see them"),
    ("tekton doctor", "find what is wrong on this machine"),
)
REMOTE_OPTIONS = {
    "--connect": "URL of a gateway on another machine (default: TEKTON_CONNECT)",
    "--token-file": "file with its token (default: TEKTON_TOKEN_FILE)",
    "--ca-file": "CA that signed its certificate (default: TEKTON_CA_FILE)",
}
"""Options before the command."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit code."""
    return program(lambda: _main(arguments))


def _main(arguments: list[str] | None) -> int:
    parser = build_parser()
    words = arguments_of(arguments)
    # as git has it: `tekton help kill`
    if words[:1] == ["help"]:
        words = [*words[1:2], "--help"]
    options = parser.parse_args(words)
    if options.command is None:
        parser.print_help()
        return USAGE
    for option in REMOTE_OPTIONS:
        name = option.strip("-").replace("-", "_")
        if value := getattr(options, name):
            # by the environment: processes that a command starts go to the same gateway
            os.environ[f"TEKTON_{name.upper()}"] = value
    from backend.cli.runner import run

    return run(lambda: find(options.command).run(options))


def find(name: str) -> Command:
    """Return a command, importing its module."""
    module = next(group[name][0] for group in GROUPS.values() if name in group)
    import_module(f"backend.cli.commands.{module}")
    return COMMANDS[name]


def line(name: str) -> str:
    """Return the one line of help of a command."""
    return next(group[name][1] for group in GROUPS.values() if name in group)


def build_parser() -> Overview:
    """Return the parser of all commands; a command is imported when its own arguments are parsed."""
    parser = Overview(prog="tekton", usage="tekton COMMAND …")
    parser.add_argument("--version", action="version", version=f"tekton {backend.__version__}")
    for option, words in REMOTE_OPTIONS.items():
        parser.add_argument(option, help=words)
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", prog="tekton", parser_class=_CommandParser
    )
    for group in GROUPS.values():
        for name, (_, line) in group.items():
            parser.commands[name] = commands.add_parser(name, help=line)
            parser.commands[name].name = name
    return parser


class _CommandParser(Parser):
    """The parser of one command, which gets its arguments when they are needed."""

    name = ""

    def parse_known_args(self, *given: Any, **named: Any) -> Any:
        """Parse, once the command is imported."""
        self.configure(find(self.name))
        options, more = super().parse_known_args(*given, **named)
        self.refuse(more)
        return options, more


class Overview(Parser):
    """The parser of `tekton` itself: its help lists the commands in groups."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands: dict[str, _CommandParser] = {}

    def parse_known_args(self, *given: Any, **named: Any) -> Any:
        """Parse; an option before the command that nobody knows is refused itself, not its value as a command."""
        words = named.get("args") or (given[0] if given else None)
        first = str(words[0]).partition("=")[0] if words else ""
        if first.startswith("--") and first not in self._option_string_actions:
            self.refuse([first])
        return super().parse_known_args(*given, **named)

    def format_help(self) -> str:
        width = max(len(name) for group in GROUPS.values() for name in group) + 2
        parts = ["usage: tekton COMMAND …        tekton COMMAND --help", textwrap.fill(SUMMARY, WIDTH - 2)]
        for title, group in GROUPS.items():
            lines = [f"  {name:<{width}}{line}" for name, (_, line) in group.items()]
            parts.append("\n".join([f"{title}:", *lines]))
        remote = [f"  {option:<{width + 2}}{line}" for option, line in REMOTE_OPTIONS.items()]
        parts += ["\n".join(["another machine, before the command:", *remote])]
        parts += [epilog(EXAMPLES), "`aish` asks specialists from a shell: aish --help"]
        return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.exit(main())
