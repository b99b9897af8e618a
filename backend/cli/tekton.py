"""`tekton`: the platform from the command line. Each command imports what it needs when it runs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from backend.cli.help_texts import description, epilog, overview

COMMANDS: dict[str, tuple[str, str, str]] = {
    "serve": ("", "", "run the backend in the foreground"),
    "launch": ("fleet_commands", "launch", "launch specialists: names, groups, starter, all"),
    "kill": ("fleet_commands", "kill", "stop specialists; --all works without a backend"),
    "restart": ("fleet_commands", "restart", "stop and launch again, by hand"),
    "status": ("status_command", "status", "the fleet at a glance"),
    "logs": ("log_commands", "logs", "what a process wrote"),
    "discover": ("fleet_commands", "discover", "find specialists by capability, role, state"),
    "match": ("fleet_commands", "match", "who suits a request in free words"),
    "errors": ("memory_commands", "errors", "the error ledger; `errors ack` marks as seen"),
    "sessions": (
        "memory_commands",
        "sessions",
        "conversations: list, show, search, new, rename, pin, delete",
    ),
    "export": ("memory_commands", "export", "a conversation as Markdown or JSON"),
    "usage": ("spending", "usage", "tokens and cost of today"),
    "models": ("model_commands", "models", "models: list, fetch (embedded), pull (Ollama), set"),
    "team": ("ask_commands", "team", "ask the whole team"),
    "pipe": ("ask_commands", "pipe", "run a pipeline; list earlier runs, run one again from a stage"),
    "bulk": ("ask_commands", "bulk", "ask many things side by side, JSON lines in and out"),
    "config": ("config_command", "config", "settings: show, check, path, orchestration, get, set"),
    "doctor": ("doctor", "doctor", "what is wrong on this machine, and its mend"),
    "mcp": ("mcp_command", "mcp", "serve MCP over stdin and stdout, for desktop clients"),
    "cluster": ("cluster_command", "cluster", "hosts, what they offer, and who runs where"),
    "gateway": ("ask_commands", "gateway", "clients, calls and refusals"),
    "call": ("any_call", "any_call", "any action by name; without one, list them"),
    "stop": ("ask_commands", "stop", "end the backend; --fleet stops the specialists too"),
    "completion": ("completion", "completion", "completion for bash, zsh or fish"),
}
"""Module, function and one line of help of each command."""


ELSEWHERE = {
    "--connect": "URL of a gateway on another machine (default: TEKTON_CONNECT)",
    "--token-file": "file with its token (default: TEKTON_TOKEN_FILE)",
    "--ca-file": "who signed its certificate (default: TEKTON_CA_FILE)",
}
"""Options before the command, and what they say."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    if words[:1] == ["serve"]:
        from backend.gateway.serve import main as serve

        return serve(words[1:])
    parser = build_parser()
    options = parser.parse_args(words)
    if not getattr(options, "command", ""):
        parser.print_help()
        return 2
    from backend.cli.calling import run

    for option in ELSEWHERE:
        name = option.strip("-").replace("-", "_")
        if value := getattr(options, name, None):
            os.environ[f"TEKTON_{name.upper()}"] = value
    module, function, _ = COMMANDS[options.command]
    command: Callable[[argparse.Namespace], Any] = getattr(import_module(f"backend.cli.{module}"), function)
    return run(lambda: command(options))


class _Overview(argparse.ArgumentParser):
    """The parser of `tekton` itself: its help shows the commands in groups."""

    def format_help(self) -> str:
        return overview({name: words for name, (_, _, words) in COMMANDS.items()})


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = _Overview(prog="tekton", usage="tekton COMMAND …")
    parser.add_argument("--version", action="version", version=_version())
    for option, words in ELSEWHERE.items():
        parser.add_argument(option, help=words)
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", prog="tekton", parser_class=argparse.ArgumentParser
    )
    made = {
        name: commands.add_parser(
            name,
            help=words,
            description=description(name),
            epilog=epilog(name),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for name, (_, _, words) in COMMANDS.items()
    }
    _fleet_options(made)
    _memory_options(made)
    _ask_options(made)
    return parser


def _fleet_options(made: dict[str, argparse.ArgumentParser]) -> None:
    made["launch"].add_argument("names", nargs="*", help="names, groups, starter or all (default: starter)")
    made["launch"].add_argument("--dry-run", action="store_true", help="show the plan, start nothing")
    made["kill"].add_argument("names", nargs="*", help="names or groups")
    made["kill"].add_argument("--all", action="store_true", help="every specialist of this home")
    made["kill"].add_argument(
        "--force", action="store_true", help="kill at once, without asking the process first"
    )
    made["restart"].add_argument("names", nargs="+")
    made["status"].add_argument("--json", action="store_true", help="the whole snapshot")
    made["status"].add_argument("--watch", action="store_true", help="again every second, in place")
    made["logs"].add_argument("name", help="a specialist, backend, embedded or control-audit")
    made["logs"].add_argument("-f", "--follow", action="store_true", help="go on as it writes")
    made["logs"].add_argument("--tail", type=int, default=200, help="lines (default 200)")
    made["logs"].add_argument("--previous", action="store_true", help="the run before")
    made["discover"].add_argument("--capability", help="for example: planning")
    made["discover"].add_argument("--role")
    made["discover"].add_argument("--state")
    made["discover"].add_argument("--active", action="store_true", help="only those that run")
    made["discover"].add_argument("--json", action="store_true")
    made["match"].add_argument("words", nargs="+", help="the request, in your own words")
    made["match"].add_argument("--limit", type=int, default=5)
    made["match"].add_argument("--json", action="store_true")


def _memory_options(made: dict[str, argparse.ArgumentParser]) -> None:
    made["errors"].add_argument("what", nargs="?", choices=("list", "ack"), default="list")
    made["errors"].add_argument("ids", nargs="*", type=int, help="record numbers to acknowledge")
    made["errors"].add_argument("--all", action="store_true", help="list acknowledged ones too; ack: all")
    made["errors"].add_argument("--evidence", action="store_true", help="with the evidence of each")
    made["errors"].add_argument("--json", action="store_true")
    verbs = ("list", "show", "search", "rename", "resume", "delete", "new", "pin", "unpin")
    made["sessions"].add_argument("verb", nargs="?", choices=verbs, default="list")
    made["sessions"].add_argument(
        "words", nargs="*", help="a session id and a title, words to find, or the number of a message (pin)"
    )
    made["sessions"].add_argument("--owner", help="a specialist, or team")
    made["sessions"].add_argument("-y", "--yes", action="store_true", help="delete: without asking")
    made["sessions"].add_argument("--limit", type=int, default=50)
    made["sessions"].add_argument("--json", action="store_true")
    made["export"].add_argument("session")
    made["export"].add_argument("--format", choices=("md", "json"), default="md")
    made["export"].add_argument("-o", "--output", help="a file that does not exist yet (default: stdout)")
    made["usage"].add_argument("--json", action="store_true")
    made["models"].add_argument("verb", nargs="?", choices=("list", "fetch", "pull", "set"), default="list")
    made["models"].add_argument("words", nargs="*", help="pull MODEL · set SPECIALIST [MODEL]")
    made["models"].add_argument("--provider", help="ollama, anthropic, openai, embedded")
    made["models"].add_argument("--session", help="set: only this conversation's; set [MODEL] --session ID")
    made["models"].add_argument("--json", action="store_true")
    verbs = ("show", "check", "path", "orchestration", "get", "set")
    made["config"].add_argument("verb", nargs="?", choices=verbs, default="show")
    made["config"].add_argument(
        "words", nargs="*", help="orchestration [KEY=VALUE…] · get KEY · set KEY VALUE"
    )


def _ask_options(made: dict[str, argparse.ArgumentParser]) -> None:
    team, pipe, bulk = made["team"], made["pipe"], made["bulk"]
    team.add_argument("words", nargs="*", help="the question; what is piped in stands behind it")
    team.add_argument("--to", nargs="+", metavar="NAME", help="only these (default: all that run)")
    team.add_argument("--mode", choices=("pass_through", "synthesis", "consensus", "directed"))
    team.add_argument("--timeout", type=float, metavar="S", help="seconds each member has")
    team.add_argument("--discuss", metavar="ID", help="one more round over the team turn of this id")
    team.add_argument("--json", action="store_true", help="JSON lines: an answer each")
    pipe.add_argument("pipeline", nargs="*", help="for example: 'apollo | athena'; its input may be piped in")
    pipe.add_argument(
        "--times", action="store_true", help="each stage's clock, first token and sizes, on stderr"
    )
    pipe.add_argument("--history", action="store_true", help="list earlier runs")
    pipe.add_argument("--limit", type=int, default=20, help="runs to list (default 20)")
    pipe.add_argument("--show", metavar="ID", help="one earlier run with all its stages")
    pipe.add_argument("--run", metavar="ID", help="run an earlier run again")
    pipe.add_argument(
        "--from", dest="from_stage", type=int, default=1, metavar="K", help="with --run: begin with stage K"
    )
    pipe.add_argument("--save", metavar="NAME", help="keep the pipeline under a name instead of running it")
    pipe.add_argument("--replace", action="store_true", help="with --save: instead of what has that name")
    pipe.add_argument(
        "--saved",
        nargs="?",
        const="",
        metavar="NAME",
        help="run the one of that name; without a name list them",
    )
    pipe.add_argument("--remove", metavar="NAME", help="forget the saved pipeline of that name")
    pipe.add_argument("--cancel", metavar="ID[/K]", help="end a run, or what comes from its stage K on")
    pipe.add_argument(
        "--json", action="store_true", help="JSON lines: pieces, then the run with all its stages"
    )
    bulk.add_argument("file", nargs="?", default="-", help="JSON lines (default: what is piped in)")
    bulk.add_argument("--at-once", type=int, metavar="N", help="how many side by side")
    bulk.add_argument("--timeout", type=float, metavar="S", help="seconds each has")
    made["mcp"].add_argument(
        "--scope",
        choices=("read", "chat", "control"),
        default="control",
        help="what the client may do: look, also ask, or also launch and stop (default: control)",
    )
    made["cluster"].add_argument("verb", nargs="?", choices=("status",), default="status")
    made["cluster"].add_argument("--json", action="store_true")
    made["gateway"].add_argument("--json", action="store_true")
    made["call"].add_argument("action", nargs="?", help="for example: get_orchestration")
    made["call"].add_argument("values", nargs="*", help="key=value, the value as JSON or text")
    made["stop"].add_argument("--fleet", action="store_true", help="stop the specialists too")
    made["completion"].add_argument("shell", choices=("bash", "zsh", "fish"))


def _version() -> str:
    import backend

    return f"tekton {backend.__version__}"


if __name__ == "__main__":
    sys.exit(main())
