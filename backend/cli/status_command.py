"""`tekton status`: the fleet as the backend sees it, or as the registry says when none runs; once or again and again."""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import time
from typing import Any

from backend.cli import terminal
from backend.cli.calling import attached
from backend.cli.exit_codes import OK
from backend.cli.spending import budget_text
from backend.schema import money
from backend.schema.errors import TektonError

WATCH_EVERY_S = 1.0


async def status(options: argparse.Namespace) -> int:
    """Show the fleet, once or, with `--watch`, again and again in place."""
    if not options.watch:
        print(_drawn(await _snapshot(), options))
        return OK
    in_place = sys.stdout.isatty() and not options.json
    while True:
        text = _drawn(await _snapshot(), options)
        if in_place:
            lines = text.split("\n")[: shutil.get_terminal_size().lines - 1]
            text = "\x1b[H" + "".join(f"{line}\x1b[K\n" for line in lines) + "\x1b[J"
        print(text, end="" if in_place else "\n", flush=True)
        await asyncio.sleep(WATCH_EVERY_S)


async def _snapshot() -> dict[str, Any]:
    """Return the fleet as the backend sees it, or as the registry says when none runs."""
    try:
        async with attached(start=False) as client:
            snapshot = await client.call("snapshot")
            snapshot["budgets"] = (await client.call("usage"))["limits"]
            return snapshot
    except TektonError as error:
        if error.code != "backend_lost":
            raise
        return await asyncio.to_thread(_from_registry)


def _drawn(snapshot: dict[str, Any], options: argparse.Namespace) -> str:
    if options.json:
        return json.dumps(snapshot, indent=None if options.watch else 2)
    return _status_text(snapshot)


def _from_registry() -> dict[str, Any]:
    """Say what the registry holds when no backend runs to ask."""
    from backend.home import Home
    from backend.registry.identity import Identity
    from backend.registry.store import Registry

    home = Home.from_environment()
    rows: list[dict[str, Any]] = []
    entries = Registry(home.registry, home.audit).read() if home.registry.exists() else {}
    for ai_id, entry in entries.items():
        alive = bool(entry.pid) and Identity(entry.pid, entry.process_start).still_lives()
        rows.append(
            {
                "id": ai_id,
                "name": ai_id.removesuffix("-ai"),
                "title": entry.component,
                "state": "stopped" if entry.transport == "api" else "ready" if alive else "lost",
                "pid": entry.pid if alive else 0,
                "port": entry.port,
                "model": entry.model,
                "started_at": entry.process_start,
            }
        )
    return {"backend": None, "specialists": rows, "services": [], "unacknowledged": 0}


def _status_text(snapshot: dict[str, Any]) -> str:
    platform = snapshot.get("platform")
    if platform:
        provider = platform["provider"]
        name = provider.get("display") or provider["model"]
        head = f"{platform['gateway']} · {provider['provider']} {name} · {provider['reason']}"
        if not platform.get("lifecycle_on", True):
            head += " · the AI lifecycle is off (TEKTON_REGISTER_AI=false)"
    else:
        head = "no backend runs; this is what the registry holds"
    lines = [terminal.filled(head)]
    if platform and platform.get("store", "").startswith("Redis"):
        lines.append(terminal.filled(f"conversations: {platform['store']}"))
    if count := snapshot.get("unacknowledged"):
        lines.append(f"{count} errors nobody has acknowledged: tekton errors")
    lines += [terminal.filled(budget_text(limit)) for limit in snapshot.get("budgets", ())]
    rows = [_status_row(row) for row in snapshot["specialists"]]
    lines.append(
        terminal.table(
            ("NAME", "STATE", "PID", "PORT", "MODEL", "UP", "TOK/S", "FIRST", "IN/OUT", "COST", "LAST ERROR"),
            rows,
            state_column=1,
            wrap=True,
            drop_empty=True,
        )
    )
    for service in snapshot["services"]:
        words = service.get("detail") or service.get("cause", "")
        lines.append(terminal.filled(f"{service['title']}: {service.get('state', 'stopped')} {words}", "  "))
    return "\n".join(lines)


def _status_row(row: dict[str, Any]) -> tuple[str, ...]:
    state = row.get("state", "stopped")
    if row.get("phase"):
        state = f"{state} {row['phase']} {time.time() - row.get('phase_since', time.time()):.0f}s"
    elif state == "exited":
        state = f"exited {row.get('exit_code', '?')}"
    elif state == "killed":
        state = f"killed signal {row.get('signal', '?')}"
    live = row.get("state") in ("ready", "busy")
    rate, first, cost = (
        row.get("tokens_per_second"),
        row.get("first_token_ms"),
        money.in_words(row.get("costs") or {}),
    )
    return (
        row["name"],
        state,
        str(row.get("pid") or "-"),
        str(row.get("port") or "-"),
        row.get("model_display") or row.get("model") or "-",
        terminal.ago(row.get("started_at", 0)) if live else "-",
        f"{rate:.1f}" if rate else "-",
        f"{first:.0f} ms" if first else "-",
        f"{row.get('tokens_in', 0)}/{row.get('tokens_out', 0)}",
        cost or "-",
        (row.get("last_error") if live else row.get("cause") or row.get("last_error")) or "",
    )
