"""`tekton status | usage`: what the specialists do now, what they have used today, how far each budget is used."""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from backend.cli import terminal
from backend.cli.command import JSON, argument, command
from backend.cli.exit_codes import OK
from backend.cli.runner import attached, call, report, silent_backend, unreachable
from backend.schema import money
from backend.schema.attention import count_waiting
from backend.schema.errors import TektonError
from backend.schema.events import Snapshot
from backend.schema.params import GetSnapshot, GetUsage
from backend.schema.records import SpecialistStatus
from backend.schema.results import LimitRow
from backend.schema.states import LIVE

WATCH_EVERY_S = 1.0


@command(
    "status",
    JSON,
    argument("--watch", action="store_true", help="refresh every second, in place"),
    examples=[("tekton status", "a table"), ("tekton status --json", "everything, for a program")],
)
async def status(options: argparse.Namespace) -> int:
    """Show one row for each specialist: state, process, port, model, tokens per second, first-token latency,
    tokens in and out. When no backend runs or it does not answer, the registry is read.
    """
    if not options.watch:
        seen = await _look()
        terminal.draw(_drawn(seen, options))
        return report(seen.failure) if seen.failure else OK
    in_place = sys.stdout.isatty() and not options.json
    while True:
        text = _drawn(await _look(), options)
        if in_place:
            lines = text.split("\n")[: shutil.get_terminal_size().lines - 1]
            # from the top, each line cleared behind its text: clearing the screen first would flicker
            text = "\x1b[H" + "".join(f"{line}\x1b[K\n" for line in lines) + "\x1b[J"
        terminal.draw(text, end="" if in_place else "\n")
        await asyncio.sleep(WATCH_EVERY_S)


class _Seen(NamedTuple):
    """The specialists as the backend sees them, or, without a snapshot, as the registry says.

    `failure` says of a backend that it runs and does not answer.
    """

    specialists: list[SpecialistStatus]
    snapshot: Snapshot | None = None
    limits: Sequence[LimitRow] = ()
    failure: TektonError | None = None
    note: str = ""


async def _look() -> _Seen:
    try:
        async with attached(start=False) as client:
            snapshot = await client.call(GetSnapshot())
            limits = (await client.call(GetUsage())).limits
            return _Seen(snapshot.specialists, snapshot, limits, note=client.note)
    except TektonError as error:
        if not unreachable(error):
            raise
        rows = await asyncio.to_thread(_from_registry)
        return _Seen(rows, failure=error if silent_backend(error) else None)


def _from_registry() -> list[SpecialistStatus]:
    """Return what the registry says, for when no backend runs."""
    from backend.home import Home
    from backend.identity import entry_alive
    from backend.registry.store import Registry
    from backend.specialists.process_scan import home_of

    home = Home.from_environment()
    entries = Registry(home.registry, home.audit).read() if home.registry.exists() else {}
    rows: list[SpecialistStatus] = []
    for ai_id, entry in entries.items():
        if not home.may_be(home_of(entry.pid)):
            continue  # this home is a copy of the one that has it
        alive = bool(entry.pid) and entry_alive(entry)
        rows.append(
            SpecialistStatus(
                id=ai_id,
                name=ai_id.removesuffix("-ai"),
                title=entry.component,
                component=entry.component,
                state="stopped" if entry.transport == "api" else "ready" if alive else "lost",
                pid=entry.pid if alive else 0,
                port=entry.port,
                model=entry.model,
                started_at=entry.process_start,
            )
        )
    return rows


def _drawn(seen: _Seen, options: argparse.Namespace) -> str:
    if options.json:
        return json.dumps(_as_json(seen), indent=None if options.watch else 2)
    lines = [terminal.filled(_head(seen))]
    if seen.note:
        lines.append(terminal.filled(seen.note))
    if seen.snapshot is not None:
        lines += [terminal.filled(words) for words in _of_other_versions(seen.snapshot)]
        if seen.snapshot.platform.store.startswith("Redis"):
            lines.append(terminal.filled(f"conversations: {seen.snapshot.platform.store}"))
        if (offer := seen.snapshot.platform.offer) is not None:
            words = f"{offer.provider} {offer.display or offer.model} is there now: tekton models use auto"
            lines.append(terminal.filled(terminal.safe(words)))
        if waiting := count_waiting(seen.snapshot.attention, terminal.gateway_time()).words:
            lines.append(f"{' · '.join(waiting)}: tekton desk")
        if count := seen.snapshot.unacknowledged:
            lines.append(f"{count} error{'s' * (count != 1)} nobody has acknowledged: tekton errors")
    lines += [terminal.filled(budget_text(limit)) for limit in seen.limits]
    lines.append(
        terminal.table(
            (
                "NAME",
                "ROLE",
                "STATE",
                "PID",
                "PORT",
                "MODEL",
                "UP",
                "TOK/S",
                "FIRST",
                "IN/OUT",
                "COST",
                "NOTE",
            ),
            [_row(row) for row in seen.specialists],
            state_column=2,
            wrap=True,
            drop_empty=True,
        )
    )
    for service in seen.snapshot.services if seen.snapshot else ():
        words = f"{service.title}: {service.state} {service.detail or service.cause}"
        lines.append(terminal.filled(words, "  "))
    return "\n".join(lines)


def _as_json(seen: _Seen) -> dict[str, Any]:
    if seen.snapshot is None:
        rows = msgspec.to_builtins(seen.specialists)
        pid = silent_backend(seen.failure) if seen.failure else 0
        backend = {"pid": pid, "answers": False} if pid else None
        return {"backend": backend, "specialists": rows, "services": [], "unacknowledged": 0}
    return {**msgspec.to_builtins(seen.snapshot), "budgets": msgspec.to_builtins(seen.limits)}


def _head(seen: _Seen) -> str:
    if seen.failure is not None:
        pid = silent_backend(seen.failure)
        return f"the backend (pid {pid}) is running and does not answer; this is what the registry holds"
    if seen.snapshot is None:
        return "no backend runs; this is what the registry holds"
    platform, provider = seen.snapshot.platform, seen.snapshot.platform.provider
    name = provider.display or provider.model
    off = "" if platform.lifecycle_on else " · the AI lifecycle is off (TEKTON_REGISTER_AI=false)"
    clear = " · without TLS" if platform.in_clear else ""
    return f"{platform.gateway}{clear} · {provider.provider} {name} · {provider.reason}{off}"


def _of_other_versions(snapshot: Snapshot) -> Iterator[str]:
    """Name the specialists whose processes run other code than the gateway; nothing restarts them by itself."""
    mine = snapshot.platform.version
    others: dict[str, list[str]] = {}
    for row in snapshot.specialists:
        if row.version not in ("", mine):
            others.setdefault(row.version, []).append(row.name)
    for version, names in others.items():
        those = " ".join(sorted(names))
        yield f"version {version}, the gateway is {mine}: {those}. `tekton restart {those}` when it suits"


def _row(row: SpecialistStatus) -> tuple[str, ...]:
    live = row.state in LIVE
    rate, first, cost = row.tokens_per_second, row.first_token_ms, money.in_words(row.costs)
    return (
        row.name,
        row.short or "-",
        _state(row),
        str(row.pid or "-"),
        str(row.port or "-"),
        row.model_display or row.model or "-",
        terminal.ago(row.started_at) if live else "-",
        f"{rate:.1f}" if rate else "-",
        f"{first:.0f} ms" if first else "-",
        f"{row.tokens_in}/{row.tokens_out}",
        cost or "-",
        (row.last_error or row.detail) if live else row.cause or row.last_error,
    )


def _state(row: SpecialistStatus) -> str:
    if row.phase:
        return f"{row.state} {row.phase} {max(0.0, terminal.gateway_time() - row.phase_since):.0f}s"
    if row.state == "exited":
        return f"exited {'?' if row.exit_code is None else row.exit_code}"
    if row.state == "killed":
        return f"killed signal {'?' if row.signal is None else row.signal}"
    return row.state


@command("usage", JSON, examples=[("tekton usage", "tokens and cost of today")])
async def usage(options: argparse.Namespace) -> int:
    """Show tokens and cost of today by specialist and model, in total, and against the budgets."""
    report = await call(GetUsage(), start=True)
    if terminal.print_if_json(options, report):
        return OK
    rows = [
        (
            row.ai_id.removesuffix("-ai"),
            row.model,
            str(row.tokens_in),
            str(row.tokens_out),
            f"{row.cost:.4f} {row.currency}" if row.currency else "no price known",
            str(row.turns),
        )
        for row in report.specialists
    ]
    print(f"{report.day} · prices of {report.prices_of}")
    if not rows:
        print("nothing was used today")
        return OK
    terminal.print_table(("NAME", "MODEL", "IN", "OUT", "COST", "TURNS"), rows)
    spent = money.in_words(report.total.costs) or "nothing spent"
    print(f"total: {report.total.tokens_in} in, {report.total.tokens_out} out, {spent}")
    for limit in report.limits:
        print(terminal.filled(budget_text(limit)))
    return OK


def budget_text(limit: LimitRow) -> str:
    """Return how far a day's limit is used: `budget of apollo: 120 of 1,000 tokens today`."""
    over = " · used up: turns are refused until tomorrow" if limit.over else ""
    uncounted = f" · {limit.uncounted}" if limit.uncounted else ""
    return f"budget of {limit.name}: {limit.used()} today{over}{uncounted}"
