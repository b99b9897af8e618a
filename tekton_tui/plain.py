"""`tekton-tui --plain`: the console line by line, for screen readers, dumb terminals and pipes.

It writes whole lines and never moves the cursor, changes a colour or rewrites what it said. Knows no widgets.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Final, TextIO

from backend.schema.events import AskClosed
from backend.schema.params import (
    AcknowledgeErrors,
    AnswerAsk,
    Cancel,
    Chat,
    Kill,
    Launch,
    ListErrors,
    TeamChat,
)
from backend.schema.records import SpecialistStatus
from backend.schema.results import ErrorList, KillResult, LaunchReport
from backend.schema.tools import QUESTION, Ask
from tekton_tui.formatting import state_words, why_ended
from tekton_tui.runtime.controller import Connect, Controller, new_request_id
from tekton_tui.safe_text import safe, safe_inline
from tekton_tui.stores import LiveTeam, LiveTurn, Stores

HELP: Final = (
    "NAME: TEXT       ask one, such as: apollo: what breaks first?",
    "all: TEXT        ask all that run",
    "status           who there is and what each does; status NAME says one",
    "start NAME …     start specialists; start alone starts the team named in the settings",
    "stop NAME …      stop specialists; asks first",
    "waits            what waits for you",
    "errors           what failed; seen marks all as seen",
    "allow, deny      what an agent asks to do, by its number where several ask; always allows it from now on as well",
    "answer NUMBER    one of the answers that an agent offers itself",
    "cancel           stop the answers that are being written",
    "quit             leave; the specialists go on",
)
LINE_CELLS: Final = 400
"""A line of an answer that is longer than this is said before its end has come."""
EXIT_FAILED: Final = 1


class PlainConsole:
    """Reads lines and writes lines; `run` returns the exit code.

    Args:
        connect: Returns a client that is attached.
        lines: Where what is typed comes from, a line at a time.
        write: Gets each line that is said, without its end.
    """

    def __init__(self, connect: Connect, lines: TextIO, write: Callable[[str], None]) -> None:
        self._stores = Stores()
        self._controller = Controller(self._stores, connect)
        self._lines, self._write = lines, write
        self._typed: asyncio.Queue[str | None] = asyncio.Queue()
        self._rest: dict[str, str] = {}
        """What each turn has said of a line that is not whole."""
        self._question: Callable[[str], None] | None = None
        """Gets the next line, when something was asked of the operator."""
        self._numbers: dict[str, int] = {}
        """Of each ask that was said."""
        self._given: set[str] = set()
        """Asks that were answered from here and have not ended yet."""
        self._by_number = False
        """Whether an answer has to name its ask: one ended by itself, and a word may have been meant for that."""
        self._states: dict[str, str] = {}
        self._known = False
        self._held: list[str | None] = []
        """Lines that were typed before the backend was there."""
        self._code = 0

    async def run(self) -> int:
        self._say("tekton, line by line. Attaching to the backend.")
        self._listen()
        # a thread, for a read of a pipe or a terminal blocks; a daemon, for nobody can end it
        threading.Thread(target=self._read, args=(asyncio.get_running_loop(),), daemon=True).start()
        feeding = asyncio.create_task(self._controller.run())
        try:
            while not self._leaves(line := await self._typed.get()):
                if self._known:
                    self._take((line or "").strip())
                else:
                    self._held.append(line)
        finally:
            feeding.cancel()
            await self._controller.close()
        return self._code

    def _leaves(self, line: str | None) -> bool:
        """Return whether this line ends the console. What stands behind lines that wait for the backend waits as well."""
        over = line is None or line.strip() in ("quit", "q", "exit")
        return over and (self._known or not self._held or bool(self._code))

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        for line in self._lines:
            loop.call_soon_threadsafe(self._typed.put_nowait, line)
        loop.call_soon_threadsafe(self._typed.put_nowait, None)

    def _listen(self) -> None:
        stores = self._stores
        self._controller.notice.subscribe(
            lambda text, failed: self._say(f"{'failed: ' if failed else ''}{text}")
        )
        stores.connection.changed.subscribe(self._connection)
        stores.fleet.changed.subscribe(self._changed)
        stores.turns.started.subscribe(self._started)
        stores.turns.text.subscribe(self._text)
        stores.turns.ended.subscribe(self._ended)
        stores.turns.team_ended.subscribe(self._team_ended)
        stores.asks.opened.subscribe(self._asked)
        stores.asks.closed.subscribe(self._ask_closed)

    def _say(self, text: str) -> None:
        """Write foreign or own words, a line for each of theirs."""
        for line in safe(text).splitlines() or [""]:
            self._write(line)

    # what happens

    def _connection(self) -> None:
        connection = self._stores.connection
        if connection.state == "failed":
            self._say(f"No backend: {connection.reason}")
            self._code = EXIT_FAILED
            self._typed.put_nowait(None)
        elif connection.state == "lost":
            self._say(f"The backend is lost: {connection.reason}. It is looked for until it is back.")

    def _changed(self, ids: set[str]) -> None:
        rows = self._stores.fleet.rows
        if not self._known and rows:
            self._known = True
            self._states = {row.id: row.state for row in rows.values()}
            running = [row.name for row in rows.values() if row.pid]
            self._say(
                f"Attached. {len(running)} of {len(rows)} run{': ' + ', '.join(running) if running else ''}."
            )
            words = ", ".join(self._stores.counts().words)
            self._say(f"{words}: waits says more." if words else "Nothing waits for you.")
            self._say("help lists what can be typed.")
            for line in self._held:
                self._typed.put_nowait(line)
            self._held.clear()
            return
        for ai_id in sorted(ids & rows.keys()):
            row, before = rows[ai_id], self._states.get(ai_id)
            busy = {"ready", "busy"}
            if before != row.state and not {before, row.state} <= busy:
                self._say(self._row(row))
            self._states[ai_id] = row.state

    def _row(self, row: SpecialistStatus) -> str:
        why = (
            why_ended(row)
            if row.state in ("exited", "killed", "lost")
            else row.last_error and "errors says what failed last."
        )
        words = f"{row.name}, {row.title}: {state_words(row)}"
        return f"{words}. {why}" if why else f"{words}."

    def _name(self, ai_id: str) -> str:
        return self._stores.fleet.name_of(ai_id)

    def _started(self, turn: LiveTurn) -> None:
        self._rest[turn.request_id] = ""
        self._say(f"{self._name(turn.ai_id)} was asked: {safe_inline(turn.prompt)}")

    def _text(self, turn: LiveTurn, text: str) -> None:
        *whole, rest = (self._rest.get(turn.request_id, "") + text).split("\n")
        # a paragraph without line ends would be said only when it is whole
        if len(rest) > LINE_CELLS and " " in rest:
            head, _, rest = rest.rpartition(" ")
            whole.append(head)
        self._rest[turn.request_id] = rest
        for line in whole:
            if line.strip():
                self._say(f"{self._name(turn.ai_id)}: {line}")

    def _ended(self, turn: LiveTurn) -> None:
        name = self._name(turn.ai_id)
        if rest := self._rest.pop(turn.request_id, "").strip():
            self._say(f"{name}: {rest}")
        if turn.code == "cancelled":
            self._say(f"{name} was stopped after {turn.total_time:.1f} s.")
        elif turn.code:
            self._say(
                f"{name} failed after {turn.total_time:.1f} s: {turn.error or turn.code.replace('_', ' ')}"
            )
        else:
            self._say(f"{name} has answered: {turn.tokens or turn.pieces} tokens in {turn.total_time:.1f} s.")

    def _team_ended(self, team: LiveTeam) -> None:
        if team.end is not None:
            counts = (
                (team.end.answered, "answered"),
                (team.end.failed, "failed"),
                (team.end.cancelled, "stopped"),
            )
            said = ", ".join(f"{count} {word}" for count, word in counts if count or word == "answered")
            self._say(f"The question to all is done: {said}.")

    def _asked(self, ask: Ask) -> None:
        """Say what an agent wants to do; it waits while other things are typed."""
        number = self._numbers.setdefault(ask.id, len(self._numbers) + 1)
        self._say(f"{self._name(ask.ai_id)} asks to use {ask.tool} with {safe_inline(ask.arguments)}")
        for at, option in enumerate(ask.options, 1):
            words = f"{safe_inline(option.name or option.id)} ({safe_inline(option.kind_words)})"
            self._say(f"Its own answer {at}: {words}. Type answer {at}, or answer {at} {number}.")
        if ask.tool == QUESTION:
            self._say("Or type deny.")
        elif self._by_number or len(self._stores.asks.asks) > 1:
            self._say(f"Type allow {number}, always {number} or deny {number}.")
        else:
            self._say("Type allow, always or deny.")

    def _meant_ask(self, word: str, names: list[str]) -> Ask | None:
        """Return the call that is meant, the only one that waits or the one of a number; or say what is missing."""
        asks = list(self._stores.asks.asks.values())
        if not asks:
            self._say(f"Nobody asks: there is nothing to {word}.")
            return None
        chosen = [ask for ask in asks if not names or str(self._numbers.get(ask.id)) == names[0]]
        if len(chosen) != 1 or (self._by_number and not names):
            self._say(f"Which one? Say its number, such as {word} {self._numbers.get(asks[0].id, 1)}.")
            for ask in asks:
                self._asked(ask)
            return None
        return chosen[0]

    def _answer_ask(self, word: str, names: list[str]) -> None:
        """Answer with one of our words."""
        ask = self._meant_ask(word, names)
        if ask is None:
            return
        if word == "always" and not ask.always:
            self._say("No rule says exactly this call: type allow or deny.")
        elif word != "deny" and ask.tool == QUESTION:
            self._say("It is a question: type answer and the number of one of its own answers.")
        else:
            always = ask.always if word == "always" else ""
            self._give(ask, AnswerAsk(ask.id, "deny" if word == "deny" else "allow", always))

    def _own_answer(self, names: list[str]) -> None:
        """Answer with one of the agent's own answers, named by its number, before the number of the ask if there is one."""
        ask = self._meant_ask(f"answer {names[0] if names else 1}", names[1:])
        if ask is None:
            return
        at = int(names[0]) if names and names[0].isdecimal() else 0
        if not 0 < at <= len(ask.options):
            self._say("It has no such answer.")
            self._asked(ask)
            return
        option = ask.options[at - 1]
        self._give(ask, AnswerAsk(ask.id, "allow" if option.allows else "deny", option=option.id))

    def _give(self, ask: Ask, answer: AnswerAsk) -> None:
        self._by_number = False
        self._given.add(ask.id)
        self._controller.request(answer)

    def _ask_closed(self, event: AskClosed) -> None:
        if event.id not in self._given:
            self._by_number = True
        self._given.discard(event.id)
        self._say(
            f"That question is answered: {event.verdict} by {event.by}."
            if event.by
            else "That question is closed."
        )

    # what is typed

    def _take(self, line: str) -> None:
        if not line:
            return
        if self._question is not None:
            question, self._question = self._question, None
            question(line)
            return
        name, colon, text = line.partition(":")
        if colon and " " not in name.strip():
            self._ask(name.strip(), text.strip())
            return
        word, _, rest = line.partition(" ")
        actions: dict[str, Callable[[list[str]], None]] = {
            "help": lambda names: self._say("\n".join(HELP)),
            "status": self._status,
            "start": self._start,
            "stop": self._stop,
            "waits": lambda names: self._waits(),
            "errors": lambda names: self._controller.request(ListErrors(limit=20), self._errors),
            "seen": lambda names: self._controller.request(AcknowledgeErrors(all=True)),
            "cancel": lambda names: self._cancel(),
            "answer": self._own_answer,
            **{each: partial(self._answer_ask, each) for each in ("allow", "always", "deny")},
        }
        if word in actions:
            actions[word](rest.split())
        else:
            self._say(f"Not understood: {line}. help lists what can be typed.")

    def _ids(self, names: list[str]) -> list[str] | None:
        """Return the ids of names, or none, having said which is nobody's."""
        known = {
            name: row.id for row in self._stores.fleet.rows.values() for name in (row.name.lower(), row.id)
        }
        for name in names:
            if name.lower() not in known:
                self._say(f"There is no specialist {name}. status lists those there are.")
                return None
        return [known[name.lower()] for name in names]

    def _ask(self, name: str, text: str) -> None:
        if not text:
            self._say(f"What is {name} to be asked? Type {name}: and the question.")
        elif name.lower() in ("all", "team"):
            self._controller.start(TeamChat(text, request_id=new_request_id()))
        elif ids := self._ids([name]):
            self._controller.start(Chat(ids[0], text, request_id=new_request_id()))

    def _status(self, names: list[str]) -> None:
        ids = self._ids(names)
        if ids is None:
            return
        rows = self._stores.fleet.rows
        shown = [rows[ai_id] for ai_id in ids] or [row for row in rows.values() if row.state != "stopped"]
        for row in shown:
            self._say(self._row(row))
        if not names:
            stopped = [row.name for row in rows.values() if row.state == "stopped"]
            self._say(f"Stopped: {', '.join(stopped) or 'nobody'}.")

    def _start(self, names: list[str]) -> None:
        wanted = names or ["starter"]
        self._controller.request(Launch(wanted), self._launched)
        self._say(f"Starting {', '.join(wanted)}.")

    def _launched(self, report: LaunchReport) -> None:
        for result in report.results:
            if not result.ok:
                self._say(f"failed: {self._name(result.id)} did not start: {result.message}")

    def _stop(self, names: list[str]) -> None:
        if not names:
            self._say("Whom? Type stop and a name.")
            return
        if (ids := self._ids(names)) is None:
            return
        lost = [self._name(ai_id) for ai_id in ids if self._stores.turns.of_specialist(ai_id)]
        self._say(
            f"This stops {', '.join(map(self._name, ids))}."
            + (f" Answers are lost: {', '.join(lost)}." if lost else "")
        )
        self._say("Type yes or no.")

        def agreed(line: str) -> None:
            if line.lower() in ("yes", "y"):
                self._controller.request(Kill(ids), self._stopped)
            else:
                self._say("Nobody was stopped.")

        self._question = agreed

    def _stopped(self, done: KillResult) -> None:
        for result in done.results:
            if not result.ok:
                self._say(f"failed: {self._name(result.id)} did not stop: {result.message}")

    def _waits(self) -> None:
        items = self._stores.attention.open()
        for item in items:
            what = item.kind if item.short == item.kind else f"{item.kind}: {item.short}"
            self._say(f"{self._name(item.who)}, {what}. {safe_inline(item.why)}")
        if not items:
            self._say("Nothing waits for you.")
        if asks := list(self._stores.asks.asks.values()):
            for ask in asks:
                self._asked(ask)

    def _errors(self, listed: ErrorList) -> None:
        for record in reversed(listed.errors):
            times = f", {record.count} times" if record.count > 1 else ""
            self._say(f"{self._name(record.where)}: {record.code.replace('_', ' ')}{times}: {record.message}")
        self._say(f"{listed.unacknowledged} not seen yet." if listed.errors else "No errors.")

    def _cancel(self) -> None:
        running = list(self._stores.turns.turns.values())
        for request_id in dict.fromkeys(turn.group or turn.request_id for turn in running):
            self._controller.request(Cancel(request_id))
        if not running:
            self._say("Nothing is being answered.")


def run_plain(connect: Connect) -> int:
    """Run the console on this process's input and output until its input ends, or it is told to quit."""

    def write(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    try:
        return asyncio.run(PlainConsole(connect, sys.stdin, write).run())
    except (KeyboardInterrupt, BrokenPipeError):
        return 130
