"""The AI shell at a terminal: history, completion, live answers; ctrl-c ends the answer, ctrl-d the shell."""

from __future__ import annotations

import asyncio
import contextlib
import signal

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import WordCompleter
from prompt_toolkit.history import FileHistory
from prompt_toolkit.patch_stdout import patch_stdout

from backend.cli import terminal
from backend.cli.aish_session import Shell
from backend.cli.calling import say
from backend.cli.exit_codes import OK
from backend.cli.pipe_files import run_with_files
from backend.grammar import Ask, parse
from backend.home import Home
from backend.schema.errors import TektonError

WELCOME = (
    "aish · NAME question · a | b · team question · list · history NAME · exit   (\\ at the end goes on)"
)


async def interact(shell: Shell) -> int:
    """Read lines until the end of input; an error of a line never ends the shell."""
    home = Home.from_environment().prepare()
    names = await shell.names()
    session: PromptSession[str] = PromptSession(
        history=FileHistory(str(home.state / "aish_history")),
        completer=WordCompleter([*names, "team", "list", "history", "exit", "echo", "cat"]),
        complete_while_typing=False,
    )
    print(WELCOME)
    while True:
        try:
            with patch_stdout():
                line = await _read(session)
        except KeyboardInterrupt:
            continue
        except EOFError:
            return OK
        if line.strip() in ("exit", "quit"):
            return OK
        if line.strip():
            await _run(shell, line)


async def _read(session: PromptSession[str]) -> str:
    line = await session.prompt_async("aish> ")
    while line.endswith("\\"):
        line = line[:-1] + "\n" + await session.prompt_async("....> ")
    return line


async def _run(shell: Shell, line: str) -> None:
    """Run a line; ctrl-c cancels it, at the specialist too."""
    work = asyncio.create_task(_line(shell, line))
    loop = asyncio.get_running_loop()
    with contextlib.suppress(NotImplementedError):
        loop.add_signal_handler(signal.SIGINT, work.cancel)
    try:
        await work
    except asyncio.CancelledError:
        print()
        terminal.error("cancelled")
    except TektonError as error:
        say(error)
    finally:
        with contextlib.suppress(NotImplementedError):
            loop.remove_signal_handler(signal.SIGINT)


async def _line(shell: Shell, line: str) -> None:
    word, _, rest = line.strip().partition(" ")
    if word == "list":
        await shell.list_specialists()
        return
    if word == "history":
        await shell.history(rest or "team")
        return
    if word in ("team", "team-chat") and rest and "|" not in line:
        await shell.ask_team(rest)
        return
    if not any(mark in line for mark in "|<>{"):
        await shell.ask(word, rest)
        return
    pipeline = parse(line)
    stage = pipeline.stages[0]
    if (
        len(pipeline.stages) == 1
        and isinstance(stage, Ask)
        and not stage.fan_out
        and not pipeline.output_path
        and not pipeline.input_path
    ):
        await shell.ask(word, rest)
        return
    await run_with_files(shell.client, line, "", as_json=shell.as_json)
