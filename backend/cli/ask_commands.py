"""`tekton team | pipe | gateway | stop`: asking many, and the backend itself."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from backend.cli import terminal
from backend.cli.calling import attached, call
from backend.cli.exit_codes import OK, exit_code
from backend.cli.pipe_files import run_with_files
from backend.schema.errors import TektonError


async def team(options: argparse.Namespace) -> int:
    """Ask the team and print each answer under its name; failures go to stderr by name."""
    answer = await call(
        "team_chat", start=True, content=" ".join(options.words), target_ids=options.to or None, mode=options.mode,
        timeout_s=options.timeout,
    )  # fmt: skip
    if options.json:
        print(json.dumps(answer, indent=2))
    else:
        for response in answer["responses"]:
            print(f"{response['socket_id'].removesuffix('-ai')}:\n{terminal.shown(response['content'])}\n")
        for kind in ("synthesis", "consensus"):
            if answer[kind]:
                print(f"{kind}:\n{terminal.shown(answer[kind])}\n")
    for failure in answer["failures"]:
        terminal.error(f"{failure['socket_id']}: {failure['code']}: {failure['error']}")
    return (
        OK if answer["responses"] else exit_code(answer["failures"][0]["code"]) if answer["failures"] else OK
    )


async def pipe(options: argparse.Namespace) -> int:
    """Run a pipeline; files are read and written here, the stages run in the backend."""
    given = "" if sys.stdin.isatty() else sys.stdin.read()
    async with attached(start=True) as client:
        return await run_with_files(client, " ".join(options.pipeline), given, as_json=options.json)


async def gateway(options: argparse.Namespace) -> int:
    answer: dict[str, Any] = await call("gateway_info")
    if options.json:
        print(json.dumps(answer, indent=2))
        return OK
    print(f"{answer['address']} · {answer['total_calls']} calls · {answer['refused_calls']} refused")
    rows = [
        (row["client"], row["transport"], row["action"], str(row["status"]), row.get("refusal", ""))
        for row in answer["recent"][:30]
    ]
    print(terminal.table(("CLIENT", "BY", "ACTION", "STATUS", "REFUSAL"), rows))
    return OK


async def stop(options: argparse.Namespace) -> int:
    """End the backend; the fleet runs on unless `--fleet`."""
    try:
        answer = await call("shutdown", stop_fleet=options.fleet or None)
    except TektonError as error:
        if error.code == "backend_lost":
            print("no backend runs")
            return OK
        raise
    for row in answer["results"]:
        print(f"{row['id'].removesuffix('-ai')}: {row.get('message', 'stopped')}")
    print("the backend ends" + ("" if options.fleet else "; the fleet runs on"))
    return OK
