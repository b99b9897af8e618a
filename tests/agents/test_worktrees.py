"""Worktrees of agents: made at a launch, compared, merged and thrown away by hand."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from backend.config.specialist_files import read_files
from backend.home import Home
from backend.schema.errors import TektonError
from backend.specialists.known_agents import KNOWN, template
from backend.specialists.worktrees import (
    add_worktree,
    merge_worktree,
    remove_worktree,
    worktree,
    worktree_diff,
    worktrees,
)
from tests.cli.commandline import Line


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    return subprocess.run(
        ["git", *identity, "-C", str(folder), *words], check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    git(folder, "config", "user.name", "Test")
    git(folder, "config", "user.email", "test@example.org")
    (folder / "cart.py").write_text("one\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder


async def test_what_an_agent_made_is_shown_and_merged_by_hand(tmp_path: Path, repository: Path) -> None:
    home = Home(tmp_path / "home").prepare()
    path = await add_worktree(home, "coder", str(repository))
    assert await add_worktree(home, "coder", str(repository)) == path  # a second launch finds it
    (path / "cart.py").write_text("one\ntwo\n")
    (path / "new.py").write_text("new\n")
    [found] = await worktrees(home)
    assert (found.name, found.branch, found.repository) == ("coder", "tekton/coder", str(repository))
    assert (found.ahead, found.dirty) == (0, 2)
    diff = await worktree_diff(home, "coder")
    assert "+two" in diff and "+new" in diff and (repository / "cart.py").read_text() == "one\n"
    with pytest.raises(TektonError, match="holds what is not merged"):
        await remove_worktree(home, "coder", force=False)
    await merge_worktree(home, "coder")
    assert (repository / "cart.py").read_text() == "one\ntwo\n" and (repository / "new.py").exists()
    await remove_worktree(home, "coder", force=False)
    assert await worktrees(home) == [] and "tekton/coder" not in git(repository, "branch", "--list")


async def test_what_is_written_while_it_is_merged_is_merged_or_still_there(
    tmp_path: Path, repository: Path
) -> None:
    home = Home(tmp_path / "home").prepare()
    path = await add_worktree(home, "coder", str(repository))
    begun, stop, written = threading.Event(), threading.Event(), 0

    def write() -> int:
        number = 0
        while not stop.is_set():
            (path / f"file{number}").write_text(f"{number}\n")
            number += 1
            begun.set()
        return number

    def names(folder: Path) -> set[str]:
        return {one.name for one in folder.glob("file*")}

    writing = asyncio.create_task(asyncio.to_thread(write))
    try:
        await asyncio.to_thread(begun.wait)
        await merge_worktree(home, "coder")
    finally:
        stop.set()
        written = await writing
    merged = names(repository)
    assert merged and not git(repository, "status", "--porcelain")
    assert names(path) == {f"file{number}" for number in range(written)}
    if len(merged) < written:
        with pytest.raises(TektonError, match="holds what is not merged"):
            await remove_worktree(home, "coder", force=False)
        await merge_worktree(home, "coder")
    assert len(names(repository)) == written
    await remove_worktree(home, "coder", force=False)


async def test_what_does_not_go_together_is_not_merged_by_half(tmp_path: Path, repository: Path) -> None:
    home = Home(tmp_path / "home").prepare()
    path = await add_worktree(home, "coder", str(repository))
    (path / "cart.py").write_text("theirs\n")
    (repository / "cart.py").write_text("ours\n")
    with pytest.raises(TektonError, match="changes that are not committed"):
        await merge_worktree(home, "coder")
    git(repository, "commit", "-q", "-a", "-m", "ours")
    with pytest.raises(TektonError, match="not merged"):
        await merge_worktree(home, "coder")
    assert (repository / "cart.py").read_text() == "ours\n" and not git(repository, "status", "--porcelain")
    assert (await worktree(home, "coder")).ahead == 1
    await remove_worktree(home, "coder", force=True)


async def test_a_branch_the_agent_went_to_is_not_thrown_away_and_work_on_none_is_merged(
    tmp_path: Path, repository: Path
) -> None:
    home = Home(tmp_path / "home").prepare()
    git(repository, "branch", "feature")
    path = await add_worktree(home, "coder", str(repository))
    git(path, "checkout", "-q", "feature")
    (path / "cart.py").write_text("feature\n")
    git(path, "commit", "-q", "-a", "-m", "of the feature")
    with pytest.raises(TektonError, match="holds what is not merged"):
        await remove_worktree(home, "coder", force=False)
    await remove_worktree(home, "coder", force=True)
    branches = git(repository, "branch", "--list")
    assert "feature" in branches and "tekton/coder" not in branches

    path = await add_worktree(home, "coder", str(repository))
    git(path, "checkout", "-q", "--detach")
    (path / "cart.py").write_text("on no branch\n")
    git(path, "commit", "-q", "-a", "-m", "on no branch")
    with pytest.raises(TektonError, match="holds what is not merged"):
        await remove_worktree(home, "coder", force=False)
    await merge_worktree(home, "coder")
    assert (repository / "cart.py").read_text() == "on no branch\n"
    await remove_worktree(home, "coder", force=False)
    assert await worktrees(home) == [] and "tekton/coder" not in git(repository, "branch", "--list")


async def test_a_worktree_of_yours_is_none_of_an_agents(tmp_path: Path, repository: Path) -> None:
    home = Home(tmp_path / "home").prepare()
    mine = tmp_path / "mine"
    git(repository, "worktree", "add", "-q", "-b", "mine", str(mine))
    await add_worktree(home, "coder", str(repository))
    for name in (str(mine), "../../mine", "coder/../coder", ".", ""):
        with pytest.raises(TektonError, match="has no worktree"):
            await remove_worktree(home, name, force=True)
    assert (mine / "cart.py").exists() and [one.name for one in await worktrees(home)] == ["coder"]


async def test_commits_left_on_its_own_branch_are_not_thrown_away_unsaid(
    tmp_path: Path, repository: Path
) -> None:
    home = Home(tmp_path / "home").prepare()
    path = await add_worktree(home, "coder", str(repository))
    (path / "cart.py").write_text("mine\n")
    git(path, "commit", "-q", "-a", "-m", "on its branch")
    git(path, "checkout", "-q", "--detach", "main")
    with pytest.raises(TektonError, match="holds what is not merged"):
        await remove_worktree(home, "coder", force=False)
    await remove_worktree(home, "coder", force=True)


async def test_a_folder_without_git_is_refused_in_gits_words(tmp_path: Path) -> None:
    home = Home(tmp_path / "home").prepare()
    (tmp_path / "plain").mkdir()
    with pytest.raises(TektonError, match="not a git repository"):
        await add_worktree(home, "coder", str(tmp_path / "plain"))


def test_a_template_of_every_known_agent_is_a_specialist() -> None:
    files = {
        f"{agent.name}.toml": template(
            agent.command, title=agent.title, cwd="/tmp/x y", env=agent.env, mode=agent.mode
        ).encode()
        for agent in KNOWN
    }
    read = read_files(files)
    assert not read.faults and set(read.found) == {agent.name for agent in KNOWN}
    for agent in KNOWN:
        own = read.found[agent.name].own
        assert (own.transport, own.command, own.cwd) == ("acp", agent.command, "/tmp/x y")


def test_new_agent_writes_a_file_and_says_what_it_needs(tmp_path: Path) -> None:
    line = Line(tmp_path / "home")
    done = line(
        "tekton",
        "specialists",
        "new",
        "coder",
        "--agent",
        f"{sys.executable} agent.py",
        "--cwd",
        str(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    assert "with your rights" in done.stdout
    checked = line("tekton", "specialists", "check")
    assert checked.returncode == 0, checked.stdout
    assert "no agent has a worktree" in line("tekton", "worktree").stdout
