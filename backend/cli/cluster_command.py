"""`tekton cluster status`: the hosts specialists may run on, what they offer, and who runs where."""

from __future__ import annotations

import argparse
import json
from typing import Any

from backend.cli import terminal
from backend.cli.calling import call
from backend.cli.exit_codes import OK

GIB = 1024**3


async def cluster(options: argparse.Namespace) -> int:
    """Show the nodes; with `--json` everything, for a program."""
    answer = await call("cluster_status")
    if options.json:
        print(json.dumps(answer, indent=2))
        return OK
    where = f"the Ray cluster at {answer['address']}" if answer["address"] else "this machine alone"
    print(terminal.safe(f"specialists run on {where} \u00b7 conversations: {answer['store']}"))
    rows = [
        (
            node["host"],
            node["address"],
            "up" if node.get("alive", True) else "gone",
            _resources(node.get("resources", {})),
            " ".join(f"{name}={value}" for name, value in sorted(node.get("labels", {}).items())) or "-",
            ", ".join(name.removesuffix("-ai") for name in node.get("specialists", [])) or "-",
        )
        for node in answer["nodes"]
    ]
    print(terminal.table(("HOST", "ADDRESS", "NODE", "OFFERS", "LABELS", "SPECIALISTS"), rows))
    if gateways := answer.get("gateways"):
        print("\ngateways that serve this fleet:")
        lines = [
            (
                str(row.get("url", "starting")),
                f"{row.get('host', '-')} pid {row.get('pid', '-')}",
                "leads" if row["leads"] else "follows",
                "silent" if not row["alive"] else "answers here" if row["here"] else "up",
            )
            for row in gateways
        ]
        print(terminal.table(("GATEWAY", "PROCESS", "PART", "STATE"), lines))
    return OK


def _resources(resources: dict[str, Any]) -> str:
    words = [
        f"memory {amount / GIB:.1f} GiB" if name == "memory" else f"{name} {amount:g}"
        for name, amount in sorted(resources.items())
    ]
    return ", ".join(words) or "-"
