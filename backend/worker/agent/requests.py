"""What an agent asks of this machine by us: files, terminals, a question to a person.

Only what the configuration offers is served, only below the agent's folder, and only when the platform allows that very
request. A terminal's command runs under a guard, as the agent itself does.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shlex
import stat
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from backend.acp import messages as acp
from backend.acp.peer import RpcFailure, read_params, unknown
from backend.schema.agents import AgentSpec
from backend.schema.tools import QUESTION, AskOption
from backend.text import safe_line
from backend.worker.agent.conversations import Question, TurnThere
from backend.worker.agent.tool_calls import unified
from backend.worker.tools import guard
from backend.worker.tools.questions import answer_of, question_of

log = logging.getLogger(__name__)

MAX_FILE = 4 * 1024 * 1024
MAX_OUTPUT = 1024 * 1024
MAX_TERMINALS = 16
REFUSED = -32003
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

TurnOf = Callable[[str], TurnThere | None]


class _Terminal:
    """A command that runs or has ended; of its output the newest `limit` bytes are kept."""

    def __init__(self, process: Process, limit: int) -> None:
        self.process, self._limit = process, limit
        self._kept = bytearray()
        self.truncated = False
        self.done = asyncio.create_task(self._read(), name="terminal")

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while data := await self.process.stdout.read(16 * 1024):
            self._kept += data
            if len(self._kept) > self._limit:
                del self._kept[: len(self._kept) - self._limit]
                self.truncated = True
        await self.process.wait()

    @property
    def output(self) -> str:
        return self._kept.decode(errors="replace")

    def status(self) -> acp.ExitStatus | None:
        """Return how it ended; `None` while it runs."""
        code = self.process.returncode
        if code is None or not self.done.done():
            return None
        return acp.ExitStatus(signal=str(code - 128)) if code > 128 else acp.ExitStatus(exit_code=code)

    def end(self) -> None:
        with suppress(ProcessLookupError):
            self.process.terminate()


class ClientRequests:
    """Serves one agent's requests of files and terminals."""

    def __init__(self, spec: AgentSpec, environment: Mapping[str, str]) -> None:
        self._spec, self._environment = spec, environment
        self._root = Path(spec.cwd).resolve()
        self._terminals: dict[str, _Terminal] = {}
        self._numbers = count(1)

    async def serve(self, method: str, params: msgspec.Raw, turn_of: TurnOf) -> msgspec.Struct:
        """Serve a request.

        Raises:
            RpcFailure: It is not offered, not allowed, or failed.
        """
        match method:
            case acp.READ_FILE if "read" in self._spec.offers:
                return await self._read(read_params(params, acp.ReadFile), turn_of)
            case acp.WRITE_FILE if "write" in self._spec.offers:
                return await self._write(read_params(params, acp.WriteFile), turn_of)
            case acp.WRITE_FILE:
                # sent uninvited by agents that have written the file themselves: nothing is to be done
                return acp.Empty()
            case acp.TERMINAL_CREATE if "terminal" in self._spec.offers:
                return await self._create(read_params(params, acp.CreateTerminal), turn_of)
            case acp.TERMINAL_OUTPUT | acp.TERMINAL_WAIT | acp.TERMINAL_KILL | acp.TERMINAL_RELEASE:
                return await self._on_terminal(method, read_params(params, acp.TerminalId))
            case _:
                raise unknown(method)

    async def close(self) -> None:
        """End every terminal."""
        for terminal in self._terminals.values():
            terminal.end()
        if self._terminals:
            await asyncio.wait([one.done for one in self._terminals.values()], timeout=2.0)

    async def elicit(self, asked: acp.Elicitation, turn: TurnThere | None) -> acp.ElicitationAnswer:
        """Put a question with its form to a person; one whose form cannot be shown is declined."""
        found = question_of(asked.message, asked.requested_schema or {}) if asked.mode == "form" else None
        if turn is None or found is None:
            log.warning("a question of the agent's was declined: its form cannot be put to a person")
            return acp.ElicitationAnswer("decline")
        verdict = await turn.verdict(
            Question(QUESTION, found.arguments, found.text[:200], found.options, form=found.form)
        )
        if verdict is None:
            return acp.ElicitationAnswer("cancel")
        return acp.ElicitationAnswer(*answer_of(verdict))

    def _below(self, path: str) -> Path:
        """Return a path of a request, worked out; outside of the agent's folder nothing is served."""
        found = Path(path).resolve()
        if not Path(path).is_absolute() or not found.is_relative_to(self._root):
            raise RpcFailure(REFUSED, f"only files below {self._root} are served, by absolute paths")
        return found

    async def _allowed(
        self, turn: TurnThere | None, tool: str, shown: str, diff: str, **arguments: Any
    ) -> None:
        if turn is None:
            raise RpcFailure(REFUSED, "no turn of this conversation is under way")
        options = [
            AskOption("allow", "allow once", "allow_once"),
            AskOption("reject", "reject", "reject_once"),
        ]
        text = msgspec.json.encode(arguments).decode()
        verdict = await turn.verdict(Question(tool, text, shown, options, diff))
        if verdict is None or not verdict.allow:
            raise RpcFailure(REFUSED, f"not allowed: {verdict.content if verdict else 'the turn is over'}")

    async def _read(self, asked: acp.ReadFile, turn_of: TurnOf) -> acp.FileText:
        path = self._below(asked.path)
        await self._allowed(
            turn_of(asked.session_id), "agent:read_file", f"read {path.name}", "", path=str(path)
        )
        text = await asyncio.to_thread(_text_of, self._below(asked.path))
        if asked.line is not None or asked.limit is not None:
            first = max(0, (asked.line or 1) - 1)
            lines = text.splitlines(keepends=True)[first:]
            text = "".join(lines if asked.limit is None else lines[: max(0, asked.limit)])
        return acp.FileText(text)

    async def _write(self, asked: acp.WriteFile, turn_of: TurnOf) -> acp.Empty:
        path = self._below(asked.path)
        if len(asked.content) > MAX_FILE:
            raise RpcFailure(REFUSED, f"files of more than {MAX_FILE:,} characters are not written")
        before = await asyncio.to_thread(_text_of, path) if path.exists() else None
        diff = unified(str(path.relative_to(self._root)), before, asked.content)
        await self._allowed(
            turn_of(asked.session_id), "agent:write_file", f"write {path.name}", diff, path=str(path)
        )
        await asyncio.to_thread(_write_text, self._below(asked.path), asked.content)
        return acp.Empty()

    async def _create(self, asked: acp.CreateTerminal, turn_of: TurnOf) -> acp.TerminalId:
        if len(self._terminals) >= MAX_TERMINALS:
            raise RpcFailure(REFUSED, f"{MAX_TERMINALS} terminals are open: release one")
        cwd = self._below(asked.cwd or str(self._root))
        extra = {one.name: one.value for one in asked.env or [] if not one.name.startswith("LD_")}
        command = _shown_command(asked.command, asked.args or [], extra)
        await self._allowed(
            turn_of(asked.session_id),
            "agent:terminal",
            safe_line(command)[:200],
            "",
            command=command,
            cwd=str(cwd),
        )
        words = [asked.command, *asked.args] if asked.args else ["/bin/sh", "-c", asked.command]
        process = await asyncio.create_subprocess_exec(
            *guard.guarded(words),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            cwd=cwd,
            env={**self._environment, **extra},
            start_new_session=True,
        )
        name = f"t-{next(self._numbers)}"
        self._terminals[name] = _Terminal(process, min(asked.output_byte_limit or MAX_OUTPUT, MAX_OUTPUT))
        return acp.TerminalId(name)

    async def _on_terminal(self, method: str, asked: acp.TerminalId) -> msgspec.Struct:
        terminal = self._terminals.get(asked.terminal_id)
        if terminal is None:
            raise RpcFailure(acp.NOT_FOUND, f"there is no terminal {asked.terminal_id!r}")
        if method == acp.TERMINAL_OUTPUT:
            return acp.TerminalOutput(terminal.output, terminal.truncated, terminal.status())
        if method == acp.TERMINAL_WAIT:
            await asyncio.shield(terminal.done)
            return terminal.status() or acp.ExitStatus()
        terminal.end()
        if method == acp.TERMINAL_RELEASE:
            del self._terminals[asked.terminal_id]
        return acp.Empty()


def _shown_command(command: str, args: list[str], environment: Mapping[str, str]) -> str:
    """Return a command as a shell would be given it: what it runs, and with which variables, has no other reading."""
    if odd := next((name for name in environment if not _NAME.fullmatch(name)), None):
        raise RpcFailure(REFUSED, f"{odd!r:.80} is no name of a variable")
    variables = [f"{name}={shlex.quote(value)}" for name, value in environment.items()]
    return " ".join([*variables, shlex.join([command, *args]) if args else command])


def _open(path: Path, flags: int) -> int:
    """Open a file that is one: what stands in its place, a link, a pipe or a device, is refused and holds nobody up."""
    try:
        file = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except (OSError, ValueError) as error:
        text = getattr(error, "strerror", None) or str(error)
        raise RpcFailure(acp.NOT_FOUND, f"{path}: {text}") from error
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise RpcFailure(REFUSED, f"{path} is no file")
    return file


def _text_of(path: Path) -> str:
    with open(_open(path, os.O_RDONLY), "rb") as file:
        try:
            data = file.read(MAX_FILE + 1)
        except OSError as error:
            raise RpcFailure(acp.NOT_FOUND, f"{path}: {error.strerror}") from error
    if len(data) > MAX_FILE:
        raise RpcFailure(REFUSED, f"{path} is longer than {MAX_FILE:,} bytes")
    return data.decode(errors="replace")


def _write_text(path: Path, text: str) -> None:
    try:
        with open(_open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
            file.write(text.encode())
    except OSError as error:
        raise RpcFailure(REFUSED, f"{path}: {error.strerror}") from error
