"""`tekton options`: what can be set at an agent of others while it runs: its mode, its model, and what it names itself."""

from __future__ import annotations

import argparse

from backend.cli import terminal
from backend.cli.command import JSON, SPECIALISTS, argument, command
from backend.cli.exit_codes import OK
from backend.cli.runner import call
from backend.schema.agents import AgentOption
from backend.schema.errors import TektonError
from backend.schema.params import GetSpecialist, SetAgentOption
from backend.text import escaped_line


@command(
    "options",
    argument("name", values=(SPECIALISTS,), help="an agent of others"),
    argument(
        "option", nargs="?", default="", help="its mode, model, or an option by the agent's name for it"
    ),
    argument("value", nargs="?", default="", help="what it is to be; true or false for a switch"),
    JSON,
    examples=[
        ("tekton options coder", "what can be set, and how it is now"),
        ("tekton options coder mode plan", "set one, until the agent ends"),
    ],
)
async def options(options: argparse.Namespace) -> int:
    """List what an agent of others lets be set, or set one of it until it ends; config.toml sets it for every start."""
    if options.option:
        if not options.value:
            raise TektonError(f"say what {options.option} is to be", code="invalid_request")
        done = await call(SetAgentOption(options.name, options.option, options.value))
        print(
            f"{done.id.removesuffix('-ai')}: {escaped_line(done.option)} is {escaped_line(str(done.value))}"
        )
        return OK
    agent = (await call(GetSpecialist(options.name))).status_row.agent
    if agent is None:
        raise TektonError(f"{options.name} is no agent of others, or does not run", code="invalid_request")
    found = agent.settable
    if options.json:
        terminal.print_json(found)
        return OK
    if not found:
        print("nothing is known yet: the agent says it with its first conversation")
        return OK
    terminal.draw(terminal.table(("OPTION", "NOW", "MAY BE"), [_row(one) for one in found], wrap=True))
    return OK


def _row(one: AgentOption) -> tuple[str, str, str]:
    known = ", ".join(each.id for each in one.choices) or (
        "true, false" if isinstance(one.value, bool) else ""
    )
    return escaped_line(one.id), escaped_line(str(one.value)), escaped_line(known)
