"""`tekton launch | kill | restart | discover | match`: start, stop and find specialists."""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
from typing import get_args

from backend.cli import terminal
from backend.cli.command import JSON, SPECIALISTS, argument, command, count
from backend.cli.exit_codes import FAILED, OK, exit_code
from backend.cli.runner import call, report, silent_backend, unreachable
from backend.schema.errors import InvalidRequest, TektonError
from backend.schema.params import Kill, Launch, ListSpecialists, Match, Restart
from backend.schema.records import FIRST_QUESTIONS, STAND_IN, FleetPlan, LaunchResult
from backend.schema.states import SpecialistState


@command(
    "launch",
    argument(
        "names", nargs="*", values=(SPECIALISTS,), help="names, groups, starter or all (default: starter)"
    ),
    argument(
        "--group",
        metavar="NAME",
        values=(SPECIALISTS,),
        help="a group for a job: review-change, plan-project, write-text, watch-platform, or another group",
    ),
    argument("--dry-run", action="store_true", help="show the plan, start nothing"),
    examples=[
        ("tekton launch apollo", "one specialist"),
        ("tekton launch --group review-change", "specialists that review a change together"),
        ("tekton launch greek-chorus --dry-run", "what launching a group would do"),
    ],
)
async def launch(options: argparse.Namespace) -> int:
    """Launch specialists by name, group (`greek-chorus`), `starter` or `all`, and report each. What cannot
    start is named with the reason; the others start. Nothing is restarted automatically. The plan also shows which
    model would answer, and the groups for jobs.
    """
    names = [*options.names, *([options.group] if options.group else [])] or ["starter"]
    report = await call(Launch(ids=names, dry_run=options.dry_run), start=True)
    return _results(report.results, "launched") if report.plan is None else _plan(report.plan)


@command(
    "kill",
    argument("names", nargs="*", values=(SPECIALISTS,), help="names or groups"),
    argument("--all", action="store_true", help="every specialist of this home"),
    argument("--force", action="store_true", help="kill at once, without asking the process to end first"),
    examples=[("tekton kill metis", "asked to end, then killed after the grace time")],
)
async def kill(options: argparse.Namespace) -> int:
    """Ask specialists to end, wait for the grace time, then kill those that still run. Only processes of this
    home are touched. `--all` also works when no backend runs, or it does not answer.
    """
    if not options.names and not options.all:
        raise InvalidRequest("name specialists to stop, or --all")
    try:
        result = await call(Kill(ids=options.names or ["all"], force=options.force))
    except TektonError as error:
        # without a backend everything of this home can be found and ended, but nobody says whom a name means
        if not options.all or not unreachable(error):
            raise
        code = await kill_without_backend()
        return report(error) if silent_backend(error) else code
    # `--all` reports on the whole catalogue: rows that did not run are no news
    rows = [row for row in result.results if options.names or row.pid or not row.ok]
    if not rows:
        print("nothing runs")
    return _results(rows, "stopped")


@command(
    "restart",
    argument("names", nargs="+", values=(SPECIALISTS,), help="names or groups"),
    examples=[("tekton restart apollo", "a new process, the same conversation")],
)
async def restart(options: argparse.Namespace) -> int:
    """Stop specialists and launch them again."""
    return _results((await call(Restart(ids=options.names))).results, "restarted")


@command(
    "discover",
    argument("--capability", default="", help="for example: planning"),
    argument("--role", default="", help="for example: coordinator"),
    argument(
        "--state", default="", choices=get_args(SpecialistState), metavar="STATE", help="for example: ready"
    ),
    argument("--active", action="store_true", help="only those that run"),
    JSON,
    examples=[
        ("tekton discover --capability planning", "who can plan"),
        ("tekton discover --active --json", "who runs"),
    ],
)
async def discover(options: argparse.Namespace) -> int:
    """List specialists by capability, role or state. On a terminal, cells are cut to its width; a pipe and --json get
    them whole.
    """
    wish = ListSpecialists(
        capability=options.capability, role=options.role, state=options.state, active_only=options.active
    )
    found = await call(wish, start=True)
    if terminal.print_if_json(options, found):
        return OK
    rows = [
        (row.name, row.state, row.title, row.model, ", ".join(row.capabilities[:5]))
        for row in found.specialists
    ]
    terminal.print_table(("NAME", "STATE", "TITLE", "MODEL", "GOOD AT"), rows, state_column=1)
    return OK


@command(
    "match",
    argument("words", nargs="+", help="the request, in plain words"),
    argument("--limit", type=count, default=5, help="specialists to list (default 5)"),
    JSON,
    examples=[("tekton match 'our cloud bill doubled'", "who can answer it, and why")],
)
async def match(options: argparse.Namespace) -> int:
    """Rank specialists for a request in plain words, with the reasons. Those that run come first."""
    found = await call(Match(query=" ".join(options.words), limit=options.limit), start=True)
    if terminal.print_if_json(options, found):
        return OK
    rows = [
        (row.id.removesuffix("-ai"), f"{row.score:.2f}", "runs" if row.available else "-", ", ".join(row.why))
        for row in found.matches
    ]
    terminal.print_table(("NAME", "SCORE", "RUNS", "WHY"), rows, wrap=True)
    return OK


def _plan(plan: FleetPlan) -> int:
    rows = [
        (
            item.name,
            item.title,
            ("starts, cannot answer" if item.model_problem else "can start") if item.ok else "cannot",
            (item.host or "this machine") if item.ok else "-",
            str(item.port or "any"),
            f"{item.provider} {item.model}".strip(),
            item.problem,
        )
        for item in plan.items
    ]
    terminal.print_table(
        ("NAME", "ROLE", "PLAN", "HOST", "PORT", "MODEL", "PROBLEM"), rows, wrap=True, drop_empty=True
    )
    print(f"memory: about {plan.memory_estimate >> 20} MiB of {plan.memory_available >> 20} MiB free")
    for note in plan.notes:
        print(f"note: {note}")
    _models(plan)
    for job in plan.jobs:
        members = ", ".join(job.members)
        print(terminal.filled(f"{job.title}: tekton launch --group {job.name} ({members})", "  "))
    return OK if all(item.ok for item in plan.items) else FAILED


MOST_OTHERS = 8
"""How many models that could answer as well are listed."""


def _models(plan: FleetPlan) -> None:
    """Say which model answers and why, and which others could be taken."""
    choice = plan.provider
    if choice is None:
        return
    words = f"model: {choice.provider} {choice.display or choice.model}: {choice.reason}"
    if choice.stand_in:
        words += f". {STAND_IN}"
    print(terminal.filled(terminal.safe(words), "  "))
    if choice.stand_in:
        tries = " · ".join(f'aish {who} "{asked}"' for who, asked in FIRST_QUESTIONS)
        print(terminal.filled(f"it answers well: {tries}", "  "))
    others = [one for one in plan.candidates if one.usable and not choice.means(one)]
    for one in others[:MOST_OTHERS]:
        size = f", {one.size / 1e9:.1f} GB" if one.size else ""
        cost = ", paid" if one.paid else ""
        take = f"tekton models use {one.provider} {shlex.quote(one.model)}"
        if sum((one.provider, one.model) == (each.provider, each.model) for each in plan.candidates) > 1:
            take += f" --address {one.address}"
        what = f"or: {one.provider} {one.display}{size}{cost}: {one.why} ({take})"
        print(terminal.filled(terminal.safe(what), "  "))
    if len(others) > MOST_OTHERS:
        print(f"and {len(others) - MOST_OTHERS:,} more: tekton models found")


def _results(results: list[LaunchResult], done: str) -> int:
    """Print a line for each; the exit code is that of the first failure, or of who serves and cannot answer."""
    worst = OK
    for row in results:
        name = row.id.removesuffix("-ai")
        if row.ok:
            words = row.message or done
            facts = [f"{key} {value}" for key, value in (("port", row.port), ("pid", row.pid)) if value]
            print(", ".join([f"{name}: {words}", *(fact for fact in facts if fact not in words)]))
            if row.code and row.code != "already_running":
                worst = worst or exit_code(row.code)
        else:
            terminal.error(f"{name}: {row.message or 'failed'}")
            worst = worst or exit_code(row.code or "internal")
    return worst


async def kill_without_backend() -> int:
    """Stop every specialist of this home without a backend; return the exit code."""
    return _results(await asyncio.to_thread(_kill_all), "stopped")


def _kill_all() -> list[LaunchResult]:
    from backend.home import Home
    from backend.specialists.killall import kill_all
    from backend.specialists.ray.killall import kill_cluster

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
