"""`tekton worktree`: the git worktrees of agents: shown, compared with where they began, merged or thrown away by hand."""

from __future__ import annotations

import argparse

from backend.cli import terminal
from backend.cli.command import JSON, SPECIALISTS, argument, command
from backend.cli.exit_codes import OK
from backend.cli.runner import here_only
from backend.home import Home
from backend.schema.errors import InvalidRequest
from backend.specialists.worktrees import (
    merge_worktree,
    remove_worktree,
    worktree_diff,
    worktrees,
)
from backend.text import safe, safe_line


@command(
    "worktree",
    argument("verb", nargs="?", choices=("list", "diff", "merge", "remove"), default="list"),
    argument("name", nargs="?", default="", values=(SPECIALISTS,), help="the agent whose worktree it is"),
    argument("--force", action="store_true", help="remove: even if its changes are merged nowhere"),
    JSON,
    examples=[
        ("tekton worktree", "which agents have one, and what is in it"),
    ],
)
async def worktree(options: argparse.Namespace) -> int:
    """List the git worktrees that agents with `worktree = true` work in; `diff NAME` shows what changed in one since
    it was made, `merge NAME` commits that and merges it into the branch that the repository has checked out, `remove
    NAME` deletes it. None of this happens automatically.
    """
    here_only("`tekton worktree`")
    home = Home.from_environment().prepare()
    name = options.name.lower().replace("-", "_").removesuffix("_ai")
    if options.verb != "list" and not name:
        raise InvalidRequest(f"name whose: tekton worktree {options.verb} NAME")
    match options.verb:
        case "diff":
            print(safe(await worktree_diff(home, name)), end="")
        case "merge":
            print(safe(await merge_worktree(home, name)), end="")
        case "remove":
            gone = await remove_worktree(home, name, force=options.force)
            print(f"{gone.path} and the branch {gone.branch} are gone")
        case _:
            found = await worktrees(home)
            if options.json:
                terminal.print_json(found)
            elif not found:
                print("no agent has a worktree: set worktree = true and cwd for one")
            else:
                rows = [
                    (
                        one.name,
                        safe_line(one.branch),
                        str(one.ahead),
                        str(one.dirty),
                        safe_line(one.repository),
                        one.path,
                    )
                    for one in found
                ]
                heads = ("AGENT", "BRANCH", "COMMITS", "FILES OPEN", "REPOSITORY", "FOLDER")
                terminal.print_table(heads, rows, wrap=True)
    return OK
