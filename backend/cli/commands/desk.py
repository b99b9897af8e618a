"""`tekton desk`: what waits for the operator, as the console's place "Needs you" shows it."""

from __future__ import annotations

import argparse
import time

from backend.cli import terminal
from backend.cli.command import JSON, argument, command
from backend.cli.commands.tools import show_ask
from backend.cli.exit_codes import OK
from backend.cli.runner import call
from backend.schema.attention import AttentionItem, count_waiting
from backend.schema.errors import InvalidRequest
from backend.schema.params import AcknowledgeAttention, ListAsks, ListAttention, SnoozeAttention

SNOOZE_S = 600.0


@command(
    "desk",
    argument("what", nargs="?", choices=("list", "ack", "snooze"), default="list"),
    argument("ids", nargs="*", help="ids of items, as `tekton desk` lists them"),
    argument("--minutes", type=float, default=SNOOZE_S / 60, help="snooze: for how long; 0 shows them again"),
    JSON,
    examples=[
        ("tekton desk", "who is down, what failed, which answers nobody has seen"),
        ("tekton desk --json", "the same for programs"),
    ],
)
async def desk(options: argparse.Namespace) -> int:
    """List what waits for you, the most urgent first. `desk ack` marks items as seen, `desk snooze` hides them for a
    while.
    """
    if options.what != "list" and not options.ids:
        raise InvalidRequest("name what `tekton desk` lists")
    if options.what == "ack":
        found = await call(AcknowledgeAttention(options.ids))
    elif options.what == "snooze":
        found = await call(SnoozeAttention(options.ids, options.minutes * 60))
    else:
        found = await call(ListAttention())
    if terminal.print_if_json(options, found):
        return OK
    if not found.items:
        print("nothing waits for you")
        return OK
    print(" · ".join(count_waiting(found.items, terminal.gateway_time()).words))
    rows = [_row(item) for item in found.items]
    terminal.print_table(("ITEM", "WHO", "SINCE", "WHAT", "WHY"), rows, wrap=True)
    if any(item.kind == "asks" for item in found.items):
        for ask in (await call(ListAsks())).asks:
            show_ask(ask)
        print("`tekton asks allow ID`, `tekton asks deny ID WHY`")
    return OK


def _row(item: AttentionItem) -> tuple[str, ...]:
    since = time.strftime("%H:%M:%S", time.localtime(item.since)) if item.since else "today"
    short = f"{item.short} ×{item.count}" if item.count > 1 else item.short
    return item.id, item.who.removesuffix("-ai"), since, short, item.why
