"""Anything after anything: a machine that drives one backend with random steps and checks after each what must hold.

A life of the backend has an event loop of its own. A killed life's loop is left as it is, its sockets are cut and nothing of
it runs on: what it had begun stays half done, as after a `kill -9`. Used by `test_interleavings.py` and `bench/fuzz.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import re
import shutil
import signal
import socket
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from backend.orchestration.platform import Platform
from backend.orchestration.turns.history import NO_ANSWER
from backend.schema.errors import TektonError
from backend.schema.records import StoredMessage, TurnOutcome
from backend.schema.states import LIVE
from backend.specialists.killall import kill_all
from tests.orchestration.running import BOUND_S, do, sent, start, upstream_calls

T = TypeVar("T")
NAMES = ("apollo", "athena")
AWAY = {"internal", "not_running", "worker_lost", "backend_lost", "cancelled"}
"""Codes with which a question may end while the disk is full, or somebody was killed or deleted."""
_TAG = re.compile(r"\bQ\d+\b")
_number = st.integers(0, 1 << 16)
_graveyard: list[Any] = []
"""What a killed life left: not to be collected, which would run its `finally` blocks."""


def step(**drawn: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A rule whose first failure is kept as it was: time passes differently when the steps are taken once more."""

    def wrap(take: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(take)
        def taking(machine: Interleavings, **values: Any) -> None:
            if Interleavings.failure:
                return
            machine.history.append(
                f"{take.__name__}({', '.join(f'{key}={value!r}' for key, value in values.items())})"
            )
            try:
                take(machine, **values)
                machine.world.check_if_due()
            except BaseException:
                machine.fail()
                raise

        return cast(Callable[..., None], rule(**drawn)(taking))

    return wrap


def let_die(platform: Platform, loop: asyncio.AbstractEventLoop) -> None:
    """Let nothing of a backend's life go on: what it had begun stays half done, its sockets are cut."""
    database = cast(Any, platform.memory.messages)._database
    for executor in database._executors.values():
        with contextlib.suppress(Exception):
            while True:
                executor._queue.get_nowait()
        executor._queue.put(None)
        executor._thread.join()
    for file in list(cast(Any, loop)._selector.get_map()):
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(file)) as one:
            if one.family != socket.AF_UNIX:
                one.shutdown(socket.SHUT_RDWR)
    if (pool := cast(Any, loop)._default_executor) is not None:
        pool.shutdown(wait=True)
    _graveyard.append((loop, asyncio.all_tasks(loop), platform))


class World:
    """A home, the life of a backend in it, and what has been promised so far."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="tk-steps-")) / "home"
        self.steps = Counter[str]()
        self.tags = 0
        self.asked = 0
        """Questions that may have been one call upstream each."""
        self.sessions: dict[str, str] = {}
        """Owners of the sessions that are there."""
        self.kept: dict[str, tuple[str, str, str, str]] = {}
        """Session, specialist, question and answer of each turn that was answered and is stored, by request id."""
        self.open: dict[str, tuple[str, str, str]] = {}
        """Session, specialist and question of each turn that was begun and not waited for."""
        self.teams: list[str] = []
        self.full = self.check_due = False
        self.begin()
        for owner in (*NAMES, "team") * 2:
            self.sessions[self.do("create_session", owner=owner).id] = owner

    # lives

    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.platform: Platform = self.run(start(self.root))
        self.full = False
        self.ready()

    def ready(self) -> None:
        """Launch who does not run; on a busy machine one that lives may need a moment until it answers the new backend."""

        async def answered() -> None:
            while any(one.state == "lost" and one.pid for one in self.platform.fleet.statuses()):  # noqa: ASYNC110
                await asyncio.sleep(0.05)

        self.run(answered())
        down = [n for n in NAMES if self.platform.fleet.status(f"{n}-ai").state not in LIVE]
        results = self.run(do(self.platform, "launch", ids=down)).results if down else []
        assert all(row.ok for row in results), results

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(work, BOUND_S))

    def do(self, action: str, **values: Any) -> Any:
        return self.run(do(self.platform, action, **values))

    def end(self) -> None:
        """End the life in order; what it was asked ends with it."""
        self.run(self.platform.close(stop_fleet=False))
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    def kill(self) -> None:
        """Let nothing of this life go on."""
        let_die(self.platform, self.loop)

    def close(self) -> None:
        self.run(self.platform.close(stop_fleet=True))
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        kill_all(self.platform.home, grace_s=1.0)
        shutil.rmtree(self.root.parent, ignore_errors=True)

    # what is looked at

    def rows(self, session_id: str) -> list[StoredMessage]:
        return self.do("session_messages", id=session_id, limit=1_000).messages

    def of_request(self, request_id: str) -> list[StoredMessage]:
        return self.run(self.platform.memory.messages.of_request(request_id))

    def settle(self, request_id: str) -> None:
        """Wait for the end of a turn that was begun, and check that it is one."""
        session_id, ai_id, question = self.open.pop(request_id)
        turn = self.platform.turns.find(request_id)
        assert turn is not None, f"{request_id} is forgotten"

        async def end() -> TurnOutcome:
            return await asyncio.shield(turn.done)

        self.took(self.run(end()), session_id, ai_id, question)

    def took(self, outcome: TurnOutcome, session_id: str, ai_id: str, question: str) -> None:
        """Remember an answer that was acknowledged."""
        if outcome.code is None and not any("not stored" in note for note in outcome.notes):
            self.kept[outcome.request_id] = outcome.session_id, f"{ai_id}-ai", question, outcome.content
        elif outcome.code is not None:
            self.in_ledger(outcome)

    def in_ledger(self, outcome: TurnOutcome) -> None:
        if outcome.code in ("internal", "provider_unavailable"):
            errors = self.do("list_errors", limit=1_000).errors
            assert any(
                error.message == outcome.error or error.request_id == outcome.request_id for error in errors
            ), (outcome, [(error.where, error.message, error.request_id) for error in errors[:5]])

    def check_if_due(self) -> None:
        if self.check_due:
            self.check_due = False
            self.check()

    def check(self) -> None:
        """What was acknowledged is stored once, as it was said, in its own session."""
        for session_id, owner in self.sessions.items():
            rows = self.rows(session_id)
            answers = {
                row.request_id: row for row in rows if row.role == "assistant" and row.error_code is None
            }
            for request_id, (where, ai_id, question, content) in self.kept.items():
                if where != session_id:
                    continue
                assert request_id in answers, f"{request_id} ({question!r}) is not in {session_id} of {owner}"
                found = [row for row in rows if row.request_id == request_id and row.role == "assistant"]
                assert [(row.author, row.content) for row in found] == [(ai_id, content)], (request_id, found)
        known = {*self.platform.turns.active, *self._unstored()}
        left = {row.request_id for row in self.run(self.platform.memory.turns.unfinished())}
        # what ended while that was read, or began, is known before or after it
        lost = left - known - {*self.platform.turns.active, *self._unstored()}
        assert not lost, {name: self.platform.turns.find(name) for name in lost}
        assert upstream_calls(self.platform) <= self.asked

    def _unstored(self) -> set[str]:
        waiting = cast(Any, self.platform.turns)._completion._later.waiting
        return {one.outcome.request_id for one in waiting.values()}


class Interleavings(RuleBasedStateMachine):
    """Steps that a person, a program and the machine may take at any moment, in any order."""

    taken: ClassVar[Counter[str]] = Counter()
    failure: ClassVar[str] = ""

    def __init__(self) -> None:
        super().__init__()
        self.history: list[str] = []
        self.world = World()

    def teardown(self) -> None:
        try:
            if not self.failure:
                for request_id in list(self.world.open):
                    self.world.settle(request_id)
                self.world.check()
        except BaseException:
            self.fail()
            raise
        finally:
            self.world.close()

    def fail(self) -> None:
        """Keep the first failure with the steps that led to it."""
        if not self.failure:
            Interleavings.failure = "\n".join([*self.history[-40:], traceback.format_exc()])

    # asking

    def session(self, number: int, owner: str) -> str:
        """Return one of an owner's sessions, or none: its default."""
        own = [session_id for session_id, one in self.world.sessions.items() if one == owner]
        return own[number % len(own)] if own and number % 3 else ""

    def question(self, words: str = "") -> str:
        self.world.tags += 1
        return f"{words} Q{self.world.tags}".strip()

    def attempt(self, action: str, **values: Any) -> Any:
        """Call an action; `None` when it was refused for a reason that the state of this world explains."""
        world = self.world
        self.taken[action] += 1
        try:
            return world.do(action, **values)
        except TektonError as error:
            waits = (
                error.code in AWAY
                or error.code in ("timeout", "conflict", "not_found", "unknown_session")
                # an unanswered question goes with the next one, and so does the failure that it wished for
                or error.message.startswith("scripted failure")
            )
            assert waits and "failed inside" not in error.message, (action, values, error.code, error.message)
            if error.code == "internal":
                assert world.full, (action, error.message)
            return None

    @step(
        n=_number,
        name=st.sampled_from(NAMES),
        words=st.sampled_from(["", "", "[[first 0.01]]", "[[pieces 3]]"]),
    )
    def ask(self, n: int, name: str, words: str) -> None:
        question, session = self.question(words), self.session(n, name)
        self.world.asked += 1
        # it may have to wait behind all that is open in its session
        outcome = self.attempt("chat", ai_id=name, content=question, session_id=session)
        if outcome is not None:
            assert question.split()[-1] in outcome.content, outcome
            self.world.took(outcome, session, name, question)
        self.world.check_due = True

    @step(n=_number, name=st.sampled_from(NAMES), words=st.sampled_from(["[[repeat 20]] [[rate 400]]", "[[first 0.1]]", "[[fail internal]]", "[[repeat 9]] [[cut provider_unavailable]]"]))  # fmt: skip
    def ask_and_go_on(self, n: int, name: str, words: str) -> None:
        question, session = self.question(words), self.session(n, name)
        self.world.asked += 1
        begun = self.attempt("chat", ai_id=name, content=question, session_id=session, wait=False)
        if begun is not None:
            self.world.open[begun.request_id] = begun.session_id, name, question

    @step(n=_number)
    def ask_the_same_again(self, n: int) -> None:
        world = self.world
        if not world.kept:
            return
        request_id = [*world.kept][n % len(world.kept)]
        session_id, ai_id, question, content = world.kept[request_id]
        if session_id not in world.sessions and world.sessions.get(session_id, "") != "":
            return
        name = ai_id.removesuffix("-ai")
        calls = upstream_calls(world.platform)
        same = self.attempt("chat", ai_id=name, content=question, request_id=request_id)
        if same is not None:
            assert same.content == content
        other = "apollo" if n % 2 else "athena"
        try:
            world.do("chat", ai_id=other, content=f"{question} else", request_id=request_id)
            raise AssertionError(f"{request_id} names two questions")
        except TektonError as error:
            assert error.code in ("conflict", "not_running"), error
        if not world.open:
            assert upstream_calls(world.platform) == calls

    @step(n=_number)
    def look(self, n: int) -> None:
        """What a specialist is sent: roles in turn, each answer behind its own question, nothing of anybody else."""
        name = NAMES[n % 2]
        session = self.session(n // 2, name)
        tag = self.question()
        self.world.asked += 1
        outcome = self.attempt("chat", ai_id=name, content=f"[[messages]] {tag}", session_id=session)
        if outcome is None or outcome.code is not None:
            return
        self.world.took(outcome, session, name, f"[[messages]] {tag}")
        chat = sent(outcome.content)
        assert [role for role, _ in chat] == ["user", "assistant"] * (len(chat) // 2) + ["user"], chat
        assert chat[-1][1].endswith(tag)
        own = {one for row in self.world.rows(outcome.session_id) for one in _TAG.findall(row.content)}
        assert set(_TAG.findall(json.dumps(chat))) <= own
        for (_, question), (_, answer) in zip(chat[::2], chat[1::2], strict=False):
            if answer.startswith("You said:"):
                assert set(_TAG.findall(answer)) <= set(_TAG.findall(question)), (question, answer)
            else:
                assert answer == NO_ANSWER or answer.startswith(("token", "[{")), answer

    @step(n=_number)
    def ask_in_anothers_session(self, n: int) -> None:
        foreign = [session for session, owner in self.world.sessions.items() if owner != "apollo"]
        if not foreign:
            return
        calls = upstream_calls(self.world.platform)
        try:
            self.world.do(
                "chat", ai_id="apollo", content=self.question(), session_id=foreign[n % len(foreign)]
            )
            raise AssertionError("another's session was read")
        except TektonError as error:
            assert error.code in ("invalid_request", "not_running"), error
        if not self.world.open:
            assert upstream_calls(self.world.platform) == calls

    @step(n=_number)
    def cancel(self, n: int) -> None:
        if not self.world.open:
            return
        request_id = [*self.world.open][n % len(self.world.open)]
        if self.attempt("cancel", target=request_id) is not None:
            # one that waited has left nothing in the store: the next life cannot be asked for its end
            self.world.settle(request_id)

    @step(n=_number)
    def edit(self, n: int) -> None:
        world = self.world
        if not world.open:
            return
        request_id = [*world.open][n % len(world.open)]
        question = self.question("[[first 0.01]]")
        if self.attempt("edit_turn", target=request_id, content=question) is not None:
            world.open[request_id] = (*world.open[request_id][:2], question)

    @step(n=_number)
    def wait(self, n: int) -> None:
        if self.world.open:
            self.world.settle([*self.world.open][n % len(self.world.open)])
            self.world.check_due = True

    # many at once

    @step(n=_number, words=st.sampled_from(["", "[[first 0.02]]"]), rounds=st.sampled_from([1, 1, 2]))
    def team(self, n: int, words: str, rounds: int) -> None:
        question, session = self.question(words), self.session(n, "team")
        self.world.asked += 2 * rounds
        values: dict[str, Any] = {"target_ids": list(NAMES), "session_id": session, "max_rounds": rounds}
        result = self.attempt("team_chat", content=question, mode="pass_through", **values)
        if result is None:
            return
        names = {row.socket_id for row in (*result.responses, *result.failures)}
        assert names == {f"{name}-ai" for name in NAMES}
        self.world.teams.append(result.request_id)
        run = self.world.platform.teams.find(result.request_id)
        if rounds == 1 and run is not None:
            for row in run.answers:
                self.world.took(row, row.session_id, row.ai_id.removesuffix("-ai"), question)

    @step(n=_number)
    def ask_a_member_again(self, n: int) -> None:
        if self.world.teams:
            self.world.asked += 1
            team = self.world.teams[n % len(self.world.teams)]
            self.attempt("ask_member", team_request_id=team, ai_id=NAMES[n % 2], wait=True)

    @step(n=_number)
    def merge(self, n: int) -> None:
        """A judge's prompt is asked in the team's session, under the team's name."""
        if self.world.teams:
            self.world.asked += 1
            team = self.world.teams[n % len(self.world.teams)]
            run = self.world.platform.teams.find(team)
            if run is not None:
                values: dict[str, Any] = {"group": team, "session_id": run.session_id}
                self.attempt(
                    "chat", ai_id=NAMES[n % 2], content=f"Write one answer. {self.question()}", **values
                )

    @step(n=_number)
    def bulk(self, n: int) -> None:
        items = [
            {"specialist_id": NAMES[place % 2], "message": self.question()} for place in range(1 + n % 4)
        ]
        self.world.asked += len(items)
        report = self.attempt("bulk", requests=items)
        assert report is None or [row.index for row in report.results] == list(range(len(items)))

    @step(n=_number, text=st.sampled_from(["apollo | athena", "{apollo, athena}", "athena"]))
    def pipeline(self, n: int, text: str) -> None:
        self.world.asked += 2
        record = self.attempt("pipeline", pipeline=text, input=self.question())
        assert record is None or record.ok or record.stages

    # sessions

    @step(owner=st.sampled_from([*NAMES, "team"]))
    def create(self, owner: str) -> None:
        session = self.attempt("create_session", owner=owner)
        if session is not None:
            self.world.sessions[session.id] = owner

    @step(n=_number)
    def delete(self, n: int) -> None:
        world = self.world
        if not world.sessions:
            return
        session_id = [*world.sessions][n % len(world.sessions)]
        if self.attempt("delete_session", id=session_id) is None:
            return
        owner = world.sessions.pop(session_id)
        world.kept = {one: kept for one, kept in world.kept.items() if kept[0] != session_id}
        for request_id in [one for one, (where, *_) in world.open.items() if where == session_id]:
            turn = world.platform.turns.find(request_id)
            assert turn is not None and turn.done.done(), f"{request_id} outlived its session"
            del world.open[request_id]
        if owner in NAMES:
            with contextlib.suppress(TektonError):
                world.do("chat", ai_id=owner, content=self.question(), session_id=session_id)
                raise AssertionError("a deleted session was asked in")

    @step(n=_number, change=st.sampled_from([{"archived": True}, {"archived": False}, {"title": "renamed"}, {"is_default": True}, {"model": "other"}, {"model": ""}]))  # fmt: skip
    def change_session(self, n: int, change: dict[str, Any]) -> None:
        if self.world.sessions:
            self.attempt("patch_session", id=[*self.world.sessions][n % len(self.world.sessions)], **change)

    @step(n=_number)
    def pin(self, n: int) -> None:
        if self.world.sessions:
            rows = self.world.rows([*self.world.sessions][n % len(self.world.sessions)])
            if rows:
                self.attempt("pin_message", message_id=rows[n % len(rows)].id, pinned=bool(n & 1))

    @step(n=_number)
    def switch_model(self, n: int) -> None:
        self.attempt("set_model", ids=[NAMES[n % 2]], model="other" if n & 2 else "scripted")

    # failures

    @step(n=_number)
    def kill_a_worker(self, n: int) -> None:
        world = self.world
        if n % 3:
            return
        status = world.platform.fleet.status(f"{NAMES[n % 2]}-ai")
        if status.pid and status.state in LIVE:
            os.kill(status.pid, signal.SIGKILL)
        for request_id in [one for one, (_, ai_id, _) in world.open.items() if ai_id == NAMES[n % 2]]:
            world.settle(request_id)

        async def gone() -> None:
            while world.platform.fleet.status(status.id).state in LIVE:  # noqa: ASYNC110
                await asyncio.sleep(0.005)

        world.run(gone())
        self.taken["kill -9 worker"] += 1
        world.ready()

    @step(n=_number)
    def kill_the_backend(self, n: int) -> None:
        if n % 3:
            return
        world = self.world
        self.taken["kill -9 backend"] += 1
        was_full, unstored = world.full, world._unstored()  # pyright: ignore[reportPrivateUsage]
        world.kill()
        world.begin()
        self._all_are_ended(exempt=was_full or bool(unstored))

    @step(n=_number)
    def restart_the_backend(self, n: int) -> None:
        if n % 3:
            return
        world = self.world
        self.taken["restart backend"] += 1
        was_full = world.full
        world.end()
        world.begin()
        self._all_are_ended(exempt=was_full)

    def _all_are_ended(self, *, exempt: bool) -> None:
        """Each turn that was open in an earlier life has an end that can be read, and is not asked again."""
        world = self.world
        world.teams.clear()
        for request_id, (session_id, ai_id, question) in world.open.items():
            ends = [row for row in world.of_request(request_id) if row.role == "assistant"]
            if not exempt and len(ends) != 1:
                errors = world.do("list_errors", limit=20).errors
                raise AssertionError((request_id, question, session_id, world.of_request(request_id), errors))
            for row in ends[:1]:
                if row.error_code is None:
                    world.kept[request_id] = row.session_id, f"{ai_id}-ai", question, row.content
        world.open.clear()
        self.world.check_due = True

    @step(n=_number)
    def fill_the_disk(self, n: int) -> None:
        if not n % 3:
            self._limit_pages(1)
            self.world.full = True

    @step()
    def free_the_disk(self) -> None:
        if self.world.full:
            self._limit_pages(1_073_741_823)
            self.world.full = False

    def _limit_pages(self, pages: int) -> None:
        self.taken["disk"] += 1
        database = cast(Any, self.world.platform.memory.messages)._database
        self.world.run(database.write(lambda c: c.execute(f"PRAGMA max_page_count = {pages}").fetchall()))  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]


def run_steps(steps: int, *, lives: int, first_seed: int) -> Counter[str]:
    """Take about so many steps in so many homes; return how often each kind was taken. Prints the seed."""
    print(f"{steps:,} steps in {lives} homes, seed {first_seed}", flush=True)
    Interleavings.taken.clear()
    Interleavings.failure = ""
    chosen = settings(
        max_examples=lives,
        stateful_step_count=steps // lives,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(seed(first_seed)(Interleavings), settings=chosen)
    except BaseException:
        if not Interleavings.failure:
            raise
        # as it was when it failed first, not as it looks when the steps are taken again
        raise AssertionError(f"seed {first_seed}:\n{Interleavings.failure}") from None
    return Counter(Interleavings.taken)
