"""`tekton team | pipe | bulk`: ask several specialists with one command."""

from __future__ import annotations

import argparse
import shlex
import sys
from uuid import uuid4

import msgspec

from backend.cli import terminal
from backend.cli.command import FILES, SPECIALISTS, argument, command, count, seconds
from backend.cli.event_listener import Listener, call_or_cancel
from backend.cli.exit_codes import FAILED, OK
from backend.cli.pipeline import PipelineCall, stage_table
from backend.cli.runner import attached, call
from backend.cli.shell import Shell
from backend.cli.streams import Output, question, read_file, read_stdin
from backend.schema import params
from backend.schema.errors import InvalidRequest, TektonError
from backend.schema.records import RunRecord
from backend.schema.results import PipelineRuns


@command(
    "team",
    argument("words", nargs="*", help="the question; piped input is appended to it"),
    argument(
        "--to", nargs="+", metavar="NAME", values=(SPECIALISTS,), help="only these (default: all that run)"
    ),
    argument("--mode", choices=("pass_through", "synthesis", "consensus", "directed")),
    argument("--timeout", type=seconds, metavar="S", help="time limit of each member, in seconds"),
    argument("--discuss", metavar="ID", help="start a discussion round over the team turn with this id"),
    argument("--json", action="store_true", help="JSON lines: one for each answer"),
    examples=[
        ("tekton team 'name one risk'", "everybody that runs"),
        ("tekton team --to apollo athena -- 'name one risk'", "only these"),
    ],
)
async def team(options: argparse.Namespace) -> int:
    """Ask everybody that runs at the same time. Each answer is printed as soon as it is complete; failures are
    named on stderr.
    """
    async with attached(start=True) as client:
        shell = Shell(client, Output(as_json=options.json))
        if options.discuss:
            return await shell.discuss(options.discuss)
        return await shell.ask_team(
            question(options.words), target_ids=options.to or None, mode=options.mode, timeout_s=options.timeout
        )  # fmt: skip


@command(
    "pipe",
    argument("pipeline", nargs="*", help="for example: 'apollo | athena'; its input may be piped in"),
    argument("--times", action="store_true", help="time, first token and sizes of each stage, on stderr"),
    argument("--history", action="store_true", help="list earlier runs"),
    argument("--limit", type=count, default=20, help="runs to list (default 20)"),
    argument("--show", metavar="ID", help="one earlier run with all its stages"),
    argument("--run", metavar="ID", help="run an earlier run again"),
    argument(
        "--from", dest="from_stage", type=count, default=1, metavar="K", help="with --run: start with stage K"
    ),
    argument("--save", metavar="NAME", help="store the pipeline under a name instead of running it"),
    argument("--replace", action="store_true", help="with --save: overwrite the pipeline of that name"),
    argument(
        "--saved",
        nargs="?",
        const="",
        metavar="NAME",
        help="run the saved pipeline; without a name list them",
    ),
    argument("--remove", metavar="NAME", help="delete the saved pipeline of that name"),
    argument("--cancel", metavar="ID[/K]", help="cancel a run, or its stages from K on"),
    argument("--json", action="store_true", help="JSON lines: pieces, then the run with all its stages"),
    examples=[
        ("tekton pipe 'echo \"hello\" | apollo'", "one stage after another"),
        (
            "echo hello | tekton pipe --times '{apollo,athena} | apollo \"sum up\"'",
            "at the same time, then one",
        ),
        ("tekton pipe --history", "earlier runs"),
        ("tekton pipe --save review 'apollo | athena \"shorter\"'", "store it under a name"),
        ("echo 'a text' | tekton pipe --saved review", "run it; `--saved` alone lists, `--remove` deletes"),
    ],
)
async def pipe(options: argparse.Namespace) -> int:
    """Run stages one after another, each with the output of the one before as input: NAME "instruction", {a,b} at
    the same time, team, echo "text", cat FILE, < FILE, > FILE, >> FILE, {input}. A failed stage ends the run. Runs
    are stored: --history lists them, --show prints one, --run with --from starts again at a stage.
    """
    if options.history:
        return _runs(await call(params.ListPipelines(limit=options.limit), start=True), options)
    if options.show:
        return _run(await call(params.ListPipelines(run_id=options.show), start=True), options)
    if options.cancel:
        result = await call(params.Cancel(target=options.cancel))
        print(f"cancelled {options.cancel} in {result.elapsed_ms:.0f} ms")
        return OK
    if options.save or options.remove or options.saved == "":
        return await _saved(options)
    async with attached(start=True) as client:
        line = PipelineCall(Listener(client), Output(as_json=options.json), times=options.times)
        if options.run:
            return await line.again(options.run, options.from_stage)
        if options.saved:
            saved = (await client.call(params.ListSavedPipelines())).saved
            text = next((row.pipeline for row in saved if row.name == options.saved.strip()), "")
            if not text:
                raise TektonError(
                    f"no pipeline is saved as {options.saved!r}; `tekton pipe --saved` lists them",
                    code="not_found",
                )
            return await line.run(text, read_stdin())
        return await line.run(_written(options), read_stdin())


async def _saved(options: argparse.Namespace) -> int:
    """Store a pipeline under a name, delete one, or list them."""
    if options.save:
        wish = params.SavePipeline(name=options.save, pipeline=_written(options), replace=options.replace)
        row = await call(wish, start=True)
        print(f"saved as {row.name}: tekton pipe --saved {shlex.quote(row.name)}")
        return OK
    if options.remove:
        row = await call(params.RemovePipeline(name=options.remove), start=True)
        print(f"removed {row.name}: {row.pipeline}")
        return OK
    result = await call(params.ListSavedPipelines(), start=True)
    if options.json:
        terminal.print_json(result)
    elif result.saved:
        rows = [(row.name, row.pipeline) for row in result.saved]
        terminal.print_table(("NAME", "PIPELINE"), rows)
    else:
        print("no pipeline is saved: tekton pipe --save NAME '…'")
    return OK


def _written(options: argparse.Namespace) -> str:
    """Return the pipeline of the command line."""
    if not options.pipeline:
        raise InvalidRequest("give a pipeline, such as 'echo \"hello\" | apollo | athena'")
    return " ".join(options.pipeline)


def _runs(result: PipelineRuns, options: argparse.Namespace) -> int:
    """List earlier runs, newest first."""
    if terminal.print_if_json(options, result):
        return OK
    rows = [
        (run.request_id, terminal.ago(run.started_at), _state(run), f"{run.total_time:.2f} s", run.pipeline)
        for run in result.runs
    ]
    terminal.print_table(("ID", "AGO", "STATE", "TIME", "PIPELINE"), rows, state_column=2)
    return OK


def _state(run: RunRecord) -> str:
    if run.ok:
        return "done"
    return f"failed at {run.failed_stage or '?'}" if run.total_time else "running"


def _run(result: PipelineRuns, options: argparse.Namespace) -> int:
    """Show one run: its pipeline, each stage's figures and answer."""
    [run] = result.runs
    if terminal.print_if_json(options, run):
        return OK
    print(run.pipeline)
    terminal.draw(stage_table(run))
    for number, stage in enumerate(run.stages, 1):
        words = f"{stage.code}: {stage.error}" if stage.code else stage.output
        print(f"\n{number} {stage.label}\n{words}")
    return OK


@command(
    "bulk",
    argument("file", nargs="?", default="-", values=(FILES,), help="JSON lines (default: what is piped in)"),
    argument("--at-once", type=count, metavar="N", help="requests at the same time"),
    argument("--timeout", type=seconds, metavar="S", help="time limit of each, in seconds"),
    examples=[('echo \'{"specialist_id": "apollo", "message": "hello"}\' | tekton bulk', "a request a line")],
)
async def bulk(options: argparse.Namespace) -> int:
    """Run many requests at the same time. Each line of input is a JSON object such as {"specialist_id": "apollo",
    "message": "hello"}; each gets one line of output, in the same order.
    """
    text = read_file(options.file) if options.file != "-" else read_stdin()
    requests: list[params.BulkItem] = []
    for number, line in enumerate(text.split("\n"), 1):  # JSON may hold other line ends
        if line.strip():
            try:
                requests.append(msgspec.json.decode(line, type=params.BulkItem))
            except msgspec.DecodeError as error:
                raise TektonError(f"line {number} is not a request: {error}", code="invalid_json") from error
    if not requests:
        raise InvalidRequest('give lines such as {"specialist_id": "apollo", "message": "hello"}')
    wish = params.RunBulk(
        requests=requests,
        max_concurrency=options.at_once,
        timeout_s=options.timeout,
        request_id=f"bulk-{uuid4().hex[:16]}",
    )
    async with attached(start=True) as client:
        report = await call_or_cancel(client, wish, wish.request_id)
    out = Output()
    for row in report.results:
        out.line(row)
    print(
        f"{report.ok} answered, {report.failed} failed in {report.wall_time:.2f} s; "
        f"one after another: {report.sum_of_times:.2f} s",
        file=sys.stderr,
    )
    return FAILED if report.failed else OK
