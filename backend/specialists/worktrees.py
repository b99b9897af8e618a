"""Git worktrees of agents: a branch and a folder of its own for each, made of the repository its `cwd` names.

Nothing is merged or thrown away but by hand. Git is asked without hooks, editors and questions.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from msgspec import Struct

from backend.home import Home
from backend.schema.errors import TektonError

GIT_S = 60.0
MAX_DIFF_BYTES = 1024 * 1024


class Worktree(Struct, omit_defaults=True):
    """A worktree: `base` is the commit it began at, `ahead` commits lie behind that, `dirty` files are not committed."""

    name: str
    path: str
    branch: str
    repository: str
    base: str
    ahead: int = 0
    dirty: int = 0


def worktree_of(home: Home, name: str) -> Path:
    """Return where a specialist's worktree lies."""
    return home.root / "worktrees" / name


async def add_worktree(home: Home, name: str, repository: str) -> Path:
    """Make a worktree of a repository as it is committed now, or return the one there is.

    Raises:
        TektonError: `launch_refused`: it is no repository, or git refuses.
    """
    path = worktree_of(home, name)
    if (path / ".git").exists():
        return path
    top = (await git(_folder(repository), "rev-parse", "--show-toplevel")).strip()
    await asyncio.to_thread(path.parent.mkdir, mode=0o700, parents=True, exist_ok=True)
    branch = _branch_of(name)
    await git(Path(top), "worktree", "prune")
    known = await git(Path(top), "branch", "--list", branch)
    if known.strip():
        await git(Path(top), "worktree", "add", str(path), branch)
    else:
        await git(Path(top), "worktree", "add", "-b", branch, str(path), "HEAD")
        await git(
            path, "config", f"branch.{branch}.tektonbase", (await git(path, "rev-parse", "HEAD")).strip()
        )
    return path


async def worktrees(home: Home) -> list[Worktree]:
    """Return every worktree, by name."""
    folder = home.root / "worktrees"
    names = sorted(one.name for one in folder.iterdir()) if folder.is_dir() else []
    return [await worktree(home, name) for name in names if (folder / name / ".git").exists()]


async def worktree(home: Home, name: str) -> Worktree:
    """Return one worktree. Raises `TektonError` (`not_found`)."""
    path = worktree_of(home, name)
    if Path(name).name != name or not (path / ".git").exists():
        raise TektonError(f"{name or 'nobody'} has no worktree", code="not_found")
    branch = (await git(path, "rev-parse", "--abbrev-ref", "HEAD")).strip()
    common = (await git(path, "rev-parse", "--path-format=absolute", "--git-common-dir")).strip()
    base = await _base(path, branch)
    ahead = (await git(path, "rev-list", "--count", f"{base}..HEAD")).strip()
    dirty = (await git(path, "status", "--porcelain", "--untracked-files=all")).splitlines()
    return Worktree(name, str(path), branch, str(Path(common).parent), base, int(ahead), len(dirty))


async def worktree_diff(home: Home, name: str) -> str:
    """Return what a worktree holds that its base does not, committed or not, new files included."""
    found = await worktree(home, name)
    path = Path(found.path)
    await git(path, "add", "--intent-to-add", "--all")
    text = await git(path, "diff", "--no-ext-diff", "--no-textconv", found.base)
    if len(text) > MAX_DIFF_BYTES:
        text = f"{text[:MAX_DIFF_BYTES]}\n… {len(text) - MAX_DIFF_BYTES:,} characters left out …\n"
    return text


async def merge_worktree(home: Home, name: str) -> str:
    """Commit what a worktree holds and merge it into what its repository has checked out; return git's words.

    Raises:
        TektonError: `conflict`: the repository has changes of its own that are not committed, or the two do not go
            together; nothing is merged then.
    """
    found = await worktree(home, name)
    path, repository = Path(found.path), Path(found.repository)
    if (await git(repository, "status", "--porcelain", "--untracked-files=no")).strip():
        raise TektonError(
            f"{repository} has changes that are not committed: commit them or put them away first",
            code="conflict",
        )
    if found.dirty:
        await git(path, "add", "--all")
        await git(path, "commit", "--no-verify", "--message", f"Work of {name}")
    commit = (await git(path, "rev-parse", "HEAD")).strip()  # the agent may have left its branch
    try:
        return await git(repository, "merge", "--no-edit", "-m", f"Merge the work of {name}", commit)
    except TektonError as error:
        await git(repository, "merge", "--abort", may_fail=True)
        raise TektonError(f"not merged: {error.message}", code="conflict") from error


async def remove_worktree(home: Home, name: str, *, force: bool) -> Worktree:
    """Throw a worktree and the branch that was made for it away; a branch that the agent went to stays.

    Raises:
        TektonError: `conflict`: it holds what is merged nowhere, and `force` was not said.
    """
    found = await worktree(home, name)
    repository, path = Path(found.repository), Path(found.path)
    own = _branch_of(name)
    has_own = bool((await git(repository, "branch", "--list", own)).strip())
    ends = [(await git(path, "rev-parse", "HEAD")).strip()]
    if has_own:
        ends.append((await git(repository, "rev-parse", f"refs/heads/{own}")).strip())
    unmerged = [end for end in ends if not await _is_merged(repository, end)]
    if not force and (found.dirty or unmerged):
        raise TektonError(
            f"the worktree of {name} holds what is not merged ({found.ahead} commits, {found.dirty} files): "
            "merge it, or say --force to throw it away",
            code="conflict",
        )
    await git(repository, "worktree", "remove", "--force", found.path)
    if has_own:
        await git(repository, "branch", "-D", own)
    found.branch = own
    return found


async def _is_merged(repository: Path, commit: str) -> bool:
    """Return whether a commit is part of what a repository has checked out."""
    return not (await git(repository, "rev-list", "--max-count=1", commit, "^HEAD")).strip()


def _branch_of(name: str) -> str:
    return f"tekton/{name}"


def _folder(path: str) -> Path:
    return Path(path).expanduser()


async def _base(path: Path, branch: str) -> str:
    kept = (await git(path, "config", "--get", f"branch.{branch}.tektonbase", may_fail=True)).strip()
    return kept or (await git(path, "rev-list", "--max-parents=0", "HEAD")).split()[0]


async def git(folder: Path, *words: str, may_fail: bool = False) -> str:
    """Run git in a folder and return its output.

    Raises:
        TektonError: `launch_refused`: there is no git, it took too long, or it failed, with its words.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment = {**clean, "GIT_TERMINAL_PROMPT": "0", "GIT_EDITOR": "true", "LC_ALL": "C"}
    identity = ("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false")
    try:
        process = await asyncio.create_subprocess_exec(
            "git", *identity, "-C", str(folder), *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
        )  # fmt: skip
    except OSError as error:
        raise TektonError(f"git cannot be run: {error.strerror}", code="launch_refused") from error
    try:
        out, err = await asyncio.wait_for(process.communicate(), GIT_S)
    except TimeoutError as error:
        process.kill()
        raise TektonError(f"git {words[0]} took more than {GIT_S:g} s", code="launch_refused") from error
    if process.returncode and not may_fail:
        said = err.decode(errors="replace").strip() or out.decode(errors="replace").strip()
        raise TektonError(f"git {words[0]} in {folder}: {said[:1_000]}", code="launch_refused")
    return out.decode(errors="replace")
