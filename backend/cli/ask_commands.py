"""`tekton team | pipe | bulk | gateway | stop`: asking many, and the backend itself."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from typing import Any

from backend.cli import terminal
from backend.cli.calling import attached, call
from backend.cli.exit_codes import FAILED, OK
from backend.cli.inputs import question, read_file, read_stdin
from backend.cli.output import Output
from backend.cli.pipe_files import PipelineCall, stage_table
from backend.schema.errors import TektonError


async def team(options: argparse.Namespace) -> int:
    """Ask the team, or have it discuss what it answered; each answer is printed as soon as it is whole."""
    from backend.cli.aish_session import Shell

    async with attached(start=True) as client:
        shell = Shell(client, Output(as_json=options.json))
        if options.discuss:
            return await shell.discuss(options.discuss)
        return await shell.ask_team(
            question(options.words), target_ids=options.to or None, mode=options.mode, timeout=options.timeout
        )  # fmt: skip


async def pipe(options: argparse.Namespace) -> int:
    """Run a pipeline, look at earlier runs, run one again from a stage, end one, keep one under a name."""
    if options.history:
        return _runs(await call("list_pipelines", start=True, limit=options.limit), options)
    if options.show:
        return _run(await call("list_pipelines", start=True, run_id=options.show), options)
    if options.cancel:
        answer = await call("cancel", request_id=options.cancel)
        print(f"ended {options.cancel} in {answer['elapsed_ms']:.0f} ms")
        return OK
    if options.save or options.remove or options.saved == "":
        return await _saved(options)
    from backend.cli.listening import Listener

    async with attached(start=True) as client:
        line = PipelineCall(client, Listener(client), Output(as_json=options.json), times=options.times)
        if options.run:
            return await line.again(options.run, options.from_stage)
        if options.saved:
            rows = (await client.call("saved_pipelines"))["saved"]
            text = next((row["pipeline"] for row in rows if row["name"] == options.saved.strip()), "")
            if not text:
                raise TektonError(
                    f"no pipeline is saved as {options.saved!r}; `tekton pipe --saved` lists them",
                    code="not_found",
                )
            return await line.run(text, read_stdin())
        return await line.run(_written(options), read_stdin())


async def _saved(options: argparse.Namespace) -> int:
    """Keep a pipeline under a name, forget one, or list them."""
    if options.save:
        text = _written(options)
        row = await call(
            "save_pipeline", start=True, name=options.save, pipeline=text, replace=options.replace
        )
        print(f"saved as {terminal.shown(row['name'])}: tekton pipe --saved {shlex.quote(row['name'])}")
        return OK
    if options.remove:
        row = await call("remove_pipeline", start=True, name=options.remove)
        print(f"removed {terminal.shown(row['name'])}: {terminal.shown(row['pipeline'])}")
        return OK
    answer = await call("saved_pipelines", start=True)
    if options.json:
        print(json.dumps(answer, indent=2))
        return OK
    rows = [(row["name"], row["pipeline"]) for row in answer["saved"]]
    print(
        terminal.table(("NAME", "PIPELINE"), rows) if rows else "none is saved: tekton pipe --save NAME '…'"
    )
    return OK


def _written(options: argparse.Namespace) -> str:
    """Return the pipeline of the command line."""
    if not options.pipeline:
        raise TektonError(
            "give a pipeline, such as 'echo \"hello\" | apollo | athena'", code="invalid_request"
        )
    return " ".join(options.pipeline)


async def bulk(options: argparse.Namespace) -> int:
    """Ask many things side by side: JSON lines in, JSON lines out, in the order given."""
    text = read_file(options.file) if options.file != "-" else read_stdin()
    requests: list[Any] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                requests.append(json.loads(line))
            except ValueError as error:
                raise TektonError(f"line {number} is no JSON: {error}", code="invalid_json") from error
    if not requests:
        raise TektonError(
            'give lines such as {"specialist_id": "apollo", "message": "hello"}', code="invalid_request"
        )
    answer = await call(
        "bulk", start=True, requests=requests, max_concurrency=options.at_once, timeout=options.timeout
    )
    out = Output()
    for row in answer.pop("results"):
        out.line(row)
    print(
        f"{answer['ok']} answered, {answer['failed']} failed in {answer['wall_time']:.2f} s; "
        f"one after another: {answer['sum_of_times']:.2f} s",
        file=sys.stderr,
    )
    return OK if not answer.get("failed") else FAILED


def _runs(answer: Any, options: argparse.Namespace) -> int:
    """List earlier runs, newest first."""
    if options.json:
        print(json.dumps(answer, indent=2))
        return OK
    rows = [
        (
            run["request_id"],
            terminal.ago(run["started_at"]),
            "done" if run.get("ok") else f"failed at {run.get('failed_stage', '?')}" if run.get("total_time") else "running",
            f"{run.get('total_time', 0):.2f} s",
            run["pipeline"],
        )
        for run in answer["runs"]
    ]  # fmt: skip
    print(terminal.table(("ID", "AGO", "STATE", "TIME", "PIPELINE"), rows, state_column=2))
    return OK


def _run(answer: Any, options: argparse.Namespace) -> int:
    """Show one run: what went in, each stage's figures and answer."""
    [run] = answer["runs"]
    if options.json:
        print(json.dumps(run, indent=2))
        return OK
    print(terminal.shown(run["pipeline"]))
    print(stage_table(run))
    for number, stage in enumerate(run["stages"], 1):
        words = f"{stage['code']}: {stage['error']}" if stage.get("code") else stage.get("output", "")
        print(f"\n{number} {terminal.shown(stage['label'])}\n{terminal.shown(words)}")
    return OK


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
    print(terminal.table(("CLIENT", "BY", "ACTION", "STATUS", "REFUSAL"), rows, wrap=True, drop_empty=True))
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
