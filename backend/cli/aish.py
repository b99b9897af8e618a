"""`aish`, the AI shell: ask specialists and run pipelines from a shell, a script or a prompt.

Answers go to stdout as they come, flushed piece by piece; everything else goes to stderr.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from backend.cli import terminal
from backend.cli.command import COMMANDS, SPECIALISTS, Parser, argument, arguments_of, command
from backend.cli.exit_codes import OK, USAGE
from backend.cli.runner import attached, run
from backend.cli.streams import Output, question, read_file, read_stdin
from backend.schema.content import Effort
from backend.schema.errors import InvalidRequest, TektonError

if TYPE_CHECKING:
    from backend.cli.shell import Shell

VERBS = ("team-chat", "list", "history")


EFFORTS: tuple[Effort, ...] = get_args(Effort)


def main(arguments: list[str] | None = None) -> int:
    """Run one call of the shell; return its exit code."""
    return terminal.program(lambda: _main(arguments))


def _main(arguments: list[str] | None) -> int:
    options = build_parser().parse_args(arguments_of(arguments))
    return run(lambda: aish(options))


def build_parser() -> Parser:
    """Return the parser of `aish`."""
    parser = Parser(prog="aish")
    parser.configure(COMMANDS["aish"])
    return parser


@command(
    "aish",
    argument(
        "words",
        nargs="*",
        values=(*VERBS, SPECIALISTS),
        help="NAME [TEXT…] · team-chat TEXT · list · history NAME · SCRIPT.ai",
    ),
    argument("-c", dest="script", help="a script: pipelines, one a line or separated by ;"),
    argument("-l", "--list", action="store_true", help="list specialists"),
    argument(
        "--session", metavar="NAME", help="continue the conversation of that name; a new one if there is none"
    ),
    argument(
        "--attach",
        metavar="FILE",
        action="append",
        help="an image, PDF or text file to attach; may be repeated",
    ),
    argument("--effort", choices=EFFORTS, help="how much the model is to think"),
    argument("--json", action="store_true", help="JSON lines instead of text"),
    argument("--no-stream", action="store_true", help="print the answer when it is complete"),
    argument("--direct", action="store_true", help="ask the specialist's own socket, without a backend"),
    examples=[
        ("aish apollo 'What is your role?'", "one question"),
        ("echo 'a text' | aish apollo 'sum up:' | aish athena > out.txt", "in a pipe of the shell"),
        ("aish -c 'echo \"hello\" | apollo | athena > out.txt'", "a pipeline"),
        ("aish --session plans apollo 'go on'", "a named conversation"),
        ("aish --effort high apollo 'name one risk'", "let the model think longer"),
        ("aish --json apollo hello", "JSON lines: pieces, then the answer"),
        ("aish team-chat 'name one risk'", "everybody that runs"),
        ("aish history apollo", "the conversation with apollo"),
        ("aish list", "all specialists and their states"),
    ],
)
async def aish(options: argparse.Namespace) -> int:
    """Ask specialists and run pipelines. Answers are written to stdout piece by piece; errors go to stderr with the
    failing stage and its code. Without words on a terminal it is a shell.
    """
    words: list[str] = options.words
    out = Output(as_json=options.json, stream=not options.no_stream)
    if options.direct:
        return await _direct(words, out, options)
    async with attached(start=True) as client:
        from backend.cli.shell import Shell

        shell = Shell(client, out, session_name=options.session or "")
        if options.list or words[:1] == ["list"]:
            return await shell.list_specialists()
        if options.script is not None:
            return await run_script(shell, options.script, read_stdin())
        if words[:1] == ["team-chat"]:
            return await shell.ask_team(question(words[1:]))
        if words[:1] == ["history"]:
            return await shell.history(words[1] if len(words) > 1 else "team")
        # behind the verbs, before names: a file called `list` in the current folder must not change what `aish list` does
        if (script := _script_file(words)) is not None:
            return await run_script(shell, script, read_stdin())
        if words:
            return await shell.ask(
                words[0], question(words[1:]), attached=options.attach or (), effort=options.effort
            )
        if not sys.stdin.isatty():
            return await run_script(shell, read_stdin(), "")
        from backend.cli.prompt import interact

        return await interact(shell)


def _script_file(words: list[str]) -> str | None:
    """Return the text of a script, when the only word names a file."""
    if len(words) != 1 or not Path(words[0]).is_file():
        return None
    return read_file(words[0])


async def run_script(shell: Shell, text: str, given: str) -> int:
    """Run pipelines one after another; the first that fails ends the script with its exit code."""
    from backend.grammar import parse_script, show

    script = parse_script(text)
    if not script.pipelines:
        terminal.error("the script holds no pipeline")
        return USAGE
    for pipeline in script.pipelines:
        code = await shell.pipeline(show(pipeline), given)
        if code:
            return code
    return OK


async def _direct(words: list[str], out: Output, options: argparse.Namespace) -> int:
    """Ask a specialist's own socket: nothing is remembered, and no backend is needed."""
    from backend.client import ai_send, ai_stream

    if not words or words[0] in VERBS or options.script is not None or options.list:
        raise InvalidRequest("--direct takes NAME and a text")
    if options.attach or options.effort:
        raise InvalidRequest("--attach and --effort need the backend; leave --direct out")
    if options.session:
        raise InvalidRequest("--session needs the backend, which keeps conversations; leave --direct out")
    name, text = words[0], question(words[1:])
    parts: list[str] = []
    try:
        if out.stream:
            async for piece in ai_stream(name, text):
                parts.append(piece)
                out.piece(piece)
        else:
            parts.append(await ai_send(name, text))
    except TektonError as error:
        if parts and not out.as_json:
            out.text("\n")
        return out.failed(name, error.code, error.message, evidence=error.evidence)
    if out.as_json:
        out.row("answer", ai_id=name, content="".join(parts))
    else:
        out.text("\n" if out.stream else f"{parts[0]}\n")
    return OK


if __name__ == "__main__":
    sys.exit(main())
