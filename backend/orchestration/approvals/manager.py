"""Approvals: every tool call is decided here, by a rule or by a person, and written down before it runs.

A worker asks and waits; nothing runs at a worker without a verdict from here, and no verdict leaves before its record is
stored. An ask belongs to its turn: when the turn ends, or this backend does, the ask is void and runs nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Container
from secrets import token_hex

from backend.catalog import Catalog
from backend.config import Settings
from backend.events import EventStream
from backend.home import Home
from backend.memory import ToolCallStore
from backend.orchestration.approvals.call_log import CallLog
from backend.orchestration.approvals.forms import filled
from backend.orchestration.approvals.own_tools import OwnTools
from backend.orchestration.approvals.preview import diff_of
from backend.orchestration.approvals.rule_book import OWN, Elsewhere, RuleBook
from backend.orchestration.approvals.rules import (
    RuleError,
    decide,
    exact_pattern,
    read_pattern,
)
from backend.orchestration.error_log import ErrorLog
from backend.orchestration.stored import Stored
from backend.orchestration.turns.request import ChatRequest
from backend.schema.content import ToolResult
from backend.schema.errors import TektonError
from backend.schema.events import AskClosed, AskOpened
from backend.schema.frames import Request, StreamToolResult, StreamToolUse
from backend.schema.tools import (
    AGENTS_SERVER,
    MAX_ARGUMENTS,
    QUESTION,
    Answer,
    Ask,
    Decision,
    Rule,
    ToolRecord,
)
from backend.tasks import Background, end_tasks

log = logging.getLogger(__name__)

NOBODY = "nobody"
PREVIEW_CHARS = 2_000
SAID_CHARS = 200
MAX_LEFT = 10_000
"""Records of calls that are closed at a start."""
ANSWERED_KEPT = 500
"""Answered asks that are remembered, so that a late answer can be refused with the name of who answered first."""

Send = Callable[[Request], None]
Mask = Callable[[str], str]


class _Open:
    """An ask that waits, with its record, the future that its answer resolves, and the conversation whose readers are told."""

    def __init__(self, ask: Ask, record: ToolRecord, conversation: str) -> None:
        self.ask, self.record, self.conversation = ask, record, conversation
        self.answer: asyncio.Future[tuple[Answer, str, str, str]] = asyncio.get_running_loop().create_future()


class Approvals:
    """Decides tool calls, keeps what waits for a person, the rules and the record."""

    def __init__(
        self,
        *,
        home: Home,
        settings: Settings,
        catalog: Catalog,
        calls: ToolCallStore,
        stored: Stored,
        events: EventStream,
        error_log: ErrorLog,
        mask: Mask,
    ) -> None:
        self._settings, self._catalog, self.call_log, self._stored = settings, catalog, CallLog(calls), stored
        self._events, self._error_log, self._mask = events, error_log, mask
        self.own: OwnTools | None = None
        """What runs the platform's own tools; given once the parts it works on are there."""
        self.elsewhere: Elsewhere | None = None
        """The other gateways, where several serve one fleet."""
        self.on_changed: Callable[[], None] = lambda: None
        """Called whenever what waits has changed."""
        self._home = home
        self._open: dict[str, _Open] = {}
        self._running: dict[tuple[str, int], ToolRecord] = {}
        self._answered: dict[str, str] = {}
        self._tasks: dict[str, Background] = {}
        """Calls that are being decided, by request id."""
        self.rule_book = RuleBook(settings, catalog, stored, error_log, lambda: self.elsewhere)

    async def open(self, under_way: Container[str] = ()) -> None:
        """Read the rules, and close the records of calls that an earlier backend left open: none of them runs on.

        `under_way` are the request ids of turns that other gateways run, whose calls are theirs.
        """
        await self.rule_book.read()
        for record in await self.call_log.find(states=("waiting", "running"), limit=MAX_LEFT):
            if record.request_id not in under_way:
                await self._end_left(record)

    async def end_left(self, request_ids: Container[str]) -> None:
        """Close the records of calls whose gateway is gone."""
        for record in await self.call_log.find(states=("waiting", "running"), limit=MAX_LEFT):
            if record.request_id in request_ids:
                await self._end_left(record)

    async def _end_left(self, record: ToolRecord) -> None:
        record.state = "void" if record.state == "waiting" else "ended"
        record.by, record.ended_at = record.by or "the backend ended before an answer", time.time()
        await self.call_log.put(record)

    def reconfigure(self, settings: Settings) -> None:
        """Take the settings as they are now; the catalogue has taken its own."""
        self._settings = settings
        self.rule_book.reconfigure(settings)

    @property
    def asks(self) -> list[Ask]:
        """What waits for a person, at every gateway of the fleet, the oldest first."""
        here = [one.ask for one in self._open.values()]
        if self.elsewhere is None:
            return here
        return sorted([*here, *self.elsewhere.asks], key=lambda ask: ask.since)

    async def calls(self, ai_id: str | None, limit: int) -> list[ToolRecord]:
        """Return the records of calls, newest first."""
        return await self.call_log.find(ai_id=ai_id, limit=limit)

    # calls

    def take(self, use: StreamToolUse, session_id: str, asked: ChatRequest, send: Send) -> None:
        """Take a worker's tool call; `send` gets the verdict, exactly once unless the turn ends before."""
        deciding = self._tasks.setdefault(use.request_id, Background())
        deciding.start(
            self._decide(use, session_id, asked, send), f"tool call {use.index} of {use.request_id}"
        )

    async def _decide(self, use: StreamToolUse, session_id: str, asked: ChatRequest, send: Send) -> None:
        now = time.time()
        record = ToolRecord(
            id=f"t-{token_hex(8)}",
            ai_id=use.ai_id,
            request_id=use.request_id,
            session_id=session_id,
            tool=use.tool,
            digest=hashlib.sha256(use.arguments.encode()).hexdigest(),
            preview=self._mask(use.arguments[:PREVIEW_CHARS]),
            at=now,
            state="waiting",
        )
        try:
            await self.call_log.put(record)
            # The record is stored by now: after a kill -9 the next backend finds the call and closes it as
            # void.
            allowed, why, option = await self._verdict(use, record, asked)
            done = "running" if use.form is None else "done"
            # Stored again before the verdict leaves: what ran is in the record, whatever happens to this
            # backend then.
            record.state, record.decided_at = done if allowed else "denied", time.time()
            await self.call_log.put(record)
        # Its turn ended: `turn_ended` cancels, and nobody waits for a verdict any more.
        except asyncio.CancelledError:
            await self._void(record)
            raise
        except Exception as error:  # a call whose record cannot be written does not run
            log.exception("a call of %s", use.tool)
            text = f"the call of {use.tool} was denied: its record could not be written: {error}"
            self._error_log.record(use.ai_id, "internal", text, request_id=use.request_id)
            allowed, why, option = False, text, ""
            record.state, record.by, record.decided_at = (
                "denied",
                "the store, which took no record",
                time.time(),
            )
            await self.call_log.complete(record)
        # the server's protocol knows the difference: a person who declined, or nobody who could be asked
        if use.form is not None and record.by.startswith(NOBODY):
            option = NOBODY
        verdict = Request(
            type="tool_verdict",
            request_id=use.request_id,
            index=use.index,
            allow=allowed,
            content=why,
            option=option,
        )
        if allowed and use.form is None:
            # noted before the verdict leaves: a quick tool's result may come in before this function goes on
            self._running[use.request_id, use.index] = record
            if use.tool.startswith(OWN) and self.own is not None:
                verdict.result = await self._own_result(self.own, use, asked)
        send(verdict)

    async def _own_result(self, own: OwnTools, use: StreamToolUse, asked: ChatRequest) -> ToolResult:
        """Run one of the platform's own tools. Whatever it fails by is its result: without a verdict its turn would never end."""
        try:
            return await own.run(use, asked)
        except Exception as error:
            log.exception("%s of %s", use.tool, use.ai_id)
            return ToolResult("", f"{use.tool} failed: {type(error).__name__}: {error}", is_error=True)

    async def _verdict(
        self, use: StreamToolUse, record: ToolRecord, asked: ChatRequest
    ) -> tuple[bool, str, str]:
        """Return whether a call may run, why not, and the agent's own option chosen; `record` gets who decided."""
        if len(use.arguments.encode()) > MAX_ARGUMENTS:
            record.by = "the limit of arguments"
            return False, f"the arguments are longer than {MAX_ARGUMENTS:,} bytes", ""
        decision = await self.rule_book.explain(
            use.tool, use.arguments, use.ai_id, record.session_id, asked.rules
        )
        if decision.rule is not None:
            record.rule = f"{decision.rule.verdict} {decision.rule.pattern}"
        if use.form is not None and decision.verdict == "allow":
            decision = Decision(
                "ask", "a question of a tool is a person's to answer, whatever its calls may do"
            )
        if decision.verdict != "ask":
            record.by = "rule" if decision.rule else "default"
            return decision.verdict == "allow", decision.reason, ""
        # Denied at once instead of after `answer_within_s`: the turn would stand still for somebody who is not
        # there.
        if not await self._watched(asked.asked_by or asked.conversation):
            record.by = "nobody watches"
            why = "this call needs a person's word, and no console is attached that may give it; a rule could allow it"
            return False, why, ""
        answer = await self._ask(use, record, decision, asked)
        # the wait may have been minutes: a rule that denies and was made meanwhile is stronger than the answer
        now = await self.rule_book.explain(use.tool, use.arguments, use.ai_id, record.session_id)
        if answer[0] and now.verdict == "deny":
            record.rule = f"deny {now.rule.pattern}" if now.rule else record.rule
            return False, f"{now.reason}, made while this call waited", ""
        return answer

    async def _ask(
        self, use: StreamToolUse, record: ToolRecord, decision: Decision, asked: ChatRequest
    ) -> tuple[bool, str, str]:
        wait_s = self._settings.rules.answer_within_s
        ask = Ask(
            id=record.id,
            ai_id=use.ai_id,
            request_id=use.request_id,
            session_id=record.session_id,
            tool=use.tool,
            arguments=use.arguments,
            since=record.at,
            until=record.at + wait_s,
            always=exact_pattern(use.tool, use.arguments) if use.form is None else "",
            why=asked.content[:SAID_CHARS],
            reason=decision.reason,
            read_only=use.read_only,
            options=use.options,
            form=use.form,
            diff=use.diff
            or self._mask(
                await asyncio.to_thread(
                    diff_of, use.arguments, roots=self._folders_of(use), hidden=self._home.root
                )
            ),
        )
        waiting = self._open[ask.id] = _Open(ask, record, asked.asked_by or asked.conversation)
        self._events.publish("asks", AskOpened(ask), key=waiting.conversation)
        self.on_changed()
        verdict, by, words, option = "deny", "nobody", "", ""
        try:
            async with asyncio.timeout(wait_s):
                verdict, by, words, option = await waiting.answer
        except TimeoutError:
            by, words = "nobody", f"nobody answered within {wait_s:g} s"
        finally:
            self._close_ask(waiting, verdict, by)
        record.by = by
        if option:
            record.by = f"{by}, {option!r}"
        return verdict == "allow", words or ("" if verdict == "allow" else f"{by} said no"), option

    def _folders_of(self, use: StreamToolUse) -> list[str]:
        """Return the folders that a call's server, or its agent, was given to work on."""
        server = self._settings.tools.get(use.tool.partition(":")[0])
        if server is None:
            own = self._catalog.get(use.ai_id).cwd if use.tool.startswith(f"{AGENTS_SERVER}:") else None
            return [own] if own else []
        words = [word.rpartition("=")[2] for word in server.command[1:]]
        return [word for word in (server.cwd, *words) if word.startswith(("/", "~/"))]

    async def _watched(self, conversation: str) -> bool:
        """Return whether anybody who may answer is there to be asked, here or at another gateway."""
        if self._events.watched("asks", conversation):
            return True
        return self.elsewhere is not None and await self.elsewhere.watched(conversation)

    def _close_ask(self, waiting: _Open, verdict: str, by: str) -> None:
        ask = waiting.ask
        self._open.pop(ask.id, None)
        self._answered[ask.id] = f"{'allowed' if verdict == 'allow' else 'denied'} by {by}"
        # Only for the words of a conflict, so the newest do.
        while len(self._answered) > ANSWERED_KEPT:
            del self._answered[next(iter(self._answered))]
        closed = AskClosed(ask.id, ask.ai_id, verdict, by)
        self._events.publish("asks", closed, key=waiting.conversation)
        self.on_changed()

    async def _void(self, record: ToolRecord) -> None:
        record.state, record.by, record.ended_at = "void", "the turn ended before an answer", time.time()
        await self.call_log.complete(record)

    async def answer(
        self, ask_id: str, answer: Answer, by: str, *, always: str = "", words: str = "", option: str = ""
    ) -> Ask:
        """Answer an ask; `always` also makes a rule of that pattern for its specialist, `words` go to the model.

        `option` is one of those that the asking agent offers, which has to say the same as `answer`.

        Raises:
            TektonError: `conflict` when somebody else was first, `not_found` when nothing of that id waits.
            RuleError: The pattern cannot be read, or does not cover this call.
            StoreFailed: It cannot be allowed, for its record could not be written now: it waits on.
        """
        waiting = self._waiting(ask_id)
        rule = None
        if waiting.ask.form is not None and always:
            raise RuleError(f"{ask_id} is a question of {waiting.ask.tool}: no rule answers it")
        if waiting.ask.tool == QUESTION and waiting.ask.form is None and answer == "allow" and not option:
            known = ", ".join(f"{one.id} ({one.name})" for one in waiting.ask.options if one.allows)
            raise TektonError(
                f"{ask_id} is a question: answer it with one of its options: {known}", code="invalid_request"
            )
        if option:
            chosen = next((one for one in waiting.ask.options if one.id == option), None)
            if chosen is None or chosen.allows != (answer == "allow"):
                known = ", ".join(f"{one.id} ({one.kind})" for one in waiting.ask.options) or "none"
                raise TektonError(
                    f"{ask_id} has no option {option!r} to {answer} it; it offers: {known}",
                    code="invalid_request",
                )
        if waiting.ask.form is not None and answer == "allow":
            words = filled(waiting.ask, option, words)
        if always:
            read_pattern(always)
            rule = Rule(answer, always, waiting.ask.ai_id, by=by, at=time.time())
            if not decide([rule], waiting.ask.tool, waiting.ask.arguments, [rule.scope]).rule:
                raise RuleError(f"the rule {always!r} does not cover this call of {waiting.ask.tool}")
        if answer == "allow":  # without a record it would not run: better said while it can still be answered
            await self.call_log.put(waiting.record)
            self._waiting(ask_id)
        # before the rule is stored, which awaits: another answer may come in between, and the first one counts
        waiting.answer.set_result((answer, by, words, option))
        if rule is not None:
            try:
                await self.rule_book.add(rule)
            except TektonError as error:
                told = f"{ask_id} was answered ({answer}), but its rule is not kept: {error.message}"
                raise TektonError(told, code=error.code) from error
        return waiting.ask

    def _waiting(self, ask_id: str) -> _Open:
        """Return an ask that waits. Raises `TektonError` (`conflict`, `not_found`) when it waits no more."""
        waiting = self._open.get(ask_id)
        if waiting is not None and not waiting.answer.done():
            return waiting
        if waiting is not None and not waiting.answer.cancelled():  # answered in this very moment
            raise TektonError(f"{ask_id} was just answered by somebody else", code="conflict")
        if said := self._answered.get(ask_id):
            raise TektonError(f"{ask_id} was already {said}", code="conflict")
        raise TektonError(f"nothing of the id {ask_id!r} waits for an answer", code="not_found")

    def finished(self, result: StreamToolResult) -> None:
        """Complete the record of a call that ran, and close the questions that it left."""
        for one in (
            self._open.values()
        ):  # of our own tools one runs after another, and what an agent asks is no call's
            asks = one.ask.form is not None and one.ask.tool != QUESTION
            if asks and one.ask.request_id == result.request_id and not one.answer.done():
                one.answer.set_result(("deny", NOBODY, "its call is over", ""))
        record = self._running.pop((result.request_id, result.index), None)
        if record is None:
            return
        record.state = "failed" if result.is_error else "done"
        record.ended_at, record.result_bytes = time.time(), result.size
        self.call_log.complete_soon(record)

    def turn_ended(self, request_id: str) -> None:
        """End what a turn left: its asks are void, its running calls are over."""
        for task in self._tasks.pop(request_id, ()):
            task.cancel()
        # What ran when the turn ended may have done its work or not: the record says that it ended, not how.
        for key in [key for key in self._running if key[0] == request_id]:
            record = self._running.pop(key)
            record.state, record.ended_at = "ended", time.time()
            self.call_log.complete_soon(record)

    async def close(self) -> None:
        """Void what waits, complete what ran, and end."""
        await end_tasks(*(task for deciding in self._tasks.values() for task in deciding))
        await self.call_log.close()
