"""`tekton launch | kill | restart | discover | match`: the fleet from the command line."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from typing import Any

from backend.cli import terminal
from backend.cli.calling import call, elsewhere
from backend.cli.exit_codes import FAILED, OK, exit_code
from backend.schema.errors import TektonError


async def launch(options: argparse.Namespace) -> int:
    """Launch specialists, or show the plan; a line and, in sum, an exit code for all."""
    names = options.names or ["starter"]
    answer = await call("launch", start=True, ids=names, dry_run=options.dry_run)
    if options.dry_run:
        return _plan(answer["plan"])
    return _results(answer["results"], "launched")


async def kill(options: argparse.Namespace) -> int:
    """Stop specialists. `--all` also works when no backend runs, and leaves nothing behind."""
    if not options.names and not options.all:
        raise TektonError("name specialists to stop, or --all", code="invalid_request")
    try:
        answer = await call("kill", ids=options.names or ["all"], force=options.force)
    except TektonError as error:
        if error.code != "backend_lost" or not options.all or elsewhere():
            raise
        return _results(await asyncio.to_thread(_kill_without_backend), "stopped")
    rows = [row for row in answer["results"] if options.names or row.get("pid") or not row["ok"]]
    if not rows:
        print("nothing runs")
    return _results(rows, "stopped")


async def restart(options: argparse.Namespace) -> int:
    answer = await call("restart", ids=options.names)
    return _results(answer["results"], "restarted")


async def discover(options: argparse.Namespace) -> int:
    answer = await call(
        "list_specialists",
        start=True,
        capability=options.capability,
        role=options.role,
        state=options.state,
        active_only=options.active or None,
    )
    if options.json:
        print(json.dumps(answer, indent=2))
        return OK
    rows = [
        (row["name"], row["state"], row["title"], row["model"], ", ".join(row["capabilities"][:5]))
        for row in answer["specialists"]
    ]
    print(terminal.table(("NAME", "STATE", "TITLE", "MODEL", "GOOD AT"), rows, state_column=1))
    return OK


async def match(options: argparse.Namespace) -> int:
    answer = await call("match", start=True, query=" ".join(options.words), limit=options.limit)
    if options.json:
        print(json.dumps(answer, indent=2))
        return OK
    rows = [
        (
            row["id"].removesuffix("-ai"),
            f"{row['score']:.2f}",
            "runs" if row["available"] else "-",
            ", ".join(row["why"]),
        )
        for row in answer["matches"]
    ]
    print(terminal.table(("NAME", "SCORE", "RUNS", "WHY"), rows, wrap=True))
    return OK


def _plan(plan: dict[str, Any]) -> int:
    rows = [
        (
            item["name"],
            "can start" if item["ok"] else "cannot",
            (item.get("host") or "this machine") if item["ok"] else "-",
            str(item.get("port") or "any"),
            f"{item.get('provider', '')} {item.get('model', '')}".strip(),
            item.get("problem", ""),
        )
        for item in plan["items"]
    ]
    print(
        terminal.table(("NAME", "PLAN", "HOST", "PORT", "MODEL", "PROBLEM"), rows, wrap=True, drop_empty=True)
    )
    needed, free = plan.get("memory_estimate", 0) >> 20, plan.get("memory_available", 0) >> 20
    print(f"memory: about {needed} MiB of {free} MiB free")
    for note in plan.get("notes", ()):
        print(terminal.safe(f"note: {note}"))
    return OK if all(item["ok"] for item in plan["items"]) else FAILED


def _results(results: list[Any], done: str) -> int:
    """Print a line for each; the exit code is that of the first failure, or of who serves and cannot answer."""
    worst = OK
    for result in results:
        row = (
            result
            if isinstance(result, dict)
            else {name: getattr(result, name) for name in result.__struct_fields__}
        )
        name = row["id"].removesuffix("-ai")
        if row["ok"]:
            words = row.get("message") or done
            facts = [f"{key} {row[key]}" for key in ("port", "pid") if row.get(key)]
            print(
                terminal.safe(", ".join([f"{name}: {words}", *(fact for fact in facts if fact not in words)]))
            )
            if (code := row.get("code")) and code != "already_running":
                worst = worst or exit_code(code)
        else:
            terminal.error(f"{name}: {row.get('message', 'failed')}")
            worst = worst or exit_code(row.get("code") or "internal")
    return worst


def _kill_without_backend() -> list[Any]:
    from backend.home import Home
    from backend.specialists.killall import kill_all
    from backend.specialists.ray_killall import kill_cluster

    home = Home.from_environment()
    results = kill_all(home)
    try:
        results += kill_cluster(home, os.environ)
    except TektonError:
        _results(results, "stopped")
        raise
    if not results:
        print("nothing runs")
    return results


__all__ = ["discover", "kill", "launch", "match", "restart"]
