"""External agents as specialists: those we know, how one is started, and what stands against it.

Starts nothing.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterable
from pathlib import Path

from backend.catalog import Component
from backend.schema.agents import AgentSpec
from backend.schema.errors import TektonError
from backend.specialists.context import SupervisorContext
from backend.specialists.known_agents import KNOWN
from backend.specialists.worktrees import add_worktree, worktree_of


def agent_of(context: SupervisorContext, component: Component) -> AgentSpec:
    """Return how a worker starts a specialist's agent."""
    program = str(Path(component.command[0]).expanduser())
    return AgentSpec(
        command=[program, *component.command[1:]],
        cwd=str(folder_of(context, component)),
        env=list(component.env),
        mode=component.mode or "",
        model=component.model or "",
        options=dict(component.options),
        login=component.login or "",
        offers=list(component.offers),
    )


def folder_of(context: SupervisorContext, component: Component) -> Path:
    """Return the folder an agent works in."""
    if component.worktree:
        return worktree_of(context.home, component.name)
    if component.cwd is None:
        return context.home.root / "agents" / component.name
    return Path(component.cwd).expanduser()


def check_agent(context: SupervisorContext, component: Component) -> None:
    """Check what can be checked before an agent is started.

    Raises:
        TektonError: `launch_refused`, with what to do.
    """
    name = component.name
    if context.launcher.remote:
        raise TektonError(
            f"{name} is an external agent, which runs on this machine only: launch it from a gateway without --cluster",
            code="launch_refused",
        )
    program = str(Path(component.command[0]).expanduser())
    if shutil.which(program, path=context.environment.get("PATH")) is None:
        known = next((one for one in KNOWN if one.command[0] == Path(program).name), None)
        how = (
            f"install it with `{known.install}`" if known else "install it, or give its whole path in command"
        )
        raise TektonError(f"{name}: there is no program {program!r}: {how}", code="launch_refused")
    missing = [one for one in component.env if one not in context.environment]
    if missing:
        raise TektonError(f"{name}: {', '.join(missing)} of its env is not set", code="launch_refused")
    if component.cwd is None:
        return
    folder = Path(component.cwd).expanduser()
    if not folder.is_dir():
        raise TektonError(f"{name}: its cwd {folder} is no folder", code="launch_refused")
    own = {Path("/"), Path.home(), context.home.root}
    if folder.resolve() in {one.resolve() for one in own}:
        raise TektonError(
            f"{name}: its cwd {folder} holds more than an agent should work on: name a folder of its own",
            code="launch_refused",
        )


async def prepare_agent(context: SupervisorContext, component: Component) -> None:
    """Check an agent and make its folder, or its worktree.

    Raises:
        TektonError: It cannot be started.
    """
    check_agent(context, component)
    if component.worktree:
        await add_worktree(context.home, component.name, component.cwd or "")
    elif component.cwd is None:
        folder = folder_of(context, component)
        await asyncio.to_thread(folder.mkdir, mode=0o700, parents=True, exist_ok=True)


def agent_notes(context: SupervisorContext, agents: Iterable[Component]) -> list[str]:
    """Return what to know before these agents are launched: what runs with whose rights where, and who shares a folder."""
    notes: list[str] = []
    launched = list(agents)
    running = [
        component
        for component in context.catalog
        if component.transport == "acp" and component.id in context.placements
    ]
    for component in launched:
        command = " ".join(component.command)
        notes.append(
            f"{component.name}: `{command}` runs with your rights in {folder_of(context, component)}"
        )
    shared: dict[Path, set[str]] = {}
    for component in (*launched, *running):
        shared.setdefault(folder_of(context, component).resolve(), set()).add(component.name)
    for folder, names in shared.items():
        if len(names) > 1:
            notes.append(
                f"{' and '.join(sorted(names))} work in the same folder {folder} and will overwrite each other: "
                "worktree = true gives each its own"
            )
        for outer in (other for other in shared if other in folder.parents):
            notes.append(
                f"the folder {folder} of {' and '.join(sorted(names))} lies within {outer} of "
                f"{' and '.join(sorted(shared[outer]))}: they may overwrite each other; worktree = true gives each its own"
            )
    return notes
