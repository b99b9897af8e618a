"""The AI shell at a terminal: history, completion, live answers; ctrl-c ends the answer, ctrl-d the shell."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
from collections.abc import Generator, Iterable

from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.history import FileHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from backend.cli import terminal
from backend.cli.exit_codes import CANCELLED, OK
from backend.cli.runner import report
from backend.cli.shell import PLAIN_NAME, Shell
from backend.grammar import GrammarError, parse
from backend.home import Home
from backend.schema.errors import InvalidRequest, TektonError
from backend.schema.states import LIVE

VERBS = {
    "team": "ask everybody that runs",
    "list": "who there is",
    "history": "the conversation with NAME",
    "echo": "a text as first stage",
    "cat": "a file as first stage",
    "help": "what can be typed",
    "exit": "leave (ctrl-d)",
}
HELP = """\
  NAME question            ask one; tab completes names
  a | b "instruction"      a pipeline: b gets what a said; {a,b} | c asks a and b side by side
  echo "text" | a > FILE   files with < > >> and cat
  team question            ask everybody that runs
  list · history [NAME]    who there is · what was said
  exit                     leave; so does ctrl-d

alt-enter begins a new line, and so does enter behind \\ or in an open quote. ctrl-c ends an answer on its way."""
_MARKS = re.compile(r"[|<>{]")


async def interact(shell: Shell) -> int:
    """Read lines until the end of input; an error of a line never ends the shell."""
    home = Home.from_environment().prepare()
    states = await shell.states()
    session: PromptSession[str] = PromptSession(
        history=FileHistory(str(home.state / "aish_history")),
        completer=_Words(states),
        complete_while_typing=False,
        auto_suggest=AutoSuggestFromHistory(),
        key_bindings=_keys(),
        multiline=Condition(lambda: _open_ended(session.default_buffer.text)),
        prompt_continuation="    > ",
    )
    running = [name for name, state in states.items() if state in LIVE]
    print(
        f"{', '.join(running)} listen"
        if len(running) > 1
        else f"{running[0]} listens"
        if running
        else "nobody runs yet: tekton launch apollo"
    )
    terminal.draw(terminal.colour("NAME question · a | b · team question · help · exit", "dim"))
    under_way: set[asyncio.Task[int]] = set()
    with _ctrl_c(under_way):
        while True:
            try:
                line = await session.prompt_async("aish> ", handle_sigint=False)
            except KeyboardInterrupt:
                continue
            except EOFError:
                return OK
            # a backslash before the end of a line joins, as in a shell
            line = line.replace("\\\n", "\n").strip()
            if line in ("exit", "quit"):
                return OK
            if line:
                await _run(shell, line, under_way)


async def _run(shell: Shell, line: str, under_way: set[asyncio.Task[int]]) -> int:
    """Run a line; cancelled, it is cancelled at the specialist too."""
    work = asyncio.create_task(run_line(shell, line))
    under_way.add(work)
    try:
        return await work
    except asyncio.CancelledError:
        if (task := asyncio.current_task()) is not None and task.cancelling():
            raise  # the shell itself is ended, not this answer
        print()
        terminal.error("cancelled")
        return CANCELLED
    except TektonError as error:
        return report(error)
    finally:
        under_way.discard(work)


@contextlib.contextmanager
def _ctrl_c(under_way: set[asyncio.Task[int]]) -> Generator[None]:
    """Let ctrl-c end the answer under way, for as long as the shell lives; between two answers it ends nothing."""

    def end() -> None:
        for work in under_way:
            work.cancel()

    loop = asyncio.get_running_loop()
    # only the loop of the main thread has signals
    with contextlib.suppress(NotImplementedError):
        loop.add_signal_handler(signal.SIGINT, end)
    try:
        yield
    finally:
        with contextlib.suppress(NotImplementedError):
            loop.remove_signal_handler(signal.SIGINT)


async def run_line(shell: Shell, line: str) -> int:
    """Do what one line says; return what a call of the shell with it would exit with."""
    word, _, rest = line.partition(" ")
    rest = rest.strip()
    match word:
        case "help" if not rest:
            print(HELP)
            return OK
        case "list" if not rest:
            return await shell.list_specialists()
        case "history" if PLAIN_NAME.fullmatch(rest or "team"):
            return await shell.history(rest or "team")
        case "team" | "team-chat" if rest and not _MARKS.search(line):
            return await shell.ask_team(rest)
        case _:
            pass
    if _is_pipeline(line):
        return await shell.pipeline(line, "")
    if not rest:
        raise InvalidRequest(f"what do you want to ask {word}?   {word} your question")
    return await shell.ask(word, _unquoted(rest))


def _is_pipeline(line: str) -> bool:
    word = line.partition(" ")[0]
    return word in ("echo", "cat") or _MARKS.search(line) is not None or PLAIN_NAME.fullmatch(word) is None


def _unquoted(text: str) -> str:
    """Take the quotes off a question that is one quoted text, as a shell would."""
    return (
        text[1:-1] if len(text) > 1 and text[0] == text[-1] in "\"'" and text[0] not in text[1:-1] else text
    )


def _open_ended(text: str) -> bool:
    """Return whether enter goes on: behind a backslash, and in a pipeline whose quote is still open."""
    if text.endswith("\\"):
        return True
    if not _is_pipeline(text):
        return False  # a plain question may hold an apostrophe
    try:
        parse(text)
    except GrammarError as error:
        return "quote" in error.problem
    return False


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("escape", "enter")
    def _new_line(event: KeyPressEvent) -> None:
        event.current_buffer.newline()

    return keys


class _Words(Completer):
    """Completes names and verbs where a stage or a line begins, names in a fan-out and behind `history`."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = sorted(names)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        before = document.text_before_cursor
        word = re.search(r"[\w.-]*$", before)
        typed = word.group() if word else ""
        head = before[: len(before) - len(typed)].rstrip()
        if head and head[-1] not in "|{,;" and head != "history":
            return
        verbs = VERBS if not head else {"team": VERBS["team"]} if head.endswith("|") else {}
        for name in (*self._names, *verbs):
            if name.startswith(typed):
                yield Completion(
                    f"{name} ", start_position=-len(typed), display=name, display_meta=verbs.get(name, "")
                )


__all__ = ["interact", "run_line"]
