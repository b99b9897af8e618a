"""`aish`, the AI shell: ask specialists and run pipelines from a shell, a script or a prompt.

Answers go to stdout as they come, flushed piece by piece; everything else goes to stderr.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from backend.cli import terminal
from backend.cli.calling import attached, run
from backend.cli.exit_codes import OK, USAGE
from backend.cli.help_texts import EPILOGS
from backend.cli.pipe_files import MAX_INPUT_BYTES, run_with_files
from backend.schema.errors import TektonError

VERBS = ("team-chat", "list", "history")


def main(arguments: list[str] | None = None) -> int:
    """Run one call of the shell; return its exit code."""
    options = build_parser().parse_args(arguments)
    return run(lambda: _main(options))


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="aish",
        description="Ask specialists, run pipelines. Without words on a terminal it is a shell.",
        epilog=EPILOGS["aish"],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "words", nargs="*", help="NAME [TEXT…] · team-chat TEXT · list · history NAME · SCRIPT.ai"
    )
    parser.add_argument("-c", dest="script", help="a script: pipelines, one a line or separated by ;")
    parser.add_argument("-l", "--list", action="store_true", help="list specialists")
    parser.add_argument(
        "--session", metavar="NAME", help="go on in a named conversation, begun if there is none"
    )
    parser.add_argument("--json", action="store_true", help="JSON lines instead of text")
    parser.add_argument("--no-stream", action="store_true", help="print the answer when it is whole")
    parser.add_argument(
        "--direct", action="store_true", help="straight to the specialist's socket, without a backend"
    )
    return parser


async def _main(options: argparse.Namespace) -> int:
    words: list[str] = options.words
    if options.direct:
        return await _direct(words, options)
    async with attached(start=True) as client:
        from backend.cli.aish_session import Shell

        shell = Shell(
            client, as_json=options.json, stream=not options.no_stream, session_name=options.session or ""
        )
        if options.list or words[:1] == ["list"]:
            return await shell.list_specialists()
        if options.script is not None:
            return await _script(client, options.script, _stdin(), options)
        if words[:1] == ["team-chat"]:
            return await shell.ask_team(_question(words[1:]))
        if words[:1] == ["history"]:
            return await shell.history(words[1] if len(words) > 1 else "team")
        if (script := _script_file(words)) is not None:
            return await _script(client, script, _stdin(), options)
        if words:
            return await shell.ask(words[0], _question(words[1:]))
        if not sys.stdin.isatty():
            return await _script(client, _stdin(), "", options)
        from backend.cli.aish_prompt import interact

        return await interact(shell)


def _script_file(words: list[str]) -> str | None:
    """Return the text of a script, when the only word names a file."""
    if len(words) != 1 or not Path(words[0]).is_file():
        return None
    return Path(words[0]).read_text(encoding="utf-8")


async def _script(client: Any, text: str, given: str, options: argparse.Namespace) -> int:
    """Run pipelines one after another; the first that fails ends the script with its exit code."""
    from backend.grammar import parse_script, show

    script = parse_script(text)
    if not script.pipelines:
        terminal.error("the script holds no pipeline")
        return USAGE
    for pipeline in script.pipelines:
        code = await run_with_files(client, show(pipeline), given, as_json=options.json)
        if code:
            return code
    return OK


async def _direct(words: list[str], options: argparse.Namespace) -> int:
    from backend.client.direct import ai_send, ai_stream

    if not words or words[0] in VERBS:
        raise TektonError("--direct takes NAME and a text", code="invalid_request")
    name, text = words[0], _question(words[1:])
    if options.no_stream:
        print(terminal.shown(await ai_send(name, text)))
        return OK
    async for piece in ai_stream(name, text):
        sys.stdout.write(terminal.shown(piece))
        sys.stdout.flush()
    print()
    return OK


def _question(words: list[str]) -> str:
    """Return the text to ask: the words, and what is piped in behind them.

    Raises:
        TektonError: There is neither, or the input is too long.
    """
    piped = _stdin()
    text = "\n\n".join(part for part in (" ".join(words), piped.strip("\n")) if part)
    if not text.strip():
        raise TektonError("nothing to ask: give a text, or pipe one in", code="invalid_request")
    return text


def _stdin() -> str:
    """Read what is piped in; a terminal gives nothing."""
    if sys.stdin is None or sys.stdin.isatty():
        return ""
    data = sys.stdin.buffer.read(MAX_INPUT_BYTES + 1)
    if len(data) > MAX_INPUT_BYTES:
        raise TektonError(f"the input is longer than {MAX_INPUT_BYTES:,} bytes", code="too_large")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise TektonError("the input is not UTF-8 text", code="invalid_request") from error


if __name__ == "__main__":
    sys.exit(main())
