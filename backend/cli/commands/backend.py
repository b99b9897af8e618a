"""`tekton serve | stop | gateway | cluster | call`: the backend itself, and its actions by their names."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import time
from typing import TYPE_CHECKING, Any

import msgspec

from backend.cli import terminal
from backend.cli.command import JSON, argument, command
from backend.cli.commands.fleet import kill_without_backend
from backend.cli.exit_codes import FAILED, OK, TIMEOUT
from backend.cli.runner import attached, call, here_only, remote_gateway, silent_backend
from backend.cli.streams import json_or_text
from backend.schema.errors import InvalidRequest, TektonError
from backend.schema.params import GetCluster, GetGateway, Shutdown

if TYPE_CHECKING:
    import psutil

GIB = 1024**3
STOP_WAIT_S = 30.0
"""How long a backend that said it ends has to be gone: it ends its questions and closes its stores first."""
LOOK_EVERY_S = 0.2
END_WAIT_S = 5.0
"""How long a backend that does not answer has to end after TERM, and after KILL."""


@command(
    "serve",
    argument("--host", help="address to listen on (default: gateway.host)"),
    argument(
        "--without-tls",
        action="store_true",
        help="allow an address that other machines can reach without TLS (default: gateway.without_tls)",
    ),
    argument("--port", type=int, help="port to listen on (default: gateway.port)"),
    argument(
        "--store",
        metavar="redis://HOST:PORT/DB",
        help="store conversations on this server (default: memory.store)",
    ),
    argument(
        "--cluster",
        metavar="HOST:PORT",
        help="run specialists on this Ray cluster (default: cluster.address)",
    ),
)
def serve(options: argparse.Namespace) -> int:
    """Run the backend of TEKTON_HOME in the foreground until ctrl-c or TERM. The specialists go on running after it;
    the next backend adopts them. Most commands start a backend when none runs.
    """
    # imported here: it loads the whole backend, which no other command needs
    from backend.gateway.serve import serve as serve_gateway

    here_only("`tekton serve`")
    return serve_gateway(
        host=options.host,
        port=options.port,
        store=options.store,
        cluster=options.cluster,
        without_tls=options.without_tls,
    )


@command("gateway", JSON, examples=[("tekton gateway", "the newest calls")])
async def gateway(options: argparse.Namespace) -> int:
    """List who called the gateway, over which transport, and what was refused."""
    report = await call(GetGateway())
    if terminal.print_if_json(options, report):
        return OK
    print(f"{report.address} · {report.total_calls} calls · {report.refused_calls} refused")
    rows = [
        (row.client, row.transport, row.action, str(row.status), row.refusal) for row in report.recent[:30]
    ]
    terminal.print_table(("CLIENT", "BY", "ACTION", "STATUS", "REFUSAL"), rows, wrap=True, drop_empty=True)
    return OK


@command(
    "stop",
    argument("--fleet", action="store_true", help="stop the specialists too"),
    argument("--force", action="store_true", help="end the process of a backend that does not answer"),
)
async def stop(options: argparse.Namespace) -> int:
    """End the backend and wait until its process is gone. The specialists go on running, unless --fleet is given. A
    backend that runs but does not answer is ended by signals, after a confirmation or with --force.
    """
    from backend.client.attach import backend_process, own_home

    try:
        async with attached(start=False) as client:
            here = "" if remote_gateway() else client.url
            # looked up before it is asked to end: afterwards its facts are gone
            process = await asyncio.to_thread(backend_process, own_home(), here) if here else None
            result = await client.call(Shutdown(stop_fleet=options.fleet))
    except TektonError as error:
        if error.code == "backend_lost" and not remote_gateway():
            print("no backend runs")
            return OK
        if pid := silent_backend(error):
            return await _end_silent(pid, error, options)
        raise
    for row in result.results:
        print(f"{row.id.removesuffix('-ai')}: {row.message or 'stopped'}")
    if process is not None and not await asyncio.to_thread(_gone, process, STOP_WAIT_S):
        terminal.error(
            f"the backend (pid {process.pid}) was asked to end and still runs after {STOP_WAIT_S:g} s; "
            "`tekton stop --force` ends one that does not answer"
        )
        return TIMEOUT
    left = f"; {result.left} specialist{'s go' if result.left > 1 else ' goes'} on running"
    print(f"the backend {'has ended' if process else 'ends'}{left if result.left else ''}")
    return OK


async def _end_silent(pid: int, error: TektonError, options: argparse.Namespace) -> int:
    """End the process of a backend that does not answer, if that is wanted."""
    # a script is not asked: it has to say --force
    asked = not options.force and sys.stdin is not None and sys.stdin.isatty()
    if not options.force:
        terminal.error(error.message)
    if (asked and not await terminal.confirmed(f"End the backend (pid {pid})?")) or not (
        asked or options.force
    ):
        terminal.error("not ended; `tekton stop --force` ends it")
        return TIMEOUT
    if not await asyncio.to_thread(_end_process, pid):
        terminal.error(f"the backend (pid {pid}) could not be ended")
        return FAILED
    print(f"the backend (pid {pid}) was ended{'' if options.fleet else '; specialists go on running'}")
    return await kill_without_backend() if options.fleet else OK


def _end_process(pid: int) -> bool:
    """Ask a process to end, then kill it; return whether it is gone."""
    import psutil

    try:
        process = psutil.Process(pid)
        for end in (process.terminate, process.kill):
            end()
            if _gone(process, END_WAIT_S):
                return True
    except psutil.NoSuchProcess:
        return True
    return False


def _gone(process: psutil.Process, within_s: float) -> bool:
    """Wait for the end of a process; one that ended and whose parent has not looked yet is gone, too."""
    import psutil

    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        with contextlib.suppress(psutil.TimeoutExpired):
            process.wait(LOOK_EVERY_S)
            return True
        # `wait` sees no end of a child of somebody else that nobody has collected
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() == psutil.STATUS_ZOMBIE:
                return True
    return False


@command(
    "cluster",
    argument("verb", nargs="?", choices=("status",), default="status"),
    JSON,
    examples=[("tekton cluster status", "this machine, or the nodes of the cluster")],
)
async def cluster(options: argparse.Namespace) -> int:
    """List the hosts specialists may run on, what they offer, and which specialist runs where."""
    report = await call(GetCluster())
    if terminal.print_if_json(options, report):
        return OK
    where = f"the Ray cluster at {report.address}" if report.address else "this machine alone"
    print(f"specialists run on {where} · conversations: {report.store}")
    rows = [
        (
            node.host,
            node.address,
            "up" if node.alive else "gone",
            _resources(node.resources),
            " ".join(f"{name}={value}" for name, value in sorted(node.labels.items())) or "-",
            ", ".join(name.removesuffix("-ai") for name in node.specialists) or "-",
        )
        for node in report.nodes
    ]
    terminal.print_table(("HOST", "ADDRESS", "NODE", "OFFERS", "LABELS", "SPECIALISTS"), rows)
    if report.gateways:
        print("\ngateways that serve the same specialists:")
        lines = [
            (
                peer.url or "starting",
                f"{peer.host or '-'} pid {peer.pid or '-'}",
                "leads" if peer.leads else "follows",
                "silent" if not peer.alive else "answers here" if peer.here else "up",
            )
            for peer in report.gateways
        ]
        terminal.print_table(("GATEWAY", "PROCESS", "PART", "STATE"), lines)
    return OK


def _resources(resources: dict[str, float]) -> str:
    words = [
        f"memory {amount / GIB:.1f} GiB" if name == "memory" else f"{name} {amount:g}"
        for name, amount in sorted(resources.items())
    ]
    return ", ".join(words) or "-"


@command(
    "call",
    argument("action", nargs="?", help="for example: get_orchestration"),
    argument("values", nargs="*", help="key=value, the value as JSON or text"),
    examples=[("tekton call get_orchestration", "any action by name, as JSON")],
)
async def call_action(options: argparse.Namespace) -> int:
    """Call any action of the platform by its name, parameters as key=value; the answer is JSON. Without a name, list
    all actions with their parameters.
    """
    if not options.action:
        return _list_actions()
    async with attached(start=False) as client:
        terminal.print_json(await client.request(options.action, _values(options.values)))
    return OK


def _values(words: list[str]) -> dict[str, Any]:
    """Read `key=value` words; a value that is JSON is taken as such, any other as text."""
    values: dict[str, Any] = {}
    for number, word in enumerate(words, 1):
        key, sign, text = word.partition("=")
        if not sign or not key:
            raise InvalidRequest(f"parameter {number}: expected key=value")
        if key in values:
            raise InvalidRequest(f"{key} is given twice")
        values[key] = json_or_text(text)
    return values


def _list_actions() -> int:
    from backend.orchestration.actions import ACTIONS

    for action in sorted(ACTIONS.values(), key=lambda row: row.name):
        fields = msgspec.structs.fields(action.params)
        names = [field.name if field.required else f"[{field.name}]" for field in fields]
        print(f"{' '.join([action.name, *names])}\n    {action.summary} ({action.scope})")
    return OK
