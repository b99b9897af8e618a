"""What waits for the operator: who asks, who is down, who stalls, errors, budgets near their end, answers nobody has seen.

The queue is worked out anew from what the rooms below say, every second: what ends by itself leaves by itself. Only what a
person did with an item is kept beside it, and answers that were not seen.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

import msgspec
from msgspec import Struct

from backend.events import EventStream
from backend.memory import TEAM
from backend.orchestration.approvals.manager import Approvals
from backend.orchestration.error_log import ErrorLog
from backend.orchestration.stored import Stored
from backend.orchestration.teams.team_turn import TeamRun
from backend.orchestration.turns.budgets import Budgets
from backend.orchestration.turns.turn import Turn
from backend.schema.attention import AttentionItem, AttentionKind
from backend.schema.errors import TektonError
from backend.schema.events import AttentionChanged, TeamEnd
from backend.schema.records import ErrorRecord, SpecialistStatus, TurnOutcome
from backend.schema.results import LimitRow
from backend.schema.states import BROKEN
from backend.specialists.supervisor import Supervisor
from backend.tasks import end_tasks

log = logging.getLogger(__name__)

EVERY_S = 1.0
LONGEST_S = 31_536_000.0
"""How long an item may be put away; the longest that `SnoozeAttention` takes."""
KEY = "attention"
"""Key in the store of what was done with items, and of the answers nobody has seen."""
MAX_DONE = 100
MAX_ERRORS = 200
WHY_CHARS = 300
NEAR = 0.8
"""Share of a budget from which on it waits for somebody."""
OWN_KIND = frozenset({"exited", "killed", "lost", "foreign_port", "stalled"})
"""Codes of errors that are items of another kind while they last, and history after."""
ORDER: tuple[AttentionKind, ...] = ("asks", "down", "stalled", "error", "budget", "done")


class UnknownItem(TektonError):
    """No item of the queue has this id: it left by itself, or somebody dealt with it."""

    code = "not_found"


class _Kept(Struct):
    """What survives the backend: by item id, since when the acknowledged one began and until when it is snoozed."""

    acknowledged: dict[str, float] = {}
    snoozed: dict[str, float] = {}
    done: list[AttentionItem] = []


class AttentionQueue:
    """`items` are those that wait, snoozed ones too. Every change is published on topic `errors`."""

    def __init__(
        self,
        *,
        fleet: Supervisor,
        error_log: ErrorLog,
        budgets: Budgets,
        stored: Stored,
        events: EventStream,
        approvals: Approvals,
    ) -> None:
        self._approvals = approvals
        approvals.on_changed = self.wake
        self._fleet, self._error_log, self._budgets = fleet, error_log, budgets
        self._stored, self._events = stored, events
        self._kept = _Kept()
        self._errors: list[ErrorRecord] = []
        self._errors_seen: tuple[int, int] | None = None
        self._items: dict[str, AttentionItem] = {}
        self._task: asyncio.Task[None] | None = None
        self._unsaved = False
        self._wake = asyncio.Event()

    @property
    def items(self) -> list[AttentionItem]:
        """Return what waits, in the order it is shown."""
        return sorted(self._items.values(), key=lambda item: (ORDER.index(item.kind), item.since))

    async def open(self) -> None:
        """Read what was kept, and begin to look."""
        self._kept = await self._stored.get(KEY, _Kept) or _Kept()
        await self.look()
        self._task = asyncio.create_task(self._beat(), name="attention")

    def wake(self) -> None:
        """Look at once instead of within the second."""
        self._wake.set()

    async def close(self) -> None:
        """End, and keep what is to be kept."""
        if self._task is not None:
            await end_tasks(self._task)
            await self._save()

    def follow(
        self,
        turns: list[Callable[[Turn, TurnOutcome], None]],
        teams: list[Callable[[TeamRun, TeamEnd], None]],
    ) -> None:
        """Be called with every turn and team turn that ends, by those who keep these lists."""
        turns.append(self.turn_ended)
        teams.append(self.team_ended)

    def turn_ended(self, turn: Turn, outcome: TurnOutcome) -> None:
        """Note an answer that nobody waited for; a failed one is in the error log."""
        if turn.request.attend and outcome.code is None:
            of_team = TEAM in turn.request.owners  # a judge's answer, made of those of a team
            who, short = (TEAM, "joint") if of_team else (turn.ai_id, "answered")
            self._add_done(turn.request_id, who, turn.session_id, short, outcome.content or "an empty answer")

    def team_ended(self, run: TeamRun, end: TeamEnd) -> None:
        """Note answers of a team that nobody waited for."""
        if run.request.attend and end.answered:
            what = end.synthesis or f"{end.answered} answers to “{run.request.content}”"
            short = "joint" if end.synthesis else "answered"
            self._add_done(run.request_id, TEAM, run.start.session_id, short, what)

    def _add_done(self, request_id: str, who: str, session_id: str, short: str, text: str) -> None:
        why = " ".join(text[: 4 * WHY_CHARS].split())[:WHY_CHARS]
        item = AttentionItem(
            f"done:{request_id}", "done", who, time.time(), short, why, 1, request_id, session_id
        )
        self._kept.done = [*self._kept.done, item][-MAX_DONE:]
        self._unsaved = True

    async def acknowledge(self, ids: Iterable[str]) -> list[AttentionItem]:
        """Say that a person has seen these items and return what still waits.

        Errors are acknowledged in the error log; who is down stays away until it goes down once more.

        Raises:
            UnknownItem: One of them does not wait; nothing was done.
            TektonError: `conflict`, one is a question, which is answered.
        """
        found = [self._find(name) for name in dict.fromkeys(ids)]
        if any(item.kind == "asks" for item in found):
            raise TektonError(
                "what a specialist asks is allowed or denied, not acknowledged", code="conflict"
            )
        for item in found:
            if item.errors:
                await self._error_log.acknowledge(item.errors)
            if item.kind != "error":
                self._kept.acknowledged[item.id] = item.since
            self._kept.snoozed.pop(item.id, None)
        self._forget_done({item.id for item in found})
        await self.look()
        return self.items

    async def see(self, requests: Iterable[str], who: Iterable[str]) -> list[AttentionItem]:
        """Say that these answers, or all of these specialists, were on a screen; return what still waits."""
        by_request, by_who = set(requests), set(who)
        seen = {item.id for item in self._kept.done if item.request_id in by_request or item.who in by_who}
        if seen:
            self._forget_done(seen)
            await self.look()
        return self.items

    async def forget_session(self, session_id: str) -> None:
        """Drop the answers of a session that was deleted: there is nothing to go to."""
        gone = {item.id for item in self._kept.done if item.session_id == session_id}
        if gone:
            self._forget_done(gone)
            await self.look()

    async def snooze(self, ids: Iterable[str], seconds: float) -> list[AttentionItem]:
        """Put items away for so many seconds, or with 0 take them back; return what waits.

        Raises:
            UnknownItem: One of them does not wait; nothing was done.
        """
        for item in [self._find(name) for name in dict.fromkeys(ids)]:
            if seconds:
                self._kept.snoozed[item.id] = time.time() + seconds
            else:
                self._kept.snoozed.pop(item.id, None)
        self._unsaved = True
        await self.look()
        return self.items

    async def look(self) -> None:
        """Work the queue out anew, and publish what differs."""
        await self._read_errors()
        now = time.time()
        # later than anything is put away for: the clock was set back meanwhile
        self._kept.snoozed = {
            name: until for name, until in self._kept.snoozed.items() if now < until <= now + LONGEST_S
        }
        wanted = {item.id: item for item in self._made() if self._waits(item)}
        for name, until in self._kept.snoozed.items():
            if name in wanted:
                wanted[name].snoozed_until = until
        changed = [item for name, item in wanted.items() if self._items.get(name) != item]
        gone = [name for name in self._items if name not in wanted]
        self._items = wanted
        self._forget_ended(wanted)
        if changed or gone:
            self._events.publish("errors", AttentionChanged(changed, gone))
        if self._unsaved:
            await self._save()

    def _made(self) -> Iterable[AttentionItem]:
        for ask in self._approvals.asks:
            why = f"{ask.tool} {ask.arguments}"[:WHY_CHARS]
            yield AttentionItem(
                f"asks:{ask.id}", "asks", ask.ai_id, ask.since, "asks", why, 1, ask.request_id, ask.session_id
            )
        for row in self._fleet.statuses():
            if row.state in BROKEN:
                yield self._down(row)
            elif row.phase == "stalled":
                why = row.detail or "no token for a while; the provider is still connected"
                yield AttentionItem(
                    f"stalled:{row.id}", "stalled", row.id, row.phase_since, "stalled", why[:WHY_CHARS]
                )
        for record in self._errors:
            if record.code not in OWN_KIND:
                yield AttentionItem(
                    f"error:{record.id}", "error", record.where, record.first, record.code.replace("_", " "),
                    record.message[:WHY_CHARS], record.count, record.request_id, errors=[record.id],
                )  # fmt: skip
        for limit in self._budgets.limits():
            if (share := _share(limit)) >= NEAR:
                why = f"{limit.used()} are used today"
                yield AttentionItem(
                    f"budget:{limit.id}:{self._budgets.day}", "budget", limit.id, 0.0, f"{100 * share:.0f} %", why
                )  # fmt: skip
        yield from (msgspec.structs.replace(item) for item in self._kept.done)

    def _down(self, row: SpecialistStatus) -> AttentionItem:
        deaths = [record for record in self._errors if record.where == row.id and record.code in OWN_KIND]
        short = (
            f"exited {row.exit_code}" if row.state == "exited" and row.exit_code is not None else row.state
        )
        why = row.cause or row.last_error or row.detail or "it did not say why"
        return AttentionItem(
            f"down:{row.id}", "down", row.id, row.since, short.replace("-", " "), why[:WHY_CHARS],
            errors=[record.id for record in deaths],
        )  # fmt: skip

    def _waits(self, item: AttentionItem) -> bool:
        known = self._kept.acknowledged.get(item.id)
        return known is None or item.since > known

    def _find(self, name: str) -> AttentionItem:
        if (item := self._items.get(name)) is None:
            raise UnknownItem(f"nothing waits under {name!r}: it is over, or somebody dealt with it")
        return item

    def _forget_done(self, ids: set[str]) -> None:
        self._kept.done = [item for item in self._kept.done if item.id not in ids]
        for name in ids:
            if name.startswith("done:"):
                self._kept.acknowledged.pop(name, None)
        self._unsaved = True

    def _forget_ended(self, wanted: dict[str, AttentionItem]) -> None:
        """Drop what was done with items that are over, so that what is kept stays small."""
        # Made anew without the filter: `wanted` lacks the acknowledged items, and what was done with those must stay.
        made = {item.id for item in self._made()} | wanted.keys()
        for table in (self._kept.acknowledged, self._kept.snoozed):
            for name in table.keys() - made:
                del table[name]
                self._unsaved = True

    async def _read_errors(self) -> None:
        mark = (sum(self._error_log.counts.values()), self._error_log.unacknowledged)
        if mark != self._errors_seen:
            self._errors = await self._error_log.find(unacknowledged=True, where=None, limit=MAX_ERRORS)
            self._errors_seen = sum(self._error_log.counts.values()), self._error_log.unacknowledged

    async def _save(self) -> None:
        self._unsaved = False
        try:
            await self._stored.put(KEY, self._kept)
        except Exception as error:
            self._unsaved = True
            log.warning("what was done with the queue is not stored yet: %s", error)

    async def _beat(self) -> None:
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), EVERY_S)
            self._wake.clear()
            try:
                await self.look()
            except Exception:  # one look that fails must not end all looking
                log.exception("looking for what waits")


def _share(limit: LimitRow) -> float:
    tokens = limit.tokens / limit.tokens_per_day if limit.tokens_per_day else 0.0
    return max(tokens, limit.cost / limit.cost_per_day if limit.cost_per_day else 0.0)
