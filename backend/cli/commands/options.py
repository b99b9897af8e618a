"""`tekton options`: what can be set at external agents while they run: mode, model, and what they name themselves."""

from __future__ import annotations

import argparse

from backend.cli import terminal
from backend.cli.command import JSON, SPECIALISTS, argument, command
from backend.cli.exit_codes import OK
from backend.cli.runner import call
from backend.schema.agents import AgentOption
from backend.schema.errors import InvalidRequest
from backend.schema.params import GetSnapshot, GetSpecialist, SetAgentOption
from backend.text import escaped_line


@command(
    "options",
    argument(
        "name", nargs="?", default="", values=(SPECIALISTS,), help="an external agent (default: all that run)"
    ),
    argument("option", nargs="?", default="", help="mode, model, or the agent's own name of an option"),
    argument("value", nargs="?", default="", help="its new value; true or false for a switch"),
    JSON,
    examples=[("tekton options", "the options of the agents that run, with their values")],
)
async def options(options: argparse.Namespace) -> int:
    """List the options of external agents, such as their mode. `options coder mode plan` sets one until the agent
    ends; config.toml sets it for every start.
    """
    if options.option:
        if not options.value:
            raise InvalidRequest(f"say what {options.option} is to be")
        done = await call(SetAgentOption(options.name, options.option, options.value))
        print(f"{_who(done.id)}: {escaped_line(done.option)} is {escaped_line(str(done.value))}")
        return OK
    if options.name:
        rows = [(await call(GetSpecialist(options.name))).status_row]
        if rows[0].agent is None:
            raise InvalidRequest(f"{options.name} is no external agent that runs")
    else:
        rows = (await call(GetSnapshot(), start=True)).specialists
    found = {row.id: row.agent.settable for row in rows if row.agent is not None}
    if terminal.print_if_json(options, found):
        return OK
    lines = [_row(ai_id, one) for ai_id, listed in found.items() for one in listed]
    if lines:
        terminal.print_table(("WHO", "OPTION", "NOW", "MAY BE"), lines, wrap=True)
    for ai_id in [ai_id for ai_id, listed in found.items() if not listed]:
        print(f"{_who(ai_id)}: nothing is known yet: it says it with its first conversation")
    if not found:
        print("no external agent runs")
    return OK


def _row(ai_id: str, one: AgentOption) -> tuple[str, ...]:
    known = ", ".join(each.id for each in one.choices) or (
        "true, false" if isinstance(one.value, bool) else ""
    )
    return _who(ai_id), escaped_line(one.id), escaped_line(str(one.value)), escaped_line(known)


def _who(ai_id: str) -> str:
    return ai_id.removesuffix("-ai")
