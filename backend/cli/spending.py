"""`tekton usage`: what was spent today and how far each budget is used, in words.

Sums of different currencies stand side by side.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from backend.cli import terminal
from backend.cli.calling import call
from backend.cli.exit_codes import OK
from backend.schema import money


async def usage(options: argparse.Namespace) -> int:
    """Show tokens and cost of today by specialist and model, in sum, and against the budgets."""
    answer = await call("usage", start=True)
    if options.json:
        print(json.dumps(answer, indent=2))
        return OK
    rows = [
        (
            row["ai_id"].removesuffix("-ai"),
            row["model"],
            str(row["tokens_in"]),
            str(row["tokens_out"]),
            f"{row['cost']:.4f} {row['currency']}" if row["currency"] else "no price known",
            str(row["turns"]),
        )
        for row in answer["specialists"]
    ]
    print(f"{answer['day']} · prices of {answer['prices_of']}")
    if not rows:
        print("nothing was used today")
        return OK
    print(terminal.table(("NAME", "MODEL", "IN", "OUT", "COST", "TURNS"), rows))
    total = answer["total"]
    spent = money.in_words(total["costs"]) or "nothing spent"
    print(f"together {total['tokens_in']} in, {total['tokens_out']} out, {spent}")
    for limit in answer["limits"]:
        print(terminal.filled(budget_text(limit)))
    return OK


def budget_text(limit: dict[str, Any]) -> str:
    """Return how far a day's limit is used: `budget of apollo: 120 of 1,000 tokens today`."""
    parts: list[str] = []
    if limit["tokens_per_day"]:
        parts.append(f"{limit['tokens']:,} of {limit['tokens_per_day']:,} tokens")
    if limit["cost_per_day"]:
        parts.append(f"{limit['cost']:.2f} of {limit['cost_per_day']:.2f} {limit['currency']}")
    over = " · used up: turns are refused until tomorrow" if limit["over"] else ""
    unseen = f" · {limit['uncounted']}" if limit["uncounted"] else ""
    return f"budget of {limit['name']}: {', '.join(parts)} today{over}{unseen}"
