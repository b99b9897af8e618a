"""What a command is: a function with its arguments, description and examples beside it.

`@command` registers one in `COMMANDS` when its module is imported. Parsers, `--help` and the scripts of
`tekton completion` are made from these; the tests run the examples. Knows no backend, and imports little: it is part of
the start of every command.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import textwrap
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from backend.cli.exit_codes import MEANINGS, USAGE
from backend.suggest import meant, nearest

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

# of help, whatever the terminal: it is read in pipes and pasted into mails as well
WIDTH = 80
Run = Callable[[argparse.Namespace], Coroutine[Any, Any, int] | int]
"""Runs a command with its parsed arguments; returns the exit code."""
Example = tuple[str, str]
"""A line of a shell, and what it does."""
SPECIALISTS, FILES = "<specialists>", "<files>"
"""Among the values of an argument: names of specialists and groups, paths of files."""


class Argument(NamedTuple):
    """One argument: the words and settings of argparse's `add_argument`, and what a shell completes its value with."""

    names: tuple[str, ...]
    settings: dict[str, Any]
    values: tuple[str, ...] = ()


def argument(*names: str, values: tuple[str, ...] = (), **settings: Any) -> Argument:
    """Return an argument; `settings` are those of `ArgumentParser.add_argument`."""
    return Argument(names, settings, values)


def seconds(text: str) -> float:
    """Read a number of seconds above 0, for `argument(type=seconds)`."""
    value = float(text)
    if not 0 < value < float("inf"):  # not a number is neither
        raise ValueError
    return value


def count(text: str) -> int:
    """Read a whole number above 0, for `argument(type=count)`."""
    value = int(text)
    if not 0 < value < 2**31:
        raise ValueError
    return value


JSON = argument("--json", action="store_true", help="everything, as JSON")


class Command(NamedTuple):
    """One command. The description in its help is the docstring of the function that runs it."""

    name: str
    run: Run
    arguments: Sequence[Argument]
    examples: Sequence[Example]


COMMANDS: dict[str, Command] = {}
"""Commands of the modules that were imported so far, by name."""


def command(name: str, *arguments: Argument, examples: Sequence[Example] = ()) -> Callable[[Run], Run]:
    """Register the decorated function as a command."""

    def register(run: Run) -> Run:
        COMMANDS[name] = Command(name, run, arguments, examples)
        return run

    return register


class Parser(argparse.ArgumentParser):
    """A parser made from a command. `values` holds its arguments with what a shell completes them with."""

    def __init__(self, **settings: Any) -> None:
        # no abbreviations: `kill --a` would be taken for `--all`, and a slip of the fingers for an option
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **settings)
        self.values: list[tuple[argparse.Action, tuple[str, ...]]] = []

    def _print_message(self, message: str, file: SupportsWrite[str] | None = None) -> None:
        """Print a help or the version; argparse's own would hide that it could not be written."""
        (file or sys.stderr).write(message)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the arguments, and refuse those that nobody knows."""
        values, unknown = self.parse_known_args(args, namespace)
        self.refuse(unknown)
        return values

    def refuse(self, unknown: Sequence[str]) -> None:
        """Exit when there are arguments that nobody knows; say which option was probably meant."""
        if unknown:
            near = nearest(unknown[0].partition("=")[0], self._option_string_actions)
            hint = f"; did you mean {near[0]}?" if near and unknown[0].startswith("-") else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            hint = meant(str(value), map(str, action.choices))
            raise argparse.ArgumentError(action, f"there is no {str(value)[:100]!r}; {hint}")

    def error(self, message: str) -> NoReturn:
        """Print the usage and what is wrong, without secrets that were among the arguments."""
        from backend.cli import terminal

        # the usage is a courtesy: a full or closed stderr must not hide the exit code
        with contextlib.suppress(OSError):
            self.print_usage(sys.stderr)
        terminal.error(message)
        raise SystemExit(USAGE)

    def configure(self, command: Command) -> None:
        """Add the command's help and arguments."""
        words = " ".join((command.run.__doc__ or "").split())
        self.description = textwrap.fill(words, WIDTH - 2, break_on_hyphens=False)
        self.epilog = epilog(command.examples)
        for row in command.arguments:
            self.values.append((self.add_argument(*row.names, **row.settings), row.values))


def arguments_of(given: list[str] | None) -> list[str]:
    """Return the arguments of the process, or those given, when all of them are text.

    Raises:
        SystemExit: One is not.
    """
    words = [*(sys.argv[1:] if given is None else given)]
    for number, word in enumerate(words):
        # bytes that Python could not read arrive as halves of surrogate pairs, which nothing after this could encode
        if word.isascii() or not any("\ud800" <= character <= "\udfff" for character in word):
            continue
        try:
            words[number] = os.fsencode(word).decode(
                "utf-8"
            )  # in a locale without UTF-8 they may be good all the same
        except UnicodeDecodeError:
            from backend.cli import terminal

            terminal.error(f"argument {number + 1} is not valid UTF-8: {os.fsencode(word)!r}")
            raise SystemExit(USAGE) from None
    return words


def epilog(examples: Sequence[Example]) -> str:
    """Return what stands below the arguments in a help: the examples and the exit codes."""
    lines = [f"  {line}\n      {words}" for line, words in examples]
    half = (len(MEANINGS) + 1) // 2
    codes = [f"{code} {words}" for code, words in MEANINGS.items()]
    pairs = zip(codes[:half], codes[half:], strict=True)
    exits = "\n".join(["exit codes:", *(f"  {left:<34}{right}" for left, right in pairs)])
    return "\n".join(["examples:", *lines, "", exits]) if lines else exits
