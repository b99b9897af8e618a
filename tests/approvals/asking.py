"""Tool calls under every kind of bad luck, and what must hold of them: used by `test_asking.py` and `bench/fuzz.py`.

Two specialists with a real tool server each are asked for calls with names of their own. Operators answer, twice and at
once; turns are cancelled; workers and backends are killed; consoles go and come; rules change; nobody answers in time. The
tool server writes down what it runs, and what was stored of that call at that moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from backend.home import Home
from backend.memory.sqlite.tool_calls import SqliteToolCalls
from backend.orchestration.platform import Platform
from backend.schema.errors import TektonError
from backend.schema.events import SpecialistEvent
from backend.schema.records import TurnOutcome
from backend.schema.states import LIVE
from backend.schema.tools import Ask, ToolRecord
from backend.specialists.killall import kill_all
from tests.orchestration.interleavings import let_die
from tests.orchestration.running import BOUND_S, Watcher, do, start

T = TypeVar("T")
NAMES = ("apollo", "athena")
LETTERS = "abcdef"
"""Calls begin with one of these; rules are about the first three, so that the others run by a person's word alone."""
WITHIN_S = 0.4
"""How long an ask waits for an operator who may sleep."""
SERVER = str(Path(__file__).with_name("marking.py"))
KILLS = 400
"""Of the steps one in so many kills a worker, and as many a backend."""


class Asking:
    """A home, the life of a backend in it, every call that was asked for, and what was said to it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.root = Path(tempfile.mkdtemp(prefix="tk-asks-")) / "home"
        self.marks = self.root / "marks"
        home = Home(self.root).prepare()
        command = [sys.executable, SERVER, str(self.marks), str(home.database)]
        self.config = (
            f"[tools.marks]\ncommand = {json.dumps(command)}\n[rules]\nanswer_within_s = {WITHIN_S}\n"
            + "".join(f'[specialists.{name}]\ntools = ["marks"]\n' for name in NAMES)
        )
        self.seen = Counter[str]()
        self.calls = 0
        self.allowed: set[str] = set()
        self.denied: set[str] = set()
        self.ruled: set[str] = set()
        """Letters for which an `allow` was ever there."""
        self.turns: dict[str, list[str]] = {}
        """Names of the calls of each turn that may still run."""
        self.ended: dict[str, TurnOutcome] = {}
        """How the turns of calls ended."""
        self.calm: set[str] = set()
        """Names of calls whose turns nothing disturbed."""
        self.begin()

    # lives

    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.platform: Platform = self.run(start(self.root, config=self.config))
        self.watcher: Watcher | None = None
        self.watch()
        self.ready()
        waiting = self.run(self.records("waiting", "running"))
        assert waiting == [], f"a new life left these open: {waiting}"

    def ready(self) -> None:
        """Launch who does not run, and wait for the tools."""
        down = [n for n in NAMES if self.platform.fleet.status(f"{n}-ai").state not in LIVE]
        if down:
            results = self.run(do(self.platform, "launch", ids=down)).results
            assert all(row.ok for row in results), results
        self.run(self._tools())

    async def _tools(self) -> None:
        watcher = Watcher(self.platform, "fleet")
        for name in NAMES:
            while not [tool for row in self.platform.fleet.status(f"{name}-ai").tools for tool in row.tools]:
                watcher.seen.clear()
                await watcher.until(SpecialistEvent)
        watcher.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(work, BOUND_S))

    def attempt(self, action: str, **values: Any) -> Any:
        """Call an action; `None` where it is refused."""
        try:
            return self.run(do(self.platform, action, **values))
        except TektonError as error:
            assert "failed inside" not in error.message and error.code != "internal", (action, error.message)
            self.seen[f"{action}: {error.code}"] += 1
            return None

    def close(self) -> None:
        if self.watcher is not None:
            self.watcher.close()
        self.run(self.platform.close(stop_fleet=True))
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        kill_all(self.platform.home, grace_s=1.0)
        shutil.rmtree(self.root.parent, ignore_errors=True)

    # steps

    def step(self) -> None:
        """Take one step, chosen by chance."""
        steps = {self.ask: 12, self.answer: 60, self.cancel: 2, self.rule: 2, self.watch: 2, self.sleep: 1}
        chance = self.random.random()
        if chance < 1 / KILLS:
            self.kill_worker()
        elif chance < 2 / KILLS:
            self.kill_backend()
        else:
            self.random.choices(list(steps), list(steps.values()))[0]()
        self.run(asyncio.sleep(self.random.choice((0, 0, 0.001, 0.003))))

    def ask(self) -> None:
        if len(self.turns) > 12:
            self.sleep()
        names: list[str] = []
        for _ in range(self.random.randint(1, 8)):
            self.calls += 1
            names.append(f"{self.random.choice(LETTERS)}{self.calls}.")
        text = " ".join(f'[[call marks__mark {{"name": "{name}"}}]]' for name in names)
        session = self.run(do(self.platform, "create_session", owner=self.random.choice(NAMES)))
        begun = self.attempt("chat", ai_id=session.owner, content=text, session_id=session.id, wait=False)
        if begun is not None:
            self.turns[begun.request_id] = names
            self.calm.update(names)

    def answer(self) -> None:
        """Answer an ask; now and then two operators do at once, and one of them is told that he was second."""
        if not (asks := self.platform.approvals.asks):
            return
        ask = self.random.choice(asks)
        first = self.random.choice(("allow", "allow", "deny"))
        answers = [first, *(["deny" if first == "allow" else "allow"] if self.random.random() < 0.2 else [])]
        always = ask.always if self.random.random() < 0.02 and _name(ask)[0] in "ab" else ""

        async def all_at_once() -> list[Any]:
            tries = [do(self.platform, "answer_ask", id=ask.id, answer=one, always=always) for one in answers]
            return await asyncio.gather(*tries, return_exceptions=True)

        results = self.run(all_at_once())
        taken = [result for result in results if not isinstance(result, BaseException)]
        for result in results:
            assert not isinstance(result, BaseException) or getattr(result, "code", "") in (
                "conflict",
                "not_found",
            )
        assert len(taken) <= 1, f"two answers to {ask.id} were taken: {taken}"
        if taken:
            self.seen[taken[0].answer] += 1
            (self.allowed if taken[0].answer == "allow" else self.denied).add(_name(ask))
        if len(answers) > 1:
            self.seen["answered twice"] += 1

    def cancel(self) -> None:
        if self.turns:
            request_id = self.random.choice(list(self.turns))
            self.disturb(request_id)
            self.attempt("cancel", request_id=request_id)
            self.seen["cancelled"] += 1

    def rule(self) -> None:
        rules = [row for row in self.run(do(self.platform, "list_rules")).rules if row.id]
        if len(rules) > 3:
            self.attempt("remove_rule", id=self.random.choice(rules).id)
            return
        letter, verdict = self.random.choice((("a", "allow"), ("b", "allow"), ("c", "deny"), ("a", "deny")))
        self.ruled |= {letter} if verdict == "allow" else set()
        self.attempt("add_rule", verdict=verdict, pattern=f"marks:mark name={letter}*")
        self.seen["rules changed"] += 1

    def watch(self) -> None:
        """A console goes, or comes."""
        if self.watcher is None:
            self.watcher = Watcher(self.platform, "asks")
        elif self.random.random() < 0.3:
            self.watcher.close()
            self.watcher = None
            self.seen["no console"] += 1

    def sleep(self) -> None:
        """Nobody answers until nothing is asked any more."""

        async def ended() -> None:
            for request_id in list(self.turns):
                if (turn := self.platform.turns.find(request_id)) is not None:
                    outcome = await asyncio.shield(turn.done)
                    self.ended.update((name, outcome) for name in self.turns[request_id])

        self.run(ended())
        self.seen["slept"] += 1
        self.check()

    def kill_worker(self) -> None:
        name = self.random.choice(NAMES)
        for request_id in self.turns:
            self.disturb(request_id)
        os.kill(self.platform.fleet.status(f"{name}-ai").pid, 9)
        self.seen["kill -9 worker"] += 1
        self.sleep()
        self.run(self._until_down(f"{name}-ai"))
        self.ready()

    async def _until_down(self, ai_id: str) -> None:
        watcher = Watcher(self.platform, "fleet")
        while self.platform.fleet.status(ai_id).state in LIVE:
            watcher.seen.clear()
            await watcher.until(SpecialistEvent)
        watcher.close()

    def kill_backend(self) -> None:
        for request_id in self.turns:
            self.disturb(request_id)
        let_die(self.platform, self.loop)
        self.turns.clear()
        self.seen["kill -9 backend"] += 1
        self.begin()

    def disturb(self, request_id: str) -> None:
        self.calm.difference_update(self.turns.get(request_id, ()))

    # what must hold

    async def records(self, *states: str) -> list[ToolRecord]:
        await self.platform.approvals.calls(None, 1)  # waits for what is being written
        return await self.store.find(states=states, limit=1_000_000)

    @property
    def store(self) -> SqliteToolCalls:
        store = self.platform.memory.tool_calls
        assert isinstance(store, SqliteToolCalls)
        return store

    def executed(self) -> list[list[str]]:
        with contextlib.suppress(FileNotFoundError):
            return [line.split() for line in self.marks.read_text().splitlines()]
        return []

    def check(self) -> None:
        """Nothing waits: every call has its record, what ran was allowed before, once, and what was denied did not run."""
        self.turns.clear()
        assert self.platform.approvals.asks == [], "an ask outlived its turn"
        records = self.run(self.records())
        by_name = {json.loads(record.preview)["name"]: record for record in records}
        assert len(by_name) == len(records), "a call was written down twice"
        ran = self.executed()
        counts = Counter(line[0] for line in ran)
        assert [name for name, count in counts.items() if count > 1] == []
        for name, state, by in ran:
            # `ended`: its turn was cancelled in the moment between the word and the run
            assert state in ("running", "ended") and by, f"{name} ran while its record said {state} {by}"
            assert name not in self.denied, f"{name} was denied and ran"
            assert name in self.allowed or name[0] in self.ruled, f"{name} ran and nobody allowed it"
            assert by_name[name].state in ("done", "ended", "running"), by_name[name]
        open_ = [record for record in records if record.state in ("waiting", "running")]
        assert open_ == [], f"these have no end: {open_}"
        for name in self.calm:
            assert name in by_name, f"{name} was lost: {self.ended[name]}"
            if name in self.allowed:
                assert counts[name] == 1 or by_name[name].rule.startswith("deny"), by_name[name]
            elif name in self.denied:
                assert by_name[name].state == "denied", by_name[name]
        self.calm.clear()
        self.seen["ran"] = len(ran)


def _name(ask: Ask) -> str:
    return json.loads(ask.arguments)["name"]


def run_asks(calls: int, seed: int) -> Counter[str]:
    """Ask for so many calls in one home; return how often what happened."""
    asking = Asking(seed)
    try:
        while asking.calls < calls:
            asking.step()
        asking.sleep()
        return Counter({"calls": asking.calls, **asking.seen})
    finally:
        asking.close()
